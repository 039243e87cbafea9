//! Lanes that are gone, cut short or without a valid header: damage of their table alone. It is never used again, the
//! others serve, and it can be retired.

use std::path::{Path, PathBuf};

use dske_protocol::{
    effect::SyncRecord,
    ids::{BlockId, KeyId, Lane, PadRange, TableId},
};
use dske_storage::{
    HoldRefusal, MarksRefusal, MintError, Store, StoreError, TableSide, TableState, TableStatus, Transaction,
    Use, Want,
};

use crate::common::*;

/// What becomes of a lane's file, by name.
type Fault = (&'static str, fn(&Path));

const FAULTS: [Fault; 6] = [
    ("it is gone", |path| std::fs::remove_file(path).expect("removed")),
    ("its directory is gone", |path| {
        std::fs::remove_dir_all(path.parent().expect("a directory")).expect("removed");
    }),
    ("it is empty", |path| cut(path, 0)),
    ("it ends in its header", |path| cut(path, 5000)),
    ("it lacks its last byte", |path| {
        cut(path, std::fs::metadata(path).expect("a lane").len() - 1);
    }),
    ("both slots of its header are damaged", |path| {
        let mut bytes = std::fs::read(path).expect("a lane");
        bytes[10] ^= 4;
        bytes[4106] ^= 4;
        std::fs::write(path, bytes).expect("written");
    }),
];

fn cut(path: &Path, bytes: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("a lane");
    file.set_len(bytes).expect("cut");
}

fn lane_path(world: &World, table: TableId, lane: Lane) -> PathBuf {
    let name = if lane == Lane::Up { "up.lane" } else { "down.lane" };
    world.path("client").join("lanes").join(table.to_string()).join(name)
}

fn status(store: &Store, table: TableId) -> TableStatus {
    let status = store.tables().into_iter().find(|status| status.table == table).expect("the table");
    check_sums(&status);
    status
}

/// Nothing of a table is handed out, accepted or told.
fn assert_of_no_use(world: &World, table: TableId, path: &Path, what: &str) {
    let found = status(&world.client, table);
    let TableState::Quarantined { reason } = &found.state else { panic!("{what}: {}", found.state) };
    assert!(reason.contains(&path.display().to_string()), "{what}: {reason}");
    assert!(reason.contains("check it, retire this table and install a new module"), "{what}: {reason}");
    assert!(!found.open && !found.comparable, "{what}");
    for run in [(0, 40), (9000, 40)] {
        let range = PadRange { table, lane: Lane::Down, offset: run.0, len: run.1 };
        let refused = get(world.client.hold(vec![held(HUB, range)])).pop().expect("one");
        assert!(matches!(refused, Err(HoldRefusal::NotActive { .. })), "{what}");
    }
    let marks = get(world.client.marks(HUB, TableSide::Client, table, true));
    assert!(matches!(marks, Err(MarksRefusal::NotActive { .. })), "{what}");
    assert!(matches!(get(world.client.mint_sync(table, 0)), Err(MintError::NoTable { .. })), "{what}");
    // Nor does a word of the peer bring it back, and asking for it stops nothing.
    let settle = SyncRecord {
        void_below: Some(0),
        settle: true,
        compared: true,
        activate: true,
        ..SyncRecord::of(table)
    };
    let _ = get(world.client.commit(Transaction { sync: Some(settle), ..Transaction::default() }));
    let _ = get(world.client.skip(table, 8192));
    world.client.open_table(&table);
    assert!(matches!(status(&world.client, table).state, TableState::Quarantined { .. }), "{what}");
}

#[test]
fn a_lane_that_is_lost_puts_its_table_alone_out_of_use_for_good() {
    for lane in [Lane::Up, Lane::Down] {
        for (what, fault) in FAULTS {
            let mut world = World::paired();
            let (first, second) = (table(&world.client).table, world.add_table(MODULE_BYTES));
            let minted = world.mint_up(40).range;
            assert_eq!(minted.table, first, "tables are used in the order of their activation");
            let key = block(1, Some(&[9; 32]), 32);
            get(world.client.commit(Transaction { block: vec![key], ..Transaction::default() }))
                .expect("a key");
            world.client.close().expect("closed");
            let (path, away) = (lane_path(&world, first, lane), world.path("away"));
            std::fs::copy(&path, &away).expect("a copy");
            fault(&path);

            world.client = open_at(&world.path("client"));
            assert_of_no_use(&world, first, &path, what);
            assert_eq!(status(&world.client, second).state, TableState::Active, "{what}");
            assert_eq!(world.mint_up(40).range.table, second, "{what}: the other table serves");
            world.client.close().expect("closed");

            // The file alone, put back, is not believed either.
            if let Some(dir) = path.parent() {
                std::fs::create_dir_all(dir).expect("a directory");
            }
            std::fs::copy(&away, &path).expect("put back");
            world.client = open_at(&world.path("client"));
            assert_of_no_use(&world, first, &path, what);
            let id = KeyId { block: BlockId::new([1; 16]), index: 0 };
            get(world.client.take_key(id)).expect("nobody was put back: the key that waits stays");

            world.client.close().expect("closed");
            fault(&path);
            world.client = open_at(&world.path("client"));
            let retire = Transaction { retire: vec![first], ..Transaction::default() };
            get(world.client.commit(retire)).expect("retired");
            world.client.destroy_retired(&first).expect("destroyed");
            assert!(!path.parent().expect("a directory").exists(), "{what}: nothing of it is left");
            world.client.close().expect("closed");
            world.client = open_at(&world.path("client"));
            assert_eq!(status(&world.client, first).state, TableState::Retired, "{what}");
            assert_eq!(world.mint_up(40).range.table, second, "{what}");
        }
    }
}

/// Of a lost lane nothing counts as left, whatever the ledger knows of it.
#[test]
fn of_a_lost_lane_nothing_is_left() {
    for lane in [Lane::Up, Lane::Down] {
        let mut world = World::paired();
        world.mint_up(40);
        world.client.close().expect("closed");
        std::fs::remove_file(lane_path(&world, table(&world.hub).table, lane)).expect("removed");
        world.client = open_at(&world.path("client"));
        let found = &table(&world.client).lanes[lane_of(lane)];
        assert_eq!((found.left, found.reserved), (0, 0), "{found:?}");
        let used = if lane == Lane::Up { 40 } else { 0 };
        assert_eq!(found.used_key, used, "what was used is still told: {found:?}");
    }
}

#[test]
fn a_lane_that_is_cut_short_under_a_running_store_does_not_stop_it() {
    for receives in [false, true] {
        let world = World::paired();
        let first = table(&world.client).table;
        let path = lane_path(&world, first, if receives { Lane::Down } else { Lane::Up });
        let second = world.add_table(MODULE_BYTES);
        let range = mint(&world.hub, CLIENT, 100).range;
        get(world.client.hold(vec![held(HUB, range)])).pop().expect("one").expect("held");
        cut(&path, 8192 + 50);
        // What is held may still be claimed, and its erasure meets the end of the file.
        get(world.client.commit(Transaction { claims: vec![(range, Use::Key)], ..Transaction::default() }))
            .expect("claimed");
        let limit = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let want = || Want { peer: HUB, side: TableSide::Client, bytes: 3000, usage: Use::Key };
        while status(&world.client, first).state == TableState::Active {
            assert!(std::time::Instant::now() < limit, "the damage is not named");
            if !receives {
                let minted = get(world.client.mint(vec![want()])).map(drop);
                assert!(!matches!(minted, Err(MintError::Store(StoreError::Poisoned { .. }))), "{minted:?}");
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let state = status(&world.client, first).state;
        assert!(matches!(&state, TableState::Quarantined { reason } if reason.contains(".lane")), "{state}");
        let minted = get(world.client.mint(vec![want()])).expect("pads").pop().expect("one");
        assert_eq!(minted.range.table, second, "the other table serves");
        world.client.close().expect("the store has not stopped");
    }
}

#[test]
fn directories_that_hold_nothing_are_made_again() {
    let mut world = World::paired();
    world.client.close().expect("closed");
    let client = world.path("client");
    for name in ["imports", "outbox"] {
        std::fs::remove_dir(client.join(name)).expect("it is empty");
    }
    world.client = open_at(&client);
    for name in ["imports", "outbox"] {
        use std::os::unix::fs::PermissionsExt;
        let about = std::fs::metadata(client.join(name)).expect("made again");
        assert_eq!(about.permissions().mode() & 0o777, 0o700, "{name}");
    }
    assert_eq!(table(&world.client).state, TableState::Active);
    world.add_table(MODULE_BYTES);
}
