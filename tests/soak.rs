//! Hubs and clients killed with SIGKILL at random moments under load: in mid-agreement, while they start,
//! several at once, a hub together with a receiver. Then the books are checked.
//!
//! `DSKE_SOAK_KILLS=200 DSKE_SEED=7 cargo test --release --test soak -- --nocapture` goes on for as long as
//! one likes. The seed fixes who is killed when and what is asked for; the system does the rest.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Output,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use common::{
    Net, error, eventually, is_gone,
    ledgers::{assert_ledgers_agree, assert_no_byte_serves_twice},
    setting,
};
use dske_protocol::ids::KeyId;
use dske_storage::{BlockState, Options, Store};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rustix::process::Signal;

const HUBS: u8 = 5;
const CLIENTS: [&str; 4] = ["alice", "bob", "carol", "dave"];
/// Who asks whom.
const ROUTES: [(&str, &str); 5] =
    [("alice", "bob"), ("carol", "bob,dave"), ("dave", "alice"), ("bob", "carol,alice"), ("alice", "bob")];
/// As many as CI has time for.
const KILLS: u64 = 8;
/// A client loses a chunk of each lane and the pads of what was under way with each of its kills.
const PAD_MIB_PER_KILL: u64 = 1;

/// Everything that was seen from outside.
#[derive(Default)]
struct Seen {
    /// Keys that a node has handed out.
    taken: Mutex<BTreeSet<(String, String)>>,
    /// Keys that a node has listed as ready and nobody has asked for.
    waiting: Mutex<BTreeMap<(String, String), Vec<u8>>>,
    agreed: AtomicUsize,
    absent: AtomicUsize,
    failed: AtomicUsize,
    stop: AtomicBool,
}

fn code(output: &Output) -> String {
    let text = error(output);
    let at = text.find("dske::").unwrap_or(text.len());
    text[at..].split_whitespace().next().unwrap_or_default().to_owned()
}

/// One sender: asks for keys of all sizes, and takes most of them at the receivers.
fn send(net: &Net, seen: &Seen, (from, with): (&str, &str), mut rng: StdRng) {
    while !seen.stop.load(Ordering::Relaxed) {
        let bits = match rng.random_range(0..20) {
            0 => "8",
            1..12 => "256",
            12..17 => "2048",
            17..19 => "16384",
            _ => "131072",
        };
        let Ok(sent) = net.try_get(from, with, &["--bits", bits, "--timeout", "5s"]) else {
            seen.failed.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        seen.taken.lock().unwrap().insert((from.to_owned(), sent.id.clone()));
        for receiver in with.split(',') {
            let key = (receiver.to_owned(), sent.id.clone());
            if rng.random_bool(0.15) {
                // Left there, once the node has said that it has it.
                if is_ready(net, &key) {
                    seen.waiting.lock().unwrap().insert(key, sent.bytes.clone());
                }
                continue;
            }
            match net.try_fetch(receiver, &sent.id, Some("2s")) {
                Ok(held) => {
                    assert_eq!(held.bytes, sent.bytes, "{key:?}: the sides hold different keys");
                    seen.taken.lock().unwrap().insert(key);
                    seen.agreed.fetch_add(1, Ordering::Relaxed);
                }
                // The receiver, or its share holders, may have died with what they had in memory.
                Err(output) => {
                    assert_ne!(code(&output), "dske::key::taken", "{key:?} was taken by nobody");
                    seen.absent.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

fn is_ready(net: &Net, (node, id): &(String, String)) -> bool {
    let output = net.at(node, &["key", "ls", "--limit", "200", "--json"]).output().unwrap();
    let Ok(list) = serde_json::from_slice::<serde_json::Value>(&output.stdout) else { return false };
    let keys = list["keys"].as_array().cloned().unwrap_or_default();
    keys.iter().any(|key| key["block"] == **id && key["state"] == "ready")
}

/// Kills without asking, waits until nothing of the process is left.
fn kill(net: &Net, nodes: &[String]) -> u64 {
    let killed: Vec<i32> = nodes.iter().filter_map(|node| net.signal(node, Signal::KILL)).collect();
    for pid in &killed {
        eventually("a killed process is gone", || is_gone(*pid));
    }
    killed.len() as u64
}

/// Starts a node and kills it again so long after its process is there.
fn kill_while_it_starts(net: &Net, node: &str, after: Duration) -> u64 {
    thread::scope(|scope| {
        let starting = scope.spawn(|| net.dske(&["testnet", "restart", node]).output().unwrap());
        while net.pid(node).is_none() && !starting.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(after);
        let killed = kill(net, &[node.to_owned()]);
        // It may have been ready before.
        drop(starting.join().unwrap());
        killed
    })
}

/// Starts a node. While it was down, a look at its keys may have opened the store, which then is in use for a moment.
fn restart(net: &Net, node: &str) {
    eventually("nobody else has the store", || {
        let output = net.dske(&["testnet", "restart", node]).output().unwrap();
        let in_use = error(&output).contains("dske::node::running");
        assert!(output.status.success() || in_use, "{node}: {}", error(&output));
        output.status.success()
    });
}

/// A key that waited is there, and one that was taken is not.
fn check_keys(net: &Net, seen: &Seen, node: &str, rng: &mut StdRng) {
    let mine = |key: &(String, String)| key.0 == node;
    let waiting = seen.waiting.lock().unwrap().keys().find(|key| mine(key)).cloned();
    if let Some(key) = waiting {
        let bytes = seen.waiting.lock().unwrap().remove(&key).unwrap();
        let held = net.try_fetch(node, &key.1, None).unwrap_or_else(|output| {
            panic!("{key:?} was ready before the kill: {}", error(&output));
        });
        assert_eq!(held.bytes, bytes, "{key:?}: the sides hold different keys");
        seen.taken.lock().unwrap().insert(key);
    }
    let taken: Vec<String> =
        seen.taken.lock().unwrap().iter().filter(|key| mine(key)).map(|key| key.1.clone()).collect();
    if !taken.is_empty() {
        let id = &taken[rng.random_range(0..taken.len())];
        assert!(net.try_fetch(node, id, None).is_err(), "{node} handed {id} out twice");
    }
}

/// Kills until there were enough of them.
fn reap(net: &Net, seen: &Seen, kills: u64, rng: &mut StdRng) {
    let nodes = net.nodes();
    let mut done = 0;
    while done < kills {
        thread::sleep(Duration::from_millis(rng.random_range(0..700)));
        let running = |node: &&String| net.pid(node).is_none();
        let gone: Vec<&String> = nodes.iter().filter(running).collect();
        assert!(gone.is_empty(), "{gone:?} ended by themselves");
        let mut victims = BTreeSet::new();
        match rng.random_range(0..10) {
            // A hub and a receiver together.
            0..2 => {
                victims.insert(format!("p{}", rng.random_range(1..=HUBS)));
                victims.insert(CLIENTS[rng.random_range(0..CLIENTS.len())].to_owned());
            }
            // Several of any kind.
            2..4 => {
                let count = rng.random_range(2..=4);
                victims.extend((0..count).map(|_| nodes[rng.random_range(0..nodes.len())].clone()));
            }
            _ => {
                victims.insert(nodes[rng.random_range(0..nodes.len())].clone());
            }
        }
        let victims: Vec<String> = victims.into_iter().collect();
        done += kill(net, &victims);
        thread::sleep(Duration::from_millis(rng.random_range(0..300)));
        for node in &victims {
            while rng.random_bool(0.3) && done < kills {
                let after = Duration::from_micros(rng.random_range(0..150_000));
                done += kill_while_it_starts(net, node, after);
            }
            restart(net, node);
            if CLIENTS.contains(&node.as_str()) {
                check_keys(net, seen, node, rng);
            }
        }
    }
}

#[test]
fn nothing_is_lost_or_used_twice_however_often_processes_are_killed() {
    let (seed, kills) = (setting("DSKE_SEED", 1), setting("DSKE_SOAK_KILLS", KILLS));
    let pads = format!("{}MiB", 8 + kills * PAD_MIB_PER_KILL / 4);
    println!("seed {seed}, {kills} kills, pads of {pads}");
    let mut rng = StdRng::seed_from_u64(seed);
    let net = Net::up(HUBS, 4, 3, &pads);
    let seen = Seen::default();
    for (from, with) in ROUTES {
        net.get(from, with, "256");
    }
    thread::scope(|scope| {
        for route in ROUTES {
            let rng = StdRng::seed_from_u64(rng.random());
            let (net, seen) = (&net, &seen);
            scope.spawn(move || {
                // Whoever stops at a surprise stops the others too.
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    send(net, seen, route, rng);
                }));
                if let Err(panic) = outcome {
                    seen.stop.store(true, Ordering::Relaxed);
                    std::panic::resume_unwind(panic);
                }
            });
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            reap(&net, &seen, kills, &mut rng);
            let before = seen.agreed.load(Ordering::Relaxed);
            eventually("keys are agreed after the last kill", || {
                seen.agreed.load(Ordering::Relaxed) > before + 5
            });
        }));
        seen.stop.store(true, Ordering::Relaxed);
        outcome.unwrap();
    });
    // Nothing is stuck: every pair agrees again, over all hubs, also those that were down when the two first met.
    for (from, with) in CLIENTS.iter().flat_map(|from| CLIENTS.map(|with| (*from, with))) {
        if from != with {
            eventually("all hubs take part", || {
                let sent = net.get(from, with, "256");
                assert_eq!(net.fetch(with, &sent.id).bytes, sent.bytes);
                sent.report["n"] == HUBS
            });
        }
    }
    for node in net.nodes() {
        assert!(!net.log(&node).contains("panicked"), "{node} panicked; see its log");
    }
    let messages = assert_no_byte_serves_twice(&net);
    assert_ledgers_agree(&net);
    let both = assert_keys_agree(&net, &seen);
    println!(
        "{kills} kills: {} keys agreed and compared, {} absent at a receiver, {} requests failed; {messages} messages, no \
         byte in two; {} keys taken, none twice; {both} keys waited at both ends, all equal",
        seen.agreed.load(Ordering::Relaxed),
        seen.absent.load(Ordering::Relaxed),
        seen.failed.load(Ordering::Relaxed),
        seen.taken.lock().unwrap().len(),
    );
    assert!(seen.agreed.load(Ordering::Relaxed) as u64 > kills, "too little was agreed");
}

/// What was taken is taken, what waited is there, and what waits at several ends is equal. The nodes are down.
fn assert_keys_agree(net: &Net, seen: &Seen) -> usize {
    let mut held: BTreeMap<String, BTreeMap<&str, Vec<u8>>> = BTreeMap::new();
    let taken = seen.taken.lock().unwrap();
    let mut waiting = seen.waiting.lock().unwrap().clone();
    for client in CLIENTS {
        let store = Store::open(&net.node_dir(client).join("store"), Options::default()).unwrap();
        let take = |id: &str| {
            let id = KeyId { block: id.parse().unwrap(), index: 0 };
            dske_storage::wait(store.take_key(id)).unwrap()
        };
        for (_, id) in taken.iter().filter(|(node, _)| node == client) {
            assert!(take(id).is_err(), "{client} handed {id} out twice");
        }
        for record in store.blocks(usize::MAX).unwrap() {
            if record.state == BlockState::Ready {
                let id = record.block.to_string();
                let key = take(&id).unwrap_or_else(|error| panic!("{client} {id}: {error}"));
                if let Some(bytes) = waiting.remove(&(client.to_owned(), id.clone())) {
                    assert_eq!(key.expose(), bytes, "{client} {id}: the sides hold different keys");
                }
                held.entry(id).or_default().insert(client, key.expose().to_vec());
            }
        }
        store.close().unwrap();
    }
    assert!(waiting.is_empty(), "acknowledged and gone: {:?}", waiting.keys());
    for (id, ends) in &held {
        assert!(ends.values().collect::<BTreeSet<_>>().len() <= 1, "{id}: the sides hold different keys");
    }
    held.values().filter(|ends| ends.len() > 1).count()
}
