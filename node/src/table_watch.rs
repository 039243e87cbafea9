//! Tells the operator of tables that have gone out of use by themselves: quarantined or suspended.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use dske_protocol::ids::TableId;
use dske_storage::{TableState, TableStatus};

use crate::status::Level;

/// Shared between the clones of the task that looks. Remembers of which tables it has told.
#[derive(Debug, Clone, Default)]
pub(crate) struct TableWatch(Arc<Mutex<BTreeSet<TableId>>>);

impl TableWatch {
    /// Gives what has to be told of the tables as they stand: each once, until it is in use again.
    pub(crate) fn look(&self, tables: &[TableStatus]) -> Vec<(Level, String)> {
        let out_of_use = |table: &&TableStatus| {
            matches!(table.state, TableState::Quarantined { .. } | TableState::Suspended { .. })
        };
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *told);
        let mut news = Vec::new();
        for table in tables.iter().filter(out_of_use) {
            told.insert(table.table);
            if !before.contains(&table.table) {
                let text = format!("table {} with {} is {}", table.serial, table.peer_name, table.state);
                news.push((Level::Crit, text));
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dske_protocol::ids::{Lane, NodeId};
    use dske_storage::{LaneStatus, TableSide};

    fn table(id: u8, state: TableState) -> TableStatus {
        let lane = |lane| LaneStatus {
            lane,
            allocator: lane == Lane::Up,
            bytes: 1000,
            used_key: 0,
            used_identity: 0,
            used_sync: 0,
            skipped: 0,
            reserved: 0,
            left: 1000,
            for_keys: 1000,
        };
        TableStatus {
            table: TableId::new([id; 16]),
            serial: format!("p1-000{id}"),
            peer: NodeId::new([1; 32]),
            peer_name: "p1".parse().unwrap(),
            side: TableSide::Client,
            state,
            lanes: [lane(Lane::Up), lane(Lane::Down)],
            forged_blocks: 0,
            open: true,
            comparable: true,
        }
    }

    #[test]
    fn a_table_that_goes_out_of_use_is_told_once_each_time() {
        let watch = TableWatch::default();
        let bad = || TableState::Quarantined { reason: "a pad is damaged".into() };
        assert!(watch.look(&[table(1, TableState::Active), table(2, TableState::Pending)]).is_empty());
        let told = watch.look(&[table(1, bad()), table(2, TableState::Pending)]);
        let expected = "table p1-0001 with p1 is quarantined (a pad is damaged)".to_owned();
        assert_eq!(told, [(Level::Crit, expected)]);
        let suspended = || TableState::Suspended { reason: "forged".into() };
        assert_eq!(watch.look(&[table(1, bad()), table(2, suspended())]).len(), 1, "the other one");
        assert!(watch.look(&[table(1, bad()), table(2, suspended())]).is_empty());
        assert!(watch.look(&[table(1, TableState::Active), table(2, TableState::Retired)]).is_empty());
        assert_eq!(watch.look(&[table(1, bad())]).len(), 1, "again");
    }
}
