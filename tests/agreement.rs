//! Keys agreed between real processes: equal on both sides, taken once, paid for exactly, and robust
//! against hubs that stop or lie.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::{process::Stdio, time::Duration};

use common::{Net, error, eventually, eventually_within};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Bytes used for a purpose in the lanes of one direction that a node has with its peers.
fn used(status: &Value, lane: &str, purpose: &str) -> Vec<u64> {
    let tables = status["tables"].as_array().unwrap().iter();
    let lanes = tables.flat_map(|table| table["lanes"].as_array().unwrap());
    lanes.filter(|l| l["lane"] == lane).map(|l| l[purpose].as_u64().unwrap()).collect()
}

#[test]
fn a_key_that_is_fetched_after_a_restart_tells_only_what_is_known() {
    let net = Net::up(3, 2, 2, "1MiB");
    net.acquaint("alice", "bob");
    let (sent, kept) = (net.get("alice", "bob", "256"), net.get("alice", "bob", "256"));
    assert_eq!(net.fetch("bob", &sent.id).report["shares"], 3);
    net.testnet(&["kill", "bob"]);
    net.testnet(&["restart", "bob"]);
    let held = net.fetch("bob", &kept.id);
    assert_eq!(held.bytes, kept.bytes);
    assert_eq!(held.report["from"], "alice", "that is on record");
    for what in ["shares", "took_us", "burned_hubs", "liars"] {
        assert!(held.report[what].is_null(), "nobody knows {what} any more: {}", held.report);
    }
    assert_eq!((&held.report["n"], &held.report["k"]), (&Value::from(3), &Value::from(2)));
}

#[test]
fn both_sides_hold_the_same_key_once_and_pay_exactly_for_it() {
    let net = Net::up(5, 3, 3, "2MiB");
    net.acquaint("alice", "bob");
    let before = used(&net.status("alice"), "up", "used_key");
    assert!(before.iter().all(|bytes| *bytes == before[0]), "{before:?}");
    let mut expected = before[0];
    for (bits, bytes) in [("256", 32), ("8", 1), ("1Mbit", 125_000)] {
        let sent = net.get("alice", "bob", bits);
        assert_eq!(sent.bytes.len(), bytes);
        let fetched = net.fetch("bob", &sent.id);
        assert_eq!(fetched.bytes, sent.bytes);
        assert_eq!((&fetched.report["from"], &sent.report["from"]), (&"alice".into(), &Value::Null));
        assert_eq!(sent.report["burned_bytes_per_hub"], bytes as u64 + 72);
        expected += bytes as u64 + 72;
    }
    let once = net.get("alice", "bob", "256");
    expected += 104;
    net.fetch("bob", &once.id);
    let taken = net.try_fetch("bob", &once.id, None).err().expect("a key is handed out once");
    assert!(error(&taken).contains("dske::key::taken"), "{}", error(&taken));

    let alice = net.status("alice");
    assert_eq!(used(&alice, "up", "used_key"), vec![expected; 5]);
    assert_eq!(used(&alice, "up", "used_identity"), vec![32; 5], "one inquiry, about bob");
    assert_eq!(used(&alice, "down", "used_key"), vec![0; 5]);
    eventually("all five shares of every key are claimed", || {
        used(&net.status("bob"), "down", "used_key") == vec![expected; 5]
    });
    assert_eq!(used(&net.status("bob"), "up", "used_key"), vec![0; 5]);
    let hub = net.status("p1");
    assert!(used(&hub, "up", "used_key").contains(&expected));
    assert!(used(&hub, "down", "used_key").contains(&expected));

    // One key for all three, and one the other way round.
    let paid =
        || [used(&net.status("carol"), "up", "used_key"), used(&net.status("bob"), "down", "used_key")];
    let before = paid();
    let group = net.get("carol", "alice,bob", "256");
    assert_eq!(group.report["burned_bytes_per_hub"], 144, "u for each of two receivers");
    let received = net.fetch("bob", &group.id);
    assert!(received.bytes == group.bytes && received.report["burned_bytes_per_hub"] == 104);
    eventually("the sender has paid 144 bytes with each hub, a receiver 104", || {
        let more = |before: &[u64], bytes: u64| before.iter().map(|paid| paid + bytes).collect::<Vec<_>>();
        paid() == [more(&before[0], 144), more(&before[1], 104)]
    });
    assert_eq!(net.fetch("alice", &group.id).bytes, group.bytes);
    let back = net.get("bob", "alice", "256");
    assert_eq!(net.fetch("alice", &back.id).bytes, back.bytes);
}

#[test]
fn a_hub_that_was_down_when_two_clients_met_takes_part_once_it_is_back() {
    let net = Net::up(3, 2, 2, "1MiB");
    net.testnet(&["kill", "p3"]);
    eventually("its end is noticed", || net.status("alice")["policy"]["usable"] == 2);
    let met = net.get("alice", "bob", "256");
    assert_eq!(met.report["n"], 2, "{}", met.report);
    net.testnet(&["restart", "p3"]);
    eventually("all three take part", || net.get("alice", "bob", "256").report["n"] == 3);
    net.testnet(&["kill", "p1"]);
    let held = net.get("alice", "bob", "256");
    assert_eq!(net.fetch("bob", &held.id).bytes, held.bytes, "any other two hubs are enough now");
}

#[test]
fn a_hub_that_is_slow_when_two_clients_meet_is_awaited_where_the_key_needs_it() {
    let net = Net::up(3, 2, 2, "1MiB");
    eventually("all hubs are used", || net.status("alice")["policy"]["usable"] == 3);
    net.signal("p3", Signal::STOP);
    let sent = std::thread::scope(|scope| {
        let sent = scope.spawn(|| net.try_get("alice", "bob", &["--bits", "256", "-k", "3"]));
        // Two hubs have said who bob is, and their claims are enough to know him.
        eventually("bob is known", || {
            net.status("alice")["events"].to_string().contains("bob is established")
        });
        std::thread::sleep(Duration::from_secs(1));
        net.signal("p3", Signal::CONT);
        sent.join().unwrap().unwrap_or_else(|output| panic!("{}", error(&output)))
    });
    assert_eq!(net.fetch("bob", &sent.id).bytes, sent.bytes);
}

#[test]
fn a_hub_that_hangs_is_soon_not_counted_and_is_used_again_when_it_goes_on() {
    let net = Net::up(3, 2, 2, "1MiB");
    net.acquaint("alice", "bob");
    let uses = |hubs: u64| {
        let counted = || ["alice", "bob"].iter().all(|node| net.status(node)["policy"]["usable"] == hubs);
        eventually_within(Duration::from_secs(90), "both see it", counted);
    };
    uses(3);
    // Its kernel goes on to take what is sent.
    net.signal("p3", Signal::STOP);
    uses(2);
    let check = net.at("alice", &["status", "--check"]).output().unwrap();
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(said.contains("p3"), "{said}");
    net.signal("p3", Signal::CONT);
    uses(3);
    let sent = net.get("alice", "bob", "256");
    assert_eq!((&sent.report["n"], &sent.report["burned_hubs"]), (&3.into(), &3.into()));
    assert_eq!(net.fetch("bob", &sent.id).bytes, sent.bytes);
}

#[test]
fn a_hub_whose_pads_are_damaged_is_counted_by_nobody() {
    let net = Net::up(3, 2, 2, "2MiB");
    net.acquaint("alice", "bob");
    let status = net.status("p1");
    let table =
        status["tables"].as_array().unwrap().iter().find(|table| table["peer_name"] == "bob").unwrap();
    let table = table["table"].as_str().unwrap();
    let lane = net.node_dir("p1").join("store/lanes").join(table).join("down.lane");
    let mut bytes = std::fs::read(&lane).unwrap();
    bytes[64 << 10..512 << 10].iter_mut().for_each(|byte| *byte ^= 0x10);
    std::fs::write(&lane, bytes).unwrap();
    // The two others serve meanwhile.
    let is_quarantined = || net.status("p1")["tables"].to_string().contains("quarantined");
    for _ in 0..30 {
        let sent = net.get("alice", "bob", "64kbit");
        assert_eq!(net.fetch("bob", &sent.id).bytes, sent.bytes);
        if is_quarantined() {
            break;
        }
    }
    assert!(is_quarantined());
    let check = net.at("p1", &["status", "--check"]).output().unwrap();
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert_eq!(check.status.code(), Some(2), "{said}");
    assert!(said.starts_with("DSKE CRITICAL") && said.contains("quarantined"), "{said}");
    let usable = || net.status("bob")["policy"]["usable"] == 2;
    eventually_within(Duration::from_secs(90), "bob counts two hubs", usable);
}

#[test]
fn a_receiver_that_was_offline_gets_its_keys_when_it_comes_back() {
    let net = Net::up(4, 2, 2, "1MiB");
    // A receiver that is killed in mid-agreement loses that key: the first one must have arrived.
    net.acquaint("alice", "bob");
    let first = net.get_confirmed("alice", "bob", "256");
    net.testnet(&["kill", "bob"]);
    eventually("alice sees that bob is gone", || {
        net.get("alice", "bob", "256").report["confirmed"][0].is_null()
    });
    let away = net.get("alice", "bob", "256");
    // A hub that restarts meanwhile has its messages in the outbox.
    net.testnet(&["kill", "p1"]);
    net.testnet(&["restart", "p1"]);
    net.testnet(&["restart", "bob"]);
    assert_eq!(net.fetch("bob", &away.id).bytes, away.bytes);
    assert_eq!(net.fetch("bob", &first.id).bytes, first.bytes);
}

#[test]
fn a_receiver_calls_a_sender_that_has_started_anew() {
    let net = Net::up(3, 2, 2, "1MiB");
    net.acquaint("alice", "bob");
    net.testnet(&["kill", "alice"]);
    // So long do hubs repeat what bob has announced; he says it again after a minute.
    std::thread::sleep(std::time::Duration::from_secs(8));
    net.testnet(&["restart", "alice"]);
    let bob = net.status("bob")["node"]["id"].as_str().unwrap().to_owned();
    let linked = format!("connection node={} up=true", &bob[..8]);
    eventually("alice and bob have a direct link again", || {
        net.get("alice", "bob", "256");
        net.log("alice").rsplit(" is ready on ").next().is_some_and(|since| since.contains(&linked))
    });
}

#[test]
fn bad_hubs_below_the_threshold_are_borne_and_at_the_threshold_there_is_no_key() {
    let net = Net::up(5, 2, 3, "1MiB");
    // Without a direct link the sender would not hear that the receiver aborts.
    net.acquaint("alice", "bob");
    net.testnet(&["chaos", "p4", "false-shares"]);
    net.testnet(&["kill", "p5"]);
    for _ in 0..3 {
        let sent = net.get("alice", "bob", "256");
        assert_eq!(net.fetch("bob", &sent.id).bytes, sent.bytes);
    }
    eventually("bob names the liar", || {
        let bob = net.status("bob");
        bob["sessions"].as_array().unwrap().iter().any(|session| session["liars"][0] == "p4")
    });
    // The one that lies is not counted as one that may still begin to.
    let check = net.at("bob", &["status", "--check"]).output().unwrap();
    let said = String::from_utf8(check.stdout).unwrap();
    assert!(
        said.contains("false shares of p4 in the latest agreements: none may fail or lie besides"),
        "{said}"
    );
    assert_eq!(check.status.code(), Some(2), "{said}");
    net.testnet(&["kill", "p3"]);
    let aborted = loop {
        // Until the sender sees that p3 is gone, it may fail for want of an answer instead.
        let failed =
            net.try_get("alice", "bob", &["--bits", "256"]).err().expect("three of five hubs are bad");
        if failed.status.code() == Some(5) {
            break error(&failed);
        }
        assert_eq!(failed.status.code(), Some(4), "{}", error(&failed));
    };
    assert!(aborted.contains("1 or more are false"), "{aborted}");
    // Honest again: three hubs of five suffice.
    net.testnet(&["chaos", "p4", "off"]);
    let sent = net.get("alice", "bob", "256");
    assert_eq!(net.fetch("bob", &sent.id).bytes, sent.bytes);
}

#[test]
fn wrong_requests_are_told_apart() {
    let net = Net::up(3, 2, 2, "256KiB");
    let nobody = net.try_get("alice", "nobody", &["--bits", "256"]).err().unwrap();
    assert_eq!(nobody.status.code(), Some(3), "{}", error(&nobody));
    let large = net.try_get("alice", "bob", &["--bits", "8Mbit"]).err().unwrap();
    assert_eq!(large.status.code(), Some(6), "{}", error(&large));
    let odd = net.try_get("alice", "bob", &["--bits", "257"]).err().unwrap();
    assert_eq!(odd.status.code(), Some(2), "{}", error(&odd));
    let strict = net.try_get("alice", "bob", &["-k", "3", "--hubs", "p1,p2"]).err().unwrap();
    assert_eq!(strict.status.code(), Some(4), "{}", error(&strict));
    let missing = net.try_fetch("bob", &"0".repeat(32), None).err().unwrap();
    assert!(error(&missing).contains("dske::key::unknown"), "{}", error(&missing));
}

#[test]
fn a_key_file_has_its_name_once_it_is_whole_and_an_interrupted_request_leaves_nothing() {
    let net = Net::up(2, 2, 2, "64KiB");
    let place = net.dir().join("keys");
    std::fs::create_dir(&place).unwrap();
    let out = place.join("psk.key");
    let files = || std::fs::read_dir(&place).unwrap().count();
    // What is said at the sender can be given as it stands.
    let sent = net.at("alice", &["key", "get", "--with", "bob", "--raw", "-q"]).output().unwrap();
    assert_eq!((sent.status.code(), sent.stdout.len()), (Some(0), 32), "{}", error(&sent));
    let sent = net.at("alice", &["key", "get", "--with", "bob", "--out", "hint.key"]).output().unwrap();
    let hint = error(&sent);
    let hint = hint.lines().find_map(|line| line.split_once("at bob: dske ")).unwrap().1.to_owned();
    let words: Vec<&str> = hint.split_whitespace().collect();
    let fetched = net.dske(&words).args(["--wait", "15s", "--raw"]).output().unwrap();
    assert_eq!(fetched.stdout, std::fs::read(net.dir().join("hint.key")).unwrap(), "{}", error(&fetched));
    for signal in [Signal::INT, Signal::TERM] {
        let id = "0".repeat(32);
        let mut fetch = net.at("bob", &["key", "fetch", &id, "--wait", "60s"]);
        let mut fetch = fetch.arg("--out").arg(&out).stderr(Stdio::null()).spawn().unwrap();
        eventually("there is room for the key", || files() == 1);
        assert!(!out.exists(), "it is no key yet");
        kill_process(Pid::from_child(&fetch), signal).unwrap();
        assert_eq!(fetch.wait().unwrap().code(), Some(130));
        assert_eq!(files(), 0, "nothing is left");
    }
}
