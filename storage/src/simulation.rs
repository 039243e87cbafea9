//! The store without its threads, over a device in memory: for deterministic simulation.
//!
//! [`SimStore`] drives the very engine that [`crate::Store`] has threads for; what differs is that every call
//! is done when it returns. [`SimDevice`] is disk and log together: it can be copied, lose its power at any
//! write or sync, and be full.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use dske_protocol::{
    effect::LaneMarks,
    ids::{BlockId, KeyId, Lane, Name, NodeId, PadRange, TableId},
    limits::LimitsRecord,
    pad::PadBytes,
};
use futures::channel::oneshot;
use serde::de::DeserializeOwned;

pub use crate::sim::Keep;
use crate::{
    disk::Disk,
    engine::Engine,
    error::{HoldRefusal, MarksRefusal, MintError, StoreError, TakeError},
    group::Job,
    install::NewTable,
    keys::{KeyRange, checked, find_keys, is_known},
    lane_checks::{file_bytes, write_pads},
    lane_file::{LaneFile, lane_file_name},
    lane_header::{DATA_OFFSET, LaneHeader},
    layout,
    ledger::{Draft, block_key, kind},
    lock_short,
    open::{format, load},
    records::{
        BlockRecord, BudgetRecord, ClientRecord, ExclusionRecord, HubRecord, IdentityRecord, ModuleRecord,
        ModuleState,
    },
    secret::SecretBytes,
    sim::{Faults, SimDisk, SimLog},
    status::{Compared, TableSide, TableState, TableStatus},
    table::TableRecord,
    transaction::{HoldWant, Minted, OutboxEntry, OutboxId, Transaction, Want},
};

const DIR: &str = "/store";

/// The device of one node: its files and its ledger's log.
#[derive(Debug, Clone, Default)]
pub struct SimDevice {
    disk: SimDisk,
    log: SimLog,
    faults: Arc<Faults>,
}

impl SimDevice {
    /// An empty device.
    pub fn new() -> Self {
        let faults = Arc::<Faults>::default();
        Self { disk: SimDisk::new(faults.clone()), log: SimLog::new(faults.clone()), faults }
    }

    /// Writes and syncs so far.
    pub fn steps(&self) -> u64 {
        self.faults.steps.load(Ordering::SeqCst)
    }

    /// After so many more writes and syncs the next one fails, and every one after it.
    pub fn cut_after(&self, steps: u64) {
        self.faults.cut_from.store(self.steps() + steps + 1, Ordering::SeqCst);
    }

    /// Takes back [`Self::cut_after`], where it has not come to it.
    pub fn mend(&self) {
        self.faults.cut_from.store(0, Ordering::SeqCst);
    }

    /// Whether a write or sync has failed.
    pub fn is_cut(&self) -> bool {
        let from = self.faults.cut_from.load(Ordering::SeqCst);
        from != 0 && self.steps() >= from
    }

    /// Whether there is room for new files.
    pub fn set_full(&self, full: bool) {
        self.faults.full.store(full, Ordering::SeqCst);
    }

    /// What a power cut now would leave, as a device of its own without faults. [`Keep::All`] is a copy.
    #[must_use]
    pub fn after_power_cut(&self, keep: Keep) -> Self {
        let faults = Arc::<Faults>::default();
        let disk = self.disk.crashed(keep, faults.clone());
        Self { disk, log: self.log.crashed(keep, faults.clone()), faults }
    }

    /// This device with the ledger of an earlier copy, as after a restore of a part.
    #[must_use]
    pub fn with_ledger_of(&self, old: &Self) -> Self {
        let faults = Arc::<Faults>::default();
        let disk = self.disk.crashed(Keep::All, faults.clone());
        disk.take_from(&old.disk, &layout::ledger_dir(Path::new(DIR)));
        Self { disk, log: old.log.crashed(Keep::All, faults.clone()), faults }
    }

    /// Loses the file of a lane, cuts it short or spoils its header, as a failing disk may. Only while no store has it
    /// open. `false` where it is not there.
    pub fn lose_lane(&self, table: &TableId, lane: Lane, how: LaneLoss) -> bool {
        let path = layout::table_dir(Path::new(DIR), table).join(lane_file_name(lane));
        self.disk.spoil(&path, |bytes| match how {
            LaneLoss::Gone => false,
            LaneLoss::CutAt(part) => {
                bytes.truncate(usize::try_from(part).unwrap_or(usize::MAX) % bytes.len().max(1));
                true
            }
            LaneLoss::NoHeader => {
                let header = usize::try_from(DATA_OFFSET).unwrap_or(usize::MAX).min(bytes.len());
                bytes[..header].fill(0x55);
                true
            }
        })
    }

    /// The mark in the header of a lane, as the worst power cut would leave it.
    pub fn durable_mark(&self, table: &TableId, lane: Lane) -> Option<u64> {
        let path = layout::table_dir(Path::new(DIR), table).join(lane_file_name(lane));
        let file = self.disk.durable(&path)?;
        LaneHeader::read(&*file).ok().flatten().map(|header| header.mark)
    }
}

/// What becomes of a lane's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneLoss {
    /// It is gone.
    Gone,
    /// It ends at this byte, modulo its length.
    CutAt(u64),
    /// Both slots of its header are damaged.
    NoHeader,
}

/// How the store of a simulated node is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimSizes {
    /// As [`crate::Options::chunk_bytes_max`].
    pub chunk_bytes_max: u64,
    /// Bytes of the journal's file; small ones are full now and then.
    pub journal_bytes: u64,
    /// Bytes of a segment of keys or messages.
    pub segment_bytes: u64,
}

/// A table as it is delivered.
#[derive(Debug, Clone)]
pub struct SimTable<'a> {
    /// Its id.
    pub table: TableId,
    /// Serial of its module; unique in the store.
    pub serial: String,
    /// With whom it is shared.
    pub peer: NodeId,
    /// What people call that node.
    pub peer_name: Name,
    /// Which end this is.
    pub side: TableSide,
    /// Whether it still waits for its receipt.
    pub pending: bool,
    /// Bytes of the up lane.
    pub up: &'a [u8],
    /// Bytes of the down lane.
    pub down: &'a [u8],
}

/// One request to the committer.
#[derive(Debug)]
pub enum SimJob {
    /// As [`crate::Store::commit`].
    Commit(Box<Transaction>),
    /// As [`crate::Store::take_key`].
    Take(KeyId),
}

/// The answer to a [`SimJob`].
#[derive(Debug)]
pub enum SimAnswer {
    /// To [`SimJob::Commit`].
    Commit(Result<(), StoreError>),
    /// To [`SimJob::Take`].
    Take(Result<SecretBytes, TakeError>),
}

enum Pending {
    Commit(oneshot::Receiver<Result<(), StoreError>>),
    Take(oneshot::Receiver<Result<SecretBytes, TakeError>>),
}

/// See the head of the file.
pub struct SimStore {
    engine: Engine,
    device: SimDevice,
}

impl SimStore {
    /// Makes a store on an empty device.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn create(device: &SimDevice, identity: [u8; 16], sizes: SimSizes) -> Result<(), StoreError> {
        let log = Arc::new(device.log.clone());
        format(Path::new(DIR), &device.disk, log, identity, sizes.journal_bytes)
    }

    /// Opens the store on a device, as [`crate::Store::open`] does, and records what opening found.
    ///
    /// # Errors
    /// Where the device fails, or holds no whole store.
    pub fn load(device: &SimDevice, identity: [u8; 16], sizes: SimSizes) -> Result<Self, StoreError> {
        let (disk, log) = (Arc::new(device.disk.clone()), Arc::new(device.log.clone()));
        let SimSizes { chunk_bytes_max, segment_bytes, .. } = sizes;
        let engine = load(Path::new(DIR), disk, log, identity, chunk_bytes_max, segment_bytes)?;
        let store = Self { engine, device: device.clone() };
        store.engine.commit_group(vec![Job::Save(Vec::new())]);
        store.engine.check().map(|()| store)
    }

    /// The device under it.
    pub fn device(&self) -> &SimDevice {
        &self.device
    }

    /// Puts a table into the store.
    ///
    /// # Errors
    /// As the store's own import of a module.
    pub fn install(&self, new: &SimTable<'_>) -> Result<(), StoreError> {
        let dir = layout::table_dir(&self.engine.dir, &new.table);
        for (lane, bytes) in [(Lane::Up, new.up), (Lane::Down, new.down)] {
            let path = dir.join(lane_file_name(lane));
            let write = || {
                let file = self.device.disk.create(&path)?;
                file.allocate(file_bytes(bytes.len() as u64))?;
                LaneFile::format(&*file, new.table, lane, bytes.len() as u64)?;
                write_pads(&*file, bytes.len() as u64, 0, bytes)?;
                file.sync()?;
                self.device.disk.sync_dir(&dir)
            };
            write().map_err(|error| StoreError::io("write", &path, &error))?;
        }
        let record = TableRecord {
            table: new.table,
            serial: new.serial.clone(),
            peer: new.peer,
            peer_name: new.peer_name.clone(),
            side: new.side,
            state: if new.pending { TableState::Pending } else { TableState::Active },
            activation: 0,
            lane_bytes: [new.up.len() as u64, new.down.len() as u64],
            forged_blocks: 0,
            quarantine: None,
        };
        let module = ModuleRecord {
            serial: new.serial.clone(),
            table: new.table,
            hub: new.peer,
            hub_name: new.peer_name.clone(),
            client: new.peer,
            client_name: new.peer_name.clone(),
            bytes: record.lane_bytes.iter().sum(),
            state: ModuleState::Imported,
            made_ms: 0,
            changed_ms: 0,
        };
        let hub = (new.side == TableSide::Client).then(|| HubRecord {
            node: new.peer,
            name: new.peer_name.clone(),
            addresses: Vec::new(),
            since_ms: 0,
        });
        let table = NewTable { record, module, hub, receipt: None };
        let (reply, mut answer) = oneshot::channel();
        self.engine.commit_group(vec![Job::Install(Box::new(table), reply)]);
        answer.try_recv().ok().flatten().unwrap_or(Err(StoreError::Closed))
    }

    /// As [`crate::Store::hold`].
    pub fn hold(&self, wants: &[HoldWant]) -> Vec<Result<PadBytes, HoldRefusal>> {
        self.engine.hold(wants)
    }

    /// As [`crate::Store::release`].
    pub fn release(&self, range: PadRange, forged_blocks: Option<u64>) {
        if self.engine.release(range, forged_blocks) {
            self.engine.commit_group(vec![Job::Save(Vec::new())]);
        }
    }

    /// As [`crate::Store::mint`], with what has to be reserved for it.
    ///
    /// # Errors
    /// As there.
    pub fn mint(&self, wants: &[Want]) -> Result<Vec<Minted>, MintError> {
        self.engine.mint_reserving(wants)
    }

    /// What the store does in the background when little is reserved in a table.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn refill(&self, table: TableId) -> Result<(), StoreError> {
        self.engine.refill(table)
    }

    /// As [`crate::Store::mint_sync`].
    ///
    /// # Errors
    /// As there.
    pub fn mint_sync(&self, table: TableId, at: u64) -> Result<Minted, MintError> {
        self.engine.mint_sync(table, at)
    }

    /// As [`crate::Store::marks`].
    ///
    /// # Errors
    /// As there.
    pub fn marks(
        &self,
        peer: NodeId,
        side: TableSide,
        table: TableId,
        reserve: bool,
    ) -> Result<LaneMarks, MarksRefusal> {
        self.engine.marks(peer, side, table, reserve)
    }

    /// As [`crate::Store::open_table`].
    pub fn open_table(&self, table: &TableId) {
        self.engine.open_table(table);
    }

    /// As [`crate::Store::leave_table`].
    pub fn leave_table(&self, table: &TableId) {
        self.engine.leave_table(table);
    }

    /// As [`crate::Store::shut_table`].
    pub fn shut_table(&self, table: &TableId) {
        self.engine.shut_table(table);
    }

    /// As [`crate::Store::close_tables`].
    pub fn close_tables(&self, peer: NodeId, side: TableSide) {
        self.engine.close_tables(peer, side);
    }

    /// As [`crate::Store::skip`].
    ///
    /// # Errors
    /// As there.
    pub fn skip(&self, table: TableId, to: u64) -> Result<(), StoreError> {
        self.engine.skip(table, to)
    }

    /// Does requests as one group, with its shared syncs.
    pub fn commit_group(&self, jobs: Vec<SimJob>) -> Vec<SimAnswer> {
        let (mut requests, mut answers) = (Vec::with_capacity(jobs.len()), Vec::with_capacity(jobs.len()));
        for job in jobs {
            match job {
                SimJob::Commit(transaction) => {
                    let (reply, answer) = oneshot::channel();
                    requests.push(Job::Commit(transaction, None, reply));
                    answers.push(Pending::Commit(answer));
                }
                SimJob::Take(id) => {
                    let (reply, answer) = oneshot::channel();
                    requests.push(Job::Take(id.into(), reply));
                    answers.push(Pending::Take(answer));
                }
            }
        }
        self.engine.commit_group(requests);
        let closed = || StoreError::Closed;
        let answer = |pending| match pending {
            Pending::Commit(mut answer) => {
                SimAnswer::Commit(answer.try_recv().ok().flatten().unwrap_or_else(|| Err(closed())))
            }
            Pending::Take(mut answer) => SimAnswer::Take(
                answer.try_recv().ok().flatten().unwrap_or_else(|| Err(TakeError::Store(closed()))),
            ),
        };
        answers.into_iter().map(answer).collect()
    }

    /// As [`crate::Store::next_outbox_id`].
    pub fn next_outbox_id(&self) -> OutboxId {
        self.engine.next_outbox_id()
    }

    /// As [`crate::Store::limits`].
    ///
    /// # Errors
    /// As there.
    pub fn limits(&self) -> Result<Vec<LimitsRecord>, StoreError> {
        self.engine.ledger.all("limits", kind::LIMITS)
    }

    /// As [`crate::Store::budgets`].
    ///
    /// # Errors
    /// As there.
    pub fn budgets(&self) -> Result<Vec<BudgetRecord>, StoreError> {
        self.engine.ledger.all("budget", kind::BUDGET)
    }

    /// As [`crate::Store::outbox`].
    pub fn outbox(&self) -> Vec<OutboxEntry> {
        self.engine.outbox_entries()
    }

    /// As [`crate::Store::outbox_read`]: a message that is not what was written is dropped.
    ///
    /// # Errors
    /// As there.
    pub fn outbox_read(&self, id: OutboxId) -> Result<Option<Vec<u8>>, StoreError> {
        let read = self.engine.outbox_read(id);
        if matches!(read, Ok(None)) {
            self.engine.commit_group(vec![Job::Save(vec![id])]);
        }
        read
    }

    /// Gives the ledger what its journal holds.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn settle(&self) -> Result<(), StoreError> {
        self.engine.settle(1)
    }

    /// Overwrites what has been used.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn erase_due(&self) -> Result<(), StoreError> {
        self.engine.erase_due()
    }

    /// As [`crate::Store::close`].
    ///
    /// # Errors
    /// Where the device fails.
    pub fn close(self) -> Result<(), StoreError> {
        self.engine.erase_due()?;
        self.engine.save_rest()?;
        self.engine.settle(1)
    }

    /// Why the store stopped, where it did.
    pub fn poison_cause(&self) -> Option<String> {
        self.engine.poison.get().cloned()
    }

    // -- what stands in it

    /// As [`crate::Store::tables`].
    pub fn tables(&self) -> Vec<TableStatus> {
        self.engine.tables()
    }

    /// Tables whose marks may be compared and have not been, with their peers.
    pub fn tables_apart(&self, side: TableSide) -> Vec<(NodeId, TableId)> {
        let state = lock_short(&self.engine.state);
        let apart = state
            .tables
            .values()
            .filter(|table| table.record.side == side && table.compared != Compared::Now && table.may_sync());
        apart.map(|table| (table.record.peer, table.record.table)).collect()
    }

    /// Peers with which a table is active and open, of which this node is that end.
    pub fn open_peers(&self, side: TableSide) -> BTreeSet<NodeId> {
        let state = lock_short(&self.engine.state);
        let open = state.tables.values().filter(|table| {
            table.record.side == side && table.compared == Compared::Now && table.is_active()
        });
        open.map(|table| table.record.peer).collect()
    }

    /// Whether every byte of a run counts as used or reserved, so that it will never be handed out or held.
    pub fn is_spent(&self, range: &PadRange) -> bool {
        let state = lock_short(&self.engine.state);
        let Some(lane) = state.tables.get(&range.table).map(|table| table.lane(range.lane)) else {
            return false;
        };
        let Some(end) = range.end() else { return false };
        let below = if lane.allocator { lane.mark - lane.reserved() } else { 0 };
        let from = range.offset.max(below);
        end <= below || lane.used.at_or_after(from).is_some_and(|(first, last)| first <= from && end <= last)
    }

    /// Whether a run of a lane that this node allocates was taken ahead of its mark: its record is in the
    /// ledger, not in the lane's header.
    pub fn used_above_mark(&self, range: &PadRange) -> bool {
        let state = lock_short(&self.engine.state);
        let lane = state.tables.get(&range.table).map(|table| table.lane(range.lane));
        lane.zip(range.end()).is_some_and(|(lane, end)| {
            let run = lane.used.at_or_after(range.offset);
            run.is_some_and(|(first, last)| first <= range.offset && end <= last)
        })
    }

    /// As [`crate::Store::block`].
    ///
    /// # Errors
    /// As there.
    pub fn block(&self, id: &BlockId) -> Result<Option<BlockRecord>, StoreError> {
        self.engine.ledger.get("block", &block_key(kind::BLOCK, id))
    }

    /// As [`crate::Store::is_block_known`].
    ///
    /// # Errors
    /// As there.
    pub fn is_block_known(&self, id: &BlockId) -> Result<bool, StoreError> {
        is_known(&Draft::new(&self.engine.ledger), id)
    }

    /// The bytes of a key that waits, which stays where it is.
    pub fn peek_key(&self, id: KeyId) -> Option<SecretBytes> {
        let keys = KeyRange::from(id);
        let run = find_keys(&Draft::new(&self.engine.ledger), keys).ok()?;
        let mut bytes = checked(&self.engine.key_spool.read(run).ok()?, keys).ok()?;
        Some(SecretBytes::new(std::mem::take(&mut *bytes)))
    }

    /// As [`crate::Store::clients`].
    ///
    /// # Errors
    /// As there.
    pub fn clients(&self) -> Result<Vec<ClientRecord>, StoreError> {
        self.all("client", kind::CLIENT)
    }

    /// As [`crate::Store::hubs`].
    ///
    /// # Errors
    /// As there.
    pub fn hubs(&self) -> Result<Vec<HubRecord>, StoreError> {
        self.all("hub", kind::HUB)
    }

    /// As [`crate::Store::identities`].
    ///
    /// # Errors
    /// As there.
    pub fn identities(&self) -> Result<Vec<IdentityRecord>, StoreError> {
        self.all("identity", kind::IDENTITY)
    }

    /// As [`crate::Store::exclusions`].
    ///
    /// # Errors
    /// As there.
    pub fn exclusions(&self) -> Result<Vec<ExclusionRecord>, StoreError> {
        self.all("exclusion", kind::EXCLUSION)
    }

    fn all<T: DeserializeOwned>(&self, what: &'static str, kind: &[u8]) -> Result<Vec<T>, StoreError> {
        self.engine.ledger.all(what, kind)
    }
}
