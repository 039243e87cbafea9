//! Minting, holding, claiming: no byte serves two messages, whoever races.

use std::{
    collections::BTreeSet,
    sync::{Barrier, Mutex},
};

use dske_protocol::ids::{Lane, NodeId, PadRange};
use dske_storage::{HoldRefusal, MintError, StoreError, TableSide, TableState, Transaction, Use, Want};

use crate::common::*;

#[test]
fn both_ends_have_the_same_bytes() {
    let world = World::paired();
    for bytes in [48, 5000, 33, 20_000] {
        let minted = world.mint_up(bytes);
        let held = world.hold(minted.range).expect("held");
        assert_eq!(reveal(minted.pad), reveal(held));
        world.claim(minted.range).expect("claimed");
    }
    let minted = mint(&world.hub, CLIENT, 100);
    assert_eq!(minted.range.lane, Lane::Down);
    let held = get(world.client.hold(vec![held(HUB, minted.range)])).pop().expect("one").expect("held");
    assert_eq!(reveal(minted.pad), reveal(held));
    let status = table(&world.hub);
    assert_eq!(status.lanes[lane_of(Lane::Up)].used_key, 25_081);
    assert_eq!(status.lanes[lane_of(Lane::Down)].used_key, 100);
    assert_eq!(table(&world.client).lanes[lane_of(Lane::Up)].used_key, 25_081);
}

#[test]
fn of_many_that_hold_one_run_one_wins() {
    let world = World::paired();
    let minted = world.mint_up(64);
    let barrier = Barrier::new(8);
    let results: Vec<bool> = std::thread::scope(|scope| {
        let work = || {
            barrier.wait();
            world.hold(minted.range).is_ok()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread")).collect()
    });
    assert_eq!(results.iter().filter(|&&won| won).count(), 1);
    assert_eq!(world.hold(minted.range).map(|_| ()), Err(HoldRefusal::Held));

    let claims: Vec<_> = (0..8).map(|_| world.hub.commit(claim(minted.range))).collect();
    let claimed: Vec<_> = claims.into_iter().map(get).collect();
    assert_eq!(claimed.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(claimed.contains(&Err(StoreError::AlreadyUsed { range: minted.range })));
    assert_eq!(world.hold(minted.range).map(|_| ()), Err(HoldRefusal::AlreadyUsed));
}

#[test]
fn a_wrong_claim_fails_alone_and_leaves_nothing() {
    let world = World::paired();
    let good = world.mint_up(64);
    world.hold(good.range).expect("held");
    let mut bad = claim(PadRange { offset: good.range.offset + 1, ..good.range });
    bad.block.push(block(9, Some(&[1; 32]), 32));
    let replies = [world.hub.commit(bad), world.hub.commit(claim(good.range))];
    let results: Vec<_> = replies.into_iter().map(get).collect();
    assert!(matches!(results[0], Err(StoreError::AlreadyUsed { .. })));
    assert_eq!(results[1], Ok(()));
    assert_eq!(world.hub.blocks(10), Ok(vec![]));
    // One transaction cannot claim a run twice.
    let other = world.mint_up(64);
    world.hold(other.range).expect("held");
    let twice = Transaction { claims: vec![(other.range, Use::Key); 2], ..Transaction::default() };
    assert!(matches!(get(world.hub.commit(twice)), Err(StoreError::AlreadyUsed { .. })));
}

#[test]
fn released_runs_can_be_held_again() {
    let world = World::paired();
    let minted = world.mint_up(64);
    let first = reveal(world.hold(minted.range).expect("held"));
    world.hub.release(minted.range, None);
    assert_eq!(reveal(world.hold(minted.range).expect("held again")), first);
    // A request whose caller went away holds nothing.
    world.hub.release(minted.range, None);
    drop(world.hub.hold(vec![held(CLIENT, minted.range)]));
    let mut again = world.hold(minted.range);
    for _ in 0..50 {
        if again.is_ok() {
            break;
        }
        std::thread::yield_now();
        world.hub.release(minted.range, None);
        again = world.hold(minted.range);
    }
    assert!(again.is_ok());
}

#[test]
fn what_a_peer_may_not_name_is_refused() {
    let world = World::paired();
    let status = table(&world.hub);
    let run = |lane, offset, len| PadRange { table: status.table, lane, offset, len };
    let end = status.lanes[0].bytes;
    assert_eq!(world.hold(run(Lane::Down, 0, 64)).map(|_| ()), Err(HoldRefusal::WrongLane));
    for bad in
        [run(Lane::Up, end, 1), run(Lane::Up, end - 1, 2), run(Lane::Up, u64::MAX, 2), run(Lane::Up, 0, 0)]
    {
        assert_eq!(world.hold(bad).map(|_| ()), Err(HoldRefusal::OutOfRange), "{bad:?}");
    }
    let stranger = NodeId::new([9; 32]);
    let refused = get(world.hub.hold(vec![held(stranger, run(Lane::Up, 0, 64))])).pop().expect("one");
    assert!(matches!(refused, Err(HoldRefusal::WrongPeer { .. })));
    let unknown = PadRange { table: dske_protocol::ids::TableId::new([0; 16]), ..run(Lane::Up, 0, 64) };
    assert!(matches!(world.hold(unknown), Err(HoldRefusal::UnknownTable(_))));
}

#[test]
fn mints_from_many_threads_never_overlap() {
    let world = World::paired();
    let taken = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..6u64 {
            let (world, taken) = (&world, &taken);
            scope.spawn(move || {
                for i in 0..60 {
                    let minted = world.mint_up(40 + (thread * 131 + i * 37) % 900);
                    taken.lock().expect("unpoisoned").push((minted.range.offset, minted.range.len));
                }
            });
        }
    });
    let mut taken = taken.into_inner().expect("unpoisoned");
    taken.sort_unstable();
    assert_eq!(taken.len(), 360);
    assert!(taken.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
    let used: u64 = taken.iter().map(|(_, len)| len).sum();
    let status = table(&world.client);
    assert_eq!(status.lanes[lane_of(Lane::Up)].used_key, used);
    assert_eq!(status.lanes[lane_of(Lane::Up)].skipped, 0);
}

#[test]
fn mint_is_all_or_nothing_and_tables_go_in_order() {
    let world = World::paired();
    let first = table(&world.client).table;
    let want = |bytes| Want { peer: HUB, side: TableSide::Client, bytes, usage: Use::Identity };
    let stranger = Want { peer: NodeId::new([9; 32]), side: TableSide::Client, bytes: 40, usage: Use::Key };
    assert!(matches!(get(world.client.mint(vec![want(40), stranger])), Err(MintError::NoTable { .. })));
    let lane = MODULE_BYTES / 2;
    let refused = get(world.client.mint(vec![want(lane / 2), want(lane / 2), want(1)]));
    assert!(matches!(refused, Err(MintError::Exhausted { .. })), "{refused:?}");
    assert_eq!(table(&world.client).lanes[0].left, lane);
    assert!(matches!(get(world.client.mint(vec![want(0)])), Err(MintError::BadLength { bytes: 0 })));

    let second = world.add_table(MODULE_BYTES);
    // The end of a lane is kept for marks.
    let lane = dske_protocol::sync::keys_from(lane);
    let runs = get(world.client.mint(vec![want(lane - 100), want(200), want(100)])).expect("two tables");
    let tables: Vec<_> = runs.iter().map(|minted| minted.range.table).collect();
    assert_eq!(tables, [first, second, first]);
    world.client.tables().iter().for_each(check_sums);
}

#[test]
fn used_runs_stay_used_after_a_restart() {
    let mut world = World::paired();
    let runs: Vec<_> = (0..5).map(|_| world.mint_up(100).range).collect();
    for range in [runs[3], runs[1], runs[2]] {
        world.hold(range).expect("held");
        world.claim(range).expect("claimed");
    }
    world.hold(runs[4]).expect("held, but only in memory");
    world.reopen();
    for (i, range) in runs.iter().enumerate() {
        let expected = if (1..=3).contains(&i) { Err(HoldRefusal::AlreadyUsed) } else { Ok(()) };
        assert_eq!(world.hold(*range).map(|_| ()), expected, "run {i}");
    }
    assert_eq!(table(&world.hub).lanes[0].used_key, 300);
    // The minting end counts what it handed out, and passes over only what was waiting.
    let status = table(&world.client);
    assert_eq!(status.lanes[0].used_key, 500);
    assert!(status.lanes[0].skipped <= CHUNK);
    let seen: BTreeSet<u64> = runs.iter().map(|range| range.offset).collect();
    let next = world.mint_up(100).range;
    assert!(next.offset >= seen.last().expect("some") + 100);
}

#[test]
fn forged_messages_suspend_a_table_exactly_at_the_budget() {
    let mut world = World::paired();
    let minted = world.mint_up(64);
    let forge = |world: &World, blocks| {
        world.hold(minted.range).expect("held");
        world.hub.release(minted.range, Some(blocks));
    };
    forge(&world, u64::MAX);
    assert_eq!(table(&world.hub).state, TableState::Active);
    assert_eq!(table(&world.hub).forged_blocks, u128::from(u64::MAX));
    world.reopen();
    assert_eq!(table(&world.hub).forged_blocks, u128::from(u64::MAX), "the budget survives");
    forge(&world, 1);
    assert!(matches!(table(&world.hub).state, TableState::Suspended { .. }));
    assert!(matches!(world.hold(minted.range), Err(HoldRefusal::NotActive { .. })));
    world.reopen();
    assert!(matches!(table(&world.hub).state, TableState::Suspended { .. }));
    // Only what was held can be forged.
    world.hub.release(minted.range, Some(5));
    assert_eq!(table(&world.hub).forged_blocks, 1 << 64);
}

#[test]
fn a_tag_key_of_a_mark_moves_nothing_that_messages_come_from() {
    let mut world = World::paired();
    let id = table(&world.client).table;
    world.mint_up(100);
    let keys = dske_protocol::sync::keys_from(MODULE_BYTES / 2);
    let ahead = get(world.client.mint_sync(id, keys + 320)).expect("a tag key");
    assert_eq!((ahead.range.offset, ahead.range.len), (keys + 320, 32));
    let again = get(world.client.mint_sync(id, keys + 320)).expect("another");
    assert_eq!(again.range.offset, keys + 352, "never the same place");
    assert_eq!(table(&world.client).lanes[0].used_sync, 64);
    assert_eq!(get(world.client.marks(HUB, TableSide::Client, id, false)).expect("known").own, CHUNK);
    world.reopen();
    assert_eq!(get(world.client.mint_sync(id, 50)).expect("the first").range.offset, keys);
    assert_eq!(world.mint_up(1000).range.offset, CHUNK);
    get(world.client.skip(id, 200_000)).expect("skipped");
    assert!(get(world.client.skip(id, MODULE_BYTES)).is_err(), "past the end");
    assert!(world.mint_up(10).range.offset >= 200_000);
    world.reopen();
    assert!(world.mint_up(10).range.offset >= 200_010);
    table(&world.client);
}

fn claim(range: PadRange) -> Transaction {
    Transaction { claims: vec![(range, Use::Key)], ..Transaction::default() }
}
