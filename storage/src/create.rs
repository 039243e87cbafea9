//! Making and opening the directory of a store: its lock, its id, its ledger.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    access,
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
    let ledger = layout::ledger_dir(dir);
    access::close_snapshots(&ledger).map_err(|error| StoreError::io("look into", &ledger, &error))?;
    access::check_above(dir).and_then(|()| access::check_tree(dir)).map_err(StoreError::Exposed)?;
    let lock = DirLock::take(dir)?;
    let text = std::fs::read(&path).map_err(|error| StoreError::io("read", &path, &error))?;
    let identity = parse(&String::from_utf8_lossy(&text)).map_err(|wrong| match wrong {
        Unreadable::OtherFormat(found) => StoreError::OtherFormat { path, found },
        Unreadable::Damaged => StoreError::Damaged {
            what: "the store file",
            detail: format!("{} is not what was written: put the right one back", path.display()),
        },
    })?;
    let needed = [layout::lanes_dir(dir), layout::keys_dir(dir)];
    if let Some(path) = needed.into_iter().find(|path| !path.is_dir()) {
        return Err(StoreError::Missing { what: "a directory of the store", path });
    }
    let log = Arc::new(SledLog::open(&layout::ledger_dir(dir))?);
    let engine = load(dir, Arc::new(OsDisk), log, identity, chunk_bytes_max, SEGMENT_BYTES)?;
    Ok((engine, lock))
}

/// Why a store file says nothing to this release.
#[derive(Debug, PartialEq, Eq)]
enum Unreadable {
    OtherFormat(u32),
    Damaged,
}

/// Reads the store file. What stands behind the number of another format is not for this release to judge.
fn parse(text: &str) -> Result<[u8; IDENTITY_BYTES], Unreadable> {
    let mut words = text.strip_prefix("dske store ").ok_or(Unreadable::Damaged)?.split_ascii_whitespace();
    match words.next().map(str::parse) {
        Some(Ok(FORMAT)) => {}
        Some(Ok(found)) => return Err(Unreadable::OtherFormat(found)),
        Some(Err(_)) | None => return Err(Unreadable::Damaged),
    }
    let (Some(hex), None) = (words.next(), words.next()) else { return Err(Unreadable::Damaged) };
    if hex.len() != IDENTITY_BYTES * 2 || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(Unreadable::Damaged);
    }
    u128::from_str_radix(hex, 16).map(u128::to_be_bytes).map_err(|_| Unreadable::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_file_of_another_format_is_told_from_a_damaged_one() {
        let hex = "000102030405060708090a0b0c0d0e0f";
        let of = |format: &str| parse(&format!("dske store {format} {hex}\n"));
        assert_eq!(of(&FORMAT.to_string()).map(|id| id[15]), Ok(15));
        for found in [0, 1, FORMAT - 1, FORMAT + 1, u32::MAX] {
            assert_eq!(of(&found.to_string()), Err(Unreadable::OtherFormat(found)));
        }
        assert_eq!(parse("dske store 99 in some other form"), Err(Unreadable::OtherFormat(99)));
        for damaged in ["", "x", "-1", "4294967296"] {
            assert_eq!(of(damaged), Err(Unreadable::Damaged), "{damaged}");
        }
        for damaged in
            ["", "dske stor", "dske store ", &format!("dske store {FORMAT}\n"), &format!("{hex}\n")]
        {
            assert_eq!(parse(damaged), Err(Unreadable::Damaged), "{damaged}");
        }
        assert_eq!(parse(&format!("dske store {FORMAT} {}\n", &hex[1..])), Err(Unreadable::Damaged));
    }
}
