//! The head of a lane file: two alternating checksummed slots, so that the lane's mark survives a torn
//! write, and does not rest on the ledger alone.

use dske_protocol::ids::{Lane, TableId};
use serde::{Deserialize, Serialize};

use crate::{
    codec::{decode, encode},
    disk::File,
    ledger::lane_byte,
    status::Use,
};

/// Bytes of one slot.
pub(crate) const SLOT_BYTES: u64 = 4096;
/// Where the pad bytes begin.
pub(crate) const DATA_OFFSET: u64 = 2 * SLOT_BYTES;

const MAGIC: [u8; 8] = *b"dskelan1";
const CHECKSUM_BYTES: usize = 4;

/// Bytes of a lane by what they were used for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) key: u64,
    pub(crate) identity: u64,
    pub(crate) sync: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, usage: Use, bytes: u64) {
        let counter = match usage {
            Use::Key => &mut self.key,
            Use::Identity => &mut self.identity,
            Use::Sync => &mut self.sync,
        };
        // A sum beyond all numbers stays beyond every lane, and is found there.
        *counter = counter.saturating_add(bytes);
    }

    pub(crate) fn total(&self) -> u64 {
        self.key.saturating_add(self.identity).saturating_add(self.sync)
    }

    /// The later of two readings of the same counters.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            key: self.key.max(other.key),
            identity: self.identity.max(other.identity),
            sync: self.sync.max(other.sync),
        }
    }
}

/// What a slot says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LaneHeader {
    magic: [u8; 8],
    sequence: u64,
    pub(crate) table: TableId,
    pub(crate) lane: u8,
    pub(crate) lane_bytes: u64,
    /// Allocator: everything below is reserved. Receiver: furthest end of an erased claim.
    pub(crate) mark: u64,
    /// The mark before the last reservation: what the ledger may still say after a crash.
    pub(crate) mark_before: u64,
    /// Everything below has been erased.
    pub(crate) floor: u64,
    pub(crate) counts: Counts,
}

impl LaneHeader {
    pub(crate) fn new(table: TableId, lane: Lane, lane_bytes: u64) -> Self {
        Self {
            magic: MAGIC,
            sequence: 0,
            table,
            lane: lane_byte(lane),
            lane_bytes,
            mark: 0,
            mark_before: 0,
            floor: 0,
            counts: Counts::default(),
        }
    }

    /// Whether nothing of the lane has ever been used.
    pub(crate) fn is_virgin(&self) -> bool {
        self.mark == 0 && self.floor == 0 && self.counts == Counts::default()
    }

    /// Writes the next slot; the caller syncs.
    pub(crate) fn write_next(&mut self, file: &dyn File) -> std::io::Result<()> {
        self.sequence += 1;
        let slot = self.to_slot().map_err(std::io::Error::other)?;
        file.write_at(&slot, (self.sequence % 2) * SLOT_BYTES)
    }

    /// Reads the newer of the valid slots; `None` where neither is valid.
    pub(crate) fn read(file: &dyn File) -> std::io::Result<Option<Self>> {
        let mut newest: Option<Self> = None;
        for index in 0..2 {
            let mut slot = vec![0; 4096];
            file.read_at(&mut slot, index * SLOT_BYTES)?;
            if let Some(header) = Self::from_slot(&slot)
                && header.sequence % 2 == index
                && newest.as_ref().is_none_or(|other| other.sequence < header.sequence)
            {
                newest = Some(header);
            }
        }
        Ok(newest)
    }

    /// The one that was written before this one, where its slot is still there.
    pub(crate) fn before(&self, file: &dyn File) -> std::io::Result<Option<Self>> {
        let mut slot = vec![0; 4096];
        file.read_at(&mut slot, (self.sequence + 1) % 2 * SLOT_BYTES)?;
        Ok(Self::from_slot(&slot).filter(|other| other.sequence.checked_add(1) == Some(self.sequence)))
    }

    pub(crate) fn to_slot(&self) -> Result<Vec<u8>, crate::error::StoreError> {
        let body = encode("lane header", self)?;
        let mut slot = crc32fast::hash(&body).to_le_bytes().to_vec();
        slot.extend_from_slice(&body);
        slot.resize(4096, 0);
        Ok(slot)
    }

    pub(crate) fn from_slot(slot: &[u8]) -> Option<Self> {
        let (checksum, rest) = slot.split_at_checked(CHECKSUM_BYTES)?;
        let body = rest.get(..Self::body_bytes())?;
        if crc32fast::hash(body).to_le_bytes() != checksum {
            return None;
        }
        decode::<Self>("lane header", body).ok().filter(|header| header.magic == MAGIC)
    }

    /// Encoded length: all fields have fixed sizes.
    pub(crate) const fn body_bytes() -> usize {
        8 + 8 + 16 + 1 + 8 + 3 * 8 + 3 * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{disk::Disk, sim::SimDisk};
    use std::path::Path;

    fn header() -> LaneHeader {
        LaneHeader::new(TableId::new([3; 16]), Lane::Down, 1000)
    }

    #[test]
    fn the_newer_slot_counts_and_a_torn_one_falls_back() {
        let disk = SimDisk::default();
        let file = disk.create(Path::new("lane")).expect("create");
        file.allocate(DATA_OFFSET).expect("allocate");
        assert_eq!(LaneHeader::read(&*file).expect("read"), None);
        let mut header = header();
        header.write_next(&*file).expect("write");
        header.mark = 77;
        header.write_next(&*file).expect("write");
        assert_eq!(LaneHeader::read(&*file).expect("read").expect("valid").mark, 77);
        assert_eq!(header.before(&*file).expect("read").expect("valid").mark, 0);
        file.write_at(&[0xff; 9], 2).expect("tear slot 0");
        assert_eq!(LaneHeader::read(&*file).expect("read").expect("valid").mark, 0);
        file.write_at(&[0xff; 9], SLOT_BYTES + 2).expect("tear slot 1");
        assert_eq!(LaneHeader::read(&*file).expect("read"), None);
    }

    #[test]
    fn uses_are_counted_apart_and_never_wrap() {
        let mut counts = Counts::default();
        for (usage, bytes) in [(Use::Key, 3), (Use::Identity, 5), (Use::Sync, 7), (Use::Sync, 1)] {
            counts.add(usage, bytes);
        }
        assert_eq!((counts, counts.total()), (Counts { key: 3, identity: 5, sync: 8 }, 16));
        let later = counts.max(Counts { key: 4, identity: 1, sync: 8 });
        assert_eq!(later, Counts { key: 4, identity: 5, sync: 8 }, "each counter only grows");
        counts.add(Use::Key, u64::MAX);
        assert_eq!((counts.key, counts.total()), (u64::MAX, u64::MAX));
    }

    #[test]
    fn a_lane_is_virgin_until_anything_of_it_is_used() {
        assert!(header().is_virgin());
        let used = [
            LaneHeader { mark: 1, ..header() },
            LaneHeader { floor: 1, ..header() },
            LaneHeader { counts: Counts { sync: 1, ..Counts::default() }, ..header() },
        ];
        used.iter().for_each(|header| assert!(!header.is_virgin(), "{header:?}"));
    }

    #[test]
    fn every_flipped_bit_of_a_slot_is_noticed() {
        let slot = header().to_slot().expect("encode");
        assert!(LaneHeader::from_slot(&slot).is_some());
        for bit in 0..(LaneHeader::body_bytes() + CHECKSUM_BYTES) * 8 {
            let mut bad = slot.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(LaneHeader::from_slot(&bad).is_none(), "bit {bit}");
        }
    }
}
