//! Whoever has stolen a node's transport key, and none of its pads, keeps nobody out and slows nobody down. Every key here
//! needs all three hubs, so one message that is lost to the thief is noticed.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::net::Ipv4Addr;

use common::{Net, eventually};
use dske_hostile::thief::Thief;
use libp2p::PeerId;

const PROTOCOL: &str = "/dske/3";
const FROM: [Ipv4Addr; 4] = [
    Ipv4Addr::new(127, 0, 0, 2),
    Ipv4Addr::new(127, 0, 0, 3),
    Ipv4Addr::new(127, 0, 0, 4),
    Ipv4Addr::new(127, 0, 0, 5),
];

/// Where a node can be called.
fn callable(net: &Net, node: &str) -> (PeerId, u16) {
    let status = net.status(node);
    let listen = status["node"]["listen"][0].as_str().unwrap().to_owned();
    let port = listen.split('/').nth(4).unwrap().parse().unwrap();
    (status["node"]["peer_id"].as_str().unwrap().parse().unwrap(), port)
}

#[test]
fn a_stolen_transport_key_keeps_its_owner_from_no_hub() {
    let net = Net::up(3, 2, 3, "512KiB");
    net.acquaint("alice", "bob");
    let hubs: Vec<_> = ["p1", "p2", "p3"].map(|hub| callable(&net, hub)).into();
    let key = net.node_dir("bob").join("identity.key");
    net.stop("bob");
    let thief = Thief::begin(&key, &hubs, PROTOCOL, &FROM).unwrap();
    eventually("the thief holds four connections at each hub", || thief.open() == 12);
    net.testnet(&["restart", "bob"]);
    eventually("bob uses all hubs", || net.status("bob")["policy"]["usable"] == 3);
    let heard = thief.heard();
    for _ in 0..5 {
        let sent = net.get_confirmed("alice", "bob", "256");
        assert_eq!(net.fetch("bob", &sent.id).bytes, sent.bytes);
    }
    assert_eq!(thief.heard(), heard, "nothing of it was sent to the thief");
}

#[test]
fn a_stolen_transport_key_of_a_hub_does_not_stand_in_for_it() {
    let net = Net::up(3, 2, 3, "512KiB");
    net.acquaint("alice", "bob");
    let clients = ["alice", "bob"].map(|client| callable(&net, client));
    let key = net.node_dir("p1").join("identity.key");
    net.stop("p1");
    let thief = Thief::begin(&key, &clients, PROTOCOL, &FROM).unwrap();
    eventually("the thief holds connections at both clients", || thief.open() >= 4);
    net.testnet(&["restart", "p1"]);
    for client in ["alice", "bob"] {
        eventually("the client uses the true hub", || net.status(client)["policy"]["usable"] == 3);
    }
    for _ in 0..5 {
        let sent = net.get("alice", "bob", "256");
        assert_eq!(net.fetch("bob", &sent.id).bytes, sent.bytes);
    }
}
