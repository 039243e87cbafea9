//! Keys that wait: voided in one group with other requests for them, and records of them that cannot be.

use std::{path::Path, sync::Arc};

use dske_protocol::{
    effect::SyncRecord,
    ids::{BlockId, KeyId},
};
use futures::channel::oneshot;

use super::world::*;
use crate::{
    error::{StoreError, TakeError},
    group::Job,
    keys::KeyRun,
    ledger::Draft,
    open::load,
    records::{BlockRecord, BlockState},
    secret::SecretBytes,
    transaction::Transaction,
    wait::wait,
};

type Taken = oneshot::Receiver<Result<SecretBytes, TakeError>>;
type Done = oneshot::Receiver<Result<(), StoreError>>;

fn take() -> (Job, Taken) {
    let (reply, answer) = oneshot::channel();
    (Job::Take(KeyId { block: BlockId::new([1; 16]), index: 0 }.into(), reply), answer)
}

fn committed(transaction: Transaction) -> (Job, Done) {
    let (reply, answer) = oneshot::channel();
    (Job::Commit(Box::new(transaction), None, reply), answer)
}

fn void() -> (Job, Done) {
    let sync = SyncRecord { put_back: Some(1), ..SyncRecord::of(TABLE) };
    committed(Transaction { sync: Some(sync), ..Transaction::default() })
}

/// The table has been compared: who says now that this directory was put back means that its memory was, too.
fn compared(world: &World) {
    let sync = SyncRecord { compared: true, ..SyncRecord::of(TABLE) };
    let (job, done) = committed(Transaction { sync: Some(sync), ..Transaction::default() });
    world.engine.commit_group(vec![job]);
    assert_eq!(wait(done), Some(Ok(())));
}

fn state(world: &World) -> BlockState {
    let key = crate::ledger::block_key(b"b", &BlockId::new([1; 16]));
    world.engine.ledger.get::<BlockRecord>("block", &key).expect("readable").expect("a block").state
}

#[test]
fn a_record_of_more_keys_than_a_block_holds_is_named_as_damage() {
    let open_with = |keys, taken| {
        let mut world = World::new();
        world.block(1);
        let id = crate::ledger::block_key(crate::ledger::kind::KEY_RUN, &BlockId::new([1; 16]));
        let good: KeyRun = world.engine.ledger.get("key run", &id).expect("readable").expect("its keys wait");
        let mut draft = Draft::new(&world.engine.ledger);
        draft.put("key run", id, &KeyRun { keys, taken, ..good }).expect("encoded");
        world.engine.ledger.commit(&draft.batch).expect("written");
        let (disk, log) = (Arc::new(world.disk.clone()), Arc::new(world.log.clone()));
        load(Path::new(DIR), disk, log, [7; 16], 65_536, SEGMENT).map(drop)
    };
    assert_eq!(open_with(1, 0), Ok(()));
    for (keys, taken) in [(u32::MAX, 0), (70_000, 0), (0, 0), (5, 0), (1, 1)] {
        let refused = open_with(keys, taken);
        let of_keys =
            matches!(refused, Err(StoreError::Damaged { what: "the ledger's record of a key run", .. }));
        assert!(of_keys, "{keys}, {taken}: {refused:?}");
    }
}

#[test]
fn a_key_that_is_taken_just_before_the_others_are_void_stays_taken() {
    let mut world = World::new();
    world.block(1);
    world.block(2);
    compared(&world);
    let ((take, taken), (void, done)) = (take(), void());
    world.engine.commit_group(vec![take, void]);
    assert!(wait(taken).expect("answered").is_ok());
    assert_eq!(wait(done), Some(Ok(())));
    assert_eq!(state(&world), BlockState::Taken);
}

#[test]
fn a_key_that_is_void_is_not_taken_in_the_same_moment() {
    let mut world = World::new();
    world.block(1);
    compared(&world);
    let ((void, done), (take, taken)) = (void(), take());
    world.engine.commit_group(vec![void, take]);
    assert_eq!(wait(done), Some(Ok(())));
    assert!(matches!(wait(taken), Some(Err(TakeError::Aborted { .. }))));
    assert!(matches!(state(&world), BlockState::Aborted { .. }));
}

#[test]
fn a_key_that_is_put_down_in_the_same_moment_is_new_and_stays() {
    let world = World::new();
    compared(&world);
    let ((put, stored), (void, done)) = (committed(block(1)), void());
    world.engine.commit_group(vec![put, void]);
    assert_eq!((wait(stored), wait(done)), (Some(Ok(())), Some(Ok(()))));
    assert_eq!(state(&world), BlockState::Ready);
}
