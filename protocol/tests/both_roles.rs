//! Nodes that are hub and client for each other: a consortium.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod world;

use std::{collections::BTreeSet, time::Duration};

use dske_protocol::{
    hub::Hub,
    ids::{Lane, NodeId},
    message::Content,
    params::{AcceptancePolicy, KEY_BYTES_MAX, Time, Validate, burned_bytes},
    quota::{Account, DefaultQuota, Quota, Quotas, Spending},
    receiver::Receiver,
    refusal::SendFailure,
    room::OutboxLimits,
    sender::{HubChoice, KeyWish, serving},
};

use world::{DEADLINE, World, client_id, client_name, enrolled};

const KEY_BYTES: u32 = 32;

/// A wish of one node of a consortium for a key with another: over all hubs that can serve it.
fn wish(world: &World, from: usize, to: usize) -> KeyWish {
    let nodes: BTreeSet<NodeId> = world.clients.iter().map(|client| client.id).collect();
    let served_by = |receiver: &NodeId| nodes.iter().copied().filter(|node| node != receiver).collect();
    let by: BTreeSet<NodeId> = served_by(&client_id(to));
    let hubs = serving(&client_id(from), nodes.clone(), &[client_id(to)], |_| Some(&by));
    KeyWish {
        receivers: vec![client_id(to)],
        key_bytes: KEY_BYTES,
        content: Content::Keys(1),
        keep: false,
        confirm: false,
        purpose: "consortium".into(),
        k: 2,
        n: 0,
        hubs: hubs.into_iter().map(|node| HubChoice { node, reachable: true, left: u64::MAX }).collect(),
        linked: BTreeSet::from([client_id(to)]),
        deadline: world.now + DEADLINE,
        notice_deadline: world.now + DEADLINE + DEADLINE,
    }
}

#[test]
fn four_nodes_that_are_hub_and_client_for_each_other_agree_keys_in_all_directions_at_once() {
    let mut world = World::consortium(1, 4, 2, 8192);
    let pairs: Vec<(usize, usize)> =
        (0..4).flat_map(|from| (0..4).map(move |to| (from, to))).filter(|(from, to)| from != to).collect();
    let begun: Vec<_> = pairs
        .iter()
        .map(|&(from, to)| {
            let wish = wish(&world, from, to);
            assert_eq!(wish.hubs.len(), 2, "neither its sender nor its receiver is a hub of a key");
            world.begin_at(from, wish)
        })
        .collect();
    for (id, &(from, to)) in begun.into_iter().zip(&pairs) {
        let agreed = world.finish(id).unwrap_or_else(|error| panic!("{from} to {to}: {error}"));
        let block = agreed.agreement.block();
        let key = agreed.key.expect("handed out at once");
        assert_eq!(world.pads.keys[&(client_id(to), block)], *key.0, "{from} to {to}");
        assert_eq!(agreed.confirmed, [client_id(to)]);
    }
    // Each node sent three keys and received three, each over two of its three hubs; and it asked each hub about the two
    // others that the hub knows, and was asked so.
    let (key, asked) = (burned_bytes(u64::from(KEY_BYTES), 1), 2 * 32);
    for (client, hub) in pairs {
        for lane in [Lane::Up, Lane::Down] {
            let burned = world.pads.burned(client_id(client), client_id(hub), lane);
            assert_eq!(burned, (2 * key + asked, 2 * key + asked), "{client} with hub {hub}, {lane}");
        }
    }
}

#[test]
fn a_key_over_its_own_sender_or_receiver_is_not_begun() {
    let mut world = World::consortium(2, 4, 2, 8192);
    for itself in [0, 1] {
        let mut wish = wish(&world, 0, 1);
        wish.hubs.push(HubChoice { node: client_id(itself), reachable: true, left: u64::MAX });
        let begun = world.begin_at(0, wish);
        assert!(matches!(world.finish(begun), Err(SendFailure::Parameters(_))), "over {itself}");
        let burned = (1..4).map(|hub| world.pads.burned(client_id(0), client_id(hub), Lane::Up));
        assert!(burned.into_iter().all(|burned| burned == (0, 0)), "nothing is burned for it");
    }
}

#[test]
fn what_a_hub_says_of_itself_does_not_count() {
    // Three nodes: with node 0 asking about node 2 there is node 1 to say who it is, and node 2 itself, which lies: its hub
    // claims its own client. That makes one voice, and two are needed.
    let mut world = World::consortium(3, 3, 2, 8192);
    world.hubs[2].1.set_client(enrolled(2, client_name(2), 99));
    world.ask_by_name(0, client_name(2));
    assert!(world.decided(0).is_err(), "one hub and the node itself are no two hubs");
    // With another hub it is established, and the node itself is none of those that serve it.
    let mut world = World::consortium(3, 4, 2, 8192);
    world.hubs[2].1.set_client(enrolled(2, client_name(2), 99));
    world.ask_by_name(0, client_name(2));
    let established = world.decided(0).expect("two hubs agree");
    let hubs: BTreeSet<NodeId> = established.known_as.iter().map(|(hub, _)| *hub).collect();
    assert_eq!(hubs, BTreeSet::from([client_id(1), client_id(3)]));
    assert!(world.excluded.is_empty());
}

#[test]
fn each_role_takes_up_its_own_accounts_and_none_of_the_others() {
    let (me, sender, other) = (client_id(0), client_id(1), client_id(2));
    let quota = Quota::new(1000, Duration::from_secs(100)).unwrap();
    let quotas = Quotas { default: DefaultQuota::Quota(quota), identity: Some(quota), ..Quotas::default() };
    let policy = AcceptancePolicy {
        k_min: 2,
        hubs: BTreeSet::from([sender, other]),
        key_bytes_max: KEY_BYTES_MAX,
        deadline: DEADLINE,
        validate: Validate::First,
    };
    let mut hub = Hub::new(me, KEY_BYTES_MAX);
    hub.set_limits(quotas.clone(), OutboxLimits::NONE);
    let mut receiver = Receiver::new(me, policy, [sender]);
    receiver.set_quotas(quotas);
    // The ledger of a node with both roles holds the accounts of both.
    let of_hub = [Account::Pair { sender, receiver: other }, Account::Identity { client: sender }];
    let of_client = [Account::Lane { sender, hub: other }, Account::Introduction { hub: other }];
    for account in of_hub.into_iter().chain(of_client) {
        let spending = Spending { account, full_at: Duration::from_secs(50), quota };
        hub.restore(Time::ZERO, spending);
        receiver.restore(Time::ZERO, spending);
    }
    let accounts = |uses: Vec<dske_protocol::quota::Use>| -> BTreeSet<Account> {
        uses.into_iter().map(|used| used.account).collect()
    };
    assert_eq!(accounts(hub.uses(Time::ZERO)), BTreeSet::from(of_hub));
    assert_eq!(accounts(receiver.uses(Time::ZERO)), BTreeSet::from(of_client));
}
