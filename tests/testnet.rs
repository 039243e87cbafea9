//! A local network comes up, tells what is in its way, and leaves nothing where it could not come up.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{Net, error};
use dske_storage::{Options, Store, TableState};
use serde_json::Value;

#[test]
fn a_port_in_the_way_is_named_and_everything_is_rolled_back() {
    let net = Net::empty();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    // The second hub gets the port that is taken.
    let base = (port - 1).to_string();
    let up =
        ["testnet", "up", "--hubs", "3", "--clients", "2", "-k", "2", "--pads", "256KiB", "--port", &base];
    let failed = net.dske(&up).output().unwrap();
    assert!(!failed.status.success());
    assert!(error(&failed).contains(&port.to_string()), "{}", error(&failed));
    let left = net.dir().join("nets/dev");
    assert!(!left.exists(), "{:?}", fs::read_dir(&left).map(|entries| entries.count()));
    drop(taken);
    let again = net.dske(&up).output().unwrap();
    assert!(again.status.success(), "{}", error(&again));
}

#[test]
fn a_directory_in_the_way_is_named_and_left_alone() {
    let net = Net::empty();
    let mine = net.dir().join("nets/dev");
    fs::create_dir_all(&mine).unwrap();
    fs::write(mine.join("thesis.txt"), "precious").unwrap();
    let failed = net.dske(&["testnet", "up", "--pads", "256KiB"]).output().unwrap();
    assert!(!failed.status.success());
    assert!(error(&failed).contains("nets/dev"), "{}", error(&failed));
    assert_eq!(fs::read_to_string(mine.join("thesis.txt")).unwrap(), "precious");
}

/// Established TCP connections of this machine: local port, remote port.
fn connections() -> Vec<(u16, u16)> {
    const ESTABLISHED: &str = "01";
    let port = |text: &str| u16::from_str_radix(text.rsplit(':').next().unwrap(), 16).unwrap();
    let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = sockets.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter(|all| all[3] == ESTABLISHED).map(|all| (port(all[1]), port(all[2]))).collect()
}

#[test]
fn a_node_calls_from_a_fresh_port() {
    let net = Net::up(3, 2, 2, "256KiB");
    net.acquaint("alice", "bob");
    let listening = |node: &str| -> u16 {
        let status = net.status(node);
        let address = status["node"]["listen"][0].as_str().unwrap().to_owned();
        address.split('/').nth(4).unwrap().parse().unwrap()
    };
    let hubs = ["p1", "p2", "p3"].map(listening);
    let clients = ["alice", "bob"].map(listening);
    let connections = connections();
    let calls = connections.iter().filter(|(_, remote)| hubs.contains(remote));
    assert!(calls.clone().count() >= 6, "each client has called each hub: {connections:?}");
    // From one port there is one call to an address, and none for a minute after it has ended.
    assert!(calls.clone().all(|(local, _)| !clients.contains(local) && !hubs.contains(local)));
}

#[test]
fn the_stores_of_a_network_that_was_killed_open_and_add_up() {
    let net = Net::up(3, 2, 2, "512KiB");
    net.acquaint("alice", "bob");
    for node in net.nodes() {
        net.testnet(&["kill", &node]);
    }
    for node in net.nodes() {
        let store = Store::open(&net.node_dir(&node).join("store"), Options::default()).unwrap();
        for table in store.tables() {
            assert_eq!(table.state, TableState::Active, "{node}: {}", table.serial);
            for lane in &table.lanes {
                let used = lane.used_key + lane.used_identity + lane.used_sync;
                assert_eq!(lane.bytes, used + lane.skipped + lane.reserved + lane.left, "{node}");
            }
        }
        store.close().unwrap();
    }
    // No node without its marker takes the order to misbehave, and a client never does.
    net.testnet(&["restart", "alice"]);
    let refused = net.dske(&["testnet", "chaos", "alice", "false-shares"]).output().unwrap();
    assert!(!refused.status.success());
}

/// A program that must end by itself, and not well; what it said.
#[track_caller]
fn refused(mut command: Command) -> (Option<i32>, String) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_secs(30) {
            child.kill().unwrap();
            panic!("it runs: {command:?}");
        }
        thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output().unwrap();
    (output.status.code(), error(&output))
}

#[test]
fn a_port_on_which_a_node_listens_is_not_shared_with_another() {
    let net = Net::up(1, 1, 1, "256KiB");
    let address = net.status("p1")["node"]["listen"][0].as_str().unwrap().to_owned();
    let port: u16 = address.rsplit('/').next().unwrap().parse().unwrap();
    let everywhere = format!("/ip4/0.0.0.0/tcp/{port}");
    for (dir, address) in [("one", &address), ("other", &everywhere)] {
        let init = ["init", "--dir", dir, "--role", "hub", "--name", dir, "--listen", address];
        assert!(net.dske(&init).output().unwrap().status.success());
    }
    let copied = Command::new("cp").arg("-a").arg(net.node_dir("p1")).arg(net.dir().join("copy")).status();
    assert!(copied.unwrap().success());
    for dir in ["one", "other", "copy"] {
        let (status, said) = refused(net.dske(&["run", "--dir", dir]));
        assert_eq!(status, Some(3), "{dir}: {said}");
        assert!(said.contains("cannot listen on") && said.contains("in use"), "{dir}: {said}");
    }
    let (_, said) = refused(net.at("p1", &["run"]));
    assert!(said.contains("dske::node::running"), "its own directory is what is in use: {said}");
    // Connections that have just ended do not keep the node away.
    net.testnet(&["restart", "p1"]);
    assert_eq!(net.status("p1")["node"]["listen"][0], address.as_str());
}

/// The testnets here.
fn testnets(net: &Net) -> Vec<Value> {
    let output = net.dske(&["testnet", "ls", "--json"]).output().unwrap();
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    listed["testnets"].as_array().unwrap().clone()
}

#[test]
fn what_a_killed_start_leaves_is_named_and_can_be_removed() {
    let net = Net::empty();
    let up = ["testnet", "up", "--name", "k", "--hubs", "2", "--clients", "1", "-k", "1", "--pads", "1MiB"];
    let root = net.dir().join("nets/k");
    // Ended when it has begun, when it makes modules, and when a node runs; and before it has written anything.
    for seen in ["net.json", "p1/store", "p1/control.sock"] {
        let mut child = net.dske(&up).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while !root.join(seen).exists() && child.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(testnets(&net).iter().map(|net| &net["name"]).collect::<Vec<_>>(), ["k"], "{seen}");
        let listed = net.dske(&["testnet", "ls"]).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.contains("k is unfinished"), "{seen}: {listed}");
        let (_, said) = refused(net.dske(&["status", "--testnet", "k", "--as", "p1"]));
        assert!(said.contains("not ready") && said.contains("testnet down --name k"), "{seen}: {said}");
        let (_, said) = refused(net.dske(&up));
        assert!(said.contains("testnet down --name k"), "{seen}: {said}");
        let down = net.dske(&["testnet", "down", "--name", "k"]).output().unwrap();
        assert!(down.status.success(), "{seen}: {}", error(&down));
        assert!(!root.exists() && testnets(&net).is_empty(), "{seen}");
        assert!(!runs_in(&root), "{seen}: a node is left");
    }
    fs::create_dir_all(&root).unwrap();
    net.testnet(&["down", "--name", "k"]);
    assert!(!root.exists());
}

/// Whether a process was started on something below a directory.
fn runs_in(root: &Path) -> bool {
    let root = root.to_str().unwrap();
    fs::read_dir("/proc").unwrap().flatten().any(|process| {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(root)
    })
}
