//! The Adapted protocol (§3): rounds under a negotiation key, with hubs that lie, are silent or are cut off, and a link
//! that loses, changes, repeats and forges.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test stops at the first surprise"
)]

mod world;

use dske_protocol::{
    hub::HubFault,
    ids::{BlockId, BlockNonce, Lane, NodeId},
    message::{Agreement, Content, NoticeOutcome},
    params::{PROTOCOL_VERSION, Time, disruption_threshold},
    refusal::{AbortReason, SendFailure},
};

use rand::{
    RngExt, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};

use self::world::{DEADLINE, World, client_id, hub_id};

const BLOCK_BYTES: u32 = 96;

fn keys(world: &World, block: BlockId) -> [Option<Vec<u8>>; 2] {
    [0, 1].map(|at| world.pads.keys.get(&(client_id(at), block)).cloned())
}

/// One round; both sides hold the same key of the right length.
fn agree(world: &mut World, session: BlockId) -> Vec<u8> {
    let wish = world.round_wish(session, BLOCK_BYTES, 3);
    let agreed = world.round(wish).expect("a key");
    assert!(agreed.key.is_none(), "it is kept");
    let [ours, theirs] = keys(world, agreed.agreement.block());
    assert_eq!(ours, theirs, "both have the same key");
    let key = ours.expect("it is on record");
    assert_eq!(key.len(), BLOCK_BYTES as usize);
    key
}

fn lie(world: &mut World, hubs: std::ops::Range<usize>) {
    for at in hubs {
        world.hubs[at].1.set_fault(HubFault::FalseShares);
    }
}

#[test]
fn rounds_give_keys_and_send_indices_only() {
    let mut world = World::new(1, 5, 2, 3, 4096, true);
    let session = world.negotiate(3, 4);
    let before = world.pads.burned(client_id(0), hub_id(0), Lane::Up).0;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..4 {
        assert!(seen.insert(agree(&mut world, session)), "every round gives another key");
    }
    let burned = world.pads.burned(client_id(0), hub_id(0), Lane::Up).0 - before;
    assert_eq!(burned, 4 * (u64::from(BLOCK_BYTES) + 72), "m + 2l + 64 bits each");
    let wish = world.round_wish(session, BLOCK_BYTES, 3);
    assert_eq!(world.round(wish).unwrap_err(), SendFailure::NoSession, "the negotiation key is used up");
}

#[test]
fn up_to_n_minus_k_hubs_may_lie_or_be_silent_and_are_named() {
    for (n, k) in [(3, 2), (5, 3), (9, 5), (4, 4), (3, 1)] {
        for bad in 0..=usize::from(n - k) {
            for silent in [false, true] {
                let mut world = World::new(2, n.into(), 2, 1, 4096, true);
                let session = world.negotiate(k, 1);
                if silent {
                    world.cut = (0..bad).map(hub_id).collect();
                } else {
                    lie(&mut world, 0..bad);
                }
                agree(&mut world, session);
                if let (false, NoticeOutcome::Validated { false_positions, .. }) = (silent, world.verdict(1))
                {
                    assert_eq!(false_positions.len(), bad, "({n}, {k}): the liars are named");
                }
            }
        }
    }
}

#[test]
fn past_the_threshold_both_sides_end_without_a_key() {
    for silent in [false, true] {
        let (n, k) = (5, 3);
        let bad = usize::from(n - k) + 1;
        assert_eq!(disruption_threshold(n, k, 3), 3);
        let mut world = World::new(3, n.into(), 2, 3, 4096, true);
        let session = world.negotiate(k, 2);
        if silent {
            world.cut = (0..bad).map(hub_id).collect();
        } else {
            lie(&mut world, 0..bad);
        }
        let wish = world.round_wish(session, BLOCK_BYTES, 1);
        let failure = world.round(wish).expect_err("no key");
        if !silent {
            assert_eq!(failure, SendFailure::TooFewMatch { matching: 2, offered: 5, k });
        }
        assert_eq!(world.pads.keys.len(), 0, "nobody holds one");
        // Honest again: the next round works.
        world.cut.clear();
        world.hubs.iter_mut().for_each(|(_, hub)| hub.set_fault(HubFault::None));
        agree(&mut world, session);
    }
}

#[test]
fn a_link_that_changes_messages_gives_no_wrong_key() {
    for at in [0, 1, 20, 40, 60] {
        let mut world = World::new(4, 3, 2, 2, 4096, true);
        let session = world.negotiate(2, 1);
        // The closure cannot capture: the place is in a table.
        world.link = Some(match at {
            0 => |bytes| {
                bytes[0] ^= 1;
                true
            },
            1 => |bytes| {
                bytes[1] ^= 1;
                true
            },
            20 => |bytes| {
                bytes[20] ^= 1;
                true
            },
            40 => |bytes| {
                bytes[40] ^= 1;
                true
            },
            _ => |bytes| {
                *bytes.last_mut().unwrap() ^= 1;
                true
            },
        });
        let wish = world.round_wish(session, BLOCK_BYTES, 1);
        world.round(wish).expect_err("no key");
        assert!(world.pads.keys.is_empty());
    }
}

#[test]
fn a_link_that_loses_at_first_only_delays() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static SENT: AtomicUsize = AtomicUsize::new(0);
    let mut world = World::new(5, 3, 2, 2, 4096, true);
    let session = world.negotiate(2, 1);
    // The first offer and the first choice are lost; what comes again is the very same.
    world.link = Some(|_| !matches!(SENT.fetch_add(1, Ordering::Relaxed), 0 | 2));
    agree(&mut world, session);
    assert_eq!(world.negotiated[0], world.negotiated[1], "the same offer");
    assert_eq!(world.negotiated[2], world.negotiated[3], "the same choice");
}

#[test]
fn a_confirmation_that_is_lost_comes_again() {
    use std::sync::atomic::{AtomicBool, Ordering};
    static LOST: AtomicBool = AtomicBool::new(false);
    let mut world = World::new(9, 3, 2, 2, 4096, true);
    let session = world.negotiate(2, 1);
    // 18 is the kind of a confirmation.
    world.link = Some(|bytes| bytes[0] != 18 || LOST.swap(true, Ordering::Relaxed));
    agree(&mut world, session);
    assert!(LOST.load(Ordering::Relaxed));
}

#[test]
fn a_round_gives_its_key_though_whatever_goes_one_way_is_swallowed() {
    for (n, k) in [(2, 1), (3, 2), (5, 3), (9, 5), (20, 10)] {
        let mut world = World::new(28, n, 2, k, 4096, true);
        let session = world.negotiate(k, 2);
        world.swallowed = true;
        // A share that comes late makes a second offer, while the first goes astray.
        slow_down(&mut world, &[(0, 400)]);
        for _ in 0..2 {
            world.negotiated.clear();
            agree(&mut world, session);
            // However many copies come of each, and each asks for the next.
            let said = world.negotiated.len();
            assert!(said <= 8, "({n}, {k}): {said} messages");
        }
    }
}

#[test]
fn a_sender_that_asks_after_the_receivers_deadline_hears_of_a_round_that_ended_before_it() {
    let mut world = World::new(31, 3, 2, 2, 4096, true);
    let session = world.negotiate(2, 2);
    world.swallowed = true;
    // The offer is said at 7.95 s and at 8.95 s, the choice at 8.95 s and at 9.65 s, the confirmation then and once more.
    slow_down(&mut world, &[(1, 7_900), (2, 7_900)]);
    let start = world.now;
    agree(&mut world, session);
    assert!(world.now > start + DEADLINE, "{:?}", world.now - start);
}

#[test]
fn who_repeats_an_old_word_without_end_hears_little_and_who_changes_it_nothing() {
    let mut world = World::new(29, 3, 2, 2, 4096, true);
    let session = world.negotiate(2, 1);
    // No confirmation arrives, so both ends go on.
    world.link = Some(|bytes| bytes[0] != 18);
    let wish = world.round_wish(session, BLOCK_BYTES, 1);
    world.begin_round(wish);
    let said = |world: &World, kind: u8| world.negotiated.iter().filter(|bytes| bytes[0] == kind).count();
    let word =
        |world: &World, kind: u8| world.negotiated.iter().find(|bytes| bytes[0] == kind).unwrap().clone();
    assert_eq!((said(&world, 16), said(&world, 17), said(&world, 18)), (1, 1, 1));
    let (offer, choice) = (word(&world, 16), word(&world, 17));
    let mut forged = choice.clone();
    *forged.last_mut().unwrap() ^= 1;
    world.now += Time::from_millis(400);
    for _ in 0..1000 {
        world.deliver(client_id(0), client_id(1), forged.clone());
    }
    world.tick();
    assert_eq!(said(&world, 18), 1, "a choice that it has not seen is not answered");
    for _ in 0..1000 {
        world.deliver(client_id(0), client_id(1), choice.clone());
        world.deliver(client_id(1), client_id(0), offer.clone());
    }
    world.tick();
    assert_eq!((said(&world, 17), said(&world, 18)), (2, 2), "once more, and not for each");
}

#[test]
fn a_round_whose_receiver_has_forgotten_the_negotiation_key_ends_at_once() {
    let mut world = World::new(11, 3, 2, 2, 4096, true);
    let session = world.negotiate(2, 2);
    world.forget(1);
    let (wish, before) = (world.round_wish(session, BLOCK_BYTES, 1), world.now);
    assert_eq!(world.round(wish).unwrap_err(), SendFailure::NoSession);
    assert_eq!(world.now, before, "nobody waited");
    let session = world.negotiate(2, 2);
    agree(&mut world, session);
}

#[test]
fn a_round_goes_on_without_a_hub_whose_pad_is_used_up() {
    let mut world = World::new(30, 3, 2, 1, 2048, true);
    let session = world.negotiate(2, 2);
    let mut one = world.wish(1, 32);
    one.hubs.truncate(1);
    while world.agree(one.clone()).is_ok() {}
    agree(&mut world, session);
    let left = world.pads.burned(client_id(0), hub_id(0), Lane::Up).0;
    assert!(2048 - left < u64::from(BLOCK_BYTES), "it has no pad for a round");
}

#[test]
fn what_is_repeated_or_forged_changes_nothing() {
    let mut world = World::new(6, 3, 2, 2, 4096, true);
    let session = world.negotiate(2, 2);
    let first = agree(&mut world, session);
    let old = world.negotiated.clone();
    for bytes in old.iter().chain([&vec![16; 40], &vec![17; 40], &Vec::new()]) {
        world.deliver(client_id(1), client_id(0), bytes.clone());
        world.deliver(client_id(0), client_id(1), bytes.clone());
    }
    world.tick();
    assert_ne!(agree(&mut world, session), first);
    assert_eq!(world.pads.keys.len(), 4);
}

#[test]
fn rounds_without_their_key_or_with_other_hubs_are_refused() {
    let mut world = World::new(7, 3, 2, 2, 4096, true);
    let session = world.negotiate(2, 1);
    let round = |session, number, roster: Vec<NodeId>| Agreement {
        version: PROTOCOL_VERSION,
        nonce: BlockNonce::new([9; 16]),
        sender: client_id(0),
        receivers: vec![client_id(1)],
        purpose: String::new(),
        k: 2,
        key_bytes: 32,
        content: Content::Round { session, round: number, keys: 1 },
        roster,
    };
    let hubs: Vec<NodeId> = (0..3).map(hub_id).collect();
    let cases = [
        round(BlockId::new([1; 16]), 0, hubs.clone()),
        round(session, 7, hubs.clone()),
        round(session, 0, hubs.iter().rev().copied().chain([NodeId::new([8; 32])]).collect()),
    ];
    for case in cases {
        for hub in hubs.clone() {
            world.invent(hub, client_id(1), case.clone());
        }
    }
    assert_eq!(world.clients[1].receiver.under_way(), 0, "nothing is collected");
    assert_eq!(world.clients[1].receiver.counters().refusals.values().sum::<u64>(), 9);
}

#[test]
fn one_hub_that_invents_rounds_stops_nothing() {
    for right_order in [false, true] {
        let mut world = World::new(8, 3, 2, 2, 4096, true);
        let session = world.negotiate(2, 1);
        let mut roster = world.roster_of(session);
        if !right_order {
            roster.reverse();
        }
        let agreement = Agreement {
            version: PROTOCOL_VERSION,
            nonce: BlockNonce::new([9; 16]),
            sender: client_id(0),
            receivers: vec![client_id(1)],
            purpose: String::new(),
            k: 2,
            key_bytes: 32,
            content: Content::Round { session, round: 0, keys: 1 },
            roster,
        };
        world.invent(hub_id(0), client_id(1), agreement);
        let wish = world.wish(2, 32);
        assert_eq!(world.agree(wish).expect("a key").confirmed, [client_id(1)]);
        // The session stands, and the round is free for its true block.
        agree(&mut world, session);
    }
}

#[test]
fn a_session_goes_with_its_last_round_even_where_that_never_began() {
    let mut world = World::new(12, 3, 2, 2, 4096, true);
    let session = world.negotiate(2, 3);
    let too_long = world.round_wish(session, 8192, 1);
    assert!(matches!(world.round(too_long), Err(SendFailure::PadLow { .. })));
    let ill_formed = world.round_wish(session, 0, 1);
    assert!(matches!(world.round(ill_formed), Err(SendFailure::Parameters(_))));
    agree(&mut world, session);
    assert_eq!(world.sessions(), 0, "its key is kept in memory for nothing");
}

#[test]
fn shares_that_come_too_late_to_be_offered_accuse_nobody() {
    let mut world = World::new(33, 3, 2, 2, 4096, true);
    let session = world.negotiate(2, 1);
    slow_down(&mut world, &[(1, 9_970), (2, 60_000)]);
    let wish = world.round_wish(session, BLOCK_BYTES, 1);
    let failure = world.round(wish).expect_err("no key");
    let SendFailure::ReceiverAborted { reason, .. } = &failure else { panic!("{failure}") };
    assert!(matches!(reason, AbortReason::NoChoice { received: 2.. }), "{failure}");
}

#[test]
fn an_offer_comes_again_every_second_and_no_sooner() {
    let mut world = World::new(13, 3, 2, 2, 4096, true);
    let session = world.negotiate(2, 1);
    // 17 is the kind of a choice: none arrives.
    world.link = Some(|bytes| bytes[0] != 17);
    let wish = world.round_wish(session, BLOCK_BYTES, 1);
    world.round(wish).expect_err("no key");
    let offers = world.negotiated.iter().filter(|bytes| bytes[0] == 16).count();
    assert_eq!(offers, 11, "at once, and every second of the ten that the receiver waits");
}

/// Rosters are drawn: a hub's place in it says when its share comes, whatever its number.
fn slow_down(world: &mut World, delays: &[(usize, u64)]) {
    world.slow = delays.iter().map(|(at, ms)| (hub_id(*at), Time::from_millis(*ms))).collect();
}

#[test]
fn liars_who_are_heard_first_stop_no_round_below_the_threshold() {
    // One liar and two honest hubs at once, and two that are slower than any grace.
    for (n, k, liars) in [(5, 3, 1), (5, 3, 2), (3, 2, 1), (9, 5, 4), (20, 10, 9)] {
        for ms in [40, 60, 200, 3_000, 9_000] {
            let mut world = World::new(20, n, 2, u8::try_from(k).unwrap(), 1 << 16, true);
            let session = world.negotiate(u8::try_from(k).unwrap(), 1);
            lie(&mut world, 0..liars);
            let slow: Vec<_> = (k..n).map(|at| (at, ms * at as u64 / n as u64)).collect();
            slow_down(&mut world, &slow);
            let before = world.now;
            agree(&mut world, session);
            assert!(world.now - before < DEADLINE, "({n}, {k}) {ms}");
        }
    }
}

#[test]
fn forged_messages_end_nothing_however_many_they_are() {
    let mut world = World::new(21, 3, 2, 2, 4096, true);
    let session = world.negotiate(2, 1);
    // Each true message comes after a thousand that are almost it.
    world.before_each = 1000;
    agree(&mut world, session);
}

/// What each tag key of a session was used for: an offer's key is named by its number of shares, a choice's and a
/// confirmation's by their kind; a share has one in whatever offers it stands.
fn each_tag_key_served_one_message(world: &World) {
    use std::collections::BTreeMap;
    let mut messages: BTreeMap<(u8, Vec<u8>, usize), &[u8]> = BTreeMap::new();
    let mut tags: BTreeMap<(Vec<u8>, u8), &[u8]> = BTreeMap::new();
    let mut offered: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for bytes in &world.negotiated {
        // Kind, then session, round and block; an offer has its shares behind it: 8 bytes, then 17 each.
        let (kind, names) = (bytes[0], bytes[1..37].to_vec());
        let shares: Vec<&[u8]> = match kind {
            16 => bytes[45..bytes.len() - 16].chunks_exact(17).collect(),
            _ => Vec::new(),
        };
        let before = messages.insert((kind, names.clone(), shares.len()), bytes);
        assert!(before.is_none_or(|before| before == bytes), "two messages under one key");
        for share in &shares {
            let before = tags.insert((names.clone(), share[0]), &share[1..]);
            assert!(before.is_none_or(|before| before == &share[1..]), "two tags of one share");
        }
        if kind == 16 {
            let positions: Vec<u8> = shares.iter().map(|share| share[0]).collect();
            let before = offered.insert(names, positions.clone()).unwrap_or_default();
            assert!(before.iter().all(|position| positions.contains(position)), "offers grow");
        }
    }
}

#[test]
fn below_the_threshold_every_order_and_delay_gives_a_key_and_uses_each_tag_key_once() {
    let mut rng = StdRng::seed_from_u64(22);
    for seed in 0..150 {
        let n = rng.random_range(2..=9);
        let k = rng.random_range(1..=n);
        let k_min = rng.random_range(1..=k);
        let bad = rng.random_range(0..usize::from(disruption_threshold(n, k, k_min)));
        let mut world = World::new(seed, n.into(), 2, k_min, 4096, true);
        let session = world.negotiate(k, 1);
        let mut order: Vec<usize> = (0..usize::from(n)).collect();
        order.shuffle(&mut rng);
        for &at in &order[..bad] {
            if rng.random_bool(0.3) {
                world.cut.insert(hub_id(at));
            } else {
                lie(&mut world, at..at + 1);
            }
        }
        // Whatever an honest hub's share takes, within the time that the receiver gives it.
        let most = *[100, 2000, 9_500].choose(&mut rng).unwrap();
        let delays: Vec<(usize, u64)> = order.iter().map(|at| (*at, rng.random_range(0..most))).collect();
        slow_down(&mut world, &delays);
        agree(&mut world, session);
        each_tag_key_served_one_message(&world);
    }
}

#[test]
fn a_session_is_lost_when_k_b_of_its_hubs_say_so_and_not_before() {
    for (voices, lost) in [(0, false), (1, false), (2, true), (3, true)] {
        let mut world = World::new(23, 3, 2, 2, 4096, true);
        let session = world.negotiate(2, 2);
        world.forget(1);
        world.voices = voices;
        let wish = world.round_wish(session, BLOCK_BYTES, 1);
        let failure = world.round(wish).expect_err("its receiver has forgotten the key");
        assert_eq!(failure == SendFailure::NoSession, lost, "{voices}: {failure:?}");
        assert_eq!(world.sessions(), usize::from(!lost), "{voices}");
    }
}

#[test]
fn nodes_that_are_no_hubs_of_a_session_have_no_voice() {
    let mut world = World::new(24, 3, 2, 2, 4096, true);
    let session = world.negotiate(2, 1);
    for other in 0..9 {
        let via = NodeId::new([200 + other; 32]);
        world.tell_lost(client_id(1), via, session);
        world.tell_lost(hub_id(0), hub_id(other.into()), session);
    }
    world.tell_lost(client_id(1), hub_id(0), session);
    agree(&mut world, session);
}

#[test]
fn an_end_of_a_round_that_carries_no_tag_counts_when_k_b_of_its_hubs_pass_it_on() {
    let aborted = NoticeOutcome::Aborted(dske_protocol::refusal::AbortReason::Internal);
    let other = NodeId::new([200; 32]);
    let cases: [(&[Option<NodeId>], bool); 4] = [
        (&[None, None, Some(hub_id(0))], false),
        (&[Some(hub_id(0)), Some(hub_id(0)), Some(hub_id(0))], false),
        (&[Some(other), Some(client_id(1)), Some(hub_id(0))], false),
        (&[Some(hub_id(0)), Some(hub_id(2))], true),
    ];
    for (ways, ends) in cases {
        let mut world = World::new(25, 3, 2, 2, 4096, true);
        let session = world.negotiate(2, 1);
        // Nothing comes before somebody has told the sender that it is over.
        slow_down(&mut world, &[(0, 100), (1, 100), (2, 100)]);
        world.told = ways.iter().map(|via| (*via, aborted.clone())).collect();
        let wish = world.round_wish(session, BLOCK_BYTES, 1);
        assert_eq!(world.round(wish).is_err(), ends, "{ways:?}");
    }
}

#[test]
fn an_honest_hub_whose_share_comes_while_the_choice_is_on_its_way_is_not_named() {
    use std::sync::atomic::{AtomicBool, Ordering};
    static LOST: AtomicBool = AtomicBool::new(false);
    let mut world = World::new(26, 3, 2, 2, 4096, true);
    let session = world.negotiate(2, 1);
    // The first choice is lost; before it comes again the third share is there, and is offered.
    world.link = Some(|bytes| bytes[0] != 17 || LOST.swap(true, Ordering::Relaxed));
    slow_down(&mut world, &[(2, 200)]);
    agree(&mut world, session);
    assert_eq!(world.negotiated.iter().filter(|bytes| bytes[0] == 16).count(), 2, "two offers");
    match world.verdict(1) {
        NoticeOutcome::Validated { false_positions, .. } => assert_eq!(*false_positions, Vec::<u8>::new()),
        outcome => panic!("{outcome:?}"),
    }
    each_tag_key_served_one_message(&world);
}

#[test]
fn shares_that_come_after_the_last_round_of_a_session_do_not_tell_of_its_loss() {
    use std::sync::atomic::{AtomicBool, Ordering};
    static LOST: AtomicBool = AtomicBool::new(false);
    let mut world = World::new(27, 4, 2, 2, 4096, true);
    let session = world.negotiate(2, 1);
    // The receiver has its key, and the sender does not hear it before two more hubs bring their shares.
    world.link = Some(|bytes| bytes[0] != 18 || LOST.swap(true, Ordering::Relaxed));
    slow_down(&mut world, &[(2, 200), (3, 200)]);
    agree(&mut world, session);
}

#[test]
fn who_repeats_what_a_round_has_said_makes_its_ends_say_little() {
    let mut world = World::new(41, 5, 2, 3, 8192, true);
    let session = world.negotiate(3, 2);
    agree(&mut world, session);
    let of_kind = |world: &World, kind: u8| {
        world.negotiated.iter().filter(|bytes| bytes[0] == kind).cloned().collect::<Vec<_>>()
    };
    let (choices, confirmations) = (of_kind(&world, 17), of_kind(&world, 18).len());
    assert_eq!((choices.len(), confirmations), (1, 1));
    for _ in 0..1000 {
        for choice in &choices {
            world.deliver(client_id(0), client_id(1), choice.clone());
        }
        world.now += Time::from_millis(10);
        world.tick();
    }
    let said = of_kind(&world, 18).len() - confirmations;
    assert!((1..=7).contains(&said), "{said} times in the two seconds after the end, and in eight more");
    assert_eq!(world.clients[1].receiver.under_way(), 0, "and then it is forgotten");
    agree(&mut world, session);
}

#[test]
fn no_share_that_comes_late_makes_a_session_look_lost_or_takes_room_for_ever() {
    for seed in 0..150 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut world = World::new(seed, 5, 2, 2, 16_384, true);
        world.voices = 5;
        let rounds = rng.random_range(1..=6);
        let session = world.negotiate(2, rounds);
        for hub in (0..5).filter(|_| rng.random_bool(0.2)).take(1).collect::<Vec<_>>() {
            lie(&mut world, hub..hub + 1);
        }
        let mut begun = Vec::new();
        for _ in 0..rounds {
            let longest = *[1_u64, 200, 3_000, 12_000].choose(rng).unwrap();
            let delays: Vec<(usize, u64)> = (0..5).map(|at| (at, rng.random_range(0..=longest))).collect();
            slow_down(&mut world, &delays);
            begun.push(world.begin_round(world.round_wish(session, BLOCK_BYTES, 3)));
            world.now += Time::from_millis(rng.random_range(0..500));
            world.tick();
        }
        for _ in 0..600 {
            world.now += Time::from_millis(50);
            world.tick();
        }
        let came = begun.into_iter().filter(|id| world.finish(*id).is_ok()).count();
        assert_eq!(world.said_lost, 0, "seed {seed}");
        assert!(came > 0, "seed {seed}");
        let receiver = &world.clients[1].receiver;
        assert_eq!((receiver.under_way(), receiver.held_bytes()), (0, 0), "seed {seed}");
        assert_eq!((receiver.taken_bytes(), receiver.collected()), (0, 0), "seed {seed}");
    }
}
