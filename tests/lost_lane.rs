//! A lane of one of several tables is gone, cut short or without a header: the node starts, the other tables serve, the
//! damage is named with its file and what to do, and the table can be retired, whether the node runs or not.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::{fs, path::PathBuf};

use common::{Net, error, eventually, ledgers::assert_no_byte_serves_twice};
use serde_json::Value;

fn table(net: &Net, node: &str, peer: &str) -> Value {
    let status = net.status(node);
    let tables = status["tables"].as_array().unwrap().clone();
    tables.into_iter().find(|table| table["peer_name"] == peer).unwrap()
}

fn lane(net: &Net, node: &str, table: &Value, lane: &str) -> PathBuf {
    let dir = net.node_dir(node).join("store/lanes");
    // Ids of tables are lists of numbers in JSON, and directories are named by their digits.
    let id = match &table["table"] {
        Value::String(id) => id.clone(),
        id => id.as_array().unwrap().iter().map(|byte| format!("{:02x}", byte.as_u64().unwrap())).collect(),
    };
    dir.join(id).join(lane)
}

fn said(net: &Net, node: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let output = net.at(node, arguments).env("COLUMNS", "4000").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn both_ways(net: &Net, hubs: u8) {
    for (from, with) in [("alice", "bob"), ("bob", "alice")] {
        eventually("a key is agreed through the other hubs", || {
            let Ok(sent) = net.try_get(from, with, &["--bits", "256"]) else { return false };
            let held = net.try_fetch(with, &sent.id, Some("10s"));
            held.is_ok_and(|held| {
                assert_eq!(held.bytes, sent.bytes, "the sides hold different keys");
                held.report["shares"] == hubs
            })
        });
    }
}

/// All that an operator looks at names the damage, and nothing else fails.
fn assert_named(net: &Net, node: &str, peer: &str, path: &std::path::Path) {
    let path = path.display().to_string();
    let state = table(net, node, peer)["state"].to_string();
    assert!(state.contains("quarantined") && state.contains(&path), "{state}");
    let advice = "check it, retire this table and install a new module";
    let (_, status) = said(net, node, &["status"]);
    let (exit, check) = said(net, node, &["status", "--check"]);
    let (_, doctor) = said(net, node, &["doctor"]);
    let log = net.log(node);
    for (what, text) in [("status", &status), ("check", &check), ("doctor", &doctor), ("log", &log)] {
        let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(&path) && text.contains(advice), "{what}: {text}");
    }
    assert_eq!(exit, Some(2), "{check}");
}

fn assert_hub_is_named(net: &Net, node: &str, peer: &str) {
    eventually("the hub is connected, and why it is not used is said", || {
        let (_, check) = said(net, node, &["status", "--check"]);
        let (_, doctor) = said(net, node, &["doctor"]);
        check.contains(&format!("{peer}: its table is quarantined"))
            && doctor.contains(&format!("{peer} is connected, but its table is quarantined"))
    });
}

fn retire(net: &Net, node: &str, table: &Value) {
    let serial = table["serial"].as_str().unwrap();
    let output = net.at(node, &["pskm", "retire", serial, "--yes"]).output().unwrap();
    assert!(output.status.success(), "{}", error(&output));
}

#[test]
fn a_lost_lane_costs_its_table_and_nothing_else() {
    let net = Net::up(5, 2, 2, "2MiB");
    both_ways(&net, 5);

    // A client's lane is gone; its table is retired while the node runs.
    let lost = table(&net, "alice", "p1");
    let path = lane(&net, "alice", &lost, "up.lane");
    net.testnet(&["kill", "alice"]);
    fs::remove_file(&path).unwrap();
    net.testnet(&["restart", "alice"]);
    both_ways(&net, 4);
    assert_named(&net, "alice", "p1", &path);
    assert_hub_is_named(&net, "alice", "p1");
    retire(&net, "alice", &lost);
    assert_eq!(table(&net, "alice", "p1")["state"], "retired");
    assert!(!path.parent().unwrap().exists(), "nothing of it is left");

    // One of a hub has lost its end; its table is retired while the hub does not run.
    let lost = table(&net, "p2", "alice");
    let path = lane(&net, "p2", &lost, "up.lane");
    net.testnet(&["kill", "p2"]);
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100_000).unwrap();
    net.testnet(&["restart", "p2"]);
    both_ways(&net, 3);
    assert_named(&net, "p2", "alice", &path);
    net.stop("p2");
    retire(&net, "p2", &lost);
    net.testnet(&["restart", "p2"]);
    assert_eq!(table(&net, "p2", "alice")["state"], "retired");
    assert_eq!(table(&net, "p2", "bob")["state"], "active");

    // Both slots of a header are damaged: that is no older copy, and the key that waits stays.
    let waits = net.get("alice", "bob", "256");
    eventually("it is there", || said(&net, "bob", &["key", "ls", "--json"]).1.contains(&waits.id));
    let lost = table(&net, "bob", "p3");
    let path = lane(&net, "bob", &lost, "down.lane");
    net.testnet(&["kill", "bob"]);
    let mut bytes = fs::read(&path).unwrap();
    bytes[10] ^= 4;
    bytes[4106] ^= 4;
    fs::write(&path, bytes).unwrap();
    // And directories that hold nothing are no damage.
    for name in ["imports", "outbox"] {
        fs::remove_dir_all(net.node_dir("bob").join("store").join(name)).unwrap();
    }
    net.testnet(&["restart", "bob"]);
    both_ways(&net, 2);
    assert_named(&net, "bob", "p3", &path);
    assert!(!net.log("bob").contains("was put back"), "nothing says so");
    assert_eq!(net.fetch("bob", &waits.id).bytes, waits.bytes);
    assert!(assert_no_byte_serves_twice(&net) > 20);
}

#[test]
fn a_missing_identity_is_told_with_what_to_do() {
    let net = Net::up(2, 1, 2, "1MiB");
    net.stop("alice");
    let path = net.node_dir("alice").join("identity.key");
    let identity = fs::read(&path).unwrap();
    for (what, damage) in [("missing", None), ("damaged", Some(&identity[..20]))] {
        match damage {
            None => fs::remove_file(&path).unwrap(),
            Some(rest) => fs::write(&path, rest).unwrap(),
        }
        use std::os::unix::fs::PermissionsExt;
        if damage.is_some() {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        for arguments in [&["run"][..], &["enrol", "request", "--out", "request.json"]] {
            let output = net.at("alice", arguments).output().unwrap();
            let said = error(&output).split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(output.status.code(), Some(8), "{said}");
            for words in ["dske::node::identity", what, "identity.key", "from a copy of this directory"] {
                assert!(said.contains(words), "{words}: {said}");
            }
        }
    }
}
