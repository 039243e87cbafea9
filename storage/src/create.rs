//! Making and opening the directory of a store: its lock, its id, its ledger.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    disk::Disk,
    disk_os::OsDisk,
    engine::Engine,
    error::StoreError,
    journal::JOURNAL_BYTES,
    layout,
    lock::DirLock,
    log_sled::SledLog,
    open::{FORMAT, format, load},
    spool::SEGMENT_BYTES,
};

const IDENTITY_BYTES: usize = 16;

/// Makes a store. Its `store` file comes last: until then there is none.
pub(crate) fn create(dir: &Path) -> Result<(), StoreError> {
    let disk = OsDisk;
    let make = |path: &Path| disk.create_dir(path).map_err(|error| StoreError::io("make", path, &error));
    let above = dirs_above(dir);
    if disk.exists(dir).map_err(|error| StoreError::io("look for", dir, &error))? {
        let entries = disk.list(dir).map_err(|error| StoreError::io("list", dir, &error))?;
        if !entries.is_empty() {
            return Err(StoreError::Exists { path: dir.to_owned() });
        }
    }
    make(dir)?;
    let _lock = DirLock::take(dir)?;
    let mut identity = [0; IDENTITY_BYTES];
    getrandom::fill(&mut identity).map_err(|error| StoreError::Io {
        action: "draw an id for",
        path: dir.to_owned(),
        cause: error.to_string(),
    })?;
    let ledger = layout::ledger_dir(dir);
    make(&ledger)?;
    format(dir, &disk, Arc::new(SledLog::create(&ledger)?), identity, JOURNAL_BYTES)?;
    let path = layout::store_file(dir);
    let text = format!("dske store {FORMAT} {:032x}\n", u128::from_be_bytes(identity));
    let write = || {
        // Under its name only when it is whole.
        let unfinished = path.with_extension("new");
        let file = disk.create(&unfinished)?;
        file.write_at(text.as_bytes(), 0)?;
        file.sync()?;
        disk.sync_dir(&ledger)?;
        disk.rename(&unfinished, &path)?;
        disk.sync_dir(dir)?;
        above.iter().try_for_each(|above| disk.sync_dir(above))
    };
    write().map_err(|error| StoreError::io("write", &path, &error))
}

/// The directories that will hold an entry of ours: the store's parent, and those that are not there yet with
/// the first that is. Without a sync of them a power cut could take the whole store away.
fn dirs_above(dir: &Path) -> Vec<PathBuf> {
    let parents = dir.ancestors().skip(1).map(|parent| match parent.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => parent.to_owned(),
    });
    let mut above = Vec::new();
    for parent in parents {
        let there = parent.is_dir();
        above.push(parent);
        if there {
            break;
        }
    }
    above
}

/// Takes the lock and loads the store.
pub(crate) fn open(dir: &Path, chunk_bytes_max: u64) -> Result<(Engine, DirLock), StoreError> {
    let path = layout::store_file(dir);
    if !path.is_file() {
        return Err(StoreError::Missing { what: "the store", path });
    }
    let lock = DirLock::take(dir)?;
    let text = std::fs::read(&path).map_err(|error| StoreError::io("read", &path, &error))?;
    let identity = parse(&String::from_utf8_lossy(&text)).map_err(|what_to_do| StoreError::Damaged {
        what: "the store file",
        detail: format!("{} {what_to_do}", path.display()),
    })?;
    let needed =
        [layout::lanes_dir(dir), layout::imports_dir(dir), layout::outbox_dir(dir), layout::keys_dir(dir)];
    if let Some(path) = needed.into_iter().find(|path| !path.is_dir()) {
        return Err(StoreError::Missing { what: "a directory of the store", path });
    }
    let log = Arc::new(SledLog::open(&layout::ledger_dir(dir))?);
    let engine = load(dir, Arc::new(OsDisk), log, identity, chunk_bytes_max, SEGMENT_BYTES)?;
    Ok((engine, lock))
}

/// Reads the store file; otherwise says what is wrong with it, and what to do.
fn parse(text: &str) -> Result<[u8; IDENTITY_BYTES], String> {
    let damaged = || "is not what was written: put the right one back".to_owned();
    let mut words = text.strip_prefix("dske store ").ok_or_else(damaged)?.split_ascii_whitespace();
    let (Some(format), Some(hex), None) = (words.next(), words.next(), words.next()) else {
        return Err(damaged());
    };
    if hex.len() != IDENTITY_BYTES * 2 || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(damaged());
    }
    match format.parse::<u32>() {
        Ok(FORMAT) => u128::from_str_radix(hex, 16).map(u128::to_be_bytes).map_err(|_| damaged()),
        Ok(other) => Err(format!("is of format {other}, not {FORMAT}: use the release that wrote it")),
        Err(_) => Err(damaged()),
    }
}
