//! A tiny keeper of pads in memory: one node's ends of a few tables. It holds a machine to the rules by which the
//! store works, and stops at the first breach: no byte is claimed twice, nothing is claimed that was not held
//! or whose message had no right tag, nothing is handed out twice.

use std::collections::{BTreeMap, BTreeSet};

use dske_protocol::{
    effect::{BlockKey, LaneMarks, MintRefusal, Minted, PadEffect, PadOutcome, Record},
    ids::{BlockId, Lane, NodeId, PadRange, TableId},
    message::claimed_range,
    pad::{PadBytes, TAG_BYTES, TAG_KEY_BYTES, TagKey},
    refusal::Refusal,
    sync::{key_place, keys_from},
};

/// Bytes of a lane: a few dozen short messages, so that scripts meet its end too.
pub const LANE_BYTES: usize = 8 << 10;

/// Bytes that are reserved ahead.
const CHUNK_BYTES: u64 = 256;

/// One direction of a table.
#[derive(Debug)]
struct LaneBytes {
    bytes: Vec<u8>,
    /// How far its allocator has come, and where its next tag key of a mark stands.
    mark: u64,
    key: u64,
    /// Runs by their start: those used, those held.
    used: BTreeMap<u64, u64>,
    held: BTreeMap<u64, u64>,
}

impl LaneBytes {
    fn new(seed: &[u8]) -> Self {
        let mut bytes = vec![0; LANE_BYTES];
        blake3::Hasher::new().update(seed).finalize_xof().fill(&mut bytes);
        Self {
            bytes,
            mark: 0,
            key: keys_from(LANE_BYTES as u64),
            used: BTreeMap::new(),
            held: BTreeMap::new(),
        }
    }

    fn get(&self, range: &PadRange) -> Option<&[u8]> {
        let (start, end) = (usize::try_from(range.offset).ok()?, usize::try_from(range.end()?).ok()?);
        self.bytes.get(start..end)
    }
}

/// Where the bytes from `at` on that are all in a set of runs end.
fn end_from(runs: &BTreeMap<u64, u64>, at: u64) -> u64 {
    let mut end = at;
    while let Some((_, &last)) = runs.range(..=end).next_back().filter(|&(_, &last)| last > end) {
        end = last;
    }
    end
}

/// Whether a run meets one of a set.
fn meets(runs: &BTreeMap<u64, u64>, range: &PadRange) -> bool {
    let end = range.offset.saturating_add(range.len);
    runs.range(..end).next_back().is_some_and(|(_, &last)| last > range.offset)
}

#[derive(Debug)]
struct Table {
    peer: NodeId,
    up: LaneBytes,
    down: LaneBytes,
    /// What the peer has told of its lane, and to have on record of ours.
    seen: u64,
    lease: u64,
    reserved: u64,
}

impl Table {
    fn lane(&mut self, lane: Lane) -> &mut LaneBytes {
        match lane {
            Lane::Up => &mut self.up,
            Lane::Down => &mut self.down,
        }
    }
}

/// What goes wrong with the next request of its kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Nothing can be held.
    pub hold: Option<Refusal>,
    /// Nothing can be minted.
    pub mint: bool,
    /// Nothing can be recorded.
    pub commit: bool,
}

/// See the head of the file.
#[derive(Debug)]
pub struct Pads {
    tables: BTreeMap<TableId, Table>,
    /// The lane that this node allocates.
    own: Lane,
    ended: BTreeSet<BlockId>,
    /// Runs of messages that came with a right tag: only these may be claimed.
    rightful: BTreeSet<PadRange>,
    /// What goes wrong next.
    pub trouble: Trouble,
    /// Blocks charged for wrong tags.
    pub forged_blocks: u64,
    /// Bytes claimed.
    pub burned: u64,
}

/// The table between this node and a peer.
pub fn table_of(peer: &NodeId) -> TableId {
    let mut id = [0; 16];
    id.copy_from_slice(&peer.as_bytes()[..16]);
    TableId::new(id)
}

impl Pads {
    /// A table with each peer; this node allocates from `own`.
    pub fn new(own: Lane, peers: impl IntoIterator<Item = NodeId>) -> Self {
        let table = |peer: NodeId| {
            let seed = |lane: u8| [peer.as_bytes().as_slice(), &[lane]].concat();
            let (up, down) = (LaneBytes::new(&seed(0)), LaneBytes::new(&seed(1)));
            (table_of(&peer), Table { peer, up, down, seen: 0, lease: 0, reserved: 0 })
        };
        Self {
            tables: peers.into_iter().map(table).collect(),
            own,
            ended: BTreeSet::new(),
            rightful: BTreeSet::new(),
            trouble: Trouble::default(),
            forged_blocks: 0,
            burned: 0,
        }
    }

    /// The lane that peers allocate.
    pub fn theirs(&self) -> Lane {
        if self.own == Lane::Up { Lane::Down } else { Lane::Up }
    }

    /// A peer takes the next run of its lane, with the bytes; `None` at the lane's end.
    pub fn peer_takes(&mut self, peer: &NodeId, len: u64) -> Option<(PadRange, Vec<u8>)> {
        let (table, lane) = (table_of(peer), self.theirs());
        let bytes = self.tables.get_mut(&table)?.lane(lane);
        let range = PadRange { table, lane, offset: bytes.mark, len };
        let run = bytes.get(&range)?.to_vec();
        bytes.mark = range.end()?;
        Some((range, run))
    }

    /// A peer takes the next tag key of a mark, with the bytes; `None` where its lane has none left.
    pub fn peer_takes_key(&mut self, peer: &NodeId) -> Option<(PadRange, Vec<u8>)> {
        let (table, lane) = (table_of(peer), self.theirs());
        let bytes = self.tables.get_mut(&table)?.lane(lane);
        let offset = key_place(LANE_BYTES as u64, bytes.key)?;
        let range = PadRange { table, lane, offset, len: TAG_KEY_BYTES as u64 };
        bytes.key = range.end()?;
        let run = bytes.get(&range)?.to_vec();
        Some((range, run))
    }

    /// The bytes of any run, whoever allocates it.
    pub fn read(&mut self, range: &PadRange) -> Option<Vec<u8>> {
        self.tables.get_mut(&range.table)?.lane(range.lane).get(range).map(<[u8]>::to_vec)
    }

    /// The tag that a message must have which claims this run; `None` where there is no such run.
    fn right_tag(&mut self, range: &PadRange, message: &[u8]) -> Option<[u8; TAG_BYTES]> {
        let run = self.read(range)?;
        let key = run.last_chunk::<TAG_KEY_BYTES>()?;
        Some(*TagKey::new(*key).tag(&[], message).as_bytes())
    }

    /// Puts the right tag behind kind and body, for whichever run the body claims. Where there is no such run
    /// nothing can be right, and zeros follow.
    pub fn seal(&mut self, mut message: Vec<u8>) -> Vec<u8> {
        let range = claimed_range(&message);
        let tag = range.and_then(|range| self.right_tag(&range, &message));
        message.extend_from_slice(&tag.unwrap_or_default());
        message
    }

    /// A sealed message is about to come in: notes its run where its tag is right, and tells whether it is.
    pub fn expect(&mut self, sealed: &[u8]) -> bool {
        let Some((message, tag)) = sealed.split_last_chunk::<TAG_BYTES>() else { return false };
        let Some(range) = claimed_range(message) else { return false };
        let right = self.right_tag(&range, message) == Some(*tag);
        if right {
            self.rightful.insert(range);
        }
        right
    }

    /// Executes an effect. What was recorded comes back beside the outcome.
    ///
    /// # Panics
    /// If the machine breaks a rule.
    pub fn execute(&mut self, effect: PadEffect) -> (Option<PadOutcome>, Option<Record>) {
        match effect {
            PadEffect::Hold { ticket, from, range, block, .. } => {
                let block_ended = block.is_some_and(|block| self.ended.contains(&block));
                let result = self.hold(&from, range);
                (Some(PadOutcome::Held { ticket, result, block_ended }), None)
            }
            PadEffect::Release { range, forged_blocks } => {
                self.forged_blocks += forged_blocks.unwrap_or(0);
                self.let_go(&range);
                (None, None)
            }
            PadEffect::Mint { ticket, wants } => {
                let failed = std::mem::take(&mut self.trouble.mint);
                let fits = !failed && wants.iter().all(|want| self.has_left(&want.peer, want.bytes));
                let result = if fits {
                    wants.iter().map(|want| self.mint(&want.peer, want.bytes)).collect()
                } else {
                    let (peer, needed) =
                        wants.first().map_or((NodeId::new([0; 32]), 0), |w| (w.peer, w.bytes));
                    Err(if failed {
                        MintRefusal::Internal
                    } else {
                        MintRefusal::Low { peer, left: 0, needed }
                    })
                };
                (Some(PadOutcome::Minted { ticket, result }), None)
            }
            PadEffect::Commit { ticket, record } => {
                let mut ok = !std::mem::take(&mut self.trouble.commit);
                if let Some(ended) = &record.block {
                    ok &= !self.ended.contains(&ended.agreement.block());
                }
                if ok {
                    record.claims.iter().for_each(|(range, _)| self.claim(range));
                    self.ended.extend(record.block.as_ref().map(|ended| ended.agreement.block()));
                } else {
                    record.claims.iter().for_each(|(range, _)| self.let_go(range));
                }
                if let (true, Some(sync)) = (ok, &record.sync)
                    && let Some(table) = self.tables.get_mut(&sync.table)
                {
                    table.seen = table.seen.max(sync.peer_mark);
                    table.lease = table.lease.max(sync.lease);
                    let lane = table.lane(self.own);
                    lane.key = end_from(&lane.used, lane.key.max(sync.own_keys));
                    let mark = lane.mark.max(table.reserved);
                    assert!(table.lease <= mark, "covered up to {}, reserved up to {mark}", table.lease);
                }
                (Some(PadOutcome::Committed { ticket, ok }), ok.then_some(*record))
            }
            PadEffect::Marks { ticket, peer, own, table, reserve } => {
                assert_eq!(own, self.own, "the desk is of one end");
                let result = self.marks(&peer, &table, reserve);
                (Some(PadOutcome::Marks { ticket, result }), None)
            }
            PadEffect::MintSync { ticket, table, at } => {
                let failed = std::mem::take(&mut self.trouble.mint);
                let minted = if failed { Err(MintRefusal::Internal) } else { self.mint_at(&table, at) };
                (Some(PadOutcome::Minted { ticket, result: minted.map(|minted| vec![minted]) }), None)
            }
            PadEffect::Skip { ticket, table, to } => {
                let ok = !std::mem::take(&mut self.trouble.commit);
                let own = self.own;
                if let (true, Some(table)) = (ok, self.tables.get_mut(&table)) {
                    let lane = table.lane(own);
                    lane.mark = lane.mark.max(to);
                }
                (Some(PadOutcome::Skipped { ticket, ok }), None)
            }
            PadEffect::Open(_) | PadEffect::Shut(_) | PadEffect::Leave(_) | PadEffect::Close { .. } => {
                (None, None)
            }
        }
    }

    fn marks(&mut self, peer: &NodeId, table: &TableId, reserve: bool) -> Result<LaneMarks, Refusal> {
        if let Some(refusal) = self.trouble.hold.take() {
            return Err(refusal);
        }
        let own = self.own;
        let table = self.tables.get_mut(table).filter(|table| table.peer == *peer);
        let table = table.ok_or(Refusal::UnknownTable)?;
        let bytes = LANE_BYTES as u64;
        if reserve {
            let mark = table.lane(own).mark;
            table.reserved = table.reserved.max((mark + CHUNK_BYTES).min(keys_from(bytes)));
        }
        let (seen, lease) = (table.seen, table.lease);
        let theirs = if own == Lane::Up { Lane::Down } else { Lane::Up };
        let keys_seen = end_from(&table.lane(theirs).used, keys_from(bytes));
        let (handed_out, keys) = (table.lane(own).mark, table.lane(own).key);
        let own = handed_out.max(table.reserved);
        Ok(LaneMarks {
            own,
            next: handed_out,
            seen,
            used_below: 0,
            lease,
            keys,
            keys_seen,
            own_bytes: bytes,
            peer_bytes: bytes,
            ahead: CHUNK_BYTES / 2,
            unsure: false,
        })
    }

    fn mint_at(&mut self, table: &TableId, at: u64) -> Result<Minted, MintRefusal> {
        let own = self.own;
        let id = *table;
        let table = self.tables.get_mut(table).ok_or(MintRefusal::Internal)?;
        let peer = table.peer;
        let lane = table.lane(own);
        let low = MintRefusal::Low { peer, left: 0, needed: TAG_KEY_BYTES as u64 };
        let mut at = at.max(lane.key);
        let range = loop {
            let offset = key_place(LANE_BYTES as u64, at).ok_or(low)?;
            let range = PadRange { table: id, lane: own, offset, len: TAG_KEY_BYTES as u64 };
            if !meets(&lane.used, &range) {
                break range;
            }
            at = offset + 1;
        };
        let pad = lane.get(&range).ok_or(low)?.to_vec();
        lane.used.insert(range.offset, range.offset + range.len);
        lane.key = end_from(&lane.used, lane.key);
        Ok(Minted { range, pad: PadBytes::mint(pad) })
    }

    fn hold(&mut self, from: &NodeId, range: PadRange) -> Result<PadBytes, Refusal> {
        if let Some(refusal) = self.trouble.hold.take() {
            return Err(refusal);
        }
        let theirs = self.theirs();
        let table = self.tables.get_mut(&range.table).filter(|table| table.peer == *from);
        let table = table.ok_or(Refusal::UnknownTable)?;
        if range.lane != theirs {
            return Err(Refusal::OutOfRange);
        }
        let lane = table.lane(range.lane);
        let bytes = lane.get(&range).ok_or(Refusal::OutOfRange)?.to_vec();
        if meets(&lane.used, &range) {
            return Err(Refusal::PadUsed);
        }
        if meets(&lane.held, &range) {
            return Err(Refusal::Busy);
        }
        lane.held.insert(range.offset, range.offset + range.len);
        Ok(PadBytes::mint(bytes))
    }

    fn let_go(&mut self, range: &PadRange) {
        let table = self.tables.get_mut(&range.table).expect("a held run has a table");
        let end = table.lane(range.lane).held.remove(&range.offset);
        assert_eq!(end, range.end(), "{range:?} was not held");
    }

    fn claim(&mut self, range: &PadRange) {
        self.let_go(range);
        assert!(self.rightful.contains(range), "{range:?} is burned by a message without a right tag");
        let table = self.tables.get_mut(&range.table).expect("a held run has a table");
        let lane = table.lane(range.lane);
        assert!(!meets(&lane.used, range), "{range:?} is claimed twice");
        lane.used.insert(range.offset, range.offset + range.len);
        self.burned += range.len;
    }

    fn has_left(&mut self, peer: &NodeId, bytes: u64) -> bool {
        let own = self.own;
        let lane = self.tables.get_mut(&table_of(peer)).map(|table| table.lane(own));
        lane.is_some_and(|lane| {
            lane.mark.checked_add(bytes).is_some_and(|end| end <= keys_from(LANE_BYTES as u64))
        })
    }

    fn mint(&mut self, peer: &NodeId, len: u64) -> Result<Minted, MintRefusal> {
        let (own, table) = (self.own, table_of(peer));
        let missing = MintRefusal::NoTable { peer: *peer };
        let lane = self.tables.get_mut(&table).ok_or(missing)?.lane(own);
        let range = PadRange { table, lane: own, offset: lane.mark, len };
        let pad = lane.get(&range).ok_or(missing)?.to_vec();
        lane.mark += len;
        Ok(Minted { range, pad: PadBytes::mint(pad) })
    }

    /// The node starts anew: it holds nothing, and what is on record stays.
    pub fn restart(&mut self) {
        for table in self.tables.values_mut() {
            table.up.held.clear();
            table.down.held.clear();
        }
    }

    /// Nothing is held any more: no path leaves a run behind that nobody can use.
    ///
    /// # Panics
    /// If something is.
    pub fn assert_nothing_held(&self) {
        for table in self.tables.values() {
            for lane in [&table.up, &table.down] {
                assert!(lane.held.is_empty(), "left held: {:?}", lane.held);
            }
        }
    }
}

/// The key that a record keeps, where it keeps one.
pub fn kept_key(record: &Record) -> Option<(BlockId, &[u8])> {
    let ended = record.block.as_ref()?;
    match &ended.result {
        Ok(BlockKey::Keep(key)) => Some((ended.agreement.block(), &key.0)),
        _ => None,
    }
}
