//! Agreed keys: a record of every block for ever, and the bytes until they are taken, once.
//!
//! No hash of a key stands in the ledger. That a run holds what was written follows from the order: bytes
//! synced before their record. That it still does, and that it is this very key, from a checksum behind each, which
//! covers block, index and key and is erased with it.

use dske_protocol::{
    ids::{BlockId, KeyId},
    params::KEYS_PER_BLOCK_MAX,
    planted::{Fault, planted},
    wiped::Wiped,
};
use serde::{Deserialize, Serialize};

use crate::{
    error::{StoreError, TakeError},
    ledger::{Draft, Ledger, block_key, key, kind},
    records::{BlockRecord, BlockState, Side},
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
    /// The turn in which they were agreed ([`dske_protocol::sync::Restores`]).
    pub(crate) turn: u64,
}

impl KeyRun {
    /// Whether this is the record of keys that can have been put down.
    fn check(self, block: &BlockId) -> Result<Self, StoreError> {
        let whole = self.keys > 0 && self.run.len.is_multiple_of(u64::from(self.keys));
        let fits = self.run.len > 0 && self.run.offset.checked_add(self.run.len).is_some();
        if whole && fits && self.keys <= KEYS_PER_BLOCK_MAX && self.taken < self.keys {
            return Ok(self);
        }
        let detail =
            format!("{} keys of which {} are taken, of {block}: check the disk", self.keys, self.taken);
        Err(StoreError::Damaged { what: "the ledger's record of a key run", detail })
    }

    /// Where one of its keys lies, with its checksum.
    fn key(&self, index: u32) -> Run {
        let len = self.run.len / u64::from(self.keys.max(1));
        Run { segment: self.run.segment, offset: self.run.offset + u64::from(index) * len, len }
    }
}

/// The record of a block's keys that wait, as a draft will leave it.
fn key_run(draft: &Draft<'_>, block: &BlockId) -> Result<Option<KeyRun>, StoreError> {
    let stored: Option<KeyRun> = draft.get("key run", &block_key(kind::KEY_RUN, block))?;
    stored.map(|stored| stored.check(block)).transpose()
}

/// Room that so many keys take, which are `bytes` long together.
pub(crate) fn run_bytes(bytes: usize, keys: u32) -> u64 {
    bytes as u64 + u64::from(keys) * CHECK_BYTES as u64
}

/// The checksum of a key. It covers what key it is: one that lies in the place of another is not taken for it.
fn check_of(id: KeyId, key: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    if !planted(Fault::KeyOfAnyPlace) {
        hasher.update(id.block.as_bytes());
        hasher.update(&id.index.to_le_bytes());
    }
    hasher.update(key);
    hasher.finalize().to_le_bytes()
}

/// The keys of a block as they are written: each with its checksum behind it.
pub(crate) fn with_checks(block: BlockId, keys: &[u8], key_bytes: u32) -> Wiped {
    let key_bytes = (key_bytes as usize).max(1);
    let count = keys.len().div_ceil(key_bytes);
    // Room for all of it, so that the bytes never move and leave a copy behind.
    let mut run = Wiped::new(Vec::with_capacity(keys.len() + count * CHECK_BYTES));
    for (index, key) in (0..).zip(keys.chunks(key_bytes)) {
        run.extend_from_slice(key);
        run.extend_from_slice(&check_of(KeyId { block, index }, key));
    }
    run
}

/// Checks keys that were read, and takes their checksums off. Nothing is said about a key where it is wrong.
pub(crate) fn checked(run: &[u8], keys: KeyRange) -> Result<Wiped, StoreError> {
    let each = run.len() / (keys.count as usize).max(1);
    let mut plain = Wiped::new(Vec::with_capacity(run.len()));
    for (index, key) in (keys.first..).zip(run.chunks(each.max(1))) {
        let id = KeyId { block: keys.block, index };
        let damaged = || {
            let detail =
                format!("the bytes of {id} are not what was written: check the disk, and agree a new key");
            StoreError::Damaged { what: "an agreed key", detail }
        };
        let (key, check) = key.split_at_checked(key.len().saturating_sub(CHECK_BYTES)).ok_or_else(damaged)?;
        if check_of(id, key) != check {
            return Err(damaged());
        }
        plain.extend_from_slice(key);
    }
    Ok(plain)
}

/// Consecutive keys of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyRange {
    pub(crate) block: BlockId,
    pub(crate) first: u32,
    pub(crate) count: u32,
}

impl From<KeyId> for KeyRange {
    fn from(id: KeyId) -> Self {
        Self { block: id.block, first: id.index, count: 1 }
    }
}

impl KeyRange {
    /// The first of them.
    pub(crate) fn id(&self) -> KeyId {
        KeyId { block: self.block, index: self.first }
    }

    /// Index of the key after the last one; `None` where no block has so many.
    fn end(&self) -> Option<u32> {
        self.first.checked_add(self.count).filter(|end| self.count > 0 && *end <= KEYS_PER_BLOCK_MAX)
    }
}

/// Which of so many keys are taken stands in one record: a bit for each.
const KEYS_PER_MAP: u32 = 4096;
const MAP_BYTES: usize = (KEYS_PER_MAP / 8) as usize;

/// Which keys of a stretch of a block are taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TakenMap(Vec<u8>);

impl TakenMap {
    /// What a record says; without one no key is taken. In one that is too short no key could be marked, and each would
    /// be given again and again.
    fn of(record: Option<Self>) -> Result<Self, StoreError> {
        let map = record.unwrap_or_else(|| Self(vec![0; MAP_BYTES]));
        if map.0.len() == MAP_BYTES {
            return Ok(map);
        }
        let detail = format!("{} bytes instead of {MAP_BYTES}: check the disk", map.0.len());
        Err(StoreError::Damaged { what: "the ledger's record of taken keys", detail })
    }

    fn has(&self, at: u32) -> bool {
        self.0.get((at / 8) as usize).is_some_and(|byte| byte >> (at % 8) & 1 == 1)
    }

    fn set(&mut self, at: u32) {
        if let Some(byte) = self.0.get_mut((at / 8) as usize) {
            *byte |= 1 << (at % 8);
        }
    }
}

fn taken_key(block: &BlockId, map: u32) -> Vec<u8> {
    key(kind::KEY_TAKEN, &[block.as_bytes(), &map.to_be_bytes()])
}

/// Removes all that says which keys of a block are taken.
fn forget_taken(draft: &mut Draft<'_>, block: &BlockId, keys: u32) {
    (0..keys.div_ceil(KEYS_PER_MAP)).for_each(|map| draft.remove(taken_key(block, map)));
}

/// The runs of a block's keys that have not been taken, each as long as it can be, as a draft will leave them. There
/// are as many as the block's own count says, or the ledger is damaged.
fn live_runs(draft: &Draft<'_>, block: &BlockId, stored: &KeyRun) -> Result<Vec<Run>, StoreError> {
    let mut live: Vec<Run> = Vec::new();
    let mut count = 0;
    for map in 0..stored.keys.div_ceil(KEYS_PER_MAP) {
        let taken = TakenMap::of(draft.get("taken keys", &taken_key(block, map))?)?;
        let first = map * KEYS_PER_MAP;
        for index in (first..stored.keys.min(first + KEYS_PER_MAP)).filter(|index| !taken.has(index - first))
        {
            let key = stored.key(index);
            count += 1;
            match live.last_mut() {
                Some(last) if last.offset + last.len == key.offset => last.len += key.len,
                _ => live.push(key),
            }
        }
    }
    if stored.taken.checked_add(count) == Some(stored.keys) {
        return Ok(live);
    }
    let detail = format!(
        "of the {} keys of {block} {count} wait, and {} count as taken: check the disk",
        stored.keys, stored.taken
    );
    Err(StoreError::Damaged { what: "the ledger's record of taken keys", detail })
}

/// Where all keys lie that wait.
pub(crate) fn all_live_runs(ledger: &Ledger) -> Result<Vec<Run>, StoreError> {
    let draft = Draft::new(ledger);
    let mut live = Vec::new();
    for (block, stored) in ledger.pairs::<KeyRun>("key run", kind::KEY_RUN)? {
        let block = BlockId::new(block.as_slice().try_into().map_err(|_| StoreError::Damaged {
            what: "the ledger's record of a key run",
            detail: "it names no block: check the disk".into(),
        })?);
        live.extend(live_runs(&draft, &block, &stored.check(&block)?)?);
    }
    Ok(live)
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

/// Puts the records of a new block, agreed in this turn.
pub(crate) fn put_block(
    draft: &mut Draft<'_>,
    record: &BlockRecord,
    keys: Option<(Run, u32)>,
    turn: u64,
) -> Result<(), StoreError> {
    draft.put("block", block_key(kind::BLOCK, &record.block), record)?;
    draft.put("block time", time_key(record.at_ms, &record.block), &record.block)?;
    if let Some((run, keys)) = keys {
        draft.put(
            "key run",
            block_key(kind::KEY_RUN, &record.block),
            &KeyRun { run, keys, taken: 0, turn },
        )?;
    }
    Ok(())
}

/// All that is kept for ever of a block whose record is not kept: late shares of it must not begin it anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Ended {
    /// Every key was taken.
    Taken,
    /// There was no key, or it was given up.
    WithoutKey,
}

/// What is left of a block whose record is not kept.
fn ended(draft: &Draft<'_>, block: &BlockId) -> Result<Option<Ended>, StoreError> {
    draft.get("ended block", &block_key(kind::BLOCK_ENDED, block))
}

/// Whether a block id has been used.
pub(crate) fn is_known(draft: &Draft<'_>, block: &BlockId) -> Result<bool, StoreError> {
    let record: Option<BlockRecord> = draft.get("block", &block_key(kind::BLOCK, block))?;
    Ok(record.is_some() || ended(draft, block)?.is_some())
}

/// The agreements of which no key waits, with their time on the node's own clock of age.
pub(crate) fn ended_blocks(ledger: &Ledger) -> Result<Vec<(BlockId, u64)>, StoreError> {
    let records: Vec<BlockRecord> = ledger.all("block", kind::BLOCK)?;
    let ended = records.into_iter().filter(|record| record.state != BlockState::Ready);
    Ok(ended.map(|record| (record.block, record.aged_ms)).collect())
}

/// Removes the record of a block of which no key waits. Of one that others sent its id stays: a hub may still have a share of it, in a
/// run that has not been used. Of a round none can be taken in, for its session is over; and one's own ids are drawn
/// at random, each once.
pub(crate) fn forget_block(draft: &mut Draft<'_>, block: &BlockId) -> Result<(), StoreError> {
    let record_key = block_key(kind::BLOCK, block);
    let Some(record) = draft.get::<BlockRecord>("block", &record_key)? else { return Ok(()) };
    let left = match record.state {
        BlockState::Ready => return Ok(()),
        BlockState::Taken => Ended::Taken,
        BlockState::Aborted { .. } => Ended::WithoutKey,
    };
    draft.remove(record_key);
    draft.remove(time_key(record.at_ms, block));
    let may_come_again = record.side == Side::Receiver && !record.round;
    if may_come_again && !planted(Fault::BlockForgotten) {
        draft.put("ended block", block_key(kind::BLOCK_ENDED, block), &left)?;
    }
    Ok(())
}

/// Finds the bytes of keys none of which has been taken.
pub(crate) fn find_keys(draft: &Draft<'_>, keys: KeyRange) -> Result<Run, TakeError> {
    let id = keys.id();
    let record: Option<BlockRecord> = draft.get("block", &block_key(kind::BLOCK, &keys.block))?;
    let Some(record) = record else {
        return Err(match ended(draft, &keys.block)? {
            None => TakeError::Unknown(id),
            Some(Ended::Taken) => TakeError::AlreadyTaken(id),
            Some(Ended::WithoutKey) => {
                let reason = "it ended long ago, and why is not kept any longer".to_owned();
                TakeError::Aborted { id, reason }
            }
        });
    };
    match record.state {
        BlockState::Aborted { reason } => return Err(TakeError::Aborted { id, reason }),
        BlockState::Taken => return Err(TakeError::AlreadyTaken(id)),
        BlockState::Ready => {}
    }
    let known = |stored: &KeyRun| keys.end().is_some_and(|end| end <= stored.keys);
    let stored = key_run(draft, &keys.block)?.filter(known).ok_or(TakeError::Unknown(id))?;
    for (map, indices) in maps(keys) {
        let taken = TakenMap::of(draft.get("taken keys", &taken_key(&keys.block, map))?)?;
        if let Some(at) = indices.into_iter().find(|at| taken.has(*at)) {
            let index = map * KEYS_PER_MAP + at;
            return Err(TakeError::AlreadyTaken(KeyId { block: keys.block, index }));
        }
    }
    let first = stored.key(keys.first);
    if first.len != run_bytes(record.key_bytes as usize, 1) {
        let detail = format!("{} bytes for a key of {} of {id}: check the disk", first.len, record.key_bytes);
        return Err(StoreError::Damaged { what: "the ledger's record of a key run", detail }.into());
    }
    Ok(Run { len: u64::from(keys.count) * first.len, ..first })
}

/// The maps that keys stand in, with their places there.
fn maps(keys: KeyRange) -> impl Iterator<Item = (u32, std::ops::Range<u32>)> {
    let end = keys.end().unwrap_or(keys.first);
    (keys.first / KEYS_PER_MAP..end.div_ceil(KEYS_PER_MAP)).map(move |map| {
        let start = map * KEYS_PER_MAP;
        (map, keys.first.max(start) - start..end.min(start + KEYS_PER_MAP) - start)
    })
}

/// Records that keys are taken; with its last one the block is.
pub(crate) fn mark_taken(draft: &mut Draft<'_>, keys: KeyRange) -> Result<(), StoreError> {
    if planted(Fault::KeyTakenTwice) {
        return Ok(());
    }
    let run_key = block_key(kind::KEY_RUN, &keys.block);
    let stored = key_run(draft, &keys.block)?;
    let taken = stored.as_ref().and_then(|stored| stored.taken.checked_add(keys.count));
    let (Some(mut stored), Some(taken)) = (stored, taken) else {
        let detail = format!("there is none of {} any more", keys.id());
        return Err(StoreError::Damaged { what: "the ledger's record of a key run", detail });
    };
    stored.taken = taken;
    for (map, indices) in maps(keys) {
        let map_key = taken_key(&keys.block, map);
        let mut taken = TakenMap::of(draft.get("taken keys", &map_key)?)?;
        indices.for_each(|at| taken.set(at));
        draft.put("taken keys", map_key, &taken)?;
    }
    if stored.taken < stored.keys {
        return draft.put("key run", run_key, &stored);
    }
    // With one that is not taken the room of that one would be lost, and the key with it.
    live_runs(draft, &keys.block, &stored)?;
    let record_key = block_key(kind::BLOCK, &keys.block);
    if let Some(mut record) = draft.get::<BlockRecord>("block", &record_key)? {
        record.state = BlockState::Taken;
        draft.put("block", record_key, &record)?;
    }
    draft.remove(run_key);
    forget_taken(draft, &keys.block, stored.keys);
    Ok(())
}

/// The blocks whose keys waited before the draft, wholly or in part, and were agreed before a turn.
pub(crate) fn waiting_blocks(draft: &Draft<'_>, before: u64) -> Result<Vec<BlockId>, StoreError> {
    let runs: Vec<(Vec<u8>, KeyRun)> = draft.ledger().pairs("key run", kind::KEY_RUN)?;
    let old = runs.iter().filter(|(_, run)| run.turn < before);
    let ids = old.filter_map(|(id, _)| id.as_slice().try_into().ok());
    Ok(ids.map(BlockId::new).collect())
}

/// A block with keys that wait to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingBlock {
    /// Its record.
    pub record: BlockRecord,
    /// Number of keys that it was cut into.
    pub keys: u32,
    /// Index of the first key behind all that are taken.
    pub next: u32,
    /// Bytes of those that wait.
    pub bytes: u64,
}

/// Index of the first key of a block behind all that are taken.
fn behind_taken(ledger: &Ledger, block: &BlockId, keys: u32) -> Result<u32, StoreError> {
    for map in (0..keys.div_ceil(KEYS_PER_MAP)).rev() {
        let taken = TakenMap::of(ledger.get("taken keys", &taken_key(block, map))?)?;
        if let Some(last) = (0..KEYS_PER_MAP).rev().find(|at| taken.has(*at)) {
            return Ok(map * KEYS_PER_MAP + last + 1);
        }
    }
    Ok(0)
}

/// All blocks with keys that wait, oldest first.
pub(crate) fn waiting(ledger: &Ledger) -> Result<Vec<WaitingBlock>, StoreError> {
    let runs: Vec<(Vec<u8>, KeyRun)> = ledger.pairs("key run", kind::KEY_RUN)?;
    let mut blocks = Vec::with_capacity(runs.len());
    for (id, run) in runs {
        let record: Option<BlockRecord> = ledger.get("block", &key(kind::BLOCK, &[&id]))?;
        if let Some(record) = record {
            let next = behind_taken(ledger, &record.block, run.keys)?;
            let run = run.check(&record.block)?;
            let bytes = u64::from(run.keys - run.taken) * u64::from(record.key_bytes);
            blocks.push(WaitingBlock { record, keys: run.keys, next, bytes });
        }
    }
    blocks.sort_by_key(|block| (block.record.at_ms, block.record.block));
    Ok(blocks)
}

/// Takes back the keys of a block that still wait; gives the runs that hold them. Those that were taken are not among
/// them: their room has been given back, and may be another block's by now.
pub(crate) fn void_block(
    draft: &mut Draft<'_>,
    block: BlockId,
    reason: &str,
) -> Result<Vec<Run>, StoreError> {
    let run_key = block_key(kind::KEY_RUN, &block);
    let Some(stored) = key_run(draft, &block)? else { return Ok(Vec::new()) };
    let live =
        if planted(Fault::VoidErasesTaken) { vec![stored.run] } else { live_runs(draft, &block, &stored)? };
    let record_key = block_key(kind::BLOCK, &block);
    if let Some(mut record) = draft.get::<BlockRecord>("block", &record_key)? {
        record.state = BlockState::Aborted { reason: reason.to_owned() };
        draft.put("block", record_key, &record)?;
    }
    draft.remove(run_key);
    forget_taken(draft, &block, stored.keys);
    Ok(live)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dske_protocol::ids::NodeId;

    use super::*;
    use crate::{secret::SecretBytes, sim::SimLog};

    const BLOCK: BlockId = BlockId::new([1; 16]);
    const KEYS: u32 = 10_000;

    fn record(key_bytes: u32, state: BlockState) -> BlockRecord {
        BlockRecord {
            block: BLOCK,
            side: Side::Sender,
            sender: NodeId::new([2; 32]),
            receivers: vec![],
            purpose: String::new(),
            key_bytes,
            n: 3,
            k: 2,
            state,
            at_ms: 1,
            aged_ms: 1,
            round: false,
        }
    }

    /// The keys from one to before another, of five bytes and their checksums, as they lie.
    fn run(first: u32, end: u32) -> Run {
        let each = run_bytes(5, 1);
        Run { segment: 3, offset: 700 + u64::from(first) * each, len: u64::from(end - first) * each }
    }

    fn change(ledger: &Ledger, change: impl Fn(&mut Draft<'_>) -> Result<(), StoreError>) {
        let mut draft = Draft::new(ledger);
        change(&mut draft).expect("readable");
        ledger.commit(&draft.batch).expect("written");
    }

    /// A ledger with one block, of whose keys some are taken, some of them in each of three records.
    fn ledger() -> Ledger {
        let ledger = Ledger::new(Arc::new(SimLog::new(Arc::default())));
        let record = record(5, BlockState::Ready);
        change(&ledger, |draft| put_block(draft, &record, Some((run(0, KEYS), KEYS)), 1));
        take(&ledger, &[(0, 1), (4000, 200), (4300, 1), (9999, 1)]);
        ledger
    }

    fn take(ledger: &Ledger, ranges: &[(u32, u32)]) {
        for &(first, count) in ranges {
            change(ledger, |draft| mark_taken(draft, KeyRange { block: BLOCK, first, count }));
        }
    }

    #[test]
    fn keys_that_wait_lie_in_runs_as_long_as_can_be() {
        let ledger = ledger();
        let live = all_live_runs(&ledger).expect("readable");
        assert_eq!(live, [run(1, 4000), run(4200, 4300), run(4301, 9999)]);
        let mut draft = Draft::new(&ledger);
        mark_taken(&mut draft, KeyRange { block: BLOCK, first: 9000, count: 999 }).expect("taken");
        // What is void is what waits then, also after what the same draft has taken.
        let void = void_block(&mut draft, BLOCK, "void").expect("void");
        assert_eq!(void, [run(1, 4000), run(4200, 4300), run(4301, 9000)]);
    }

    #[test]
    fn a_key_in_the_place_of_another_is_not_taken_for_it() {
        let keys: Vec<u8> = (0..30).collect();
        let run = with_checks(BLOCK, &keys, 10);
        let all = KeyRange { block: BLOCK, first: 0, count: 3 };
        assert_eq!(*checked(&run, all).expect("all three"), keys);
        let second = KeyRange { first: 1, count: 1, ..all };
        assert_eq!(*checked(&run[14..28], second).expect("the second"), keys[10..20]);
        for wrong in [
            KeyRange { first: 0, ..second },
            KeyRange { first: 2, ..second },
            KeyRange { block: BlockId::new([2; 16]), ..second },
        ] {
            let refused = checked(&run[14..28], wrong);
            let damaged = matches!(refused, Err(StoreError::Damaged { what: "an agreed key", .. }));
            assert!(damaged, "{wrong:?}");
        }
    }

    #[test]
    fn records_of_a_block_that_do_not_add_up_are_damage() {
        let damaged = |result: Result<(), StoreError>| matches!(result, Err(StoreError::Damaged { .. }));
        let stored = |ledger: &Ledger| key_run(&Draft::new(ledger), &BLOCK).expect("read").expect("one");
        for (taken, last) in [(202, 1), (204, 1), (9999, 1), (203, 2)] {
            let ledger = ledger();
            let wrong = KeyRun { taken, ..stored(&ledger) };
            change(&ledger, |draft| draft.put("key run", block_key(kind::KEY_RUN, &BLOCK), &wrong));
            let right = taken == 203;
            assert_ne!(damaged(all_live_runs(&ledger).map(drop)), right, "{taken}");
            let mut draft = Draft::new(&ledger);
            assert_ne!(damaged(void_block(&mut draft, BLOCK, "void").map(drop)), right, "{taken}");
            // One more than wait is below zero, and the last one that is counted is not the last one.
            let count = if last == 1 { 1 } else { KEYS - 202 };
            let taken = mark_taken(&mut Draft::new(&ledger), KeyRange { block: BLOCK, first: 1, count });
            assert_eq!(damaged(taken), wrong.taken == 9999 || last == 2, "{}", wrong.taken);
        }
    }

    #[test]
    fn a_block_without_keys_that_wait_has_no_records_of_taken_ones() {
        let records =
            |ledger: &Ledger| ledger.pairs::<TakenMap>("taken keys", kind::KEY_TAKEN).expect("read").len();
        let ledgers = [ledger(), ledger()];
        assert!(ledgers.iter().all(|ledger| records(ledger) == 3));
        take(&ledgers[0], &[(1, 3999), (4200, 100), (4301, 5698)]);
        change(&ledgers[1], |draft| void_block(draft, BLOCK, "void").map(drop));
        assert!(ledgers.iter().all(|ledger| records(ledger) == 0));
    }

    #[test]
    fn of_a_block_that_is_not_kept_its_id_stays_where_a_share_of_it_may_still_come() {
        for (side, round, stays) in [
            (Side::Receiver, false, true),
            (Side::Receiver, true, false),
            (Side::Sender, false, false),
            (Side::Sender, true, false),
        ] {
            for state in [BlockState::Ready, BlockState::Taken, BlockState::Aborted { reason: "few".into() }]
            {
                let ledger = Ledger::new(Arc::new(SimLog::new(Arc::default())));
                let record = BlockRecord { side, round, ..record(5, state.clone()) };
                let keys = (state == BlockState::Ready).then(|| (run(0, KEYS), KEYS));
                change(&ledger, |draft| put_block(draft, &record, keys, 1));
                let ready = state == BlockState::Ready;
                assert_eq!(ended_blocks(&ledger), Ok(if ready { vec![] } else { vec![(BLOCK, 1)] }));
                change(&ledger, |draft| forget_block(draft, &BLOCK));
                let draft = Draft::new(&ledger);
                assert_eq!(is_known(&draft, &BLOCK), Ok(stays || ready), "{side:?}, {round}, {state:?}");
                let listed: Vec<BlockId> =
                    ledger.last("block time", kind::BLOCK_BY_TIME, 9).expect("readable");
                assert_eq!(listed.len(), usize::from(ready), "as long as its record");
                let found = find_keys(&draft, KeyRange { block: BLOCK, first: 0, count: 1 });
                match (stays, state) {
                    (_, BlockState::Ready) => assert!(found.is_ok(), "keys that wait are not forgotten"),
                    (false, _) => assert!(matches!(found, Err(TakeError::Unknown(_)))),
                    (true, BlockState::Taken) => assert!(matches!(found, Err(TakeError::AlreadyTaken(_)))),
                    (true, _) => assert!(matches!(found, Err(TakeError::Aborted { .. }))),
                }
            }
        }
    }

    #[test]
    fn a_new_block_is_cut_into_whole_keys_where_it_has_any() {
        const MAX: usize = KEYS_PER_BLOCK_MAX as usize;
        let aborted = || BlockState::Aborted { reason: String::new() };
        for (key_bytes, state, bytes, keys) in [
            (5, BlockState::Ready, Some(5), Some(1)),
            (5, BlockState::Ready, Some(15), Some(3)),
            (5, BlockState::Ready, Some(16), None),
            (5, BlockState::Ready, Some(0), None),
            (5, BlockState::Ready, None, None),
            (0, BlockState::Ready, Some(15), None),
            (0, BlockState::Ready, Some(0), None),
            (1, BlockState::Ready, Some(MAX), Some(KEYS_PER_BLOCK_MAX)),
            (1, BlockState::Ready, Some(MAX + 1), None),
            (5, aborted(), Some(5), None),
            (5, aborted(), None, Some(0)),
        ] {
            let key = bytes.map(|bytes| SecretBytes::new(vec![9; bytes]));
            let found = check_block(&NewBlock { record: record(key_bytes, state), key });
            assert_eq!(found.ok(), keys, "{bytes:?} bytes, {key_bytes} in a key");
        }
    }

    #[test]
    fn a_record_of_taken_keys_is_whole_or_damaged() {
        let mut taken = TakenMap::of(None).expect("none is taken");
        assert!(!taken.has(0) && !taken.has(KEYS_PER_MAP - 1) && !taken.has(KEYS_PER_MAP));
        taken.set(KEYS_PER_MAP - 1);
        taken.set(9);
        let taken = TakenMap::of(Some(taken)).expect("it is whole");
        let has: Vec<u32> = (0..KEYS_PER_MAP).filter(|at| taken.has(*at)).collect();
        assert_eq!(has, [9, KEYS_PER_MAP - 1]);
        for bytes in [0, MAP_BYTES - 1, MAP_BYTES + 1] {
            assert!(matches!(TakenMap::of(Some(TakenMap(vec![0; bytes]))), Err(StoreError::Damaged { .. })));
        }
    }
}
