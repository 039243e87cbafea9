//! Pads out of lanes: held for a peer's message, or minted for one of ours.
//!
//! An allocator's mark is on the device, in the lane's header and then in the ledger, before any byte below
//! it leaves this module; a crash can lose reserved bytes but never hand one out twice.

use std::{collections::BTreeMap, sync::Arc};

use dske_protocol::{
    ids::{Lane, PadRange, TableId},
    pad::PadBytes,
    planted::{Fault, planted},
    wiped::Wiped,
};

use crate::{
    engine::{Engine, State},
    erasures::Erasure,
    error::{HoldRefusal, MintError, StoreError},
    lane_file::LaneFile,
    lane_header::Counts,
    lane_state::RUN_BYTES_MAX,
    ledger::{Draft, lane_key},
    lock_short,
    status::{Compared, TableState},
    table::{LaneRecord, Table},
    transaction::{HoldWant, Minted, Want},
};

/// What became of a request for pads.
pub(crate) enum MintOutcome {
    /// All of them, and tables that should be refilled in the background.
    Ready(Vec<Minted>, Vec<TableId>),
    /// Nothing was taken: these have to be reserved and read first.
    Reserve(Vec<Reservation>),
}

/// `bytes` are wanted from `start` of the lane that this node allocates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reservation {
    pub(crate) table: TableId,
    pub(crate) start: u64,
    pub(crate) bytes: u64,
}

impl Engine {
    /// Holds runs and reads them. What cannot be read is not held.
    pub(crate) fn hold(&self, wants: &[HoldWant]) -> Vec<Result<PadBytes, HoldRefusal>> {
        wants.iter().map(|want| self.hold_one(want)).collect()
    }

    fn hold_one(&self, want: &HoldWant) -> Result<PadBytes, HoldRefusal> {
        self.check()?;
        let HoldWant { peer, range, for_sync } = *want;
        let end = range.end().ok_or(HoldRefusal::OutOfRange)?;
        let (file, used) = {
            let mut state = lock_short(&self.state);
            if state.retired.contains_key(&range.table) {
                return Err(HoldRefusal::NotActive { state: TableState::Retired.to_string() });
            }
            let table = state.tables.get_mut(&range.table).ok_or(HoldRefusal::UnknownTable(range.table))?;
            if table.record.peer != peer {
                return Err(HoldRefusal::WrongPeer { table: range.table, peer });
            }
            match &table.record.state {
                _ if for_sync && table.may_sync() => {}
                TableState::Active if table.compared == Compared::Now => {}
                TableState::Active => return Err(HoldRefusal::NotSynced),
                TableState::Pending => return Err(HoldRefusal::Pending),
                state => return Err(HoldRefusal::NotActive { state: state.to_string() }),
            }
            let lane = table.lane_mut(range.lane);
            if lane.allocator {
                return Err(HoldRefusal::WrongLane);
            }
            // Tag keys of marks stand in a part of their own.
            if if for_sync { range.offset < lane.keys_from() } else { end > lane.keys_from() } {
                return Err(HoldRefusal::OutOfRange);
            }
            let used = lane.used.overlaps(range.offset, end);
            lane.hold(range.offset, end)?;
            (lane.file.clone(), used)
        };
        let refusal = match self.read_pad(range.table, &file, range.offset, range.len) {
            Ok(Some(bytes)) if fault_spares(used, &bytes) => HoldRefusal::AlreadyUsed,
            Ok(Some(mut bytes)) => return Ok(PadBytes::mint(std::mem::take(&mut *bytes))),
            Ok(None) => {
                // A run that is used was refused above: that this one is erased is news.
                self.found_erased(range.table, range.offset);
                HoldRefusal::Erased
            }
            Err(error) => HoldRefusal::Store(error),
        };
        self.release(range, None);
        Err(refusal)
    }

    /// Reads a run. A table whose pad is damaged is quarantined: nobody knows what else the disk has changed.
    pub(crate) fn read_pad(
        &self,
        table: TableId,
        file: &LaneFile,
        offset: u64,
        bytes: u64,
    ) -> Result<Option<Wiped>, StoreError> {
        let read = file.read(offset, bytes);
        if let Err(StoreError::Damaged { detail, .. }) = &read {
            self.pads_damaged(table, detail);
        }
        read
    }

    /// Gives a held run back. `true` where the table's record is to be saved.
    pub(crate) fn release(&self, range: PadRange, forged_blocks: Option<u64>) -> bool {
        let Some(end) = range.end() else { return false };
        let mut state = lock_short(&self.state);
        let Some(table) = state.tables.get_mut(&range.table) else { return false };
        let was_held = table.lane_mut(range.lane).let_go(range.offset, end);
        let Some(blocks) = forged_blocks.filter(|_| was_held) else { return false };
        table.count_forgery(blocks);
        state.unsaved.insert(range.table)
    }

    /// Takes pads that are reserved and read already, or says what has to be first. Does no I/O.
    pub(crate) fn mint(&self, state: &mut State, wants: &[Want]) -> Result<MintOutcome, MintError> {
        self.check()?;
        let (chosen, totals) = choose_tables(state, wants)?;
        let mut reservations = Vec::new();
        for (&table, &bytes) in &totals {
            let Some(lane) = state.tables.get(&table).map(Table::own_lane) else { continue };
            let start = lane.fit(bytes).unwrap_or(lane.keys_from());
            if start + bytes > lane.loaded() {
                reservations.push(Reservation { table, start, bytes });
            }
        }
        if !reservations.is_empty() {
            return Ok(MintOutcome::Reserve(reservations));
        }
        let taken = wants.iter().zip(&chosen).map(|(want, table)| take(state, want, table));
        let minted = self.fatal(taken.filter_map(Result::transpose).collect())?;
        let low = totals.into_keys().filter(|table| self.wants_refill(state, table)).collect();
        Ok(MintOutcome::Ready(minted, low))
    }

    /// Takes pads, reserving as often as it takes. Only the thread that reserves may call it.
    pub(crate) fn mint_reserving(&self, wants: &[Want]) -> Result<Vec<Minted>, MintError> {
        loop {
            let outcome = self.mint(&mut lock_short(&self.state), wants)?;
            match outcome {
                MintOutcome::Ready(minted, _) => return Ok(minted),
                MintOutcome::Reserve(reservations) => {
                    for Reservation { table, start, bytes } in reservations {
                        self.reserve(Reservation { table, start, bytes })?;
                        match self.load(table, start + bytes) {
                            // Its table is quarantined, and the next one may have what is wanted.
                            Err(StoreError::Damaged { .. }) => break,
                            loaded => loaded?,
                        }
                    }
                }
            }
        }
    }

    /// Notes that a refill is wanted, once.
    fn wants_refill(&self, state: &mut State, table: &TableId) -> bool {
        let Some(table) = state.tables.get_mut(table) else { return false };
        let lane = table.own_lane_mut();
        let low = lane.reserved() < lane.chunk_bytes(self.chunk_bytes_max) / 2 && lane.left() > 0;
        low && !std::mem::replace(&mut lane.refilling, true)
    }

    /// Reserves up to one chunk, and reads it where that is worth it. Only the thread that reserves may call it.
    pub(crate) fn refill(&self, table: TableId) -> Result<(), StoreError> {
        let reservation = {
            let mut state = lock_short(&self.state);
            let Some(entry) = state.tables.get_mut(&table) else { return Ok(()) };
            let active = entry.is_active();
            let lane = entry.own_lane_mut();
            lane.refilling = false;
            let bytes = lane.reserved() + 1;
            match lane.fit(bytes).filter(|_| active) {
                Some(start) => Reservation { table, start, bytes },
                None => return Ok(()),
            }
        };
        self.reserve(reservation)?;
        self.load(table, 0)
    }

    /// Moves a mark durably, header first. Only one thread may reserve.
    pub(crate) fn reserve(&self, wanted: Reservation) -> Result<(), StoreError> {
        self.check()?;
        let Reservation { table, start, bytes } = wanted;
        let (file, lane_name, from, mark, counts) = {
            let state = lock_short(&self.state);
            let Some(lane) = state.tables.get(&table).map(Table::own_lane) else { return Ok(()) };
            let end = lane.reservation_end(start, bytes, lane.chunk_bytes(self.chunk_bytes_max));
            if end <= lane.mark {
                return Ok(());
            }
            (lane.file.clone(), lane.lane, start.max(lane.mark), end, lane.counts)
        };
        self.move_mark(table, lane_name, &file, mark, counts)?;
        let passed = {
            let mut state = lock_short(&self.state);
            let Some(entry) = state.tables.get_mut(&table) else { return Ok(()) };
            entry.own_lane_mut().reserve(from, mark)
        };
        self.erase_run(table, lane_name, &file, passed);
        Ok(())
    }

    /// Reads what is reserved into memory, at least as far as `wanted`, and has it erased on disk. Only the thread that
    /// reserves may call it.
    pub(crate) fn load(&self, table: TableId, wanted: u64) -> Result<(), StoreError> {
        let (file, lane_name, from, to) = {
            let state = lock_short(&self.state);
            let Some(lane) = state.tables.get(&table).map(Table::own_lane) else { return Ok(()) };
            (lane.file.clone(), lane.lane, lane.loaded(), lane.load_end(wanted, self.chunk_bytes_max))
        };
        if to <= from {
            return Ok(());
        }
        let read = self.read_pad(table, &file, from, to - from)?;
        if read.is_none() {
            self.found_erased(table, from);
        }
        {
            let mut state = lock_short(&self.state);
            let Some(entry) = state.tables.get_mut(&table) else { return Ok(()) };
            match read {
                Some(run) => entry.own_lane_mut().load(run),
                None => drop(entry.own_lane_mut().skip(to)),
            }
        }
        self.erase_run(table, lane_name, &file, (from, to));
        Ok(())
    }

    /// Has a run of a lane that this node allocates erased; nothing, where it is empty.
    pub(crate) fn erase_run(
        &self,
        table: TableId,
        lane: Lane,
        file: &Arc<LaneFile>,
        (start, end): (u64, u64),
    ) {
        let file = file.clone();
        let erasure = Erasure::Lane { table, lane, file, receiver: false, start, end };
        self.erase_later((start < end).then_some(erasure));
    }

    /// Moves the mark of a lane that this node allocates, on the device when this returns: header first. Only the
    /// thread that reserves may call it.
    pub(crate) fn move_mark(
        &self,
        table: TableId,
        lane: Lane,
        file: &LaneFile,
        mark: u64,
        counts: Counts,
    ) -> Result<(), StoreError> {
        if !planted(Fault::LaneHeaderNotWritten) {
            self.fatal(file.advance(mark, counts))?;
        }
        if planted(Fault::LaneMarkNotInLedger) {
            return Ok(());
        }
        let mut draft = Draft::new(&self.ledger);
        draft.put("lane", lane_key(&table, lane), &LaneRecord { mark, counts })?;
        self.fatal(self.ledger.commit(&draft.batch))
    }
}

/// For every want the first active table of its side with room for all that this request takes from it.
fn choose_tables(state: &State, wants: &[Want]) -> Result<(Vec<TableId>, BTreeMap<TableId, u64>), MintError> {
    let mut totals: BTreeMap<TableId, u64> = BTreeMap::new();
    let mut chosen = Vec::with_capacity(wants.len());
    for want in wants {
        let Want { peer, side, bytes, .. } = *want;
        if bytes == 0 || bytes > RUN_BYTES_MAX {
            return Err(MintError::BadLength { bytes });
        }
        let (tables, apart): (Vec<_>, Vec<_>) =
            state.active_with(peer, side).into_iter().partition(|table| table.may_mint());
        let with_it =
            |table: &Table| totals.get(&table.record.table).copied().unwrap_or(0).saturating_add(bytes);
        let Some(table) = tables.iter().find(|table| table.own_lane().fit(with_it(table)).is_some()) else {
            let left = tables.iter().map(|table| table.own_lane().left_for_messages()).max();
            return Err(match left {
                _ if !apart.is_empty() => MintError::NotSynced { peer },
                Some(left) => MintError::Exhausted { peer, wanted: bytes, left },
                None => MintError::NoTable { peer, side },
            });
        };
        let total = with_it(table);
        totals.insert(table.record.table, total);
        chosen.push(table.record.table);
    }
    Ok((chosen, totals))
}

/// The planted fault accepts runs that are used only once they are erased.
fn fault_spares(used: bool, bytes: &[u8]) -> bool {
    planted(Fault::ErasedPadAccepted) && used && bytes.iter().any(|&byte| byte != 0)
}

fn take(state: &mut State, want: &Want, table: &TableId) -> Result<Option<Minted>, StoreError> {
    let Some(entry) = state.tables.get_mut(table) else { return Ok(None) };
    let lane = entry.own_lane_mut();
    let Some((offset, pad)) = lane.take(want.bytes) else { return Ok(None) };
    lane.count_use(want.usage, want.bytes)?;
    let range = PadRange { table: *table, lane: lane.lane, offset, len: want.bytes };
    Ok(Some(Minted { peer: want.peer, range, pad }))
}
