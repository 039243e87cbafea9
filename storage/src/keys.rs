//! Agreed keys: a record of every block for ever, and the bytes until they are taken, once.
//!
//! No hash of a key stands in the ledger. That a run holds what was written follows from the order: bytes
//! synced before their record. That it still does, from a checksum behind each key, which is erased with it.

use dske_protocol::{
    ids::{BlockId, KeyId},
    params::KEYS_PER_BLOCK_MAX,
    planted::{Fault, planted},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    error::{StoreError, TakeError},
    ledger::{Draft, block_key, key, kind},
    records::{BlockRecord, BlockState},
    spool::Run,
    transaction::NewBlock,
};

/// Length of the checksum behind each key.
const CHECK_BYTES: usize = 4;

/// Where the keys of a block lie, and how many are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyRun {
    pub(crate) run: Run,
    pub(crate) keys: u32,
    pub(crate) taken: u32,
}

impl KeyRun {
    /// Whether this is the record of keys that can have been put down.
    pub(crate) fn check(self, block: &[u8]) -> Result<Self, StoreError> {
        let whole = self.keys > 0 && self.run.len.is_multiple_of(u64::from(self.keys));
        let fits = self.run.offset.checked_add(self.run.len).is_some();
        if whole && fits && self.keys <= KEYS_PER_BLOCK_MAX && self.taken < self.keys {
            return Ok(self);
        }
        let block =
            block.try_into().map_or_else(|_| "no block".to_owned(), |id| BlockId::new(id).to_string());
        let detail =
            format!("{} keys of which {} are taken, of {block}: check the disk", self.keys, self.taken);
        Err(StoreError::Damaged { what: "the ledger's record of a key run", detail })
    }
}

/// Room that so many keys take, which are `bytes` long together.
pub(crate) fn run_bytes(bytes: usize, keys: u32) -> u64 {
    bytes as u64 + u64::from(keys) * CHECK_BYTES as u64
}

/// Keys as they are written: each with its checksum behind it.
pub(crate) fn with_checks(keys: &[u8], key_bytes: u32) -> Zeroizing<Vec<u8>> {
    let key_bytes = (key_bytes as usize).max(1);
    let count = keys.len().div_ceil(key_bytes);
    // Room for all of it, so that the bytes never move and leave a copy behind.
    let mut run = Zeroizing::new(Vec::with_capacity(keys.len() + count * CHECK_BYTES));
    for key in keys.chunks(key_bytes) {
        run.extend_from_slice(key);
        run.extend_from_slice(&crc32fast::hash(key).to_le_bytes());
    }
    run
}

/// Checks a key that was read, and takes its checksum off. Nothing is said about the key where it is wrong.
pub(crate) fn checked(mut run: Zeroizing<Vec<u8>>, id: KeyId) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let damaged = || StoreError::Damaged {
        what: "an agreed key",
        detail: format!("the bytes of {id} are not what was written: check the disk, and agree a new key"),
    };
    let (key, check) = run.split_at_checked(run.len().saturating_sub(CHECK_BYTES)).ok_or_else(damaged)?;
    if crc32fast::hash(key).to_le_bytes() != check {
        return Err(damaged());
    }
    let len = key.len();
    run.truncate(len);
    Ok(run)
}

fn taken_key(id: KeyId) -> Vec<u8> {
    key(kind::KEY_TAKEN, &[id.block.as_bytes(), &id.index.to_be_bytes()])
}

fn time_key(at_ms: u64, block: &BlockId) -> Vec<u8> {
    key(kind::BLOCK_BY_TIME, &[&at_ms.to_be_bytes(), block.as_bytes()])
}

/// Whether record and keys of a new block fit together; gives the number of keys.
pub(crate) fn check_block(new: &NewBlock) -> Result<u32, StoreError> {
    let key_bytes = new.record.key_bytes as usize;
    match (&new.record.state, &new.key) {
        (BlockState::Ready, Some(key)) if key_bytes > 0 && !key.is_empty() && key.len() % key_bytes == 0 => {
            let keys = u32::try_from(key.len() / key_bytes).ok().filter(|&keys| keys <= KEYS_PER_BLOCK_MAX);
            keys.ok_or_else(|| StoreError::invalid(format!("a block has at most {KEYS_PER_BLOCK_MAX} keys")))
        }
        (BlockState::Ready, Some(_)) => {
            Err(StoreError::invalid("a block's bytes are a multiple of its key's length"))
        }
        (BlockState::Ready, None) => Err(StoreError::invalid("a block that is ready comes with its keys")),
        (_, Some(_)) => Err(StoreError::invalid("only a block that is ready comes with keys")),
        (_, None) => Ok(0),
    }
}

/// Puts the records of a new block.
pub(crate) fn put_block(
    draft: &mut Draft<'_>,
    record: &BlockRecord,
    keys: Option<(Run, u32)>,
) -> Result<(), StoreError> {
    draft.put("block", block_key(kind::BLOCK, &record.block), record)?;
    draft.put("block time", time_key(record.at_ms, &record.block), &record.block)?;
    if let Some((run, keys)) = keys {
        draft.put("key run", block_key(kind::KEY_RUN, &record.block), &KeyRun { run, keys, taken: 0 })?;
    }
    Ok(())
}

/// Finds the bytes of a key that has not been taken.
pub(crate) fn find_key(draft: &Draft<'_>, id: KeyId) -> Result<Run, TakeError> {
    let record: Option<BlockRecord> = draft.get("block", &block_key(kind::BLOCK, &id.block))?;
    let record = record.ok_or(TakeError::Unknown(id))?;
    match record.state {
        BlockState::Aborted { reason } => return Err(TakeError::Aborted { id, reason }),
        BlockState::Taken => return Err(TakeError::AlreadyTaken(id)),
        BlockState::Ready => {}
    }
    let stored: Option<KeyRun> = draft.get("key run", &block_key(kind::KEY_RUN, &id.block))?;
    let stored = stored.filter(|stored| id.index < stored.keys).ok_or(TakeError::Unknown(id))?;
    if draft.get::<()>("taken key", &taken_key(id))?.is_some() {
        return Err(TakeError::AlreadyTaken(id));
    }
    let len = run_bytes(record.key_bytes as usize, 1);
    Ok(Run { segment: stored.run.segment, offset: stored.run.offset + u64::from(id.index) * len, len })
}

/// Records that a key is taken; with the last one the block is.
pub(crate) fn mark_taken(draft: &mut Draft<'_>, id: KeyId) -> Result<(), StoreError> {
    if planted(Fault::KeyTakenTwice) {
        return Ok(());
    }
    let run_key = block_key(kind::KEY_RUN, &id.block);
    let Some(mut stored) = draft.get::<KeyRun>("key run", &run_key)? else { return Ok(()) };
    stored.taken += 1;
    if stored.taken < stored.keys {
        draft.put("taken key", taken_key(id), &())?;
        return draft.put("key run", run_key, &stored);
    }
    let record_key = block_key(kind::BLOCK, &id.block);
    if let Some(mut record) = draft.get::<BlockRecord>("block", &record_key)? {
        record.state = BlockState::Taken;
        draft.put("block", record_key, &record)?;
    }
    draft.remove(run_key);
    (0..stored.keys).for_each(|index| draft.remove(taken_key(KeyId { block: id.block, index })));
    Ok(())
}

/// The blocks whose keys waited before the draft, wholly or in part.
pub(crate) fn waiting_blocks(draft: &Draft<'_>) -> Result<Vec<BlockId>, StoreError> {
    let runs: Vec<(Vec<u8>, KeyRun)> = draft.ledger().pairs("key run", kind::KEY_RUN)?;
    let ids = runs.iter().filter_map(|(id, _)| id.as_slice().try_into().ok());
    Ok(ids.map(BlockId::new).collect())
}

/// Takes back the keys of a block that still wait; gives the run that held them.
pub(crate) fn void_block(
    draft: &mut Draft<'_>,
    block: BlockId,
    reason: &str,
) -> Result<Option<Run>, StoreError> {
    let run_key = block_key(kind::KEY_RUN, &block);
    let Some(stored) = draft.get::<KeyRun>("key run", &run_key)? else { return Ok(None) };
    let record_key = block_key(kind::BLOCK, &block);
    if let Some(mut record) = draft.get::<BlockRecord>("block", &record_key)? {
        record.state = BlockState::Aborted { reason: reason.to_owned() };
        draft.put("block", record_key, &record)?;
    }
    draft.remove(run_key);
    (0..stored.keys).for_each(|index| draft.remove(taken_key(KeyId { block, index })));
    Ok(Some(stored.run))
}
