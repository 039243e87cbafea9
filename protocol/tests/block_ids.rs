//! A client that hears of another's agreement, from a hub of its roster, begins one of its own with the same nonce, and so
//! under the same id where that were not bound to the sender.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod world;

use std::collections::BTreeSet;

use dske_protocol::{
    hub::RequestId,
    ids::{BlockId, NodeId},
    message::NoticeOutcome,
    sender::KeyWish,
};
use world::{World, client_id};

/// Hub, receiver, sealed message.
type PassedOn = (NodeId, NodeId, Vec<u8>);

/// Client 0 has begun a key with client 1, and all hubs have their parts; nothing has reached the receiver yet. Then
/// client 2 begins one with each of `with` and the same nonce.
fn copied(with: &[usize]) -> (World, RequestId) {
    let mut world = World::new(1, 5, 3, 3, 64 << 10, true);
    world.withheld_from = Some(client_id(1));
    let receiver = client_id(1);
    let wish = KeyWish { receivers: vec![receiver], linked: [receiver].into(), ..world.wish(3, 32) };
    let begun = world.begin_drawing(0, wish, 7);
    for to in with {
        world.withheld_from = Some(client_id(1)).filter(|_| *to != 1);
        let receivers = vec![client_id(*to)];
        let wish = KeyWish { receivers, linked: BTreeSet::new(), ..world.wish(3, 32) };
        world.begin_drawing(2, wish, 7);
    }
    world.withheld_from = None;
    (world, begun)
}

/// Whether a client has said of a block, last, that it holds its key.
fn is_validated(world: &World, client: usize, block: BlockId) -> bool {
    let said = world.notices.iter().rev();
    let mut of_block = said.filter(|(from, notice)| *from == client_id(client) && notice.block == block);
    of_block.next().is_some_and(|(_, last)| matches!(last.outcome, NoticeOutcome::Validated { .. }))
}

#[test]
fn the_id_of_a_block_that_is_under_way_is_not_taken_from_its_sender() {
    let (mut world, begun) = copied(&[0]);
    let late: Vec<_> = world.passed_on.iter().filter(|(_, to, _)| *to == client_id(1)).cloned().collect();
    assert_eq!(late.len(), 5);
    late.into_iter().for_each(|(hub, to, bytes)| world.hand_over(hub, to, bytes));
    let agreed = world.finish(begun).expect("a key");
    assert_eq!(agreed.confirmed, [client_id(1)]);
    let block = agreed.agreement.block();
    assert!(is_validated(&world, 1, block));
    let mut of_block = world.notices.iter().filter(|(_, notice)| notice.block == block);
    assert!(of_block.all(|(from, _)| *from == client_id(1)), "nothing was collected at the sender");
}

/// What the hubs pass on to client 1 of a key that client 0 agrees with it, and of one that client 2 begins later with the same
/// nonce. The receiver is away meanwhile.
fn two_of_one_id() -> (World, RequestId, [Vec<PassedOn>; 2]) {
    let mut world = World::new(1, 5, 3, 3, 64 << 10, true);
    let receiver = client_id(1);
    world.withheld_from = Some(receiver);
    let wish = KeyWish { receivers: vec![receiver], linked: BTreeSet::new(), ..world.wish(3, 32) };
    let begun = world.begin_drawing(0, wish.clone(), 7);
    let ours = world.passed_on.clone();
    world.begin_drawing(2, KeyWish { keep: true, ..wish }, 7);
    let theirs = world.passed_on[ours.len()..].to_vec();
    world.withheld_from = None;
    assert_eq!((ours.len(), theirs.len()), (5, 5));
    (world, begun, [ours, theirs])
}

#[test]
fn two_ends_hold_no_different_keys_under_one_id() {
    let (mut world, begun, [ours, theirs]) = two_of_one_id();
    let agreed = world.finish(begun).expect("the sender's key, which is not confirmed yet");
    // The receiver comes back. Of two senders either may have its turn first.
    for (hub, to, bytes) in theirs.into_iter().chain(ours) {
        world.hand_over(hub, to, bytes);
    }
    let agreement = &agreed.agreement;
    let (block, other) = (agreement.block(), agreement.nonce.block(&client_id(2)));
    assert!(is_validated(&world, 1, block));
    let made = world.pads.keys.get(&(client_id(2), other));
    assert!(made.is_some(), "what client 2 knows");
    let (theirs, ours) = (world.pads.keys.get(&(client_id(1), block)), agreed.key.unwrap());
    assert_eq!(
        theirs.map(Vec::as_slice),
        Some(ours.0.as_slice()),
        "what the receiver hands out under that id"
    );
    assert_eq!(world.pads.keys.get(&(client_id(1), other)), made, "and under the id of the other");
}

#[test]
fn the_id_of_a_block_is_not_taken_from_its_receiver() {
    let (mut world, begun, [ours, theirs]) = two_of_one_id();
    // Two hubs are quick; one has told the nonce, and is silent to the receiver. The two that are slow to hear of the
    // sender pass on the other agreement first.
    for (hub, to, bytes) in ours[..2].iter().chain(&theirs[3..]).chain(&ours[3..]).cloned() {
        world.hand_over(hub, to, bytes);
    }
    let agreed = world.finish(begun).expect("four of five hubs are honest");
    world.now += world::DEADLINE;
    world.tick();
    assert!(is_validated(&world, 1, agreed.agreement.block()), "and have passed it on");
}
