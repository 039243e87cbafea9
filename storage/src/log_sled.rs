//! The ledger's log on sled. Its own flush does not survive a power cut, so every [`Log::sync`] also syncs
//! the log file through a handle of ours. That is slow: commits are made durable by the journal in front of
//! it (`journaled_log.rs`), and this one gets them at checkpoints.

use std::{
    fs::File,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    disk_os::restrict,
    error::StoreError,
    log::{Batch, Log, Pair},
};

/// sled's page cache: the ledger holds small records only.
const CACHE_BYTES: u64 = 32 << 20;

/// sled lets its own lock go a little after its database was dropped. The directory's lock is ours by then,
/// so whoever still holds that one is a store of this process that is going away.
const SLED_LOCK_WAIT: Duration = Duration::from_secs(5);
const SLED_LOCK_PAUSE: Duration = Duration::from_millis(5);
const SLED_LOCK_ERROR: &str = "could not acquire lock";

/// File in which sled keeps its log.
const LOG_FILE: &str = "db";

/// A sled database and a handle to its log file.
pub(crate) struct SledLog {
    db: sled::Db,
    file: File,
}

impl SledLog {
    /// Creates a new log in `dir`, which exists and is empty.
    pub(crate) fn create(dir: &Path) -> Result<Self, StoreError> {
        Self::start(dir)
    }

    /// Opens an existing log; one that is missing is an error, never made anew.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(LOG_FILE);
        if !path.is_file() {
            return Err(StoreError::Missing { what: "the ledger", path });
        }
        Self::start(dir)
    }

    fn start(dir: &Path) -> Result<Self, StoreError> {
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            // Every decision is flushed explicitly, at once.
            .flush_every_ms(None);
        let deadline = Instant::now() + SLED_LOCK_WAIT;
        let db = loop {
            match config.open() {
                Ok(db) => break db,
                Err(error) if error.to_string().contains(SLED_LOCK_ERROR) && Instant::now() < deadline => {
                    std::thread::sleep(SLED_LOCK_PAUSE);
                }
                Err(error) => return Err(failed("open", error)),
            }
        };
        let path = dir.join(LOG_FILE);
        let file = File::open(&path).map_err(|error| StoreError::io("open", &path, &error))?;
        restrict(dir).map_err(|error| StoreError::io("restrict", dir, &error))?;
        Ok(Self { db, file })
    }
}

impl Log for SledLog {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.db.get(key).map_err(|error| failed("read", error))?.map(|value| value.to_vec()))
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<Pair>, StoreError> {
        self.db.scan_prefix(prefix).map(pair).collect()
    }

    fn scan_last(&self, prefix: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        self.db.scan_prefix(prefix).rev().take(limit).map(pair).collect()
    }

    fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut changes = sled::Batch::default();
        for (key, value) in batch {
            match value {
                Some(value) => changes.insert(key.as_slice(), value.as_slice()),
                None => changes.remove(key.as_slice()),
            }
        }
        self.db.apply_batch(changes).map_err(|error| failed("write", error))
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(|error| failed("flush", error))?;
        self.file.sync_data().map_err(|error| failed("sync", error))
    }
}

fn pair(entry: sled::Result<(sled::IVec, sled::IVec)>) -> Result<Pair, StoreError> {
    let (key, value) = entry.map_err(|error| failed("scan", error))?;
    Ok((key.to_vec(), value.to_vec()))
}

fn failed(action: &'static str, error: impl std::fmt::Display) -> StoreError {
    StoreError::Ledger { action, cause: error.to_string() }
}
