//! An old copy of a node's directory is put back: agreement works again, no byte of any lane serves twice over the
//! whole history, keys that waited in the copy are void, and the operator is told.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::{thread, time::Duration};

use common::{
    Net, error, eventually,
    files::{copy, put_back},
    ledgers::assert_no_byte_serves_twice,
};

fn both_ways(net: &Net) {
    for (from, with) in [("alice", "bob"), ("bob", "alice")] {
        let sent = net.get(from, with, "2048");
        assert_eq!(net.fetch(with, &sent.id).bytes, sent.bytes);
    }
}

/// All hubs take part in agreements in both directions, and no table is out of use.
fn assert_works_again(net: &Net, hubs: u8) {
    for (from, with) in [("alice", "bob"), ("bob", "alice")] {
        eventually("every hub takes part again", || {
            let Ok(sent) = net.try_get(from, with, &["--bits", "256"]) else { return false };
            let held = net.try_fetch(with, &sent.id, Some("10s"));
            held.is_ok_and(|held| {
                assert_eq!(held.bytes, sent.bytes, "the sides hold different keys");
                sent.report["burned_hubs"] == hubs && sent.report["shares"] == hubs
            })
        });
    }
    for node in net.nodes() {
        for table in net.status(&node)["tables"].as_array().unwrap() {
            assert_eq!(table["state"], "active", "{node}: {table}");
        }
    }
}

/// What an operator sees in the status.
fn events(net: &Net, node: &str) -> String {
    net.status(node)["events"].to_string()
}

fn aborted(net: &Net, node: &str, id: &str) {
    let refused = net.try_fetch(node, id, None).err().expect("a key that waited in the copy is void");
    let said = error(&refused);
    assert!(said.contains("dske::key::aborted") && said.contains("put back"), "{said}");
}

#[test]
fn an_old_copy_of_a_client_costs_pads_and_nothing_else() {
    let net = Net::up(4, 2, 2, "2MiB");
    both_ways(&net);
    // Two keys wait at bob in the copy; one is taken afterwards.
    let (taken, waiting) = (net.get("alice", "bob", "256"), net.get("alice", "bob", "256"));
    eventually("both are there", || {
        let list = net.at("bob", &["key", "ls", "--json"]).output().unwrap();
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        [&taken.id, &waiting.id].iter().all(|id| list.contains(id.as_str()))
    });
    net.testnet(&["kill", "bob"]);
    let saved = net.dir().join("saved");
    copy(&net.node_dir("bob"), &saved);
    net.testnet(&["restart", "bob"]);
    assert_eq!(net.fetch("bob", &taken.id).bytes, taken.bytes);
    (0..5).for_each(|_| both_ways(&net));

    put_back(&net, "bob", &saved);
    net.testnet(&["restart", "bob"]);
    assert_works_again(&net, 4);
    aborted(&net, "bob", &taken.id);
    aborted(&net, "bob", &waiting.id);
    let told = events(&net, "bob");
    assert!(told.contains("this node was put back to an earlier state"), "{told}");
    assert!(told.contains("were skipped"), "{told}");
    assert!(net.log("bob").contains("was put back"), "the log says it too");
    let hubs_say = events(&net, "p1");
    assert!(hubs_say.contains("bob was put back"), "{hubs_say}");
    assert!(assert_no_byte_serves_twice(&net) > 50);
}

#[test]
fn an_old_copy_of_a_hub_costs_pads_and_nothing_else() {
    let net = Net::up(4, 2, 2, "2MiB");
    both_ways(&net);
    net.testnet(&["kill", "p2"]);
    let saved = net.dir().join("saved");
    copy(&net.node_dir("p2"), &saved);
    net.testnet(&["restart", "p2"]);
    assert_works_again(&net, 4);
    (0..5).for_each(|_| both_ways(&net));
    // Messages that wait in the outbox are not in the copy.
    net.testnet(&["kill", "bob"]);
    let away = net.get("alice", "bob", "256");

    put_back(&net, "p2", &saved);
    net.testnet(&["restart", "p2"]);
    net.testnet(&["restart", "bob"]);
    assert_eq!(net.fetch("bob", &away.id).bytes, away.bytes, "three hubs of four have it still");
    assert_works_again(&net, 4);
    let told = events(&net, "p2");
    assert!(told.contains("this node was put back to an earlier state"), "{told}");
    assert!(assert_no_byte_serves_twice(&net) > 50);
}

fn waits(net: &Net, node: &str, id: &str) -> bool {
    let output = net.at(node, &["key", "ls", "--json"]).output().unwrap();
    let Ok(list) = serde_json::from_slice::<serde_json::Value>(&output.stdout) else { return false };
    let keys = list["keys"].as_array().cloned().unwrap_or_default();
    let is_it = |key: &serde_json::Value| key["block"].as_str().is_some_and(|block| id.starts_with(block));
    keys.iter().any(|key| is_it(key) && key["state"] == "ready")
}

fn usable(net: &Net, node: &str, hubs: u64) -> bool {
    net.status(node)["policy"]["usable"].as_u64() == Some(hubs)
}

#[test]
fn keys_of_a_copy_are_void_when_k_b_hubs_say_so_and_what_was_agreed_after_stays() {
    let net = Net::up(3, 2, 2, "2MiB");
    both_ways(&net);
    let old = net.get("alice", "bob", "256");
    eventually("it waits at bob", || waits(&net, "bob", &old.id));
    net.testnet(&["kill", "bob"]);
    let saved = net.dir().join("saved");
    copy(&net.node_dir("bob"), &saved);
    net.testnet(&["restart", "bob"]);
    assert_eq!(net.fetch("bob", &old.id).bytes, old.bytes);
    (0..5).for_each(|_| both_ways(&net));

    // One hub is there when the copy comes back: its word is not enough.
    net.testnet(&["kill", "p2"]);
    net.testnet(&["kill", "p3"]);
    put_back(&net, "bob", &saved);
    net.testnet(&["restart", "bob"]);
    eventually("one hub has said so", || events(&net, "bob").contains("1 of the 2 hubs that it takes"));
    assert!(waits(&net, "bob", &old.id));
    // The second makes it k_B.
    net.testnet(&["restart", "p2"]);
    eventually("two hubs have said so", || !waits(&net, "bob", &old.id));
    aborted(&net, "bob", &old.id);
    let mut new = None;
    eventually("a key is agreed with what there is", || {
        new = net.try_get("alice", "bob", &["--bits", "256"]).ok();
        new.as_ref().is_some_and(|new| waits(&net, "bob", &new.id))
    });
    let new = new.unwrap();
    // The third hub comes after another start, and says the same.
    net.testnet(&["kill", "bob"]);
    net.testnet(&["restart", "bob"]);
    net.testnet(&["restart", "p3"]);
    eventually("p3 has been compared", || usable(&net, "bob", 3));
    assert!(events(&net, "bob").contains("p3 has more on record of us"), "{}", events(&net, "bob"));
    assert_eq!(net.fetch("bob", &new.id).bytes, new.bytes, "agreed after the restore");
    assert!(assert_no_byte_serves_twice(&net) > 50);
}

/// A copy that was taken while the node worked is of no one moment: it is refused by name, or works again.
#[test]
fn a_copy_of_a_node_that_was_at_work_is_refused_or_works_again() {
    let net = Net::up(3, 2, 2, "2MiB");
    both_ways(&net);
    for node in ["bob", "p1"] {
        let saved = net.dir().join(format!("saved-{node}"));
        thread::scope(|scope| {
            let copied = scope.spawn(|| {
                thread::sleep(Duration::from_millis(150));
                copy(&net.node_dir(node), &saved);
            });
            while !copied.is_finished() {
                both_ways(&net);
            }
        });
        (0..3).for_each(|_| both_ways(&net));
        let present = net.dir().join(format!("present-{node}"));
        net.testnet(&["kill", node]);
        copy(&net.node_dir(node), &present);
        put_back(&net, node, &saved);
        let started = net.dske(&["testnet", "restart", node]).output().unwrap();
        if started.status.success() {
            assert_works_again(&net, 3);
            println!("{node}: the copy works; it says {}", events(&net, node));
        } else {
            let said = error(&started) + &net.log(node);
            assert!(said.contains("is damaged") || said.contains("is missing"), "{node}: {said}");
            println!("{node}: the copy was refused");
            put_back(&net, node, &present);
            net.testnet(&["restart", node]);
            assert_works_again(&net, 3);
        }
    }
    assert_no_byte_serves_twice(&net);
}
