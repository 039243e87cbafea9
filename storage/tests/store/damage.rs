//! Old copies, damaged headers and missing files: quarantined or refused, never used and never made anew.

use std::path::{Path, PathBuf};

use dske_protocol::{
    effect::SyncRecord,
    ids::{BlockId, KeyId, Lane},
};
use dske_storage::{
    HoldRefusal, MarksRefusal, MintError, Options, Store, StoreError, TableSide, TableState, TakeError,
    Transaction, Use, Want,
};

use crate::common::*;

fn lane_path(world: &World, store: &str, lane: Lane) -> PathBuf {
    let table = if store == "hub" { table(&world.hub) } else { table(&world.client) }.table;
    let name = if lane == Lane::Up { "up.lane" } else { "down.lane" };
    world.path(store).join("lanes").join(table.to_string()).join(name)
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_dir(&path, &target)
        } else {
            std::fs::copy(&path, &target).map(|_| ()).expect("a copy")
        }
    }
}

fn assert_quarantined(world: &mut World) {
    world.client = open_at(&world.path("client"));
    for _ in 0..2 {
        let status = table(&world.client);
        assert!(matches!(status.state, TableState::Quarantined { .. }), "{:?}", status.state);
        let refused = get(world.client.mint(vec![Want {
            peer: HUB,
            side: TableSide::Client,
            bytes: 40,
            usage: Use::Key,
        }]));
        assert!(matches!(refused, Err(MintError::NoTable { .. })));
        let run = dske_protocol::ids::PadRange { table: status.table, lane: Lane::Down, offset: 0, len: 40 };
        let refused = get(world.client.hold(vec![held(HUB, run)])).pop().expect("one");
        assert!(matches!(refused, Err(HoldRefusal::NotActive { .. })));
        // It stays so.
        world.client.close().expect("closed");
        world.client = open_at(&world.path("client"));
    }
}

#[test]
fn an_old_ledger_is_noticed() {
    let mut world = World::paired();
    world.mint_up(40);
    world.client.close().expect("closed");
    let (ledger, copy) = (world.path("client").join("ledger"), world.path("copy"));
    copy_dir(&ledger, &copy);
    world.client = open_at(&world.path("client"));
    for _ in 0..20 {
        world.mint_up(3000);
    }
    world.client.close().expect("closed");
    std::fs::remove_dir_all(&ledger).expect("removed");
    copy_dir(&copy, &ledger);
    assert_quarantined(&mut world);
}

#[test]
fn a_mark_past_the_end_of_its_lane_is_noticed() {
    let mut world = World::paired();
    world.mint_up(40);
    let path = lane_path(&world, "client", Lane::Up);
    world.client.close().expect("closed");
    let mut bytes = std::fs::read(&path).expect("a lane");
    for slot in bytes.chunks_exact_mut(4096).take(2) {
        // One reservation ahead of the ledger, as after a crash, under a right checksum.
        let mark = slot[45..53].to_vec();
        slot[53..61].copy_from_slice(&mark);
        slot[45..53].copy_from_slice(&(u64::MAX - 7).to_le_bytes());
        let checksum = crc32fast::hash(&slot[4..93]).to_le_bytes();
        slot[..4].copy_from_slice(&checksum);
    }
    std::fs::write(&path, bytes).expect("written");
    assert_quarantined(&mut world);
}

#[test]
fn an_old_lane_file_is_noticed() {
    let mut world = World::paired();
    let path = lane_path(&world, "client", Lane::Up);
    world.client.close().expect("closed");
    let old = std::fs::read(&path).expect("a lane");
    world.client = open_at(&world.path("client"));
    world.mint_up(40);
    world.client.close().expect("closed");
    std::fs::write(&path, old).expect("written");
    assert_quarantined(&mut world);
}

#[test]
fn an_old_ledger_is_noticed_by_the_receiving_end_too() {
    let mut world = World::paired();
    world.client.close().expect("closed");
    let (ledger, copy) = (world.path("client").join("ledger"), world.path("copy"));
    copy_dir(&ledger, &copy);
    world.client = open_at(&world.path("client"));
    let range = mint(&world.hub, CLIENT, 100).range;
    get(world.client.hold(vec![held(HUB, range)])).pop().expect("one").expect("held");
    let claim = dske_storage::Transaction { claims: vec![(range, Use::Key)], ..Default::default() };
    get(world.client.commit(claim)).expect("claimed");
    world.client.close().expect("closed");
    std::fs::remove_dir_all(&ledger).expect("removed");
    copy_dir(&copy, &ledger);
    assert_quarantined(&mut world);
}

#[test]
fn a_damaged_slot_is_survived_a_damaged_pair_is_not() {
    let mut world = World::paired();
    let path = lane_path(&world, "client", Lane::Down);
    for (slot, survives) in [(0, true), (4096, false)] {
        world.client.close().expect("closed");
        let mut bytes = std::fs::read(&path).expect("a lane");
        bytes[slot + 10] ^= 4;
        std::fs::write(&path, bytes).expect("written");
        if survives {
            world.client = open_at(&world.path("client"));
            assert_eq!(table(&world.client).state, TableState::Active);
        }
    }
    assert_quarantined(&mut world);
}

#[test]
fn what_is_missing_is_never_made_anew() {
    let world = World::paired();
    let client = world.path("client");
    world.client.close().expect("closed");
    let away = world.path("away");
    for path in [
        client.join("lanes"),
        client.join("ledger/db"),
        client.join("ledger/journal"),
        client.join("ledger"),
        client.join("store"),
        client.join("keys"),
    ] {
        std::fs::rename(&path, &away).expect("moved away");
        let refused = Store::open(&client, Options::default()).map(|_| ());
        assert!(matches!(refused, Err(StoreError::Missing { .. })), "{}: {refused:?}", path.display());
        std::fs::rename(&away, &path).expect("put back");
    }
    open_at(&client).close().expect("all is well");
}

#[test]
fn the_ledger_of_another_store_is_refused() {
    let world = World::empty();
    world.client.close().expect("closed");
    world.hub.close().expect("closed");
    let ledger = world.path("client").join("ledger");
    std::fs::remove_dir_all(&ledger).expect("removed");
    copy_dir(&world.path("hub").join("ledger"), &ledger);
    assert!(matches!(
        Store::open(&world.path("client"), Options::default()),
        Err(StoreError::Damaged { .. })
    ));
}

/// Zeros over a part of a lane, as a disk may leave them; with `known` also over the checksums, as an erasure does.
fn zero(path: &Path, range: std::ops::Range<usize>, known: bool) {
    let mut bytes = std::fs::read(path).expect("a lane");
    let checks = 8192 + usize::try_from(MODULE_BYTES / 2).expect("small");
    bytes[8192 + range.start..8192 + range.end].fill(0);
    if known {
        bytes[checks + range.start / 4096 * 8..checks + range.end.div_ceil(4096) * 8].fill(0);
    }
    std::fs::write(path, bytes).expect("written");
}

#[test]
fn unused_pads_that_were_zeroed_are_named_where_they_are_met_and_used_ones_are_as_they_should_be() {
    for known in [false, true] {
        let mut world = World::paired();
        let path = lane_path(&world, "hub", Lane::Up);
        let used = world.mint_up(4096).range;
        let run = world.mint_up(4096).range;
        world.hold(used).expect("held");
        world.claim(used).expect("claimed");
        world.hub.close().expect("closed");
        zero(&path, 4096..8192, known);
        world.hub = open_at(&world.path("hub"));
        assert_eq!(world.hold(used).map(|_| ()), Err(HoldRefusal::AlreadyUsed));
        assert_eq!(table(&world.hub).state, TableState::Active, "zeros where pads were used are right");
        let refused = world.hold(run).map(|_| ());
        match known {
            true => assert_eq!(refused, Err(HoldRefusal::Erased)),
            false => assert!(matches!(refused, Err(HoldRefusal::Store(StoreError::Damaged { .. })))),
        }
        for _ in 0..2 {
            let state = table(&world.hub).state;
            assert!(matches!(state, TableState::Quarantined { .. }), "{state}");
            assert!(matches!(world.hold(run).map(|_| ()), Err(HoldRefusal::NotActive { .. })));
            // It stays so, and no comparison mends it.
            let marks = get(world.hub.marks(CLIENT, TableSide::Hub, table(&world.hub).table, false));
            assert!(matches!(marks, Err(MarksRefusal::NotActive { .. })));
            world.hub.close().expect("closed");
            world.hub = open_at(&world.path("hub"));
        }
    }
}

#[test]
fn damage_that_an_erasure_meets_is_named() {
    let mut world = World::paired();
    let path = lane_path(&world, "hub", Lane::Up);
    let used = world.mint_up(100).range;
    world.hold(used).expect("held");
    // The rest of the same block.
    zero(&path, 200..4096, false);
    world.claim(used).expect("claimed");
    world.hub.close().expect("closed");
    world.hub = open_at(&world.path("hub"));
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while table(&world.hub).state == TableState::Active {
        assert!(std::time::Instant::now() < limit, "the damage is not named");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let state = table(&world.hub).state.to_string();
    assert!(state.contains("a pad is damaged") && state.contains("up.lane"), "{state}");
}

#[test]
fn a_tag_key_of_a_mark_in_zeroed_pads_is_named_too() {
    let mut world = World::paired();
    let path = lane_path(&world, "client", Lane::Up);
    world.client.close().expect("closed");
    let keys = dske_protocol::sync::keys_from(MODULE_BYTES / 2);
    zero(
        &path,
        usize::try_from(keys).expect("small")..usize::try_from(MODULE_BYTES / 2).expect("small"),
        false,
    );
    world.client = open_at(&world.path("client"));
    let id = table(&world.client).table;
    get(world.client.mint_sync(id, keys + 320)).map(|_| ()).expect_err("no tag key");
    assert!(matches!(table(&world.client).state, TableState::Quarantined { .. }));
}

#[test]
fn a_table_that_was_pending_waits_for_its_receipt_again_once_its_quarantine_is_settled() {
    let mut world = World::empty();
    world.make("0.pskm", MODULE_BYTES);
    world.import("0.pskm").expect("an import");
    let path = lane_path(&world, "client", Lane::Up);
    let id = table(&world.client).table;
    world.client.close().expect("closed");
    let old = std::fs::read(&path).expect("a lane");
    world.client = open_at(&world.path("client"));
    get(world.client.mint_sync(id, 0)).expect("a tag key");
    get(world.client.skip(id, 5000)).expect("skipped");
    world.client.close().expect("closed");
    std::fs::write(&path, old).expect("written");
    assert_quarantined(&mut world);
    let settled = |activate| {
        let sync = SyncRecord { settle: true, activate, ..SyncRecord::of(id) };
        get(world.client.commit(Transaction { sync: Some(sync), ..Transaction::default() }))
            .expect("recorded");
        table(&world.client).state
    };
    assert_eq!(settled(false), TableState::Pending, "nobody has said that the receipt is there");
    assert_eq!(settled(true), TableState::Active, "now its hub has");
}

#[test]
fn a_store_of_another_format_is_not_called_damaged_and_is_left_as_it_is() {
    let world = World::empty();
    world.client.close().expect("closed");
    let path = world.path("client").join("store");
    let right = std::fs::read_to_string(&path).expect("a store file");
    let format: u32 = right.split(' ').nth(2).and_then(|word| word.parse().ok()).expect("its format");
    for found in [format - 1, format + 1] {
        let other = right.replacen(&format!(" {format} "), &format!(" {found} "), 1);
        std::fs::write(&path, &other).expect("written");
        let refused = Store::open(&world.path("client"), options()).map(drop);
        assert_eq!(refused, Err(StoreError::OtherFormat { path: path.clone(), found }));
        let text = refused.expect_err("refused").to_string();
        assert!(!text.contains("damaged") && text.contains(&format!("format {found}")), "{text}");
        assert_eq!(std::fs::read_to_string(&path).expect("still there"), other);
    }
    std::fs::write(&path, right).expect("written");
    open_at(&world.path("client")).close().expect("it is whole");
}

#[test]
fn erased_bytes_ahead_of_an_allocator_quarantine_the_table() {
    let mut world = World::paired();
    let path = lane_path(&world, "client", Lane::Up);
    world.client.close().expect("closed");
    let mut bytes = std::fs::read(&path).expect("a lane");
    bytes[8192..8192 + 4096].fill(0);
    std::fs::write(&path, bytes).expect("written");
    world.client = open_at(&world.path("client"));
    let refused =
        get(world.client.mint(vec![Want { peer: HUB, side: TableSide::Client, bytes: 40, usage: Use::Key }]));
    assert!(matches!(refused, Err(MintError::NoTable { .. })));
    world.client.close().expect("closed");
    assert_quarantined(&mut world);
}

/// What comparing marks with the hub does to a client's table ([`dske_protocol::sync`]).
fn compare(world: &World) {
    let (client, hub) = (table(&world.client), table(&world.hub));
    let ours = get(world.client.marks(HUB, TableSide::Client, client.table, false)).expect("marks");
    let hubs = get(world.hub.marks(CLIENT, TableSide::Hub, hub.table, false)).expect("marks");
    assert!(ours.unsure && !hubs.unsure);
    let sync = SyncRecord {
        peer_mark: hubs.own,
        lease: hubs.seen,
        peer_keys: hubs.keys,
        own_keys: hubs.keys_seen,
        void_below: Some(hubs.own),
        settle: true,
        compared: true,
        activate: true,
        ..SyncRecord::of(client.table)
    };
    get(world.client.commit(Transaction { sync: Some(sync), ..Transaction::default() })).expect("recorded");
    get(world.client.skip(client.table, ours.own.max(hubs.seen))).expect("skipped");
    world.client.open_table(&client.table);
    // The hub has heard that the client is not sure.
    get(world.hub.skip(hub.table, hubs.own)).expect("skipped");
}

#[test]
fn what_the_peer_has_on_record_settles_a_quarantine() {
    for lane in [Lane::Up, Lane::Down] {
        let mut world = World::paired();
        let path = lane_path(&world, "client", lane);
        world.client.close().expect("closed");
        let mut old = std::fs::read(&path).expect("a lane");
        if lane == Lane::Down {
            // Ahead of the ledger, under a right checksum.
            for slot in old.chunks_exact_mut(4096).take(2) {
                slot[45..53].copy_from_slice(&2000u64.to_le_bytes());
                let checksum = crc32fast::hash(&slot[4..93]).to_le_bytes();
                slot[..4].copy_from_slice(&checksum);
            }
        }
        world.client = open_at(&world.path("client"));
        let minted = world.mint_up(40).range;
        world.hold(minted).expect("held");
        world.claim(minted).expect("claimed");
        let received = mint(&world.hub, CLIENT, 100).range;
        get(world.client.hold(vec![held(HUB, received)])).pop().expect("one").expect("held");
        let claims = vec![(received, Use::Key)];
        get(world.client.commit(Transaction { claims, ..Transaction::default() })).expect("claimed");
        get(world
            .client
            .commit(Transaction { block: vec![block(1, Some(&[9; 32]), 32)], ..Transaction::default() }))
        .expect("a key");
        world.client.close().expect("closed");
        std::fs::write(&path, old).expect("put back");
        assert_quarantined(&mut world);
        let id = table(&world.client).table;
        let less = SyncRecord { activate: true, ..SyncRecord::of(id) };
        get(world.client.commit(Transaction { sync: Some(less), ..Transaction::default() }))
            .expect("recorded");
        let state = table(&world.client).state;
        assert!(matches!(state, TableState::Quarantined { .. }), "the peer has not told what to give up");
        compare(&world);
        for _ in 0..2 {
            assert_eq!(table(&world.client).state, TableState::Active);
            assert!(world.mint_up(40).range.offset >= minted.offset + 40);
            let again = get(world.client.hold(vec![held(HUB, received)])).pop().expect("one").map(|_| ());
            assert_eq!(again, Err(HoldRefusal::AlreadyUsed));
            let key = KeyId { block: BlockId::new([1; 16]), index: 0 };
            assert!(matches!(get(world.client.take_key(key)), Err(TakeError::Aborted { .. })), "void");
            world.client.close().expect("closed");
            world.client = open_at(&world.path("client"));
        }
        let next = mint(&world.hub, CLIENT, 5000).range;
        get(world.client.hold(vec![held(HUB, next)])).pop().expect("one").expect("fresh");
    }
}

#[test]
fn a_file_of_another_lane_is_settled_by_nothing() {
    let mut world = World::paired();
    let (up, down) = (lane_path(&world, "client", Lane::Up), lane_path(&world, "client", Lane::Down));
    world.client.close().expect("closed");
    std::fs::copy(&down, &up).expect("copied");
    assert_quarantined(&mut world);
    let status = table(&world.client);
    assert!(matches!(
        get(world.client.marks(HUB, TableSide::Client, status.table, false)),
        Err(MarksRefusal::NotActive { .. })
    ));
}
