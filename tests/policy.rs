//! What operators set and do: quotas, the lifetime of messages that wait, warnings ahead of the end of a pad, tables that
//! are retired. On real processes.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::process::Output;

use common::{Net, error, eventually};
use serde_json::Value;

/// Changes one value of a node's configuration and starts the node again.
fn configure(net: &Net, node: &str, table: &str, key: &str, value: toml::Value) {
    change(net, node, table, |section| drop(section.insert(key.to_owned(), value)));
}

/// The same, for a value that goes.
fn unset(net: &Net, node: &str, table: &str, key: &str) {
    change(net, node, table, |section| assert!(section.remove(key).is_some(), "{key} is set"));
}

fn change(net: &Net, node: &str, table: &str, change: impl FnOnce(&mut toml::Table)) {
    let path = net.node_dir(node).join("config.toml");
    let mut config: toml::Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
    let section = config.entry(table).or_insert_with(|| toml::Value::Table(toml::Table::new()));
    change(section.as_table_mut().unwrap());
    std::fs::write(&path, config.to_string()).unwrap();
    net.testnet(&["kill", node]);
    net.testnet(&["restart", node]);
}

/// Waits until all hubs are usable at a client.
fn all_usable(net: &Net, client: &str, hubs: u64) {
    eventually("all hubs are usable", || net.status(client)["policy"]["usable"] == hubs);
}

/// What a client has burned of all its lanes of one direction.
fn used(net: &Net, client: &str, lane: usize) -> u64 {
    let status = net.status(client);
    let tables = status["tables"].as_array().unwrap().clone();
    tables.iter().map(|table| table["lanes"][lane]["used_key"].as_u64().unwrap()).sum()
}

fn up_used(net: &Net, client: &str) -> u64 {
    used(net, client, 0)
}

fn down_used(net: &Net, client: &str) -> u64 {
    used(net, client, 1)
}

/// Waits until every share that the sender has ever sent is with its receivers, for a key needs no more than k of them: a
/// share burns as much on the way down as on the way up. Gives what each receiver has burned then.
fn all_arrived<const N: usize>(net: &Net, sender: &str, receivers: [&str; N]) -> [u64; N] {
    let mut burned = [0; N];
    eventually("all shares are with the receivers", || {
        burned = receivers.map(|receiver| down_used(net, receiver));
        burned.iter().sum::<u64>() == up_used(net, sender)
    });
    burned
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", error(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_quota_is_told_to_the_sender_by_name_and_spares_the_receivers_pads() {
    let net = Net::up(3, 2, 2, "1MiB");
    net.acquaint("alice", "bob");
    // A share that a hub has not taken in when it is killed never arrives.
    all_arrived(&net, "alice", ["bob"]);
    let quota: toml::Table = "alice = \"520B/day\"".parse().unwrap();
    for hub in ["p1", "p2", "p3"] {
        configure(&net, hub, "policy", "max_peer_use", toml::Value::Table(quota.clone()));
    }
    all_usable(&net, "alice", 3);
    all_usable(&net, "bob", 3);
    // Five keys of 256 bits burn 5 · 104 bytes with each hub.
    for _ in 0..5 {
        let sent = net.get("alice", "bob", "256");
        assert_eq!(net.fetch("bob", &sent.id).bytes, sent.bytes);
    }
    let [before] = all_arrived(&net, "alice", ["bob"]);
    let refused = net.try_get("alice", "bob", &["--bits", "256"]).err().expect("beyond the quota");
    let told = error(&refused);
    assert_eq!(refused.status.code(), Some(4), "{told}");
    assert!(told.contains("quota"), "{told}");
    // It ends as soon as too few are left to answer.
    let named = ["p1: ", "p2: ", "p3: "].iter().filter(|hub| told.contains(*hub)).count();
    assert!(named >= 2, "{told}");
    assert_eq!(down_used(&net, "bob"), before);
    let hub = net.status("p1");
    assert_eq!(hub["refusals"]["quota-exceeded"], 1, "{}", hub["refusals"]);
    assert_eq!(hub["quotas"][0]["who"], "alice to bob");
    // Until there may be room, alice's own pad is not burned on it again; and she hears why.
    let burned = up_used(&net, "alice");
    for _ in 0..3 {
        let told = error(&net.try_get("alice", "bob", &["--bits", "256"]).err().expect("it rests"));
        assert!(told.contains("key::quota") && told.contains("operator"), "{told}");
    }
    assert_eq!(up_used(&net, "alice"), burned);
    // Bob's own keys are not concerned, and a restart refills nothing.
    net.get("bob", "alice", "256");
    for node in ["p1", "p2", "p3", "alice"] {
        net.testnet(&["kill", node]);
        net.testnet(&["restart", node]);
    }
    all_usable(&net, "alice", 3);
    all_usable(&net, "bob", 3);
    let refused = net.try_get("alice", "bob", &["--bits", "256"]).err().expect("still beyond the quota");
    assert!(error(&refused).contains("quota"), "{}", error(&refused));
}

#[test]
fn without_a_word_on_it_a_sender_burns_a_tenth_of_a_receivers_pads_in_a_day_and_hears_why() {
    let net = Net::up(3, 2, 2, "1MiB");
    net.acquaint("alice", "bob");
    all_arrived(&net, "alice", ["bob"]);
    for hub in ["p1", "p2", "p3"] {
        // What a test network sets.
        unset(&net, hub, "policy", "max_peer_use_default");
    }
    all_usable(&net, "alice", 3);
    all_usable(&net, "bob", 3);
    // A lane has 512 KiB; a key of 256 Kibit burns 32 KiB and 72 bytes of it.
    net.get("alice", "bob", "262144");
    let [before] = all_arrived(&net, "alice", ["bob"]);
    let refused = net.try_get("alice", "bob", &["--bits", "262144"]).err().expect("beyond a tenth");
    let told = error(&refused);
    assert_eq!(refused.status.code(), Some(4), "{told}");
    assert!(told.contains("tenth"), "{told}");
    assert_eq!(down_used(&net, "bob"), before);
    assert!(net.status("p1")["refusals"]["default-quota"].as_u64() >= Some(1));
    // Short keys still fit, and bob's own are another pair's.
    net.get("alice", "bob", "256");
    net.get("bob", "alice", "262144");
}

#[test]
fn what_a_receiver_sets_is_in_force_at_its_hubs_and_named_to_the_sender() {
    let net = Net::up(3, 3, 2, "1MiB");
    for receiver in ["bob", "carol"] {
        net.acquaint("alice", receiver);
    }
    // A name, the first digits of the id beside it, or the id: all of them mean her.
    let alice = net.status("alice")["node"]["id"].as_str().unwrap().to_owned();
    // Carol, whom he has never met, by her id: it says who she is before anything of his was burned for her.
    let carol = net.status("carol")["node"]["id"].as_str().unwrap().to_owned();
    let limits: toml::Table =
        format!("\"alice/{}\" = \"520B/day\"\n{carol} = \"103B/day\"\ndave = \"1KiB/day\"", &alice[..12])
            .parse()
            .unwrap();
    configure(&net, "bob", "policy", "max_peer_use", toml::Value::Table(limits));
    let in_force = |client: &str| {
        let status = net.status(client);
        let quotas = status["quotas"].as_array().unwrap().clone();
        quotas.iter().filter(|quota| quota["in_force"] == true && quota["limit"] == "520B/day").count()
    };
    eventually("all hubs have bob's limit", || in_force("bob") == 3);
    let quotas = net.status("bob")["quotas"].as_array().unwrap().clone();
    let dave = quotas.iter().find(|quota| quota["who"] == "dave, not met yet").expect("it is shown");
    assert_eq!((&dave["in_force"], &dave["limit"]), (&Value::Bool(false), &Value::from("1KiB/day")));
    for sender in ["alice", "carol"] {
        all_usable(&net, sender, 3);
    }
    let unmet = down_used(&net, "bob");
    let told = error(&net.try_get("carol", "bob", &["--bits", "256"]).err().expect("beyond bob's limit"));
    assert!(told.contains("the receiver"), "{told}");
    assert_eq!(down_used(&net, "bob"), unmet);
    for _ in 0..5 {
        let sent = net.get("alice", "bob", "256");
        assert_eq!(net.fetch("bob", &sent.id).bytes, sent.bytes);
    }
    let [before, _] = all_arrived(&net, "alice", ["bob", "carol"]);
    let refused = || net.try_get("alice", "bob", &["--bits", "256"]).err().expect("beyond bob's limit");
    let told = error(&refused());
    assert!(told.contains("the receiver"), "{told}");
    assert_eq!(down_used(&net, "bob"), before);
    net.get("alice", "carol", "256");
    // Hubs and receiver keep it over a restart, without a word.
    for node in ["p1", "p2", "p3", "bob", "alice"] {
        net.testnet(&["kill", node]);
        net.testnet(&["restart", node]);
    }
    all_usable(&net, "alice", 3);
    all_usable(&net, "bob", 3);
    eventually("it is still in force", || in_force("bob") == 3);
    assert!(error(&refused()).contains("the receiver"));
}

#[test]
fn messages_for_a_client_that_stays_away_are_dropped_in_the_end() {
    let net = Net::up(2, 2, 2, "1MiB");
    net.acquaint("alice", "bob");
    for hub in ["p1", "p2"] {
        configure(&net, hub, "outbox", "lifetime", "3s".into());
    }
    all_usable(&net, "alice", 2);
    all_usable(&net, "bob", 2);
    net.testnet(&["kill", "bob"]);
    eventually("alice sees that bob is gone", || {
        net.get("alice", "bob", "256").report["confirmed"][0].is_null()
    });
    let waits = |hub: &Value| {
        let peers = hub["peers"].as_array().unwrap().clone();
        peers.iter().map(|peer| peer["waiting"].as_u64().unwrap()).sum::<u64>()
    };
    eventually("the hub drops them", || {
        let hub = net.status("p1");
        hub["counters"]["expired"].as_u64().unwrap() > 0 && waits(&hub) == 0
    });
    let hub = net.status("p1");
    let told = hub["events"].as_array().unwrap().iter().any(|event| {
        let text = event["text"].as_str().unwrap();
        text.contains("bob") && text.contains("were dropped")
    });
    assert!(told, "{}", hub["events"]);
    net.testnet(&["restart", "bob"]);
    all_usable(&net, "bob", 2);
    let sent = net.get("alice", "bob", "256");
    assert_eq!(net.fetch("bob", &sent.id).bytes, sent.bytes);
}

#[test]
fn a_pad_that_runs_out_is_told_ahead() {
    let net = Net::up(2, 2, 2, "1MiB");
    net.acquaint("alice", "bob");
    configure(&net, "alice", "pads", "crit_before", "1s".into());
    configure(&net, "alice", "pads", "warn_before", "3650d".into());
    configure(&net, "alice", "pads", "average_over", "1m".into());
    all_usable(&net, "alice", 2);
    let check = || net.at("alice", &["status", "--check"]).output().unwrap();
    assert_eq!(check().status.code(), Some(0), "{}", String::from_utf8_lossy(&check().stdout));
    eventually("the rate of use tells when it is empty", || {
        net.get("alice", "bob", "2048");
        let output = check();
        let line = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.code() == Some(1) && line.contains("WARNING") && line.contains("at the present rate")
    });
    let alice = net.status("alice");
    let forecast = alice["pads"].as_array().unwrap().iter().find(|pad| pad["level"] == "warn");
    assert!(forecast.unwrap()["empty_in_s"].as_u64().is_some());
    let events = alice["events"].as_array().unwrap();
    assert!(
        events.iter().any(|event| event["text"].as_str().unwrap().contains("a new module")),
        "{events:?}"
    );
}

#[test]
fn a_retired_table_ends_at_once_and_the_next_one_takes_over() {
    let net = Net::up(3, 2, 3, "1MiB");
    net.acquaint("alice", "bob");
    let module = net.dir().join("second.pskm");
    let file = module.to_str().unwrap();
    let run = |node: &str, arguments: &[&str]| {
        succeeded(&net.at(node, arguments).env("DSKE_PASSPHRASE", "two tables").output().unwrap())
    };
    run("p1", &["pskm", "make", "--for", "alice", "--size", "1MiB", "-o", file]);
    let kept = net.dir().join("kept.pskm");
    std::fs::copy(&module, &kept).unwrap();
    let imported: Value = serde_json::from_str(&run("alice", &["pskm", "import", file, "--json"])).unwrap();
    let receipt = imported["receipt"].as_str().unwrap().to_owned();
    let modules: Value = serde_json::from_str(&run("alice", &["pskm", "ls", "--json"])).unwrap();
    let serials = |state: &str| -> Vec<String> {
        let modules: Value = serde_json::from_str(&run("alice", &["pskm", "ls", "--json"])).unwrap();
        let of_p1 = modules["modules"].as_array().unwrap().clone().into_iter();
        let of_p1 = of_p1.filter(|module| module["hub_name"] == "p1" && module["state"] == state);
        of_p1.map(|module| module["serial"].as_str().unwrap().to_owned()).collect()
    };
    let second = imported["module"]["serial"].as_str().unwrap().to_owned();
    let of_p1 = |module: &&Value| module["hub_name"] == "p1" && module["serial"] != second.as_str();
    let first = modules["modules"].as_array().unwrap().iter().find(of_p1).unwrap().clone();
    let (serial, table) = (first["serial"].as_str().unwrap(), first["table"].as_str().unwrap());
    run("p1", &["pskm", "ack", &second, &receipt]);
    let lanes = net.node_dir("alice").join("store/lanes").join(table);
    assert!(lanes.is_dir());

    let asked = net.at("alice", &["pskm", "retire", serial]).output().unwrap();
    assert_eq!(asked.status.code(), Some(2), "nobody can be asked: {}", error(&asked));
    assert!(lanes.is_dir());
    run("alice", &["pskm", "retire", serial, "--yes"]);
    assert!(serials("retired").contains(&serial.to_owned()));
    assert!(!lanes.exists(), "its pads are destroyed");
    eventually("the second table is open", || {
        let alice = net.status("alice");
        alice["tables"]
            .as_array()
            .unwrap()
            .iter()
            .any(|t| t["serial"] == second.as_str() && t["open"] == true)
    });
    // n = k = 3: without p1 there is no key.
    let sent = net.get("alice", "bob", "256");
    assert_eq!(net.fetch("bob", &sent.id).bytes, sent.bytes);
    // The hub has not retired it yet, and is told by what alice refuses; keys for her still arrive.
    eventually("keys for alice arrive under the second table", || {
        let Ok(sent) = net.try_get("bob", "alice", &["--bits", "256", "--timeout", "5s"]) else {
            return false;
        };
        net.try_fetch("alice", &sent.id, Some("2s")).is_ok_and(|held| held.bytes == sent.bytes)
    });
    run("p1", &["pskm", "retire", serial, "--yes"]);
    run("p1", &["pskm", "retire", serial, "--yes"]);
    let sent = net.get("bob", "alice", "256");
    assert_eq!(net.fetch("alice", &sent.id).bytes, sent.bytes);
    // For ever, also after a restart, and what is left of a module is not taken again.
    net.testnet(&["kill", "alice"]);
    net.testnet(&["restart", "alice"]);
    all_usable(&net, "alice", 3);
    assert!(serials("retired").contains(&serial.to_owned()) && !lanes.exists());
    run("alice", &["pskm", "retire", &second, "--yes"]);
    let again = net.at("alice", &["pskm", "import", kept.to_str().unwrap()]);
    let again = { again }.env("DSKE_PASSPHRASE", "two tables").output().unwrap();
    assert!(!again.status.success(), "a retired module is not taken again");
    let failed =
        net.try_get("alice", "bob", &["--bits", "256", "--timeout", "3s"]).err().expect("no pad with p1");
    assert!(!error(&failed).is_empty());
}
