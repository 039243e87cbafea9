//! The engine on a simulated disk that fails at any write or sync and forgets or tears what was not synced:
//! whatever happens, no byte serves twice, no key leaves twice, and what was acknowledged is there.

mod key_store;
mod keys;
mod minting;
mod retire;
mod told;
mod world;

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use dske_protocol::ids::{BlockId, KeyId, Lane, PadRange};
use futures::channel::oneshot;
use proptest::prelude::*;

use crate::{
    disk::Disk,
    error::{HoldRefusal, StoreError, TakeError},
    group::Job,
    journal::JOURNAL_BYTES,
    journal_header::RECORDS_OFFSET,
    lane_file::lane_file_name,
    lane_header::DATA_OFFSET,
    layout,
    sim::{Faults, Keep},
    status::Use,
    transaction::Transaction,
    wait::wait,
};

use world::*;

#[derive(Debug, Clone)]
enum Step {
    Mint(u64),
    MintAt(u64),
    Claim(u64, bool),
    Block(u8),
    Take(u8),
    GiveUp(u8),
    Forget(u8),
    Post(u8, usize),
    Deliver,
    Settle,
    Erase,
    FailAfter(u64),
    CutAfter(u64),
    Crash(Keep, Keep),
    CrashTwice([Keep; 2], [Keep; 2], u64),
}

fn keep() -> impl Strategy<Value = Keep> {
    prop_oneof![
        Just(Keep::Nothing),
        Just(Keep::All),
        (0usize..4100).prop_map(Keep::Torn),
        any::<u64>().prop_map(Keep::Some)
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (32u64..3000).prop_map(Step::Mint),
        1 => (0..LANE).prop_map(Step::MintAt),
        4 => (32u64..900, any::<bool>()).prop_map(|(bytes, back)| Step::Claim(bytes, back)),
        2 => (1u8..6).prop_map(Step::Block),
        2 => (1u8..6).prop_map(Step::Take),
        1 => (1u8..6).prop_map(Step::GiveUp),
        1 => (1u8..6).prop_map(Step::Forget),
        3 => (1u8..255, 1usize..3000).prop_map(|(byte, len)| Step::Post(byte, len)),
        2 => Just(Step::Deliver),
        1 => Just(Step::Settle),
        2 => Just(Step::Erase),
        1 => (0u64..6).prop_map(Step::FailAfter),
        2 => (0u64..12).prop_map(Step::CutAfter),
        3 => (keep(), keep()).prop_map(|(disk, log)| Step::Crash(disk, log)),
        1 => ([keep(), keep()], [keep(), keep()], 1u64..12)
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
        Step::GiveUp(id) => world.give_up(id),
        Step::Forget(id) => world.forget(id),
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
        Step::Block(2),
        Step::Claim(80, true),
        Step::Deliver,
        Step::Settle,
        Step::Post(2, 2000),
        Step::Take(1),
        Step::GiveUp(2),
        Step::Forget(1),
        Step::Block(3),
        Step::Claim(100, false),
        // Longer than what is left of the journal.
        Step::Post(3, 1900),
        Step::Erase,
        Step::Mint(4000),
        Step::Deliver,
    ];
    for keep in 0..4 {
        for cut in 1.. {
            // Within the first sector, or within the first page.
            let torn = [20, 100, 600][usize::try_from(cut % 3).expect("small")];
            let keep = [Keep::Nothing, Keep::All, Keep::Torn(torn), Keep::Some(cut)][keep];
            let faults = Arc::new(Faults::default());
            let mut world = World::with(RECORDS_OFFSET + 4096, faults.clone(), faults.clone());
            world.cut_after(cut - 1);
            script.iter().for_each(|step| act(&mut world, step));
            let done = world.engine.poison.get().is_none();
            let log = if cut % 2 == 0 { Keep::All } else { Keep::Nothing };
            world.crash_twice([keep, keep], [log; 2], 1 + cut % 9);
            script.iter().for_each(|step| act(&mut world, step));
            world.crash(keep, Keep::Nothing);
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
        world.crash(Keep::Nothing, Keep::Nothing);
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
        world.crash(Keep::Nothing, Keep::Nothing);
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
        let item = letter(id, 3, if long && number == 0 { 3000 } else { 100 });
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
fn the_journal_is_emptied_once_it_holds_enough() {
    let mut world = World::new();
    world.engine.settle(1).expect("emptied");
    world.block(1);
    let held = world.engine.ledger.unsettled();
    assert!(held > 1, "a block is more than one record");
    world.engine.settle(held + 1).expect("not yet");
    assert_eq!(world.engine.ledger.unsettled(), held);
    world.engine.settle(held).expect("emptied");
    assert_eq!(world.engine.ledger.unsettled(), 0);
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
            run(&world.engine, |reply| Job::Take(key.into(), reply)).err(),
            Some(TakeError::Store(poisoned.clone()))
        );
        let range = PadRange { table: TABLE, lane: Lane::Down, offset: 0, len: 64 };
        let held = world.engine.hold(&[held(HUB, range)]).pop().expect("one").map(|_| ());
        assert_eq!(held, Err(HoldRefusal::Store(poisoned)));
    }
}

#[test]
fn a_full_disk_refuses_what_needs_room_and_nothing_else() {
    let mut world = World::new();
    world.disk.faults.full.store(true, Ordering::SeqCst);
    let id = world.engine.next_outbox_id();
    let item = letter(id, 3, 3000);
    let transaction = || Transaction { outbox: vec![item.clone()], ..Transaction::default() };
    assert!(matches!(commit(&world.engine, transaction()), Err(StoreError::Full { .. })));
    world.mint(500, None);
    world.claim(100, false);
    assert_eq!((world.minted.len(), world.claimed.len()), (1, 1));
    world.disk.faults.full.store(false, Ordering::SeqCst);
    assert_eq!(commit(&world.engine, transaction()), Ok(()));
    world.crash(Keep::Nothing, Keep::Nothing);
    assert_eq!(world.engine.outbox_read(id), Ok(Some(vec![3; 3000])));
}

#[test]
fn a_refused_transaction_gives_back_what_it_would_have_claimed() {
    let world = World::new();
    let range = PadRange { table: TABLE, lane: Lane::Down, offset: 0, len: 64 };
    let id = world.engine.next_outbox_id();
    let item = letter(id, 3, 3000);
    let transaction = || Transaction {
        claims: vec![(range, Use::Key)],
        outbox: vec![item.clone()],
        ..Transaction::default()
    };
    let hold = || world.engine.hold(&[held(HUB, range)]).pop().expect("one").map(|_| ());
    world.disk.faults.full.store(true, Ordering::SeqCst);
    assert_eq!(hold(), Ok(()));
    assert_eq!(hold(), Err(HoldRefusal::Held));
    assert!(matches!(commit(&world.engine, transaction()), Err(StoreError::Full { .. })));
    world.disk.faults.full.store(false, Ordering::SeqCst);
    assert_eq!(hold(), Ok(()), "the message may come again");
    assert_eq!(commit(&world.engine, transaction()), Ok(()));
    assert_eq!(hold(), Err(HoldRefusal::AlreadyUsed));
}
