//! One lane on disk: its header, the bytes of the pad, read by range and erased in place, and their checksums.
//!
//! Bytes are overwritten with zeros and synced before the header may say so; a hole is punched only into
//! what is zero already, because punching alone leaves the bytes on the device. No byte leaves this module
//! whose block does not have its checksum.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use dske_protocol::{
    ids::{Lane, TableId},
    planted::{Fault, planted},
    sync::keys_from,
    wiped::Wiped,
};

use crate::{
    disk::{Disk, File},
    error::StoreError,
    intervals::IntervalSet,
    lane_checks::{
        BLOCK_BYTES, ENTRIES_AT_ONCE, Entry, Touched, checksum, clear_entries, file_bytes, read_entries,
        write_entries,
    },
    lane_header::{Counts, DATA_OFFSET, LaneHeader},
    lock_short,
    lost_file::LostFile,
};

/// Holes are punched when this much more has become dead.
const PUNCH_BYTES_MIN: u64 = 16 << 20;
/// An aligned piece of this many zero bytes is no pad (chance 2^-256): it has been erased.
const ERASED_PIECE_BYTES: usize = 32;

/// A lane file that is open.
pub(crate) struct LaneFile {
    file: Arc<dyn File>,
    path: PathBuf,
    lane_bytes: u64,
    /// Nothing of it is read or written any more.
    lost: bool,
    head: Mutex<Head>,
    /// Held while bytes are erased; taken before `head`.
    erasing: Mutex<()>,
}

struct Head {
    header: LaneHeader,
    erased: IntervalSet,
    punched: u64,
}

/// Blocks that were read, and the first that is wrong.
struct Blocks {
    bytes: Wiped,
    bad: Option<Bad>,
}

/// A block that does not have its checksum. Not `settled`: it was being erased when a crash came.
#[derive(Debug, Clone, Copy)]
struct Bad {
    index: u64,
    settled: bool,
}

/// Entries of blocks for after an erasure, and the place of the first block that was wrong before it.
type Announced = (Vec<(u64, Entry)>, Option<u64>);

/// Why a lane must not be used as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LaneProblem {
    #[error("the file is missing")]
    Missing,
    #[error("the file ends at byte {bytes} of {expected}")]
    Short { bytes: u64, expected: u64 },
    #[error("both header slots are damaged")]
    NoHeader,
    #[error("the file belongs to another lane")]
    Foreign,
    #[error("the header's marks lie outside the lane")]
    Marks,
}

impl LaneProblem {
    /// Whether nobody can tell from the file what of the lane has been used: it is damage, whatever the peer says.
    pub(crate) fn is_lost(self) -> bool {
        matches!(self, Self::Missing | Self::Short { .. } | Self::NoHeader)
    }
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

    /// Opens a lane file. Beside it, what is wrong with it: such a lane must not be used. Of one that is lost
    /// ([`LaneProblem::is_lost`]) no byte is read, and nothing is written.
    pub(crate) fn open(
        disk: &dyn Disk,
        path: &Path,
        table: TableId,
        lane: Lane,
        bytes: u64,
    ) -> Result<(Self, Option<LaneProblem>), StoreError> {
        if !disk.exists(path).map_err(|error| StoreError::io("look for", path, &error))? {
            return Ok(Self::lost(path, table, lane, bytes, LaneProblem::Missing));
        }
        let fail = |error: &io::Error| StoreError::io("read", path, error);
        let file = disk.open(path).map_err(|error| fail(&error))?;
        let length = file.len().map_err(|error| fail(&error))?;
        if length < file_bytes(bytes) {
            let problem = LaneProblem::Short { bytes: length, expected: file_bytes(bytes) };
            return Ok(Self::lost(path, table, lane, bytes, problem));
        }
        let fresh = LaneHeader::new(table, lane, bytes);
        let (header, problem) = match LaneHeader::read(&*file).map_err(|error| fail(&error))? {
            None => return Ok(Self::lost(path, table, lane, bytes, LaneProblem::NoHeader)),
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
        let (path, erasing) = (path.to_owned(), Mutex::default());
        let lane = Self { file, path, lane_bytes: bytes, lost: false, head, erasing };
        if problem.is_none() {
            lane.settle_floor()?;
        }
        Ok((lane, problem))
    }

    fn lost(
        path: &Path,
        table: TableId,
        lane: Lane,
        bytes: u64,
        problem: LaneProblem,
    ) -> (Self, Option<LaneProblem>) {
        let header = LaneHeader::new(table, lane, bytes);
        let head = Mutex::new(Head { header, erased: IntervalSet::default(), punched: 0 });
        let (file, path, erasing) = (Arc::new(LostFile), path.to_owned(), Mutex::default());
        (Self { file, path, lane_bytes: bytes, lost: true, head, erasing }, Some(problem))
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

    /// Reads a run; `None` where it has been erased, as the checksums know. Fails where it is not what was written, or
    /// is zeros that no erasure left.
    pub(crate) fn read(&self, offset: u64, bytes: u64) -> Result<Option<Wiped>, StoreError> {
        if offset.checked_add(bytes).is_none_or(|end| end > self.lane_bytes) {
            return Err(StoreError::invalid("a run outside its lane"));
        }
        let (first, last) = (offset / BLOCK_BYTES, offset.saturating_add(bytes).div_ceil(BLOCK_BYTES));
        let mut read = self.read_blocks(first, last)?;
        if read.bad.is_some() {
            // Or an erasure went on beside it.
            let _still = lock_short(&self.erasing);
            read = self.read_blocks(first, last)?;
            // Where a crash came into an erasure nobody can say; what is left of it is erased again.
            read.bad = read.bad.filter(|bad| bad.settled);
        }
        let start = usize::try_from(offset - first * BLOCK_BYTES).unwrap_or(usize::MAX);
        let len = usize::try_from(bytes).unwrap_or(usize::MAX);
        if read.bytes.get(start..start.saturating_add(len)).is_none() {
            return Err(StoreError::invalid("a run outside its lane"));
        }
        // In place: a second megabyte would cost more than the reading.
        let mut run = read.bytes;
        run.copy_within(start..start + len, 0);
        run.truncate(len);
        match read.bad {
            None if looks_erased(&run) => Ok(planted(Fault::ErasedPadAccepted).then_some(run)),
            None => Ok(Some(run)),
            Some(bad) => {
                Err(StoreError::Damaged { what: "a pad", detail: self.damage(block_offset(bad.index)) })
            }
        }
    }

    /// Reads whole blocks, and looks for one that does not have its checksum.
    fn read_blocks(&self, first: u64, last: u64) -> Result<Blocks, StoreError> {
        let fail = |error: io::Error| match error.kind() {
            // The disk, or somebody, has cut it short since it was opened.
            io::ErrorKind::UnexpectedEof => {
                StoreError::Damaged { what: "a pad", detail: self.damage(block_offset(first)) }
            }
            _ => StoreError::io("read", &self.path, &error),
        };
        let (start, end) = (first * BLOCK_BYTES, last.saturating_mul(BLOCK_BYTES).min(self.lane_bytes));
        let len = usize::try_from(end.saturating_sub(start));
        let len = len.map_err(|_| StoreError::invalid("a run longer than memory"))?;
        let bytes = self.file.read(DATA_OFFSET.saturating_add(start), len).map_err(fail)?;
        let blocks = bytes.chunks(usize::try_from(BLOCK_BYTES).unwrap_or(usize::MAX));
        let entries = read_entries(&*self.file, self.lane_bytes, first, blocks.len()).map_err(fail)?;
        let mut bad: Option<Bad> = None;
        for ((index, block), entry) in (first..).zip(blocks).zip(entries.iter()) {
            if !entry.fits(checksum(index, block)) && bad.is_none_or(|bad| !bad.settled) {
                bad = Some(Bad { index, settled: entry.is_settled() });
            }
        }
        Ok(Blocks { bytes, bad })
    }

    /// What a crash in an erasure may have left at the floor and right below it, none of which is erased again: both
    /// checksums of the block in which the floor lies, and the old ones of those that the last erasure left nothing of.
    fn settle_floor(&self) -> Result<(), StoreError> {
        let fail = |error: io::Error| StoreError::io("erase", &self.path, &error);
        let header = self.header();
        let floor = header.floor.min(self.lane_bytes);
        let before =
            header.before(&*self.file).map_err(fail)?.map_or(floor, |before| before.floor.min(floor));
        let (first, last) = (before / BLOCK_BYTES, floor / BLOCK_BYTES);
        let mut changed = false;
        for piece in (first..last).step_by(ENTRIES_AT_ONCE) {
            let count = usize::try_from(last - piece).unwrap_or(usize::MAX).min(ENTRIES_AT_ONCE);
            let entries = read_entries(&*self.file, self.lane_bytes, piece, count).map_err(fail)?;
            if entries.iter().any(|entry| *entry != Entry::default()) {
                clear_entries(&*self.file, self.lane_bytes, &[(piece, piece + count as u64)])
                    .map_err(fail)?;
                changed = true;
            }
        }
        if !floor.is_multiple_of(BLOCK_BYTES) && floor < self.lane_bytes {
            let entries = read_entries(&*self.file, self.lane_bytes, last, 1).map_err(fail)?;
            if !entries.iter().all(|entry| entry.is_settled()) {
                let block = self.read_blocks(last, last + 1)?.bytes;
                let entry = Entry::settled(checksum(last, &block));
                write_entries(&*self.file, self.lane_bytes, last, &[entry]).map_err(fail)?;
                changed = true;
            }
        }
        if changed { self.file.sync().map_err(fail) } else { Ok(()) }
    }

    /// Overwrites runs with zeros, syncs, then records it. The runs are in order and do not touch. `receiver`
    /// also moves the header's mark. Gives the first byte of a block that is left in part and was not what was written.
    pub(crate) fn erase(&self, runs: &[(u64, u64)], receiver: bool) -> Result<Option<u64>, StoreError> {
        let fail = |error: io::Error| StoreError::io("erase", &self.path, &error);
        let _erasing = lock_short(&self.erasing);
        if self.lost {
            return Ok(None);
        }
        if let Some(len) = self.cut_at().map_err(fail)? {
            self.erase_within(runs, len).map_err(fail)?;
            return Ok(Some(len));
        }
        let wide = self.with_erased_neighbours(runs);
        let touched = Touched::by(&wide, self.lane_bytes);
        let (settled, damaged) = self.announce(&touched.part)?;
        for &(start, end) in &wide {
            self.file.zero(DATA_OFFSET + start, end - start).map_err(fail)?;
        }
        self.file.sync().map_err(|error| StoreError::io("sync", &self.path, &error))?;
        for (index, entry) in settled {
            write_entries(&*self.file, self.lane_bytes, index, &[entry]).map_err(fail)?;
        }
        clear_entries(&*self.file, self.lane_bytes, &touched.whole).map_err(fail)?;
        let mut head = lock_short(&self.head);
        for &(start, end) in runs {
            head.erased.insert(start, end);
        }
        if receiver {
            // Of messages alone: tag keys of marks lie apart, at the end.
            let furthest = head.erased.furthest_below(keys_from(self.lane_bytes));
            head.header.mark = head.header.mark.max(furthest);
            head.header.mark_before = head.header.mark;
        }
        head.header.floor = head.erased.prefix_end().min(head.header.mark);
        self.write_header(&mut head)?;
        self.punch(&mut head)?;
        Ok(damaged)
    }

    /// Runs, and what else has been erased of the blocks in which they begin and end. After a crash an erasure is done again
    /// from the floor on, and a block of which the first time left nothing must be one of which the second leaves nothing: it
    /// has no checksum any more for what was before.
    fn with_erased_neighbours(&self, runs: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let head = lock_short(&self.head);
        let mut wide = IntervalSet::default();
        for &(start, end) in runs {
            wide.insert(start, end);
            let (first, last) = (start / BLOCK_BYTES * BLOCK_BYTES, end.next_multiple_of(BLOCK_BYTES));
            for (start, end) in head.erased.within(first, start).chain(head.erased.within(end, last)) {
                wide.insert(start, end);
            }
        }
        wide.iter().collect()
    }

    /// Where the file ends, where that is too early.
    fn cut_at(&self) -> io::Result<Option<u64>> {
        Ok(Some(self.file.len()?).filter(|len| *len < file_bytes(self.lane_bytes)))
    }

    /// Overwrites what a file that was cut short still has of runs. It gets no longer by that, and its header says
    /// nothing of it.
    fn erase_within(&self, runs: &[(u64, u64)], len: u64) -> io::Result<()> {
        let there = len.saturating_sub(DATA_OFFSET);
        for (start, end) in runs.iter().map(|&(start, end)| (start, end.min(there))) {
            if start < end {
                self.file.zero(DATA_OFFSET + start, end - start)?;
            }
        }
        self.file.sync()
    }

    /// Says durably which checksums the blocks will have that are erased in part; gives their entries for
    /// afterwards. A block that does not have its checksum now does not get a right one; the first such is told.
    fn announce(&self, part: &BTreeMap<u64, Vec<(usize, usize)>>) -> Result<Announced, StoreError> {
        let fail = |error: io::Error| StoreError::io("erase", &self.path, &error);
        let mut settled = Vec::with_capacity(part.len());
        let (mut changed, mut damaged) = (false, None);
        for (&index, runs) in part {
            let Blocks { bytes: mut block, .. } = self.read_blocks(index, index + 1)?;
            let entries = read_entries(&*self.file, self.lane_bytes, index, 1).map_err(fail)?;
            let entry = entries.first().copied().unwrap_or_default();
            let sound = !entry.is_settled() || entry.fits(checksum(index, &block));
            for &(start, end) in runs {
                let end = end.min(block.len());
                block.get_mut(start..end).into_iter().for_each(|run| run.fill(0));
            }
            let next = checksum(index, &block);
            let next = if sound {
                next
            } else {
                damaged = damaged.or(Some(block_offset(index)));
                // Of zeros there is no checksum, neither a right one nor a wrong one.
                if next == 0 { 0 } else { !next }
            };
            changed |= entry != Entry::settled(next);
            write_entries(&*self.file, self.lane_bytes, index, &[Entry { now: entry.now, next }])
                .map_err(fail)?;
            settled.push((index, Entry::settled(next)));
        }
        if changed {
            self.file.sync().map_err(|error| StoreError::io("sync", &self.path, &error))?;
        }
        Ok((settled, damaged))
    }

    /// What is wrong where the block at a byte of the file is not what was written.
    pub(crate) fn damage(&self, byte: u64) -> String {
        if let Ok(Some(len)) = self.cut_at() {
            let expected = file_bytes(self.lane_bytes);
            return format!("{} ends at byte {len} of {expected}: check the disk", self.path.display());
        }
        format!(
            "byte {byte} of {} and the {BLOCK_BYTES} from there are not what was written: check the disk",
            self.path.display()
        )
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

/// Where a block stands in its file.
fn block_offset(index: u64) -> u64 {
    DATA_OFFSET + index * BLOCK_BYTES
}

/// Whether a run of 16 bytes or more is all zeros, or holds an aligned piece that is.
fn looks_erased(run: &[u8]) -> bool {
    // All of each piece is looked at, so that the time does not depend on a pad's bytes.
    let zero = |piece: &[u8]| piece.iter().fold(0, |all, byte| all | byte) == 0;
    (run.len() >= 16 && zero(run)) || run.chunks_exact(ERASED_PIECE_BYTES).any(zero)
}

#[cfg(test)]
mod tests;
