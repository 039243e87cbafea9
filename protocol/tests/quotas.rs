//! Depletion (§4.1): what a sender, a client or a hub can make others burn is bounded, and who is refused hears
//! why.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod world;

use std::{collections::BTreeMap, time::Duration};

use dske_protocol::{
    hub::{HubClient, HubInput},
    ids::{BlockNonce, Lane, NodeId},
    limits::{Limit, Limits, LimitsRecord},
    message::{Agreement, Content, Subject},
    params::{
        INTRODUCED_BYTES_MAX, INTRODUCED_PERIOD, PROTOCOL_VERSION, QUOTA_REST_MIN, Time,
        UNKNOWN_SENDER_PAUSE, burned_bytes,
    },
    quota::{Account, DefaultQuota, Quota, Quotas},
    refusal::{AbortReason, Refusal, SendFailure},
    room::OutboxLimits,
};
use world::{World, client_id, client_name, enrolled, hub_id};

const KEY_BYTES: u32 = 32;
/// An instruction for a key of this length through three hubs, with the purpose of these wishes.
const MESSAGE_BYTES: u64 = 360;
const DAY: Duration = Duration::from_secs(86_400);

fn keys(number: u64) -> Option<Quota> {
    Quota::new(number * burned_bytes(u64::from(KEY_BYTES), 1), DAY)
}

/// What the hubs refused the sender for.
fn refusals(failure: SendFailure) -> Vec<(NodeId, Refusal)> {
    match failure {
        SendFailure::TooFewAccepted { refusals, .. } | SendFailure::Quota { refusals, .. } => refusals,
        other => panic!("refused by the hubs, not: {other}"),
    }
}

#[test]
fn a_hub_holds_a_pair_to_its_quota_and_says_so_before_it_burns_the_receivers_pad() {
    let mut world = World::new(21, 3, 3, 2, 4096, true);
    let quotas = Quotas { default: keys(2).into(), ..Quotas::default() };
    for (_, hub) in &mut world.hubs {
        hub.set_limits(quotas.clone(), OutboxLimits::NONE);
    }
    let to = |world: &World, receiver: usize| {
        let mut wish = world.wish(2, KEY_BYTES);
        wish.receivers = vec![client_id(receiver)];
        wish.linked = wish.receivers.iter().copied().collect();
        wish
    };
    for _ in 0..2 {
        world.agree(to(&world, 1)).expect("within the quota");
    }
    let before = world.pads.burned(client_id(1), hub_id(0), Lane::Down);
    let refused = refusals(world.agree(to(&world, 1)).expect_err("beyond it"));
    assert!(refused.len() >= 2, "it ends when too few are left");
    assert!(refused.iter().all(|(_, refusal)| *refusal == Refusal::DefaultQuota), "{refused:?}");
    assert_eq!(world.pads.burned(client_id(1), hub_id(0), Lane::Down), before, "no pad of the receiver");
    world.agree(to(&world, 2)).expect("another pair is not concerned");
    world.agree(world.wish(2, KEY_BYTES)).expect_err("a group is served whole or not at all");
    let used = world.hubs[0].1.uses(world.now);
    let account = |receiver| Account::Pair { sender: client_id(0), receiver: client_id(receiver) };
    let of = |account| used.iter().find(|entry| entry.account == account).map(|entry| entry.used);
    assert!(of(account(1)).is_some_and(|used| used > burned_bytes(u64::from(KEY_BYTES), 1)));
    assert_eq!(of(account(2)), Some(burned_bytes(u64::from(KEY_BYTES), 1)), "the refused group paid nothing");
    world.now += DAY / 2;
    world.agree(to(&world, 1)).expect("half a day later one more");
    assert!(world.hubs[0].1.counters().refusals[&Refusal::DefaultQuota] >= 1);
}

#[test]
fn a_receiver_holds_a_sender_to_its_quota_and_the_sender_hears_it() {
    let mut world = World::new(22, 5, 2, 3, 4096, true);
    let mine = BTreeMap::from([(client_id(0), keys(1))]);
    world.clients[1].receiver.set_quotas(Quotas { payers: mine, ..Quotas::default() });
    world.agree(world.wish(3, KEY_BYTES)).expect("within the quota");
    let reason = AbortReason::QuotaExceeded { refused: 5, k: 3, n: 5 };
    let receiver = client_id(1);
    let failure = world.agree(world.wish(3, KEY_BYTES)).map(|_| ()).expect_err("beyond it");
    assert_eq!(failure, SendFailure::ReceiverAborted { receiver, reason });
    world.now += DAY;
    world.agree(world.wish(3, KEY_BYTES)).expect("a day later again");
}

fn invented(number: u32) -> Agreement {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&number.to_be_bytes());
    Agreement {
        version: PROTOCOL_VERSION,
        nonce: BlockNonce::new(id[..16].try_into().unwrap()),
        sender: NodeId::new(id),
        receivers: vec![client_id(1)],
        purpose: String::new(),
        k: 3,
        key_bytes: 1,
        content: Content::Keys(1),
        roster: (0..5).map(hub_id).collect(),
    }
}

#[test]
fn a_hub_that_speaks_in_a_senders_name_spends_only_what_comes_through_itself() {
    let mut world = World::new(23, 5, 2, 3, 8192, true);
    world.clients[1].receiver.set_quotas(Quotas { default: keys(4).into(), ..Quotas::default() });
    for number in 0..50 {
        world.invent(hub_id(0), client_id(1), Agreement { sender: client_id(0), ..invented(number) });
    }
    for _ in 0..4 {
        world.agree(world.wish(3, KEY_BYTES)).expect("four hubs are enough");
    }
    world.agree(world.wish(3, KEY_BYTES)).expect_err("the sender's own quota still holds");
}

#[test]
fn hubs_that_invent_senders_for_days_burn_no_more_than_their_part() {
    let mut world = World::new(24, 5, 2, 3, 256 << 10, false);
    let mut number = 0;
    let days = 3;
    let pauses = days * u32::try_from(DAY.as_secs() / UNKNOWN_SENDER_PAUSE.as_secs()).unwrap() / 40;
    for _ in 0..pauses {
        for hub in 0..2 {
            for _ in 0..2 {
                number += 1;
                world.invent(hub_id(hub), client_id(1), invented(number));
            }
        }
        world.now += UNKNOWN_SENDER_PAUSE * 40;
    }
    let (burned, _) = world.pads.burned(client_id(1), hub_id(3), Lane::Up);
    let part = INTRODUCED_BYTES_MAX / 5;
    assert!(burned <= 2 * part * u64::from(days + 1), "{burned} bytes in {days} days");
    assert!(burned >= part, "the bound was reached: {burned}");
    assert_eq!(INTRODUCED_PERIOD, DAY);
    let agreed = world.agree(world.wish(3, KEY_BYTES));
    agreed.expect("a real sender is still introduced by the other hubs");
}

#[test]
fn a_client_cannot_deplete_its_own_down_lane_through_inquiries() {
    let mut world = World::new(25, 3, 2, 2, 4096, false);
    let quotas = Quotas { identity: Quota::new(320, DAY), ..Quotas::default() };
    for (_, hub) in &mut world.hubs {
        hub.set_limits(quotas.clone(), OutboxLimits::NONE);
    }
    for _ in 0..10 {
        world.establish(0, Subject::Name(client_name(1))).expect("within the quota");
    }
    world.establish(0, Subject::Name(client_name(1))).expect_err("beyond it");
    assert_eq!(world.pads.burned(client_id(0), hub_id(0), Lane::Down).0, 320);
    world.establish(1, Subject::Name(client_name(0))).expect("others are not concerned");
}

#[test]
fn a_full_outbox_refuses_before_anything_is_minted() {
    let mut world = World::new(26, 3, 2, 2, 4096, true);
    let limits = OutboxLimits { receiver_bytes_max: 5 * MESSAGE_BYTES - 1, bytes_max: u64::MAX };
    for (_, hub) in &mut world.hubs {
        hub.set_limits(Quotas::default(), limits);
    }
    // The messages of this network are never struck from the outboxes, and one sender may have half of what is free.
    world.agree(world.wish(2, KEY_BYTES)).expect("room for one");
    world.agree(world.wish(2, KEY_BYTES)).expect("and for another");
    let before = world.pads.burned(client_id(1), hub_id(0), Lane::Down);
    let refused = refusals(world.agree(world.wish(2, KEY_BYTES)).expect_err("no room"));
    assert!(refused.iter().all(|(_, refusal)| *refusal == Refusal::OutboxFull), "{refused:?}");
    assert_eq!(world.pads.burned(client_id(1), hub_id(0), Lane::Down), before);
    for (_, hub) in &mut world.hubs {
        let gone =
            HubInput::OutboxGone { receiver: client_id(1), sender: client_id(0), bytes: MESSAGE_BYTES };
        hub.handle(Time::ZERO, gone);
    }
    world.agree(world.wish(2, KEY_BYTES)).expect("room again");
}

#[test]
fn without_anybodys_word_a_sender_burns_no_more_than_a_tenth_of_a_receivers_lane_in_a_day() {
    let lane = 128 << 10;
    let mut world = World::new(27, 3, 2, 2, lane, true);
    for (_, hub) in &mut world.hubs {
        hub.set_limits(Quotas { default: DefaultQuota::OF_HUBS, ..Quotas::default() }, OutboxLimits::NONE);
        hub.set_lanes(client_id(1), lane as u64);
    }
    // Four long keys would take nearly all of it.
    let long = u32::try_from(lane / 5).unwrap();
    let refused = refusals(world.agree(world.wish(2, long)).expect_err("more than a tenth"));
    assert!(refused.iter().all(|(_, refusal)| *refusal == Refusal::DefaultQuota), "{refused:?}");
    assert_eq!(world.pads.burned(client_id(1), hub_id(0), Lane::Down), (0, 0));
    let tenth = lane as u64 / 10;
    let mut agreed = 0;
    while world.agree(world.wish(2, 1000)).is_ok() {
        agreed += 1;
    }
    assert_eq!(agreed, tenth / burned_bytes(1000, 1));
    // It lasts for a week at least, and what an operator sets goes before it.
    let week = 7 * DAY;
    while world.now < week {
        world.now += DAY;
        while world.agree(world.wish(2, 1000)).is_ok() {}
    }
    let (burned, _) = world.pads.burned(client_id(1), hub_id(0), Lane::Down);
    assert!(burned < lane as u64 * 9 / 10, "{burned} of {lane} bytes in a week");
    let named = BTreeMap::from([(client_id(0), None)]);
    for (_, hub) in &mut world.hubs {
        let quotas = Quotas { default: DefaultQuota::OF_HUBS, payers: named.clone(), ..Quotas::default() };
        hub.set_limits(quotas, OutboxLimits::NONE);
    }
    world.agree(world.wish(2, 400)).expect("the operator has named the sender");
}

#[test]
fn what_a_receiver_sets_holds_before_its_pad_is_burned_and_the_refusal_says_who_set_it() {
    let mut world = World::new(28, 3, 3, 2, 4096, true);
    let key = burned_bytes(u64::from(KEY_BYTES), 1);
    let limit = |keys: u64| Some(Limit { bytes: keys * key, per_s: 86_400 });
    let set = |world: &mut World, version, limits: &Limits| {
        for (id, hub) in &mut world.hubs {
            let record = LimitsRecord { receiver: client_id(1), hub: *id, version, limits: limits.clone() };
            hub.set_limits_of_receivers([record]);
        }
    };
    let to = |world: &World, receiver: usize| {
        let mut wish = world.wish(2, KEY_BYTES);
        wish.receivers = vec![client_id(receiver)];
        wish.linked = wish.receivers.iter().copied().collect();
        wish
    };
    set(&mut world, 1, &Limits { named: vec![(client_id(0), limit(2).unwrap())], each: None, all: limit(1) });
    for _ in 0..2 {
        world.agree(to(&world, 1)).expect("as much as the receiver lets it");
    }
    let before = world.pads.burned(client_id(1), hub_id(0), Lane::Down);
    let refused = refusals(world.agree(to(&world, 1)).expect_err("beyond it"));
    assert!(refused.iter().all(|(_, refusal)| *refusal == Refusal::ReceiverLimit), "{refused:?}");
    assert_eq!(world.pads.burned(client_id(1), hub_id(0), Lane::Down), before, "no pad of the receiver");
    world.agree(to(&world, 2)).expect("another receiver has set nothing");
    // Each that is not named, and all of them together.
    world.now += DAY;
    set(&mut world, 2, &Limits { named: Vec::new(), each: limit(2), all: limit(1) });
    world.agree(to(&world, 1)).expect("one for all");
    world.agree(to(&world, 1)).expect_err("beyond what all may");
    world.now += QUOTA_REST_MIN;
    set(&mut world, 3, &Limits { named: Vec::new(), each: limit(2), all: None });
    world.agree(to(&world, 1)).expect("two for each");
    world.agree(to(&world, 1)).expect_err("beyond what each may");
    // The receiver's own word goes before what the hub lets anybody burn; an operator's does not yield to it.
    for (_, hub) in &mut world.hubs {
        hub.set_limits(Quotas { default: keys(1).into(), ..Quotas::default() }, OutboxLimits::NONE);
    }
    world.now += DAY;
    for _ in 0..2 {
        world.agree(to(&world, 1)).expect("two for each");
    }
    world.now += DAY;
    for (_, hub) in &mut world.hubs {
        let payers = BTreeMap::from([(client_id(0), keys(1))]);
        hub.set_limits(Quotas { payers, ..Quotas::default() }, OutboxLimits::NONE);
    }
    world.agree(to(&world, 1)).expect("within all limits");
    let refused = refusals(world.agree(to(&world, 1)).expect_err("beyond the operator's"));
    assert!(refused.iter().all(|(_, refusal)| *refusal == Refusal::QuotaExceeded), "{refused:?}");
}

/// What client 0 has burned of all its up lanes.
fn burned_up(world: &World) -> u64 {
    world.hubs.iter().map(|(hub, _)| world.pads.burned(client_id(0), *hub, Lane::Up).0).sum()
}

/// Lets every pair burn for so many keys at these hubs, from now on.
fn allow(world: &mut World, hubs: std::ops::Range<usize>, number: u64) {
    for (_, hub) in &mut world.hubs[hubs] {
        hub.set_limits(Quotas { default: keys(number).into(), ..Quotas::default() }, OutboxLimits::NONE);
    }
}

#[test]
fn a_sender_that_hubs_refuse_by_quota_burns_nothing_more_until_a_rest_is_over() {
    let mut world = World::new(30, 3, 2, 2, 16 << 10, true);
    allow(&mut world, 0..3, 1);
    world.agree(world.wish(2, KEY_BYTES)).expect("within the quota");
    world.agree(world.wish(2, KEY_BYTES)).expect_err("beyond it");
    let before = burned_up(&world);
    for _ in 0..20 {
        world.now += Duration::from_secs(1);
        let refused = refusals(world.agree(world.wish(2, KEY_BYTES)).expect_err("still beyond it"));
        assert!(refused.iter().all(|(_, refusal)| *refusal == Refusal::DefaultQuota), "it says why");
    }
    assert_eq!(burned_up(&world), before, "no pad goes where it would be refused");
    // A shorter key may still fit, so it is tried; then it rests as well.
    world.agree(world.wish(2, 8)).expect_err("beyond it too");
    let shorter = burned_up(&world);
    assert!(shorter > before);
    world.agree(world.wish(2, 8)).expect_err("beyond it too");
    assert_eq!(burned_up(&world), shorter);
    // A rest ends, the next one is longer, and none is longer than the longest.
    let mut tries = 0;
    let day = world.now + DAY / 2;
    while world.now < day {
        world.now += QUOTA_REST_MIN;
        let before = burned_up(&world);
        world.agree(world.wish(2, KEY_BYTES)).expect_err("half a day brings half a key");
        tries += u32::from(burned_up(&world) > before);
    }
    assert!((12..=18).contains(&tries), "{tries} tries in half a day");
    world.now += DAY;
    world.agree(world.wish(2, KEY_BYTES)).expect("room again");
    let again = world.agree(world.wish(2, KEY_BYTES)).expect_err("used up again");
    let SendFailure::Quota { rest, .. } = again else { panic!("not for a quota: {again}") };
    assert_eq!(rest, QUOTA_REST_MIN, "a key that came about ends the count");
}

#[test]
fn fewer_hubs_than_must_be_honest_make_no_sender_rest() {
    let mut world = World::new(31, 3, 2, 2, 16 << 10, true);
    allow(&mut world, 0..1, 1);
    world.agree(world.wish(3, KEY_BYTES)).expect("within the quota");
    for _ in 0..5 {
        let failure = world.agree(world.wish(3, KEY_BYTES)).expect_err("one of all hubs refuses");
        assert!(matches!(failure, SendFailure::TooFewAccepted { .. }), "{failure}");
    }
    world.hubs[0].1.set_limits(Quotas::default(), OutboxLimits::NONE);
    world.agree(world.wish(3, KEY_BYTES)).expect("at once, as soon as it does not");
}

#[test]
fn hubs_that_refuse_by_quota_after_the_end_are_heard_too() {
    let mut world = World::new(32, 3, 2, 2, 16 << 10, true);
    allow(&mut world, 0..3, 1);
    world.agree(world.wish(3, KEY_BYTES)).expect("within the quota");
    // With all hubs needed the first refusal is the end.
    let first = world.agree(world.wish(3, KEY_BYTES)).expect_err("beyond it");
    assert!(matches!(&first, SendFailure::TooFewAccepted { refusals, .. } if refusals.len() == 1), "{first}");
    let before = burned_up(&world);
    let second = world.agree(world.wish(3, KEY_BYTES)).expect_err("still beyond it");
    assert!(matches!(second, SendFailure::Quota { .. }), "{second}");
    assert_eq!(burned_up(&world), before);
}

#[test]
fn a_round_that_would_be_refused_by_quota_burns_neither_pad_nor_negotiation_key() {
    let mut world = World::new(33, 3, 2, 2, 64 << 10, true);
    let session = world.negotiate(2, 8);
    let round = |world: &mut World| world.round(world.round_wish(session, KEY_BYTES, 1));
    round(&mut world).expect("without a quota");
    allow(&mut world, 0..3, 1);
    round(&mut world).expect("within the quota");
    round(&mut world).expect_err("beyond it");
    let before = (burned_up(&world), world.rounds_left());
    for _ in 0..5 {
        round(&mut world).expect_err("still beyond it");
    }
    assert_eq!((burned_up(&world), world.rounds_left()), before);
    assert!(before.1 > 0);
}

#[test]
fn a_quota_that_is_raised_holds_from_then_on_though_its_period_is_shorter() {
    let mut world = World::new(40, 3, 2, 2, 16 << 10, true);
    let key = burned_bytes(u64::from(KEY_BYTES), 1);
    let set = |world: &mut World, version, keys: u64, per_s| {
        let all = Some(Limit { bytes: keys * key, per_s });
        let limits = Limits { named: Vec::new(), each: all, all };
        for (id, hub) in &mut world.hubs {
            let record = LimitsRecord { receiver: client_id(1), hub: *id, version, limits: limits.clone() };
            hub.set_limits_of_receivers([record]);
        }
    };
    set(&mut world, 1, 1, 86_400);
    world.agree(world.wish(2, KEY_BYTES)).expect("within the limit");
    world.agree(world.wish(2, KEY_BYTES)).expect_err("beyond it");
    // Ten in a minute are more than one in a day.
    set(&mut world, 2, 10, 60);
    world.now += QUOTA_REST_MIN;
    world.agree(world.wish(2, KEY_BYTES)).expect("the receiver lets it burn more");
    // One in an hour instead: nothing comes of the change but what the new one brings.
    set(&mut world, 3, 1, 3600);
    let before = world.pads.burned(client_id(1), hub_id(0), Lane::Down);
    world.now += QUOTA_REST_MIN;
    let _ = world.agree(world.wish(2, KEY_BYTES));
    let _ = world.agree(world.wish(2, KEY_BYTES));
    let after = world.pads.burned(client_id(1), hub_id(0), Lane::Down);
    assert!(after.0 - before.0 <= key, "one at most");
}

#[test]
fn a_quota_counts_what_is_burned_and_not_what_is_asked_for() {
    let mut world = World::new(41, 3, 3, 2, 1024, true);
    let to = |world: &World, receivers: &[usize], bytes| {
        let mut wish = world.wish(2, bytes);
        wish.receivers = receivers.iter().map(|at| client_id(*at)).collect();
        wish.linked = wish.receivers.iter().copied().collect();
        wish
    };
    // Client 1 sends client 2 so much that little is left of its lanes.
    let mut wish = to(&world, &[2], 700);
    wish.receivers = vec![client_id(2)];
    world.finish_of(1, wish).expect("a key");
    allow(&mut world, 0..3, 3);
    let quota = 3 * burned_bytes(u64::from(KEY_BYTES), 1);
    for _ in 0..2 {
        let failure = world.agree(to(&world, &[2, 1], 200)).expect_err("the third has too little pad left");
        assert!(refusals(failure).iter().all(|(_, refusal)| *refusal == Refusal::PadLow));
    }
    let (burned, _) = world.pads.burned(client_id(1), hub_id(0), Lane::Down);
    assert_eq!(burned, 0);
    let used: u64 = world.hubs[0].1.uses(world.now).iter().map(|entry| entry.used).sum();
    assert!(used <= quota / 8, "{used} bytes are counted, and none was burned");
    world.agree(to(&world, &[1], KEY_BYTES)).expect("nothing was burned of what client 1 shares");
}

#[test]
fn a_client_that_a_hub_has_named_before_anybody_knew_it_is_heard_at_once() {
    let mut world = World::new(43, 5, 3, 3, 64 << 10, false);
    let enrol = |world: &mut World, enabled| {
        for (_, hub) in &mut world.hubs {
            hub.set_client(HubClient { enabled, ..enrolled(2, client_name(2), 3) });
        }
    };
    enrol(&mut world, false);
    for number in 0..360 {
        let agreement = Agreement { sender: client_id(2), ..invented(number) };
        world.invent(hub_id(0), client_id(1), agreement);
        world.now += UNKNOWN_SENDER_PAUSE;
    }
    let (burned, _) = world.pads.burned(client_id(1), hub_id(3), Lane::Up);
    assert!(burned <= 20 * 32, "{burned} bytes in an hour");
    enrol(&mut world, true);
    let mut wish = world.wish(3, KEY_BYTES);
    wish.receivers = vec![client_id(1)];
    wish.linked = [client_id(1)].into();
    let agreed = world.finish_of(2, wish).expect("a key of a client that all hubs know");
    assert_eq!(agreed.confirmed, [client_id(1)]);
}

#[test]
fn a_client_that_is_never_established_keeps_no_new_one_out() {
    let mut world = World::new(42, 5, 3, 3, 512 << 10, false);
    // Client 0 has enrolled with some hubs otherwise than with others, so that nobody ever establishes it.
    for at in 0..5 {
        let name = ["one", "one", "two", "two", "three"][at].parse().unwrap();
        world.hubs[at].1.set_client(enrolled(0, name, 1));
    }
    let mut wish = world.wish(3, 1);
    wish.receivers = vec![client_id(1)];
    wish.linked = [client_id(1)].into();
    // Four hours: as many inquiries as all hubs may cause in a day, and more.
    let tries = 4 * 360;
    for number in 0..tries {
        // Another hub is heard first each time.
        let first = number % 5;
        world.cut = (0..5).filter(|at| *at != first).map(hub_id).collect();
        let mut wish = wish.clone();
        (wish.deadline, wish.notice_deadline) =
            (world.now + UNKNOWN_SENDER_PAUSE, world.now + UNKNOWN_SENDER_PAUSE);
        world.begin(wish);
        world.now += UNKNOWN_SENDER_PAUSE;
        world.tick();
    }
    world.cut.clear();
    assert!(!world.clients[1].receiver.knows(&client_id(0)));
    let mut wish = world.wish(3, KEY_BYTES);
    wish.receivers = vec![client_id(1)];
    wish.linked = [client_id(1)].into();
    let agreed = world.finish_of(2, wish).expect("a key of a client that all hubs know");
    assert_eq!(agreed.confirmed, [client_id(1)]);
}
