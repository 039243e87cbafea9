//! A disk and a log in memory for tests: they count syncs, forget or tear what was not synced, and fail on
//! demand.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::{
    disk::{Disk, File},
    error::StoreError,
    lock_short,
    log::{Batch, Log, Pair},
};

/// Switches and counters shared by a disk and its files.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) syncs: AtomicU64,
    /// Every sync from this one on fails; 0 for never.
    pub(crate) fail_from: AtomicU64,
    /// Writes and syncs.
    pub(crate) steps: AtomicU64,
    /// Every write and sync from this one on fails; 0 for never.
    pub(crate) cut_from: AtomicU64,
    pub(crate) full: AtomicBool,
}

impl Faults {
    fn step(&self) -> io::Result<()> {
        reached(&self.steps, &self.cut_from)
    }

    fn sync(&self) -> io::Result<()> {
        self.step()?;
        reached(&self.syncs, &self.fail_from)
    }
}

fn reached(counter: &AtomicU64, from: &AtomicU64) -> io::Result<()> {
    let (count, from) = (counter.fetch_add(1, Ordering::SeqCst) + 1, from.load(Ordering::SeqCst));
    if from != 0 && count >= from { Err(io::Error::other("simulated failure")) } else { Ok(()) }
}

/// What a power cut leaves of the writes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    Nothing,
    All,
    /// All but the end of each file's last write: its first bytes up to here.
    Torn(usize),
}

#[derive(Debug, Clone, Default)]
pub(crate) struct SimDisk {
    files: Arc<Mutex<BTreeMap<PathBuf, Arc<SimFile>>>>,
    pub(crate) faults: Arc<Faults>,
}

#[derive(Debug, Default)]
pub(crate) struct SimFile {
    bytes: Mutex<SimBytes>,
    faults: Arc<Faults>,
}

#[derive(Debug, Default)]
struct SimBytes {
    seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

impl SimBytes {
    fn crashed(&self, keep: Keep) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        if keep != Keep::Nothing {
            bytes.resize(self.seen.len(), 0);
            for (number, (at, write)) in self.unsynced.iter().enumerate() {
                let kept = match keep {
                    Keep::Torn(cut) if number + 1 == self.unsynced.len() => cut.min(write.len()),
                    _ => write.len(),
                };
                bytes[*at..at + kept].copy_from_slice(&write[..kept]);
            }
        }
        bytes
    }
}

impl SimDisk {
    pub(crate) fn new(faults: Arc<Faults>) -> Self {
        Self { files: Arc::default(), faults }
    }

    /// What the device holds after a power cut now.
    pub(crate) fn crashed(&self, keep: Keep, faults: Arc<Faults>) -> Self {
        let disk = Self { files: Arc::default(), faults };
        for (path, file) in lock_short(&self.files).iter() {
            let durable = lock_short(&file.bytes).crashed(keep);
            let bytes = SimBytes { seen: durable.clone(), durable, unsynced: Vec::new() };
            let copy = SimFile { bytes: Mutex::new(bytes), faults: disk.faults.clone() };
            lock_short(&disk.files).insert(path.clone(), Arc::new(copy));
        }
        disk
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = lock_short(&self.bytes);
        let run = bytes.seen.get(at..at + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(run);
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        let mut bytes = lock_short(&self.bytes);
        if bytes.seen.len() < at + buf.len() {
            bytes.seen.resize(at + buf.len(), 0);
        }
        bytes.seen[at..at + buf.len()].copy_from_slice(buf);
        bytes.unsynced.push((at, buf.to_vec()));
        // A write that fails may have reached the device all the same.
        self.faults.step()
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.sync()?;
        let mut bytes = lock_short(&self.bytes);
        let SimBytes { seen, durable, unsynced } = &mut *bytes;
        durable.resize(seen.len(), 0);
        for (at, write) in unsynced.drain(..) {
            durable[at..at + write.len()].copy_from_slice(&write);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock_short(&self.bytes).seen.len() as u64)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if self.faults.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        lock_short(&self.bytes).seen.resize(usize::try_from(len).map_err(io::Error::other)?, 0);
        Ok(())
    }

    fn punch(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let files = lock_short(&self.files);
        let file = files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(file.clone())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = Arc::new(SimFile { bytes: Mutex::default(), faults: self.faults.clone() });
        lock_short(&self.files).insert(path.to_owned(), file.clone());
        Ok(file)
    }

    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(lock_short(&self.files).keys().any(|file| file.starts_with(path)))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(lock_short(&self.files).keys().filter(|file| file.parent() == Some(path)).cloned().collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = lock_short(&self.files);
        let moved: Vec<PathBuf> = files.keys().filter(|file| file.starts_with(from)).cloned().collect();
        for path in moved {
            let rest = path.strip_prefix(from).map_err(io::Error::other)?;
            let target = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
            if let Some(file) = files.remove(&path) {
                files.insert(target, file);
            }
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        lock_short(&self.files).remove(path).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        self.faults.sync()
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct SimLog {
    seen: Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>,
    durable: Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>,
    pub(crate) faults: Arc<Faults>,
}

impl SimLog {
    pub(crate) fn new(faults: Arc<Faults>) -> Self {
        Self { seen: Arc::default(), durable: Arc::default(), faults }
    }

    /// What the device holds after a power cut now; `keep`: all that was written had reached it.
    pub(crate) fn crashed(&self, keep: bool, faults: Arc<Faults>) -> Self {
        let held = lock_short(if keep { &self.seen } else { &self.durable }).clone();
        Self { seen: Arc::new(Mutex::new(held.clone())), durable: Arc::new(Mutex::new(held)), faults }
    }
}

impl Log for SimLog {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(lock_short(&self.seen).get(key).cloned())
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<Pair>, StoreError> {
        let seen = lock_short(&self.seen);
        let hits = seen.iter().filter(|(key, _)| key.starts_with(prefix));
        Ok(hits.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn scan_last(&self, prefix: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        Ok(self.scan(prefix)?.into_iter().rev().take(limit).collect())
    }

    fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        self.faults
            .step()
            .map_err(|error| StoreError::Ledger { action: "write", cause: error.to_string() })?;
        let mut seen = lock_short(&self.seen);
        for (key, value) in batch {
            match value {
                Some(value) => seen.insert(key.clone(), value.clone()),
                None => seen.remove(key),
            };
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.faults
            .sync()
            .map_err(|error| StoreError::Ledger { action: "sync", cause: error.to_string() })?;
        *lock_short(&self.durable) = lock_short(&self.seen).clone();
        Ok(())
    }
}
