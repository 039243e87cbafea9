//! Everything that the store decides, without threads: the threads of `store.rs`, or a simulation, call it.
//!
//! Two locks are short and never held across I/O: `state` (tables, lanes, outbox index) and `due`
//! (erasures). A third, `erasing`, is held for as long as erasures take. A failed write or sync poisons the
//! engine: from then on every call fails with that cause, because nobody can know what the device holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use dske_protocol::{
    ids::{NodeId, TableId},
    planted::{Fault, planted},
    sync::Restores,
};

use crate::{
    disk::Disk,
    erasures::{Erasure, erase_all},
    error::StoreError,
    layout,
    ledger::{Draft, Ledger, lane_key, table_key},
    lock_short,
    outbox::Waiting,
    retire::destroy,
    spool::Spool,
    status::{TableSide, TableState, TableStatus},
    table::{Cause, LaneRecord, Table},
    transaction::OutboxId,
};

/// What changes while the store is open.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) tables: BTreeMap<TableId, Table>,
    /// Tables that were taken out of use for good, as they are shown.
    pub(crate) retired: BTreeMap<TableId, TableStatus>,
    pub(crate) outbox: BTreeMap<OutboxId, Waiting>,
    /// Bytes of the messages that stand in the ledger.
    pub(crate) outbox_inline_bytes: u64,
    /// Tables whose record differs from the ledger's and is to be written with the next group.
    pub(crate) unsaved: BTreeSet<TableId>,
    /// Requests for pads that wait for a reservation; while there are any, none may overtake.
    pub(crate) mints_waiting: usize,
    /// Grows by one at each start and at each comparison of marks that ends; see [`Restores`].
    pub(crate) turn: u64,
    /// The turn of this start.
    pub(crate) start: u64,
    /// What hubs say about this directory having been put back.
    pub(crate) restores: Restores,
}

impl State {
    /// Adds a message to those that wait.
    pub(crate) fn add_message(&mut self, waiting: Waiting) {
        self.outbox_inline_bytes += waiting.inline_bytes();
        // One that stood under its id counts no longer; ids are given once, so there is none.
        let before = self.outbox.insert(waiting.entry.id, waiting);
        self.outbox_inline_bytes -= before.map_or(0, |before| before.inline_bytes());
    }

    /// Takes a message from those that wait. Fails where the sum of their bytes is less than the message's own.
    pub(crate) fn remove_message(&mut self, id: OutboxId) -> Result<Option<Waiting>, StoreError> {
        let Some(waiting) = self.outbox.remove(&id) else { return Ok(None) };
        let left = self.outbox_inline_bytes.checked_sub(waiting.inline_bytes());
        self.outbox_inline_bytes = left.ok_or_else(|| StoreError::Damaged {
            what: "the account of messages that wait",
            detail: format!(
                "{} bytes are taken away of {}: restart the node, which counts them anew",
                waiting.inline_bytes(),
                self.outbox_inline_bytes
            ),
        })?;
        Ok(Some(waiting))
    }

    /// Tables of one side out of which pads for a peer may be taken, in order of activation.
    pub(crate) fn active_with(&self, peer: NodeId, side: TableSide) -> Vec<&Table> {
        let ours = |table: &Table| {
            table.is_shared(peer, side) || (planted(Fault::MintsFromEitherSide) && table.record.peer == peer)
        };
        let usable = |table: &&Table| ours(table) && table.is_active();
        let mut tables: Vec<&Table> = self.tables.values().filter(usable).collect();
        tables.sort_by_key(|table| table.record.activation);
        tables
    }

    /// The next place in the order of activation.
    pub(crate) fn next_activation(&self) -> u64 {
        self.tables.values().map(|table| table.record.activation).max().unwrap_or(0) + 1
    }
}

/// The store's logic and state.
pub(crate) struct Engine {
    pub(crate) dir: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) ledger: Ledger,
    pub(crate) chunk_bytes_max: u64,
    pub(crate) state: Mutex<State>,
    pub(crate) outbox_spool: Spool,
    pub(crate) key_spool: Spool,
    pub(crate) due: Mutex<Vec<Erasure>>,
    /// Held while erasures are being done.
    pub(crate) erasing: Mutex<()>,
    pub(crate) next_outbox: AtomicU64,
    pub(crate) poison: OnceLock<String>,
    /// Whoever takes a client on.
    pub(crate) clients: Mutex<()>,
    /// Whoever makes, imports or acknowledges a module; held for as long as that takes.
    pub(crate) modules: Mutex<()>,
}

impl Engine {
    /// Fails where an earlier write has failed.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self.poison.get() {
            Some(cause) => Err(StoreError::Poisoned { cause: cause.clone() }),
            None => Ok(()),
        }
    }

    /// Notes a failed write or sync: nothing works from now on.
    pub(crate) fn fatal<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &result
            && !matches!(error, StoreError::Poisoned { .. })
            && self.poison.set(error.to_string()).is_ok()
        {
            tracing::error!(%error, "the store stops: a write failed");
        }
        result
    }

    /// The tables as they stand.
    pub(crate) fn tables(&self) -> Vec<TableStatus> {
        let state = lock_short(&self.state);
        state.tables.values().map(Table::status).chain(state.retired.values().cloned()).collect()
    }

    /// Whether a table is out of use for good.
    pub(crate) fn is_retired(&self, table: &TableId) -> bool {
        lock_short(&self.state).retired.contains_key(table)
    }

    /// The tables that are shared with a peer.
    pub(crate) fn tables_of(&self, peer: &NodeId) -> Vec<TableStatus> {
        let state = lock_short(&self.state);
        let ours = state.tables.values().filter(|table| table.record.peer == *peer);
        ours.map(Table::status).collect()
    }

    /// An id that no message ever had.
    pub(crate) fn next_outbox_id(&self) -> OutboxId {
        OutboxId(self.next_outbox.fetch_add(1, Ordering::Relaxed))
    }

    /// Puts the records of tables that changed without a request.
    pub(crate) fn put_unsaved(&self, draft: &mut Draft<'_>) -> Result<(), StoreError> {
        let mut state = lock_short(&self.state);
        for table in std::mem::take(&mut state.unsaved) {
            if let Some(table) = state.tables.get(&table) {
                draft.put("table", table_key(&table.record.table), &table.record)?;
            }
        }
        Ok(())
    }

    /// Writes what is to be kept at a clean end: what the last erasures met, and the use counters of the lanes that this
    /// node allocates, so that nothing that was handed out has to count as skipped.
    pub(crate) fn save_rest(&self) -> Result<(), StoreError> {
        self.check()?;
        let mut draft = Draft::new(&self.ledger);
        self.put_unsaved(&mut draft)?;
        for table in lock_short(&self.state).tables.values() {
            // What is quarantined stays as it was found.
            if !matches!(table.record.state, TableState::Quarantined { .. }) {
                let lane = table.own_lane();
                let record = LaneRecord { mark: lane.mark, counts: lane.counts };
                draft.put("lane", lane_key(&table.record.table, lane.lane), &record)?;
            }
        }
        self.fatal(self.ledger.commit(&draft.batch))
    }

    /// Gives the ledger what its journal holds, where that is `records_min` records or more.
    pub(crate) fn settle(&self, records_min: usize) -> Result<(), StoreError> {
        if self.ledger.unsettled() < records_min {
            return Ok(());
        }
        self.check()?;
        self.fatal(self.ledger.settle())
    }

    /// Queues erasures.
    pub(crate) fn erase_later(&self, erasures: impl IntoIterator<Item = Erasure>) {
        lock_short(&self.due).extend(erasures);
    }

    /// Does all erasures that are due; those that somebody else has begun are done as well when this returns.
    pub(crate) fn erase_due(&self) -> Result<(), StoreError> {
        let _alone = self.erasing.lock().unwrap_or_else(PoisonError::into_inner);
        let due = std::mem::take(&mut *lock_short(&self.due));
        if due.is_empty() {
            return Ok(());
        }
        self.check()?;
        let damaged = self.fatal(erase_all(due, &self.outbox_spool, &self.key_spool))?;
        damaged.into_iter().for_each(|(table, detail)| self.pads_damaged(table, &detail));
        Ok(())
    }

    /// Pads of a table are not what was written: it is quarantined, which the next group records. Nobody knows what else
    /// the disk has changed.
    pub(crate) fn pads_damaged(&self, table: TableId, detail: &str) {
        let mut state = lock_short(&self.state);
        if let Some(entry) = state.tables.get_mut(&table) {
            entry.quarantine(&format!("a pad is damaged: {detail}"), Cause::Damage);
            state.unsaved.insert(table);
        }
        tracing::error!(%table, detail, "a pad is damaged, its table is quarantined");
    }

    /// Pads of a table that no record says were used read as erased: it is quarantined, which the next group records.
    pub(crate) fn found_erased(&self, table: TableId, at: u64) {
        let mut state = lock_short(&self.state);
        let State { tables, unsaved, .. } = &mut *state;
        if let Some(entry) = tables.get_mut(&table) {
            // A hub that makes a module can cause this, so it is no more than that hub's word: it voids nothing by itself.
            entry.found_erased(at);
            unsaved.insert(table);
        }
        drop(state);
        tracing::error!(%table, at, "pads that were never used read as erased, their table is quarantined");
    }

    /// Destroys what is left of a retired table now; nothing left is fine.
    pub(crate) fn destroy_retired(&self, table: &TableId) -> Result<(), StoreError> {
        self.erase_due()?;
        if !lock_short(&self.state).retired.contains_key(table) {
            return Err(StoreError::WrongState {
                table: *table,
                state: "not retired".into(),
                action: "be destroyed",
            });
        }
        // What failed a moment ago tells its reason when it is tried again.
        let _alone = self.erasing.lock().unwrap_or_else(PoisonError::into_inner);
        destroy(&*self.disk, &layout::table_dir(&self.dir, table), &|_, _| ())
    }
}
