//! What the nodes of a network did, from the messages that all of them logged and from the ledgers of all
//! of them: no byte serves twice, and the books of both ends agree.

use std::collections::BTreeMap;

use dske_storage::{Options, Store, TableState};

use super::Net;

/// A message as a node logged it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Logged {
    offset: u64,
    len: u64,
    digest: String,
}

/// All messages that all nodes logged, by table and lane.
pub(crate) fn messages(net: &Net) -> BTreeMap<(String, String), Vec<Logged>> {
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
pub(crate) fn assert_no_byte_serves_twice(net: &Net) -> usize {
    assert_no_byte_serves_twice_below(net, u64::MAX)
}

/// No two different messages consume a common byte that stands before `end` in its lane.
pub(crate) fn assert_no_byte_serves_twice_below(net: &Net, end: u64) -> usize {
    let mut count = 0;
    for ((table, lane), mut logged) in messages(net) {
        logged.retain(|message| message.offset < end);
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
pub(crate) fn assert_ledgers_agree(net: &Net) {
    let nodes = net.nodes();
    // Nothing moves any more when the logs are read.
    for node in &nodes {
        net.testnet(&["kill", node]);
    }
    let messages = messages(net);
    let mut given: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut claimed: BTreeMap<(String, String), u64> = BTreeMap::new();
    for node in &nodes {
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
        assert!(
            claimed <= logged,
            "table {table} {lane}: {claimed} claimed, {logged} in messages: {:?}",
            messages.get(&(table.clone(), lane.clone()))
        );
        let given = given[&(table.clone(), lane.clone())];
        assert!(logged <= given, "table {table} {lane}: {logged} in messages, {given} given out");
    }
}
