//! The engine on a simulated disk that fails at any write or sync and forgets or tears what was not synced:
//! whatever happens, no byte serves twice, no key leaves twice, and what was acknowledged is there.

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
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    disk::Disk,
    engine::Engine,
    error::{HoldRefusal, StoreError, TakeError},
    group::Job,
    install::NewTable,
    journal::JOURNAL_BYTES,
    journal_header::RECORDS_OFFSET,
    lane_file::{LaneFile, lane_file_name},
    lane_header::DATA_OFFSET,
    layout,
    open::{format, load},
    records::{BlockRecord, BlockState, ModuleRecord, ModuleState, Side},
    secret::SecretBytes,
    sim::{Faults, Keep, SimDisk, SimLog},
    status::{TableSide, TableState, Use},
    table::TableRecord,
    transaction::{NewBlock, OutboxId, OutboxItem, Transaction, Want},
    wait::wait,
};

const DIR: &str = "/store";
const LANE: u64 = 64 << 10;
const CHUNK: u64 = 4096;
/// Small, so that it is full now and then.
const JOURNAL: u64 = 16 << 10;
const HUB: NodeId = NodeId::new([1; 32]);
const TABLE: TableId = TableId::new([5; 16]);

/// A client's engine, the device under it, and what it must hold to.
struct World {
    disk: SimDisk,
    log: SimLog,
    engine: Engine,
    up: Vec<u8>,
    down: Vec<u8>,
    minted: Vec<(u64, u64)>,
    claimed: BTreeSet<PadRange>,
    next_down: u64,
    blocks: BTreeMap<u8, bool>,
    /// Blocks that may exist without anybody having been told.
    tried: BTreeSet<u8>,
    /// Messages that were acknowledged, and those whose removal was asked for.
    messages: BTreeMap<OutboxId, (u8, usize)>,
    delivered: BTreeSet<OutboxId>,
    crashes: u64,
}

fn run<T>(engine: &Engine, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> T {
    let (reply, answer) = oneshot::channel();
    engine.commit_group(vec![job(reply)]);
    wait(answer).expect("every request is answered")
}

fn commit(engine: &Engine, transaction: Transaction) -> Result<(), StoreError> {
    run(engine, |reply| Job::Commit(Box::new(transaction), None, reply))
}

fn start(disk: &SimDisk, log: &SimLog) -> Engine {
    load(Path::new(DIR), Arc::new(disk.clone()), Arc::new(log.clone()), [7; 16], 65_536).expect("it opens")
}

fn reveal(pad: PadBytes) -> Vec<u8> {
    pad.split().expect("long enough").0.into_bytes().to_vec()
}

impl World {
    fn new() -> Self {
        Self::with(JOURNAL, Arc::default(), Arc::default())
    }

    fn with(journal_bytes: u64, disk_faults: Arc<Faults>, log_faults: Arc<Faults>) -> Self {
        let disk = SimDisk::new(disk_faults);
        let log = SimLog::new(log_faults);
        format(Path::new(DIR), &disk, Arc::new(log.clone()), [7; 16], journal_bytes).expect("a store");
        let mut rng = StdRng::seed_from_u64(3);
        let mut lanes = [vec![0; 64 << 10], vec![0; 64 << 10]];
        for (lane, bytes) in [Lane::Up, Lane::Down].into_iter().zip(&mut lanes) {
            rng.fill_bytes(bytes);
            let path = layout::table_dir(Path::new(DIR), &TABLE).join(lane_file_name(lane));
            let file = disk.create(&path).expect("a file");
            file.allocate(DATA_OFFSET + LANE).expect("space");
            LaneFile::format(&*file, TABLE, lane, LANE).expect("a header");
            file.write_at(bytes, DATA_OFFSET).expect("pads");
            file.sync().expect("synced");
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
        let [up, down] = lanes;
        let (minted, claimed, blocks) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
        let (tried, messages, delivered) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
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
            messages,
            delivered,
            crashes: 0,
        }
    }

    /// From now on the `syncs`-th sync and all after it fail.
    fn fail_after(&self, syncs: u64) {
        for faults in [&self.disk.faults, &self.log.faults] {
            faults.fail_from.store(faults.syncs.load(Ordering::SeqCst) + 1 + syncs, Ordering::SeqCst);
        }
    }

    /// From now on the writes and syncs after so many fail.
    fn cut_after(&self, steps: u64) {
        for faults in [&self.disk.faults, &self.log.faults] {
            faults.cut_from.store(faults.steps.load(Ordering::SeqCst) + 1 + steps, Ordering::SeqCst);
        }
    }

    fn crash(&mut self, keep_disk: Keep, keep_log: bool) {
        self.disk = self.disk.crashed(keep_disk, Arc::new(Faults::default()));
        self.log = self.log.crashed(keep_log, Arc::new(Faults::default()));
        self.engine = start(&self.disk, &self.log);
        self.crashes += 1;
        self.check();
    }

    /// A crash, and another one after so many writes and syncs of the start.
    fn crash_twice(&mut self, keep: [Keep; 2], keep_log: [bool; 2], steps: u64) {
        let faults = Arc::new(Faults::default());
        faults.cut_from.store(steps, Ordering::SeqCst);
        self.disk = self.disk.crashed(keep[0], faults.clone());
        self.log = self.log.crashed(keep_log[0], faults);
        let (disk, log) = (Arc::new(self.disk.clone()), Arc::new(self.log.clone()));
        drop(load(Path::new(DIR), disk, log, [7; 16], 65_536));
        self.crash(keep[1], keep_log[1]);
    }

    fn check(&self) {
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
            let refused = self.engine.hold(&[(HUB, *range)]).pop().expect("one").map(|_| ());
            assert_eq!(refused, Err(HoldRefusal::AlreadyUsed), "an acknowledged claim is for ever");
        }
        for (block, taken) in &self.blocks {
            let id = BlockId::new([*block; 16]);
            let found = self.engine.ledger.get::<BlockRecord>("block", &crate::ledger::block_key(b"b", &id));
            assert!(
                found.expect("readable").is_some_and(|record| !taken || record.state == BlockState::Taken)
            );
        }
        for (id, (byte, len)) in &self.messages {
            match self.engine.outbox_read(*id).expect("readable") {
                Some(bytes) => assert_eq!(bytes, vec![*byte; *len]),
                None => assert!(self.delivered.contains(id), "an acknowledged message is gone"),
            }
        }
    }

    fn mint(&mut self, bytes: u64, at: Option<u64>) {
        let minted = match at {
            Some(at) => self.engine.mint_at(TABLE, at, bytes, Use::Sync),
            None => {
                let want = Want { peer: HUB, bytes, usage: Use::Key };
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

    fn claim(&mut self, bytes: u64, back: bool) {
        let offset = if back { self.next_down + bytes } else { self.next_down };
        let range = PadRange { table: TABLE, lane: Lane::Down, offset, len: bytes };
        self.next_down += if back { 2 * bytes } else { bytes };
        let Ok(held) = self.engine.hold(&[(HUB, range)]).pop().expect("one") else { return };
        let from = usize::try_from(offset).expect("small");
        let pad = reveal(held);
        assert_eq!(pad, self.down[from..from + pad.len()]);
        if commit(&self.engine, Transaction { claims: vec![(range, Use::Key)], ..Transaction::default() })
            .is_ok()
        {
            self.claimed.insert(range);
        }
    }

    fn block(&mut self, id: u8) {
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
        };
        let new = NewBlock { record, key: Some(SecretBytes::new(vec![id; 32])) };
        match commit(&self.engine, Transaction { block: vec![new], ..Transaction::default() }) {
            Ok(()) => assert!(self.blocks.insert(id, false).is_none(), "a block existed twice"),
            Err(StoreError::BlockExists { .. }) => {
                self.blocks.entry(id).or_insert(false);
            }
            Err(_) => drop(self.tried.insert(id)),
        }
    }

    fn post(&mut self, byte: u8, len: usize) {
        let id = self.engine.next_outbox_id();
        let item = OutboxItem { id, receiver: HUB, block: BlockId::new([1; 16]), bytes: vec![byte; len] };
        if commit(&self.engine, Transaction { outbox: vec![item], ..Transaction::default() }).is_ok() {
            self.messages.insert(id, (byte, len));
        }
    }

    fn deliver(&mut self) {
        let next = self.messages.keys().find(|&id| !self.delivered.contains(id)).copied();
        let Some(id) = next else { return };
        self.delivered.insert(id);
        if commit(&self.engine, Transaction { delivered: vec![id], ..Transaction::default() }).is_ok() {
            assert_eq!(self.engine.outbox_read(id), Ok(None));
        }
    }

    fn take(&mut self, id: u8) {
        let key = KeyId { block: BlockId::new([id; 16]), index: 0 };
        match run(&self.engine, |reply| Job::Take(key, reply)) {
            Ok(bytes) => {
                assert_eq!(bytes.expose(), [id; 32]);
                let before = self.blocks.insert(id, true);
                let known = before == Some(false) || (before.is_none() && self.tried.contains(&id));
                assert!(known, "a key left twice, or came from nowhere");
            }
            Err(TakeError::AlreadyTaken(_)) => {
                self.blocks.insert(id, true);
            }
            Err(TakeError::Unknown(_)) => {
                assert!(!self.blocks.contains_key(&id), "an acknowledged key is gone")
            }
            Err(_) => {}
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Mint(u64),
    MintAt(u64),
    Claim(u64, bool),
    Block(u8),
    Take(u8),
    Post(u8, usize),
    Deliver,
    Settle,
    Erase,
    FailAfter(u64),
    CutAfter(u64),
    Crash(Keep, bool),
    CrashTwice([Keep; 2], [bool; 2], u64),
}

fn keep() -> impl Strategy<Value = Keep> {
    prop_oneof![Just(Keep::Nothing), Just(Keep::All), (0usize..4100).prop_map(Keep::Torn)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (32u64..3000).prop_map(Step::Mint),
        1 => (0..LANE).prop_map(Step::MintAt),
        4 => (32u64..900, any::<bool>()).prop_map(|(bytes, back)| Step::Claim(bytes, back)),
        2 => (1u8..6).prop_map(Step::Block),
        2 => (1u8..6).prop_map(Step::Take),
        3 => (1u8..255, 1usize..3000).prop_map(|(byte, len)| Step::Post(byte, len)),
        2 => Just(Step::Deliver),
        1 => Just(Step::Settle),
        2 => Just(Step::Erase),
        1 => (0u64..6).prop_map(Step::FailAfter),
        2 => (0u64..12).prop_map(Step::CutAfter),
        3 => (keep(), any::<bool>()).prop_map(|(disk, log)| Step::Crash(disk, log)),
        1 => ([keep(), keep()], any::<[bool; 2]>(), 1u64..12)
            .prop_map(|(disk, log, steps)| Step::CrashTwice(disk, log, steps)),
    ]
}

fn act(world: &mut World, step: &Step) {
    match *step {
        Step::Mint(bytes) => world.mint(bytes, None),
        Step::MintAt(at) => world.mint(32, Some(at)),
        Step::Claim(bytes, back) => world.claim(bytes, back),
        Step::Block(id) => world.block(id),
        Step::Take(id) => world.take(id),
        Step::Post(byte, len) => world.post(byte, len),
        Step::Deliver => world.deliver(),
        Step::Settle => drop(world.engine.settle(1)),
        Step::Erase => drop(world.engine.erase_due()),
        Step::FailAfter(syncs) => world.fail_after(syncs),
        Step::CutAfter(steps) => world.cut_after(steps),
        Step::Crash(disk, log) => world.crash(disk, log),
        Step::CrashTwice(disk, log, steps) => world.crash_twice(disk, log, steps),
    }
}

/// The power goes at each write and each sync of a run through everything, with what was not synced lost,
/// kept or torn; and again at each one of the start after it.
#[test]
fn power_cuts_at_every_write_and_sync() {
    let script = [
        Step::Mint(700),
        Step::Claim(100, false),
        Step::Post(1, 60),
        Step::Block(1),
        Step::Claim(80, true),
        Step::Deliver,
        Step::Settle,
        Step::Post(2, 2000),
        Step::Take(1),
        Step::Claim(100, false),
        // Longer than what is left of the journal.
        Step::Post(3, 1900),
        Step::Post(4, 3000),
        Step::Erase,
        Step::Mint(4000),
        Step::Deliver,
    ];
    for keep in [Keep::Nothing, Keep::All, Keep::Torn(20), Keep::Torn(100)] {
        for cut in 1.. {
            let faults = Arc::new(Faults::default());
            let mut world = World::with(RECORDS_OFFSET + 4096, faults.clone(), faults.clone());
            world.cut_after(cut - 1);
            script.iter().for_each(|step| act(&mut world, step));
            let done = world.engine.poison.get().is_none();
            world.crash_twice([keep, keep], [cut % 2 == 0; 2], 1 + cut % 9);
            script.iter().for_each(|step| act(&mut world, step));
            world.crash(keep, false);
            if done {
                break;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn nothing_repeats_and_nothing_acknowledged_is_lost(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        steps.iter().for_each(|step| act(&mut world, step));
        world.crash(Keep::Nothing, false);
        // Whatever was used is zeros on the device once the erasures of this start are done.
        world.engine.erase_due().expect("erased");
        let device = world.disk.crashed(Keep::Nothing, Arc::default());
        for (lane, runs) in [
            (Lane::Up, world.minted.clone()),
            (Lane::Down, world.claimed.iter().map(|range| (range.offset, range.offset + range.len)).collect()),
        ] {
            let path = layout::table_dir(Path::new(DIR), &TABLE).join(lane_file_name(lane));
            let file = device.open(&path).expect("a lane");
            for (start, end) in runs {
                let mut bytes = vec![1; usize::try_from(end - start).expect("small")];
                file.read_at(&mut bytes, DATA_OFFSET + start).expect("readable");
                prop_assert!(bytes.iter().all(|&byte| byte == 0), "{lane} {start}..{end}");
            }
        }
    }
}

#[test]
fn a_crash_wastes_at_most_one_chunk_of_a_lane() {
    let mut world = World::new();
    for round in 1..=5 {
        world.mint(100, None);
        world.crash(Keep::Nothing, false);
        let lane = &world.engine.tables().pop().expect("the table").lanes[0];
        assert!(lane.skipped <= round * CHUNK, "{lane:?}");
    }
}

/// Syncs of files and of the log behind the journal for a group of messages.
fn syncs_of_a_group(long: bool) -> (u64, u64) {
    let world = World::with(JOURNAL_BYTES, Arc::default(), Arc::default());
    let before =
        (world.disk.faults.syncs.load(Ordering::SeqCst), world.log.faults.syncs.load(Ordering::SeqCst));
    let (mut jobs, mut answers) = (Vec::new(), Vec::new());
    for number in 0..50 {
        let (reply, answer) = oneshot::channel();
        let id = world.engine.next_outbox_id();
        let bytes = vec![3; if long && number == 0 { 3000 } else { 100 }];
        let item = OutboxItem { id, receiver: HUB, block: BlockId::new([1; 16]), bytes };
        let transaction = Transaction { outbox: vec![item], ..Transaction::default() };
        jobs.push(Job::Commit(Box::new(transaction), None, reply));
        answers.push(answer);
    }
    world.engine.commit_group(jobs);
    assert!(answers.into_iter().all(|answer| wait(answer) == Some(Ok(()))));
    let disk = world.disk.faults.syncs.load(Ordering::SeqCst) - before.0;
    let log = world.log.faults.syncs.load(Ordering::SeqCst) - before.1;
    (disk, log)
}

#[test]
fn a_group_shares_its_syncs() {
    // One of the journal for everything.
    assert_eq!(syncs_of_a_group(false), (1, 0));
    // The new segment and its directory, the long message, the journal.
    assert_eq!(syncs_of_a_group(true), (4, 0));
}

#[test]
fn a_failed_sync_ends_the_store() {
    for syncs in 0..3 {
        let mut world = World::new();
        world.fail_after(syncs);
        world.block(1);
        (0..6).for_each(|_| world.mint(3000, None));
        let cause = world.engine.poison.get().cloned().expect("poisoned");
        let poisoned = StoreError::Poisoned { cause };
        // Also when the disk works again: nobody knows what it holds.
        world.disk.faults.fail_from.store(0, Ordering::SeqCst);
        world.log.faults.fail_from.store(0, Ordering::SeqCst);
        assert_eq!(commit(&world.engine, Transaction::default()), Err(poisoned.clone()));
        let key = KeyId { block: BlockId::new([1; 16]), index: 0 };
        assert_eq!(
            run(&world.engine, |reply| Job::Take(key, reply)).err(),
            Some(TakeError::Store(poisoned.clone()))
        );
        let range = PadRange { table: TABLE, lane: Lane::Down, offset: 0, len: 64 };
        let held = world.engine.hold(&[(HUB, range)]).pop().expect("one").map(|_| ());
        assert_eq!(held, Err(HoldRefusal::Store(poisoned)));
    }
}

#[test]
fn a_full_disk_refuses_what_needs_room_and_nothing_else() {
    let mut world = World::new();
    world.disk.faults.full.store(true, Ordering::SeqCst);
    let id = world.engine.next_outbox_id();
    let item = OutboxItem { id, receiver: HUB, block: BlockId::new([1; 16]), bytes: vec![3; 3000] };
    let transaction = || Transaction { outbox: vec![item.clone()], ..Transaction::default() };
    assert!(matches!(commit(&world.engine, transaction()), Err(StoreError::Full { .. })));
    world.mint(500, None);
    world.claim(100, false);
    assert_eq!((world.minted.len(), world.claimed.len()), (1, 1));
    world.disk.faults.full.store(false, Ordering::SeqCst);
    assert_eq!(commit(&world.engine, transaction()), Ok(()));
    world.crash(Keep::Nothing, false);
    assert_eq!(world.engine.outbox_read(id), Ok(Some(vec![3; 3000])));
}
