//! The store's own files, damaged or made up: lane headers, the journal's header and records, every record of the
//! ledger.
//!
//! The first byte says which, and whether checksums are put right: without that nothing gets past them.

use dske_storage::fuzzing;

use crate::{alloc::bounded, input::Input};

/// Bytes of a checksum in front of a header's body.
const CHECKSUM_BYTES: usize = 4;

/// Reads the input as one of the files.
pub(super) fn files(input: &[u8]) {
    let mut script = Input::new(input);
    let what = script.u8();
    let mend = what & 0x80 != 0;
    let bytes = script.rest();
    bounded(input, || match what % 5 {
        0 => {
            fuzzing::lane_slot(&mended(bytes, fuzzing::LANE_SLOT_BODY_BYTES, mend));
        }
        1 => {
            fuzzing::journal_slot(&mended(bytes, fuzzing::JOURNAL_SLOT_BODY_BYTES, mend));
        }
        2 => {
            fuzzing::journal_records(&records(bytes, mend));
        }
        3 => {
            fuzzing::ledger_records(bytes);
        }
        _ => {
            fuzzing::module_header(bytes);
        }
    });
}

/// The bytes as a slot, with a right checksum of its body where wanted.
fn mended(bytes: &[u8], body_bytes: usize, mend: bool) -> Vec<u8> {
    let mut slot = bytes.to_vec();
    if mend && let Some(body) = slot.get(CHECKSUM_BYTES..CHECKSUM_BYTES + body_bytes) {
        let checksum = crc32fast::hash(body).to_le_bytes();
        slot[..CHECKSUM_BYTES].copy_from_slice(&checksum);
    }
    slot
}

/// The bytes as they are, or as the changes of several records under right heads.
fn records(bytes: &[u8], mend: bool) -> Vec<u8> {
    if !mend {
        return bytes.to_vec();
    }
    let mut script = Input::new(bytes);
    let mut records = Vec::new();
    while !script.is_empty() {
        let sequence = u64::from(script.u8());
        records.extend(fuzzing::journal_record(sequence, script.chunk()));
    }
    records
}
