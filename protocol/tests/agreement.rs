//! Agreements between the state machines, in one thread (§2.2 – §2.4, §4.2).

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod world;

use dske_protocol::{
    hub::{Hub, HubFault},
    ids::{BlockNonce, Lane, NodeId},
    message::{Agreement, Content, NoticeOutcome, Subject},
    params::{
        KEY_BYTES_MAX, PROTOCOL_VERSION, UNKNOWN_SENDERS_PER_HUB_MAX, burned_bytes, disruption_threshold,
    },
    receiver::ReceiverInput,
    refusal::{AbortReason, Refusal, SendFailure},
    sender::KeyWish,
};
use world::{World, abort_reason, client_id, client_name, enrolled, hub_id, signature};

const KEY_BYTES: u32 = 32;

/// The receivers' keys equal the sender's.
fn assert_same(world: &World, agreed: &dske_protocol::sender::AgreedKey) {
    for receiver in &agreed.agreement.receivers {
        let held = world.pads.keys.get(&(*receiver, agreed.agreement.block())).expect("the receiver has it");
        assert!(*held == *agreed.key.as_ref().expect("handed out").0, "the two sides hold different keys");
    }
}

#[test]
fn every_n_and_k_agrees_with_every_number_of_silent_hubs_that_it_can_bear() {
    for n in 1..=20u8 {
        for k in 1..=n {
            let seed = u64::from(n) * 100 + u64::from(k);
            let mut world = World::new(seed, usize::from(n), 2, k, 4096, true);
            for silent in 0..n {
                world.cut = (0..usize::from(silent)).map(hub_id).collect();
                let result = world.agree(world.wish(k, KEY_BYTES));
                let arrived = n - silent;
                if arrived >= k {
                    let agreed = result.unwrap_or_else(|why| panic!("({n},{k}) with {silent} silent: {why}"));
                    assert_same(&world, &agreed);
                    assert_eq!(agreed.confirmed, [client_id(1)]);
                } else {
                    let expected = AbortReason::TooFewShares { received: arrived, k, n };
                    assert_eq!(abort_reason(world.verdict(1)), Some(&expected), "({n},{k}), {silent} silent");
                    let receiver = client_id(1);
                    let failure = SendFailure::ReceiverAborted { receiver, reason: expected };
                    assert_eq!(result.err(), Some(failure));
                }
            }
        }
    }
}

#[test]
fn every_number_of_liars_below_the_disruption_threshold_is_borne_and_named() {
    let all_small = (1..=9u8).flat_map(|n| (1..=n).map(move |k| (n, k)));
    for (n, k) in all_small.chain([(20, 10), (20, 19), (20, 2)]) {
        let seed = u64::from(n) * 1000 + u64::from(k);
        let threshold = disruption_threshold(n, k, k);
        for liars in 0..threshold {
            let mut world = World::new(seed, usize::from(n), 2, k, 256, true);
            for at in 0..usize::from(liars) {
                world.hubs[at].1.set_fault(HubFault::FalseShares);
            }
            let agreed = world.agree(world.wish(k, KEY_BYTES));
            let agreed = agreed.unwrap_or_else(|why| panic!("({n},{k}) with {liars} liars: {why}"));
            assert_same(&world, &agreed);
            let NoticeOutcome::Validated { false_positions, .. } = world.verdict(1) else {
                panic!("aborted")
            };
            let mut named: Vec<_> =
                false_positions.iter().map(|&at| agreed.agreement.roster[usize::from(at)]).collect();
            named.sort_unstable();
            let mut expected: Vec<_> = (0..usize::from(liars)).map(hub_id).collect();
            expected.sort_unstable();
            assert_eq!(named, expected, "({n},{k})");
        }
    }
}

#[test]
fn too_many_liars_abort_with_the_reason() {
    for (n, k) in [(3u8, 2u8), (5, 3), (9, 5)] {
        let mut world = World::new(7, usize::from(n), 2, k, 256, true);
        for at in 0..usize::from(n - k + 1) {
            world.hubs[at].1.set_fault(HubFault::FalseShares);
        }
        let failure = world.agree(world.wish(k, KEY_BYTES)).expect_err("no key");
        assert!(matches!(failure, SendFailure::ReceiverAborted { .. }), "{failure}");
        let reason = abort_reason(world.verdict(1)).expect("aborted");
        assert!(reason.is_security_event(), "{reason}");
        assert!(world.pads.keys.is_empty());
    }
}

/// Every number of bad hubs, up to the threshold and past it to all of them: liars, silent ones, half of each. As long as k
/// honest shares arrive there is the key (liars that do not collude cannot stop it even at the threshold); beyond,
/// an end with the reason, and never a key that the sender does not have.
#[test]
fn every_number_of_bad_hubs_of_nine_and_twenty_ends_as_it_must() {
    for (n, k) in [(9u8, 5u8), (20, 10)] {
        let threshold = disruption_threshold(n, k, k);
        for bad in 0..=n {
            for (liars, silent) in [(bad, 0), (0, bad), (bad / 2, bad - bad / 2)] {
                let mut world =
                    World::new(u64::from(n) * 100 + u64::from(bad), usize::from(n), 2, k, 256, true);
                for at in 0..usize::from(liars) {
                    world.hubs[at].1.set_fault(HubFault::FalseShares);
                }
                world.cut = (usize::from(liars)..usize::from(bad)).map(hub_id).collect();
                let case = format!("({n},{k}) with {liars} liars and {silent} silent");
                let result = world.agree(world.wish(k, KEY_BYTES));
                if n - bad >= k {
                    assert_same(&world, &result.unwrap_or_else(|why| panic!("{case}: {why}")));
                    continue;
                }
                assert!(bad >= threshold, "{case}");
                assert!(world.pads.keys.is_empty(), "{case}: a false key");
                // Where no hub delivers, the receiver knows of nothing, and the sender has only the hubs' word.
                if silent < n {
                    let reason = abort_reason(world.verdict(1)).unwrap_or_else(|| panic!("{case}: a key"));
                    let expected = if n - silent >= k {
                        AbortReason::NoneValidates {
                            received: n - silent,
                            k,
                            n,
                            at_least: n - silent - k + 1,
                        }
                    } else {
                        AbortReason::TooFewShares { received: n - silent, k, n }
                    };
                    assert_eq!(*reason, expected, "{case}");
                    let receiver = client_id(1);
                    let failure = SendFailure::ReceiverAborted { receiver, reason: expected };
                    assert_eq!(result.err(), Some(failure), "{case}");
                }
            }
        }
    }
}

#[test]
fn silent_and_lying_hubs_together_reach_the_threshold() {
    let mut world = World::new(8, 5, 2, 3, 1024, true);
    world.cut = [hub_id(4)].into();
    world.hubs[3].1.set_fault(HubFault::FalseShares);
    let agreed = world.agree(world.wish(3, KEY_BYTES)).expect("two bad hubs of five are borne");
    assert_same(&world, &agreed);
    world.cut.insert(hub_id(2));
    let failure = world.agree(world.wish(3, KEY_BYTES)).expect_err("three are not");
    let reason = AbortReason::NoneValidates { received: 3, k: 3, n: 5, at_least: 1 };
    assert_eq!(failure, SendFailure::ReceiverAborted { receiver: client_id(1), reason });
}

#[test]
fn each_key_burns_exactly_its_bits_per_hub_and_side() {
    for (key_bytes, receivers) in [(1u32, 1u64), (32, 1), (1000, 1), (1, 2), (32, 2), (1000, 3), (32, 16)] {
        let clients = 1 + usize::try_from(receivers).unwrap();
        let mut world = World::new(9, 5, clients, 3, 8192, true);
        let agreed = world.agree(world.wish(3, key_bytes)).expect("a key");
        assert_same(&world, &agreed);
        // m + l + R·(l + 64) bits up, m + 2l + 64 down to each receiver; l is 32 bytes.
        let (up, down) = (u64::from(key_bytes) + 32 + 40 * receivers, u64::from(key_bytes) + 72);
        assert_eq!(
            (up, down),
            (burned_bytes(key_bytes.into(), clients - 1), burned_bytes(key_bytes.into(), 1))
        );
        for hub in (0..5).map(hub_id) {
            assert_eq!(world.pads.burned(client_id(0), hub, Lane::Up), (up, up));
            for receiver in (1..clients).map(client_id) {
                assert_eq!(world.pads.burned(receiver, hub, Lane::Down), (down, down));
                assert_eq!(world.pads.burned(receiver, hub, Lane::Up), (0, 0));
            }
        }
    }
}

#[test]
fn unreachable_hubs_cost_nothing_and_do_not_hinder() {
    let mut world = World::new(10, 5, 2, 3, 1024, true);
    let mut wish = world.wish(3, KEY_BYTES);
    wish.hubs[1].reachable = false;
    wish.hubs[4].reachable = false;
    let agreed = world.agree(wish.clone()).expect("three hubs suffice");
    assert_same(&world, &agreed);
    assert_eq!(agreed.agreement.n(), 5);
    assert_eq!(world.pads.burned(client_id(0), hub_id(1), Lane::Up), (0, 0));
    wish.hubs[0].reachable = false;
    assert_eq!(world.agree(wish).err(), Some(SendFailure::TooFewHubs { usable: 2, k: 3 }));
}

#[test]
fn a_used_up_pad_is_told_and_takes_nothing() {
    let mut world = World::new(11, 3, 2, 2, 216, true);
    for _ in 0..2 {
        world.agree(world.wish(2, KEY_BYTES)).expect("there is pad for two keys");
    }
    let failure = world.agree(world.wish(2, KEY_BYTES)).expect_err("and for no more");
    assert!(matches!(failure, SendFailure::PadLow { left: 8, needed: 104, .. }), "{failure}");
}

#[test]
fn a_hub_whose_pad_is_used_up_is_left_out_and_the_key_comes() {
    let mut world = World::new(11, 4, 2, 2, 216, true);
    let mut two = world.wish(2, KEY_BYTES);
    two.hubs.truncate(2);
    for _ in 0..2 {
        world.agree(two.clone()).expect("there is pad for two keys");
    }
    for _ in 0..2 {
        let agreed = world.agree(world.wish(2, KEY_BYTES)).expect("two hubs have pad");
        assert_same(&world, &agreed);
        assert_eq!((agreed.agreement.n(), agreed.asked), (4, 2));
        assert_eq!(agreed.confirmed, [client_id(1)]);
    }
    let failure = world.agree(world.wish(2, KEY_BYTES)).expect_err("now no hub has");
    assert!(matches!(failure, SendFailure::PadLow { left: 8, needed: 104, .. }), "{failure}");
}

#[test]
fn of_the_hubs_those_with_most_pad_are_chosen() {
    let mut world = World::new(11, 5, 2, 2, 1024, true);
    let mut wish = world.wish(2, KEY_BYTES);
    wish.n = 3;
    for (at, hub) in wish.hubs.iter_mut().enumerate() {
        hub.left = 1000 + at as u64;
        hub.reachable = at != 4;
    }
    let agreed = world.agree(wish).expect("a key");
    let mut roster = agreed.agreement.roster;
    roster.sort_unstable();
    let mut expected = [1, 2, 3].map(hub_id);
    expected.sort_unstable();
    assert_eq!(roster, expected);
}

#[test]
fn a_hub_that_cannot_reach_a_receiver_is_left_out_of_its_next_keys() {
    let mut world = World::new(11, 3, 3, 2, 4096, true);
    world.pads.remove_table(client_id(1), hub_id(0));
    let burned = |world: &World| world.pads.burned(client_id(0), hub_id(0), Lane::Up).0;
    let wish = |world: &World, k: u8, receiver: usize| {
        let receivers = vec![client_id(receiver)];
        KeyWish { linked: receivers.iter().copied().collect(), receivers, ..world.wish(k, KEY_BYTES) }
    };
    let first = world.agree(wish(&world, 2, 1)).expect("two hubs suffice");
    assert_eq!((first.asked, first.shares), (3, 2), "nobody knew of it");
    let before = burned(&world);
    for _ in 0..3 {
        let agreed = world.agree(wish(&world, 2, 1)).expect("two hubs suffice");
        assert_eq!((agreed.agreement.n(), agreed.asked, agreed.shares), (3, 2, 2));
    }
    assert_eq!(burned(&world), before, "no pad for shares that go nowhere");
    // For another receiver it is as good as before, and where it is needed it is asked.
    assert_eq!(world.agree(wish(&world, 2, 2)).expect("a key").asked, 3);
    let refusals = match world.agree(wish(&world, 3, 1)) {
        Err(SendFailure::TooFewAccepted { refusals, .. }) => refusals,
        other => panic!("{other:?}"),
    };
    assert_eq!(refusals, [(hub_id(0), Refusal::ReceiverTableInactive)]);
    world.now += std::time::Duration::from_secs(61);
    assert_eq!(world.agree(wish(&world, 2, 1)).expect("a key").asked, 3, "it is asked again");
}

#[test]
fn a_hub_with_too_little_pad_for_a_long_key_still_serves_short_ones() {
    let mut world = World::new(22, 3, 2, 2, 4096, true);
    world.pads.use_up(client_id(1), hub_id(0), Lane::Down, 500);
    let long = world.agree(world.wish(2, 1000)).expect("two hubs suffice");
    assert_eq!((long.asked, long.shares), (3, 2));
    // One liar is below the threshold of three hubs, two of which are needed.
    world.hubs[2].1.set_fault(HubFault::FalseShares);
    let short = world.agree(world.wish(2, KEY_BYTES)).expect("a key");
    assert_eq!((short.asked, short.shares), (3, 3));
    assert_same(&world, &short);
    let again = world.agree(world.wish(2, 1000));
    assert!(again.is_err(), "one of the two hubs that have pad for it lies");
}

#[test]
fn a_hub_is_not_left_out_of_the_next_key_where_one_failed_without_it() {
    let mut world = World::new(23, 3, 2, 2, 4096, true);
    let table = world.pads.take_table(client_id(1), hub_id(0));
    let first = world.agree(world.wish(2, KEY_BYTES)).expect("two hubs suffice");
    assert_eq!((first.asked, first.shares), (3, 2));
    world.pads.put_table(table);
    world.hubs[2].1.set_fault(HubFault::FalseShares);
    assert!(world.agree(world.wish(2, KEY_BYTES)).is_err(), "one of the two that are left lies");
    let agreed = world.agree(world.wish(2, KEY_BYTES)).expect("the third bears it");
    assert_eq!((agreed.asked, agreed.shares), (3, 3));
    assert_same(&world, &agreed);
}

#[test]
fn tampering_burns_nothing_at_the_receiver() {
    let mut world = World::new(12, 3, 2, 2, 1024, true);
    world.tamper = Some(|bytes| {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
    });
    let agreed = world.agree(world.wish(2, KEY_BYTES)).expect("the hubs accepted; nobody told otherwise");
    assert!(agreed.confirmed.is_empty());
    assert!(world.pads.keys.is_empty());
    assert!(world.pads.forged_blocks > 0);
    for hub in (0..3).map(hub_id) {
        assert_eq!(world.pads.burned(client_id(1), hub, Lane::Down).1, 0);
    }
}

#[test]
fn the_true_message_counts_when_it_comes_after_a_forged_one() {
    let mut world = World::new(12, 3, 2, 2, 1024, true);
    world.withheld_from = Some(client_id(1));
    let request = world.begin(world.wish(2, KEY_BYTES));
    let messages = world.passed_on.clone();
    assert_eq!(messages.len(), 3);
    for (hub, to, sealed) in &messages {
        for at in [sealed.len() - 1, sealed.len() - 20] {
            let mut forged = sealed.clone();
            forged[at] ^= 1;
            world.hand_over(*hub, *to, forged);
        }
    }
    assert!(world.pads.forged_blocks > 0 && world.pads.keys.is_empty());
    for (hub, to, sealed) in messages {
        world.hand_over(hub, to, sealed);
    }
    let agreed = world.finish(request).expect("a key");
    assert_eq!(agreed.confirmed.len(), 1);
    assert_same(&world, &agreed);
}

#[test]
fn identities_are_established_by_consensus_before_the_first_key() {
    let mut world = World::new(13, 5, 2, 3, 1024, false);
    let known = world.establish(0, Subject::Name(client_name(1))).expect("all hubs agree");
    assert_eq!(known.identity.node, client_id(1));
    assert_eq!(known.known_as.len(), 5);
    // The receiver asks by itself when the first message of an unknown sender arrives.
    let agreed = world.agree(world.wish(3, KEY_BYTES)).expect("a key");
    assert_same(&world, &agreed);
    let unknown = world.establish(0, Subject::Name("nobody".parse().unwrap()));
    assert!(unknown.is_err());
}

#[test]
fn hubs_that_were_away_when_a_client_became_known_are_asked_later() {
    let mut world = World::new(16, 5, 2, 3, 1024, false);
    let mut known = world.establish(0, Subject::Name(client_name(1))).expect("all hubs agree");
    let all = known.known_as.clone();
    known.known_as.truncate(3);
    let late: Vec<_> = all[3..].iter().map(|(hub, _)| *hub).collect();
    world.widen(0, known.clone(), late.clone());
    let widened = world.widened.pop().expect("two more agree");
    assert_eq!((widened.identity, widened.known_as), (known.identity.clone(), all));

    // One hub knows the client by another name, the other not at all: neither is added, and nobody is excluded.
    let (renamed, stranger) = (enrolled(1, client_name(7), 2), enrolled(9, client_name(1), 2));
    for (hub, client) in late.iter().zip([renamed, stranger]) {
        let (id, hub) = world.hubs.iter_mut().find(|(id, _)| id == hub).unwrap();
        *hub = Hub::new(*id, KEY_BYTES_MAX);
        hub.set_client(enrolled(0, client_name(0), 1));
        hub.set_client(client);
    }
    world.widen(0, known, late.clone());
    assert!(world.widened.is_empty() && world.excluded.is_empty());
    assert_eq!(world.contradicted, late[..1]);
}

#[test]
fn a_sender_that_is_established_stays_so_when_another_inquiry_fails() {
    let mut world = World::new(19, 3, 2, 2, 1024, true);
    let (node, now) = (client_id(0), world.now);
    world.clients[1].receiver.handle(now, ReceiverInput::Sender { node, established: false });
    let agreed = world.agree(world.wish(2, KEY_BYTES)).expect("a key");
    assert_same(&world, &agreed);
    assert_eq!(world.clients[1].receiver.counters().refused, 0, "no share of it was refused");
}

#[test]
fn a_client_that_enrols_otherwise_at_some_hubs_gets_none_of_them_excluded() {
    for known_before in [false, true] {
        let mut world = World::new(17, 5, 2, 3, 1024, false);
        let known =
            known_before.then(|| world.establish(0, Subject::Name(client_name(1))).expect("all agree"));
        let odd: Vec<_> = world.hubs[..2].iter().map(|(id, _)| *id).collect();
        for (at, (_, hub)) in world.hubs[..2].iter_mut().enumerate() {
            // By another name, or for other applications: both are signed by the client.
            let mut client = enrolled(1, client_name(if at == 0 { 7 } else { 1 }), 2);
            client.identity.applications.extend((at == 1).then(|| "vpn".to_owned()));
            client.signature = signature(1, &client.identity);
            hub.set_client(client);
        }
        match known {
            None => {
                let known = world.establish(0, Subject::Node(client_id(1))).expect("three hubs agree");
                assert_eq!((known.identity.name, known.known_as.len()), (client_name(1), 3));
            }
            Some(mut known) => {
                known.known_as.retain(|(hub, _)| !odd.contains(hub));
                world.widen(0, known, odd.clone());
            }
        }
        assert_eq!(world.excluded, [], "the client's doing");
        world.contradicted.sort();
        let mut odd = odd;
        odd.sort();
        assert_eq!(world.contradicted, odd, "the operator is told of both");
    }
}

#[test]
fn a_hub_that_claims_what_the_client_has_not_signed_is_excluded() {
    for known_before in [false, true] {
        let mut world = World::new(18, 5, 2, 3, 1024, false);
        let known =
            known_before.then(|| world.establish(0, Subject::Name(client_name(1))).expect("all agree"));
        let liar = world.hubs[0].0;
        let mut client = enrolled(1, client_name(1), 2);
        client.identity.applications.push("vpn".to_owned());
        world.hubs[0].1.set_client(client);
        let subject = Subject::Node(client_id(1));
        match known {
            None => {
                let known = world.establish(0, subject).expect("four hubs agree");
                assert_eq!(known.known_as.len(), 4);
            }
            Some(mut known) => {
                known.known_as.retain(|(hub, _)| *hub != liar);
                world.widen(0, known, vec![liar]);
                assert!(world.widened.is_empty());
            }
        }
        assert_eq!(world.excluded, [(client_id(0), liar)]);
        assert_eq!(world.contradicted, []);
    }
}

#[test]
fn a_hub_that_invents_senders_burns_little_and_keeps_nobody_out() {
    let mut world = World::new(14, 5, 2, 3, 8192, false);
    for invented in 0..60u8 {
        let agreement = Agreement {
            version: PROTOCOL_VERSION,
            nonce: BlockNonce::new([invented; 16]),
            sender: NodeId::new([200 + invented % 50; 32]),
            receivers: vec![client_id(1)],
            purpose: String::new(),
            k: 3,
            key_bytes: 1,
            content: Content::Keys(1),
            roster: (0..5).map(hub_id).collect(),
        };
        world.invent(hub_id(0), client_id(1), agreement);
    }
    let (burned, _) = world.pads.burned(client_id(1), hub_id(3), Lane::Up);
    let inquiries = burned / 32;
    assert!(inquiries <= UNKNOWN_SENDERS_PER_HUB_MAX as u64, "{inquiries} inquiries");
    let agreed = world.agree(world.wish(3, KEY_BYTES)).expect("a real sender is still introduced");
    assert_same(&world, &agreed);
}

#[test]
fn a_receiver_that_goes_away_is_not_waited_for() {
    let mut world = World::new(15, 3, 2, 2, 1024, true);
    let agreed = world.agree_while_unlinking(world.wish(2, KEY_BYTES)).expect("ended at once");
    let agreed = agreed.expect("the hubs have accepted; they deliver when it is back");
    assert_eq!((agreed.shares, agreed.confirmed.len()), (3, 0));
}

#[test]
fn several_hubs_without_pad_are_left_out_one_after_the_other_while_k_are_left() {
    let mut world = World::new(31, 6, 2, 2, 4096, true);
    for hub in 0..3 {
        world.pads.use_up(client_id(0), hub_id(hub), Lane::Up, 10 + hub as u64);
    }
    for _ in 0..5 {
        let agreed = world.agree(world.wish(2, KEY_BYTES)).expect("a key");
        assert_same(&world, &agreed);
        assert_eq!((agreed.asked, agreed.shares, agreed.agreement.n()), (3, 3, 6));
        let mut last: Vec<_> = agreed.agreement.roster[3..].to_vec();
        last.sort();
        let mut expected: Vec<_> = (0..3).map(hub_id).collect();
        expected.sort();
        assert_eq!(last, expected);
    }
    for hub in 0..3 {
        assert_eq!(world.pads.burned(client_id(0), hub_id(hub), Lane::Up).0, 4096 - 10 - hub as u64);
    }
    world.pads.use_up(client_id(0), hub_id(3), Lane::Up, 1);
    world.pads.use_up(client_id(0), hub_id(4), Lane::Up, 1);
    let before = world.pads.burned(client_id(0), hub_id(5), Lane::Up);
    assert!(matches!(world.agree(world.wish(2, KEY_BYTES)), Err(SendFailure::PadLow { .. })));
    assert_eq!(world.pads.burned(client_id(0), hub_id(5), Lane::Up), before);
}

#[test]
fn a_round_leaves_out_hubs_without_pad_while_k_are_left() {
    let mut world = World::new(32, 6, 2, 2, 8192, true);
    let session = world.negotiate(2, 6);
    for hub in 0..3 {
        world.pads.use_up(client_id(0), hub_id(hub), Lane::Up, 10 + hub as u64);
    }
    for _ in 0..3 {
        let agreed = world.round(world.round_wish(session, 96, 3)).expect("a key");
        let block = agreed.agreement.block();
        assert_eq!(world.pads.keys[&(client_id(0), block)], world.pads.keys[&(client_id(1), block)]);
    }
    world.pads.use_up(client_id(0), hub_id(3), Lane::Up, 1);
    world.pads.use_up(client_id(0), hub_id(4), Lane::Up, 1);
    assert!(matches!(world.round(world.round_wish(session, 96, 3)), Err(SendFailure::PadLow { .. })));
    assert_eq!(world.rounds_left(), 2);
}

#[test]
fn a_hub_with_too_little_pad_for_a_long_round_still_serves_short_ones() {
    let mut world = World::new(33, 3, 2, 2, 8192, true);
    let session = world.negotiate(2, 8);
    world.pads.use_up(client_id(1), hub_id(0), Lane::Down, 600);
    let long = world.round(world.round_wish(session, 1002, 3)).expect("a key");
    assert_eq!(long.asked, 3);
    world.hubs[2].1.set_fault(HubFault::FalseShares);
    world.round(world.round_wish(session, 96, 3)).expect("a short key");
}
