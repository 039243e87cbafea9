//! Keys that are agreed ahead, on real processes: the same at both ends, with liars and dead hubs, through crashes of
//! every node, for groups, and with receivers that only hubs can reach.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::{
    Key, Net, error, eventually,
    files::{copy, put_back},
    ledgers::{assert_ledgers_agree, assert_no_byte_serves_twice},
};
use rustix::process::Signal;
use serde_json::Value;

const OPEN: [&str; 6] = ["--purpose", "test", "--low", "40", "--high", "80"];

#[track_caller]
fn open(net: &Net, with: &str) {
    let output = net.at("alice", &["stream", "open", "--with", with]).args(OPEN).output().unwrap();
    assert!(output.status.success(), "{}", error(&output));
}

fn stream(net: &Net) -> Value {
    net.status("alice")["streams"][0].clone()
}

/// Takes the next key at the sender and the same one at every receiver.
#[track_caller]
fn take(net: &Net, with: &[&str]) -> Key {
    let sent = next(net, &with.join(",")).unwrap_or_else(|why| panic!("{why}"));
    for receiver in with {
        assert_eq!(net.fetch(receiver, &sent.id).bytes, sent.bytes, "at {receiver}");
    }
    sent
}

fn next(net: &Net, with: &str) -> Result<Key, String> {
    net.try_key("alice", &["key", "next", "--with", with, "--purpose", "test"])
        .map_err(|output| error(&output))
}

#[test]
fn a_pool_fills_by_the_adapted_protocol_and_its_keys_are_the_same_at_both_ends() {
    let net = Net::up(5, 2, 3, "8MiB");
    open(&net, "bob");
    eventually("the pool is full", || stream(&net)["keys"] == 80);
    assert_eq!(stream(&net)["protocol"], "adapted");
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let key = take(&net, &["bob"]);
        assert!(seen.insert(key.bytes), "a key of its own");
        assert!(net.try_fetch("alice", &key.id, None).is_err(), "taken once per side");
        assert!(net.try_fetch("bob", &key.id, None).is_err(), "taken once per side");
    }
    // Closed and opened again, it goes on with what is there, while blocks are under way too.
    let close = ["stream", "close", "--with", "bob", "--purpose", "test"];
    let held = stream(&net)["keys"].as_u64().unwrap();
    for _ in 0..3 {
        assert!(net.at("alice", &close).output().unwrap().status.success());
        open(&net, "bob");
    }
    assert!(stream(&net)["keys"].as_u64() >= Some(held), "nothing of the pool is lost");
    for _ in 0..60 {
        take(&net, &["bob"]);
    }
    assert_no_byte_serves_twice(&net);
    assert_ledgers_agree(&net);
}

#[test]
fn a_stream_bears_liars_dead_hubs_and_crashes_at_both_ends() {
    let net = Net::up(5, 2, 3, "16MiB");
    open(&net, "bob");
    take(&net, &["bob"]);
    net.testnet(&["chaos", "p1", "false-shares"]);
    net.testnet(&["kill", "p2"]);
    for _ in 0..100 {
        take(&net, &["bob"]);
    }
    // A key that the sender has taken is there at the receiver after a crash of either.
    for victim in ["bob", "alice"] {
        eventually("keys lie ahead", || stream(&net)["keys"].as_u64() > Some(20));
        let sent = next(&net, "bob").unwrap();
        net.signal(victim, Signal::KILL).unwrap();
        net.testnet(&["restart", victim]);
        assert_eq!(net.fetch("bob", &sent.id).bytes, sent.bytes, "after {victim} was killed");
        // The pool is on record; so is the stream, which goes on by itself.
        for _ in 0..60 {
            take(&net, &["bob"]);
        }
    }
    net.testnet(&["restart", "p2"]);
    eventually("keys lie ahead again", || stream(&net)["keys"].as_u64() >= Some(40));
    assert_no_byte_serves_twice(&net);
    assert_ledgers_agree(&net);
}

/// Pad bytes that alice has burned for keys, at all hubs together.
fn burned(net: &Net) -> u64 {
    let status = net.status("alice");
    let lanes =
        status["tables"].as_array().unwrap().iter().flat_map(|table| table["lanes"].as_array().unwrap());
    lanes.map(|lane| lane["used_key"].as_u64().unwrap()).sum()
}

#[test]
fn a_pool_whose_receiver_is_away_burns_next_to_no_pad_and_fills_when_it_is_back() {
    let net = Net::up(3, 2, 2, "8MiB");
    open(&net, "bob");
    eventually("the pool is full", || stream(&net)["keys"] == 80);
    net.stop("bob");
    // Below its low mark it lacks keys from now on.
    for _ in 0..60 {
        next(&net, "bob").unwrap();
    }
    let doubt = || stream(&net)["problem"].as_str().is_some_and(|why| why.contains("confirm"));
    eventually("it is seen that nobody confirms", doubt);
    let before = burned(&net);
    // Long enough for what was agreed again and again before; what is burned does not hang on how long it is.
    std::thread::sleep(std::time::Duration::from_secs(12));
    let burned = burned(&net) - before;
    // A try is one key: 32 bytes, and 72 for its tag and key tag, at each of three hubs. There are few.
    assert!(burned <= 8 * 3 * 104, "{burned} bytes");
    net.testnet(&["restart", "bob"]);
    eventually("the pool is full again", || stream(&net)["keys"] == 80);
    take(&net, &["bob"]);
    assert_no_byte_serves_twice(&net);
    assert_ledgers_agree(&net);
}

#[test]
fn a_pool_that_was_put_back_offers_no_key_of_the_copy() {
    let net = Net::up(4, 2, 2, "8MiB");
    open(&net, "bob");
    eventually("the pool is full", || stream(&net)["keys"] == 80);
    net.testnet(&["kill", "alice"]);
    let saved = net.dir().join("saved");
    copy(&net.node_dir("alice"), &saved);
    net.testnet(&["restart", "alice"]);
    // These lie in the copy's pool too.
    let mut seen: std::collections::BTreeSet<_> = (0..20).map(|_| take(&net, &["bob"]).bytes).collect();
    assert_eq!(seen.len(), 20);

    put_back(&net, "alice", &saved);
    net.testnet(&["restart", "alice"]);
    eventually("the hubs have said so", || {
        net.status("alice")["events"].to_string().contains("this node was put back to an earlier state")
    });
    for _ in 0..100 {
        assert!(seen.insert(take(&net, &["bob"]).bytes), "a key left its pool twice");
    }
    assert_no_byte_serves_twice(&net);
    assert_ledgers_agree(&net);
}

#[test]
fn a_group_has_one_stream() {
    let net = Net::up(3, 3, 2, "8MiB");
    open(&net, "carol,bob");
    for _ in 0..3 {
        take(&net, &["bob", "carol"]);
    }
    assert_eq!(stream(&net)["protocol"], "general");
    let close =
        net.at("alice", &["stream", "close", "--with", "bob,carol", "--purpose", "test"]).output().unwrap();
    assert!(close.status.success(), "{}", error(&close));
    assert!(next(&net, "bob,carol").is_err_and(|why| why.contains("dske::stream::unknown")));
}

#[test]
fn hubs_pass_messages_on_between_clients_that_cannot_reach_each_other() {
    let net = Net::up(5, 2, 3, "8MiB");
    let clients = ["alice", "bob"];
    // Both at once: one that still had its old address could be called there by the other.
    clients.iter().for_each(|client| net.testnet(&["kill", client]));
    for client in clients {
        let config = net.node_dir(client).join("config.toml");
        let mut settings: toml::Table = std::fs::read_to_string(&config).unwrap().parse().unwrap();
        let network = settings["network"].as_table_mut().unwrap();
        // It listens where nobody looks for it, and is said to be where nobody listens.
        network.insert("listen".to_owned(), vec!["/ip4/127.0.0.1/tcp/0"].into());
        network.insert("announce".to_owned(), vec!["/ip4/127.0.0.1/tcp/1"].into());
        std::fs::write(&config, settings.to_string()).unwrap();
    }
    clients.iter().for_each(|client| net.testnet(&["restart", client]));
    open(&net, "bob");
    for _ in 0..90 {
        take(&net, &["bob"]);
    }
    assert_eq!(stream(&net)["protocol"], "adapted");
    let bob = net.status("bob")["node"]["id"].as_str().unwrap().to_owned();
    let after_restart = net.log("alice").rsplit(" is ready on ").next().unwrap().to_owned();
    let linked = format!("connection node={} up=true", bob.get(..8).unwrap());
    assert!(!after_restart.contains(&linked), "there was a direct link after all");
}

#[test]
fn a_pool_is_measured_and_its_keys_are_compared() {
    let net = Net::up(3, 2, 2, "8MiB");
    let arguments =
        ["--testnet", "dev", "--json", "bench", "pool", "--keys", "600", "--batch", "2", "--parallel", "4"];
    let output = net.dske(&arguments).output().unwrap();
    assert!(output.status.success(), "{}", error(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["keys"], 600);
    assert!(report["keys_per_second"].as_u64() > Some(0) && report["request"]["p50_us"].as_u64() > Some(0));
    for client in ["alice", "bob"] {
        assert_eq!(
            net.status(client)["streams"].as_array().unwrap().len(),
            0,
            "the stream is closed at {client}"
        );
    }
}

#[test]
fn a_name_that_nobody_has_costs_a_few_questions_and_one_line() {
    let net = Net::up(3, 2, 2, "1MiB");
    let asked = |net: &Net| -> u64 {
        let status = net.status("alice");
        let lanes =
            status["tables"].as_array().unwrap().iter().flat_map(|table| table["lanes"].as_array().unwrap());
        lanes.map(|lane| lane["used_identity"].as_u64().unwrap()).sum()
    };
    let before = asked(&net);
    let open = ["--timeout", "5s", "stream", "open", "--with", "nobody"];
    let output = net.at("alice", &open).output().unwrap();
    assert!(!output.status.success(), "there is no such client");
    let told = net.status("alice")["events"].to_string().matches("identity of nobody").count();
    assert_eq!(told, 1, "told once");
    // At once, after one second, after two more, and perhaps once more: a tag key for each hub and each of their answers.
    let cost = asked(&net) - before;
    assert!(cost > 0 && cost <= 4 * 3 * 64, "{cost} bytes of pad for nobody");
}

#[test]
fn an_empty_pool_names_the_hubs_that_keep_it_empty_and_readmitting_a_hub_in_use_is_no_event() {
    let net = Net::up(3, 2, 2, "1MiB");
    let output = net.at("alice", &["readmit", "p1"]).output().unwrap();
    assert!(error(&output).contains("p1 was not excluded"), "{}", error(&output));
    let events = net.status("alice")["events"].to_string();
    assert!(!events.contains("used again"), "{events}");

    let which = ["--with", "bob", "--purpose", "test"];
    let open =
        net.at("alice", &["stream", "open", "--low", "1", "--high", "1"]).args(which).output().unwrap();
    assert!(open.status.success(), "{}", error(&open));
    eventually("the pool is full", || stream(&net)["keys"] == 1);
    for hub in ["p2", "p3"] {
        net.testnet(&["kill", hub]);
    }
    eventually("the loss is noticed", || net.status("alice")["policy"]["usable"] == 1);
    let next =
        || net.at("alice", &["--timeout", "1s", "key", "next", "--reveal"]).args(which).output().unwrap();
    let _ = next();
    let output = next();
    let told = error(&output).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains("only 1 hub can be used for these receivers"), "{told}");
    assert!(told.contains("p2: it is not") && !told.contains("taken faster"), "{told}");
}
