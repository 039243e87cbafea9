//! Whether the node lives, and whether it is ready: judged from what its tasks answer, told in words.

use std::time::Duration;

use dske_storage::{TableSide, TableState, TableStatus};
use tokio::{sync::mpsc, time::timeout};

use crate::{node::Shared, status::Status};

/// A task that has not answered by then hangs. A busy node answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// What speaks against the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// Why it should be started again: nothing less can help it.
    pub(crate) dead: Vec<String>,
    /// Why it cannot do its work now.
    pub(crate) unready: Vec<String>,
}

impl Health {
    /// Whether the node does its work.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_alive() && self.unready.is_empty()
    }

    /// Whether a new start would change nothing.
    pub(crate) fn is_alive(&self) -> bool {
        self.dead.is_empty()
    }

    /// Everything that speaks against it, a line each.
    pub(crate) fn reasons(&self) -> impl Iterator<Item = &str> {
        self.dead.iter().chain(&self.unready).map(String::as_str)
    }

    /// Asks every task of the node, and judges what they say.
    pub(crate) async fn ask(shared: &Shared) -> Self {
        let (status, network) =
            tokio::join!(timeout(PATIENCE, shared.status()), timeout(PATIENCE, shared.ping()));
        let mut health = match status {
            Ok(status) => Self::of(&status),
            Err(_) => Self { dead: vec!["an actor does not answer".into()], ..Self::default() },
        };
        if network != Ok(true) {
            health.dead.push("the network does not answer".into());
        }
        if shared.hub.as_ref().is_some_and(mpsc::Sender::is_closed) {
            health.dead.push("the hub's task has ended".into());
        }
        if shared.client.as_ref().is_some_and(mpsc::Sender::is_closed) {
            health.dead.push("the client's task has ended".into());
        }
        health
    }

    /// What a snapshot says.
    pub(crate) fn of(status: &Status) -> Self {
        let mut health = Self::default();
        if let Some(fault) = &status.node.store_fault {
            health.dead.push(format!("the store has stopped: {fault}"));
        }
        if let Some(policy) = status.policy.filter(|policy| policy.usable < policy.k) {
            let (usable, n, k) = (policy.usable, policy.n, policy.k);
            health.unready.push(format!("{usable} of {n} hubs usable, {k} are needed for a key"));
        }
        let of_clients = || {
            let tables = status.tables.iter().filter(|table| table.side == TableSide::Hub);
            tables.filter(|table| table.state != TableState::Retired)
        };
        // A hub that has no clients yet is as ready as can be.
        let serves = |table: &TableStatus| matches!(table.state, TableState::Active | TableState::Pending);
        if of_clients().next().is_some() && !of_clients().any(serves) {
            health.unready.push("no client can be served: none of their tables is in use".into());
        }
        health
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_restart_mends_is_told_from_what_it_does_not() {
        let unready = Health { unready: vec!["1 of 3 hubs usable".into()], ..Health::default() };
        assert!(unready.is_alive() && !unready.is_ready());
        let dead = Health { dead: vec!["the store has stopped".into()], ..unready };
        assert!(!dead.is_alive() && !dead.is_ready());
        assert_eq!(dead.reasons().count(), 2);
        assert!(Health::default().is_ready());
    }
}
