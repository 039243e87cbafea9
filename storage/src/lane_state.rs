//! A lane in memory: which runs are used, held, or reserved and waiting to be handed out.
//!
//! Pure bookkeeping without I/O. Of an allocator's lane `position..mark` is reserved and never meets a used run;
//! the buffer covers exactly `position..loaded` of it, and the rest is still to be read. A receiver has no buffer, only
//! used runs and held ones.

use std::{collections::BTreeMap, sync::Arc};

use dske_protocol::{
    ids::Lane,
    pad::{PadBytes, TAG_KEY_BYTES},
    planted::{Fault, planted},
    sync::{key_place, keys_from},
    wiped::Wiped,
};
use zeroize::Zeroize;

use crate::{
    error::{HoldRefusal, StoreError},
    intervals::IntervalSet,
    lane_file::LaneFile,
    lane_header::Counts,
    status::{LaneStatus, Use},
};

/// Longest run that one message may use.
pub(crate) const RUN_BYTES_MAX: u64 = 64 << 20;
/// Smallest chunk that is reserved at once.
const CHUNK_BYTES_MIN: u64 = 4096;
/// A lane is reserved in this many chunks at least, so that a crash wastes little of a small one.
const CHUNKS_PER_LANE: u64 = 128;
/// A chunk has room for so many messages as long as those of now, within this and the part of the lane.
const MESSAGES_PER_CHUNK: u64 = 4;
/// See [`MESSAGES_PER_CHUNK`].
const CHUNK_BYTES_MOST: u64 = 4 << 20;
/// Where messages are so many chunks of the usual length long, nothing is read ahead: each is read into its place when
/// it is wanted, where what waits in memory would have to be copied out, and would push other things out of the caches.
const READ_ALONE_CHUNKS: u64 = 2;

/// One lane of a table that is loaded.
pub(crate) struct LaneState {
    pub(crate) file: Arc<LaneFile>,
    pub(crate) lane: Lane,
    pub(crate) bytes: u64,
    pub(crate) allocator: bool,
    pub(crate) counts: Counts,
    /// Runs known to be used: all of a receiver's; of an allocator's the tag keys of marks, which lie apart at the end.
    pub(crate) used: IntervalSet,
    /// Allocator: everything below is reserved durably.
    pub(crate) mark: u64,
    /// What the peer has told, durably. Allocator: how much of this lane it has on record, the lease. Receiver: its
    /// mark.
    pub(crate) told: u64,
    position: u64,
    /// Allocator: everything below has been read, and will be erased.
    loaded: u64,
    buffer: Wiped,
    cursor: usize,
    held: BTreeMap<u64, u64>,
    /// Length of the messages of late, the long ones among them.
    usual_bytes: u64,
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
        let buffer = Wiped::new(Vec::new());
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
            loaded: mark,
            buffer,
            cursor: 0,
            held,
            usual_bytes: 0,
            refilling: false,
        }
    }

    /// A lane of which nobody can tell what has been used: all of it counts as used up.
    pub(crate) fn lost(file: Arc<LaneFile>, lane: Lane, bytes: u64, allocator: bool, counts: Counts) -> Self {
        let from = if allocator { keys_from(bytes) } else { 0 };
        let mut used = IntervalSet::default();
        if from < bytes {
            used.insert(from, bytes);
        }
        Self::new(file, lane, bytes, allocator, from, counts, used)
    }

    /// Bytes that are reserved at once: room for several messages of the length that is usual now, for each reservation costs
    /// syncs here and an exchange of marks with the peer.
    pub(crate) fn chunk_bytes(&self, chunk_bytes_max: u64) -> u64 {
        let usual = self.usual_bytes.saturating_mul(MESSAGES_PER_CHUNK).min(CHUNK_BYTES_MOST);
        self.chunk_within(chunk_bytes_max.max(usual))
    }

    fn chunk_within(&self, bytes_max: u64) -> u64 {
        (self.bytes / CHUNKS_PER_LANE).min(bytes_max).max(CHUNK_BYTES_MIN)
    }

    /// Reserved bytes that have not been handed out.
    pub(crate) fn reserved(&self) -> u64 {
        self.mark - self.position
    }

    /// The next byte to be handed out.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Where what has not been read begins.
    pub(crate) fn loaded(&self) -> u64 {
        self.loaded
    }

    /// How far reserved bytes should be read, so that those before `wanted` can be handed out.
    pub(crate) fn load_end(&self, wanted: u64, chunk_bytes_max: u64) -> u64 {
        let alone = self.usual_bytes >= READ_ALONE_CHUNKS * self.chunk_within(chunk_bytes_max);
        if alone { wanted.min(self.mark) } else { self.mark }
    }

    /// Furthest byte for messages that is used or reserved; at the receiver also what the allocator has told to be.
    pub(crate) fn furthest(&self) -> u64 {
        if self.allocator { self.mark } else { self.told.max(self.used_furthest()) }
    }

    /// Furthest byte for messages that is used.
    pub(crate) fn used_furthest(&self) -> u64 {
        self.used.furthest_below(self.keys_from())
    }

    /// Where the part begins that is kept for tag keys of marks.
    pub(crate) fn keys_from(&self) -> u64 {
        keys_from(self.bytes)
    }

    /// Below this every place for tag keys of marks is used.
    pub(crate) fn keys(&self) -> u64 {
        self.used.end_from(self.keys_from())
    }

    /// First free place for the tag key of a mark that does not begin before `at`.
    pub(crate) fn free_key_place(&self, at: u64) -> Option<u64> {
        let mut place = key_place(self.bytes, at)?;
        while self.used.overlaps(place, place + TAG_KEY_BYTES as u64) {
            place = key_place(self.bytes, self.used.end_from(place).max(place + 1))?;
        }
        Some(place)
    }

    /// Bytes that nobody has touched.
    pub(crate) fn left(&self) -> u64 {
        if self.allocator {
            self.bytes - self.mark - self.used.bytes_from(self.mark)
        } else {
            self.bytes - self.used.bytes_from(0)
        }
    }

    /// Bytes of those that may still go into messages, together with what waits in memory.
    pub(crate) fn left_for_messages(&self) -> u64 {
        let from = if self.allocator { self.position } else { 0 };
        let (all, used) =
            (self.keys_from(), self.used.bytes_from(from) - self.used.bytes_from(self.keys_from()));
        all.saturating_sub(from).saturating_sub(used)
    }

    /// Bytes that are neither counted as used, nor wait, nor are left. `None` where those are more than the lane has:
    /// then its counts are wrong.
    pub(crate) fn skipped(&self) -> Option<u64> {
        self.bytes.checked_sub(self.left())?.checked_sub(self.reserved())?.checked_sub(self.counts.total())
    }

    /// Counts bytes that have been taken or claimed already. Fails where that makes more than have been.
    pub(crate) fn count_use(&mut self, usage: Use, bytes: u64) -> Result<(), StoreError> {
        self.counts.add(usage, bytes);
        if self.skipped().is_some() {
            return Ok(());
        }
        let detail = format!(
            "{} bytes of the {} lane count as used, which are more than were: restart the node, which counts them anew",
            self.counts.total(),
            self.lane
        );
        Err(StoreError::Damaged { what: "the account of a lane", detail })
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
            // Where it is none the table is shown as quarantined.
            skipped: self.skipped().unwrap_or(0),
            reserved,
            left,
            for_keys: self.left_for_messages(),
        }
    }

    // -- allocator

    /// First place at or after the position where `bytes` of a message lie together unused.
    pub(crate) fn fit(&self, bytes: u64) -> Option<u64> {
        self.fit_between(self.position, self.keys_from(), bytes)
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
        let end = self.keys_from();
        let window_end = self.used.at_or_after(start).map_or(end, |(first, _)| first.min(end));
        start.saturating_add(bytes.max(chunk_bytes)).min(window_end).max(start)
    }

    /// `from..mark` has been reserved durably. Gives what is passed over unread, which is to be erased.
    #[must_use]
    pub(crate) fn reserve(&mut self, from: u64, mark: u64) -> (u64, u64) {
        let passed = if from > self.mark { self.skip(from) } else { (from, from) };
        self.mark = mark;
        passed
    }

    /// Takes in the next bytes that were read.
    pub(crate) fn load(&mut self, bytes: Wiped) {
        self.loaded += bytes.len() as u64;
        let waiting = self.buffer.get(self.cursor..).unwrap_or_default();
        self.buffer = if waiting.is_empty() {
            bytes
        } else {
            let mut buffer = Wiped::new(Vec::with_capacity(waiting.len() + bytes.len()));
            buffer.extend_from_slice(waiting);
            buffer.extend_from_slice(&bytes);
            buffer
        };
        self.cursor = 0;
    }

    /// Everything before `to` is given up, and counts as skipped. Gives the part of it that was never read, which is to
    /// be erased.
    #[must_use]
    pub(crate) fn skip(&mut self, to: u64) -> (u64, u64) {
        let unread = (self.loaded.min(to), to);
        if to > self.loaded {
            self.buffer = Wiped::new(Vec::new());
            self.cursor = 0;
            self.position = to;
            self.loaded = to;
            self.mark = self.mark.max(to);
        } else if to > self.position {
            let gone = usize::try_from(to - self.position).unwrap_or(usize::MAX);
            let end = self.cursor.saturating_add(gone).min(self.buffer.len());
            if let Some(bytes) = self.buffer.get_mut(self.cursor..end) {
                bytes.zeroize();
            }
            self.cursor = end;
            self.position = to;
        }
        unread
    }

    /// Hands out the next bytes; `None` where fewer have been read.
    pub(crate) fn take(&mut self, bytes: u64) -> Option<(u64, PadBytes)> {
        let end = self.cursor.checked_add(usize::try_from(bytes).ok()?)?;
        let whole = self.cursor == 0 && end == self.buffer.len();
        let pad = if whole {
            // As with a message of its own reservation: the bytes stay where they are.
            PadBytes::mint(std::mem::take(&mut self.buffer).into_vec())
        } else {
            let run = self.buffer.get_mut(self.cursor..end)?;
            let pad = PadBytes::mint(run.to_vec());
            run.zeroize();
            pad
        };
        self.usual_bytes = bytes.max(self.usual_bytes - self.usual_bytes / 32);
        let offset = self.position;
        self.cursor = if whole { 0 } else { end };
        self.position += bytes;
        Some((offset, pad))
    }

    // -- receiver

    /// Holds a run for one message.
    pub(crate) fn hold(&mut self, start: u64, end: u64) -> Result<(), HoldRefusal> {
        if start >= end || end > self.bytes || end - start > RUN_BYTES_MAX {
            return Err(HoldRefusal::OutOfRange);
        }
        let accepted = [Fault::UsedRunAccepted, Fault::ErasedPadAccepted].into_iter().any(planted);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{disk::Disk, lane_checks::file_bytes, sim::SimDisk};
    use dske_protocol::{ids::TableId, pad::TAG_KEY_BYTES};
    use std::path::Path;

    const BYTES: u64 = 1 << 20;

    /// A lane of any length. Its file does not matter here, and is a short one.
    fn lane(allocator: bool, bytes: u64, mark: u64) -> LaneState {
        let (disk, path, table) = (SimDisk::default(), Path::new("lane"), TableId::new([4; 16]));
        let file = disk.create(path).expect("a file");
        file.allocate(file_bytes(64)).expect("space");
        LaneFile::format(&*file, table, Lane::Up, 64).expect("a header");
        let (file, problem) = LaneFile::open(&disk, path, table, Lane::Up, 64).expect("it opens");
        assert_eq!(problem, None);
        let (counts, used) = (Counts::default(), IntervalSet::default());
        LaneState::new(Arc::new(file), Lane::Up, bytes, allocator, mark, counts, used)
    }

    /// What stands at a range of the lane.
    fn pad(start: u64, end: u64) -> Vec<u8> {
        (start..end).map(|at| at.to_le_bytes()[0]).collect()
    }

    /// Takes a run, and checks that it is what stands at its place; gives the place.
    fn take(lane: &mut LaneState, bytes: u64) -> Option<u64> {
        let (offset, run) = lane.take(bytes)?;
        assert_eq!(run.len() as u64, bytes);
        let (share, _) = run.split().expect("long enough");
        assert_eq!(*share.into_bytes(), pad(offset, offset + bytes - TAG_KEY_BYTES as u64));
        Some(offset)
    }

    /// Reserves a run and reads all of it; gives what is passed over unread.
    fn install(lane: &mut LaneState, from: u64, mark: u64) -> (u64, u64) {
        let passed = lane.reserve(from, mark);
        lane.load(pad(from, mark).into());
        passed
    }

    #[test]
    fn a_chunk_is_a_part_of_the_lane_within_bounds() {
        assert_eq!(lane(true, 128 * 8192, 0).chunk_bytes(65_536), 8192);
        assert_eq!(lane(true, 128 * 8192, 0).chunk_bytes(5000), 5000);
        assert_eq!(lane(true, 128 << 10, 0).chunk_bytes(65_536), 4096);
        let mut long = lane(true, 128 << 20, 0);
        assert_eq!(long.chunk_bytes(65_536), 65_536);
        install(&mut long, 0, 200_000);
        assert_eq!(
            (take(&mut long, 200_000), long.chunk_bytes(65_536)),
            (Some(0), 800_000),
            "four such messages"
        );
        install(&mut long, 200_000, 210_000);
        (0..100).for_each(|at| assert_eq!(take(&mut long, 100), Some(200_000 + at * 100)));
        assert_eq!(long.chunk_bytes(65_536), 65_536, "none of late was so long");
    }

    #[test]
    fn every_byte_is_used_waiting_passed_over_or_left() {
        let mut lane = lane(true, BYTES, 0);
        install(&mut lane, 0, 8192);
        assert_eq!(take(&mut lane, 100), Some(0));
        lane.counts.add(Use::Key, 100);
        lane.used.insert(20_000, 20_032);
        lane.counts.add(Use::Sync, 32);
        assert_eq!((lane.position(), lane.reserved(), lane.furthest()), (100, 8092, 8192));
        assert_eq!(lane.left(), BYTES - 8192 - 32);
        assert_eq!(lane.left_for_messages(), BYTES - 100 - 32 - BYTES / 16, "the end is for marks");
        assert_eq!(lane.skip(9000), (8192, 9000));
        let status = lane.status();
        assert_eq!((status.left, status.reserved, status.skipped), (BYTES - 9000 - 32, 0, 8900));
        assert_eq!((status.used_key, status.used_identity, status.used_sync), (100, 0, 32));
        lane.told = BYTES;
        assert_eq!(lane.furthest(), 9000, "what the peer has on record is not used for that");
    }

    #[test]
    fn more_than_was_used_is_never_counted() {
        let mut own = lane(true, BYTES, 0);
        install(&mut own, 0, 8192);
        assert_eq!(take(&mut own, 100), Some(0));
        assert_eq!((own.count_use(Use::Key, 100), own.skipped()), (Ok(()), Some(0)));
        let mut peers = lane(false, BYTES, 0);
        peers.used.insert(100, 200);
        assert_eq!((peers.count_use(Use::Sync, 99), peers.skipped()), (Ok(()), Some(1)));
        for lane in [&mut own, &mut peers] {
            let refused = lane.count_use(Use::Identity, 2);
            assert!(matches!(refused, Err(StoreError::Damaged { .. })), "{refused:?}");
            assert_eq!(lane.skipped(), None);
        }
    }

    #[test]
    fn a_receiver_knows_used_runs_and_what_the_allocator_told() {
        let mut lane = lane(false, BYTES, 77);
        assert_eq!((lane.mark, lane.position(), lane.furthest()), (0, 0, 0), "it reserves nothing");
        lane.used.insert(100, 400);
        lane.counts.add(Use::Identity, 300);
        lane.told = 399;
        assert_eq!((lane.furthest(), lane.left()), (400, BYTES - 300));
        lane.told = 500;
        assert_eq!((lane.furthest(), lane.left(), lane.status().skipped), (500, BYTES - 300, 0));
    }

    #[test]
    fn a_message_goes_where_there_is_room_and_leaves_the_end_to_marks() {
        let mut lane = lane(true, 1600, 0);
        assert_eq!((lane.left_for_messages(), lane.fit(1200), lane.fit(1201)), (1200, Some(0), None));
        lane.used.insert(100, 200);
        lane.used.insert(250, 300);
        assert_eq!((lane.fit(100), lane.fit(101)), (Some(0), Some(300)));
        assert_eq!((lane.fit(900), lane.fit(901)), (Some(300), None));
        assert_eq!(lane.skip(150), (0, 150));
        assert_eq!((lane.fit(10), lane.left_for_messages()), (Some(200), 950));
    }

    #[test]
    fn tag_keys_of_marks_take_the_first_free_place_from_where_they_are_sent() {
        let mut lane = lane(true, 1600, 0);
        assert_eq!((lane.keys_from(), lane.keys()), (1200, 1200));
        let mut take = |at| {
            let place = lane.free_key_place(at)?;
            lane.used.insert(place, place + 32);
            Some((place, lane.keys()))
        };
        assert_eq!(
            [take(0), take(1265), take(0)],
            [Some((1200, 1232)), Some((1296, 1232)), Some((1232, 1264))]
        );
        assert_eq!([take(1), take(1200)], [Some((1264, 1328)), Some((1328, 1360))], "over what was taken");
        assert_eq!([take(1552), take(1552), take(1553)], [Some((1552, 1360)), None, None]);
        assert_eq!((1360..1552).step_by(32).filter(|_| take(0).is_some()).count(), 6);
        assert_eq!(take(0), None);
        assert_eq!((lane.keys(), lane.fit(1200)), (1584, Some(0)), "messages have theirs");
    }

    #[test]
    fn a_reservation_is_a_chunk_or_what_is_wanted_and_ends_before_used_runs() {
        let mut lane = lane(true, BYTES, 0);
        assert_eq!((lane.reservation_end(10, 9, 4096), lane.reservation_end(10, 5000, 4096)), (4106, 5010));
        let end = lane.keys_from();
        assert_eq!(lane.reservation_end(end - 20, 10, 4096), end);
        lane.used.insert(1000, 1032);
        assert_eq!((lane.reservation_end(10, 9, 4096), lane.reservation_end(1032, 9, 4096)), (1000, 5128));
    }

    #[test]
    fn what_waits_is_handed_out_in_order_before_what_comes_after_it() {
        let mut lane = lane(true, BYTES, 1000);
        assert_eq!(take(&mut lane, 40), None, "nothing is reserved");
        install(&mut lane, 1000, 1100);
        assert_eq!(take(&mut lane, 60), Some(1000));
        install(&mut lane, 1100, 1180);
        assert_eq!((lane.position(), lane.mark, lane.reserved()), (1060, 1180, 120));
        assert_eq!((take(&mut lane, 70), take(&mut lane, 51)), (Some(1060), None));
        assert_eq!((take(&mut lane, 50), lane.reserved()), (Some(1130), 0));
    }

    #[test]
    fn what_waits_before_a_place_further_on_is_given_up() {
        let mut lane = lane(true, BYTES, 0);
        install(&mut lane, 0, 100);
        lane.used.insert(100, 132);
        install(&mut lane, 132, 300);
        assert_eq!((lane.position(), lane.reserved(), take(&mut lane, 50)), (132, 168, Some(132)));
        assert_eq!(lane.skip(100), (100, 100));
        assert_eq!((lane.position(), take(&mut lane, 40)), (182, Some(182)), "there is no way back");
        assert_eq!(lane.skip(240), (240, 240));
        assert_eq!((lane.reserved(), take(&mut lane, 40), take(&mut lane, 40)), (60, Some(240), None));
        assert_eq!(lane.skip(300), (300, 300));
        assert_eq!((lane.mark, lane.reserved(), take(&mut lane, 40)), (300, 0, None));
        assert_eq!(lane.skip(1000), (300, 1000));
        assert_eq!((lane.mark, lane.position(), lane.reserved()), (1000, 1000, 0));
    }

    #[test]
    fn what_is_reserved_is_read_when_it_is_wanted() {
        let mut lane = lane(true, 8 << 20, 0);
        assert_eq!(lane.reserve(0, 2_000_000), (0, 0));
        assert_eq!(
            (lane.load_end(100, 65_536), take(&mut lane, 40)),
            (2_000_000, None),
            "short messages: all is read ahead"
        );
        lane.load(pad(0, 2_000_000).into());
        assert_eq!(take(&mut lane, 1_000_000), Some(0));
        assert_eq!(take(&mut lane, 1_000_000), Some(1_000_000));
        assert_eq!(lane.reserve(2_000_000, 5_000_000), (2_000_000, 2_000_000));
        assert_eq!(
            (lane.reserved(), lane.left(), lane.load_end(0, 65_536)),
            (3_000_000, (8 << 20) - 5_000_000, 0)
        );
        assert_eq!(
            (lane.load_end(3_000_000, 65_536), lane.load_end(6_000_000, 65_536)),
            (3_000_000, 5_000_000),
            "long ones: each by itself"
        );
        lane.load(pad(2_000_000, 3_000_000).into());
        assert_eq!((lane.loaded(), take(&mut lane, 1_000_001)), (3_000_000, None));
        assert_eq!(take(&mut lane, 32), Some(2_000_000));
        assert_eq!(lane.skip(2_500_000), (2_500_000, 2_500_000), "all of it was read");
        assert_eq!(lane.skip(4_000_000), (3_000_000, 4_000_000), "a part was not");
        assert_eq!((lane.position(), lane.loaded(), lane.reserved()), (4_000_000, 4_000_000, 1_000_000));
        assert_eq!(lane.reserve(5_500_000, 6_000_000), (4_000_000, 5_500_000), "and here nothing");
        lane.load(pad(5_500_000, 6_000_000).into());
        assert_eq!((take(&mut lane, 500_000), lane.mark), (Some(5_500_000), 6_000_000));
    }

    #[test]
    fn messages_of_two_chunks_are_read_alone() {
        let mut lane = lane(true, 8 << 20, 0);
        install(&mut lane, 0, 500_000);
        assert_eq!(lane.reserve(500_000, 600_000), (500_000, 500_000));
        assert_eq!((take(&mut lane, 131_071), lane.load_end(0, 65_536)), (Some(0), 600_000));
        assert_eq!((take(&mut lane, 131_072), lane.load_end(0, 65_536)), (Some(131_071), 0));
    }

    #[test]
    fn a_run_is_held_once_and_only_where_nothing_else_is() {
        let mut lane = lane(false, 2 * RUN_BYTES_MAX, 0);
        let end = lane.bytes;
        for (start, end) in [(5, 5), (6, 5), (end - 1, end + 1), (0, RUN_BYTES_MAX + 1)] {
            assert_eq!(lane.hold(start, end), Err(HoldRefusal::OutOfRange), "{start}..{end}");
        }
        assert_eq!(lane.hold(end - RUN_BYTES_MAX, end), Ok(()));
        lane.used.insert(100, 200);
        assert_eq!(lane.hold(199, 300), Err(HoldRefusal::AlreadyUsed));
        assert_eq!((lane.hold(50, 100), lane.hold(200, 300), lane.hold(300, 301)), (Ok(()), Ok(()), Ok(())));
        for (start, end) in [(200, 300), (210, 220), (290, 310), (40, 51), (299, 300)] {
            assert_eq!(lane.hold(start, end), Err(HoldRefusal::Held), "{start}..{end}");
        }
        assert!(lane.is_held(200, 300) && !lane.is_held(200, 299) && !lane.is_held(201, 300));
        assert!(!lane.let_go(200, 299) && !lane.let_go(201, 300) && lane.let_go(200, 300));
        assert!(!lane.let_go(200, 300), "once");
        assert_eq!(lane.hold(210, 220), Ok(()));
    }
}
