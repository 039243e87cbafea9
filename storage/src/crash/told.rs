//! What a peer is told while a group of commits is on its way to the device: what was, not what may be lost.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use dske_protocol::{
    effect::{LaneMarks, SyncRecord},
    ids::{Lane, PadRange},
    sync::keys_from,
};

use super::world::*;
use crate::{
    engine::Engine,
    lock_short,
    open::load,
    sim::{SimDisk, SimLog},
    status::{TableSide, Use},
    transaction::Transaction,
};

fn told(engine: &Engine) -> LaneMarks {
    engine.marks(HUB, TableSide::Client, TABLE, false).expect("marks")
}

/// What marks tell at each sync of a transaction, and after it.
fn told_meanwhile(
    engine: &Arc<Engine>,
    disk: &SimDisk,
    transaction: Transaction,
) -> (Vec<LaneMarks>, LaneMarks) {
    let seen: Arc<Mutex<Vec<LaneMarks>>> = Arc::default();
    let (weak, list) = (Arc::downgrade(engine), seen.clone());
    disk.faults.watch.set(move || {
        if let Some(engine) = weak.upgrade() {
            lock_short(&list).push(told(&engine));
        }
    });
    commit(engine, transaction).expect("committed");
    disk.faults.watch.set(|| ());
    (std::mem::take(&mut *lock_short(&seen)), told(engine))
}

#[test]
fn a_mark_tells_nothing_that_is_not_on_the_device() {
    let world = World::new();
    let (disk, log): (SimDisk, SimLog) = (world.disk.clone(), world.log.clone());
    drop(world.engine);
    let shared = Arc::new(disk.clone());
    let engine = load(Path::new(DIR), shared, Arc::new(log), [7; 16], 65_536, SEGMENT).expect("it opens");
    let engine = Arc::new(engine);
    engine.open_table(&TABLE);
    let range = PadRange { table: TABLE, lane: Lane::Down, offset: 0, len: 640 };
    engine.hold(&[held(HUB, range)]).pop().expect("one").map(drop).expect("held");
    let claim = Transaction { claims: vec![(range, Use::Key)], ..Transaction::default() };
    let keys = keys_from(LANE);
    let sync = SyncRecord {
        peer_mark: 5000,
        lease: 300,
        void_below: Some(1000),
        own_keys: keys + 64,
        peer_keys: keys + 96,
        ..SyncRecord::of(TABLE)
    };
    let compared = Transaction { sync: Some(sync), ..Transaction::default() };
    let figures =
        |marks: &LaneMarks| (marks.seen, marks.used_below, marks.lease, marks.keys, marks.keys_seen);
    let mut before = (0, 0, 0, keys, keys);
    let told = (5000, 1000, 300, keys + 64, keys + 96);
    for (transaction, after) in [(claim, (640, 640, 0, keys, keys)), (compared, told)] {
        let (meanwhile, told) = told_meanwhile(&engine, &disk, transaction);
        assert!(!meanwhile.is_empty(), "something was synced");
        assert!(meanwhile.iter().all(|marks| figures(marks) == before), "{meanwhile:?}");
        assert_eq!(figures(&told), after);
        before = after;
    }
}
