//! Pads step by step: what is handed out without I/O, and when more is reserved.

use dske_protocol::ids::PadRange;

use super::world::*;
use crate::{
    error::MintError,
    lane_state::RUN_BYTES_MAX,
    lock_short,
    pads::{MintOutcome, Reservation},
    status::Use,
    transaction::Want,
};

fn mint(world: &World, bytes: u64) -> Result<MintOutcome, MintError> {
    let want = Want { peer: HUB, bytes, usage: Use::Key };
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

#[test]
fn what_is_reserved_is_handed_out_to_its_last_byte() {
    let world = World::new();
    let first = Reservation { table: TABLE, start: 0, bytes: 40 };
    assert_eq!(to_reserve(&world, 40), [first]);
    world.engine.reserve(first).expect("reserved");
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
    world.engine.reserve(Reservation { table: TABLE, start: 0, bytes: 40 }).expect("reserved");
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
    world.engine.reserve(Reservation { table: TABLE, start: 0, bytes: 40 }).expect("reserved");
    let mark = world.engine.mint_sync(TABLE, CHUNK).expect("a tag key").range;
    assert_eq!((mark.offset, mark.len), (CHUNK, 32));
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
    assert_eq!((wanted, left), (RUN_BYTES_MAX, LANE - LANE / 16));
}

#[test]
fn a_lane_is_handed_out_in_order_up_to_what_is_kept_for_marks() {
    let mut world = World::new();
    let runs = (LANE - LANE / 16) / 1000;
    for _ in 0..runs {
        world.mint(1000, None);
    }
    let expected: Vec<(u64, u64)> = (0..runs).map(|run| (run * 1000, run * 1000 + 1000)).collect();
    assert_eq!(world.minted, expected);
    let left = LANE - LANE / 16 - runs * 1000;
    assert!(matches!(mint(&world, left + 1), Err(MintError::Exhausted { left: told, .. }) if told == left));
}
