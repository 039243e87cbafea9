//! One record of the journal: a batch of the ledger between a checksummed head and zeros up to the next
//! 64-byte line.
//!
//! A batch carries bytes that strangers chose (messages that wait), and the bytes of earlier epochs stay in
//! the file. So a record also bears its epoch's tag, which nobody outside can know: otherwise a message
//! could hold the image of a record that a later replay takes for one of ours.

use std::ops::Range;

use crate::{error::StoreError, log::Batch};

/// Records begin at multiples of this.
pub(crate) const ALIGN_BYTES: usize = 64;

const MAGIC: [u8; 8] = *b"dskerec1";
/// Magic, tag, epoch, sequence, length of the batch, CRC32 of all that and of the batch.
const HEAD_BYTES: usize = CHECKED_BYTES + 4;
const CHECKED_BYTES: usize = 8 + 16 + 8 + 8 + 4;
/// Stands for the length of a value that is removed.
const REMOVED: u32 = u32::MAX;

/// One filling of the journal, from one checkpoint to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epoch {
    pub(crate) number: u64,
    tag: [u8; 16],
}

impl Epoch {
    /// An epoch of a store. The store's id is random and never leaves its directory, nor does the tag.
    pub(crate) fn new(store: &[u8; 16], number: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("dske-storage journal epoch 1");
        hasher.update(store).update(&number.to_le_bytes());
        let mut tag = [0; 16];
        hasher.finalize_xof().fill(&mut tag);
        Self { number, tag }
    }
}

/// Bytes that a batch will take in the journal.
pub(crate) fn record_bytes(batch: &Batch) -> u64 {
    let field = |len: usize| 4 + len as u64;
    let pair = |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| {
        field(key.len()) + field(value.as_ref().map_or(0, Vec::len))
    };
    (HEAD_BYTES as u64 + batch.iter().map(pair).sum::<u64>()).next_multiple_of(ALIGN_BYTES as u64)
}

/// Encodes a record, padded to its alignment.
pub(crate) fn encode_record(epoch: &Epoch, sequence: u64, batch: &Batch) -> Result<Vec<u8>, StoreError> {
    let mut record = Vec::with_capacity(usize::try_from(record_bytes(batch)).unwrap_or(0));
    begin(&mut record, epoch, sequence);
    for (key, value) in batch {
        record.extend_from_slice(&length(key.len())?.to_le_bytes());
        record.extend_from_slice(key);
        match value {
            None => record.extend_from_slice(&REMOVED.to_le_bytes()),
            Some(value) => {
                record.extend_from_slice(&length(value.len())?.to_le_bytes());
                record.extend_from_slice(value);
            }
        }
    }
    finish(&mut record)?;
    Ok(record)
}

/// A record around changes that somebody else encoded, well or not.
#[cfg(feature = "fuzzing")]
pub(crate) fn encode_around(epoch: &Epoch, sequence: u64, changes: &[u8]) -> Vec<u8> {
    let mut record = Vec::new();
    begin(&mut record, epoch, sequence);
    record.extend_from_slice(changes);
    // Fails only beyond 4 GiB.
    let _ = finish(&mut record);
    record
}

/// The head, with room for length and checksum.
fn begin(record: &mut Vec<u8>, epoch: &Epoch, sequence: u64) {
    record.extend_from_slice(&MAGIC);
    record.extend_from_slice(&epoch.tag);
    record.extend_from_slice(&epoch.number.to_le_bytes());
    record.extend_from_slice(&sequence.to_le_bytes());
    record.extend_from_slice(&[0; HEAD_BYTES - CHECKED_BYTES + 4]);
}

/// Length and checksum of the changes behind the head, then zeros up to the alignment.
fn finish(record: &mut Vec<u8>) -> Result<(), StoreError> {
    let payload_bytes = length(record.len() - HEAD_BYTES)?;
    record[CHECKED_BYTES - 4..CHECKED_BYTES].copy_from_slice(&payload_bytes.to_le_bytes());
    let checksum = checksum(&record[..CHECKED_BYTES], &record[HEAD_BYTES..]);
    record[CHECKED_BYTES..HEAD_BYTES].copy_from_slice(&checksum.to_le_bytes());
    record.resize(record.len().next_multiple_of(ALIGN_BYTES), 0);
    Ok(())
}

fn length(len: usize) -> Result<u32, StoreError> {
    let fits = u32::try_from(len).ok().filter(|&len| len != REMOVED);
    fits.ok_or_else(|| StoreError::invalid("a batch of 4 GiB"))
}

/// A record whose checksum is right.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) sequence: u64,
    /// Where its batch stands.
    pub(crate) payload: Range<usize>,
    /// Where the next record begins.
    pub(crate) end: usize,
}

/// The record of `epoch` that begins at `at`, where there is a whole one.
pub(crate) fn find_record(bytes: &[u8], at: usize, epoch: &Epoch) -> Option<Found> {
    let from = bytes.get(at..)?;
    let (head, rest) = from.split_at_checked(HEAD_BYTES)?;
    let (checked, crc32) = head.split_at_checked(CHECKED_BYTES)?;
    let (magic, fields) = checked.split_at_checked(8)?;
    let (tag, fields) = fields.split_at_checked(16)?;
    let (number, fields) = fields.split_at_checked(8)?;
    let (sequence, length) = fields.split_at_checked(8)?;
    if magic != MAGIC || tag != epoch.tag || number != epoch.number.to_le_bytes() {
        return None;
    }
    let length = usize::try_from(u32::from_le_bytes(length.try_into().ok()?)).ok()?;
    let payload = rest.get(..length)?;
    if checksum(checked, payload).to_le_bytes() != crc32 {
        return None;
    }
    let start = at + HEAD_BYTES;
    let end = (start + length).next_multiple_of(ALIGN_BYTES);
    Some(Found {
        sequence: u64::from_le_bytes(sequence.try_into().ok()?),
        payload: start..start + length,
        end,
    })
}

/// Reads the batch of a record into `into`, over what stands there; `None` where it is not well formed.
pub(crate) fn decode_batch(mut payload: &[u8], into: &mut Batch) -> Option<()> {
    while !payload.is_empty() {
        let key_bytes = take_length(&mut payload)?;
        let key = take(&mut payload, key_bytes)?.to_vec();
        let value = match take_length(&mut payload)? {
            REMOVED => None,
            value_bytes => Some(take(&mut payload, value_bytes)?.to_vec()),
        };
        into.insert(key, value);
    }
    Some(())
}

fn take_length(from: &mut &[u8]) -> Option<u32> {
    take(from, 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn take<'a>(from: &mut &'a [u8], len: u32) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(usize::try_from(len).ok()?)?;
    *from = rest;
    Some(taken)
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: [u8; 16] = [7; 16];

    fn batch() -> Batch {
        Batch::from([(b"a".to_vec(), Some(vec![1, 2, 3])), (b"bc".to_vec(), None), (vec![], Some(vec![]))])
    }

    #[test]
    fn a_record_comes_back_whole_and_only_in_its_epoch() {
        let epoch = Epoch::new(&STORE, 4);
        let record = encode_record(&epoch, 9, &batch()).expect("small");
        assert_eq!((record.len() as u64, record.len() % ALIGN_BYTES), (record_bytes(&batch()), 0));
        let found = find_record(&record, 0, &epoch).expect("it is there");
        assert_eq!((found.sequence, found.end), (9, record.len()));
        let mut read = Batch::new();
        decode_batch(&record[found.payload], &mut read).expect("well formed");
        assert_eq!(read, batch());
        for other in [Epoch::new(&STORE, 5), Epoch::new(&[8; 16], 4)] {
            assert_eq!(find_record(&record, 0, &other), None);
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let epoch = Epoch::new(&STORE, 4);
        let record = encode_record(&epoch, 9, &batch()).expect("small");
        let end = find_record(&record, 0, &epoch).expect("it is there").payload.end;
        for bit in 0..end * 8 {
            let mut bad = record.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(find_record(&bad, 0, &epoch), None, "bit {bit}");
        }
        for cut in 0..end {
            assert_eq!(find_record(&record[..cut], 0, &epoch), None, "cut at {cut}");
        }
    }

    #[test]
    fn the_length_of_a_record_is_known_before_it_is_encoded() {
        let epoch = Epoch::new(&STORE, 4);
        for len in 0..200 {
            let value = vec![3; len];
            for batch in [Batch::from([(value.clone(), None)]), Batch::from([(b"key".to_vec(), Some(value))])]
            {
                let record = encode_record(&epoch, 9, &batch).expect("small");
                assert_eq!(record.len() as u64, record_bytes(&batch), "{len} bytes");
            }
        }
    }

    #[test]
    fn no_value_is_so_long_that_it_reads_as_removed() {
        let longest = usize::try_from(REMOVED).expect("64 bits") - 1;
        assert_eq!(length(longest), Ok(REMOVED - 1));
        assert!(length(longest + 1).is_err() && length(longest + 2).is_err());
    }

    #[test]
    fn a_batch_that_makes_no_sense_is_refused() {
        for payload in [&[1, 0][..], &[1, 0, 0, 0, 9][..], &[0, 0, 0, 0, 5, 0, 0, 0, 1][..]] {
            assert_eq!(decode_batch(payload, &mut Batch::new()), None);
        }
    }
}
