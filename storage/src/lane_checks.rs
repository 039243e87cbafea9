//! Checksums of the pads in a lane's file: a byte that the disk has changed is noticed before it is used.
//!
//! They lie behind the pads, an entry for each block. A checksum tells something about what it covers, and
//! for an adversary without bounds that is too much once a pad has been used. So an entry never outlives what
//! it covers: before a part of a block is erased, the entry gets the checksum that the block will have beside
//! the one that it has, and after the erasure only the new one; a block that is all zeros has none.
//!
//! They find accidents of the disk. Whoever may write the file may write them too.

use std::{collections::BTreeMap, io};

use zeroize::Zeroizing;

use crate::{disk::File, lane_header::DATA_OFFSET};

/// Bytes of a pad under one checksum.
pub(crate) const BLOCK_BYTES: u64 = 4096;
const ENTRY_BYTES: u64 = 8;
/// Entries are read and written so many at a time.
pub(crate) const ENTRIES_AT_ONCE: usize = 64 << 10;

/// The checksums of one block. They differ while a part of it is being erased, and after a crash in that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) now: u32,
    pub(crate) next: u32,
}

impl zeroize::DefaultIsZeroes for Entry {}

impl Entry {
    pub(crate) fn settled(checksum: u32) -> Self {
        Self { now: checksum, next: checksum }
    }

    /// Whether no erasure was under way when the entry was written.
    pub(crate) fn is_settled(self) -> bool {
        self.now == self.next
    }

    /// Whether a block with this checksum is what was written, or what an erasure makes of it.
    pub(crate) fn fits(self, checksum: u32) -> bool {
        checksum == self.now || checksum == self.next
    }
}

/// Length of the file of a lane.
pub(crate) fn file_bytes(lane_bytes: u64) -> u64 {
    entry_offset(lane_bytes, lane_bytes.div_ceil(BLOCK_BYTES))
}

fn entry_offset(lane_bytes: u64, index: u64) -> u64 {
    DATA_OFFSET
        .saturating_add(lane_bytes.saturating_add(ENTRY_BYTES - 1) / ENTRY_BYTES * ENTRY_BYTES)
        .saturating_add(index.saturating_mul(ENTRY_BYTES))
}

/// The checksum of a block at its place: 0 where it has been erased as a whole, and only there.
pub(crate) fn checksum(index: u64, block: &[u8]) -> u32 {
    if block.iter().all(|&byte| byte == 0) {
        return 0;
    }
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&index.to_le_bytes());
    hasher.update(block);
    hasher.finalize().max(1)
}

/// Writes pads that begin at a block and end at one or with the lane, and their checksums.
pub(crate) fn write_pads(file: &dyn File, lane_bytes: u64, offset: u64, pads: &[u8]) -> io::Result<()> {
    file.write_at(pads, DATA_OFFSET + offset)?;
    let first = offset / BLOCK_BYTES;
    let blocks = pads.chunks(usize::try_from(BLOCK_BYTES).unwrap_or(usize::MAX));
    let entries: Zeroizing<Vec<Entry>> = Zeroizing::new(
        (first..).zip(blocks).map(|(index, block)| Entry::settled(checksum(index, block))).collect(),
    );
    write_entries(file, lane_bytes, first, &entries)
}

/// Reads the entries of the blocks from `first` on.
pub(crate) fn read_entries(
    file: &dyn File,
    lane_bytes: u64,
    first: u64,
    count: usize,
) -> io::Result<Zeroizing<Vec<Entry>>> {
    let mut bytes = Zeroizing::new(vec![0; count.saturating_mul(8)]);
    file.read_at(&mut bytes, entry_offset(lane_bytes, first))?;
    let word = |word: &[u8]| word.try_into().map(u32::from_le_bytes).unwrap_or(0);
    let entries =
        bytes.chunks_exact(8).map(|entry| Entry { now: word(&entry[..4]), next: word(&entry[4..]) });
    Ok(Zeroizing::new(entries.collect()))
}

/// Writes the entries of the blocks from `first` on; the caller syncs.
pub(crate) fn write_entries(
    file: &dyn File,
    lane_bytes: u64,
    first: u64,
    entries: &[Entry],
) -> io::Result<()> {
    for (piece, at) in entries.chunks(ENTRIES_AT_ONCE).zip((first..).step_by(ENTRIES_AT_ONCE)) {
        // With all its room from the start: a list that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(piece.len().saturating_mul(8)));
        let words = piece.iter().flat_map(|entry| [entry.now, entry.next]);
        words.for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        file.write_at(&bytes, entry_offset(lane_bytes, at))?;
    }
    Ok(())
}

/// Notes that the blocks of these ranges are zeros; the caller syncs.
pub(crate) fn clear_entries(file: &dyn File, lane_bytes: u64, blocks: &[(u64, u64)]) -> io::Result<()> {
    for &(first, last) in blocks {
        let count = usize::try_from(last.saturating_sub(first)).unwrap_or(usize::MAX);
        for at in (0..count).step_by(ENTRIES_AT_ONCE) {
            let piece = vec![Entry::default(); (count - at).min(ENTRIES_AT_ONCE)];
            write_entries(file, lane_bytes, first + at as u64, &piece)?;
        }
    }
    Ok(())
}

/// What an erasure does to the blocks of a lane.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Touched {
    /// Ranges of blocks of which nothing will be left.
    pub(crate) whole: Vec<(u64, u64)>,
    /// Blocks of which something will be left, with the runs inside that will not.
    pub(crate) part: BTreeMap<u64, Vec<(usize, usize)>>,
}

impl Touched {
    /// By runs that are in order and do not touch.
    pub(crate) fn by(runs: &[(u64, u64)], lane_bytes: u64) -> Self {
        let mut touched = Self::default();
        for &(start, end) in runs.iter().filter(|(start, end)| start < end) {
            let first_whole = start.div_ceil(BLOCK_BYTES);
            let last_whole = if end >= lane_bytes { end.div_ceil(BLOCK_BYTES) } else { end / BLOCK_BYTES };
            if first_whole < last_whole {
                touched.whole.push((first_whole, last_whole));
            }
            for index in [start / BLOCK_BYTES, (end - 1) / BLOCK_BYTES] {
                if index >= first_whole && index < last_whole {
                    continue;
                }
                let base = index * BLOCK_BYTES;
                let inside =
                    |at: u64| usize::try_from(at.clamp(base, base + BLOCK_BYTES) - base).unwrap_or(0);
                let run = (inside(start), inside(end));
                let runs = touched.part.entry(index).or_default();
                if !runs.contains(&run) {
                    runs.push(run);
                }
            }
        }
        touched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_erasure_knows_what_it_leaves_of_each_block() {
        let touched = |runs: &[(u64, u64)]| Touched::by(runs, 10_000);
        assert_eq!(touched(&[(0, 4096)]).whole, [(0, 1)]);
        assert_eq!(touched(&[(0, 4096)]).part.len(), 0);
        let inside = touched(&[(10, 20), (30, 40), (4090, 4100)]);
        assert_eq!(inside.whole, []);
        assert_eq!(inside.part[&0], [(10, 20), (30, 40), (4090, 4096)]);
        assert_eq!(inside.part[&1], [(0, 4)]);
        // The last block is shorter.
        let all = touched(&[(100, 10_000)]);
        assert_eq!((all.whole, all.part), (vec![(1, 3)], BTreeMap::from([(0, vec![(100, 4096)])])));
        assert_eq!(touched(&[(9000, 9999)]).part[&2], [(9000 - 8192, 9999 - 8192)]);
    }

    #[test]
    fn every_flipped_bit_changes_the_checksum_and_so_does_the_place() {
        let block: Vec<u8> = (0..=255).cycle().take(4096).collect();
        let right = checksum(7, &block);
        assert_ne!(right, checksum(8, &block));
        for bit in 0..block.len() * 8 {
            let mut bad = block.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(checksum(7, &bad), right, "bit {bit}");
        }
        assert_eq!(checksum(7, &[0; 4096]), 0);
    }
}
