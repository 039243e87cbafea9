//! The power goes at each write and each sync of a table's end: either the table is as it was, or it is retired
//! and every pad of it is destroyed.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use dske_protocol::ids::{Lane, PadRange};

use super::world::*;
use crate::{
    disk::Disk,
    error::HoldRefusal,
    journal_header::RECORDS_OFFSET,
    lane_header::DATA_OFFSET,
    layout,
    sim::{Faults, Keep, SimDisk},
    status::{TableSide, TableState, Use},
    transaction::{Transaction, Want},
};

fn retire(world: &World) -> bool {
    let retired =
        commit(&world.engine, Transaction { retire: vec![TABLE], ..Transaction::default() }).is_ok();
    drop(world.engine.erase_due());
    retired
}

/// Bytes of pad that the files of the table still hold.
fn pads_left(disk: &SimDisk) -> usize {
    let dir = layout::table_dir(Path::new(DIR), &TABLE);
    if !disk.exists(&dir).expect("readable") {
        return 0;
    }
    let left = disk.list(&dir).expect("readable").into_iter().map(|path| {
        let file = disk.open(&path).expect("a lane");
        let mut bytes = vec![0; usize::try_from(file.len().expect("a length")).expect("small")];
        file.read_at(&mut bytes, 0).expect("readable");
        let start = usize::try_from(DATA_OFFSET).expect("small").min(bytes.len());
        bytes[start..].iter().filter(|&&byte| byte != 0).count()
    });
    left.sum()
}

/// The device as it is if the power goes now.
fn survivor(world: &World) -> SimDisk {
    world.disk.crashed(Keep::Nothing, Arc::default())
}

fn is_gone(world: &World) {
    let status = world.engine.tables().pop().expect("still told of");
    let lost: u64 = status.lanes.iter().map(|lane| lane.left + lane.reserved).sum();
    assert_eq!((status.state, lost), (TableState::Retired, 0), "nothing of it is left to be used");
    world
        .engine
        .mint_reserving(&[Want { peer: HUB, side: TableSide::Client, bytes: 64, usage: Use::Key }])
        .expect_err("no pad");
    let range = PadRange { table: TABLE, lane: Lane::Down, offset: 4096, len: 64 };
    let refused = world.engine.hold(&[held(HUB, range)]).pop().expect("one").map(|_| ());
    assert!(matches!(refused, Err(HoldRefusal::NotActive { .. })), "{refused:?}");
    let gone = |id| world.engine.outbox_read(id) == Ok(None);
    assert!(world.messages.keys().all(|id| gone(*id)), "what waited under it is gone");
}

#[test]
fn power_cuts_at_every_step_of_a_tables_end() {
    let (mut retired_runs, mut kept_runs) = (0, 0);
    for case in 0..4 {
        for cut in 1.. {
            let keep = [Keep::Nothing, Keep::All, Keep::Torn(20), Keep::Some(cut)][case];
            let keep_log = if cut % 2 == 0 { Keep::All } else { Keep::Nothing };
            let faults = Arc::new(Faults::default());
            let mut world = World::with(RECORDS_OFFSET + 4096, faults.clone(), faults);
            world.mint(700, None);
            world.claim(100, false);
            world.post(1, 60);
            world.post(2, 2000);
            world.cut_after(cut - 1);
            let told = retire(&world);
            let done = world.engine.poison.get().is_none()
                && world.disk.faults.cut_from.load(Ordering::SeqCst)
                    > world.disk.faults.steps.load(Ordering::SeqCst);
            world.disk = world.disk.crashed(keep, Arc::default());
            world.log = world.log.crashed(keep_log, Arc::default());
            world.engine = start(&world.disk, &world.log);
            if world.engine.tables().pop().expect("the table").state == TableState::Retired {
                retired_runs += 1;
                is_gone(&world);
                // The start goes on where the erasure was cut off.
                world.engine.erase_due().expect("erased");
                assert_eq!(pads_left(&survivor(&world)), 0, "cut {cut}");
                world.engine = start(&survivor(&world), &world.log.crashed(Keep::Nothing, Arc::default()));
                is_gone(&world);
            } else {
                kept_runs += 1;
                assert!(!told, "cut {cut}: it was said to be retired");
                world.check();
                // Its pads are whole: what is handed out and taken in is compared with them.
                world.mint(30_000, None);
                world.claim(5000, false);
                assert_eq!((world.minted.len(), world.claimed.len()), (2, 2), "cut {cut}: it goes on");
            }
            if done {
                break;
            }
        }
    }
    assert!(kept_runs > 3 && retired_runs > 40, "{kept_runs} kept, {retired_runs} retired");
}
