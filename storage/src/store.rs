//! The store as the node sees it: requests in, replies through channels, three threads behind.
//!
//! Calls may come from asynchronous code: none waits for the disk, except that a caller waits while a queue
//! is full, which lasts one group commit or one checkpoint of the journal. Reads of the ledger are served
//! from memory as a rule.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        mpsc::{SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use dske_protocol::{
    effect::LaneMarks,
    ids::{BlockId, KeyId, NodeId, PadRange, TableId},
    limits::LimitsRecord,
    pad::PadBytes,
    sync::Said,
};
use futures::channel::oneshot;
use serde::de::DeserializeOwned;

use crate::{
    create,
    engine::Engine,
    error::{HoldRefusal, MarksRefusal, MintError, StoreError, TakeError, TakeRefusal},
    group::Job,
    install::{NewTable, ReceiptRecord},
    keys::{KeyRange, WaitingBlock, ended_blocks, is_known, waiting},
    layout,
    ledger::{Draft, block_key, clock_key, kind},
    lock::DirLock,
    lock_short,
    pads::MintOutcome,
    records::{
        BlockRecord, BudgetRecord, ClientRecord, ClockRecord, ExclusionRecord, HubRecord, IdentityRecord,
        ModuleRecord, StreamRecord,
    },
    secret::SecretBytes,
    status::{TableSide, TableStatus},
    transaction::{HoldWant, Minted, OutboxEntry, OutboxId, Transaction, Want},
    wait::wait,
    worker::{EraserBell, PadJob, run_commits, run_erasures, run_pads},
};

/// Requests that wait in each queue; more than a hub's connections can have in flight at once.
const QUEUE_JOBS_MAX: usize = 1024;

/// The answer to a request. Cancelled only where the store was closed before it could answer.
pub type Reply<T> = oneshot::Receiver<T>;

/// How a store works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Most bytes of a lane that are reserved at once, and so lost by a crash: a lane's chunk is 1/128 of it,
    /// at least 4 KiB and at most this.
    pub chunk_bytes_max: u64,
    /// How long used bytes wait to be erased together.
    pub erase_delay_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { chunk_bytes_max: 65_536, erase_delay_ms: 200 }
    }
}

/// A store that is open. Clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    open: RwLock<Option<Open>>,
    threads: Mutex<Option<Threads>>,
}

struct Open {
    engine: Arc<Engine>,
    pads: SyncSender<PadJob>,
    commits: SyncSender<Job>,
}

struct Threads {
    pads: JoinHandle<()>,
    commits: JoinHandle<()>,
    eraser: JoinHandle<()>,
    bell: Arc<EraserBell>,
    _lock: Option<DirLock>,
}

impl Store {
    /// Makes a new store in a directory that is empty or not there yet.
    ///
    /// # Errors
    /// [`StoreError::Exists`] where there is something, or the system's refusal.
    pub fn create(dir: &Path) -> Result<(), StoreError> {
        create::create(dir)
    }

    /// Opens a store and erases again whatever was used before.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process has it; [`StoreError::Missing`] or
    /// [`StoreError::Damaged`] where something that it needs is not there. A table whose records disagree
    /// does not stop it: that one is quarantined.
    pub fn open(dir: &Path, options: Options) -> Result<Self, StoreError> {
        let (engine, lock) = create::open(dir, options.chunk_bytes_max)?;
        Self::start(engine, options, Some(lock))
    }

    /// Whether a process has the store open. The system tells it of a process that was killed until the very
    /// last of it is gone.
    pub fn is_open_elsewhere(dir: &Path) -> bool {
        DirLock::is_taken(dir)
    }

    /// How many tables have files in a store, which may be open elsewhere; none where nobody can tell.
    pub fn count_tables(dir: &Path) -> u64 {
        std::fs::read_dir(layout::lanes_dir(dir)).map_or(0, |tables| tables.flatten().count() as u64)
    }

    pub(crate) fn start(engine: Engine, options: Options, lock: Option<DirLock>) -> Result<Self, StoreError> {
        let engine = Arc::new(engine);
        let bell = Arc::new(EraserBell::default());
        let (pads, pad_jobs) = sync_channel(QUEUE_JOBS_MAX);
        let (commits, commit_jobs) = sync_channel(QUEUE_JOBS_MAX);
        let delay = Duration::from_millis(options.erase_delay_ms);
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.to_owned());
            thread.spawn(work).map_err(|error| StoreError::io("start threads for", &engine.dir, &error))
        };
        let threads = Threads {
            pads: {
                let (engine, bell, commits) = (engine.clone(), bell.clone(), commits.clone());
                spawn("dske-pads", Box::new(move || run_pads(&engine, &pad_jobs, &commits, &bell)))?
            },
            commits: {
                let (engine, bell) = (engine.clone(), bell.clone());
                spawn("dske-commit", Box::new(move || run_commits(&engine, &commit_jobs, &bell)))?
            },
            eraser: {
                let (engine, bell) = (engine.clone(), bell.clone());
                spawn("dske-erase", Box::new(move || run_erasures(&engine, &bell, delay)))?
            },
            bell,
            _lock: lock,
        };
        // What opening found, quarantines and erasures, is done at once.
        threads.bell.ring();
        let _ = commits.send(Job::Save(Vec::new()));
        let open = RwLock::new(Some(Open { engine, pads, commits }));
        Ok(Self { inner: Arc::new(Inner { open, threads: Mutex::new(Some(threads)) }) })
    }

    /// Finishes what is under way, erases what is used, syncs, ends the threads and lets the directory go.
    /// Every later call fails with [`StoreError::Closed`].
    ///
    /// # Errors
    /// The failure that poisoned the store, where there was one.
    pub fn close(&self) -> Result<(), StoreError> {
        self.inner.close()
    }

    // -- tables and records

    /// The tables as they stand; empty after [`Store::close`].
    pub fn tables(&self) -> Vec<TableStatus> {
        self.engine().map(|engine| engine.tables()).unwrap_or_default()
    }

    /// The tables that are shared with a peer and not retired; the others are not copied.
    pub fn tables_of(&self, peer: &NodeId) -> Vec<TableStatus> {
        self.engine().map(|engine| engine.tables_of(peer)).unwrap_or_default()
    }

    /// Whether a table is out of use for good.
    pub fn is_retired(&self, table: &TableId) -> bool {
        self.engine().is_ok_and(|engine| engine.is_retired(table))
    }

    /// The clients that this hub serves.
    ///
    /// # Errors
    /// A failed or closed store; the same for the other lists.
    pub fn clients(&self) -> Result<Vec<ClientRecord>, StoreError> {
        self.all("client", kind::CLIENT)
    }

    /// The hubs that this client uses.
    #[allow(clippy::missing_errors_doc)]
    pub fn hubs(&self) -> Result<Vec<HubRecord>, StoreError> {
        self.all("hub", kind::HUB)
    }

    /// The identities that have been established.
    #[allow(clippy::missing_errors_doc)]
    pub fn identities(&self) -> Result<Vec<IdentityRecord>, StoreError> {
        self.all("identity", kind::IDENTITY)
    }

    /// The hubs that are excluded.
    #[allow(clippy::missing_errors_doc)]
    pub fn exclusions(&self) -> Result<Vec<ExclusionRecord>, StoreError> {
        self.all("exclusion", kind::EXCLUSION)
    }

    /// The modules made or imported here, by serial.
    #[allow(clippy::missing_errors_doc)]
    pub fn modules(&self) -> Result<Vec<ModuleRecord>, StoreError> {
        self.all("module", kind::MODULE)
    }

    /// What accounts of quotas had spent.
    #[allow(clippy::missing_errors_doc)]
    pub fn budgets(&self) -> Result<Vec<BudgetRecord>, StoreError> {
        self.all("budget", kind::BUDGET)
    }

    /// Limits that receivers have set: here, or as they are known to stand at hubs.
    #[allow(clippy::missing_errors_doc)]
    pub fn limits(&self) -> Result<Vec<LimitsRecord>, StoreError> {
        self.all("limits", kind::LIMITS)
    }

    /// The node's own clocks as they were last recorded.
    #[allow(clippy::missing_errors_doc)]
    pub fn clock(&self) -> Result<Option<ClockRecord>, StoreError> {
        self.engine()?.ledger.get("clock", &clock_key())
    }

    /// The latest agreements, newest first.
    #[allow(clippy::missing_errors_doc)]
    pub fn blocks(&self, limit: usize) -> Result<Vec<BlockRecord>, StoreError> {
        let engine = self.engine()?;
        let ids: Vec<BlockId> = engine.ledger.last("block time", kind::BLOCK_BY_TIME, limit)?;
        let record = |id: &BlockId| engine.ledger.get("block", &block_key(kind::BLOCK, id)).transpose();
        ids.iter().filter_map(record).collect()
    }

    /// One agreement.
    #[allow(clippy::missing_errors_doc)]
    pub fn block(&self, id: &BlockId) -> Result<Option<BlockRecord>, StoreError> {
        self.engine()?.ledger.get("block", &block_key(kind::BLOCK, id))
    }

    /// Whether a block id has been used, also where the agreement's record is not kept any longer.
    #[allow(clippy::missing_errors_doc)]
    pub fn is_block_known(&self, id: &BlockId) -> Result<bool, StoreError> {
        is_known(&Draft::new(&self.engine()?.ledger), id)
    }

    /// The agreements on record of which no key waits, with their time on the node's own clock of age. Reads all
    /// records.
    #[allow(clippy::missing_errors_doc)]
    pub fn ended_blocks(&self) -> Result<Vec<(BlockId, u64)>, StoreError> {
        ended_blocks(&self.engine()?.ledger)
    }

    // -- pads

    /// Exclusive, volatile hold on runs of the lanes that the peer allocates, and their bytes. Each is then
    /// claimed by a transaction or released.
    pub fn hold(&self, wants: Vec<HoldWant>) -> Reply<Vec<Result<PadBytes, HoldRefusal>>> {
        let (reply, answer) = oneshot::channel();
        match self.ready() {
            Ok(open) => drop(open.pads.send(PadJob::Hold(wants, reply))),
            Err(error) => {
                let refused = wants.iter().map(|_| Err(HoldRefusal::Store(error.clone())));
                drop(reply.send(refused.collect()));
            }
        }
        answer
    }

    /// Gives a held run back unburned. `forged_blocks`: the length of a message whose tag failed, in 16-byte
    /// blocks; it counts against the table's forgery budget, durably with the next group.
    pub fn release(&self, range: PadRange, forged_blocks: Option<u64>) {
        let Ok(open) = self.ready() else { return };
        if open.engine.release(range, forged_blocks) {
            let _ = open.commits.try_send(Job::Save(Vec::new()));
        }
    }

    /// Takes runs out of lanes that this node allocates: all or nothing. Without I/O as long as enough is
    /// reserved.
    pub fn mint(&self, wants: Vec<Want>) -> Reply<Result<Vec<Minted>, MintError>> {
        let (reply, answer) = oneshot::channel();
        let open = match self.ready() {
            Ok(open) => open,
            Err(error) => {
                drop(reply.send(Err(error.into())));
                return answer;
            }
        };
        let outcome = {
            let mut state = lock_short(&open.engine.state);
            // Whoever waits for a reservation comes first.
            let outcome = if state.mints_waiting == 0 {
                open.engine.mint(&mut state, &wants)
            } else {
                Ok(MintOutcome::Reserve(Vec::new()))
            };
            if matches!(outcome, Ok(MintOutcome::Reserve(_))) {
                state.mints_waiting += 1;
            }
            outcome
        };
        match outcome {
            Ok(MintOutcome::Ready(minted, low)) => {
                drop(reply.send(Ok(minted)));
                low.into_iter().for_each(|table| drop(open.pads.send(PadJob::Refill(table))));
            }
            Ok(MintOutcome::Reserve(_)) => {
                if open.pads.send(PadJob::Mint(wants, reply)).is_err() {
                    lock_short(&open.engine.state).mints_waiting -= 1;
                }
            }
            Err(error) => drop(reply.send(Err(error))),
        }
        answer
    }

    // -- comparing marks

    /// How far the lanes of a table that is shared with `peer` have come, of which this node is the `side`. With `reserve` the lane that this node
    /// allocates is filled up first, so that its mark covers what will be handed out next.
    pub fn marks(
        &self,
        peer: NodeId,
        side: TableSide,
        table: TableId,
        reserve: bool,
    ) -> Reply<Result<LaneMarks, MarksRefusal>> {
        let (reply, answer) = oneshot::channel();
        match self.ready() {
            Ok(open) => drop(open.pads.send(PadJob::Marks(peer, side, table, reserve, reply))),
            Err(error) => drop(reply.send(Err(error.into()))),
        }
        answer
    }

    /// Takes the tag key of a mark in the lane that this node allocates in `table`, at the first free place at or after
    /// `at`, without giving up what lies before it.
    pub fn mint_sync(&self, table: TableId, at: u64) -> Reply<Result<Minted, MintError>> {
        let (reply, answer) = oneshot::channel();
        match self.ready() {
            Ok(open) => drop(open.pads.send(PadJob::MintSync(table, at, reply))),
            Err(error) => drop(reply.send(Err(error.into()))),
        }
        answer
    }

    /// The marks of a table have been compared with the peer: messages may be exchanged under it.
    pub fn open_table(&self, table: &TableId) {
        if let Ok(engine) = self.engine() {
            engine.open_table(table);
        }
    }

    /// The comparison of a table has lapsed: what its peer sends under it is refused until it is done again.
    pub fn shut_table(&self, table: &TableId) {
        if let Ok(engine) = self.engine() {
            engine.shut_table(table);
        }
    }

    /// What hubs say about this directory having been put back, and has not been dealt with.
    pub fn said_put_back(&self) -> BTreeMap<NodeId, Said> {
        self.engine().map_or_else(|_| BTreeMap::new(), |engine| engine.said_put_back())
    }

    /// The peer does not use a table any more: nothing is taken from it until it is compared again.
    pub fn leave_table(&self, table: &TableId) {
        if let Ok(engine) = self.engine() {
            engine.leave_table(table);
        }
    }

    /// The connection to a peer is gone: what it sends under its tables of which this node is the `side` is refused
    /// until their marks are compared again.
    pub fn close_tables(&self, peer: NodeId, side: TableSide) {
        if let Ok(engine) = self.engine() {
            engine.close_tables(peer, side);
        }
    }

    /// Gives up everything before `to` in the lane that this node allocates in `table`, durably: the peer
    /// has seen it used.
    pub fn skip(&self, table: TableId, to: u64) -> Reply<Result<(), StoreError>> {
        let (reply, answer) = oneshot::channel();
        match self.ready() {
            Ok(open) => drop(open.pads.send(PadJob::Skip(table, to, reply))),
            Err(error) => drop(reply.send(Err(error))),
        }
        answer
    }

    /// Makes a transaction durable, together with others that are waiting.
    pub fn commit(&self, transaction: Transaction) -> Reply<Result<(), StoreError>> {
        let (reply, answer) = oneshot::channel();
        self.send(reply, |reply| Job::Commit(Box::new(transaction), None, reply));
        answer
    }

    // -- outbox

    /// An id for a new message. Never repeated, also after a restart.
    pub fn next_outbox_id(&self) -> OutboxId {
        // After closing no message can be committed, so the id does not matter.
        self.engine().map_or(OutboxId(u64::MAX), |engine| engine.next_outbox_id())
    }

    /// The messages that wait, oldest first.
    pub fn outbox(&self) -> Vec<OutboxEntry> {
        self.engine().map(|engine| engine.outbox_entries()).unwrap_or_default()
    }

    /// The bytes of a message, exactly as they were. `None`: it is gone, and so is its entry; its pads stay
    /// burned and the agreement starts anew.
    pub fn outbox_read(&self, id: OutboxId) -> Reply<Result<Option<Vec<u8>>, StoreError>> {
        let (reply, answer) = oneshot::channel();
        match self.ready() {
            Ok(open) => drop(open.pads.send(PadJob::ReadOutbox(id, reply))),
            Err(error) => drop(reply.send(Err(error))),
        }
        answer
    }

    /// Waits until what is left of a retired table is destroyed. Blocks as long as writing zeros over it takes.
    ///
    /// # Errors
    /// [`StoreError::WrongState`] if the table is not retired; why its files cannot be overwritten or removed: the
    /// table stays retired, and the next start tries again.
    pub fn destroy_retired(&self, table: &TableId) -> Result<(), StoreError> {
        self.engine()?.destroy_retired(table)
    }

    // -- keys

    /// Hands a key out, at most once ever: it is recorded as taken, durably, then released, then erased.
    pub fn take_key(&self, id: KeyId) -> Reply<Result<SecretBytes, TakeError>> {
        self.take_keys(id, 1)
    }

    /// The same for so many consecutive keys of one block from `first` on: all of them, one after another, or none.
    pub fn take_keys(&self, first: KeyId, count: u32) -> Reply<Result<SecretBytes, TakeError>> {
        let (reply, answer) = oneshot::channel();
        let keys = KeyRange { block: first.block, first: first.index, count };
        match self.ready() {
            Ok(open) => drop(open.commits.send(Job::Take(keys, reply))),
            Err(error) => drop(reply.send(Err(error.into()))),
        }
        answer
    }

    /// The same for runs of keys of one block or several: all of them, in their order, or none.
    pub fn take_runs(&self, runs: &[(KeyId, u32)]) -> Reply<Result<Vec<SecretBytes>, TakeRefusal>> {
        let (reply, answer) = oneshot::channel();
        let range =
            |&(first, count): &(KeyId, u32)| KeyRange { block: first.block, first: first.index, count };
        match self.ready() {
            Ok(open) => drop(open.commits.send(Job::TakeRuns(runs.iter().map(range).collect(), reply))),
            Err(error) => drop(reply.send(Err(TakeRefusal { block: None, error: error.into() }))),
        }
        answer
    }

    /// The blocks whose keys wait, wholly or in part, oldest first.
    #[allow(clippy::missing_errors_doc)]
    pub fn waiting_blocks(&self) -> Result<Vec<WaitingBlock>, StoreError> {
        waiting(&self.engine()?.ledger)
    }

    /// The streams that this node keeps filled.
    #[allow(clippy::missing_errors_doc)]
    pub fn streams(&self) -> Result<Vec<StreamRecord>, StoreError> {
        self.all("stream", kind::STREAM)
    }

    /// Why the store stopped, where it did.
    pub fn poison_cause(&self) -> Option<String> {
        self.engine().ok()?.poison.get().cloned()
    }

    // -- inside the crate

    pub(crate) fn engine(&self) -> Result<Arc<Engine>, StoreError> {
        let open = self.inner.open.read().unwrap_or_else(PoisonError::into_inner);
        open.as_ref().map(|open| open.engine.clone()).ok_or(StoreError::Closed)
    }

    /// Makes a new table exist; waits until it is durable.
    pub(crate) fn install(&self, table: NewTable) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(reply, |reply| Job::Install(Box::new(table), reply));
        wait(answer).unwrap_or(Err(StoreError::Closed))
    }

    /// A transaction with the state of a receipt; waits until it is durable.
    pub(crate) fn commit_with_receipt(
        &self,
        transaction: Transaction,
        receipt: Option<ReceiptRecord>,
    ) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(reply, |reply| Job::Commit(Box::new(transaction), receipt, reply));
        wait(answer).unwrap_or(Err(StoreError::Closed))
    }

    /// Sends a request to the committer.
    fn send(
        &self,
        reply: oneshot::Sender<Result<(), StoreError>>,
        job: impl FnOnce(oneshot::Sender<Result<(), StoreError>>) -> Job,
    ) {
        match self.ready() {
            Ok(open) => drop(open.commits.send(job(reply))),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn ready(&self) -> Result<Open, StoreError> {
        let open = self.inner.open.read().unwrap_or_else(PoisonError::into_inner);
        let open = open.as_ref().ok_or(StoreError::Closed)?;
        open.engine.check()?;
        Ok(Open { engine: open.engine.clone(), pads: open.pads.clone(), commits: open.commits.clone() })
    }

    fn all<T: DeserializeOwned>(&self, what: &'static str, kind: &[u8]) -> Result<Vec<T>, StoreError> {
        self.engine()?.ledger.all(what, kind)
    }
}

impl Inner {
    fn close(&self) -> Result<(), StoreError> {
        let open = self.open.write().unwrap_or_else(PoisonError::into_inner).take();
        let threads = lock_short(&self.threads).take();
        let (Some(Open { engine, pads, commits }), Some(threads)) = (open, threads) else { return Ok(()) };
        drop(pads);
        let joined = threads.pads.join();
        drop(commits);
        let joined = threads.commits.join().and(joined);
        threads.bell.close();
        let joined = threads.eraser.join().and(joined);
        let saved = engine.save_rest().and_then(|()| engine.settle(1));
        drop(engine);
        joined.map_err(|_| StoreError::Poisoned { cause: "a thread of the store stopped".to_owned() })?;
        saved
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The last clone went without `close`; whoever wants to know of a failure calls that.
        if let Err(error) = self.close() {
            tracing::error!(%error, "the store did not close cleanly");
        }
    }
}
