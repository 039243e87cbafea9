//! What the targets in `tests/hostile` need of this crate's inside: decoders of its files, the sealing of a
//! module whose contents they chose, a store over a disk and a log of theirs.
//!
//! Each decoder stops at once where something decodes that has another encoding. Only behind the feature
//! `fuzzing`; nothing here is meant for anybody else.

use std::{path::Path, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    codec,
    disk::Disk,
    error::StoreError,
    install::ReceiptRecord,
    journal,
    journal_header::JournalHeader,
    journal_record::{self, Epoch},
    keys::{KeyRun, TakenMap},
    lane_header::LaneHeader,
    log::{Batch, Log},
    open,
    outbox::StoredItem,
    records::{
        BlockRecord, BudgetRecord, ClientRecord, ClockRecord, ExclusionRecord, HubRecord, IdentityRecord,
        ModuleRecord, StreamRecord,
    },
    store::{Options, Store},
    table::{LaneRecord, TableRecord},
};

pub use crate::pskm::fuzzing::{
    ModuleText, header_seed, manifest_seed, module_header, seal_module, seal_module_under,
};

/// Bytes of a lane header under its checksum.
pub const LANE_SLOT_BODY_BYTES: usize = LaneHeader::body_bytes();
/// Bytes of a journal header under its checksum.
pub const JOURNAL_SLOT_BODY_BYTES: usize = crate::journal_header::BODY_BYTES;

/// The store and the epoch that records are read for.
const STORE: [u8; 16] = [7; 16];
const EPOCH: u64 = 4;

/// Id of the stores that [`open`] opens.
const IDENTITY: [u8; 16] = [9; 16];
/// Bytes of their journals, and of the segments that messages and keys lie in.
const JOURNAL_BYTES: u64 = 64 << 10;
const SEGMENT_BYTES: u64 = 64 << 10;

/// Reads a slot of a lane's header; whether it is valid.
pub fn lane_slot(slot: &[u8]) -> bool {
    let Some(header) = LaneHeader::from_slot(slot) else { return false };
    let again = header.to_slot().unwrap_or_default();
    assert_eq!(again.get(..4 + LANE_SLOT_BODY_BYTES), slot.get(..4 + LANE_SLOT_BODY_BYTES));
    true
}

/// A slot of a lane's header to begin with.
pub fn lane_slot_seed() -> Vec<u8> {
    let table = dske_protocol::ids::TableId::new([3; 16]);
    let header = LaneHeader::new(table, dske_protocol::ids::Lane::Down, 1 << 20);
    header.to_slot().unwrap_or_default()
}

/// Reads a slot of a journal's header; whether it is valid.
pub fn journal_slot(slot: &[u8]) -> bool {
    let Some(header) = JournalHeader::from_slot(slot) else { return false };
    assert_eq!(header.to_slot().unwrap_or_default(), slot);
    true
}

/// A slot of a journal's header to begin with.
pub fn journal_slot_seed() -> Vec<u8> {
    JournalHeader::new(STORE, EPOCH, journal::JOURNAL_BYTES).to_slot().unwrap_or_default()
}

/// Replays records; gives the number of changes, `None` where they are damaged.
pub fn journal_records(records: &[u8]) -> Option<usize> {
    journal::replay(records, &Epoch::new(&STORE, EPOCH)).ok().map(|held| held.len())
}

/// A record with a right head around any changes.
pub fn journal_record(sequence: u64, changes: &[u8]) -> Vec<u8> {
    journal_record::encode_around(&Epoch::new(&STORE, EPOCH), sequence, changes)
}

/// The changes of a batch, as a record holds them.
pub fn journal_changes(batch: &Batch) -> Vec<u8> {
    let epoch = Epoch::new(&STORE, EPOCH);
    let record = journal_record::encode_record(&epoch, 0, batch).unwrap_or_default();
    let found = journal_record::find_record(&record, 0, &epoch);
    found.and_then(|found| record.get(found.payload)).unwrap_or_default().to_vec()
}

/// Reads the bytes as each kind of record of the ledger.
pub fn ledger_records(bytes: &[u8]) {
    canonical::<TableRecord>(bytes);
    canonical::<LaneRecord>(bytes);
    canonical::<ClientRecord>(bytes);
    canonical::<HubRecord>(bytes);
    canonical::<IdentityRecord>(bytes);
    canonical::<ExclusionRecord>(bytes);
    canonical::<ModuleRecord>(bytes);
    canonical::<ReceiptRecord>(bytes);
    canonical::<BlockRecord>(bytes);
    canonical::<KeyRun>(bytes);
    canonical::<TakenMap>(bytes);
    canonical::<StreamRecord>(bytes);
    canonical::<BudgetRecord>(bytes);
    canonical::<dske_protocol::limits::LimitsRecord>(bytes);
    canonical::<ClockRecord>(bytes);
    canonical::<StoredItem>(bytes);
}

fn canonical<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    if let Ok(value) = codec::decode::<T>("record", bytes) {
        let again = codec::encode("record", &value);
        assert_eq!(again.as_deref(), Ok(bytes), "another encoding of the same record");
    }
}

/// A record of the ledger to begin with.
pub fn record_seed<T: Serialize>(record: &T) -> Vec<u8> {
    codec::encode("record", record).unwrap_or_default()
}

/// Makes a store on a disk and a log.
///
/// # Errors
/// As [`Store::create`].
pub fn format(dir: &Path, disk: &dyn Disk, log: Arc<dyn Log>) -> Result<(), StoreError> {
    open::format(dir, disk, log, IDENTITY, JOURNAL_BYTES)
}

/// Opens one that [`format()`] made, whatever has become of it since.
///
/// # Errors
/// As [`Store::open`].
pub fn open(dir: &Path, disk: Arc<dyn Disk>, log: Arc<dyn Log>) -> Result<Store, StoreError> {
    let engine = open::load(dir, disk, log, IDENTITY, 4096, SEGMENT_BYTES)?;
    Store::start(engine, Options { chunk_bytes_max: 4096, erase_delay_ms: 0 }, None)
}
