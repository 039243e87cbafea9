//! The nodes of the story and the connections to them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use dske_node::{config::Role, control::Client, status::Status};
use dske_protocol::ids::{Lane, Name};
use dske_storage::TableSide;

use crate::{
    cli::error::{CliError, Result},
    demo::agree::{Agreed, Order, agree},
    testnet::{Descriptor, await_node, snapshot},
};

/// Between two looks at a node.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// How long the nodes get to notice a change.
const NOTICE_WAIT: Duration = Duration::from_secs(5);

/// Connections to the clients of a testnet.
#[derive(Default)]
pub(crate) struct Cast {
    clients: BTreeMap<Name, Client>,
}

impl Cast {
    /// Connects to every client.
    pub(crate) async fn assemble(net: &Descriptor) -> Result<Self> {
        let mut cast = Self::default();
        let deadline = tokio::time::Instant::now() + NOTICE_WAIT;
        for node in net.with_role(Role::Client) {
            cast.clients.insert(node.name.clone(), await_node(node, deadline).await?);
        }
        Ok(cast)
    }

    /// Agrees a key from one client with others.
    pub(crate) async fn agree(&mut self, from: &Name, order: &Order) -> Result<Agreed> {
        let (mut sender, mut receivers) = (None, Vec::new());
        for (name, client) in &mut self.clients {
            if name == from {
                sender = Some(client);
            } else if order.with.contains(name) {
                receivers.push(client);
            }
        }
        let sender = sender.ok_or_else(|| missing(from))?;
        agree(sender, &mut receivers, order).await
    }

    /// A client is asked nothing any more.
    pub(crate) fn without(&mut self, name: &Name) {
        self.clients.remove(name);
    }

    /// A client's status.
    pub(crate) async fn status(&mut self, name: &Name) -> Result<Status> {
        snapshot(self.clients.get_mut(name).ok_or_else(|| missing(name))?).await
    }

    /// Waits until no client is connected to a hub any more. Gives up quietly: whether keys are agreed is what
    /// the story is about, not who noticed what.
    pub(crate) async fn notice_gone(&mut self, hub: &Name) -> Result<()> {
        let deadline = Instant::now() + NOTICE_WAIT;
        let names: Vec<Name> = self.clients.keys().cloned().collect();
        for name in names {
            let connected = |status: Status| {
                let mut hubs = status.peers.iter().filter(|peer| peer.role == Role::Hub);
                hubs.any(|peer| peer.name == *hub && peer.connected)
            };
            while connected(self.status(&name).await?) && Instant::now() < deadline {
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        }
        Ok(())
    }

    /// Waits until a receiver names a liar: a share that comes after the key is compared with it then. Gives up quietly,
    /// as above.
    pub(crate) async fn notice_liar(&mut self, receivers: &[&Name], agreed: &mut Agreed) -> Result<()> {
        let deadline = Instant::now() + NOTICE_WAIT;
        while agreed.liars.is_empty() && Instant::now() < deadline {
            tokio::time::sleep(LOOK_PAUSE).await;
            for name in receivers {
                let sessions = self.status(name).await?.sessions;
                let session = sessions.into_iter().find(|session| session.block == agreed.block);
                agreed.liars.extend(session.map(|session| session.liars).unwrap_or_default());
            }
        }
        agreed.liars.sort();
        agreed.liars.dedup();
        Ok(())
    }
}

/// Pad bytes burned for keys so far, hub by hub, in the lane that the client allocates from: the ledger's own
/// count.
pub(crate) fn burned(status: &Status) -> BTreeMap<Name, u64> {
    let up = |lane: &&dske_storage::LaneStatus| lane.lane == Lane::Up;
    let of = |table: &dske_storage::TableStatus| table.lanes.iter().find(up).map_or(0, |lane| lane.used_key);
    let mut burned = BTreeMap::new();
    for table in status.tables.iter().filter(|table| table.side == TableSide::Client) {
        *burned.entry(table.peer_name.clone()).or_default() += of(table);
    }
    burned
}

fn missing(name: &Name) -> CliError {
    CliError::new("dske::demo", 1, format!("the demo has no client {name}"))
}
