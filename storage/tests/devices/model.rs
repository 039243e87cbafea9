//! What a client's store has acknowledged, kept outside of it: what must hold however it ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use dske_protocol::ids::{BlockId, KeyId, Lane, NodeId, PadRange, TableId};
use dske_storage::{
    ExclusionRecord, HoldRefusal, MintError, NewBlock, OutboxId, OutboxItem, SecretBytes, Store, StoreError,
    TableSide, TableState, TableStatus, TakeError, Transaction, Use, Want,
};
use rand::{RngExt, rngs::StdRng};

use crate::common::*;

/// Where pads begin in a lane's file.
pub(crate) const DATA_OFFSET: usize = 8192;

/// Bytes of a lane that were handed out or claimed, and never may be again.
pub(crate) struct Pads {
    pub(crate) table: TableId,
    /// The lanes as they were before anything was used.
    pub(crate) up: Vec<u8>,
    pub(crate) down: Vec<u8>,
    pub(crate) minted: Vec<(u64, u64)>,
    pub(crate) claimed: Vec<PadRange>,
    pub(crate) next_down: u64,
}

/// Keys that were stored and taken.
#[derive(Default)]
pub(crate) struct Keys {
    /// With the number of its bytes, and whether it was acknowledged as stored.
    blocks: BTreeMap<BlockId, (usize, bool)>,
    /// With whether it was handed out; otherwise nobody knows.
    taken: BTreeMap<BlockId, bool>,
    next: u64,
}

/// Messages that wait, and exclusions.
#[derive(Default)]
pub(crate) struct Mail {
    kept: BTreeMap<OutboxId, (u8, usize)>,
    delivered: BTreeSet<OutboxId>,
    excluded: BTreeSet<NodeId>,
}

/// Whether a failure is the device's, which its test has to have caused; everything else is a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    Yes,
    /// What was asked for may have happened or not.
    Failed,
    /// There was nothing to do.
    Idle,
}

impl Pads {
    /// Of a table that nobody has used, of which the hub in `hub_dir` has the other copy.
    pub(crate) fn new(hub_dir: &Path, table: &TableStatus) -> Self {
        let bytes = usize::try_from(table.lanes[0].bytes).expect("small");
        let table = table.table;
        let lane = |name: &str| {
            let path = hub_dir.join("lanes").join(table.to_string()).join(name);
            std::fs::read(path).expect("a lane")[DATA_OFFSET..DATA_OFFSET + bytes].to_vec()
        };
        let (up, down) = (lane("up.lane"), lane("down.lane"));
        Self { table, up, down, minted: Vec::new(), claimed: Vec::new(), next_down: 0 }
    }

    pub(crate) fn mint(&mut self, store: &Store, rng: &mut StdRng) -> Done {
        let minted = if rng.random_bool(0.1) {
            let at = rng.random_range(0..self.up.len() as u64 - 64);
            get(store.mint_sync(self.table, at))
        } else {
            let bytes = if rng.random_bool(0.05) { 20_000 } else { rng.random_range(32..1500) };
            let want = Want { peer: HUB, side: TableSide::Client, bytes, usage: Use::Key };
            get(store.mint(vec![want])).map(|mut minted| minted.pop().expect("one"))
        };
        let minted = match minted {
            Ok(minted) => minted,
            Err(MintError::Exhausted { .. } | MintError::PlaceUsed) => return Done::Idle,
            Err(MintError::Store(_)) => return Done::Failed,
            Err(other) => panic!("{other}"),
        };
        let (start, end) = (minted.range.offset, minted.range.offset + minted.range.len);
        for (first, last) in &self.minted {
            assert!(end <= *first || *last <= start, "{start}..{end} was handed out before");
        }
        self.minted.push((start, end));
        let from = usize::try_from(start).expect("small");
        let pad = reveal(minted.pad);
        assert_eq!(pad, self.up[from..from + pad.len()], "the pad at {start} is not what the module held");
        Done::Yes
    }

    pub(crate) fn claim(&mut self, store: &Store, rng: &mut StdRng) -> Done {
        let bytes = rng.random_range(33..900);
        let gap = if rng.random_bool(0.3) { rng.random_range(1..500) } else { 0 };
        let offset = self.next_down + gap;
        let range = PadRange { table: self.table, lane: Lane::Down, offset, len: bytes };
        if offset + bytes > self.down.len() as u64 {
            return Done::Idle;
        }
        self.next_down = offset + bytes;
        let pad = match get(store.hold(vec![held(HUB, range)])).pop().expect("one") {
            Ok(pad) => reveal(pad),
            Err(HoldRefusal::Store(_)) => return Done::Failed,
            Err(other) => panic!("{range:?}: {other}"),
        };
        let from = usize::try_from(offset).expect("small");
        assert_eq!(pad, self.down[from..from + pad.len()], "the pad at {offset} is not what the module held");
        match get(store.commit(Transaction { claims: vec![(range, Use::Key)], ..Transaction::default() })) {
            Ok(()) => {
                self.claimed.push(range);
                Done::Yes
            }
            Err(_) => Done::Failed,
        }
    }

    /// Nothing that was used can be used again, and the figures add up.
    pub(crate) fn check(&self, store: &Store) {
        let status = store.tables().into_iter().find(|table| table.table == self.table).expect("the table");
        check_sums(&status);
        assert_eq!(status.state, TableState::Active, "no reason for quarantine");
        let wants: Vec<_> = self.claimed.iter().map(|range| held(HUB, *range)).collect();
        for (range, again) in self.claimed.iter().zip(get(store.hold(wants))) {
            assert_eq!(again.map(|_| ()), Err(HoldRefusal::AlreadyUsed), "{range:?} was claimed before");
        }
    }

    /// What was used is zeros in the lane's files, which lie in `dir`.
    pub(crate) fn check_erased(&self, dir: &Path) {
        let claimed = self.claimed.iter().map(|range| (range.offset, range.offset + range.len));
        for (name, runs) in [("up.lane", self.minted.clone()), ("down.lane", claimed.collect())] {
            let path = dir.join("lanes").join(self.table.to_string()).join(name);
            let bytes = std::fs::read(path).expect("a lane").split_off(DATA_OFFSET);
            for (start, end) in runs {
                let [start, end] = [start, end].map(|at| usize::try_from(at).expect("small"));
                assert!(
                    bytes[start..end].iter().all(|byte| *byte == 0),
                    "{name} {start}..{end} is not erased"
                );
            }
        }
    }
}

impl Keys {
    pub(crate) fn store(&mut self, store: &Store, rng: &mut StdRng) -> Done {
        self.next += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.next.to_be_bytes());
        let mut new = block(1, Some(&[key_byte(self.next); 32]), 32);
        let bytes = if rng.random_bool(0.2) { 6000 } else { 32 };
        new.key = Some(SecretBytes::new(vec![key_byte(self.next); bytes]));
        new.record.key_bytes = u32::try_from(bytes).expect("small");
        new.record.block = BlockId::new(id);
        self.commit(store, new, bytes)
    }

    fn commit(&mut self, store: &Store, new: NewBlock, bytes: usize) -> Done {
        let id = new.record.block;
        self.blocks.insert(id, (bytes, false));
        match get(store.commit(Transaction { block: vec![new], ..Transaction::default() })) {
            Ok(()) => {
                self.blocks.insert(id, (bytes, true));
                Done::Yes
            }
            Err(StoreError::BlockExists { .. }) => panic!("{id} was never stored"),
            Err(_) => Done::Failed,
        }
    }

    pub(crate) fn take(&mut self, store: &Store, rng: &mut StdRng) -> Done {
        let open: Vec<BlockId> =
            self.blocks.keys().filter(|id| self.taken.get(id) != Some(&true)).copied().collect();
        if open.is_empty() {
            return Done::Idle;
        }
        let id = open[rng.random_range(0..open.len())];
        self.take_one(store, id)
    }

    fn take_one(&mut self, store: &Store, id: BlockId) -> Done {
        let (bytes, acknowledged) = self.blocks[&id];
        match get(store.take_key(KeyId { block: id, index: 0 })) {
            Ok(key) => {
                let number = u64::from_be_bytes(id.as_bytes()[..8].try_into().expect("eight bytes"));
                assert_eq!(key.expose(), vec![key_byte(number); bytes], "{id} is another key");
                assert_ne!(self.taken.insert(id, true), Some(true), "{id} was handed out twice");
                Done::Yes
            }
            Err(TakeError::AlreadyTaken(_)) => {
                assert!(self.taken.contains_key(&id), "{id} is taken, and nobody has asked for it");
                self.taken.insert(id, true);
                Done::Yes
            }
            Err(TakeError::Unknown(_)) => {
                // Asking for it may have failed before anybody looked for it.
                let surely = acknowledged || self.taken.get(&id) == Some(&true);
                assert!(!surely, "{id} was acknowledged and is gone");
                self.taken.remove(&id);
                self.blocks.remove(&id);
                Done::Yes
            }
            Err(TakeError::Aborted { .. }) => panic!("{id} was never aborted"),
            Err(TakeError::Store(_)) => {
                self.taken.entry(id).or_insert(false);
                Done::Failed
            }
        }
    }

    /// What was acknowledged is there, and what was taken is taken.
    pub(crate) fn check(&mut self, store: &Store) {
        let taken: Vec<BlockId> =
            self.taken.iter().filter(|(_, surely)| **surely).map(|(id, _)| *id).collect();
        for id in taken {
            let again = get(store.take_key(KeyId { block: id, index: 0 })).map(|_| ());
            assert!(matches!(again, Err(TakeError::AlreadyTaken(_))), "{id} was taken before: {again:?}");
        }
        for (id, (_, acknowledged)) in &self.blocks {
            let found = store.block(id).expect("readable");
            assert!(found.is_some() || !acknowledged, "{id} was acknowledged and is gone");
        }
    }

    /// Of a store whose disk was damaged: no key is another one or handed out again, and where one cannot be
    /// had, that is said. Gives what was said.
    pub(crate) fn check_damaged(&self, store: &Store) -> Option<String> {
        let mut said = None;
        for (id, (bytes, _)) in &self.blocks {
            let number = u64::from_be_bytes(id.as_bytes()[..8].try_into().expect("eight bytes"));
            match get(store.take_key(KeyId { block: *id, index: 0 })) {
                Ok(key) => {
                    assert!(!self.taken.contains_key(id), "{id} was handed out twice");
                    assert_eq!(key.expose(), vec![key_byte(number); *bytes], "{id} is another key");
                }
                Err(TakeError::AlreadyTaken(_)) if self.taken.contains_key(id) => {}
                Err(TakeError::Store(error)) => said = Some(error.to_string()),
                Err(error) => panic!("{id} is gone, and nothing says why: {error}"),
            }
        }
        said
    }

    /// Everything that is left is right.
    pub(crate) fn take_all(&mut self, store: &Store) {
        let open: Vec<BlockId> = self.blocks.keys().copied().collect();
        for id in open.into_iter().filter(|id| self.taken.get(id) != Some(&true)).collect::<Vec<_>>() {
            assert_eq!(self.take_one(store, id), Done::Yes);
        }
    }
}

impl Mail {
    pub(crate) fn post(&mut self, store: &Store, rng: &mut StdRng) -> Done {
        let id = store.next_outbox_id();
        assert!(!self.kept.contains_key(&id), "{id:?} was used before");
        let len = if rng.random_bool(0.3) { rng.random_range(2049..9000) } else { rng.random_range(1..2048) };
        let byte = rng.random_range(1..=255);
        let item = OutboxItem {
            id,
            receiver: HUB,
            sender: HUB,
            block: BlockId::new([1; 16]),
            table: TableId::new([9; 16]),
            at_ms: 0,
            bytes: vec![byte; len],
        };
        match get(store.commit(Transaction { outbox: vec![item], ..Transaction::default() })) {
            Ok(()) => {
                self.kept.insert(id, (byte, len));
                Done::Yes
            }
            Err(_) => Done::Failed,
        }
    }

    pub(crate) fn deliver(&mut self, store: &Store) -> Done {
        let next = self.kept.keys().find(|id| !self.delivered.contains(id)).copied();
        let Some(id) = next else { return Done::Idle };
        self.delivered.insert(id);
        match get(store.commit(Transaction { delivered: vec![id], ..Transaction::default() })) {
            Ok(()) => {
                self.kept.remove(&id);
                Done::Yes
            }
            Err(_) => Done::Failed,
        }
    }

    pub(crate) fn exclude(&mut self, store: &Store, rng: &mut StdRng) -> Done {
        let hub = NodeId::new([rng.random(); 32]);
        let record = ExclusionRecord { hub, reason: "a false claim".to_owned(), at_ms: 1 };
        match get(store.commit(Transaction { exclusions: vec![record], ..Transaction::default() })) {
            Ok(()) => {
                self.excluded.insert(hub);
                Done::Yes
            }
            Err(_) => Done::Failed,
        }
    }

    pub(crate) fn check(&self, store: &Store) {
        for (id, (byte, len)) in &self.kept {
            match get(store.outbox_read(*id)).expect("readable") {
                Some(bytes) => assert_eq!(bytes, vec![*byte; *len], "{id:?} is another message"),
                None => assert!(self.delivered.contains(id), "{id:?} was acknowledged and is gone"),
            }
        }
        let known: BTreeSet<NodeId> =
            store.exclusions().expect("readable").into_iter().map(|record| record.hub).collect();
        assert!(self.excluded.is_subset(&known), "an exclusion is gone");
    }
}

impl Mail {
    /// Of a store whose disk was damaged: no message is another one. The last of all records may be lost where
    /// damage to it looks like a torn write. Gives what was said.
    pub(crate) fn check_damaged(&self, store: &Store, last_may_be_lost: bool) -> Option<String> {
        let mut said = None;
        for (id, (byte, len)) in &self.kept {
            match get(store.outbox_read(*id)) {
                Ok(Some(bytes)) => assert_eq!(bytes, vec![*byte; *len], "{id:?} is another message"),
                // Its pads stay burned, and the agreement starts anew.
                Ok(None) => said = Some("a message is gone".to_owned()),
                Err(error) => said = Some(error.to_string()),
            }
        }
        match store.exclusions() {
            Ok(known) => assert!(
                last_may_be_lost
                    || self.excluded.iter().all(|hub| known.iter().any(|record| record.hub == *hub)),
                "an exclusion is gone, and nothing says why"
            ),
            Err(error) => said = Some(error.to_string()),
        }
        said
    }
}

fn key_byte(number: u64) -> u8 {
    u8::try_from(number % 251).expect("small") + 1
}
