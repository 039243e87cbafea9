//! The ledger's log behind a journal: a commit costs one write and one sync of the journal, and the log
//! itself gets many of them together at a checkpoint.
//!
//! A checkpoint gives the log everything that the journal holds, in batches that are synced one by one; the
//! last one also says that the next epoch has begun; then the journal's header says it, and the journal
//! starts over. Whatever moment a crash picks, the log and the records of its epoch together hold all that
//! was synced; replaying them twice changes nothing.
//!
//! Several threads may use it: whoever syncs takes along what the others have applied. Reading never waits
//! for a device that is being written. A failed write or sync is final: everything after it fails too.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use dske_protocol::planted::{Fault, planted};

use crate::{
    codec::{decode, encode},
    disk::Disk,
    error::StoreError,
    journal::{EPOCH_FIRST, Journal},
    journal_record::record_bytes,
    ledger::{key, kind},
    lock_short,
    log::{Batch, Log, Pair},
    overlay::Overlay,
};

/// Most records that the log gets between two syncs: its first sync after very many stalls for seconds.
const CHECKPOINT_BATCH_RECORDS: usize = 500;

/// A log and the journal in front of it.
pub(crate) struct JournaledLog {
    inner: Arc<dyn Log>,
    overlay: Mutex<Overlay>,
    /// Held while the journal or the log is written; taken before the overlay's lock.
    writer: Mutex<Writer>,
}

struct Writer {
    journal: Journal,
    /// The first failure.
    failed: Option<String>,
}

fn epoch_key() -> Vec<u8> {
    key(kind::META, &[b"journal epoch"])
}

impl JournaledLog {
    /// Makes the journal of a new log; `bytes` is its length.
    pub(crate) fn create(
        inner: Arc<dyn Log>,
        disk: &dyn Disk,
        path: &Path,
        store: [u8; 16],
        bytes: u64,
    ) -> Result<Self, StoreError> {
        inner.apply(&Batch::from([epoch_record(EPOCH_FIRST)?]))?;
        inner.sync()?;
        let journal = Journal::create(disk, path, store, bytes)?;
        Ok(Self::with(inner, journal, Overlay::default()))
    }

    /// Opens a log with its journal and gives the log what only the journal held.
    pub(crate) fn open(
        inner: Arc<dyn Log>,
        disk: &dyn Disk,
        path: &Path,
        store: [u8; 16],
    ) -> Result<Self, StoreError> {
        let epoch = inner.get(&epoch_key())?.ok_or_else(|| StoreError::Damaged {
            what: "the ledger",
            detail: "it does not say which part of its journal it has: put the right one back".to_owned(),
        })?;
        let epoch = decode::<u64>("journal epoch", &epoch)?;
        let (journal, held) = Journal::open(disk, path, store, epoch)?;
        let log = Self::with(inner, journal, Overlay::replayed(held));
        log.write(|journal| log.checkpoint(journal))?;
        Ok(log)
    }

    fn with(inner: Arc<dyn Log>, journal: Journal, overlay: Overlay) -> Self {
        let writer = Mutex::new(Writer { journal, failed: None });
        Self { inner, overlay: Mutex::new(overlay), writer }
    }

    /// Writes, unless a write has failed before.
    fn write(&self, work: impl FnOnce(&mut Journal) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let mut writer = lock_short(&self.writer);
        if let Some(cause) = &writer.failed {
            return Err(StoreError::Poisoned { cause: cause.clone() });
        }
        let result = work(&mut writer.journal);
        if let Err(error) = &result {
            writer.failed = Some(error.to_string());
        }
        result
    }

    fn write_pending(&self, journal: &mut Journal) -> Result<(), StoreError> {
        // Nothing there: another thread's sync took it along.
        let Some(batch) = lock_short(&self.overlay).begin_sync() else { return Ok(()) };
        let bytes = record_bytes(&batch);
        if !journal.has_room(bytes) {
            self.checkpoint(journal)?;
        }
        if !journal.can_hold(bytes) {
            // The journal is empty now, so that nothing older can be replayed over this.
            self.inner.apply(&batch)?;
            self.inner.sync()?;
            lock_short(&self.overlay).forget_sync();
            return Ok(());
        }
        journal.append(&batch)?;
        drop(batch);
        lock_short(&self.overlay).end_sync();
        Ok(())
    }

    fn checkpoint(&self, journal: &mut Journal) -> Result<(), StoreError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let mut batch =
                lock_short(&self.overlay).journaled_after(after.as_deref(), CHECKPOINT_BATCH_RECORDS);
            let last = batch.len() < CHECKPOINT_BATCH_RECORDS;
            after = batch.last_key_value().map(|(key, _)| key.clone());
            if last {
                batch.extend([epoch_record(journal.next_epoch())?]);
            }
            self.inner.apply(&batch)?;
            if !planted(Fault::CheckpointNotSynced) {
                self.inner.sync()?;
            }
            if last {
                break;
            }
        }
        journal.begin_next()?;
        // Freed only after the lock is.
        let settled = lock_short(&self.overlay).forget_journaled();
        drop(settled);
        Ok(())
    }
}

fn epoch_record(epoch: u64) -> Result<(Vec<u8>, Option<Vec<u8>>), StoreError> {
    Ok((epoch_key(), Some(encode("journal epoch", &epoch)?)))
}

impl Log for JournaledLog {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        // The overlay first, always: what leaves it is in the log before.
        let held = lock_short(&self.overlay).get(key);
        held.map_or_else(|| self.inner.get(key), Ok)
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<Pair>, StoreError> {
        let view = lock_short(&self.overlay).under(prefix);
        Ok(merge(self.inner.scan(prefix)?, view).collect())
    }

    fn scan_last(&self, prefix: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        let view = lock_short(&self.overlay).under(prefix);
        // Each change can hide one pair at most.
        let inner = self.inner.scan_last(prefix, limit.saturating_add(view.len()))?;
        Ok(merge(inner, view).rev().take(limit).collect())
    }

    fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        lock_short(&self.overlay).apply(batch);
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.write(|journal| self.write_pending(journal))
    }

    fn unsettled(&self) -> usize {
        lock_short(&self.overlay).journaled_len()
    }

    fn settle(&self) -> Result<(), StoreError> {
        self.write(|journal| match self.unsettled() {
            0 => Ok(()),
            _ => self.checkpoint(journal),
        })
    }
}

/// The pairs with the changes over them, in order of key.
fn merge(pairs: Vec<Pair>, changes: Batch) -> impl DoubleEndedIterator<Item = Pair> {
    let mut merged: Batch = pairs.into_iter().map(|(key, value)| (key, Some(value))).collect();
    merged.extend(changes);
    merged.into_iter().filter_map(|(key, value)| Some((key, value?)))
}
