//! Processes killed in mid-agreement: the other keys go on, what restarts works again, and no byte of any
//! lane ever serves twice, as the logs of all messages and the ledgers of all nodes show.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use common::{Net, eventually};
use dske_storage::{Options, Store, TableState};

/// A message as a node logged it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Logged {
    offset: u64,
    len: u64,
    digest: String,
}

/// All messages that all nodes logged, by table and lane.
fn messages(net: &Net) -> BTreeMap<(String, String), Vec<Logged>> {
    let mut lanes: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for node in net.nodes() {
        for line in net.log(&node).lines().filter(|line| line.contains("digest=")) {
            let field = |name: &str| {
                let at = line.find(&format!(" {name}="))? + name.len() + 2;
                line[at..].split_whitespace().next().map(str::to_owned)
            };
            let number = |name| field(name).and_then(|text| text.parse().ok());
            let all = (field("table"), field("lane"), number("offset"), number("len"), field("digest"));
            // A line that a kill cut off tells nothing.
            let (Some(table), Some(lane), Some(offset), Some(len), Some(digest)) = all else { continue };
            lanes.entry((table, lane)).or_default().push(Logged { offset, len, digest });
        }
    }
    lanes
}

/// No two different messages consume a common byte.
fn assert_no_byte_serves_twice(net: &Net) -> usize {
    let mut count = 0;
    for ((table, lane), mut logged) in messages(net) {
        logged.sort();
        // The same message is logged by both ends, and again when it was sent again.
        logged.dedup();
        count += logged.len();
        for pair in logged.windows(2) {
            let (first, second) = (&pair[0], &pair[1]);
            assert!(
                first.offset + first.len <= second.offset,
                "table {table} {lane}: {first:?} and {second:?}"
            );
        }
    }
    count
}

/// Bytes of a lane that the messages in the logs consume.
fn consumed(messages: &BTreeMap<(String, String), Vec<Logged>>, table: &str, lane: &str) -> u64 {
    let mut logged = messages.get(&(table.to_owned(), lane.to_owned())).cloned().unwrap_or_default();
    logged.sort();
    logged.dedup();
    logged.iter().map(|message| message.len).sum()
}

/// Every ledger opens and adds up, and no receiving end of a lane claims more than messages consumed, nor
/// more than its allocating end gave out.
fn assert_ledgers_agree(net: &Net) {
    let messages = messages(net);
    let nodes = net.nodes();
    let mut given: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut claimed: BTreeMap<(String, String), u64> = BTreeMap::new();
    for node in &nodes {
        net.testnet(&["kill", node]);
        let store = Store::open(&net.node_dir(node).join("store"), Options::default()).unwrap();
        for table in store.tables() {
            assert_eq!(table.state, TableState::Active, "{node}: {}", table.serial);
            for lane in &table.lanes {
                let used = lane.used_key + lane.used_identity + lane.used_sync;
                assert_eq!(lane.bytes, used + lane.skipped + lane.reserved + lane.left, "{node}");
                let key = (table.table.to_string(), lane.lane.to_string());
                if lane.allocator {
                    given.insert(key, lane.bytes - lane.left);
                } else {
                    claimed.insert(key, used);
                }
            }
        }
        store.close().unwrap();
    }
    for ((table, lane), claimed) in claimed {
        let logged = consumed(&messages, &table, &lane);
        assert!(claimed <= logged, "table {table} {lane}: {claimed} claimed, {logged} in messages");
        let given = given[&(table.clone(), lane.clone())];
        assert!(logged <= given, "table {table} {lane}: {logged} in messages, {given} given out");
    }
}

#[test]
fn any_process_may_die_in_mid_agreement() {
    let net = Net::up(5, 3, 3, "8MiB");
    net.get("alice", "bob", "256");
    net.get("carol", "bob", "256");
    let stop = AtomicBool::new(false);
    let (agreed, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for sender in ["alice", "carol", "alice", "carol"] {
            let (net, stop, agreed, failed) = (&net, &stop, &agreed, &failed);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    match net.try_get(sender, "bob", &["--bits", "2048", "--timeout", "5s"]) {
                        Err(_) => failed.fetch_add(1, Ordering::Relaxed),
                        Ok(sent) => {
                            // Equal or absent: bob may have died with the shares in memory.
                            if let Ok(held) = net.try_fetch("bob", &sent.id, Some("2s")) {
                                assert_eq!(held.bytes, sent.bytes, "the sides hold different keys");
                                agreed.fetch_add(1, Ordering::Relaxed);
                            }
                            0
                        }
                    };
                }
            });
        }
        for victim in ["p2", "bob", "p4", "carol", "bob", "p1", "alice"] {
            thread::sleep(Duration::from_millis(400));
            let before = agreed.load(Ordering::Relaxed);
            net.testnet(&["kill", victim]);
            if victim.starts_with('p') {
                eventually("the others go on without a hub", || agreed.load(Ordering::Relaxed) > before + 2);
            } else if victim != "bob" {
                eventually("the other sender goes on", || agreed.load(Ordering::Relaxed) > before + 2);
            }
            net.testnet(&["restart", victim]);
            let before = agreed.load(Ordering::Relaxed);
            eventually("keys are agreed after the restart", || agreed.load(Ordering::Relaxed) > before + 2);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(agreed.load(Ordering::Relaxed) > 20);
    for sender in ["alice", "carol"] {
        let sent = net.get(sender, "bob", "256");
        assert_eq!(net.fetch("bob", &sent.id).bytes, sent.bytes);
        assert_eq!(sent.report["n"], 5);
    }
    let messages = assert_no_byte_serves_twice(&net);
    assert!(messages > 200, "only {messages} messages were logged");
    assert_ledgers_agree(&net);
}
