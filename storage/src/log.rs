//! The seam under the ledger: an ordered map whose batches are atomic, and durable after `sync`.

use std::collections::BTreeMap;

use crate::error::StoreError;

/// Changes that become visible together: a value to put, or `None` to remove.
pub type Batch = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Key and value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// An ordered key-value log for several threads. Values are at most 4 KiB.
pub trait Log: Send + Sync {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// All pairs whose key starts with `prefix`, in order.
    fn scan(&self, prefix: &[u8]) -> Result<Vec<Pair>, StoreError>;
    /// The last `limit` pairs whose key starts with `prefix`, last first.
    fn scan_last(&self, prefix: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError>;
    /// Applies a batch: all of it or nothing, also after a crash.
    fn apply(&self, batch: &Batch) -> Result<(), StoreError>;
    /// Returns once every batch applied before is on the device.
    fn sync(&self) -> Result<(), StoreError>;
    /// Number of records that are on the device but not yet where the log keeps them in the end.
    fn unsettled(&self) -> usize {
        0
    }
    /// Brings them there. Slower than a sync, and not needed for anything to be durable.
    fn settle(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
