//! Two stores whose nodes are hub and client for each other: two tables between the same two peers, one in each role.

use dske_protocol::ids::{Lane, PadRange, TableId};
use dske_storage::{
    ClientRecord, HoldRefusal, MarksRefusal, MintError, Store, TableSide, TableStatus, Use, Want,
    pskm::{self, HubContact, ImportOptions, MakeModule, SystemEntropy},
};

use crate::common::*;

/// Another module, from the node that is client in [`World`] to the one that is hub there.
fn add_table_the_other_way(world: &World) -> TableId {
    let out = world.path("back.pskm");
    let client = ClientRecord { node: HUB, name: "p1".parse().expect("a name"), ..client_record() };
    let hub = HubContact { node: CLIENT, name: "alice".parse().expect("a name"), addresses: Vec::new() };
    let request = MakeModule {
        client: &client,
        hub,
        lane_bytes: [MODULE_BYTES / 2; 2],
        out: &out,
        key: &world.key,
        now_ms: 10,
    };
    let module = pskm::make(&world.client, &request, &mut SystemEntropy, &|_, _| {}).expect("a module");
    let options = ImportOptions { me: HUB, wipe: false, now_ms: 20 };
    let imported = pskm::import(&world.hub, &out, &world.key, options, &|_, _| {}).expect("an import");
    pskm::acknowledge(&world.client, &module.serial, imported.receipt.as_str(), 30).expect("a receipt");
    let transaction = dske_storage::Transaction { activate: vec![module.table], ..Default::default() };
    get(world.hub.commit(transaction)).expect("the hub's word");
    [&world.hub, &world.client].into_iter().for_each(open_tables);
    module.table
}

fn side(store: &Store, side: TableSide) -> TableStatus {
    store.tables().into_iter().find(|table| table.side == side).expect("a table of each side")
}

#[test]
fn pads_come_out_of_the_table_of_the_side_that_was_asked_for() {
    let world = World::paired();
    let there = table(&world.client).table;
    let back = add_table_the_other_way(&world);
    // Whichever of the two was active first, and at both ends.
    for (store, peer, as_client, as_hub) in
        [(&world.client, HUB, there, back), (&world.hub, CLIENT, back, there)]
    {
        let mint = |side| {
            let want = Want { peer, side, bytes: 96, usage: Use::Key };
            get(store.mint(vec![want])).expect("pads").pop().expect("one").range
        };
        for _ in 0..3 {
            let (up, down) = (mint(TableSide::Client), mint(TableSide::Hub));
            assert_eq!((up.table, up.lane), (as_client, Lane::Up));
            assert_eq!((down.table, down.lane), (as_hub, Lane::Down));
        }
        let used = |side| self::side(store, side).lanes.map(|lane| lane.used_key);
        assert_eq!(
            (used(TableSide::Client), used(TableSide::Hub)),
            ([288, 0], [0, 288]),
            "each side by itself"
        );
    }
}

#[test]
fn a_side_without_a_table_has_no_pads_whatever_the_other_has() {
    let world = World::paired();
    let want = |side| vec![Want { peer: HUB, side, bytes: 96, usage: Use::Key }];
    let refused = get(world.client.mint(want(TableSide::Hub))).map(|_| ());
    assert_eq!(refused, Err(MintError::NoTable { peer: HUB, side: TableSide::Hub }));
    assert!(get(world.client.mint(want(TableSide::Client))).is_ok());
}

#[test]
fn each_side_is_compared_opened_and_closed_by_itself() {
    let world = World::paired();
    let there = table(&world.client).table;
    let back = add_table_the_other_way(&world);
    let marks = |side, table| get(world.client.marks(HUB, side, table, false)).map(|_| ());
    assert_eq!((marks(TableSide::Client, there), marks(TableSide::Hub, back)), (Ok(()), Ok(())));
    for (wrong, table) in [(TableSide::Hub, there), (TableSide::Client, back)] {
        assert_eq!(marks(wrong, table), Err(MarksRefusal::UnknownTable), "as {wrong}");
    }
    let open = || [TableSide::Client, TableSide::Hub].map(|side| self::side(&world.client, side).open);
    world.client.close_tables(HUB, TableSide::Hub);
    assert_eq!(open(), [true, false], "the hub's part heard of the end of a connection, late");
    world.client.close_tables(HUB, TableSide::Client);
    assert_eq!(open(), [false, false]);
}

#[test]
fn the_lane_that_a_node_allocates_itself_is_not_held() {
    let world = World::paired();
    let back = add_table_the_other_way(&world);
    // At the node that is the hub of this table a client's message lies in the up lane.
    let hold = |lane| {
        let range = PadRange { table: back, lane, offset: 0, len: 96 };
        get(world.client.hold(vec![held(HUB, range)])).pop().expect("one answer").map(|_| ())
    };
    assert_eq!(hold(Lane::Down), Err(HoldRefusal::WrongLane));
    assert_eq!(hold(Lane::Up), Ok(()));
}
