//! Mistakes in the store that the simulation does not reach are caught here. Only with the feature `planted-faults`, and
//! in a process of its own, because a fault is made by the whole process.

#![cfg(feature = "planted-faults")]

#[path = "store/common.rs"]
#[allow(dead_code, reason = "it is for the tests of the store")]
mod common;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use common::World;
use dske_protocol::{
    effect::SyncRecord,
    ids::{BlockId, KeyId, NodeId},
    planted::{Fault, select},
};
use dske_storage::{
    BlockRecord, BlockState, NewBlock, Options, SecretBytes, Side, Store, StoreError, TableState, TakeError,
    Transaction, wait,
};

const KEY_BYTES: usize = 32;
/// Each with its checksum.
const STORED_BYTES: usize = KEY_BYTES + 4;

fn open(dir: &Path) -> Store {
    Store::open(dir, Options { chunk_bytes_max: 65_536, erase_delay_ms: 1 }).expect("the store opens")
}

fn id(block: u8, index: u32) -> KeyId {
    KeyId { block: BlockId::new([block; 16]), index }
}

fn put(store: &Store, block: u8, keys: u8) -> Result<(), StoreError> {
    let record = BlockRecord {
        block: id(block, 0).block,
        side: Side::Receiver,
        sender: NodeId::new([1; 32]),
        receivers: vec![],
        purpose: String::new(),
        key_bytes: 32,
        n: 3,
        k: 2,
        state: BlockState::Ready,
        at_ms: 1,
        aged_ms: 1,
        round: false,
    };
    let keys = (0..keys).flat_map(|index| [[block; KEY_BYTES - 1].as_slice(), &[index + 1]].concat());
    let new = NewBlock { record, key: Some(SecretBytes::new(keys.collect())) };
    let put = Transaction { block: vec![new], ..Transaction::default() };
    wait(store.commit(put)).expect("the store answers")
}

fn take(store: &Store, key: KeyId, count: u32) -> Result<SecretBytes, TakeError> {
    wait(store.take_keys(key, count)).expect("the store answers")
}

fn segment(dir: &Path) -> Vec<u8> {
    std::fs::read(dir.join("keys/00000000.segment")).expect("a segment")
}

/// Waits for the first bytes of the segment to be zeros.
fn erased(dir: &Path, bytes: usize) {
    let limit = Instant::now() + Duration::from_secs(60);
    while segment(dir)[..bytes].iter().any(|&byte| byte != 0) {
        assert!(Instant::now() < limit, "nothing is erased");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A block of which a part is taken and the rest given up, and others after it.
fn given_up() -> Result<(), String> {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = &dir.path().join("store");
    Store::create(dir).expect("a store");
    let store = open(dir);
    put(&store, 1, 10).map_err(|error| error.to_string())?;
    take(&store, id(1, 0), 8).map_err(|error| error.to_string())?;
    erased(dir, 8 * STORED_BYTES);
    let give_up = vec![(id(1, 0).block, "nobody came".to_owned())];
    let voided =
        wait(store.commit(Transaction { give_up, ..Transaction::default() })).expect("the store answers");
    voided.map_err(|error| error.to_string())?;
    erased(dir, 10 * STORED_BYTES);
    put(&store, 2, 10).map_err(|error| error.to_string())?;
    store.close().map_err(|error| error.to_string())
}

/// A key that lies where another should.
fn out_of_place() -> Result<(), String> {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = &dir.path().join("store");
    Store::create(dir).expect("a store");
    let store = open(dir);
    put(&store, 1, 2).expect("stored");
    store.close().expect("closed");
    let mut bytes = segment(dir);
    let (first, second) = bytes[..2 * STORED_BYTES].split_at_mut(STORED_BYTES);
    first.swap_with_slice(second);
    std::fs::write(dir.join("keys/00000000.segment"), bytes).expect("written");
    let store = open(dir);
    match take(&store, id(1, 0), 1) {
        Err(TakeError::Store(StoreError::Damaged { .. })) => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok(_) => Err("another key was given".into()),
    }
}

/// A block whose record is not kept any longer, and whose late shares come.
fn begun_anew() -> Result<(), String> {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = &dir.path().join("store");
    Store::create(dir).expect("a store");
    let store = open(dir);
    put(&store, 1, 1).expect("stored");
    take(&store, id(1, 0), 1).expect("taken");
    let forget = Transaction { forget: vec![id(1, 0).block], ..Transaction::default() };
    wait(store.commit(forget)).expect("the store answers").expect("forgotten");
    match put(&store, 1, 1) {
        Err(StoreError::BlockExists { .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// A table whose lane is an old copy, before its receipt has come back, and whose hub settles what the copy disagrees about.
fn settled_without_receipt() -> Result<(), String> {
    let world = World::empty();
    world.make("0.pskm", common::MODULE_BYTES);
    world.import("0.pskm").expect("an import");
    let id = common::table(&world.client).table;
    let dir = world.path("client");
    let lane = dir.join(format!("lanes/{id}/up.lane"));
    let old = std::fs::read(&lane).expect("a lane");
    common::get(world.client.mint_sync(id, 0)).expect("a tag key");
    common::get(world.client.skip(id, 5000)).expect("skipped");
    world.client.close().expect("closed");
    std::fs::write(&lane, old).expect("written");
    let client = open(&dir);
    let state = common::table(&client).state;
    assert!(matches!(state, TableState::Quarantined { .. }), "{state}");
    let sync = SyncRecord { settle: true, ..SyncRecord::of(id) };
    let settle = Transaction { sync: Some(sync), ..Transaction::default() };
    common::get(client.commit(settle)).expect("recorded");
    match common::table(&client).state {
        TableState::Pending => Ok(()),
        state => Err(state.to_string()),
    }
}

#[test]
fn mistakes_that_the_simulation_does_not_reach_are_caught() {
    let check = || {
        given_up()
            .and_then(|()| out_of_place())
            .and_then(|()| begun_anew())
            .and_then(|()| settled_without_receipt())
    };
    assert_eq!(check(), Ok(()), "without a fault");
    for fault in Fault::OF_THE_KEY_STORE.into_iter().chain(Fault::OF_TABLES) {
        select(Some(fault));
        let caught = check();
        select(None);
        assert!(caught.is_err(), "{fault:?} is not caught");
    }
}
