//! Starting a node of a testnet again.

use std::time::Duration;

use dske_protocol::ids::Name;
use tokio::time::Instant;

use crate::{
    cli::error::Result,
    testnet::{Descriptor, Lifetime, await_node, start, stop},
};

/// How long a restarted node gets to answer.
const RESTART_WAIT: Duration = Duration::from_secs(15);

/// Stops a node where it runs, starts it, and waits until it answers. Blocks for the time of the stop.
pub(crate) async fn restart(mut net: Descriptor, name: &Name) -> Result<()> {
    let node = net.node_mut(name)?;
    stop([&*node])?;
    let child = start(node, Lifetime::Detached)?;
    node.pid = Some(child.id());
    let node = node.clone();
    net.save()?;
    await_node(&node, Instant::now() + RESTART_WAIT).await?;
    Ok(())
}
