//! Waiting until a node answers, and until a testnet can agree keys.

use std::time::Duration;

use dske_node::{
    config::Role,
    control::{Client, Reply, Request},
    status::{PeerStatus, Status},
};
use dske_storage::{TableSide, TableState, TableStatus};
use tokio::time::{Instant, sleep};

use crate::{
    cli::{
        control,
        error::{CliError, Result, exit},
        progress::Progress,
    },
    testnet::{Descriptor, NodeEntry, is_running},
};

/// Between two looks at a node.
const LOOK_PAUSE: Duration = Duration::from_millis(15);
/// How long one answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// Most lines of a log that an error shows.
const LOG_LINES: usize = 6;

/// Waits until a node answers on its control socket, and gives the connection. Fails at once when its
/// process has ended.
pub(crate) async fn await_node(node: &NodeEntry, deadline: Instant) -> Result<Client> {
    loop {
        if let Ok(client) = Client::connect(&node.data_dir()).await {
            return Ok(client);
        }
        if !is_running(node) {
            return Err(failed(node, "stopped right after it was started"));
        }
        if Instant::now() >= deadline {
            return Err(failed(node, "does not answer"));
        }
        sleep(LOOK_PAUSE).await;
    }
}

/// Waits until every node answers and every client can use every hub.
pub(crate) async fn await_net(net: &Descriptor, deadline: Instant) -> Result<()> {
    for node in &net.nodes {
        let mut client = await_node(node, deadline).await?;
        if node.has(Role::Client) {
            let hubs = net.with_role(Role::Hub).filter(|hub| hub.name != node.name).count();
            await_hubs(node, &mut client, hubs, deadline).await?;
        }
    }
    Ok(())
}

/// Waits until a client can use that many hubs.
async fn await_hubs(node: &NodeEntry, client: &mut Client, hubs: usize, deadline: Instant) -> Result<()> {
    loop {
        let usable = open_hubs(&snapshot(client).await?);
        if usable >= hubs {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(failed(node, &format!("can use only {usable} of {hubs} hubs")));
        }
        sleep(LOOK_PAUSE).await;
    }
}

/// Hubs that a client is connected with over a table that is open.
fn open_hubs(status: &Status) -> usize {
    let open = |hub: &PeerStatus| {
        let ours = |table: &&TableStatus| table.peer == hub.node && table.side == TableSide::Client;
        status.tables.iter().filter(ours).any(|table| table.open && table.state == TableState::Active)
    };
    let hubs = status.peers.iter().filter(|peer| peer.role == Role::Hub && peer.connected);
    hubs.filter(|hub| hub.excluded.is_none() && open(hub)).count()
}

/// A node's status.
pub(crate) async fn snapshot(client: &mut Client) -> Result<Status> {
    match control::call(client, Request::Status, &Progress::hidden(), ANSWER_WAIT).await? {
        Reply::Status(status) => Ok(*status),
        _ => Err(CliError::strange_reply()),
    }
}

/// The error for a node that did not come up, with the end of its log, which goes away with the testnet.
fn failed(node: &NodeEntry, what: &str) -> CliError {
    let log = std::fs::read_to_string(&node.log).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n");
    let report = CliError::new("dske::testnet::ready", exit::UNREACHABLE, format!("{} {what}", node.name));
    if tail.is_empty() { report } else { report.because(format!("the end of its log:\n{tail}")) }
}
