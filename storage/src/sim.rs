//! A disk and a log in memory for tests: they count syncs, forget what was not synced, and fail on demand.

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
    pub(crate) full: AtomicBool,
}

impl Faults {
    fn sync(&self) -> io::Result<()> {
        let count = self.syncs.fetch_add(1, Ordering::SeqCst) + 1;
        let fail_from = self.fail_from.load(Ordering::SeqCst);
        if fail_from != 0 && count >= fail_from {
            return Err(io::Error::other("simulated failure"));
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct SimDisk {
    files: Arc<Mutex<BTreeMap<PathBuf, Arc<SimFile>>>>,
    pub(crate) faults: Arc<Faults>,
}

#[derive(Debug)]
pub(crate) struct SimFile {
    seen: Mutex<Vec<u8>>,
    durable: Mutex<Vec<u8>>,
    faults: Arc<Faults>,
}

impl SimDisk {
    /// What the device holds after a power cut now; `keep`: all that was written had reached it.
    pub(crate) fn crashed(&self, keep: bool, faults: Arc<Faults>) -> Self {
        let disk = Self { files: Arc::default(), faults };
        for (path, file) in lock_short(&self.files).iter() {
            let bytes = lock_short(if keep { &file.seen } else { &file.durable }).clone();
            let copy = SimFile {
                seen: Mutex::new(bytes.clone()),
                durable: Mutex::new(bytes),
                faults: disk.faults.clone(),
            };
            lock_short(&disk.files).insert(path.clone(), Arc::new(copy));
        }
        disk
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        let seen = lock_short(&self.seen);
        let run = seen.get(at..at + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(run);
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        let mut seen = lock_short(&self.seen);
        if seen.len() < at + buf.len() {
            seen.resize(at + buf.len(), 0);
        }
        seen[at..at + buf.len()].copy_from_slice(buf);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.sync()?;
        *lock_short(&self.durable) = lock_short(&self.seen).clone();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock_short(&self.seen).len() as u64)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if self.faults.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        lock_short(&self.seen).resize(usize::try_from(len).map_err(io::Error::other)?, 0);
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
        let file = Arc::new(SimFile {
            seen: Mutex::default(),
            durable: Mutex::default(),
            faults: self.faults.clone(),
        });
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
