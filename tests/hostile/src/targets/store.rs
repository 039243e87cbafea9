//! Opening a store whose files and records are not as it left them: it opens, or it says what is wrong.
//!
//! The input is a list of changes to a store with one table and a block of keys: to a record of the ledger (put, altered, removed) or
//! to a file (altered, cut short).

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use dske_protocol::ids::{BlockId, KeyId, NodeId};
use dske_storage::{
    BlockRecord, BlockState, NewBlock, SecretBytes, Side, Store, Transaction, fuzzing,
    log::{Batch, Log, Pair},
    pskm::{ImportOptions, ModuleKey, import},
};

use crate::{
    input::{Input, mutate},
    memory::{MemoryDisk, MemoryLog},
};

/// Files and records of a store with one active table, some of whose pad is used, and keys, one of which is taken.
#[derive(Debug)]
struct Sound {
    files: Vec<(PathBuf, Vec<u8>)>,
    pairs: Vec<Pair>,
}

fn dir() -> PathBuf {
    PathBuf::from("/store")
}

fn sound() -> &'static Sound {
    static SOUND: OnceLock<Sound> = OnceLock::new();
    SOUND.get_or_init(|| {
        let (disk, log) = (MemoryDisk::default(), MemoryLog::default());
        fuzzing::format(&dir(), &disk, Arc::new(log.clone())).expect("a new store");
        let store = fuzzing::open(&dir(), Arc::new(disk.clone()), Arc::new(log.clone())).expect("it opens");
        let temp = tempfile::tempdir().expect("a directory");
        let (key_file, path) = (temp.path().join("key"), temp.path().join("module"));
        dske_storage::files::write(&key_file, &[1; 32]).expect("a key file");
        let key = ModuleKey::from_key_file(&key_file).expect("a key file");
        let lane_bytes = [8192, 8192];
        let manifest = fuzzing::manifest_seed(super::module::CLIENT, lane_bytes);
        let frames = vec![manifest, vec![1; 8192], vec![2; 8192], Vec::new()];
        let text = fuzzing::ModuleText { bytes: 16384, frames, digest: true };
        std::fs::write(&path, fuzzing::seal_module(&text, &key)).expect("a module");
        let options = ImportOptions { me: super::module::CLIENT, wipe: false, now_ms: 1 };
        import(&store, &path, &key, options, &|_, _| ()).expect("a good module");
        let table = store.tables()[0].clone();
        let activate = dske_storage::Transaction { activate: vec![table.table], ..Default::default() };
        dske_storage::wait(store.commit(activate)).expect("open").expect("activated");
        store.open_table(&table.table);
        let want = dske_storage::Want {
            peer: table.peer,
            side: table.side,
            bytes: 96,
            usage: dske_storage::Use::Key,
        };
        dske_storage::wait(store.mint(vec![want])).expect("open").expect("minted");
        let range = dske_protocol::ids::PadRange {
            table: table.table,
            lane: dske_protocol::ids::Lane::Down,
            offset: 64,
            len: 96,
        };
        let hold = dske_storage::HoldWant { peer: table.peer, range, for_sync: false };
        dske_storage::wait(store.hold(vec![hold])).expect("open").remove(0).expect("held");
        let claims = vec![(range, dske_storage::Use::Key)];
        let claim = dske_storage::Transaction { claims, ..Default::default() };
        dske_storage::wait(store.commit(claim)).expect("open").expect("claimed");
        put_keys(&store);
        store.close().expect("closed");
        Sound { files: disk.files(), pairs: log.pairs() }
    })
}

fn put_keys(store: &Store) {
    let block = BlockId::new([5; 16]);
    let record = BlockRecord {
        block,
        side: Side::Receiver,
        sender: NodeId::new([1; 32]),
        receivers: vec![super::module::CLIENT],
        purpose: "test".to_owned(),
        key_bytes: 16,
        n: 4,
        k: 2,
        state: BlockState::Ready,
        at_ms: 1,
        aged_ms: 1,
        round: false,
    };
    let block_of_keys = NewBlock { record, key: Some(SecretBytes::new(vec![6; 5 * 16])) };
    let put = Transaction { block: vec![block_of_keys], ..Default::default() };
    dske_storage::wait(store.commit(put)).expect("open").expect("put");
    dske_storage::wait(store.take_key(KeyId { block, index: 1 })).expect("open").expect("taken");
}

/// Keys of one block that are asked for.
const KEYS_ASKED: u32 = 8;

/// Takes what waits: whatever the records say, no key is given twice.
fn take_keys(store: &Store) {
    for waiting in store.waiting_blocks().unwrap_or_default() {
        for index in 0..waiting.keys.min(KEYS_ASKED) {
            let id = KeyId { block: waiting.record.block, index };
            let take = || dske_storage::wait(store.take_key(id)).expect("the store answers");
            let first = take();
            assert!(first.is_err() || take().is_err(), "{id} was given twice");
        }
    }
}

/// The values of its ledger, as seeds for what reads them.
pub(crate) fn records() -> Vec<Vec<u8>> {
    sound().pairs.iter().map(|(_, value)| value.clone()).collect()
}

/// Opens a store after the input's changes, uses what is active, closes it, and opens it again.
pub(super) fn store(input: &[u8]) {
    let sound = sound();
    let mut script = Input::new(input);
    let mut files = sound.files.clone();
    let mut pairs: std::collections::BTreeMap<Vec<u8>, Vec<u8>> = sound.pairs.iter().cloned().collect();
    while !script.is_empty() {
        match script.u8() % 5 {
            0 => {
                let key = script.chunk().to_vec();
                pairs.insert(key, script.chunk().to_vec());
            }
            1 => {
                let at = script.below(pairs.len());
                if let Some(value) = pairs.values_mut().nth(at) {
                    mutate(&mut script, value);
                }
            }
            2 => {
                let at = script.below(pairs.len());
                if let Some(key) = pairs.keys().nth(at).cloned() {
                    pairs.remove(&key);
                }
            }
            3 => {
                let at = script.below(files.len());
                if let Some((_, bytes)) = files.get_mut(at) {
                    mutate(&mut script, bytes);
                }
            }
            _ => {
                // Past its checksum: a slot of a lane's header.
                let (at, slot) = (script.below(files.len()), script.below(2) * 4096);
                if let Some((path, bytes)) = files.get_mut(at)
                    && path.extension().is_some_and(|extension| extension == "lane")
                    && let Some(body) = bytes.get_mut(slot + 4..slot + 4 + fuzzing::LANE_SLOT_BODY_BYTES)
                {
                    let place = script.below(body.len());
                    body[place] = script.u8();
                    let checksum = crc32fast::hash(body).to_le_bytes();
                    bytes[slot..slot + 4].copy_from_slice(&checksum);
                }
            }
        }
    }
    let (disk, log) = (MemoryDisk::default(), MemoryLog::default());
    files.into_iter().for_each(|(path, bytes)| disk.put(&path, bytes));
    let batch: Batch = pairs.into_iter().map(|(key, value)| (key, Some(value))).collect();
    log.apply(&batch).expect("memory");
    for _ in 0..2 {
        let opened = fuzzing::open(&dir(), Arc::new(disk.clone()), Arc::new(log.clone()));
        let Ok(store) = opened else { return };
        for table in store.tables() {
            store.open_table(&table.table);
            let want = dske_storage::Want {
                peer: table.peer,
                side: table.side,
                bytes: 64,
                usage: dske_storage::Use::Key,
            };
            // Refused or given, but answered.
            let _ = dske_storage::wait(store.mint(vec![want])).expect("the store answers");
        }
        for entry in store.outbox() {
            let _ = dske_storage::wait(store.outbox_read(entry.id)).expect("the store answers");
        }
        let _ = store.blocks(10);
        take_keys(&store);
        let _ = store.close();
    }
}
