//! What a client does about its hubs without being asked: calls, greetings, tables whose marks are compared.

use std::collections::{BTreeMap, BTreeSet};

use dske_protocol::{
    ids::{NodeId, TableId},
    params::Time,
    sync::SyncInput,
};
use dske_storage::{TableSide, TableState};

use super::ClientActor;

impl ClientActor {
    /// A table that its hub does not list any more is not used until it does.
    pub(super) fn tables_left(&mut self, hub: &NodeId, active: &[TableId]) {
        let ours = self.store.tables().into_iter().filter(|table| table.peer == *hub && table.open);
        for table in ours.filter(|table| table.side == TableSide::Client && !active.contains(&table.table)) {
            self.sync.handle(SyncInput::Left(table.table));
        }
    }

    pub(super) fn hub_errands(&mut self, now: Time) {
        let mut ours: BTreeMap<NodeId, BTreeSet<TableId>> = BTreeMap::new();
        let mut apart: BTreeMap<NodeId, BTreeSet<TableId>> = BTreeMap::new();
        let tables = self.store.tables();
        self.sync.out_of_use(&tables);
        let mut open = BTreeSet::new();
        for table in tables {
            // A quarantined table may be settled by what the hub has on record of it.
            let live = !matches!(table.state, TableState::Retired | TableState::Suspended { .. });
            if live && table.side == TableSide::Client {
                ours.entry(table.peer).or_default().insert(table.table);
                if table.open {
                    open.insert(table.peer);
                } else {
                    apart.entry(table.peer).or_default().insert(table.table);
                }
            }
        }
        for command in self.hubs.due(now, &ours, &open) {
            self.send(command);
        }
        for (peer, table) in self.hubs.to_compare(now, &apart) {
            self.sync.handle(SyncInput::Begin { peer, table });
        }
    }
}
