//! Groups: a receiver in league with hubs gives no other receiver another key (§1, §4.2; `docs/PROTOCOL.md`, 6).

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod world;

use dske_protocol::{
    coefficients::Coefficients,
    field::Gf256,
    ids::NodeId,
    message::{KeyInstruction, NoticeOutcome, Unverified, seal},
    pad::{TAG_KEY_BYTES, TagKey},
    params::disruption_threshold,
    sharing::Scheme,
    tag::KeyTag,
};
use world::{World, client_id, hub_id};

const KEY_BYTES: u32 = 32;
const MEMBER: usize = 1;
const VICTIM: usize = 2;

/// A hub's message to a receiver, its share under no pad, as hub and receiver see it.
fn opened(world: &World, sealed: &[u8]) -> KeyInstruction {
    let message = Unverified::<KeyInstruction>::decode(sealed.to_vec()).unwrap();
    let mut body = message.unverified().clone();
    let run = world.run_bytes(&body.range);
    body.share.0.iter_mut().zip(run).for_each(|(byte, pad)| *byte ^= pad);
    body
}

/// What a hub makes of such a message again.
fn closed(world: &World, mut body: KeyInstruction) -> Vec<u8> {
    let run = world.run_bytes(&body.range);
    body.share.0.iter_mut().zip(&run).for_each(|(byte, pad)| *byte ^= pad);
    let key = run[run.len() - TAG_KEY_BYTES..].try_into().unwrap();
    seal(&body, TagKey::new(key)).unwrap()
}

fn xor(one: &[u8], other: &[u8]) -> Vec<u8> {
    one.iter().zip(other).map(|(one, other)| one ^ other).collect()
}

/// All hubs' messages to a client.
fn messages_to(world: &World, client: usize) -> Vec<(NodeId, Vec<u8>)> {
    let to = |(_, receiver, _): &&(NodeId, NodeId, Vec<u8>)| *receiver == client_id(client);
    world.passed_on.iter().filter(to).map(|(hub, _, bytes)| (*hub, bytes.clone())).collect()
}

/// What the member of the group knows in the end: its own u and the key.
fn secret_of_the_member(world: &World, n: u8, k: u8) -> Vec<u8> {
    let mut shares: Vec<(u8, Vec<u8>)> = messages_to(world, MEMBER)
        .iter()
        .map(|(hub, bytes)| {
            let body = opened(world, bytes);
            (body.agreement.position(hub).unwrap(), body.share.0)
        })
        .collect();
    shares.sort_unstable();
    shares.truncate(k.into());
    let basis: Vec<u8> = shares.iter().map(|(position, _)| *position).collect();
    let given: Vec<&[u8]> = shares.iter().map(|(_, share)| share.as_slice()).collect();
    let mut secret = vec![0; given[0].len()];
    Scheme::new(n, k).unwrap().reconstruct_onto(&basis, &given, &mut secret).unwrap();
    secret
}

/// What the member and the hubs have the victim's secret shifted by: the key is another one, and under the member's
/// own u that one would have the same tag.
fn offset(secret: &[u8], context: &[u8]) -> Vec<u8> {
    let (u, key) = secret.split_first_chunk().unwrap();
    let mut other = key.to_vec();
    other.iter_mut().for_each(|byte| *byte ^= 0xa5);
    let tag = |key: &[u8]| *KeyTag::of(u, context, key).tag.as_bytes();
    [vec![0; 16], xor(&tag(key), &tag(&other)), vec![0; 8], xor(key, &other)].concat()
}

/// Hub 0 and the member want the victim to take another key than the sender's; `bad` hubs in all are in league. Hub 0
/// is heard first, and moves its share so that with the first honest ones it gives the shifted secret; the others of the
/// league send anything, last.
fn attack(seed: u64, n: u8, k: u8, bad: u8) {
    let case = format!("({n},{k}) with {bad} hubs in league, seed {seed}");
    let mut world = World::new(seed, n.into(), 3, k, 256, true);
    world.withheld_from = Some(client_id(VICTIM));
    let request = world.begin(world.wish(k, KEY_BYTES));
    let secret = secret_of_the_member(&world, n, k);

    let is_bad = |hub: &NodeId| (0..usize::from(bad)).any(|at| hub_id(at) == *hub);
    let mut messages = messages_to(&world, VICTIM);
    // Hub 0, then honest hubs, then the other bad ones.
    messages.sort_by_key(|(hub, _)| if *hub == hub_id(0) { 0 } else { 1 + u8::from(is_bad(hub)) });
    let first = opened(&world, &messages[0].1);
    let agreement = first.agreement.clone();
    let basis: Vec<u8> =
        messages[..k.into()].iter().map(|(hub, _)| agreement.position(hub).unwrap()).collect();
    let factor = Coefficients::<Gf256>::new(k).secret_row(&basis).next().unwrap();
    let offset = offset(&secret, &agreement.context().unwrap());
    let error: Vec<u8> = offset.iter().map(|&byte| Gf256(byte).div(factor).0).collect();
    for (hub, sealed) in &mut messages {
        let mut body = opened(&world, sealed);
        if *hub == hub_id(0) {
            body.share.0 = xor(&body.share.0, &error);
        } else if is_bad(hub) {
            let lie = hub.as_bytes().iter().cycle();
            body.share.0.iter_mut().zip(lie).for_each(|(byte, lie)| *byte ^= lie | 1);
        }
        *sealed = closed(&world, body);
    }
    for (hub, sealed) in messages {
        world.hand_over(hub, client_id(VICTIM), sealed);
    }

    let agreed = world.finish(request).unwrap_or_else(|why| panic!("{case}: {why}"));
    let key = &agreed.key.as_ref().unwrap().0;
    let held = world.pads.keys.get(&(client_id(VICTIM), agreed.agreement.block()));
    assert!(held.is_some_and(|held| *held == ***key), "{case}: the victim does not hold the sender's key");
    let NoticeOutcome::Validated { false_positions, .. } = world.verdict(VICTIM) else {
        panic!("{case}: {:?}", world.verdict(VICTIM))
    };
    let mut named: Vec<NodeId> =
        false_positions.iter().map(|&at| agreement.roster[usize::from(at)]).collect();
    let mut liars: Vec<NodeId> = (0..usize::from(bad)).map(hub_id).collect();
    named.sort_unstable();
    liars.sort_unstable();
    assert_eq!(named, liars, "{case}: who is named");
}

#[test]
fn a_member_and_hubs_in_league_give_no_other_member_a_wrong_key() {
    for (n, k) in [(3, 2), (5, 3), (7, 4), (9, 5), (9, 3), (20, 10)] {
        for bad in 1..disruption_threshold(n, k, k) {
            for seed in 0..if bad == 1 { 100 } else { 4 } {
                attack(seed, n, k, bad);
            }
        }
    }
}
