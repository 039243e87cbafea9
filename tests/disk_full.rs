//! A node whose disk is full, on real processes and a real file system of its own: what needs no space goes on,
//! what does is refused with what to do, the node starts again when there is space, and nothing is used twice.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;
#[path = "../storage/tests/devices/namespace.rs"]
#[allow(dead_code, reason = "the other tests use the rest of it")]
mod namespace;

use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use common::{
    Net, error, eventually,
    ledgers::{assert_ledgers_agree, assert_no_byte_serves_twice},
};

/// Room beyond what the store has: a segment of keys and one of messages, and a little.
const SPARE_KIB: u64 = 9 << 10;

/// Moves a node's store to a small file system.
fn move_to_small_disk(net: &Net, node: &str) -> PathBuf {
    net.testnet(&["kill", node]);
    let store = net.node_dir(node).join("store");
    let aside = net.node_dir(node).join("aside");
    std::fs::rename(&store, &aside).unwrap();
    std::fs::create_dir(&store).unwrap();
    let used = Command::new("du").args(["-sk", "--apparent-size"]).arg(&aside).output().unwrap();
    let used: u64 = String::from_utf8_lossy(&used.stdout).split_whitespace().next().unwrap().parse().unwrap();
    mount(&store, used + SPARE_KIB);
    let copied = Command::new("cp").arg("-a").arg(aside.join(".")).arg(&store).output().unwrap();
    assert!(copied.status.success(), "{}", error(&copied));
    net.testnet(&["restart", node]);
    store
}

/// Mounts a small file system.
fn mount(place: &Path, kib: u64) {
    let options = format!("size={kib}k,mode=700");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &options, "dske-small"])
        .arg(place)
        .output()
        .unwrap();
    if !mounted.status.success() {
        namespace::cannot_mount("a tmpfs", &String::from_utf8_lossy(&mounted.stderr));
    }
}

fn fill(store: &Path) {
    let mut file = OpenOptions::new().create(true).append(true).open(store.join("filler")).unwrap();
    while file.write_all(&[7; 4096]).is_ok() {}
}

/// Frees the space, and starts the node where it stopped its store.
fn free(net: &Net, node: &str, store: &Path) {
    std::fs::remove_file(store.join("filler")).unwrap();
    net.testnet(&["restart", node]);
}

fn said(net: &Net, node: &str) -> bool {
    net.log(node).contains("no space left")
}

#[test]
fn a_node_on_a_full_disk_says_so_loses_nothing_and_goes_on_with_space() {
    if !namespace::enter("a_node_on_a_full_disk_says_so_loses_nothing_and_goes_on_with_space") {
        return;
    }
    let net = Net::up(3, 3, 2, "512KiB");
    // Carol holds a key before anything is full.
    let early = net.get("alice", "carol", "256");

    // Where she wants it there is no room: that is found before the key is taken.
    let place = net.dir().join("place");
    std::fs::create_dir(&place).unwrap();
    mount(&place, 64);
    fill(&place);
    let fetch = ["key", "fetch", &early.id, "--wait", "15s", "--out", "place/early.key"];
    let refused = net.at("carol", &fetch).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said_so: String = error(&refused).split_whitespace().collect();
    assert!(said_so.contains("Nospaceleft") && said_so.contains("nokeywasaskedfor"), "{said_so}");
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 1, "the filler alone is left");

    // The receiver has no place for its first key.
    let store = move_to_small_disk(&net, "bob");
    fill(&store);
    match net.try_get("alice", "bob", &["--bits", "256", "--timeout", "5s"]) {
        Ok(sent) => {
            assert!(sent.report["confirmed"][0].is_null(), "bob has no place for it: {}", sent.report);
            assert!(net.try_fetch("bob", &sent.id, None).is_err());
        }
        Err(output) => {
            println!("alice is told: {}", error(&output));
            assert!(!error(&output).contains("lied"), "no hub is at fault: {}", error(&output));
        }
    }
    eventually("the receiver's log says what to do", || said(&net, "bob"));
    let check = net.at("bob", &["status", "--check"]).output().unwrap();
    let line = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.status.code() == Some(2) && line.contains("disk"), "{line}");
    free(&net, "bob", &store);
    let sent = net.get("alice", "bob", "256");
    assert_eq!(net.fetch("bob", &sent.id).bytes, sent.bytes);

    // A hub has no place for a long message to somebody who is away; the others have.
    let store = move_to_small_disk(&net, "p1");
    eventually("the hub is back, at both ends", || {
        let Ok(sent) = net.try_get("alice", "bob", &["--bits", "256"]) else { return false };
        let held = net.try_fetch("bob", &sent.id, Some("10s"));
        sent.report["burned_hubs"] == 3 && held.is_ok_and(|held| held.report["shares"] == 3)
    });
    net.testnet(&["kill", "bob"]);
    fill(&store);
    let away = net.get("alice", "bob", "65536");
    eventually("the hub's log says what to do", || said(&net, "p1"));
    free(&net, "p1", &store);
    net.testnet(&["restart", "bob"]);
    assert_eq!(net.fetch("bob", &away.id).bytes, away.bytes);

    // The sender has no place for a key that it would be given.
    let store = move_to_small_disk(&net, "carol");
    fill(&store);
    let refused = net.try_get("carol", "bob", &["--bits", "256", "--timeout", "5s"]);
    if let Err(output) = &refused {
        println!("carol is told: {}", error(output));
    }
    free(&net, "carol", &store);
    assert_eq!(net.fetch("carol", &early.id).bytes, early.bytes, "acknowledged before the disk was full");
    let sent = net.get("carol", "bob", "256");
    assert_eq!(net.fetch("bob", &sent.id).bytes, sent.bytes);

    assert!(assert_no_byte_serves_twice(&net) > 20);
    assert_ledgers_agree(&net);
}
