//! Import of a module file into a real store: made-up files, and files whose contents are the input's under right
//! seals. Whatever the file says, either one table exists afterwards, whole, or none.

use std::{fs, path::PathBuf, sync::Arc};

use dske_protocol::ids::NodeId;
use dske_storage::{
    Store, TableState,
    fuzzing::{self, ModuleText},
    pskm::{ImportOptions, ModuleKey, import, inspect},
};

use crate::{
    input::Input,
    memory::{MemoryDisk, MemoryLog},
};

/// The client that modules of the seeds are for.
pub const CLIENT: NodeId = NodeId::new([8; 32]);

/// A store in memory.
pub(super) fn store() -> Store {
    let (disk, log) = (MemoryDisk::default(), MemoryLog::default());
    let dir = PathBuf::from("/store");
    fuzzing::format(&dir, &disk, Arc::new(log.clone())).expect("a new store");
    fuzzing::open(&dir, Arc::new(disk), Arc::new(log)).expect("a store that was just made")
}

/// The key of every module here.
fn key() -> ModuleKey {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    dske_storage::files::write(&path, &[1; 32]).expect("a key file");
    ModuleKey::from_key_file(&path).expect("a key file")
}

/// The module file that an input stands for.
///
/// First byte: bit 0: the rest is the file as it is; otherwise public length (8 bytes), then frames, each with its
/// length (2 bytes); bit 1: the last frame gives way to the right digest; bit 2: a frame's length is in KiB
/// and what is missing is zeros; bit 3: imported twice; bit 4: cut short in the middle, then tried again whole.
pub fn module(input: &[u8]) {
    let mut script = Input::new(input);
    let flags = script.u8();
    let key = key();
    let file = if flags & 1 != 0 { script.rest().to_vec() } else { sealed(&mut script, flags, &key) };
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("module");
    let store = store();
    let options = ImportOptions { me: CLIENT, wipe: false, now_ms: 2 };
    if flags & 16 != 0 {
        fs::write(&path, &file[..file.len() / 2]).expect("a file");
        assert!(import(&store, &path, &key, options, &|_, _| ()).is_err(), "half of a module was imported");
        assert!(store.tables().is_empty(), "half of a module left a table");
    }
    fs::write(&path, &file).expect("a file");
    let looked = inspect(&path, Some(&key));
    let (mut told, mut total) = (0, 0);
    let progress = std::cell::Cell::new((told, total));
    let imported = import(&store, &path, &key, options, &|done, of| progress.set((done, of)));
    (told, total) = progress.get();
    match &imported {
        Ok(imported) => {
            assert!(looked.is_ok_and(|info| info.bytes == imported.module.bytes));
            assert_eq!((told, total), (imported.module.bytes, imported.module.bytes));
            let tables = store.tables();
            assert_eq!(tables.len(), 1);
            assert_eq!(tables[0].state, TableState::Pending);
            assert_eq!(tables[0].lanes.iter().map(|lane| lane.left).sum::<u64>(), imported.module.bytes);
            let twice = import(&store, &path, &key, options, &|_, _| ());
            assert!(twice.is_err(), "a module was imported twice");
        }
        Err(_) => assert!(store.tables().is_empty(), "a module that was refused left a table"),
    }
    if flags & 8 != 0 && imported.is_err() {
        assert!(import(&store, &path, &key, options, &|_, _| ()).is_err(), "refused, then taken");
    }
    store.close().expect("the store took no harm");
}

fn sealed(script: &mut Input<'_>, flags: u8, key: &ModuleKey) -> Vec<u8> {
    let bytes = script.u64();
    let mut frames = Vec::new();
    while !script.is_empty() && frames.len() < 64 {
        let len = usize::from(script.u16());
        let mut frame = script.take(len).to_vec();
        if flags & 4 != 0 && !frames.is_empty() {
            frame.resize(len.saturating_mul(1024).min(1 << 20), 0);
        }
        frames.push(frame);
    }
    let text = ModuleText { bytes, frames, digest: flags & 2 != 0 };
    fuzzing::seal_module(&text, key)
}
