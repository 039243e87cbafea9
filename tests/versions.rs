//! Nodes of different versions of the protocol exchange nothing: no pad is burned between them, and the node of this
//! version says which versions the other speaks and what to do. The other one is a swarm with a real node's identity
//! and address that speaks one other version alone.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::{Net, error, eventually};
use dske_hostile::other_version::OtherVersion;
use serde_json::Value;

const OLD: &str = "/dske/2";
const WORDS: &str = "speaks version 2 of the protocol between nodes, this node version 3";
const HELP: &str = "update dske on the other node";

/// Where a node listens, and who it is.
fn place(status: &Value) -> (String, String) {
    let node = &status["node"];
    (node["peer_id"].as_str().unwrap().to_owned(), node["listen"][0].as_str().unwrap().to_owned())
}

/// All that is used or skipped of a node's lanes with a peer.
fn spent(status: &Value, peer: &str) -> Vec<(String, u64)> {
    let tables = status["tables"].as_array().unwrap().iter();
    let lanes = tables
        .filter(|table| table["peer_name"] == peer)
        .flat_map(|table| table["lanes"].as_array().unwrap());
    let count = |lane: &Value, what: &str| (format!("{} {what}", lane["lane"]), lane[what].as_u64().unwrap());
    lanes
        .flat_map(|lane| ["used_key", "used_identity", "used_sync", "skipped"].map(|what| count(lane, what)))
        .collect()
}

/// What a node says of the versions of a peer.
fn said_of(status: &Value, peer: &str) -> String {
    let mut peers = status["peers"].as_array().unwrap().iter();
    let peer = peers.find(|entry| entry["name"] == peer).unwrap();
    peer["incompatible"].as_str().unwrap_or_default().to_owned()
}

fn events(status: &Value) -> String {
    status["events"].to_string()
}

/// Puts a node of another version in the place of a node, which ends; `then` comes between. It calls these others.
fn replace(net: &Net, node: &str, others: &[&str], then: impl FnOnce()) -> OtherVersion {
    let (_, listen) = place(&net.status(node));
    net.stop(node);
    then();
    let call: Vec<_> = others
        .iter()
        .map(|other| {
            let (peer, address) = place(&net.status(other));
            (peer.parse().unwrap(), address)
        })
        .collect();
    OtherVersion::run(&net.node_dir(node), OLD, &listen, &call).unwrap()
}

#[test]
fn a_hub_of_another_version_is_named_and_no_pad_is_burned() {
    let net = Net::up(3, 2, 2, "2MiB");
    net.acquaint("alice", "bob");
    let old = replace(&net, "p1", &["alice"], || {});
    eventually("alice says what p1 speaks", || said_of(&net.status("alice"), "p1").contains(WORDS));
    let before = spent(&net.status("alice"), "p1");
    assert!(before.iter().any(|(_, bytes)| *bytes > 0), "{before:?}");

    // The others serve, and what p1 has of alice's pads is as it was.
    let sent = net.get("alice", "bob", "256");
    assert_eq!(net.fetch("bob", &sent.id).bytes, sent.bytes);
    assert_eq!(sent.report["burned_hubs"], 2);
    eventually("the other version has tried, and was refused", || old.refused() > 2);
    let alice = net.status("alice");
    assert_eq!(spent(&alice, "p1"), before);
    assert_eq!((old.heard(), old.answered()), (0, 0));

    let said = said_of(&alice, "p1");
    assert!(said.contains(WORDS) && said.ends_with(HELP), "{said}");
    assert!(events(&alice).contains(WORDS), "{}", events(&alice));
    assert!(net.log("alice").contains(WORDS), "the log");
    for command in [&["status"][..], &["doctor"]] {
        let output = net.at("alice", command).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let words: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(&format!("p1 {WORDS}")), "{command:?}: {text}");
    }

    // With one hub left there is no key, and the failure says why.
    net.stop("p2");
    let failure = net.try_get("alice", "bob", &["--timeout", "3s"]).err().expect("one hub is too few");
    let told: String = error(&failure).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains("p1 speaks version 2") && told.contains(HELP), "{told}");
}

#[test]
fn a_client_of_another_version_is_named_and_no_pad_is_burned() {
    let net = Net::up(3, 2, 2, "2MiB");
    net.acquaint("alice", "bob");
    let hubs = ["p1", "p2", "p3"];
    // A hub that has compared its marks with a client since its own start would store messages for it.
    let restarted = || hubs.iter().for_each(|hub| net.testnet(&["restart", hub]));
    let old = replace(&net, "bob", &["p1", "p2", "p3", "alice"], restarted);
    for hub in hubs {
        eventually("the hub says what bob speaks", || said_of(&net.status(hub), "bob").contains(WORDS));
        let status = net.status(hub);
        assert!(events(&status).contains(WORDS) && net.log(hub).contains(WORDS));
    }
    eventually("alice has heard it, too", || events(&net.status("alice")).contains(WORDS));
    let before = hubs.map(|hub| spent(&net.status(hub), "bob"));
    let failure = net.try_get("alice", "bob", &["--timeout", "5s"]).err().expect("bob gets nothing");
    let told: String = error(&failure).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains("bob speaks version 2") && told.contains(HELP), "{told}");
    eventually("the other version has tried, and was refused", || old.refused() > 8);
    assert_eq!(hubs.map(|hub| spent(&net.status(hub), "bob")), before, "bob's pads");
    assert_eq!((old.heard(), old.answered()), (0, 0));
}
