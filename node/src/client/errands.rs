//! What a client does about its hubs without being asked: calls, greetings, tables that become active.

use std::collections::{BTreeMap, BTreeSet};

use dske_protocol::{
    ids::{NodeId, TableId},
    params::Time,
};
use dske_storage::{TableSide, TableState, Transaction};

use super::ClientActor;

impl ClientActor {
    /// A table waits until its hub says that the receipt of the module has come back (§2.1).
    pub(super) fn activate(&mut self, hub: &NodeId, active: &[TableId]) {
        let tables = self.store.tables().into_iter();
        let pending = tables.filter(|table| {
            table.peer == *hub
                && table.side == TableSide::Client
                && table.state == TableState::Pending
                && active.contains(&table.table)
        });
        let activate: Vec<_> = pending.map(|table| table.table).collect();
        if !activate.is_empty() {
            // Not awaited: until it is durable, the table merely stays unused.
            drop(self.store.commit(Transaction { activate, ..Transaction::default() }));
        }
    }

    pub(super) fn hub_errands(&mut self, now: Time) {
        let mut ours: BTreeMap<NodeId, BTreeSet<TableId>> = BTreeMap::new();
        for table in self.store.tables() {
            let live = matches!(table.state, TableState::Active | TableState::Pending);
            if live && table.side == TableSide::Client {
                ours.entry(table.peer).or_default().insert(table.table);
            }
        }
        for command in self.hubs.due(now, &ours) {
            self.send(command);
        }
    }
}
