//! Group commit: many requests, one sync of each touched segment, one batch and one sync of the ledger's
//! journal. Short messages stand in the ledger, so the usual group of a hub touches no segment at all.
//!
//! A request that is wrong in itself fails alone and leaves no trace in the batch; a failed write fails all
//! of them and poisons the store. Nothing is answered before everything is on the device.

use std::collections::{BTreeMap, BTreeSet};

use dske_protocol::{
    ids::{PadRange, TableId},
    limits::LimitsRecord,
    planted::{Fault, planted},
    quota::Account,
    wiped::Wiped,
};
use futures::channel::oneshot;

use crate::{
    clients::put_client,
    codec::encode,
    engine::{Engine, State},
    erasures::Erasure,
    error::{StoreError, TakeError, TakeRefusal},
    install::{NewTable, ReceiptRecord, put_receipt},
    intervals::IntervalSet,
    keys::{
        KeyRange, check_block, checked, find_keys, forget_block, is_known, mark_taken, put_block, run_bytes,
        void_block, with_checks,
    },
    lane_header::Counts,
    layout,
    ledger::{Draft, clock_key, key, kind, lane_key, node_key, table_key},
    lock_short,
    marks::{Brought, apply_sync, check_sync, put_used, void_keys},
    outbox::{INLINE_BYTES_MAX, INLINE_TOTAL_BYTES_MAX, Place, StoredItem, Waiting},
    records::{IdentityRecord, ModuleRecord},
    secret::SecretBytes,
    spool::Run,
    status::{LaneStatus, Use},
    table::{LaneRecord, Table},
    transaction::{NewBlock, OutboxEntry, OutboxId, OutboxItem, Transaction},
};

/// Ranges of each segment.
type IntervalsBySegment = BTreeMap<u32, IntervalSet>;

/// One request to the committer.
pub(crate) enum Job {
    Commit(Box<Transaction>, Option<ReceiptRecord>, oneshot::Sender<Result<(), StoreError>>),
    Take(KeyRange, oneshot::Sender<Result<SecretBytes, TakeError>>),
    /// Runs of keys, all or none.
    TakeRuns(Vec<KeyRange>, oneshot::Sender<Result<Vec<SecretBytes>, TakeRefusal>>),
    /// A table whose lanes are in place, with the records that came with it.
    Install(Box<NewTable>, oneshot::Sender<Result<(), StoreError>>),
    /// Save what changed without a request: forgery budgets, quarantines, dropped messages.
    Save(Vec<OutboxId>),
}

/// Answers that wait for the group.
enum Answer {
    Commit(oneshot::Sender<Result<(), StoreError>>),
    Take(oneshot::Sender<Result<SecretBytes, TakeError>>, Wiped),
    TakeRuns(oneshot::Sender<Result<Vec<SecretBytes>, TakeRefusal>>, Vec<Wiped>),
    Install(oneshot::Sender<Result<(), StoreError>>, Box<Table>),
}

/// What a group will do.
struct Group<'a> {
    draft: Draft<'a>,
    outbox_segments: BTreeSet<u32>,
    key_segments: BTreeSet<u32>,
    erasures: Vec<Erasure>,
    /// Tables whose marks it changes.
    held_back: BTreeSet<TableId>,
    answers: Vec<Answer>,
}

/// Room that a transaction has been given, in its order.
#[derive(Default)]
struct Room {
    /// `None` where the message goes into its record.
    outbox: Vec<Option<Run>>,
    keys: Vec<Option<(Run, u32)>>,
}

impl Engine {
    /// Does a group of requests and answers them.
    pub(crate) fn commit_group(&self, jobs: Vec<Job>) {
        let mut group = Group {
            draft: Draft::new(&self.ledger),
            outbox_segments: BTreeSet::new(),
            key_segments: BTreeSet::new(),
            erasures: Vec::new(),
            held_back: BTreeSet::new(),
            answers: Vec::new(),
        };
        for job in jobs {
            self.add_job(&mut group, job);
        }
        let mut result = self.check().and_then(|()| self.write_group(&mut group));
        if planted(Fault::FailedWriteReportedAsDone) {
            result = Ok(());
        }
        if result.is_ok() {
            self.erase_later(std::mem::take(&mut group.erasures));
            let mut state = lock_short(&self.state);
            for table in &group.held_back {
                state.tables.get_mut(table).into_iter().for_each(Table::let_out);
            }
        }
        for answer in group.answers {
            // A caller that has gone away has lost its answer, not its effect.
            match answer {
                Answer::Commit(reply) => drop(reply.send(result.clone())),
                Answer::Take(reply, mut bytes) => drop(reply.send(match &result {
                    Ok(()) => Ok(SecretBytes::new(std::mem::take(&mut *bytes))),
                    Err(error) => Err(TakeError::Store(error.clone())),
                })),
                Answer::TakeRuns(reply, runs) => drop(reply.send(match &result {
                    Ok(()) => {
                        let secret = |mut bytes: Wiped| SecretBytes::new(std::mem::take(&mut *bytes));
                        Ok(runs.into_iter().map(secret).collect())
                    }
                    Err(error) => Err(TakeRefusal { block: None, error: TakeError::Store(error.clone()) }),
                })),
                Answer::Install(reply, table) => {
                    if result.is_ok() {
                        lock_short(&self.state).tables.insert(table.record.table, *table);
                    }
                    drop(reply.send(result.clone()));
                }
            }
        }
    }

    fn write_group(&self, group: &mut Group<'_>) -> Result<(), StoreError> {
        self.fatal(self.outbox_spool.sync(group.outbox_segments.iter().copied()))?;
        if !planted(Fault::KeyBytesNotSynced) {
            self.fatal(self.key_spool.sync(group.key_segments.iter().copied()))?;
        }
        self.put_unsaved(&mut group.draft)?;
        self.fatal(self.ledger.commit(&group.draft.batch))
    }

    fn add_job(&self, group: &mut Group<'_>, job: Job) {
        match job {
            Job::Commit(transaction, receipt, reply) => {
                match self.add_transaction(group, &transaction, receipt.as_ref()) {
                    Ok(()) => group.answers.push(Answer::Commit(reply)),
                    Err(error) => {
                        self.let_go(&transaction.claims);
                        drop(reply.send(Err(error)));
                    }
                }
            }
            Job::Install(table, reply) => match self.add_table(&mut group.draft, *table) {
                Ok(table) => group.answers.push(Answer::Install(reply, Box::new(table))),
                Err(error) => drop(reply.send(Err(error))),
            },
            Job::Take(keys, reply) => match self.add_takes(group, &[keys]) {
                Ok(mut bytes) => group.answers.push(Answer::Take(reply, bytes.pop().unwrap_or_default())),
                Err(refusal) => drop(reply.send(Err(refusal.error))),
            },
            Job::TakeRuns(runs, reply) => match self.add_takes(group, &runs) {
                Ok(bytes) => group.answers.push(Answer::TakeRuns(reply, bytes)),
                Err(refusal) => drop(reply.send(Err(refusal))),
            },
            Job::Save(dropped) => {
                let mut state = lock_short(&self.state);
                let removed = dropped.into_iter().try_for_each(|id| remove_message(group, &mut state, id));
                drop(state);
                // Whoever waits for the group is told, for the store is at its end.
                let _ = self.fatal(removed);
            }
        }
    }

    /// Gives back what a refused transaction would have claimed: the same messages may come again.
    fn let_go(&self, claims: &[(PadRange, Use)]) {
        for (range, _) in claims {
            self.release(*range, None);
        }
    }

    /// Takes runs of keys: all of them are there, unlike each other and sound, or none is taken.
    fn add_takes(&self, group: &mut Group<'_>, runs: &[KeyRange]) -> Result<Vec<Wiped>, TakeRefusal> {
        let whole = |error: StoreError| TakeRefusal { block: None, error: error.into() };
        self.check().map_err(whole)?;
        let (mut places, mut bytes) = (IntervalsBySegment::default(), Vec::with_capacity(runs.len()));
        let mut found = Vec::with_capacity(runs.len());
        for keys in runs {
            let refused = |error: TakeError| TakeRefusal { block: Some(keys.block), error };
            let run = find_keys(&group.draft, *keys).map_err(refused)?;
            let (of, end) = (places.entry(run.segment).or_default(), run.offset + run.len);
            if of.overlaps(run.offset, end) {
                return Err(whole(StoreError::invalid("keys that are asked for twice at once")));
            }
            of.insert(run.offset, end);
            let read = self.key_spool.read(run).and_then(|read| checked(&read, *keys));
            bytes.push(read.map_err(|error| refused(error.into()))?);
            found.push(run);
        }
        for keys in runs {
            self.fatal(mark_taken(&mut group.draft, *keys)).map_err(whole)?;
        }
        group.erasures.extend(found.into_iter().map(Erasure::Key));
        Ok(bytes)
    }

    fn add_transaction(
        &self,
        group: &mut Group<'_>,
        transaction: &Transaction,
        receipt: Option<&ReceiptRecord>,
    ) -> Result<(), StoreError> {
        self.check()?;
        check_blocks(&group.draft, transaction)?;
        let room = self.find_room(transaction)?;
        let added = self
            .write_room(transaction, &room)
            .and_then(|()| self.add_records(group, transaction, &room, receipt));
        match added {
            Ok(()) => {
                group.outbox_segments.extend(room.outbox.iter().flatten().map(|run| run.segment));
                group.key_segments.extend(room.keys.iter().flatten().map(|(run, _)| run.segment));
            }
            // Nothing refers to what may have been written; it has to be zero before the room is used again.
            Err(_) => group.erasures.extend(room.into_erasures()),
        }
        added
    }

    fn find_room(&self, transaction: &Transaction) -> Result<Room, StoreError> {
        let mut room = Room::default();
        // Only this thread adds messages.
        let mut inline_left =
            INLINE_TOTAL_BYTES_MAX.saturating_sub(lock_short(&self.state).outbox_inline_bytes);
        let mut fill = || {
            for item in &transaction.outbox {
                let bytes = item.bytes.len() as u64;
                let inline = bytes <= INLINE_BYTES_MAX.min(inline_left);
                inline_left -= if inline { bytes } else { 0 };
                room.outbox.push(if inline { None } else { Some(self.outbox_spool.allocate(bytes)?) });
            }
            for block in &transaction.block {
                let keys = check_block(block)?;
                let bytes = block.key.as_ref().map(|key| run_bytes(key.len(), keys));
                let run = bytes.map(|bytes| self.key_spool.allocate(bytes)).transpose()?;
                room.keys.push(run.map(|run| (run, keys)));
            }
            Ok(())
        };
        let filled = fill();
        if filled.is_err() {
            let outbox = room.outbox.iter().flatten().try_for_each(|run| self.outbox_spool.give_back(*run));
            let keys = room.keys.iter().flatten().try_for_each(|(run, _)| self.key_spool.give_back(*run));
            self.fatal(outbox.and(keys))?;
        }
        filled.map(|()| room)
    }

    fn write_room(&self, transaction: &Transaction, room: &Room) -> Result<(), StoreError> {
        for (item, run) in transaction.outbox.iter().zip(&room.outbox) {
            if let Some(run) = run {
                self.fatal(self.outbox_spool.write(*run, &item.bytes))?;
            }
        }
        for (block, run) in transaction.block.iter().zip(&room.keys) {
            if let (Some(key), Some((run, _))) = (&block.key, run) {
                let bytes = with_checks(block.record.block, key.expose(), block.record.key_bytes);
                self.fatal(self.key_spool.write(*run, &bytes))?;
            }
        }
        Ok(())
    }

    /// Puts all records into a draft of their own first, so that a refusal leaves the group's as it was.
    fn add_records(
        &self,
        group: &mut Group<'_>,
        wanted: &Transaction,
        room: &Room,
        receipt: Option<&ReceiptRecord>,
    ) -> Result<(), StoreError> {
        let mut own = Draft::new(&self.ledger);
        put_records(&mut own, wanted)?;
        receipt.map_or(Ok(()), |receipt| put_receipt(&mut own, receipt))?;
        let turn = lock_short(&self.state).turn;
        for (block, keys) in wanted.block.iter().zip(&room.keys) {
            put_block(&mut own, &block.record, *keys, turn)?;
        }
        let mut items = Vec::with_capacity(wanted.outbox.len());
        for (item, run) in wanted.outbox.iter().zip(&room.outbox) {
            let bytes = item.bytes.len() as u64;
            let OutboxItem { id, receiver, sender, block, table, at_ms, .. } = *item;
            let entry = OutboxEntry { id, receiver, sender, block, table, at_ms, bytes };
            let place = run.map_or_else(|| Place::Inline(item.bytes.clone()), Place::Segment);
            let stored = StoredItem { entry, place, crc32: crc32fast::hash(&item.bytes) };
            own.put("message", outbox_key(item.id), &stored)?;
            items.push(Waiting::from(&stored));
        }
        let mut state = lock_short(&self.state);
        check_tables(&state, wanted)?;
        check_claims(&state, &wanted.claims)?;
        wanted.sync.as_ref().map_or(Ok(()), |sync| check_sync(&state, sync))?;
        // From here on nothing can be refused. Memory changes before the device does: that refuses more for
        // a moment, never less, and a failure of the device ends the store.
        group.draft.batch.append(&mut own.batch);
        items.into_iter().for_each(|waiting| state.add_message(waiting));
        let applied = self.apply(group, &mut state, wanted);
        drop(state);
        if let Some(turn) = self.fatal(applied)? {
            // What was taken in this group stays taken, and a block that it puts down is new, and announced as good.
            let voided = self.fatal(void_keys(&mut group.draft, turn))?;
            group.erasures.extend(voided);
        }
        for (block, reason) in &wanted.give_up {
            let void = self.fatal(void_block(&mut group.draft, *block, reason))?;
            group.erasures.extend(void.into_iter().map(Erasure::Key));
        }
        let forgotten = wanted.forget.iter().try_for_each(|block| forget_block(&mut group.draft, block));
        self.fatal(forgotten)
    }

    /// Changes the tables, lanes and messages in memory, and puts their records. What fails here has been done in part. Gives
    /// the turn before which keys that wait are void now.
    fn apply(
        &self,
        group: &mut Group<'_>,
        state: &mut State,
        wanted: &Transaction,
    ) -> Result<Option<u64>, StoreError> {
        let claimed = wanted.claims.iter().map(|(range, _)| range.table);
        for table in claimed.chain(wanted.sync.map(|sync| sync.table)) {
            if let Some(entry) = state.tables.get_mut(&table) {
                entry.hold_back();
                group.held_back.insert(table);
            }
        }
        apply_claims(group, state, &wanted.claims)?;
        let mut void_before = None;
        if let Some(sync) = &wanted.sync {
            let Brought { erasures, void } = apply_sync(&mut group.draft, state, sync)?;
            group.erasures.extend(erasures);
            void_before = void;
        }
        wanted.delivered.iter().try_for_each(|id| remove_message(group, state, *id))?;
        for table in &wanted.activate {
            let activation = state.next_activation();
            if let Some(entry) = state.tables.get_mut(table) {
                entry.activate(activation);
                state.unsaved.insert(*table);
            }
        }
        for table in &wanted.retire {
            retire(group, state, table)?;
            let dir = layout::table_dir(&self.dir, table);
            group.erasures.push(Erasure::Table { disk: self.disk.clone(), dir });
        }
        Ok(void_before)
    }
}

impl Room {
    fn into_erasures(self) -> impl Iterator<Item = Erasure> {
        let keys = self.keys.into_iter().flatten().map(|(run, _)| Erasure::Key(run));
        self.outbox.into_iter().flatten().map(Erasure::Outbox).chain(keys)
    }
}

/// Key of a message's record.
pub(crate) fn outbox_key(id: OutboxId) -> Vec<u8> {
    key(kind::OUTBOX, &[&id.0.to_be_bytes()])
}

/// Puts a module's record.
pub(crate) fn put_module(draft: &mut Draft<'_>, module: &ModuleRecord) -> Result<(), StoreError> {
    let key = [module_prefix(&module.serial), module.table.as_bytes().to_vec()].concat();
    draft.put("module", key, module)
}

/// What the keys of all modules with a serial begin with: two hubs of one name may give out the same one. No serial
/// has a zero byte in it.
pub(crate) fn module_prefix(serial: &str) -> Vec<u8> {
    key(kind::MODULE, &[serial.as_bytes(), &[0]])
}

fn put_records(draft: &mut Draft<'_>, wanted: &Transaction) -> Result<(), StoreError> {
    for record in &wanted.clients {
        put_client(draft, record)?;
    }
    for record in &wanted.hubs {
        draft.put("hub", node_key(kind::HUB, &record.node), record)?;
    }
    for record in &wanted.identities {
        let key = node_key(kind::IDENTITY, &record.node);
        // Further hubs that claim it do not make it younger; another name does, for others may have borne that before.
        let known: Option<IdentityRecord> = draft.get("identity", &key)?;
        let known = known.filter(|known| known.name == record.name);
        let established_ms = known.map_or(record.established_ms, |known| known.established_ms);
        draft.put("identity", key, &IdentityRecord { established_ms, ..record.clone() })?;
    }
    for hub in &wanted.readmit {
        draft.remove(node_key(kind::EXCLUSION, hub));
    }
    for record in &wanted.exclusions {
        draft.put("exclusion", node_key(kind::EXCLUSION, &record.hub), record)?;
    }
    for record in &wanted.budgets {
        draft.put("budget", budget_key(&record.account)?, record)?;
    }
    for account in &wanted.budgets_full {
        draft.remove(budget_key(account)?);
    }
    for record in &wanted.limits {
        draft.put("limits", limits_key(record), record)?;
    }
    for record in &wanted.streams {
        draft.put("stream", stream_key(&record.id()?), record)?;
    }
    for id in &wanted.streams_closed {
        draft.remove(stream_key(id));
    }
    if let Some(clock) = &wanted.clock {
        draft.put("clock", clock_key(), clock)?;
    }
    wanted.modules.iter().try_for_each(|record| put_module(draft, record))
}

fn stream_key(id: &[u8]) -> Vec<u8> {
    key(kind::STREAM, &[id])
}

/// A node may be a hub for another and a receiver at it.
fn limits_key(record: &LimitsRecord) -> Vec<u8> {
    key(kind::LIMITS, &[record.hub.as_bytes(), record.receiver.as_bytes()])
}

fn budget_key(account: &Account) -> Result<Vec<u8>, StoreError> {
    Ok(key(kind::BUDGET, &[&encode("account", account)?]))
}

fn check_blocks(draft: &Draft<'_>, wanted: &Transaction) -> Result<(), StoreError> {
    let mut own = BTreeSet::new();
    for NewBlock { record, .. } in &wanted.block {
        if is_known(draft, &record.block)? || !own.insert(record.block) {
            return Err(StoreError::BlockExists { block: record.block });
        }
    }
    Ok(())
}

fn check_tables(state: &State, wanted: &Transaction) -> Result<(), StoreError> {
    for table in wanted.activate.iter().chain(&wanted.retire) {
        if !state.tables.contains_key(table) && !state.retired.contains_key(table) {
            return Err(StoreError::UnknownTable { table: *table });
        }
    }
    let mut used = wanted.activate.iter().chain(wanted.outbox.iter().map(|item| &item.table));
    if let Some(table) = used.find(|table| state.retired.contains_key(table)) {
        return Err(StoreError::WrongState { table: *table, state: "retired".into(), action: "be used" });
    }
    wanted
        .activate
        .iter()
        .filter_map(|table| state.tables.get(table))
        .try_for_each(|table| table.check_activate())
}

fn check_claims(state: &State, claims: &[(PadRange, Use)]) -> Result<(), StoreError> {
    let mut own = BTreeSet::new();
    for (range, _) in claims {
        let lane = state.tables.get(&range.table).map(|table| table.lane(range.lane));
        let held = lane.zip(range.end()).is_some_and(|(lane, end)| lane.is_held(range.offset, end));
        if !held || !own.insert(*range) {
            return Err(StoreError::AlreadyUsed { range: *range });
        }
    }
    Ok(())
}

fn apply_claims(
    group: &mut Group<'_>,
    state: &mut State,
    claims: &[(PadRange, Use)],
) -> Result<(), StoreError> {
    for (range, usage) in claims {
        let PadRange { table, lane: name, offset, .. } = *range;
        let (Some(entry), Some(end)) = (state.tables.get_mut(&table), range.end()) else { continue };
        let lane = entry.lane_mut(name);
        lane.let_go(offset, end);
        let insertion = lane.used.insert(offset, end);
        lane.count_use(*usage, range.len)?;
        if planted(Fault::ClaimNotRecorded) {
            continue;
        }
        put_used(&mut group.draft, *range, &insertion)?;
        let record = LaneRecord { mark: lane.used_furthest(), counts: lane.counts };
        group.draft.put("lane", lane_key(&table, name), &record)?;
        let file = lane.file.clone();
        group.erasures.push(Erasure::Lane { table, lane: name, file, receiver: true, start: offset, end });
    }
    Ok(())
}

/// Takes a table and the messages under it out of use for good. Runs of it that are held are not any more, and
/// what is reserved is forgotten.
fn retire(group: &mut Group<'_>, state: &mut State, table: &TableId) -> Result<(), StoreError> {
    let under: Vec<_> =
        state.outbox.values().map(|w| w.entry).filter(|entry| entry.table == *table).collect();
    under.iter().try_for_each(|entry| remove_message(group, state, entry.id))?;
    let Some(entry) = state.tables.remove(table) else { return Ok(()) };
    let (record, status) = entry.retire()?;
    for lane in &status.lanes {
        // What was used and not recorded yet must not count as lost.
        let key = lane_key(table, lane.lane);
        let mut known: LaneRecord = group.draft.get("lane", &key)?.unwrap_or_default();
        let counts = known.counts.max(lane_counts(lane));
        // A table may be retired because its counts are damaged: those are not taken along.
        known.counts = if counts.total() <= lane.bytes { counts } else { lane_counts(lane) };
        group.draft.put("lane", key, &known)?;
    }
    group.draft.put("table", table_key(table), &record)?;
    state.retired.insert(*table, status);
    Ok(())
}

fn lane_counts(lane: &LaneStatus) -> Counts {
    Counts { key: lane.used_key, identity: lane.used_identity, sync: lane.used_sync }
}

fn remove_message(group: &mut Group<'_>, state: &mut State, id: OutboxId) -> Result<(), StoreError> {
    if let Some(waiting) = state.remove_message(id)? {
        group.draft.remove(outbox_key(id));
        group.erasures.extend(waiting.run.map(Erasure::Outbox));
    }
    Ok(())
}
