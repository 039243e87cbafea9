//! A local network comes up, tells what is in its way, and leaves nothing where it could not come up.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::{fs, net::TcpListener};

use common::{Net, error};
use dske_storage::{Options, Store, TableState};

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
