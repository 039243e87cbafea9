//! Marks: who hears how far a table has come, and what comparing them changes.

use dske_protocol::{
    effect::{LaneMarks, SyncRecord},
    ids::{Lane, NodeId, PadRange, TableId},
};
use dske_storage::{
    HoldRefusal, HoldWant, MarksRefusal, MintError, Store, StoreError, TableState, Transaction, Use, Want,
};

use crate::common::*;

const STRANGER: NodeId = NodeId::new([9; 32]);
const LANE: u64 = MODULE_BYTES / 2;

fn marks(store: &Store, peer: NodeId, table: TableId) -> Result<LaneMarks, MarksRefusal> {
    get(store.marks(peer, table, false))
}

fn sync(table: TableId) -> SyncRecord {
    SyncRecord { table, peer_mark: 0, lease: 0, void_below: None, void_keys: false, activate: false }
}

fn compare(store: &Store, sync: SyncRecord) -> Result<(), StoreError> {
    get(store.commit(Transaction { sync: Some(sync), ..Transaction::default() }))
}

fn hold(store: &Store, want: HoldWant) -> Result<(), HoldRefusal> {
    get(store.hold(vec![want])).pop().expect("one answer").map(|_| ())
}

fn can_mint(store: &Store, peer: NodeId) -> Result<(), MintError> {
    get(store.mint(vec![Want { peer, bytes: 40, usage: Use::Key }])).map(|_| ())
}

#[test]
fn only_who_shares_a_table_hears_its_marks() {
    let world = World::paired();
    let id = table(&world.client).table;
    assert!(marks(&world.client, HUB, id).is_ok());
    assert_eq!(marks(&world.client, STRANGER, id), Err(MarksRefusal::UnknownTable));
    assert_eq!(marks(&world.client, HUB, TableId::new([0; 16])), Err(MarksRefusal::UnknownTable));
    get(world.client.commit(Transaction { retire: vec![id], ..Transaction::default() })).expect("retired");
    assert!(matches!(marks(&world.client, HUB, id), Err(MarksRefusal::NotActive { .. })));
    assert_eq!(marks(&world.client, STRANGER, id), Err(MarksRefusal::UnknownTable));
}

#[test]
fn a_table_whose_receipt_is_out_may_be_compared_by_the_client_alone() {
    let world = World::empty();
    let id = world.make("0.pskm", MODULE_BYTES).table;
    world.import("0.pskm").expect("an import");
    assert_eq!(marks(&world.hub, CLIENT, id), Err(MarksRefusal::Pending));
    let refused = get(world.hub.mint_sync(id, 0)).map(|_| ());
    assert_eq!(refused, Err(MintError::NoTable { peer: CLIENT }));
    assert!(marks(&world.client, HUB, id).is_ok());
    assert_eq!(get(world.client.mint_sync(id, 0)).expect("a tag key").range.offset, 0);
    let range = PadRange { table: id, lane: Lane::Down, offset: 0, len: 40 };
    assert_eq!(hold(&world.client, held(HUB, range)), Err(HoldRefusal::Pending));
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
        firm: CHUNK,
        next: 100,
        seen: 0,
        used_below: 0,
        lease: 0,
        own_bytes: LANE,
        peer_bytes: LANE,
        ahead: CHUNK / 2,
        unsure: false,
    };
    assert_eq!(marks(&world.client, HUB, id), Ok(expected));
    for at in [CHUNK, 50_000] {
        assert_eq!(get(world.client.mint_sync(id, at)).expect("a tag key").range.offset, at);
    }
    let expected = LaneMarks { own: 50_032, firm: CHUNK + 32, ..expected };
    assert_eq!(marks(&world.client, HUB, id), Ok(expected), "firm ends where there is a gap");
    compare(&world.client, SyncRecord { lease: 50_010, peer_mark: 5000, ..sync(id) }).expect("recorded");
    compare(&world.client, SyncRecord { lease: 10, peer_mark: 20, ..sync(id) })
        .expect("nothing is unlearned");
    for _ in 0..2 {
        let LaneMarks { own, firm, seen, lease, .. } = marks(&world.client, HUB, id).expect("known");
        assert_eq!((own, firm, seen, lease), (50_032, 50_032, 5000, 50_010));
        world.reopen();
    }
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
    assert_eq!(get(world.client.mint_sync(id, 0)).expect("a tag key").range.offset, 0);
    assert_eq!(told(), (32, 0), "a tag key ahead of all that is reserved is behind what comes next");
    for (offset, used_below) in [(64, 0), (192, 0), (0, 128), (128, 256)] {
        let range = PadRange { table: id, lane: Lane::Down, offset, len: 64 };
        assert_eq!(hold(&world.client, held(HUB, range)), Ok(()));
        let claims = vec![(range, Use::Key)];
        get(world.client.commit(Transaction { claims, ..Transaction::default() })).expect("claimed");
        assert_eq!(told(), (32, used_below), "without a gap, once {offset} is used");
    }
}

#[test]
fn marks_cover_what_will_be_handed_out_next_where_that_is_wanted() {
    let world = World::paired();
    let id = table(&world.client).table;
    world.mint_up(100);
    assert_eq!(get(world.client.marks(HUB, id, true)).expect("known").own, CHUNK + 100);
    assert_eq!(get(world.client.mint_sync(id, 50)).expect("a tag key").range.offset, 100, "out of memory");
    assert_eq!(get(world.client.mint_sync(id, 133)).expect("a tag key").range.offset, CHUNK + 100);
    assert_eq!(get(world.client.mint_sync(id, LANE - 31)).map(|_| ()), Err(MintError::PlaceUsed));
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
    get(world.client.skip(id, LANE)).expect("all of it");
    assert!(get(world.client.skip(id, LANE + 1)).is_err());
    assert_eq!(marks(&world.client, HUB, id).expect("known").own, LANE);
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

    both(&|store| store.close_tables(STRANGER));
    assert_eq!(use_it(), (Ok(()), Ok(()), Ok(())));
    world.hub.close_tables(CLIENT);
    world.client.close_tables(HUB);
    assert_eq!(use_it(), (not_held(), not_minted(HUB), Ok(())), "a hub mints for a client that is away");
    both(&|store| store.open_table(&id));
    assert_eq!(use_it(), (Ok(()), Ok(()), Ok(())));
    both(&|store| store.shut_table(&id));
    assert_eq!(use_it(), (not_held(), not_minted(HUB), Ok(())));
    both(&|store| store.leave_table(&id));
    assert_eq!(use_it(), (not_held(), not_minted(HUB), not_minted(CLIENT)));
    both(&|store| store.shut_table(&id));
    world.hub.close_tables(CLIENT);
    assert_eq!(use_it().2, not_minted(CLIENT), "what was left stays so until it is compared");
}

#[test]
fn marks_beyond_the_ends_of_their_lanes_are_refused() {
    let world = World::paired();
    let id = table(&world.client).table;
    let unknown = TableId::new([0; 16]);
    assert_eq!(compare(&world.client, sync(unknown)), Err(StoreError::UnknownTable { table: unknown }));
    for bad in [
        SyncRecord { lease: LANE + 1, ..sync(id) },
        SyncRecord { peer_mark: LANE + 1, ..sync(id) },
        SyncRecord { void_below: Some(LANE + 1), ..sync(id) },
    ] {
        assert!(matches!(compare(&world.client, bad), Err(StoreError::Invalid { .. })), "{bad:?}");
    }
    assert_eq!(marks(&world.client, HUB, id).map(|marks| (marks.lease, marks.seen)), Ok((0, 0)));
    let all = SyncRecord { lease: LANE, peer_mark: LANE, void_below: Some(LANE), ..sync(id) };
    assert_eq!(compare(&world.client, all), Ok(()));
    let range = PadRange { table: id, lane: Lane::Down, offset: LANE - 40, len: 40 };
    assert_eq!(hold(&world.client, held(HUB, range)), Err(HoldRefusal::AlreadyUsed));
}
