//! A disk and a log in memory for the store, with a bound on what they hold: a fuzzer must not fill the machine.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dske_storage::{
    StoreError,
    disk::{Disk, File},
    log::{Batch, Log, Pair},
};

/// Longest file; a longer one finds the disk full.
const FILE_BYTES_MAX: u64 = 1 << 20;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Files in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<BTreeMap<PathBuf, Arc<MemoryFile>>>>);

#[derive(Debug, Default)]
struct MemoryFile(Mutex<Vec<u8>>);

impl MemoryDisk {
    /// Puts a file with these bytes, instead of one that is there.
    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        lock(&self.0).insert(path.to_owned(), Arc::new(MemoryFile(Mutex::new(bytes))));
    }

    /// Every file with its bytes, in order of path.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        lock(&self.0).iter().map(|(path, file)| (path.clone(), lock(&file.0).clone())).collect()
    }
}

impl File for MemoryFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = lock(&self.0);
        let run = at.checked_add(buf.len()).and_then(|end| bytes.get(at..end));
        buf.copy_from_slice(run.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= FILE_BYTES_MAX);
        let end = usize::try_from(end.ok_or(io::ErrorKind::StorageFull)?).map_err(io::Error::other)?;
        let mut bytes = lock(&self.0);
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[end - buf.len()..end].copy_from_slice(buf);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.0).len() as u64)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if len > FILE_BYTES_MAX {
            return Err(io::ErrorKind::StorageFull.into());
        }
        lock(&self.0).resize(usize::try_from(len).map_err(io::Error::other)?, 0);
        Ok(())
    }

    fn punch(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = lock(&self.0).get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(file)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut files = lock(&self.0);
        if files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(MemoryFile::default());
        files.insert(path.to_owned(), file.clone());
        Ok(file)
    }

    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(lock(&self.0).keys().any(|file| file.starts_with(path)))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let child = |file: &PathBuf| Some(path.join(file.strip_prefix(path).ok()?.components().next()?));
        let mut children: Vec<PathBuf> = lock(&self.0).keys().filter_map(child).collect();
        children.dedup();
        Ok(children)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = lock(&self.0);
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
        lock(&self.0).remove(path).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// A ledger in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryLog(Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>);

impl MemoryLog {
    /// Every record, in order of key.
    pub fn pairs(&self) -> Vec<Pair> {
        lock(&self.0).iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

impl Log for MemoryLog {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(lock(&self.0).get(key).cloned())
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<Pair>, StoreError> {
        let pairs = lock(&self.0);
        let hits = pairs.iter().filter(|(key, _)| key.starts_with(prefix));
        Ok(hits.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn scan_last(&self, prefix: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        Ok(self.scan(prefix)?.into_iter().rev().take(limit).collect())
    }

    fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut pairs = lock(&self.0);
        for (key, value) in batch {
            match value {
                Some(value) => pairs.insert(key.clone(), value.clone()),
                None => pairs.remove(key),
            };
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
