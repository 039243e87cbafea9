//! What the ledger does not hold yet, in memory: three layers of changes over it, the newest first. Each
//! moves down as a whole: applied, on its way into the journal, in the journal, in the ledger.

use std::{ops::Bound, sync::Arc};

use crate::log::Batch;

/// The layers.
#[derive(Default)]
pub(crate) struct Overlay {
    /// Applied; in no file.
    pending: Batch,
    /// Being written into the journal.
    syncing: Arc<Batch>,
    /// In the journal.
    journaled: Batch,
}

impl Overlay {
    /// Over a ledger that lacks what a journal holds.
    pub(crate) fn replayed(journaled: Batch) -> Self {
        Self { journaled, ..Self::default() }
    }

    /// Adds a batch.
    pub(crate) fn apply(&mut self, batch: &Batch) {
        self.pending.extend(batch.iter().map(|(key, value)| (key.clone(), value.clone())));
    }

    /// What the layers say of a key: nothing, that it is removed, or its value.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        let layers = [&self.pending, &*self.syncing, &self.journaled];
        layers.into_iter().find_map(|layer| layer.get(key)).cloned()
    }

    /// What the layers together say of the keys that start with `prefix`.
    pub(crate) fn under(&self, prefix: &[u8]) -> Batch {
        let mut view = Batch::new();
        for layer in [&self.journaled, &*self.syncing, &self.pending] {
            let from = layer.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded));
            let hits = from.take_while(|(key, _)| key.starts_with(prefix));
            view.extend(hits.map(|(key, value)| (key.clone(), value.clone())));
        }
        view
    }

    /// Takes what is pending on its way into the journal; `None` where there is nothing.
    pub(crate) fn begin_sync(&mut self) -> Option<Arc<Batch>> {
        if self.pending.is_empty() {
            return None;
        }
        self.syncing = Arc::new(std::mem::take(&mut self.pending));
        Some(self.syncing.clone())
    }

    /// What was on its way is in the journal now.
    pub(crate) fn end_sync(&mut self) {
        let synced = std::mem::take(&mut self.syncing);
        self.journaled.extend(Arc::unwrap_or_clone(synced));
    }

    /// What was on its way went into the ledger itself.
    pub(crate) fn forget_sync(&mut self) {
        self.syncing = Arc::default();
    }

    /// Number of changes in the journal.
    pub(crate) fn journaled_len(&self) -> usize {
        self.journaled.len()
    }

    /// The next changes of the journal after a key, at most so many.
    pub(crate) fn journaled_after(&self, after: Option<&[u8]>, records_max: usize) -> Batch {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.journaled.range::<[u8], _>((from, Bound::Unbounded)).take(records_max);
        next.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// All that was in the journal is in the ledger now.
    pub(crate) fn forget_journaled(&mut self) -> Batch {
        std::mem::take(&mut self.journaled)
    }
}
