//! The head of the journal: which store it belongs to, and how many epochs it has begun. Two alternating
//! checksummed slots, so that a torn write of one leaves the other.

use serde::{Deserialize, Serialize};

use crate::{
    codec::{decode, encode},
    disk::File,
    error::StoreError,
};

/// Bytes of one slot.
const SLOT_BYTES: u64 = 4096;
/// Where the records begin.
pub(crate) const RECORDS_OFFSET: u64 = 2 * SLOT_BYTES;

const MAGIC: [u8; 8] = *b"dskejnl1";
/// All fields have fixed sizes.
pub(crate) const BODY_BYTES: usize = 8 + 16 + 8 + 8;

/// What a slot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JournalHeader {
    magic: [u8; 8],
    /// Id of the store.
    pub(crate) store: [u8; 16],
    /// The latest epoch.
    pub(crate) epoch: u64,
    /// Length of the whole file.
    pub(crate) file_bytes: u64,
}

impl JournalHeader {
    pub(crate) fn new(store: [u8; 16], epoch: u64, file_bytes: u64) -> Self {
        Self { magic: MAGIC, store, epoch, file_bytes }
    }

    /// Writes the slot of its epoch, over that of the epoch before the last; the caller syncs.
    pub(crate) fn write(&self, file: &dyn File) -> std::io::Result<()> {
        let slot = self.to_slot().map_err(std::io::Error::other)?;
        file.write_at(&slot, (self.epoch % 2) * SLOT_BYTES)
    }

    /// Reads the newer of the valid slots; `None` where neither is valid.
    pub(crate) fn read(file: &dyn File) -> std::io::Result<Option<Self>> {
        let mut newest: Option<Self> = None;
        for index in 0..2 {
            let mut slot = [0; 4 + BODY_BYTES];
            file.read_at(&mut slot, index * SLOT_BYTES)?;
            if let Some(header) = Self::from_slot(&slot)
                && header.epoch % 2 == index
                && newest.is_none_or(|other| other.epoch < header.epoch)
            {
                newest = Some(header);
            }
        }
        Ok(newest)
    }

    pub(crate) fn to_slot(self) -> Result<Vec<u8>, StoreError> {
        let body = encode("journal header", &self)?;
        let mut slot = crc32fast::hash(&body).to_le_bytes().to_vec();
        slot.extend_from_slice(&body);
        Ok(slot)
    }

    pub(crate) fn from_slot(slot: &[u8]) -> Option<Self> {
        let (checksum, body) = slot.split_at_checked(4)?;
        if crc32fast::hash(body).to_le_bytes() != checksum {
            return None;
        }
        decode::<Self>("journal header", body).ok().filter(|header| header.magic == MAGIC)
    }
}
