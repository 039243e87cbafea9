//! Loading a store: what only the journal held goes into the ledger first; what is missing of the store itself is an
//! error, a table that lacks a lane or whose records disagree is quarantined, what should be erased is erased again.
//! Nothing is ever treated as fresh.

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, OnceLock, atomic::AtomicU64},
};

use dske_protocol::{
    ids::{Lane, NodeId, TableId},
    planted::{Fault, planted},
    sync::{Restores, Said, keys_from},
};

use crate::{
    disk::Disk,
    engine::{Engine, State},
    erasures::Erasure,
    error::StoreError,
    intervals::IntervalSet,
    journaled_log::JournaledLog,
    keys::all_live_runs,
    lane_file::{LaneFile, LaneProblem, lane_file_name},
    lane_header::Counts,
    lane_state::LaneState,
    layout,
    ledger::{
        Draft, Ledger, compared_key, dealt_with_key, key, kind, lane_key, told_key, turn_key, used_prefix,
    },
    log::Log,
    outbox::StoredItem,
    spool::Spool,
    status::TableState,
    table::{Cause, ComparedRecord, LaneRecord, Table, TableRecord},
};

/// Version of everything in the directory. It grows with every change that an older release would misread.
pub(crate) const FORMAT: u32 = 6;

/// Ids of messages: the number of times that the store was opened, then a count.
const OUTBOX_IDS_PER_OPEN: u64 = 1 << 40;

/// Key of the store's id in the ledger.
pub(crate) fn identity_key() -> Vec<u8> {
    key(kind::META, &[b"identity"])
}

fn opens_key() -> Vec<u8> {
    key(kind::META, &[b"opens"])
}

/// Makes the directories of a new store and its first records.
pub(crate) fn format(
    dir: &Path,
    disk: &dyn Disk,
    log: Arc<dyn Log>,
    identity: [u8; 16],
    journal_bytes: u64,
) -> Result<(), StoreError> {
    for path in
        [layout::lanes_dir(dir), layout::imports_dir(dir), layout::outbox_dir(dir), layout::keys_dir(dir)]
    {
        disk.create_dir(&path).map_err(|error| StoreError::io("make", &path, &error))?;
    }
    let log = JournaledLog::create(log, disk, &layout::journal_file(dir), identity, journal_bytes)?;
    let ledger = Ledger::new(Arc::new(log));
    let mut draft = Draft::new(&ledger);
    draft.put("store identity", identity_key(), &(FORMAT, identity))?;
    draft.put("opens", opens_key(), &0u64)?;
    ledger.commit(&draft.batch)?;
    ledger.settle()
}

/// Loads a store whose id, as its `store` file tells it, is `identity`.
pub(crate) fn load(
    dir: &Path,
    disk: Arc<dyn Disk>,
    log: Arc<dyn Log>,
    identity: [u8; 16],
    chunk_bytes_max: u64,
    segment_bytes: u64,
) -> Result<Engine, StoreError> {
    make_empty_dirs(dir, &*disk)?;
    // Before anything is replayed into it.
    check_identity(&Ledger::new(log.clone()), dir, identity)?;
    let log = JournaledLog::open(log, &*disk, &layout::journal_file(dir), identity)?;
    let ledger = Ledger::new(Arc::new(log));
    let opens = ledger.get::<u64>("opens", &opens_key())?.unwrap_or(0) + 1;
    let mut draft = Draft::new(&ledger);
    draft.put("opens", opens_key(), &opens)?;

    let turn = ledger.get::<u64>("turn", &turn_key())?.unwrap_or(0) + 1;
    draft.put("turn", turn_key(), &turn)?;

    let mut state = State { turn, start: turn, restores: load_restores(&ledger)?, ..State::default() };
    let mut due = Vec::new();
    for record in ledger.all::<TableRecord>("table", kind::TABLE)? {
        if record.state == TableState::Retired {
            // A crash may have come before its pads were erased.
            due.push(Erasure::Table { disk: disk.clone(), dir: layout::table_dir(dir, &record.table) });
            let counts = retired_counts(&ledger, &record)?;
            state.retired.insert(record.table, record.retired(counts)?);
            continue;
        }
        let (mut table, sound) = load_table(dir, &*disk, &ledger, &mut draft, record, &mut due)?;
        let key = compared_key(&table.record.table);
        table.when = ledger.get::<ComparedRecord>("comparison", &key)?.unwrap_or_default();
        if table.unsure && table.when.unsure_since == 0 {
            table.when.unsure_since = turn;
            draft.put("comparison", key, &table.when)?;
        }
        if sound {
            // Found while the store ran, or what disagreed does not any more: the peer's word is awaited all the same.
            table.unsure = table.record.quarantine.as_ref().is_some_and(|was| !was.damaged);
        }
        state.unsaved.insert(table.record.table);
        state.tables.insert(table.record.table, table);
    }
    warn_of_strays(dir, &*disk, &state)?;
    let items: Vec<StoredItem> = ledger.all("message", kind::OUTBOX)?;
    items.iter().for_each(|item| state.add_message(item.into()));
    drop(items);
    let outbox_runs: Vec<_> = state.outbox.values().filter_map(|waiting| waiting.run).collect();
    let key_runs = all_live_runs(&ledger)?;
    let spool =
        |dir: &Path, live: &[_], must_exist| Spool::open(disk.clone(), dir, live, must_exist, segment_bytes);
    let outbox_spool = spool(&layout::outbox_dir(dir), &outbox_runs, false)?;
    let key_spool = spool(&layout::keys_dir(dir), &key_runs, true)?;
    ledger.commit(&draft.batch)?;
    Ok(Engine {
        dir: dir.to_owned(),
        disk,
        ledger,
        chunk_bytes_max,
        state: Mutex::new(state),
        outbox_spool,
        key_spool,
        due: Mutex::new(due),
        erasing: Mutex::default(),
        next_outbox: AtomicU64::new(if planted(Fault::OutboxIdReused) {
            0
        } else {
            opens.saturating_mul(OUTBOX_IDS_PER_OPEN)
        }),
        poison: OnceLock::new(),
        clients: Mutex::new(()),
        modules: Mutex::new(()),
    })
}

/// Directories of which nothing is needed that is not there: backups leave out what is empty. Of messages that wait the
/// ledger knows, and gives up those whose bytes are gone.
fn make_empty_dirs(dir: &Path, disk: &dyn Disk) -> Result<(), StoreError> {
    for path in [layout::imports_dir(dir), layout::outbox_dir(dir)] {
        let made = disk.exists(&path).and_then(|there| {
            if there {
                return Ok(());
            }
            disk.create_dir(&path)?;
            disk.sync_dir(dir)
        });
        made.map_err(|error| StoreError::io("make", &path, &error))?;
    }
    Ok(())
}

fn load_restores(ledger: &Ledger) -> Result<Restores, StoreError> {
    let dealt_with = ledger.get::<u64>("last restore", &dealt_with_key())?.unwrap_or(0);
    let mut said = Vec::new();
    for (hub, word) in ledger.pairs::<Said>("a hub's word", kind::PUT_BACK)? {
        let hub: [u8; 32] = hub.as_slice().try_into().map_err(|_| StoreError::Damaged {
            what: "the ledger's record of a hub's word",
            detail: "it names no hub".into(),
        })?;
        said.push((NodeId::new(hub), word));
    }
    Ok(Restores::new(dealt_with, said))
}

fn check_identity(ledger: &Ledger, dir: &Path, identity: [u8; 16]) -> Result<(), StoreError> {
    let damaged = |detail: &str| StoreError::Damaged { what: "the ledger", detail: detail.to_owned() };
    match ledger.get::<(u32, [u8; 16])>("store identity", &identity_key())? {
        None => Err(damaged("it does not say which store it belongs to: put the right one back")),
        Some((FORMAT, known)) if known == identity => Ok(()),
        Some((FORMAT, _)) => Err(damaged("it belongs to another store: put the right one back")),
        Some((found, _)) => Err(StoreError::OtherFormat { path: layout::ledger_dir(dir), found }),
    }
}

fn load_table(
    dir: &Path,
    disk: &dyn Disk,
    ledger: &Ledger,
    draft: &mut Draft<'_>,
    record: TableRecord,
    due: &mut Vec<Erasure>,
) -> Result<(Table, bool), StoreError> {
    let [up_bytes, down_bytes] = record.lane_bytes;
    let table = record.table;
    let (mut problems, mut ours, mut lost) = (Vec::new(), true, false);
    let mut load = |lane: Lane, bytes: u64| -> Result<LaneState, StoreError> {
        let allocator = record.side.allocates() == lane;
        let path = layout::table_dir(dir, &table).join(lane_file_name(lane));
        let (file, problem) = LaneFile::open(disk, &path, table, lane, bytes)?;
        ours &= problem.as_ref().is_none_or(|problem| !matches!(problem, LaneProblem::Foreign));
        let stored = ledger.get::<LaneRecord>("lane", &lane_key(&table, lane))?;
        let named = |problem: &dyn fmt::Display| format!("{lane} lane, {}: {problem}", path.display());
        if let Some(problem) = problem.filter(|problem| problem.is_lost()) {
            problems.push(named(&problem));
            lost = true;
            let counts = stored.map(|known| known.counts).filter(|counts| counts.total() <= bytes);
            return Ok(LaneState::lost(file.into(), lane, bytes, allocator, counts.unwrap_or_default()));
        }
        let problem = problem.map(|problem| problem.to_string());
        let told = ledger.get::<u64>("told mark", &told_key(&table, lane))?.unwrap_or(0);
        let used = load_used(ledger, &table, lane)?;
        let header = file.header();
        let known = stored.unwrap_or_default();
        let problem = problem.or_else(|| match stored {
            None => Some("the ledger has no record of it".to_owned()),
            Some(known) => disagreement(allocator, known.mark, header.mark, header.mark_before, &used, bytes),
        });
        let state = |mark: u64, counts: Counts, used: IntervalSet, file: LaneFile| {
            let mut lane = LaneState::new(Arc::new(file), lane, bytes, allocator, mark, counts, used);
            lane.told = told;
            lane
        };
        let counts = known.counts.max(header.counts);
        let touched = if allocator { header.mark + used.bytes_from(header.mark) } else { used.bytes_from(0) };
        let problem = problem.or_else(|| {
            let count = counts.total();
            (count > touched).then(|| format!("{count} bytes count as used, and {touched} can have been"))
        });
        if let Some(problem) = problem {
            problems.push(named(&problem));
            let mark = header.mark.max(known.mark).min(bytes);
            return Ok(state(mark, Counts::default(), IntervalSet::default(), file));
        }
        if allocator && header.mark != known.mark {
            // A crash between header and ledger; the header counts.
            draft.put("lane", lane_key(&table, lane), &LaneRecord { mark: header.mark, counts })?;
        }
        let mark = if planted(Fault::CursorNotSkipped) { header.mark_before } else { header.mark };
        let lane_state = state(mark, counts, used, file);
        due.extend(erase_again(table, &lane_state, header.floor));
        Ok(lane_state)
    };
    let lanes = [load(Lane::Up, up_bytes)?, load(Lane::Down, down_bytes)?];
    let mut loaded = Table::new(record, lanes);
    if !problems.is_empty() {
        let damaged = lost && !planted(Fault::LostLaneIsOld);
        loaded.quarantine(&problems.join("; "), if damaged { Cause::Damage } else { Cause::Disagreement });
        // A file of another lane has the wrong pads, whatever the peer says; nor does anything mend damage.
        loaded.unsure = ours && loaded.record.quarantine.as_ref().is_some_and(|was| !was.damaged);
        tracing::warn!(%table, state = %loaded.record.state, "a table cannot be used");
    }
    Ok((loaded, problems.is_empty()))
}

/// What header and ledger say that no crash can explain.
fn disagreement(
    allocator: bool,
    ledger: u64,
    header: u64,
    header_before: u64,
    used: &IntervalSet,
    bytes: u64,
) -> Option<String> {
    // Of messages: tag keys of marks lie apart, at the end.
    let furthest = used.furthest_below(keys_from(bytes));
    if used.furthest() > bytes {
        return Some("the ledger has used runs past its end".to_owned());
    }
    if header > bytes {
        return Some(format!("the file's header is at {header}, past its end at {bytes}"));
    }
    if allocator && ledger > header {
        // The header is written first, always.
        return Some(format!("the ledger is at {ledger}, ahead of the file's header at {header}"));
    }
    if allocator && ledger != header && ledger != header_before {
        return Some(format!(
            "the file's header is at {header}, more than one reservation ahead of the ledger at {ledger}"
        ));
    }
    if !allocator && header > furthest {
        // The ledger is written first here.
        return Some(format!("the file's header is at {header}, ahead of the ledger at {furthest}"));
    }
    if !allocator && ledger != furthest {
        return Some(format!("the ledger's used runs end at {furthest}, its mark is {ledger}"));
    }
    None
}

fn retired_counts(ledger: &Ledger, record: &TableRecord) -> Result<[Counts; 2], StoreError> {
    let counts = |lane| {
        let known = ledger.get::<LaneRecord>("lane", &lane_key(&record.table, lane))?;
        Ok(known.unwrap_or_default().counts)
    };
    Ok([counts(Lane::Up)?, counts(Lane::Down)?])
}

fn load_used(ledger: &Ledger, table: &TableId, lane: Lane) -> Result<IntervalSet, StoreError> {
    let mut used = IntervalSet::default();
    for (start, end) in ledger.pairs::<u64>("used run", &used_prefix(table, lane))? {
        let start = start.try_into().map(u64::from_be_bytes);
        let start = start
            .map_err(|_| StoreError::Damaged { what: "used run", detail: "its key is too short".into() })?;
        used.insert(start, end);
    }
    Ok(used)
}

/// Everything that is used or reserved above the floor.
fn erase_again(table: TableId, lane: &LaneState, floor: u64) -> Vec<Erasure> {
    let mut runs: Vec<(u64, u64)> = lane
        .used
        .iter()
        .map(|(start, end)| (start.max(floor), end))
        .filter(|(start, end)| start < end)
        .collect();
    if lane.mark > floor {
        runs.push((floor, lane.mark));
    }
    let erasure = |(start, end)| Erasure::Lane {
        table,
        lane: lane.lane,
        file: lane.file.clone(),
        receiver: !lane.allocator,
        start,
        end,
    };
    runs.into_iter().map(erasure).collect()
}

/// A table's directory without a record: a module that was being installed, or a ledger that is too old.
fn warn_of_strays(dir: &Path, disk: &dyn Disk, state: &State) -> Result<(), StoreError> {
    let lanes = layout::lanes_dir(dir);
    for path in disk.list(&lanes).map_err(|error| StoreError::io("list", &lanes, &error))? {
        let table =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<TableId>().ok());
        let known = |table: &TableId| state.tables.contains_key(table) || state.retired.contains_key(table);
        if table.is_some_and(|table| !known(&table)) {
            tracing::warn!(path = %path.display(), "a table without a record is not used; import its module again to finish it");
        }
    }
    Ok(())
}
