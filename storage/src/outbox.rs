//! Messages that wait for their receivers: an index in the ledger, ciphertext in segments.
//!
//! What is sent again is the very same bytes. Where they no longer have their checksum they are gone: the
//! entry is dropped, the pads under it stay burned, and the agreement starts anew (DESIGN §5).

use serde::{Deserialize, Serialize};

use crate::{
    engine::Engine,
    error::StoreError,
    lock_short,
    spool::Run,
    transaction::{OutboxEntry, OutboxId},
};

/// An outbox record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredItem {
    pub(crate) entry: OutboxEntry,
    pub(crate) run: Run,
    pub(crate) crc32: u32,
}

impl Engine {
    /// What waits, oldest first.
    pub(crate) fn outbox_entries(&self) -> Vec<OutboxEntry> {
        lock_short(&self.state).outbox.values().map(|item| item.entry).collect()
    }

    /// The bytes of a message. `Ok(None)`: it is not there, or not what was written.
    pub(crate) fn outbox_read(&self, id: OutboxId) -> Result<Option<Vec<u8>>, StoreError> {
        self.check()?;
        let Some(item) = lock_short(&self.state).outbox.get(&id).copied() else { return Ok(None) };
        let mut bytes = match self.outbox_spool.read(item.run) {
            Ok(bytes) => bytes,
            Err(StoreError::Damaged { .. } | StoreError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok((crc32fast::hash(&bytes) == item.crc32).then(|| std::mem::take(&mut *bytes)))
    }
}
