//! The three threads of a store, each a loop around one part of the engine: pads and reads, group commit
//! with the checkpoints of the journal, and erasure.

use std::{
    sync::{
        Condvar, Mutex,
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::Duration,
};

use dske_protocol::{
    effect::LaneMarks,
    ids::{NodeId, TableId},
    pad::PadBytes,
};
use futures::channel::oneshot;

use crate::{
    engine::Engine,
    error::{HoldRefusal, MarksRefusal, MintError, StoreError},
    group::Job,
    lock_short,
    status::TableSide,
    transaction::{HoldWant, Minted, OutboxId, Want},
};

/// Most requests that share one sync.
const GROUP_JOBS_MAX: usize = 256;

/// When the journal holds so many records, they go into the ledger between two groups.
const SETTLE_RECORDS: usize = 1000;
/// They also go when nobody has asked for anything so long: the ledger is then complete by itself.
const SETTLE_QUIET: Duration = Duration::from_secs(1);

/// What holding a run gives, in the order of the wants.
pub(crate) type Held = Vec<Result<PadBytes, HoldRefusal>>;

/// One request to the thread that reads and reserves.
pub(crate) enum PadJob {
    Hold(Vec<HoldWant>, oneshot::Sender<Held>),
    Mint(Vec<Want>, oneshot::Sender<Result<Vec<Minted>, MintError>>),
    MintSync(TableId, u64, oneshot::Sender<Result<Minted, MintError>>),
    Marks(NodeId, TableSide, TableId, bool, oneshot::Sender<Result<LaneMarks, MarksRefusal>>),
    Skip(TableId, u64, oneshot::Sender<Result<(), StoreError>>),
    Refill(TableId),
    ReadOutbox(OutboxId, oneshot::Sender<Result<Option<Vec<u8>>, StoreError>>),
}

/// Reads and reserves until the queue is closed.
pub(crate) fn run_pads(
    engine: &Engine,
    jobs: &Receiver<PadJob>,
    commits: &SyncSender<Job>,
    eraser: &EraserBell,
) {
    while let Ok(job) = jobs.recv() {
        match job {
            PadJob::Hold(wants, reply) => {
                if let Err(held) = reply.send(engine.hold(&wants)) {
                    // Nobody waits any longer.
                    let runs = wants.iter().zip(&held).filter(|(_, result)| result.is_ok());
                    for (want, _) in runs {
                        engine.release(want.range, None);
                    }
                }
            }
            PadJob::Mint(wants, reply) => {
                let result = engine.mint_reserving(&wants);
                lock_short(&engine.state).mints_waiting -= 1;
                drop(reply.send(result));
                refill_low(engine, &wants);
            }
            PadJob::MintSync(table, at, reply) => drop(reply.send(engine.mint_sync(table, at))),
            PadJob::Marks(peer, side, table, reserve, reply) => {
                drop(reply.send(engine.marks(peer, side, table, reserve)));
            }
            PadJob::Skip(table, to, reply) => drop(reply.send(engine.skip(table, to))),
            PadJob::Refill(table) => refill(engine, table),
            PadJob::ReadOutbox(id, reply) => {
                let read = engine.outbox_read(id);
                if matches!(read, Ok(None)) {
                    let _ = commits.send(Job::Save(vec![id]));
                }
                drop(reply.send(read));
            }
        }
        save(engine, commits);
        eraser.ring();
    }
}

/// After a slow request the next should find memory full.
fn refill_low(engine: &Engine, wants: &[Want]) {
    let low: Vec<TableId> = {
        let state = lock_short(&engine.state);
        let tables = wants.iter().flat_map(|want| state.active_with(want.peer, want.side));
        let low = |table: &&crate::table::Table| {
            table.own_lane().reserved() < table.own_lane().chunk_bytes(engine.chunk_bytes_max) / 2
        };
        tables.filter(low).map(|table| table.record.table).take(1).collect()
    };
    low.into_iter().for_each(|table| refill(engine, table));
}

fn refill(engine: &Engine, table: TableId) {
    // A failure to write has stopped the store; a failure to read will meet whoever wants the pad.
    if let Err(error) = engine.refill(table) {
        tracing::warn!(%table, %error, "pads could not be read ahead");
    }
}

/// A table that was quarantined here is saved by the committer; if its queue is full, its next group does.
fn save(engine: &Engine, commits: &SyncSender<Job>) {
    let unsaved = !lock_short(&engine.state).unsaved.is_empty();
    if unsaved {
        let _ = commits.try_send(Job::Save(Vec::new()));
    }
}

/// Commits groups until the queue is closed. A group is what came while the one before it was written: to
/// wait for more would cost more than the one sync that it saves.
pub(crate) fn run_commits(engine: &Engine, jobs: &Receiver<Job>, eraser: &EraserBell) {
    loop {
        let first = match jobs.recv_timeout(SETTLE_QUIET) {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => {
                settle(engine, 1);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let mut group = vec![first];
        group.extend(std::iter::from_fn(|| jobs.try_recv().ok()).take(GROUP_JOBS_MAX - 1));
        engine.commit_group(group);
        eraser.ring();
        settle(engine, SETTLE_RECORDS);
    }
}

/// A failure has stopped the store, and everybody will be told.
fn settle(engine: &Engine, records_min: usize) {
    let _ = engine.settle(records_min);
}

/// Wakes the eraser.
#[derive(Default)]
pub(crate) struct EraserBell {
    state: Mutex<Bell>,
    rung: Condvar,
}

#[derive(Default)]
struct Bell {
    due: bool,
    closing: bool,
}

impl EraserBell {
    /// There is something to erase.
    pub(crate) fn ring(&self) {
        lock_short(&self.state).due = true;
        self.rung.notify_one();
    }

    /// Erase what there is and end.
    pub(crate) fn close(&self) {
        lock_short(&self.state).closing = true;
        self.rung.notify_one();
    }

    /// Waits for work, then for more of it to gather. `false` at the end.
    fn wait(&self, delay: Duration) -> bool {
        let idle = |bell: &mut Bell| !bell.due && !bell.closing;
        let guard = lock_short(&self.state);
        let guard = self.rung.wait_while(guard, idle).unwrap_or_else(std::sync::PoisonError::into_inner);
        let open = |bell: &mut Bell| !bell.closing;
        let waited = self.rung.wait_timeout_while(guard, delay, open);
        let (mut guard, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        guard.due = false;
        !guard.closing
    }
}

/// Erases until the bell is closed, and once more then.
pub(crate) fn run_erasures(engine: &Engine, bell: &EraserBell, delay: Duration) {
    loop {
        let more = bell.wait(delay);
        // A failure has poisoned the store, and everybody will be told.
        let _ = engine.erase_due();
        if !more {
            return;
        }
    }
}
