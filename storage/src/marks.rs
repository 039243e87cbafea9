//! How far the lanes of a table have come, and what comparing that with the peer changes
//! ([`dske_protocol::sync`]): tag keys for marks, skipping, tables that open and close.

use std::collections::BTreeMap;

use dske_protocol::{
    effect::{LaneMarks, SyncRecord},
    ids::{NodeId, PadRange, TableId},
    pad::{PadBytes, TAG_KEY_BYTES},
    planted::{Fault, planted},
    sync::{Restores, Said},
};

use crate::{
    engine::{Engine, State},
    erasures::Erasure,
    error::{MarksRefusal, MintError, StoreError},
    intervals::Insertion,
    keys::{void_block, waiting_blocks},
    lane_state::LaneState,
    ledger::{Draft, compared_key, dealt_with_key, kind, lane_key, node_key, told_key, turn_key, used_key},
    lock_short,
    status::{Compared, TableSide, TableState, Use},
    table::{LaneRecord, Table},
    transaction::Minted,
};

const TAG_KEY: u64 = TAG_KEY_BYTES as u64;

impl Engine {
    /// How far a table has come, of which this node must be the `side`. With `reserve` the lane that this node allocates is filled up first, so that its
    /// mark covers what will be handed out next. Only the thread that reserves may call it.
    pub(crate) fn marks(
        &self,
        peer: NodeId,
        side: TableSide,
        table: TableId,
        reserve: bool,
    ) -> Result<LaneMarks, MarksRefusal> {
        self.check()?;
        if reserve {
            self.refill(table)?;
        }
        let state = lock_short(&self.state);
        if state.retired.get(&table).is_some_and(|retired| retired.peer == peer && retired.side == side) {
            return Err(MarksRefusal::NotActive { state: TableState::Retired.to_string() });
        }
        let table = state.tables.get(&table).filter(|entry| entry.is_shared(peer, side));
        let table = table.ok_or(MarksRefusal::UnknownTable)?;
        match &table.record.state {
            _ if table.may_sync() => Ok(self.marks_of(table)),
            TableState::Pending => Err(MarksRefusal::Pending),
            state => Err(MarksRefusal::NotActive { state: state.to_string() }),
        }
    }

    fn marks_of(&self, table: &Table) -> LaneMarks {
        // The peer is told what is on the device: what a group of commits has changed in memory may still be lost.
        let (own, told) = (table.own_lane(), table.told());
        LaneMarks {
            own: own.mark,
            next: own.position(),
            seen: told.seen,
            used_below: told.used_below,
            lease: told.lease,
            keys: told.keys,
            keys_seen: told.keys_seen,
            own_bytes: own.bytes,
            peer_bytes: table.peer_lane().bytes,
            ahead: own.chunk_bytes(self.chunk_bytes_max) / 2,
            unsure: table.unsure,
        }
    }

    /// Takes the tag key of a mark: the first free place of its part of the lane that does not begin before `at`, which may
    /// be an untagged word. Durably used before its bytes are read. Only the thread that reserves may call it.
    pub(crate) fn mint_sync(&self, table: TableId, at: u64) -> Result<Minted, MintError> {
        self.check()?;
        let (peer, range, file, insertion, record) = {
            let mut state = lock_short(&self.state);
            let entry = state.tables.get_mut(&table).ok_or(StoreError::UnknownTable { table })?;
            let (peer, side) = (entry.record.peer, entry.record.side);
            if !entry.may_sync() {
                return Err(MintError::NoTable { peer, side });
            }
            let lane = entry.own_lane_mut();
            let offset = lane.free_key_place(at).ok_or(MintError::PlaceUsed)?;
            let range = PadRange { table, lane: lane.lane, offset, len: TAG_KEY };
            let insertion = lane.used.insert(offset, offset + TAG_KEY);
            self.fatal(lane.count_use(Use::Sync, TAG_KEY))?;
            // What the ledger has of the mark stays: the header may be ahead, and its mark is not this one's to move.
            (peer, range, lane.file.clone(), insertion, lane.counts)
        };
        let read = self.read_pad(table, &file, range.offset, TAG_KEY)?;
        if read.is_none() {
            self.found_erased(table, range.offset);
        }
        let mut draft = Draft::new(&self.ledger);
        put_used(&mut draft, range, &insertion)?;
        let mark =
            self.ledger.get::<LaneRecord>("lane", &lane_key(&table, range.lane))?.unwrap_or_default().mark;
        draft.put("lane", lane_key(&table, range.lane), &LaneRecord { mark, counts: record })?;
        self.fatal(self.ledger.commit(&draft.batch))?;
        self.erase_run(table, range.lane, &file, (range.offset, range.offset + TAG_KEY));
        let mut run = read.ok_or(MintError::PlaceUsed)?;
        Ok(Minted { peer, range, pad: PadBytes::mint(std::mem::take(&mut *run)) })
    }

    /// Skips durably to `to` in the lane that this node allocates, and drops what waits in memory before it: the
    /// peer has seen more than this node has on record. Only the thread that reserves may call it.
    pub(crate) fn skip(&self, table: TableId, to: u64) -> Result<(), StoreError> {
        self.check()?;
        let (file, lane_name, erased, to, counts) = {
            let mut state = lock_short(&self.state);
            let entry = state.tables.get_mut(&table).ok_or(StoreError::UnknownTable { table })?;
            let unsure = entry.unsure;
            let lane = entry.own_lane_mut();
            if to > lane.keys_from() {
                let text = format!("messages of lane {} end before {to}", lane.lane);
                return Err(StoreError::invalid(text));
            }
            if to <= lane.mark && !unsure {
                let (unread, file, lane) = (lane.skip(to), lane.file.clone(), lane.lane);
                drop(state);
                self.erase_run(table, lane, &file, unread);
                return Ok(());
            }
            // Header and ledger of a lane that is not sure may disagree also about what has been erased.
            let erased = if unsure { lane.file.header().floor.min(lane.mark) } else { lane.loaded() };
            (lane.file.clone(), lane.lane, erased, lane.mark.max(to), lane.counts)
        };
        self.move_mark(table, lane_name, &file, to, counts)?;
        if let Some(entry) = lock_short(&self.state).tables.get_mut(&table) {
            // Erased together with what lies before it.
            let (_, _) = entry.own_lane_mut().skip(to);
            entry.unsure = false;
        }
        self.erase_run(table, lane_name, &file, (erased, to));
        Ok(())
    }

    /// The marks of a table have been compared: it may be used.
    pub(crate) fn open_table(&self, table: &TableId) {
        if let Some(entry) = lock_short(&self.state).tables.get_mut(table) {
            entry.compared = Compared::Now;
        }
    }

    /// The comparison of a table has lapsed: nothing under it is accepted until it is done again.
    pub(crate) fn shut_table(&self, table: &TableId) {
        if let Some(entry) = lock_short(&self.state).tables.get_mut(table) {
            entry.compared = entry.compared.min(Compared::Before);
        }
    }

    /// What hubs say about this directory having been put back, and has not been dealt with.
    pub(crate) fn said_put_back(&self) -> BTreeMap<NodeId, Said> {
        lock_short(&self.state).restores.said().clone()
    }

    /// The peer does not use a table any more: nothing is taken from it until it is compared again.
    pub(crate) fn leave_table(&self, table: &TableId) {
        if let Some(entry) = lock_short(&self.state).tables.get_mut(table) {
            entry.compared = Compared::Never;
        }
    }

    /// The connection to a peer is gone: nothing under its tables of one side is accepted until they are compared
    /// again. Those of the other side are closed by whoever compares them, when that hears of it.
    pub(crate) fn close_tables(&self, peer: NodeId, side: TableSide) {
        let mut state = lock_short(&self.state);
        let ours = |table: &&mut Table| {
            table.is_shared(peer, side) || (planted(Fault::ClosesEitherSide) && table.record.peer == peer)
        };
        let theirs = state.tables.values_mut().filter(ours);
        theirs.for_each(|table| table.compared = table.compared.min(Compared::Before));
    }
}

/// Puts a run into the used ones of a lane's records.
pub(crate) fn put_used(
    draft: &mut Draft<'_>,
    range: PadRange,
    insertion: &Insertion,
) -> Result<(), StoreError> {
    for absorbed in &insertion.absorbed {
        draft.remove(used_key(&range.table, range.lane, *absorbed));
    }
    draft.put("used run", used_key(&range.table, range.lane, insertion.start), &insertion.end)
}

/// Whether a record of what a comparison has brought makes sense for this store.
pub(crate) fn check_sync(state: &State, sync: &SyncRecord) -> Result<(), StoreError> {
    let table = state.tables.get(&sync.table).ok_or(StoreError::UnknownTable { table: sync.table })?;
    let (own, peers) = (table.own_lane(), table.peer_lane());
    let fits = sync.lease <= own.keys_from()
        && sync.own_keys <= own.bytes
        && sync.peer_mark <= peers.keys_from()
        && sync.peer_keys <= peers.bytes
        && sync.void_below.is_none_or(|below| below <= peers.keys_from());
    if fits { Ok(()) } else { Err(StoreError::invalid("marks beyond the ends of their lanes")) }
}

/// What a comparison changes besides records.
pub(crate) struct Brought {
    pub(crate) erasures: Vec<Erasure>,
    /// Keys that wait and were agreed before this turn are void.
    pub(crate) void: Option<u64>,
}

/// Puts what a comparison has brought to light about a table.
pub(crate) fn apply_sync(
    draft: &mut Draft<'_>,
    state: &mut State,
    sync: &SyncRecord,
) -> Result<Brought, StoreError> {
    let activation = state.next_activation();
    let (mut erasures, mut void) = (Vec::new(), None);
    let State { tables, unsaved, turn, start, restores, .. } = state;
    let table = sync.table;
    let Some(entry) = tables.get_mut(&table) else { return Ok(Brought { erasures, void }) };
    let (when, turn_before, restores_before) = (entry.when, *turn, restores.clone());
    if let Some(k_min) = sync.put_back {
        // While a process runs its directory can only be put back together with its memory.
        let until = if when.last < *start { *start } else { *turn + 1 };
        void = restores.hear(entry.record.peer, when.last, until, k_min);
        *turn = until.max(*turn);
    }
    // Of a lane that is not sure, what the header says to have been erased is used too.
    let void_below = sync.void_below.map(|end| end.max(entry.peer_lane().file.header().mark));
    if sync.settle && entry.unsure {
        // Found by this node alone, where it was at a start.
        void = void.max(restores.found(when.unsure_since));
        entry.when.unsure_since = 0;
        entry.settle();
        unsaved.insert(table);
    }
    // Also one that was pending when it was quarantined, and is so again.
    if sync.activate && entry.record.state == TableState::Pending {
        entry.activate(activation);
        unsaved.insert(table);
    }
    if sync.compared {
        *turn += 1;
        entry.when.last = *turn;
    }
    if entry.when != when {
        draft.put("comparison", compared_key(&table), &entry.when)?;
    }
    if *turn != turn_before {
        draft.put("turn", turn_key(), turn)?;
    }
    put_restores(draft, &restores_before, restores)?;

    let own = entry.own_lane_mut();
    own.told = own.told.max(sync.lease);
    draft.put("told mark", told_key(&table, own.lane), &own.told)?;
    let own_keys = (own.keys_from(), sync.own_keys);
    erasures.extend(use_up(draft, table, own, own_keys)?);
    let peers = entry.peer_lane_mut();
    peers.told = peers.told.max(sync.peer_mark);
    draft.put("told mark", told_key(&table, peers.lane), &peers.told)?;
    let peer_keys = (peers.keys_from(), sync.peer_keys);
    erasures.extend(use_up(draft, table, peers, peer_keys)?);
    if let Some(end) = void_below {
        erasures.extend(use_up(draft, table, peers, (0, end))?);
        let record = LaneRecord { mark: peers.used_furthest(), counts: peers.counts };
        draft.put("lane", lane_key(&table, peers.lane), &record)?;
    }
    Ok(Brought { erasures, void })
}

/// Counts a run of a lane as used; gives its erasure. Nothing where all of it is already.
fn use_up(
    draft: &mut Draft<'_>,
    table: TableId,
    lane: &mut LaneState,
    (start, end): (u64, u64),
) -> Result<Option<Erasure>, StoreError> {
    if end <= start || lane.used.end_from(start) >= end {
        return Ok(None);
    }
    let insertion = lane.used.insert(start, end);
    put_used(draft, PadRange { table, lane: lane.lane, offset: start, len: end - start }, &insertion)?;
    let (receiver, file) = (!lane.allocator, lane.file.clone());
    Ok(Some(Erasure::Lane { table, lane: lane.lane, file, receiver, start, end }))
}

/// Puts what hubs say about this directory having been put back, where that has changed.
fn put_restores(draft: &mut Draft<'_>, before: &Restores, now: &Restores) -> Result<(), StoreError> {
    if now.dealt_with() != before.dealt_with() {
        draft.put("last restore", dealt_with_key(), &now.dealt_with())?;
    }
    for hub in before.said().keys().filter(|hub| !now.said().contains_key(*hub)) {
        draft.remove(node_key(kind::PUT_BACK, hub));
    }
    for (hub, said) in now.said().iter().filter(|(hub, said)| before.said().get(*hub) != Some(said)) {
        draft.put("a hub's word", node_key(kind::PUT_BACK, hub), said)?;
    }
    Ok(())
}

/// Voids the keys that wait and were agreed before a turn: they may have been handed out before this store was put back.
pub(crate) fn void_keys(draft: &mut Draft<'_>, before: u64) -> Result<Vec<Erasure>, StoreError> {
    let mut erasures = Vec::new();
    for block in waiting_blocks(draft, before)? {
        let reason =
            "the node's directory was put back to an earlier state; the key may have been handed out before";
        erasures.extend(void_block(draft, block, reason)?.into_iter().map(Erasure::Key));
    }
    Ok(erasures)
}
