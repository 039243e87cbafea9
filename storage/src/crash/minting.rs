//! Pads step by step: what is handed out without I/O, and when more is reserved.

use dske_protocol::{ids::PadRange, sync::keys_from};

use super::world::*;
use crate::{
    error::MintError,
    lane_state::RUN_BYTES_MAX,
    lock_short,
    pads::{MintOutcome, Reservation},
    sim::Keep,
    status::{TableSide, Use},
    transaction::Want,
};

fn mint(world: &World, bytes: u64) -> Result<MintOutcome, MintError> {
    let want = Want { peer: HUB, side: TableSide::Client, bytes, usage: Use::Key };
    world.engine.mint(&mut lock_short(&world.engine.state), &[want])
}

/// What is handed out out of memory: its place, and whether the table is to be refilled.
fn ready(world: &World, bytes: u64) -> (u64, bool) {
    let Ok(MintOutcome::Ready(minted, low)) = mint(world, bytes) else { panic!("{bytes} are not reserved") };
    let [minted] = &minted[..] else { panic!("one was wanted") };
    let PadRange { table, offset, len, .. } = minted.range;
    assert_eq!((table, len), (TABLE, bytes));
    (offset, !low.is_empty())
}

fn to_reserve(world: &World, bytes: u64) -> Vec<Reservation> {
    let Ok(MintOutcome::Reserve(reservations)) = mint(world, bytes) else { panic!("{bytes} are reserved") };
    reservations
}

/// Reserves, and reads what is reserved.
fn reserve(world: &World, wanted: Reservation) {
    world.engine.reserve(wanted).expect("reserved");
    world.engine.load(TABLE, 0).expect("read");
}

#[test]
fn what_is_reserved_is_handed_out_to_its_last_byte() {
    let world = World::new();
    let first = Reservation { table: TABLE, start: 0, bytes: 40 };
    assert_eq!(to_reserve(&world, 40), [first]);
    reserve(&world, first);
    assert_eq!(ready(&world, 40), (0, false));
    assert_eq!(ready(&world, CHUNK / 2 - 40), (40, false), "half a chunk is enough");
    assert_eq!(ready(&world, 1), (CHUNK / 2, true));
    assert_eq!(ready(&world, CHUNK / 2 - 1), (CHUNK / 2 + 1, false), "it is asked for once");
    assert_eq!(to_reserve(&world, 1), [Reservation { table: TABLE, start: CHUNK, bytes: 1 }]);
    world.engine.refill(TABLE).expect("refilled");
    assert_eq!(ready(&world, CHUNK / 2), (CHUNK, false));
    assert_eq!(ready(&world, 40), (CHUNK + CHUNK / 2, true), "and again after a refill");
}

#[test]
fn nothing_is_read_ahead_where_nothing_is_left() {
    let world = World::new();
    reserve(&world, Reservation { table: TABLE, start: 0, bytes: 40 });
    let mark_end = |start, end| {
        let mut state = lock_short(&world.engine.state);
        state.tables.get_mut(&TABLE).expect("the table").own_lane_mut().used.insert(start, end);
    };
    mark_end(CHUNK, LANE);
    assert_eq!(ready(&world, CHUNK - 40), (0, false));
}

#[test]
fn a_refill_goes_past_a_run_that_is_used() {
    let world = World::new();
    reserve(&world, Reservation { table: TABLE, start: 0, bytes: 40 });
    let mark_used = |start, end| {
        let mut state = lock_short(&world.engine.state);
        state.tables.get_mut(&TABLE).expect("the table").own_lane_mut().used.insert(start, end);
    };
    mark_used(CHUNK, CHUNK + 32);
    world.engine.refill(TABLE).expect("refilled");
    assert_eq!(ready(&world, 40), (CHUNK + 32, false));
}

#[test]
fn a_run_is_neither_empty_nor_longer_than_any_may_be() {
    let world = World::new();
    for bytes in [0, RUN_BYTES_MAX + 1, u64::MAX] {
        assert!(matches!(mint(&world, bytes), Err(MintError::BadLength { bytes: told }) if told == bytes));
    }
    let Err(MintError::Exhausted { wanted, left, .. }) = mint(&world, RUN_BYTES_MAX) else {
        panic!("there cannot be room")
    };
    assert_eq!((wanted, left), (RUN_BYTES_MAX, keys_from(LANE)));
}

#[test]
fn a_lane_is_handed_out_in_order_up_to_what_is_kept_for_marks() {
    let mut world = World::new();
    let runs = (keys_from(LANE)) / 1000;
    for _ in 0..runs {
        world.mint(1000, None);
    }
    let expected: Vec<(u64, u64)> = (0..runs).map(|run| (run * 1000, run * 1000 + 1000)).collect();
    assert_eq!(world.minted, expected);
    let left = keys_from(LANE) - runs * 1000;
    assert!(matches!(mint(&world, left + 1), Err(MintError::Exhausted { left: told, .. }) if told == left));
}

#[test]
fn long_messages_are_read_one_by_one_and_a_crash_erases_what_was_not_read() {
    const LONG: u64 = 3 * CHUNK;
    let mut world = World::new();
    world.mint(LONG, None);
    world.engine.refill(TABLE).expect("reserved");
    let lane = |world: &World| {
        let state = lock_short(&world.engine.state);
        let lane = state.tables.get(&TABLE).expect("the table").own_lane();
        (lane.position(), lane.loaded(), lane.mark)
    };
    assert_eq!(lane(&world), (LONG, LONG, LONG + CHUNK), "reserved, and not read");
    assert_eq!(to_reserve(&world, 40), [Reservation { table: TABLE, start: LONG, bytes: 40 }]);
    world.mint(40, None);
    assert_eq!(lane(&world), (LONG + 40, LONG + 40, LONG + CHUNK), "no more than was wanted");
    let mark = world.engine.mint_sync(TABLE, 0).expect("a tag key").range;
    assert_eq!((mark.offset, lane(&world)), (keys_from(LANE), (LONG + 40, LONG + 40, LONG + CHUNK)), "apart");
    world.engine.skip(TABLE, LONG + 1000).expect("skipped");
    assert_eq!(lane(&world), (LONG + 1000, LONG + 1000, LONG + CHUNK));
    world.engine.erase_due().expect("erased");
    let stands = |world: &World, start: u64, end: u64| {
        let file = lock_short(&world.engine.state).tables[&TABLE].own_lane().file.clone();
        file.read(start, end - start).expect("readable").is_some()
    };
    assert!(!stands(&world, 0, LONG + 1000) && stands(&world, LONG + 1000, LONG + CHUNK));
    world.crash(Keep::Nothing, Keep::Nothing);
    world.engine.erase_due().expect("erased");
    assert!(!stands(&world, LONG + 1000, LONG + CHUNK), "nobody will get it any more");
}
