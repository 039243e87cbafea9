//! A lane in memory: which runs are used, held, or reserved and waiting to be handed out.
//!
//! Pure bookkeeping without I/O. An allocator's buffer always covers exactly `position..mark`, and never a
//! used run; a receiver has no buffer, only used runs and held ones.

use std::{collections::BTreeMap, sync::Arc};

use dske_protocol::{
    ids::Lane,
    pad::PadBytes,
    planted::{Fault, planted},
};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    error::HoldRefusal, intervals::IntervalSet, lane_file::LaneFile, lane_header::Counts, status::LaneStatus,
};

/// Longest run that one message may use.
pub(crate) const RUN_BYTES_MAX: u64 = 64 << 20;
/// Smallest chunk that is reserved at once.
const CHUNK_BYTES_MIN: u64 = 4096;
/// A lane is reserved in this many chunks at least, so that a crash wastes little of a small one.
const CHUNKS_PER_LANE: u64 = 128;
/// The end of a lane is kept for the tag keys of marks, this part of it and so much at most: a table whose one
/// lane is used up could otherwise not be compared any more, and its other lane not be used.
const SYNC_PART_OF_LANE: u64 = 16;
const SYNC_BYTES_MAX: u64 = 4096;

/// One lane of a table that is loaded.
pub(crate) struct LaneState {
    pub(crate) file: Arc<LaneFile>,
    pub(crate) lane: Lane,
    pub(crate) bytes: u64,
    pub(crate) allocator: bool,
    pub(crate) counts: Counts,
    /// Runs known to be used: all of a receiver's; an allocator's that were taken above its mark.
    pub(crate) used: IntervalSet,
    /// Allocator: everything below is reserved durably.
    pub(crate) mark: u64,
    /// What the peer has told, durably. Allocator: how much of this lane it has on record, the lease. Receiver: its
    /// mark.
    pub(crate) told: u64,
    position: u64,
    buffer: Zeroizing<Vec<u8>>,
    cursor: usize,
    held: BTreeMap<u64, u64>,
    /// A background refill is under way.
    pub(crate) refilling: bool,
}

impl LaneState {
    pub(crate) fn new(
        file: Arc<LaneFile>,
        lane: Lane,
        bytes: u64,
        allocator: bool,
        mark: u64,
        counts: Counts,
        used: IntervalSet,
    ) -> Self {
        let mark = if allocator { mark } else { 0 };
        let buffer = Zeroizing::new(Vec::new());
        let held = BTreeMap::new();
        Self {
            file,
            lane,
            bytes,
            allocator,
            counts,
            used,
            mark,
            told: 0,
            position: mark,
            buffer,
            cursor: 0,
            held,
            refilling: false,
        }
    }

    /// Bytes that are reserved at once.
    pub(crate) fn chunk_bytes(&self, chunk_bytes_max: u64) -> u64 {
        (self.bytes / CHUNKS_PER_LANE).min(chunk_bytes_max).max(CHUNK_BYTES_MIN)
    }

    /// Reserved bytes that wait in memory.
    pub(crate) fn reserved(&self) -> u64 {
        self.mark - self.position
    }

    /// The next byte to be handed out.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Furthest byte that is used or reserved; at the receiver also what the allocator has told to be.
    pub(crate) fn furthest(&self) -> u64 {
        let told = if self.allocator { 0 } else { self.told };
        self.mark.max(self.used.furthest()).max(told)
    }

    /// Bytes that nobody has touched.
    pub(crate) fn left(&self) -> u64 {
        if self.allocator {
            self.bytes - self.mark - self.used.bytes_from(self.mark)
        } else {
            self.bytes.saturating_sub(self.used.bytes_from(0))
        }
    }

    /// Bytes of those that may still go into messages, together with what waits in memory.
    pub(crate) fn left_for_messages(&self) -> u64 {
        (self.left() + self.reserved()).saturating_sub(self.sync_bytes())
    }

    /// The end of the lane that messages may not use.
    fn sync_bytes(&self) -> u64 {
        (self.bytes / SYNC_PART_OF_LANE).min(SYNC_BYTES_MAX)
    }

    pub(crate) fn status(&self) -> LaneStatus {
        let (left, reserved) = (self.left(), self.reserved());
        let Counts { key, identity, sync } = self.counts;
        LaneStatus {
            lane: self.lane,
            allocator: self.allocator,
            bytes: self.bytes,
            used_key: key,
            used_identity: identity,
            used_sync: sync,
            skipped: self
                .bytes
                .saturating_sub(left)
                .saturating_sub(reserved)
                .saturating_sub(self.counts.total()),
            reserved,
            left,
        }
    }

    // -- allocator

    /// First place at or after the position where `bytes` of a message lie together unused.
    pub(crate) fn fit(&self, bytes: u64) -> Option<u64> {
        self.fit_between(self.position, self.bytes - self.sync_bytes(), bytes)
    }

    /// First place at or after `start` where `bytes` of a mark lie together unused.
    pub(crate) fn fit_from(&self, start: u64, bytes: u64) -> Option<u64> {
        self.fit_between(start, self.bytes, bytes)
    }

    fn fit_between(&self, mut start: u64, end: u64, bytes: u64) -> Option<u64> {
        while start.checked_add(bytes)? <= end {
            match self.used.at_or_after(start) {
                Some((first, end)) if first < start + bytes => start = end.max(start),
                _ => return Some(start),
            }
        }
        None
    }

    /// Where the mark should move to, so that `bytes` from `start` can be handed out and a chunk is ready.
    pub(crate) fn reservation_end(&self, start: u64, bytes: u64, chunk_bytes: u64) -> u64 {
        let window_end = self.used.at_or_after(start).map_or(self.bytes, |(first, _)| first.min(self.bytes));
        start.saturating_add(bytes.max(chunk_bytes)).min(window_end).max(start)
    }

    /// Takes in bytes that have been reserved durably: `bytes` are those of `from..mark`.
    pub(crate) fn install(&mut self, start: u64, from: u64, mark: u64, bytes: &[u8]) {
        if start > self.position || from > self.mark {
            // Passed over: what waited in memory is lost, and counts as skipped.
            self.discard();
            self.position = from;
        }
        let waiting = self.buffer.get(self.cursor..).unwrap_or_default();
        let mut buffer = Zeroizing::new(Vec::with_capacity(waiting.len() + bytes.len()));
        buffer.extend_from_slice(waiting);
        buffer.extend_from_slice(bytes);
        self.buffer = buffer;
        self.cursor = 0;
        self.mark = mark;
    }

    /// Moves position and mark on without reading: everything before `to` is given up.
    pub(crate) fn skip(&mut self, to: u64) {
        if to > self.mark {
            self.discard();
            self.mark = to;
            self.position = to;
        } else if to > self.position {
            let gone = usize::try_from(to - self.position).unwrap_or(usize::MAX);
            let end = self.cursor.saturating_add(gone).min(self.buffer.len());
            if let Some(bytes) = self.buffer.get_mut(self.cursor..end) {
                bytes.zeroize();
            }
            self.cursor = end;
            self.position = to;
        }
    }

    fn discard(&mut self) {
        self.buffer = Zeroizing::new(Vec::new());
        self.cursor = 0;
        self.position = self.mark;
    }

    /// Hands out the next bytes; `None` where fewer are reserved.
    pub(crate) fn take(&mut self, bytes: u64) -> Option<(u64, PadBytes)> {
        let end = self.cursor.checked_add(usize::try_from(bytes).ok()?)?;
        let run = self.buffer.get_mut(self.cursor..end)?;
        let pad = PadBytes::mint(run.to_vec());
        run.zeroize();
        let offset = self.position;
        self.cursor = end;
        self.position += bytes;
        Some((offset, pad))
    }

    // -- receiver

    /// Holds a run for one message.
    pub(crate) fn hold(&mut self, start: u64, end: u64) -> Result<(), HoldRefusal> {
        if start >= end || end > self.bytes || end - start > RUN_BYTES_MAX {
            return Err(HoldRefusal::OutOfRange);
        }
        let accepted = planted(Fault::UsedRunAccepted) || planted(Fault::ErasedPadAccepted);
        if self.used.overlaps(start, end) && !accepted {
            return Err(HoldRefusal::AlreadyUsed);
        }
        if self.held.range(..end).next_back().is_some_and(|(_, &last)| last > start) {
            return Err(HoldRefusal::Held);
        }
        self.held.insert(start, end);
        Ok(())
    }

    /// Whether exactly this run is held.
    pub(crate) fn is_held(&self, start: u64, end: u64) -> bool {
        self.held.get(&start) == Some(&end)
    }

    /// Gives a held run back, or makes way for its claim.
    pub(crate) fn let_go(&mut self, start: u64, end: u64) -> bool {
        self.is_held(start, end) && self.held.remove(&start).is_some()
    }
}
