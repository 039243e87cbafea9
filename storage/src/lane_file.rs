//! One lane on disk: its header, and the bytes of the pad, read by range and erased in place.
//!
//! Bytes are overwritten with zeros and synced before the header may say so; a hole is punched only into
//! what is zero already, because punching alone leaves the bytes on the device.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use dske_protocol::{
    ids::{Lane, TableId},
    planted::{Fault, planted},
};
use zeroize::Zeroizing;

use crate::{
    disk::{Disk, File},
    error::StoreError,
    intervals::IntervalSet,
    lane_header::{Counts, DATA_OFFSET, LaneHeader},
    lock_short,
};

/// Zeros are written in pieces of this size.
const ERASE_PIECE_BYTES: usize = 1 << 20;
/// Holes are punched when this much more has become dead.
const PUNCH_BYTES_MIN: u64 = 16 << 20;
/// An aligned piece of this many zero bytes is no pad (chance 2^-256): it has been erased.
const ERASED_PIECE_BYTES: usize = 32;

/// A lane file that is open.
pub(crate) struct LaneFile {
    file: Arc<dyn File>,
    path: PathBuf,
    head: Mutex<Head>,
}

struct Head {
    header: LaneHeader,
    erased: IntervalSet,
    punched: u64,
}

/// Why a lane must not be used as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LaneProblem {
    #[error("both header slots are damaged")]
    Damaged,
    #[error("the file belongs to another lane")]
    Foreign,
    #[error("the header's marks lie outside the lane")]
    Marks,
}

/// Name of a lane's file.
pub(crate) fn lane_file_name(lane: Lane) -> &'static str {
    match lane {
        Lane::Up => "up.lane",
        Lane::Down => "down.lane",
    }
}

impl LaneFile {
    /// Writes both slots of a new lane file that has its full length already. The caller syncs.
    pub(crate) fn format(file: &dyn File, table: TableId, lane: Lane, bytes: u64) -> io::Result<()> {
        let mut header = LaneHeader::new(table, lane, bytes);
        header.write_next(file)?;
        header.write_next(file)
    }

    /// Opens a lane file. Beside it, what is wrong with the header: such a lane must not be used.
    pub(crate) fn open(
        disk: &dyn Disk,
        path: &Path,
        table: TableId,
        lane: Lane,
        bytes: u64,
    ) -> Result<(Self, Option<LaneProblem>), StoreError> {
        if !disk.exists(path).map_err(|error| StoreError::io("look for", path, &error))? {
            return Err(StoreError::Missing { what: "a lane of a table", path: path.to_owned() });
        }
        let fail = |error: &io::Error| StoreError::io("read", path, error);
        let file = disk.open(path).map_err(|error| fail(&error))?;
        let length = file.len().map_err(|error| fail(&error))?;
        if length < DATA_OFFSET.saturating_add(bytes) {
            return Err(StoreError::Missing { what: "the end of a lane of a table", path: path.to_owned() });
        }
        let fresh = LaneHeader::new(table, lane, bytes);
        let (header, problem) = match LaneHeader::read(&*file).map_err(|error| fail(&error))? {
            None => (fresh, Some(LaneProblem::Damaged)),
            Some(header) if (header.table, header.lane, header.lane_bytes) != (table, fresh.lane, bytes) => {
                (fresh, Some(LaneProblem::Foreign))
            }
            Some(header) if header.mark > bytes || header.floor > header.mark => {
                (fresh, Some(LaneProblem::Marks))
            }
            Some(header) => (header, None),
        };
        let mut erased = IntervalSet::default();
        erased.insert(0, header.floor);
        let punched = header.floor;
        let head = Mutex::new(Head { header, erased, punched });
        Ok((Self { file, path: path.to_owned(), head }, problem))
    }

    /// The header as it stands.
    pub(crate) fn header(&self) -> LaneHeader {
        lock_short(&self.head).header.clone()
    }

    /// Moves an allocator's mark, on the device when this returns.
    pub(crate) fn advance(&self, mark: u64, counts: Counts) -> Result<(), StoreError> {
        let mut head = lock_short(&self.head);
        head.header.mark_before = head.header.mark;
        head.header.mark = mark;
        head.header.counts = counts;
        self.write_header(&mut head)
    }

    /// Reads a run; `None` where it has been erased.
    pub(crate) fn read(&self, offset: u64, bytes: u64) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let len = usize::try_from(bytes).map_err(|_| StoreError::invalid("a run longer than memory"))?;
        let mut run = Zeroizing::new(vec![0; len]);
        let at = DATA_OFFSET.saturating_add(offset);
        self.file.read_at(&mut run, at).map_err(|error| StoreError::io("read", &self.path, &error))?;
        Ok((!looks_erased(&run) || planted(Fault::ErasedPadAccepted)).then_some(run))
    }

    /// Overwrites runs with zeros, syncs, then records it. `receiver` also moves the header's mark.
    pub(crate) fn erase(&self, runs: &[(u64, u64)], receiver: bool) -> Result<(), StoreError> {
        for &(start, end) in runs {
            write_zeros(&*self.file, DATA_OFFSET + start, end - start)
                .map_err(|error| StoreError::io("erase", &self.path, &error))?;
        }
        self.file.sync().map_err(|error| StoreError::io("sync", &self.path, &error))?;
        let mut head = lock_short(&self.head);
        for &(start, end) in runs {
            head.erased.insert(start, end);
        }
        if receiver {
            head.header.mark = head.header.mark.max(head.erased.furthest());
            head.header.mark_before = head.header.mark;
        }
        head.header.floor = head.erased.prefix_end().min(head.header.mark);
        self.write_header(&mut head)?;
        self.punch(&mut head)
    }

    fn write_header(&self, head: &mut Head) -> Result<(), StoreError> {
        head.header
            .write_next(&*self.file)
            .and_then(|()| if planted(Fault::LaneHeaderNotSynced) { Ok(()) } else { self.file.sync() })
            .map_err(|error| StoreError::io("write the header of", &self.path, &error))
    }

    fn punch(&self, head: &mut Head) -> Result<(), StoreError> {
        let (from, to) = (head.punched, head.header.floor);
        if to.saturating_sub(from) >= PUNCH_BYTES_MIN {
            self.file
                .punch(DATA_OFFSET + from, to - from)
                .map_err(|error| StoreError::io("give space back of", &self.path, &error))?;
            head.punched = to;
        }
        Ok(())
    }
}

/// Writes zeros over a range.
pub(crate) fn write_zeros(file: &dyn File, offset: u64, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; ERASE_PIECE_BYTES.min(usize::try_from(bytes).unwrap_or(ERASE_PIECE_BYTES))];
    let mut done = 0;
    while done < bytes {
        let piece = usize::try_from(bytes - done).unwrap_or(usize::MAX).min(zeros.len());
        file.write_at(zeros.get(..piece).unwrap_or(&zeros), offset + done)?;
        done += piece as u64;
    }
    Ok(())
}

/// Whether a run of 16 bytes or more is all zeros, or holds an aligned piece that is.
fn looks_erased(run: &[u8]) -> bool {
    // All of each piece is looked at, so that the time does not depend on a pad's bytes.
    let zero = |piece: &[u8]| piece.iter().fold(0, |all, byte| all | byte) == 0;
    (run.len() >= 16 && zero(run)) || run.chunks_exact(ERASED_PIECE_BYTES).any(zero)
}
