//! Marks: who hears how far a table has come, and what comparing them changes.

use dske_protocol::{
    effect::{LaneMarks, SyncRecord},
    ids::{Lane, NodeId, PadRange, TableId},
    sync::keys_from,
};
use dske_storage::{
    HoldRefusal, HoldWant, MarksRefusal, MintError, Store, StoreError, TableSide, TableState, Transaction,
    Use, Want,
};

use crate::common::*;

const STRANGER: NodeId = NodeId::new([9; 32]);
const LANE: u64 = MODULE_BYTES / 2;
/// Where the part of a lane begins that is kept for tag keys of marks.
const KEYS: u64 = keys_from(LANE);

fn marks(store: &Store, peer: NodeId, table: TableId) -> Result<LaneMarks, MarksRefusal> {
    get(store.marks(peer, side_towards(peer), table, false))
}

fn sync(table: TableId) -> SyncRecord {
    SyncRecord::of(table)
}

fn compare(store: &Store, sync: SyncRecord) -> Result<(), StoreError> {
    get(store.commit(Transaction { sync: Some(sync), ..Transaction::default() }))
}

fn hold(store: &Store, want: HoldWant) -> Result<(), HoldRefusal> {
    get(store.hold(vec![want])).pop().expect("one answer").map(|_| ())
}

fn can_mint(store: &Store, peer: NodeId) -> Result<(), MintError> {
    get(store.mint(vec![Want { peer, side: side_towards(peer), bytes: 40, usage: Use::Key }])).map(|_| ())
}

#[test]
fn only_who_shares_a_table_hears_its_marks() {
    let world = World::paired();
    let id = table(&world.client).table;
    assert!(marks(&world.client, HUB, id).is_ok());
    assert_eq!(marks(&world.client, STRANGER, id), Err(MarksRefusal::UnknownTable));
    let as_hub = |store: &Store| get(store.marks(HUB, TableSide::Hub, id, false));
    assert_eq!(as_hub(&world.client), Err(MarksRefusal::UnknownTable), "that is not its end of it");
    assert_eq!(marks(&world.client, HUB, TableId::new([0; 16])), Err(MarksRefusal::UnknownTable));
    get(world.client.commit(Transaction { retire: vec![id], ..Transaction::default() })).expect("retired");
    assert!(matches!(marks(&world.client, HUB, id), Err(MarksRefusal::NotActive { .. })));
    assert_eq!(as_hub(&world.client), Err(MarksRefusal::UnknownTable));
    assert_eq!(marks(&world.client, STRANGER, id), Err(MarksRefusal::UnknownTable));
}

#[test]
fn a_table_whose_receipt_is_out_may_be_compared_by_the_client_alone() {
    let world = World::empty();
    let id = world.make("0.pskm", MODULE_BYTES).table;
    world.import("0.pskm").expect("an import");
    assert_eq!(marks(&world.hub, CLIENT, id), Err(MarksRefusal::Pending));
    let refused = get(world.hub.mint_sync(id, 0)).map(|_| ());
    assert_eq!(refused, Err(MintError::NoTable { peer: CLIENT, side: TableSide::Hub }));
    assert!(marks(&world.client, HUB, id).is_ok());
    assert_eq!(get(world.client.mint_sync(id, 0)).expect("a tag key").range.offset, KEYS);
    let range = PadRange { table: id, lane: Lane::Down, offset: 0, len: 40 };
    assert_eq!(hold(&world.client, held(HUB, range)), Err(HoldRefusal::Pending));
    let range = PadRange { table: id, lane: Lane::Down, offset: KEYS, len: 32 };
    assert_eq!(hold(&world.client, HoldWant { peer: HUB, range, for_sync: true }), Ok(()));
    compare(&world.client, SyncRecord { lease: 5, ..sync(id) }).expect("recorded");
    assert_eq!(table(&world.client).state, TableState::Pending, "that was not the hub's word");
    compare(&world.client, SyncRecord { activate: true, ..sync(id) }).expect("recorded");
    assert_eq!(table(&world.client).state, TableState::Active);
}

#[test]
fn marks_tell_how_far_both_lanes_have_come() {
    let mut world = World::paired();
    let id = table(&world.client).table;
    world.mint_up(100);
    let expected = LaneMarks {
        own: CHUNK,
        next: 100,
        seen: 0,
        used_below: 0,
        lease: 0,
        keys: KEYS,
        keys_seen: KEYS,
        own_bytes: LANE,
        peer_bytes: LANE,
        ahead: CHUNK / 2,
        unsure: false,
    };
    assert_eq!(marks(&world.client, HUB, id), Ok(expected));
    for (at, place) in [(0, KEYS), (KEYS + 100, KEYS + 128), (0, KEYS + 32)] {
        assert_eq!(get(world.client.mint_sync(id, at)).expect("a tag key").range.offset, place);
    }
    let expected = LaneMarks { keys: KEYS + 64, ..expected };
    assert_eq!(
        marks(&world.client, HUB, id),
        Ok(expected),
        "the mark stays, and one further on counts for itself"
    );
    let told =
        SyncRecord { lease: 3000, peer_mark: 5000, peer_keys: KEYS + 320, own_keys: KEYS + 96, ..sync(id) };
    compare(&world.client, told).expect("recorded");
    compare(&world.client, SyncRecord { lease: 10, peer_mark: 20, peer_keys: KEYS, own_keys: 5, ..sync(id) })
        .expect("nothing is unlearned");
    for _ in 0..2 {
        let LaneMarks { own, seen, lease, keys, keys_seen, .. } =
            marks(&world.client, HUB, id).expect("known");
        assert_eq!((own, seen, lease, keys, keys_seen), (CHUNK, 5000, 3000, KEYS + 96, KEYS + 320));
        world.reopen();
    }
    assert_eq!(get(world.client.mint_sync(id, 0)).expect("a tag key").range.offset, KEYS + 96);
    assert_eq!(
        get(world.client.mint_sync(id, 0)).expect("a tag key").range.offset,
        KEYS + 160,
        "over the other"
    );
}

#[test]
fn marks_tell_what_is_handed_out_next_and_below_what_all_counts_as_used() {
    let world = World::paired();
    let id = table(&world.client).table;
    let told = || {
        let LaneMarks { next, used_below, .. } = marks(&world.client, HUB, id).expect("known");
        (next, used_below)
    };
    assert_eq!(told(), (0, 0));
    world.mint_up(40);
    assert_eq!(told(), (40, 0));
    for (offset, used_below) in [(64, 0), (192, 0), (0, 128), (128, 256)] {
        let range = PadRange { table: id, lane: Lane::Down, offset, len: 64 };
        assert_eq!(hold(&world.client, held(HUB, range)), Ok(()));
        let claims = vec![(range, Use::Key)];
        get(world.client.commit(Transaction { claims, ..Transaction::default() })).expect("claimed");
        assert_eq!(told(), (40, used_below), "without a gap, once {offset} is used");
    }
}

#[test]
fn marks_cover_what_will_be_handed_out_next_where_that_is_wanted() {
    let world = World::paired();
    let id = table(&world.client).table;
    world.mint_up(100);
    assert_eq!(get(world.client.marks(HUB, TableSide::Client, id, true)).expect("known").own, CHUNK + 100);
    assert_eq!(get(world.client.mint_sync(id, LANE - 31)).map(|_| ()), Err(MintError::PlaceUsed));
    assert_eq!(get(world.client.mint_sync(id, LANE - 32)).expect("a tag key").range.offset, LANE - 32);
    assert_eq!(get(world.client.mint_sync(id, LANE - 32)).map(|_| ()), Err(MintError::PlaceUsed));
    assert_eq!(get(world.client.mint_sync(id, u64::MAX)).map(|_| ()), Err(MintError::PlaceUsed));
    assert_eq!(get(world.client.mint_sync(id, 0)).expect("a tag key").range.offset, KEYS, "others are left");
}

#[test]
fn messages_and_tag_keys_of_marks_keep_to_their_parts_of_a_lane() {
    let world = World::paired();
    let id = table(&world.client).table;
    let try_to = |offset, len, for_sync| {
        let range = PadRange { table: id, lane: Lane::Up, offset, len };
        hold(&world.hub, HoldWant { peer: CLIENT, range, for_sync })
    };
    for (offset, len, for_sync) in
        [(KEYS, 96, false), (KEYS - 64, 96, false), (0, 32, true), (KEYS - 1, 32, true)]
    {
        assert_eq!(try_to(offset, len, for_sync), Err(HoldRefusal::OutOfRange), "{offset}");
    }
    assert_eq!((try_to(KEYS - 96, 96, false), try_to(KEYS, 32, true)), (Ok(()), Ok(())));
}

#[test]
fn a_table_without_a_place_for_another_mark_is_spent() {
    let world = World::paired();
    let id = table(&world.client).table;
    for _ in 0..(LANE - KEYS) / 32 {
        get(world.client.mint_sync(id, 0)).expect("a tag key");
    }
    assert_eq!(get(world.client.mint_sync(id, 0)).map(|_| ()), Err(MintError::PlaceUsed));
    assert_eq!(table(&world.client).state, TableState::Spent);
}

#[test]
fn skipping_gives_up_what_waits_is_durable_and_ends_with_the_lane() {
    let mut world = World::paired();
    let id = table(&world.client).table;
    world.mint_up(100);
    get(world.client.skip(id, 300)).expect("skipped");
    assert_eq!(world.mint_up(40).range.offset, 300);
    get(world.client.skip(id, 50_000)).expect("skipped");
    world.reopen();
    assert_eq!(marks(&world.client, HUB, id).expect("known").own, 50_000);
    get(world.client.skip(id, KEYS)).expect("all of it");
    assert!(get(world.client.skip(id, KEYS + 1)).is_err());
    assert_eq!(marks(&world.client, HUB, id).expect("known").own, KEYS);
}

#[test]
fn a_table_is_used_while_its_comparison_holds() {
    let world = World::paired();
    let id = table(&world.client).table;
    let mut next = 0;
    let mut use_it = || {
        let range = PadRange { table: id, lane: Lane::Up, offset: next, len: 40 };
        next += 40;
        let held = hold(&world.hub, held(CLIENT, range));
        (held, can_mint(&world.client, HUB), can_mint(&world.hub, CLIENT))
    };
    let not_held = || Err(HoldRefusal::NotSynced);
    let not_minted = |peer| Err(MintError::NotSynced { peer });
    let both = |change: &dyn Fn(&Store)| [&world.hub, &world.client].into_iter().for_each(change);

    both(&|store| store.close_tables(STRANGER, TableSide::Hub));
    both(&|store| store.close_tables(STRANGER, TableSide::Client));
    world.hub.close_tables(CLIENT, TableSide::Client);
    world.client.close_tables(HUB, TableSide::Hub);
    assert_eq!(use_it(), (Ok(()), Ok(()), Ok(())));
    world.hub.close_tables(CLIENT, TableSide::Hub);
    world.client.close_tables(HUB, TableSide::Client);
    assert_eq!(use_it(), (not_held(), not_minted(HUB), Ok(())), "a hub mints for a client that is away");
    both(&|store| store.open_table(&id));
    assert_eq!(use_it(), (Ok(()), Ok(()), Ok(())));
    both(&|store| store.shut_table(&id));
    assert_eq!(use_it(), (not_held(), not_minted(HUB), Ok(())));
    both(&|store| store.leave_table(&id));
    assert_eq!(use_it(), (not_held(), not_minted(HUB), not_minted(CLIENT)));
    both(&|store| store.shut_table(&id));
    world.hub.close_tables(CLIENT, TableSide::Hub);
    assert_eq!(use_it().2, not_minted(CLIENT), "what was left stays so until it is compared");
}

#[test]
fn marks_beyond_the_ends_of_their_lanes_are_refused() {
    let world = World::paired();
    let id = table(&world.client).table;
    let unknown = TableId::new([0; 16]);
    assert_eq!(compare(&world.client, sync(unknown)), Err(StoreError::UnknownTable { table: unknown }));
    for bad in [
        SyncRecord { lease: KEYS + 1, ..sync(id) },
        SyncRecord { peer_mark: KEYS + 1, ..sync(id) },
        SyncRecord { own_keys: LANE + 1, ..sync(id) },
        SyncRecord { peer_keys: LANE + 1, ..sync(id) },
        SyncRecord { void_below: Some(KEYS + 1), ..sync(id) },
    ] {
        assert!(matches!(compare(&world.client, bad), Err(StoreError::Invalid { .. })), "{bad:?}");
    }
    assert_eq!(marks(&world.client, HUB, id).map(|marks| (marks.lease, marks.seen)), Ok((0, 0)));
    let all = SyncRecord {
        lease: KEYS,
        peer_mark: KEYS,
        own_keys: LANE,
        peer_keys: LANE,
        void_below: Some(KEYS),
        ..sync(id)
    };
    assert_eq!(compare(&world.client, all), Ok(()));
    let range = PadRange { table: id, lane: Lane::Down, offset: KEYS - 40, len: 40 };
    assert_eq!(hold(&world.client, held(HUB, range)), Err(HoldRefusal::AlreadyUsed));
}
