//! The key store beside a model of it: blocks of many keys are put down, taken in part, voided and erased late, with
//! crashes in between. Every key that waits is its own, and nothing else is left in the segments.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use dske_protocol::{
    effect::SyncRecord,
    ids::{BlockId, KeyId},
};
use proptest::prelude::*;

use super::{keep, world::*};
use crate::{
    disk::Disk,
    error::TakeError,
    group::Job,
    keys::{KeyRange, checked, find_keys},
    layout,
    ledger::Draft,
    records::BlockState,
    secret::SecretBytes,
    sim::Keep,
    transaction::{NewBlock, Transaction},
};

const KEY_BYTES: usize = 32;

fn id(block: u8) -> BlockId {
    BlockId::new([block; 16])
}

/// Key `index` of a block: no other key is like it, and none of its bytes is 0.
fn key(block: u8, index: u32) -> Vec<u8> {
    let mut key = vec![block.max(1); KEY_BYTES];
    key[0] = u8::try_from(index + 1).expect("few keys");
    key
}

/// What is known of a block.
#[derive(Debug, Default, Clone)]
struct Known {
    keys: u32,
    taken: BTreeSet<u32>,
    void: bool,
}

impl Known {
    fn waiting(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.keys).filter(|index| !self.void && !self.taken.contains(index))
    }
}

struct Keys {
    world: World,
    blocks: BTreeMap<u8, Known>,
}

impl Keys {
    fn new() -> Self {
        Self { world: World::new(), blocks: BTreeMap::new() }
    }

    fn put(&mut self, block: u8, keys: u32) {
        let mut new = super::world::block(block);
        let bytes: Vec<u8> = (0..keys).flat_map(|index| key(block, index)).collect();
        let record = new.block.remove(0).record;
        new.block.push(NewBlock { record, key: Some(SecretBytes::new(bytes)) });
        if commit(&self.world.engine, new).is_ok() {
            let before = self.blocks.insert(block, Known { keys, ..Known::default() });
            assert!(before.is_none(), "block {block} existed twice");
        }
        self.check();
    }

    fn take(&mut self, block: u8, first: u32, count: u32) {
        let keys = KeyRange { block: id(block), first, count };
        let taken = run(&self.world.engine, |reply| Job::Take(keys, reply));
        let known = self.blocks.entry(block).or_default();
        let wanted: BTreeSet<u32> = (first..first + count).collect();
        match taken {
            Ok(bytes) => {
                let expected: Vec<u8> = wanted.iter().flat_map(|index| key(block, *index)).collect();
                assert_eq!(bytes.expose(), expected, "block {block}, keys {wanted:?}");
                assert!(!known.void && known.taken.is_disjoint(&wanted) && first + count <= known.keys);
                known.taken.extend(wanted);
            }
            // Of a block that is gone it is said of any key.
            Err(TakeError::AlreadyTaken(_)) => {
                assert!(!known.taken.is_disjoint(&wanted) || known.waiting().next().is_none());
            }
            Err(TakeError::Aborted { .. }) => assert!(known.void),
            Err(TakeError::Unknown(_)) => assert!(first + count > known.keys),
            Err(TakeError::Store(error)) => panic!("{error}"),
        }
        self.blocks.retain(|_, known| known.keys > 0);
        self.check();
    }

    fn give_up(&mut self, block: u8) {
        let give_up = vec![(id(block), "nobody came".to_owned())];
        commit(&self.world.engine, Transaction { give_up, ..Transaction::default() }).expect("given up");
        let known = self.blocks.get_mut(&block).filter(|known| known.waiting().next().is_some());
        known.into_iter().for_each(|known| known.void = true);
        self.check();
    }

    fn void_all(&mut self) {
        // Compared, and then said to have been put back: memory and all.
        for sync in [
            SyncRecord { compared: true, ..SyncRecord::of(TABLE) },
            SyncRecord { put_back: Some(1), ..SyncRecord::of(TABLE) },
        ] {
            let voided = Transaction { sync: Some(sync), ..Transaction::default() };
            commit(&self.world.engine, voided).expect("voided");
        }
        let waiting = self.blocks.values_mut().filter(|known| known.waiting().next().is_some());
        waiting.for_each(|known| known.void = true);
        self.check();
    }

    fn erase(&mut self) {
        self.world.engine.erase_due().expect("erased");
        self.check();
    }

    fn crash(&mut self, keep: Keep) {
        self.world.crash(keep, Keep::Nothing);
        self.check();
    }

    /// Every key that waits is there, and is its own.
    fn check(&self) {
        let engine = &self.world.engine;
        assert_eq!(engine.poison.get(), None);
        let draft = Draft::new(&engine.ledger);
        for (&block, known) in &self.blocks {
            for index in known.waiting() {
                let keys = KeyRange::from(KeyId { block: id(block), index });
                let run = find_keys(&draft, keys).expect("it waits");
                let bytes = checked(&engine.key_spool.read(run).expect("readable"), keys).expect("sound");
                assert_eq!(*bytes, key(block, index), "key {index} of block {block}");
            }
            let record = engine.ledger.get::<crate::records::BlockRecord>(
                "block",
                &crate::ledger::block_key(crate::ledger::kind::BLOCK, &id(block)),
            );
            let state = record.expect("readable").expect("kept").state;
            let right = match state {
                BlockState::Ready => known.waiting().next().is_some(),
                BlockState::Taken => known.taken.len() == known.keys as usize,
                BlockState::Aborted { .. } => known.void,
            };
            assert!(right, "block {block} is {state:?}, and {known:?}");
        }
    }

    /// Once all that is due is erased, the segments hold the keys that wait, and nothing else.
    fn check_segments(&self) {
        self.world.engine.erase_due().expect("erased");
        let device = self.world.disk.crashed(Keep::Nothing, Arc::default());
        let mut bytes = Vec::new();
        for path in device.list(&layout::keys_dir(std::path::Path::new(DIR))).expect("listed") {
            let file = device.open(&path).expect("a segment");
            let mut segment = vec![0; usize::try_from(file.len().expect("a length")).expect("small")];
            file.read_at(&mut segment, 0).expect("readable");
            bytes.extend(segment);
        }
        let waiting: usize = self.blocks.values().map(|known| known.waiting().count()).sum();
        let held = bytes.iter().filter(|&&byte| byte != 0).count();
        let (least, most) = (waiting * KEY_BYTES, waiting * (KEY_BYTES + 4));
        assert!((least..=most).contains(&held), "{held} bytes of {waiting} keys");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u32),
    Take(u8, u32, u32),
    GiveUp(u8),
    VoidAll,
    Erase,
    Crash(Keep),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1u8..16, 1u32..60).prop_map(|(block, keys)| Step::Put(block, keys)),
        6 => (1u8..16, 0u32..40, 1u32..30).prop_map(|(block, first, count)| Step::Take(block, first, count)),
        2 => (1u8..16).prop_map(Step::GiveUp),
        1 => Just(Step::VoidAll),
        3 => Just(Step::Erase),
        1 => keep().prop_map(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_key_that_waits_is_its_own_whatever_is_taken_voided_and_erased(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut keys = Keys::new();
        for step in steps {
            match step {
                Step::Put(block, count) => keys.put(block, count),
                Step::Take(block, first, count) => keys.take(block, first, count),
                Step::GiveUp(block) => keys.give_up(block),
                Step::VoidAll => keys.void_all(),
                Step::Erase => keys.erase(),
                Step::Crash(keep) => keys.crash(keep),
            }
        }
        keys.check_segments();
    }
}

#[test]
fn room_of_keys_that_were_taken_is_given_back_once_though_the_rest_is_voided() {
    for case in 0..4 {
        let mut keys = Keys::new();
        keys.put(1, 10);
        keys.take(1, 0, 8);
        keys.erase();
        if case % 2 == 1 {
            keys.crash(Keep::Nothing);
        }
        if case < 2 {
            keys.void_all();
        } else {
            keys.give_up(1);
        }
        // Before the erasure that the voiding asked for.
        keys.put(2, 10);
        keys.erase();
        keys.take(2, 0, 8);
        keys.erase();
        for block in 3..=5 {
            keys.put(block, 10);
        }
        keys.take(2, 8, 2);
        keys.take(4, 0, 10);
        keys.check_segments();
    }
}
