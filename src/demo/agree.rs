//! One agreement from end to end: asked for at the sender, taken at every receiver, compared.
//!
//! Keys are compared in memory, in constant time, and erased; nothing that depends on them is printed.

use std::time::{Duration, Instant};

use dske_node::control::{Client, KeyDelivery, KeyGet, Reply, Request};
use dske_protocol::{
    ids::{BlockId, Name},
    naming::NodeRef,
    params::burned_bytes,
};
use subtle::ConstantTimeEq;

use crate::cli::{
    control,
    error::{CliError, Result},
    progress::Progress,
    units,
};

/// How long the sender may take.
const AGREE_WAIT: Duration = Duration::from_secs(15);
/// How long a receiver waits for a key that the sender has.
const FETCH_WAIT: Duration = Duration::from_secs(5);

/// What to agree.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    /// The receivers.
    pub(crate) with: Vec<Name>,
    /// Length of the key.
    pub(crate) bits: u64,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Agreed {
    /// The agreement.
    pub(crate) block: BlockId,
    /// Whether all sides hold the same key of the length asked for.
    pub(crate) equal: bool,
    /// Hubs in the roster.
    pub(crate) n: u8,
    /// The fewest shares that a side has.
    pub(crate) shares: u8,
    /// Hubs that any side names as liars.
    pub(crate) liars: Vec<String>,
    /// Pad bytes that the sender burned, per hub.
    pub(crate) burned_bytes: u64,
    /// Until the sender had the key.
    pub(crate) sender_took: Duration,
    /// Until the last receiver had it too.
    pub(crate) took: Duration,
}

/// Pad bytes that a key for so many receivers costs its sender per hub: m + l + R·(l + 64) bits.
pub(crate) fn cost_bytes(bits: u64, receivers: usize) -> u64 {
    burned_bytes(bits / 8, receivers)
}

/// Agrees a key and takes it at all receivers at once.
pub(crate) async fn agree(
    sender: &mut Client,
    receivers: &mut [&mut Client],
    order: &Order,
) -> Result<Agreed> {
    let began = Instant::now();
    let request = Request::KeyGet(KeyGet {
        with: order.with.iter().cloned().map(NodeRef::Name).collect(),
        bits: order.bits,
        hubs: Vec::new(),
        k: None,
        purpose: String::new(),
        timeout_ms: units::millis(AGREE_WAIT),
    });
    let sent = key(sender, request, AGREE_WAIT + FETCH_WAIT).await?;
    let sender_took = began.elapsed();
    let fetch = |client| async {
        let request = Request::KeyFetch { id: sent.id, wait_ms: units::millis(FETCH_WAIT) };
        key(client, request, FETCH_WAIT + FETCH_WAIT).await
    };
    let received = futures::future::try_join_all(receivers.iter_mut().map(|client| fetch(client))).await?;
    let took = began.elapsed();
    // Both sides have just seen it come about.
    let course = sent.course.ok_or_else(CliError::strange_reply)?;
    let mut agreed = Agreed {
        block: sent.id.block,
        equal: u64::try_from(sent.key.len()).ok() == Some(order.bits / 8),
        n: sent.n,
        shares: course.shares,
        liars: course.liars,
        burned_bytes: sent.burned_bytes,
        sender_took,
        took,
    };
    for received in received {
        agreed.equal &= received.id == sent.id && bool::from(received.key.expose().ct_eq(sent.key.expose()));
        let course = received.course.ok_or_else(CliError::strange_reply)?;
        agreed.shares = agreed.shares.min(course.shares);
        agreed.liars.extend(course.liars);
    }
    agreed.liars.sort();
    agreed.liars.dedup();
    Ok(agreed)
}

async fn key(client: &mut Client, request: Request, wait: Duration) -> Result<KeyDelivery> {
    match control::call(client, request, &Progress::hidden(), wait).await? {
        Reply::Key(key) => Ok(key),
        _ => Err(CliError::strange_reply()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_costs_its_length_and_a_tag_key_more_than_receivers() {
        assert_eq!((cost_bytes(256, 1), cost_bytes(8_000_000, 1), cost_bytes(256, 2)), (104, 1_000_072, 144));
    }
}
