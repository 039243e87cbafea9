//! A client's engine on a simulated device, and what it must hold to after every crash.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use dske_protocol::{
    ids::{BlockId, KeyId, Lane, NodeId, PadRange, TableId},
    pad::PadBytes,
};
use futures::channel::oneshot;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    disk::Disk,
    engine::Engine,
    error::{HoldRefusal, StoreError, TakeError},
    group::Job,
    install::NewTable,
    keys::is_known,
    lane_checks::{file_bytes, write_pads},
    lane_file::{LaneFile, lane_file_name},
    layout,
    ledger::Draft,
    open::{format, load},
    records::{BlockRecord, BlockState, ModuleRecord, ModuleState, Side},
    secret::SecretBytes,
    sim::{Faults, Keep, SimDisk, SimLog},
    status::{TableSide, TableState, Use},
    table::TableRecord,
    transaction::{HoldWant, NewBlock, OutboxId, OutboxItem, Transaction, Want},
    wait::wait,
};

pub(super) const DIR: &str = "/store";
pub(super) const LANE: u64 = 64 << 10;
pub(super) const CHUNK: u64 = 4096;
/// Small, so that it is full now and then.
pub(super) const JOURNAL: u64 = 16 << 10;
/// Small, so that a second one is needed now and then.
pub(super) const SEGMENT: u64 = 8 << 10;
pub(super) const HUB: NodeId = NodeId::new([1; 32]);
pub(super) const TABLE: TableId = TableId::new([5; 16]);

/// A client's engine, the device under it, and what it must hold to.
pub(super) struct World {
    pub(super) disk: SimDisk,
    pub(super) log: SimLog,
    pub(super) engine: Engine,
    pub(super) up: Vec<u8>,
    pub(super) down: Vec<u8>,
    pub(super) minted: Vec<(u64, u64)>,
    pub(super) claimed: BTreeSet<PadRange>,
    pub(super) next_down: u64,
    pub(super) blocks: BTreeMap<u8, bool>,
    /// Blocks that may exist without anybody having been told.
    pub(super) tried: BTreeSet<u8>,
    /// Blocks whose key was to be given up, and whether that was acknowledged.
    pub(super) given_up: BTreeMap<u8, bool>,
    /// Blocks whose record was not to be kept.
    pub(super) forgotten: BTreeSet<u8>,
    /// Messages that were acknowledged, and those whose removal was asked for.
    pub(super) messages: BTreeMap<OutboxId, (u8, usize)>,
    pub(super) delivered: BTreeSet<OutboxId>,
    pub(super) crashes: u64,
}

pub(super) fn run<T>(engine: &Engine, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> T {
    let (reply, answer) = oneshot::channel();
    engine.commit_group(vec![job(reply)]);
    wait(answer).expect("every request is answered")
}

pub(super) fn commit(engine: &Engine, transaction: Transaction) -> Result<(), StoreError> {
    run(engine, |reply| Job::Commit(Box::new(transaction), None, reply))
}

/// A message for the hub, of equal bytes.
pub(super) fn letter(id: OutboxId, byte: u8, len: usize) -> OutboxItem {
    let block = BlockId::new([1; 16]);
    OutboxItem { id, receiver: HUB, sender: HUB, block, table: TABLE, at_ms: 0, bytes: vec![byte; len] }
}

/// Puts down a block with one key of equal bytes.
pub(super) fn block(id: u8) -> Transaction {
    let record = BlockRecord {
        block: BlockId::new([id; 16]),
        side: Side::Receiver,
        sender: HUB,
        receivers: vec![],
        purpose: String::new(),
        key_bytes: 32,
        n: 3,
        k: 2,
        state: BlockState::Ready,
        at_ms: 1,
        aged_ms: 1,
        round: false,
    };
    let new = NewBlock { record, key: Some(SecretBytes::new(vec![id; 32])) };
    Transaction { block: vec![new], ..Transaction::default() }
}

pub(super) fn start(disk: &SimDisk, log: &SimLog) -> Engine {
    let disk = Arc::new(disk.clone());
    let engine =
        load(Path::new(DIR), disk, Arc::new(log.clone()), [7; 16], 65_536, SEGMENT).expect("it opens");
    engine.open_table(&TABLE);
    engine
}

/// A run that a message of `peer` names.
pub(super) fn held(peer: NodeId, range: PadRange) -> HoldWant {
    HoldWant { peer, range, for_sync: false }
}

pub(super) fn reveal(pad: PadBytes) -> Vec<u8> {
    pad.split().expect("long enough").0.into_bytes().to_vec()
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(JOURNAL, Arc::default(), Arc::default())
    }

    pub(super) fn with(journal_bytes: u64, disk_faults: Arc<Faults>, log_faults: Arc<Faults>) -> Self {
        let disk = SimDisk::new(disk_faults);
        let log = SimLog::new(log_faults);
        format(Path::new(DIR), &disk, Arc::new(log.clone()), [7; 16], journal_bytes).expect("a store");
        let mut rng = StdRng::seed_from_u64(3);
        let mut lanes = [vec![0; 64 << 10], vec![0; 64 << 10]];
        for (lane, bytes) in [Lane::Up, Lane::Down].into_iter().zip(&mut lanes) {
            rng.fill_bytes(bytes);
            let path = layout::table_dir(Path::new(DIR), &TABLE).join(lane_file_name(lane));
            let file = disk.create(&path).expect("a file");
            file.allocate(file_bytes(LANE)).expect("space");
            LaneFile::format(&*file, TABLE, lane, LANE).expect("a header");
            write_pads(&*file, LANE, 0, bytes).expect("pads");
            file.sync().expect("synced");
            disk.sync_dir(path.parent().expect("a directory")).expect("synced");
        }
        let engine = start(&disk, &log);
        let name = || "p1".parse().expect("a name");
        let record = TableRecord {
            table: TABLE,
            serial: "p1-0001".to_owned(),
            peer: HUB,
            peer_name: name(),
            side: TableSide::Client,
            state: TableState::Active,
            activation: 0,
            lane_bytes: [LANE; 2],
            forged_blocks: 0,
            quarantine: None,
        };
        let module = ModuleRecord {
            serial: "p1-0001".to_owned(),
            table: TABLE,
            hub: HUB,
            hub_name: name(),
            client: NodeId::new([2; 32]),
            client_name: name(),
            bytes: 2 * LANE,
            state: ModuleState::Imported,
            made_ms: 0,
            changed_ms: 0,
        };
        let table = NewTable { record, module, hub: None, receipt: None };
        run(&engine, |reply| Job::Install(Box::new(table), reply)).expect("a table");
        engine.open_table(&TABLE);
        let [up, down] = lanes;
        let (minted, claimed, blocks) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
        let (tried, given_up, forgotten) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
        let (messages, delivered) = (BTreeMap::new(), BTreeSet::new());
        Self {
            disk,
            log,
            engine,
            up,
            down,
            minted,
            claimed,
            next_down: 0,
            blocks,
            tried,
            given_up,
            forgotten,
            messages,
            delivered,
            crashes: 0,
        }
    }

    /// From now on the `syncs`-th sync and all after it fail.
    pub(super) fn fail_after(&self, syncs: u64) {
        for faults in [&self.disk.faults, &self.log.faults] {
            faults.fail_from.store(faults.syncs.load(Ordering::SeqCst) + 1 + syncs, Ordering::SeqCst);
        }
    }

    /// From now on the writes and syncs after so many fail.
    pub(super) fn cut_after(&self, steps: u64) {
        for faults in [&self.disk.faults, &self.log.faults] {
            faults.cut_from.store(faults.steps.load(Ordering::SeqCst) + 1 + steps, Ordering::SeqCst);
        }
    }

    pub(super) fn crash(&mut self, keep_disk: Keep, keep_log: Keep) {
        self.disk = self.disk.crashed(keep_disk, Arc::new(Faults::default()));
        self.log = self.log.crashed(keep_log, Arc::new(Faults::default()));
        self.engine = start(&self.disk, &self.log);
        self.crashes += 1;
        self.check();
    }

    /// A crash, and another one after so many writes and syncs of the start.
    pub(super) fn crash_twice(&mut self, keep: [Keep; 2], keep_log: [Keep; 2], steps: u64) {
        let faults = Arc::new(Faults::default());
        faults.cut_from.store(steps, Ordering::SeqCst);
        self.disk = self.disk.crashed(keep[0], faults.clone());
        self.log = self.log.crashed(keep_log[0], faults);
        let (disk, log) = (Arc::new(self.disk.clone()), Arc::new(self.log.clone()));
        drop(load(Path::new(DIR), disk, log, [7; 16], 65_536, SEGMENT));
        self.crash(keep[1], keep_log[1]);
    }

    pub(super) fn check(&self) {
        let status = self.engine.tables().pop().expect("the table");
        assert_eq!(status.state, TableState::Active, "a crash is no reason for quarantine");
        for lane in &status.lanes {
            let sum = lane.used_key
                + lane.used_identity
                + lane.used_sync
                + lane.skipped
                + lane.reserved
                + lane.left;
            assert_eq!(sum, lane.bytes, "{lane:?}");
        }
        for range in &self.claimed {
            let refused = self.engine.hold(&[held(HUB, *range)]).pop().expect("one").map(|_| ());
            assert_eq!(refused, Err(HoldRefusal::AlreadyUsed), "an acknowledged claim is for ever");
        }
        for (block, taken) in &self.blocks {
            let id = BlockId::new([*block; 16]);
            let found = self.engine.ledger.get::<BlockRecord>("block", &crate::ledger::block_key(b"b", &id));
            match found.expect("readable") {
                Some(record) => assert!(!taken || record.state == BlockState::Taken),
                None => {
                    assert!(self.forgotten.contains(block), "an acknowledged block is gone");
                    let known = is_known(&Draft::new(&self.engine.ledger), &id).expect("readable");
                    assert!(known, "its id is for ever");
                }
            }
        }
        for (id, (byte, len)) in &self.messages {
            match self.engine.outbox_read(*id).expect("readable") {
                Some(bytes) => assert_eq!(bytes, vec![*byte; *len]),
                None => assert!(self.delivered.contains(id), "an acknowledged message is gone"),
            }
        }
    }

    pub(super) fn mint(&mut self, bytes: u64, at: Option<u64>) {
        let minted = match at {
            Some(at) => self.engine.mint_sync(TABLE, at),
            None => {
                let want = Want { peer: HUB, side: TableSide::Client, bytes, usage: Use::Key };
                self.engine.mint_reserving(&[want]).map(|mut minted| minted.pop().expect("one"))
            }
        };
        let Ok(minted) = minted else { return };
        let (start, end) = (minted.range.offset, minted.range.offset + minted.range.len);
        for (first, last) in &self.minted {
            assert!(end <= *first || *last <= start, "{start}..{end} was handed out before");
        }
        self.minted.push((start, end));
        let pad = reveal(minted.pad);
        let from = usize::try_from(start).expect("small");
        assert_eq!(pad, self.up[from..from + pad.len()]);
    }

    pub(super) fn claim(&mut self, bytes: u64, back: bool) {
        let offset = if back { self.next_down + bytes } else { self.next_down };
        let range = PadRange { table: TABLE, lane: Lane::Down, offset, len: bytes };
        self.next_down += if back { 2 * bytes } else { bytes };
        let Ok(held) = self.engine.hold(&[held(HUB, range)]).pop().expect("one") else { return };
        let from = usize::try_from(offset).expect("small");
        let pad = reveal(held);
        assert_eq!(pad, self.down[from..from + pad.len()]);
        if commit(&self.engine, Transaction { claims: vec![(range, Use::Key)], ..Transaction::default() })
            .is_ok()
        {
            self.claimed.insert(range);
        }
    }

    pub(super) fn block(&mut self, id: u8) {
        match commit(&self.engine, block(id)) {
            Ok(()) => assert!(self.blocks.insert(id, false).is_none(), "a block existed twice"),
            Err(StoreError::BlockExists { .. }) => {
                self.blocks.entry(id).or_insert(false);
            }
            Err(_) => drop(self.tried.insert(id)),
        }
    }

    pub(super) fn post(&mut self, byte: u8, len: usize) {
        let id = self.engine.next_outbox_id();
        if commit(&self.engine, Transaction { outbox: vec![letter(id, byte, len)], ..Transaction::default() })
            .is_ok()
        {
            self.messages.insert(id, (byte, len));
        }
    }

    pub(super) fn deliver(&mut self) {
        let next = self.messages.keys().find(|&id| !self.delivered.contains(id)).copied();
        let Some(id) = next else { return };
        self.delivered.insert(id);
        if commit(&self.engine, Transaction { delivered: vec![id], ..Transaction::default() }).is_ok() {
            assert_eq!(self.engine.outbox_read(id), Ok(None));
        }
    }

    pub(super) fn give_up(&mut self, id: u8) {
        let give_up = vec![(BlockId::new([id; 16]), "nobody came".to_owned())];
        let done = commit(&self.engine, Transaction { give_up, ..Transaction::default() }).is_ok();
        // A block that was not there, or comes later, is not given up.
        let key = crate::ledger::block_key(b"b", &BlockId::new([id; 16]));
        let record = self.engine.ledger.get::<BlockRecord>("block", &key).expect("readable");
        let void = record.as_ref().is_some_and(|record| matches!(record.state, BlockState::Aborted { .. }));
        if record.is_some_and(|record| record.state != BlockState::Taken) {
            let known = self.given_up.entry(id).or_default();
            *known |= done && void;
        }
    }

    pub(super) fn forget(&mut self, id: u8) {
        let forget = vec![BlockId::new([id; 16])];
        // Also one that is not acknowledged may be on the device.
        drop(commit(&self.engine, Transaction { forget, ..Transaction::default() }));
        self.forgotten.insert(id);
    }

    pub(super) fn take(&mut self, id: u8) {
        let key = KeyId { block: BlockId::new([id; 16]), index: 0 };
        match run(&self.engine, |reply| Job::Take(key.into(), reply)) {
            Ok(bytes) => {
                assert_eq!(bytes.expose(), [id; 32]);
                assert_ne!(self.given_up.get(&id), Some(&true), "a key that was given up is handed out");
                let before = self.blocks.insert(id, true);
                let known = before == Some(false) || (before.is_none() && self.tried.contains(&id));
                assert!(known, "a key left twice, or came from nowhere");
            }
            Err(TakeError::AlreadyTaken(_)) => {
                self.blocks.insert(id, true);
            }
            Err(TakeError::Aborted { .. }) => {
                assert!(self.given_up.contains_key(&id), "nobody gave it up");
                assert_ne!(self.blocks.get(&id), Some(&true), "what is taken is not given up any more");
            }
            Err(TakeError::Unknown(_)) => {
                assert!(!self.blocks.contains_key(&id), "an acknowledged key is gone")
            }
            Err(_) => {}
        }
    }
}
