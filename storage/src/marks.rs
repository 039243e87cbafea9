//! How far the lanes of a table have come, and what comparing that with the peer changes
//! ([`dske_protocol::sync`]): tag keys for marks, skipping, tables that open and close.

use dske_protocol::{
    effect::{LaneMarks, SyncRecord},
    ids::{NodeId, PadRange, TableId},
    pad::{PadBytes, TAG_KEY_BYTES},
};

use crate::{
    engine::{Engine, State},
    erasures::Erasure,
    error::{MarksRefusal, MintError, StoreError},
    intervals::Insertion,
    keys::{void_block, waiting_blocks},
    lane_state::LaneState,
    ledger::{Draft, lane_key, told_key, used_key},
    lock_short,
    status::{Compared, TableState, Use},
    table::{LaneRecord, Table},
    transaction::Minted,
};

const TAG_KEY: u64 = TAG_KEY_BYTES as u64;

impl Engine {
    /// How far a table has come. With `reserve` the lane that this node allocates is filled up first, so that its
    /// mark covers what will be handed out next. Only the thread that reserves may call it.
    pub(crate) fn marks(
        &self,
        peer: NodeId,
        table: TableId,
        reserve: bool,
    ) -> Result<LaneMarks, MarksRefusal> {
        self.check()?;
        if reserve {
            self.refill(table)?;
        }
        let state = lock_short(&self.state);
        if state.retired.get(&table).is_some_and(|retired| retired.peer == peer) {
            return Err(MarksRefusal::NotActive { state: TableState::Retired.to_string() });
        }
        let table = state.tables.get(&table).filter(|entry| entry.record.peer == peer);
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
        let mut firm = own.mark.max(told.lease);
        while let Some((_, end)) = own.used.at_or_after(firm).filter(|(first, _)| *first <= firm) {
            firm = end;
        }
        let mut next = own.position();
        while let Some((_, end)) = own.used.at_or_after(next).filter(|(first, _)| *first <= next) {
            next = end;
        }
        LaneMarks {
            own: own.furthest(),
            firm,
            next,
            seen: told.seen,
            used_below: told.used_below,
            lease: told.lease,
            own_bytes: own.bytes,
            peer_bytes: table.peer_lane().bytes,
            ahead: own.chunk_bytes(self.chunk_bytes_max) / 2,
            unsure: table.unsure,
        }
    }

    /// Takes the tag key of a mark at or after `at`, without giving up what lies before it: the peer names the
    /// place. Out of memory where what waits there lies far enough. Only the thread that reserves may call it.
    pub(crate) fn mint_sync(&self, table: TableId, at: u64) -> Result<Minted, MintError> {
        self.check()?;
        self.load_key(table, at)?;
        let (peer, lane_name, file, insertion, counts) = {
            let mut state = lock_short(&self.state);
            let entry = state.tables.get_mut(&table).ok_or(StoreError::UnknownTable { table })?;
            let peer = entry.record.peer;
            if !entry.may_sync() {
                return Err(MintError::NoTable { peer });
            }
            let lane = entry.own_lane_mut();
            if lane.position() >= at
                && let Some((offset, pad)) = lane.take(TAG_KEY)
            {
                self.fatal(lane.count_use(Use::Sync, TAG_KEY))?;
                let range = PadRange { table, lane: lane.lane, offset, len: TAG_KEY };
                return Ok(Minted { peer, range, pad });
            }
            let start = lane.fit_from(at.max(lane.mark), TAG_KEY).ok_or(MintError::PlaceUsed)?;
            let end = start + TAG_KEY;
            let insertion = lane.used.insert(start, end);
            self.fatal(lane.count_use(Use::Sync, TAG_KEY))?;
            (peer, lane.lane, lane.file.clone(), (start, end, insertion), lane.counts)
        };
        let (start, end, insertion) = insertion;
        let read = self.read_pad(table, &file, start, TAG_KEY)?;
        if read.is_none() {
            self.found_erased(table, start);
        }
        let mut draft = Draft::new(&self.ledger);
        put_used(&mut draft, PadRange { table, lane: lane_name, offset: start, len: TAG_KEY }, &insertion)?;
        let mark =
            self.ledger.get::<LaneRecord>("lane", &lane_key(&table, lane_name))?.unwrap_or_default().mark;
        draft.put("lane", lane_key(&table, lane_name), &LaneRecord { mark, counts })?;
        self.fatal(self.ledger.commit(&draft.batch))?;
        self.erase_run(table, lane_name, &file, (start, end));
        let mut run = read.ok_or(MintError::PlaceUsed)?;
        let range = PadRange { table, lane: lane_name, offset: start, len: TAG_KEY };
        Ok(Minted { peer, range, pad: PadBytes::mint(std::mem::take(&mut *run)) })
    }

    /// Reads the tag key of a mark where the next reserved bytes lie far enough and have not been read.
    fn load_key(&self, table: TableId, at: u64) -> Result<(), StoreError> {
        let end = {
            let state = lock_short(&self.state);
            let lane = state.tables.get(&table).map(Table::own_lane);
            let waits = |lane: &&LaneState| lane.position() >= at && lane.reserved() >= TAG_KEY;
            lane.filter(waits).map(|lane| lane.position() + TAG_KEY)
        };
        end.map_or(Ok(()), |end| self.load(table, end))
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
            if to > lane.bytes {
                return Err(StoreError::invalid(format!("lane {} ends before {to}", lane.lane)));
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

    /// The peer does not use a table any more: nothing is taken from it until it is compared again.
    pub(crate) fn leave_table(&self, table: &TableId) {
        if let Some(entry) = lock_short(&self.state).tables.get_mut(table) {
            entry.compared = Compared::Never;
        }
    }

    /// The connection to a peer is gone: nothing under its tables is accepted until they are compared again.
    pub(crate) fn close_tables(&self, peer: NodeId) {
        let mut state = lock_short(&self.state);
        let theirs = state.tables.values_mut().filter(|table| table.record.peer == peer);
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
    let fits = sync.lease <= table.own_lane().bytes
        && sync.peer_mark <= table.peer_lane().bytes
        && sync.void_below.is_none_or(|below| below <= table.peer_lane().bytes);
    if fits { Ok(()) } else { Err(StoreError::invalid("marks beyond the ends of their lanes")) }
}

/// Puts what a comparison has brought to light about a table; gives what is to be erased.
pub(crate) fn apply_sync(
    draft: &mut Draft<'_>,
    state: &mut State,
    sync: &SyncRecord,
) -> Result<Vec<Erasure>, StoreError> {
    let activation = state.next_activation();
    let Some(entry) = state.tables.get_mut(&sync.table) else { return Ok(Vec::new()) };
    let mut erasures = Vec::new();
    // Of a lane that is not sure, what the header says to have been erased is used too.
    let void_below = sync.void_below.map(|end| end.max(entry.peer_lane().file.header().mark));
    if void_below.is_some() && entry.unsure {
        entry.settle();
        state.unsaved.insert(sync.table);
    }
    // Also one that was pending when it was quarantined, and is so again.
    if sync.activate && entry.record.state == TableState::Pending {
        entry.activate(activation);
        state.unsaved.insert(sync.table);
    }
    let table = sync.table;
    let own = entry.own_lane_mut();
    own.told = own.told.max(sync.lease);
    draft.put("told mark", told_key(&table, own.lane), &own.told)?;
    let peers = entry.peer_lane_mut();
    peers.told = peers.told.max(sync.peer_mark);
    draft.put("told mark", told_key(&table, peers.lane), &peers.told)?;
    if let Some(end) = void_below.filter(|&end| end > 0) {
        let range = PadRange { table, lane: peers.lane, offset: 0, len: end };
        let insertion = peers.used.insert(0, end);
        put_used(draft, range, &insertion)?;
        let record = LaneRecord { mark: peers.used.furthest(), counts: peers.counts };
        draft.put("lane", lane_key(&table, peers.lane), &record)?;
        let (lane, file) = (peers.lane, peers.file.clone());
        erasures.push(Erasure::Lane { table, lane, file, receiver: true, start: 0, end });
    }
    Ok(erasures)
}

/// Voids the keys that wait: they may have been handed out before this store was put back.
pub(crate) fn void_keys(draft: &mut Draft<'_>) -> Result<Vec<Erasure>, StoreError> {
    let mut erasures = Vec::new();
    for block in waiting_blocks(draft)? {
        let reason =
            "the node's directory was put back to an earlier state; the key may have been handed out before";
        erasures.extend(void_block(draft, block, reason)?.into_iter().map(Erasure::Key));
    }
    Ok(erasures)
}
