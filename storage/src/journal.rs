//! The journal's file: records of batches, each written in place and synced once, over and over from the
//! start in epochs. It makes a commit one write and one sync of a file whose space is already there.
//!
//! Which epoch counts is said by the ledger, in the batch that completes a checkpoint; the header follows
//! it. So the records of an epoch are never replayed over a ledger that has gone on without them, and a
//! ledger that has fallen behind the header (an old copy, a silent rollback) is noticed and refused.
//!
//! Records are synced one by one, so a crash can tear the last one only. A bad record with a good one of
//! the same epoch after it is damage, and is never passed over. Damage to the very last record looks like a
//! torn one: what guards pads against that is the lanes' headers.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use dske_protocol::planted::{Fault, planted};

use crate::{
    disk::{Disk, File},
    error::StoreError,
    journal_header::{JournalHeader, RECORDS_OFFSET},
    journal_record::{ALIGN_BYTES, Epoch, decode_batch, encode_record, find_record},
    log::Batch,
};

/// Length of a journal's file: some thousand groups, and read at once when a store is opened.
pub(crate) const JOURNAL_BYTES: u64 = 4 << 20;

/// Epoch of a new store. The one before it fills the other slot of the header.
pub(crate) const EPOCH_FIRST: u64 = 1;

/// A journal that is open.
pub(crate) struct Journal {
    file: Arc<dyn File>,
    path: PathBuf,
    store: [u8; 16],
    epoch: Epoch,
    sequence: u64,
    /// Where the next record goes, from the first.
    next: u64,
    /// Room for records.
    bytes: u64,
}

impl Journal {
    /// Makes an empty journal, `bytes` long. All of it is written: a place that was only reserved would cost
    /// a change of the file system's own records when it is first used.
    pub(crate) fn create(
        disk: &dyn Disk,
        path: &Path,
        store: [u8; 16],
        bytes: u64,
    ) -> Result<Self, StoreError> {
        let make = || {
            let file = disk.create(path)?;
            file.allocate(bytes)?;
            file.zero(0, bytes)?;
            JournalHeader::new(store, EPOCH_FIRST - 1, bytes).write(&*file)?;
            JournalHeader::new(store, EPOCH_FIRST, bytes).write(&*file)?;
            file.sync()?;
            path.parent().map_or(Ok(()), |dir| disk.sync_dir(dir))?;
            Ok(file)
        };
        let file = make().map_err(|error| StoreError::io("make", path, &error))?;
        Ok(Self::at(file, path, store, bytes, EPOCH_FIRST))
    }

    /// Opens the journal of a store whose ledger is in epoch `epoch`, and gives what its records say
    /// together. Nothing may be appended before that is in the ledger and the next epoch has begun.
    pub(crate) fn open(
        disk: &dyn Disk,
        path: &Path,
        store: [u8; 16],
        epoch: u64,
    ) -> Result<(Self, Batch), StoreError> {
        if !disk.exists(path).map_err(|error| StoreError::io("look for", path, &error))? {
            return Err(StoreError::Missing { what: "the journal of the ledger", path: path.to_owned() });
        }
        let fail = |error: &std::io::Error| StoreError::io("read", path, error);
        let file = disk.open(path).map_err(|error| fail(&error))?;
        let bytes = file.len().map_err(|error| fail(&error))?;
        if bytes <= RECORDS_OFFSET {
            return Err(damaged("the file is too short"));
        }
        let header = JournalHeader::read(&*file).map_err(|error| fail(&error))?;
        let header = header.ok_or_else(|| damaged("both slots of its header are bad"))?;
        if header.store != store {
            return Err(damaged("it belongs to another store"));
        }
        if header.file_bytes != bytes {
            return Err(damaged(&format!("it has {bytes} bytes of {}", header.file_bytes)));
        }
        if header.epoch > epoch {
            return Err(StoreError::Damaged {
                what: "the ledger",
                detail: format!(
                    "it is older than its journal (epoch {epoch}, the journal has begun {}): put the right one back, or \
                     retire this store and enrol again with new modules",
                    header.epoch
                ),
            });
        }
        if header.epoch.saturating_add(1) < epoch {
            return Err(damaged(&format!("it is older than the ledger ({} of {epoch})", header.epoch)));
        }
        let journal = Self::at(file, path, store, bytes, epoch);
        let len = usize::try_from(journal.bytes).map_err(|_| damaged("it is longer than memory"))?;
        let mut records = vec![0; len];
        journal.file.read_at(&mut records, RECORDS_OFFSET).map_err(|error| fail(&error))?;
        let held = replay(&records, &journal.epoch)?;
        if header.epoch != epoch {
            // The crash came between ledger and header, or the newer slot is bad. Before the older one is
            // written over, the newer one has to be right.
            journal.write_header()?;
        }
        Ok((journal, held))
    }

    fn at(file: Arc<dyn File>, path: &Path, store: [u8; 16], file_bytes: u64, epoch: u64) -> Self {
        let epoch = Epoch::new(&store, epoch);
        let bytes = file_bytes.saturating_sub(RECORDS_OFFSET);
        Self { file, path: path.to_owned(), store, epoch, sequence: 0, next: 0, bytes }
    }

    /// The epoch after this one.
    pub(crate) fn next_epoch(&self) -> u64 {
        self.epoch.number.saturating_add(1)
    }

    /// Whether a record of so many bytes can still follow.
    pub(crate) fn has_room(&self, record_bytes: u64) -> bool {
        record_bytes <= self.bytes - self.next
    }

    /// Whether an empty journal could hold a record of so many bytes.
    pub(crate) fn can_hold(&self, record_bytes: u64) -> bool {
        record_bytes <= self.bytes
    }

    /// Appends a batch that there is room for; it is on the device when this returns.
    pub(crate) fn append(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let record = encode_record(&self.epoch, self.sequence, batch)?;
        self.file
            .write_at(&record, RECORDS_OFFSET + self.next)
            .and_then(|()| if planted(Fault::JournalNotSynced) { Ok(()) } else { self.file.sync() })
            .map_err(|error| StoreError::io("write", &self.path, &error))?;
        self.sequence += 1;
        self.next += record.len() as u64;
        Ok(())
    }

    /// Begins the next epoch, once the ledger is in it: all records are the ledger's now.
    pub(crate) fn begin_next(&mut self) -> Result<(), StoreError> {
        self.epoch = Epoch::new(&self.store, self.next_epoch());
        (self.sequence, self.next) = (0, 0);
        self.write_header()
    }

    fn write_header(&self) -> Result<(), StoreError> {
        JournalHeader::new(self.store, self.epoch.number, RECORDS_OFFSET + self.bytes)
            .write(&*self.file)
            .and_then(|()| self.file.sync())
            .map_err(|error| StoreError::io("write the header of", &self.path, &error))
    }
}

/// What the records of an epoch say together, up to the first that is not whole.
pub(crate) fn replay(records: &[u8], epoch: &Epoch) -> Result<Batch, StoreError> {
    let mut held = Batch::new();
    let (mut at, mut sequence) = (0, 0);
    while let Some(found) = find_record(records, at, epoch).filter(|found| found.sequence == sequence) {
        records
            .get(found.payload)
            .and_then(|payload| decode_batch(payload, &mut held))
            .ok_or_else(|| damaged(&format!("record {sequence} makes no sense")))?;
        at = found.end;
        sequence += 1;
    }
    let later = (at..records.len()).step_by(ALIGN_BYTES).find_map(|at| find_record(records, at, epoch));
    match later {
        Some(later) if later.sequence >= sequence => {
            Err(damaged(&format!("record {sequence} is bad, but record {} after it is good", later.sequence)))
        }
        _ => Ok(held),
    }
}

fn damaged(detail: &str) -> StoreError {
    StoreError::Damaged {
        what: "the journal of the ledger",
        detail: format!(
            "{detail}: put the right one back, or retire this store and enrol again with new modules"
        ),
    }
}
