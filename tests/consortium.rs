//! Nodes that are hub and client for each other: keys in all directions at once, pads that are counted for each role, and
//! what is left when one of them goes.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::{collections::BTreeSet, process::Stdio, thread};

use common::{Net, error, eventually};
use serde_json::Value;

/// A 256-bit key burns m + 2l + 64 bits per hub and side.
const COST: u64 = 104;

/// Bytes burned for keys at the tables of one side, peer by peer, of the lanes up and down.
fn burned(status: &Value, side: &str) -> Vec<(String, [u64; 2])> {
    let tables = status["tables"].as_array().unwrap().iter().filter(|table| table["side"] == side);
    let lane = |table: &Value, at: usize| table["lanes"][at]["used_key"].as_u64().unwrap();
    let mut burned: Vec<_> = tables
        .map(|table| (table["peer_name"].as_str().unwrap().to_owned(), [lane(table, 0), lane(table, 1)]))
        .collect();
    burned.sort();
    burned
}

#[test]
fn four_nodes_that_are_hub_and_client_for_each_other_agree_keys_in_all_directions_at_once() {
    let net = Net::of_peers(4, "512KiB");
    let names = ["alice", "bob", "carol", "dave"];
    assert_eq!(net.nodes(), names);
    for name in names {
        // A key of it has two hubs, whoever is at the other end.
        let policy = &net.status(name)["policy"];
        assert_eq!(
            (&policy["n"], &policy["k"], &policy["usable"]),
            (&2.into(), &2.into(), &2.into()),
            "{name}"
        );
        assert_eq!(policy["disruption"], 1, "no hub of a key may be missing");
    }
    let pairs: Vec<(&str, &str)> = names
        .iter()
        .flat_map(|from| names.iter().map(move |with| (*from, *with)))
        .filter(|(a, b)| a != b)
        .collect();
    thread::scope(|scope| {
        for &(from, with) in &pairs {
            let net = &net;
            scope.spawn(move || {
                let sent = net.get(from, with, "256");
                let received = net.fetch(with, &sent.id);
                assert!(sent.bytes.len() == 32 && sent.bytes == received.bytes, "{from} to {with}");
                assert_eq!((&sent.report["n"], &sent.report["k"]), (&2.into(), &2.into()));
                assert!(sent.report["liars"].as_array().is_none_or(Vec::is_empty));
            });
        }
    });
    // Each node has sent three keys, each over two of its three hubs, and received as many; and as a hub it has passed on
    // the same number of shares. Its two roles are counted apart.
    for name in names {
        let status = net.status(name);
        for side in ["client", "hub"] {
            let burned = burned(&status, side);
            let others: Vec<&str> = names.into_iter().filter(|other| *other != name).collect();
            assert_eq!(burned.iter().map(|(peer, _)| peer.as_str()).collect::<Vec<_>>(), others);
            for (peer, lanes) in burned {
                assert_eq!(lanes, [2 * COST; 2], "{name} as {side} with {peer}");
            }
        }
        assert_eq!(status["counters"]["forwarded"], 6);
        let peers = status["peers"].as_array().unwrap();
        let roles: BTreeSet<(&str, &str)> = peers
            .iter()
            .map(|peer| (peer["name"].as_str().unwrap(), peer["role"].as_str().unwrap()))
            .collect();
        assert_eq!(roles.len(), 6, "each peer in each role: {roles:?}");
        assert_eq!(status["pads"].as_array().unwrap().len(), 12, "three peers, two roles, two lanes");
    }
    // With one of the four gone the other three have one hub for each key, and that is fewer than k.
    net.testnet(&["kill", "dave"]);
    eventually("alice knows that no key can be agreed", || net.status("alice")["policy"]["usable"] == 1);
    let failed = net.try_get("alice", "bob", &["--timeout", "5s"]).map(|_| ()).unwrap_err();
    assert_eq!(failed.status.code(), Some(4), "{}", error(&failed));
    // And back again.
    net.testnet(&["restart", "dave"]);
    eventually("alice can use all of them again", || net.status("alice")["policy"]["usable"] == 2);
    let sent = net.get("alice", "bob", "256");
    assert_eq!(net.fetch("bob", &sent.id).bytes, sent.bytes);
}

#[test]
fn a_node_with_both_roles_runs_in_the_one_that_it_is_told() {
    let net = Net::of_peers(4, "256KiB");
    net.stop("bob");
    let dir = net.node_dir("bob");
    let mut bob = net.dske(&["--dir"]);
    bob.arg(&dir).args(["run", "--role", "hub"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut bob = bob.spawn().unwrap();
    let running =
        |net: &Net| net.dske(&["--dir", dir.to_str().unwrap(), "status", "--json"]).output().unwrap();
    eventually("bob answers", || running(&net).status.success());
    let status: Value = serde_json::from_slice(&running(&net).stdout).unwrap();
    assert_eq!(status["node"]["roles"], serde_json::json!(["hub"]));
    assert_eq!(status["policy"], Value::Null, "it is no client now");
    // It serves the others, and asks for nothing itself.
    for client in ["alice", "carol"] {
        eventually("the client uses it", || net.status(client)["policy"]["usable"] == 2);
    }
    let sent = net.get("alice", "carol", "256");
    assert_eq!(net.fetch("carol", &sent.id).bytes, sent.bytes);
    let refused = net.at("bob", &["key", "get", "--with", "alice", "--reveal"]).output().unwrap();
    assert!(error(&refused).contains("dske::node::role"), "{}", error(&refused));
    bob.kill().unwrap();
    bob.wait().unwrap();
}

#[test]
fn a_node_does_not_enrol_with_itself() {
    let net = Net::empty();
    let at = |arguments: &[&str]| {
        let output = net.dske(&["--dir", "alice"]).args(arguments).output().unwrap();
        (output.status.code(), error(&output))
    };
    assert_eq!(at(&["init", "--role", "hub,client", "--name", "alice"]).0, Some(0));
    assert_eq!(at(&["enrol", "request", "-o", "alice.enrol"]).0, Some(0));
    let (code, said) = at(&["enrol", "accept", "alice.enrol"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("dske::enrol::self") && said.contains("no hub of its own"), "{said}");
    // A node that is a client alone says that it is no hub.
    let bob = net.dske(&["--dir", "bob", "init", "--role", "client", "--name", "bob"]).output().unwrap();
    assert!(bob.status.success());
    let refused = net.dske(&["--dir", "bob", "enrol", "accept", "alice.enrol"]).output().unwrap();
    assert!(error(&refused).contains("not a hub"), "{}", error(&refused));
}
