//! Messages that wait for their receivers: an index in the ledger, and the messages in it too where they are
//! short, otherwise in segments.
//!
//! A message is ciphertext that travels in the clear: whoever reads the ledger, which erases
//! nothing, learns no more than whoever listens on the line. So a short one may stand in its record, and the
//! group that keeps it needs no sync but the journal's. No pad and no key may ever take that way.
//!
//! What is sent again is the very same bytes. Where they no longer have their checksum they are gone: the
//! entry is dropped, the pads under it stay burned, and the agreement starts anew.

use serde::{Deserialize, Serialize};

use crate::{
    engine::Engine,
    error::StoreError,
    group::outbox_key,
    lock_short,
    spool::Run,
    transaction::{OutboxEntry, OutboxId},
};

/// Longest message that stands in its record: with the rest of it well below the ledger's limit for one.
pub(crate) const INLINE_BYTES_MAX: u64 = 2048;
/// Most that all such messages together may take in the ledger, which is slow to open when it is large. The
/// next ones go into segments.
pub(crate) const INLINE_TOTAL_BYTES_MAX: u64 = 64 << 20;

/// Where a message is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    /// In a segment.
    Segment(Run),
    /// Here.
    Inline(Vec<u8>),
}

/// An outbox record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredItem {
    pub(crate) entry: OutboxEntry,
    pub(crate) place: Place,
    pub(crate) crc32: u32,
}

/// What memory holds of a message: not its bytes, which may wait for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) entry: OutboxEntry,
    /// `None` where the message stands in its record.
    pub(crate) run: Option<Run>,
}

impl From<&StoredItem> for Waiting {
    fn from(item: &StoredItem) -> Self {
        let run = match item.place {
            Place::Segment(run) => Some(run),
            Place::Inline(_) => None,
        };
        Self { entry: item.entry, run }
    }
}

impl Waiting {
    /// Bytes that the message takes in the ledger.
    pub(crate) fn inline_bytes(&self) -> u64 {
        if self.run.is_none() { self.entry.bytes } else { 0 }
    }
}

impl Engine {
    /// What waits, oldest first.
    pub(crate) fn outbox_entries(&self) -> Vec<OutboxEntry> {
        lock_short(&self.state).outbox.values().map(|waiting| waiting.entry).collect()
    }

    /// The bytes of a message. `Ok(None)`: it is not there, or not what was written.
    pub(crate) fn outbox_read(&self, id: OutboxId) -> Result<Option<Vec<u8>>, StoreError> {
        self.check()?;
        if !lock_short(&self.state).outbox.contains_key(&id) {
            return Ok(None);
        }
        let Some(item) = self.ledger.get::<StoredItem>("message", &outbox_key(id))? else { return Ok(None) };
        let bytes = match item.place {
            Place::Inline(bytes) => bytes,
            Place::Segment(run) => match self.outbox_spool.read(run) {
                Ok(mut bytes) => std::mem::take(&mut *bytes),
                Err(StoreError::Damaged { .. } | StoreError::Missing { .. }) => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        let sound = crc32fast::hash(&bytes) == item.crc32;
        if !sound {
            let block = item.entry.block;
            tracing::warn!(%block, "a message that waited is damaged and given up: check the disk");
        }
        Ok(sound.then_some(bytes))
    }
}
