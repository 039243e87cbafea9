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
    ids::{BlockId, Lane, NodeId},
    message::{Agreement, Content, NoticeOutcome},
    params::{PROTOCOL_VERSION, disruption_threshold},
    refusal::SendFailure,
};

use self::world::{World, client_id, hub_id};

const BLOCK_BYTES: u32 = 96;

fn keys(world: &World, block: BlockId) -> [Option<Vec<u8>>; 2] {
    [0, 1].map(|at| world.pads.keys.get(&(client_id(at), block)).cloned())
}

/// One round; both sides hold the same key of the right length.
fn agree(world: &mut World, session: BlockId) -> Vec<u8> {
    let wish = world.round_wish(session, BLOCK_BYTES, 3);
    let agreed = world.round(wish).expect("a key");
    assert!(agreed.key.is_none(), "it is kept");
    let [ours, theirs] = keys(world, agreed.agreement.block);
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
    assert_eq!(burned, 4 * (u64::from(BLOCK_BYTES) + 64), "m + 2l bits each");
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
        block: BlockId::new([9; 16]),
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
            block: BlockId::new([9; 16]),
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
