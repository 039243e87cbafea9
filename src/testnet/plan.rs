//! What a testnet consists of: its nodes by name, its sizes, its place.

use std::{path::PathBuf, time::Duration};

use dske_node::config::Role;
use dske_protocol::ids::Name;

use crate::{
    cli::error::{CliError, Result, exit},
    testnet::{Pads, ports::Ports},
};

/// The fewest nodes among which every node is hub and client that make sense: with three, a key has one hub, which knows it.
const PEERS_MIN: u8 = 4;

/// Names of the first clients; further ones are `c7`, `c8`, …
const CLIENTS: [&str; 6] = ["alice", "bob", "carol", "dave", "erin", "frank"];

/// Longest path that the system takes for a socket.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Longest path of a socket below a testnet's directory.
const LONGEST_SOCKET: &str = "/alice/control.sock";

/// A testnet to be.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Its name.
    pub(crate) name: Name,
    /// The directory that holds everything of it; must not exist.
    pub(crate) root: PathBuf,
    /// Number of nodes that are hubs alone.
    pub(crate) hubs: u8,
    /// Number of nodes that are clients alone.
    pub(crate) clients: u8,
    /// Number of nodes that are hub and client, each of each other. There are these alone, or hubs and clients.
    pub(crate) peers: u8,
    /// Shares needed for a key, and k_B.
    pub(crate) k: u8,
    /// Pads of the tables.
    pub(crate) pads: Pads,
    /// How long a receiver waits for shares, where it is not the default.
    pub(crate) deadline: Option<Duration>,
    /// First of a run of ports, or whichever are free.
    pub(crate) port: Option<u16>,
    /// Whether nodes answer monitoring, each on a port of its own.
    pub(crate) metrics: bool,
}

impl Plan {
    /// Checks what the types do not.
    pub(crate) fn check(&self) -> Result<()> {
        let usage = |message: String| Err(CliError::usage(message));
        if self.peers > 0 && self.peers < PEERS_MIN {
            return Err(CliError::usage(format!(
                "{} peers leave fewer than two hubs for a key: its sender and its receiver are none of it",
                self.peers
            ))
            .help(format!(
                "with one hub alone that hub would know every key; take {PEERS_MIN} peers or more"
            )));
        }
        if self.peers == 0 && (self.hubs == 0 || self.clients == 0) {
            return usage("a testnet has at least one hub and one client".into());
        }
        let most = self.hubs_of_a_key();
        if self.k == 0 || self.k > most {
            return usage(format!(
                "k is {}, but it must lie between 1 and the number of hubs that a key can have, {most}",
                self.k
            ));
        }
        let socket_bytes = self.root.as_os_str().len() + LONGEST_SOCKET.len();
        if socket_bytes > SOCKET_PATH_BYTES_MAX {
            let excess = socket_bytes - SOCKET_PATH_BYTES_MAX;
            let message =
                format!("{} is {excess} bytes too long for the nodes' sockets", self.root.display());
            return Err(CliError::new("dske::testnet::path", exit::OTHER, message)
                .help("name a shorter place with DSKE_TESTNET_DIR"));
        }
        if self.root.exists() {
            let message = format!("{} exists already", self.root.display());
            return Err(CliError::new("dske::testnet::exists", exit::OTHER, message).help(format!(
                "take it down with `dske testnet down --name {}`, or choose another --name",
                self.name
            )));
        }
        Ok(())
    }

    /// The most hubs that a key between two of its clients can have: among peers all but these two.
    pub(crate) fn hubs_of_a_key(&self) -> u8 {
        if self.peers > 0 { self.peers.saturating_sub(2) } else { self.hubs }
    }

    /// Modules between its nodes.
    pub(crate) fn modules(&self) -> u32 {
        let [hubs, clients, peers] = [self.hubs, self.clients, self.peers].map(u32::from);
        hubs * clients + peers * peers.saturating_sub(1)
    }

    /// Every node with its roles, hubs first.
    pub(crate) fn nodes(&self) -> Vec<(Name, Vec<Role>)> {
        let nodes = |count: u8, name: fn(u8) -> String, roles: &'static [Role]| {
            (1..=count).filter_map(move |number| Some((name(number).parse().ok()?, roles.to_vec())))
        };
        let hubs = nodes(self.hubs, |number| format!("p{number}"), &[Role::Hub]);
        let clients = nodes(self.clients, client_name, &[Role::Client]);
        let peers = nodes(self.peers, client_name, &[Role::Hub, Role::Client]);
        hubs.chain(clients).chain(peers).collect()
    }

    /// A loopback port for each node, then another for each where they answer monitoring.
    pub(crate) fn ports(&self) -> Result<Ports> {
        let nodes = u16::from(self.hubs) + u16::from(self.clients) + u16::from(self.peers);
        Ports::take(if self.metrics { 2 * nodes } else { nodes }, self.port)
    }
}

fn client_name(number: u8) -> String {
    let known = CLIENTS.get(usize::from(number).saturating_sub(1));
    known.map_or_else(|| format!("c{number}"), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(hubs: u8, clients: u8, k: u8) -> Plan {
        let name = "dev".parse().expect("a name");
        Plan {
            name,
            root: "/nonexistent/dev".into(),
            hubs,
            clients,
            peers: 0,
            k,
            pads: Pads::BothWays(1 << 20),
            deadline: None,
            port: None,
            metrics: false,
        }
    }

    #[test]
    fn nodes_have_the_usual_names() {
        let nodes = plan(2, 8, 2).nodes();
        let names: Vec<&str> = nodes.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["p1", "p2", "alice", "bob", "carol", "dave", "erin", "frank", "c7", "c8"]);
    }

    #[test]
    fn among_peers_a_key_has_two_hubs_fewer_than_there_are_nodes() {
        let peers = |peers, k| Plan { peers, ..plan(0, 0, k) };
        let nodes = peers(4, 2).nodes();
        assert!(nodes.iter().all(|(_, roles)| *roles == [Role::Hub, Role::Client]), "{nodes:?}");
        assert_eq!(nodes.len(), 4);
        assert_eq!((peers(4, 2).hubs_of_a_key(), peers(4, 2).modules()), (2, 12));
        assert!(peers(4, 2).check().is_ok() && peers(7, 5).check().is_ok());
        for (count, k) in [(3, 1), (1, 1), (4, 3), (4, 0)] {
            assert!(peers(count, k).check().is_err_and(|error| error.exit() == 2), "{count} peers, k = {k}");
        }
    }

    #[test]
    fn impossible_plans_are_refused() {
        assert!(plan(5, 3, 3).check().is_ok());
        for (hubs, clients, k) in [(0, 1, 1), (1, 0, 1), (3, 2, 0), (3, 2, 4)] {
            assert!(plan(hubs, clients, k).check().is_err_and(|error| error.exit() == 2));
        }
        let taken = Plan { root: std::env::temp_dir(), ..plan(1, 1, 1) };
        assert!(taken.check().is_err_and(|error| error.to_string().contains("exists already")));
    }

    #[test]
    fn each_node_has_a_port_and_where_it_is_watched_another() {
        assert_eq!(plan(5, 3, 3).ports().expect("free ports").iter().count(), 8);
        let with_metrics = Plan { metrics: true, ..plan(5, 3, 3) };
        assert_eq!(with_metrics.ports().expect("free ports").iter().count(), 16);
    }
}
