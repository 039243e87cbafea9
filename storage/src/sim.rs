//! A disk and a log in memory for tests and for simulation: they count writes and syncs, fail on demand, and
//! forget or tear what was not synced.
//!
//! Not simulated: entries of directories that were renamed or removed count as durable at once; those that
//! were created are lost by a power cut until their directory is synced.

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

/// Switches and counters shared by a disk and its files, and by a log.
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
    /// Bytes whose space was given back.
    pub(crate) punched: AtomicU64,
    pub(crate) watch: Watch,
}

/// Somebody who looks around whenever something is about to be synced.
#[derive(Default)]
pub(crate) struct Watch(Mutex<Option<Box<dyn Fn() + Send>>>);

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

#[cfg(test)]
impl Watch {
    /// Has somebody look.
    pub(crate) fn set(&self, look: impl Fn() + Send + 'static) {
        *lock_short(&self.0) = Some(Box::new(look));
    }
}

impl Faults {
    fn step(&self) -> io::Result<()> {
        reached(&self.steps, &self.cut_from)
    }

    fn sync(&self) -> io::Result<()> {
        if let Some(look) = &*lock_short(&self.watch.0) {
            look();
        }
        self.step()?;
        reached(&self.syncs, &self.fail_from)
    }
}

fn reached(counter: &AtomicU64, from: &AtomicU64) -> io::Result<()> {
    let (count, from) = (counter.fetch_add(1, Ordering::SeqCst) + 1, from.load(Ordering::SeqCst));
    if from != 0 && count >= from { Err(io::Error::other("simulated failure")) } else { Ok(()) }
}

/// What a power cut leaves of the writes that were not synced.
#[cfg_attr(not(feature = "simulation"), allow(unreachable_pub))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// None of them.
    Nothing,
    /// All of them.
    All,
    /// All but the end of each file's last write: its first bytes up to here.
    Torn(usize),
    /// Any subset, each one whole or torn at any byte; the seed decides.
    Some(u64),
}

/// Draws what a power cut does; small, so that this needs no generator of the caller.
struct Dice(u64);

impl Dice {
    /// The next number below `bound`, which is not 0.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct SimDisk {
    files: Arc<Mutex<BTreeMap<PathBuf, Arc<SimFile>>>>,
    pub(crate) faults: Arc<Faults>,
}

#[derive(Debug, Default)]
pub(crate) struct SimFile {
    bytes: Mutex<SimBytes>,
    /// Whether its directory has been synced since it was created.
    entry_synced: AtomicBool,
    faults: Arc<Faults>,
}

#[derive(Debug, Default)]
struct SimBytes {
    /// Shared with copies of the device until it is written.
    seen: Arc<Vec<u8>>,
    /// Changes since the last sync, oldest first.
    unsynced: Vec<Change>,
}

#[derive(Debug)]
struct Change {
    at: usize,
    /// What stood there, as far as the file reached.
    old: Vec<u8>,
    new: Vec<u8>,
    /// Length of the file before.
    old_len: usize,
    new_len: usize,
}

impl Change {
    fn undo(&self, bytes: &mut Vec<u8>) {
        bytes.truncate(self.old_len);
        if let Some(run) = bytes.get_mut(self.at..self.at + self.old.len()) {
            run.copy_from_slice(&self.old);
        }
    }

    /// Does it again, up to `kept` of its bytes.
    fn redo(&self, bytes: &mut Vec<u8>, kept: usize) {
        let kept = kept.min(self.new.len());
        let whole = kept == self.new.len();
        let len = if whole { self.new_len } else { self.at + kept };
        if bytes.len() < len {
            bytes.resize(len, 0);
        }
        bytes[self.at..self.at + kept].copy_from_slice(&self.new[..kept]);
    }
}

impl SimBytes {
    fn crashed(&self, keep: Keep, dice: &mut Dice) -> Arc<Vec<u8>> {
        if keep == Keep::All || self.unsynced.is_empty() {
            return self.seen.clone();
        }
        let mut bytes = (*self.seen).clone();
        self.unsynced.iter().rev().for_each(|change| change.undo(&mut bytes));
        for (number, change) in self.unsynced.iter().enumerate() {
            let len = change.new.len();
            match keep {
                Keep::Nothing | Keep::All => {}
                Keep::Torn(cut) if number + 1 == self.unsynced.len() => change.redo(&mut bytes, cut),
                Keep::Torn(_) => change.redo(&mut bytes, len),
                Keep::Some(_) => match dice.below(3) {
                    0 => {}
                    1 => change.redo(&mut bytes, len),
                    _ => change.redo(&mut bytes, usize::try_from(dice.below(len as u64 + 1)).unwrap_or(len)),
                },
            }
        }
        Arc::new(bytes)
    }

    fn change(&mut self, at: usize, new: &[u8], new_len: usize) {
        let old_len = self.seen.len();
        let end = (at + new.len()).min(old_len);
        let old = self.seen.get(at..end).unwrap_or_default().to_vec();
        let seen = Arc::make_mut(&mut self.seen);
        seen.resize(new_len.max(old_len), 0);
        seen[at..at + new.len()].copy_from_slice(new);
        self.unsynced.push(Change { at, old, new: new.to_vec(), old_len, new_len: self.seen.len() });
    }
}

impl SimDisk {
    pub(crate) fn new(faults: Arc<Faults>) -> Self {
        Self { files: Arc::default(), faults }
    }

    /// What the device holds after a power cut now.
    pub(crate) fn crashed(&self, keep: Keep, faults: Arc<Faults>) -> Self {
        let disk = Self { files: Arc::default(), faults };
        let mut dice = Dice(if let Keep::Some(seed) = keep { seed } else { 0 });
        for (path, file) in lock_short(&self.files).iter() {
            let entry_kept = file.entry_synced.load(Ordering::SeqCst)
                || match keep {
                    Keep::Nothing => false,
                    Keep::All | Keep::Torn(_) => true,
                    Keep::Some(_) => dice.below(2) == 0,
                };
            if !entry_kept {
                continue;
            }
            let seen = lock_short(&file.bytes).crashed(keep, &mut dice);
            let copy = SimFile {
                bytes: Mutex::new(SimBytes { seen, unsynced: Vec::new() }),
                entry_synced: AtomicBool::new(true),
                faults: disk.faults.clone(),
            };
            lock_short(&disk.files).insert(path.clone(), Arc::new(copy));
        }
        disk
    }
}

impl SimDisk {
    /// Puts the files of another disk under a directory in the place of its own.
    #[cfg(feature = "simulation")]
    pub(crate) fn take_from(&self, other: &Self, dir: &Path) {
        let other = other.crashed(Keep::All, self.faults.clone());
        let mut files = lock_short(&self.files);
        files.retain(|path, _| !path.starts_with(dir));
        let taken = std::mem::take(&mut *lock_short(&other.files));
        files.extend(taken.into_iter().filter(|(path, _)| path.starts_with(dir)));
    }

    /// Changes the bytes of a file behind everybody's back, or removes it where that gives `false`; the file, for whom has it
    /// open, stays as it was. `false` where there is none.
    #[cfg(feature = "simulation")]
    pub(crate) fn spoil(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        let mut files = lock_short(&self.files);
        let Some(file) = files.remove(path) else { return false };
        let mut bytes = (*lock_short(&file.bytes).seen).clone();
        if change(&mut bytes) {
            let spoilt = SimFile {
                bytes: Mutex::new(SimBytes { seen: Arc::new(bytes), unsynced: Vec::new() }),
                entry_synced: AtomicBool::new(true),
                faults: self.faults.clone(),
            };
            files.insert(path.to_owned(), Arc::new(spoilt));
        }
        true
    }

    /// A file as the worst power cut would leave it; the file itself where all of it is synced.
    #[cfg(feature = "simulation")]
    pub(crate) fn durable(&self, path: &Path) -> Option<Arc<SimFile>> {
        let file = lock_short(&self.files).get(path).cloned()?;
        let seen = {
            let bytes = lock_short(&file.bytes);
            if bytes.unsynced.is_empty() {
                drop(bytes);
                return Some(file);
            }
            bytes.crashed(Keep::Nothing, &mut Dice(0))
        };
        let bytes = Mutex::new(SimBytes { seen, unsynced: Vec::new() });
        Some(Arc::new(SimFile { bytes, ..SimFile::default() }))
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
        lock_short(&self.bytes).change(at, buf, at + buf.len());
        // A write that fails may have reached the device all the same.
        self.faults.step()
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.sync()?;
        lock_short(&self.bytes).unsynced.clear();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock_short(&self.bytes).seen.len() as u64)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if self.faults.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let len = usize::try_from(len).map_err(io::Error::other)?;
        lock_short(&self.bytes).change(0, &[], len);
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.faults.punched.fetch_add(len, Ordering::SeqCst);
        let zeros = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        lock_short(&self.bytes).change(at, &zeros, at + zeros.len());
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
        let file = Arc::new(SimFile { faults: self.faults.clone(), ..SimFile::default() });
        lock_short(&self.files).insert(path.to_owned(), file.clone());
        Ok(file)
    }

    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let files = lock_short(&self.files);
        // Whatever lies under a path comes next after it.
        Ok(files.range(path.to_owned()..).next().is_some_and(|(file, _)| file.starts_with(path)))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let files = lock_short(&self.files);
        let under =
            files.range(path.to_owned()..).map(|(file, _)| file).take_while(|file| file.starts_with(path));
        Ok(under.filter(|file| file.parent() == Some(path)).cloned().collect())
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

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.faults.sync()?;
        for (file, entry) in lock_short(&self.files).iter() {
            if file.parent() == Some(path) {
                entry.entry_synced.store(true, Ordering::SeqCst);
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct SimLog {
    pairs: Arc<Mutex<SimPairs>>,
    pub(crate) faults: Arc<Faults>,
}

#[derive(Debug, Default)]
struct SimPairs {
    seen: BTreeMap<Vec<u8>, Vec<u8>>,
    /// For every batch since the last sync what stood where it was put.
    unsynced: Vec<Batch>,
}

impl SimLog {
    pub(crate) fn new(faults: Arc<Faults>) -> Self {
        Self { pairs: Arc::default(), faults }
    }

    /// What the device holds after a power cut now: batches come back in order, each as a whole.
    pub(crate) fn crashed(&self, keep: Keep, faults: Arc<Faults>) -> Self {
        let pairs = lock_short(&self.pairs);
        let kept = match keep {
            Keep::Nothing => 0,
            Keep::All | Keep::Torn(_) => pairs.unsynced.len(),
            Keep::Some(seed) => {
                let drawn = Dice(!seed).below(pairs.unsynced.len() as u64 + 1);
                usize::try_from(drawn).unwrap_or(0)
            }
        };
        let mut seen = pairs.seen.clone();
        for (key, value) in pairs.unsynced.iter().skip(kept).rev().flatten() {
            match value {
                Some(value) => seen.insert(key.clone(), value.clone()),
                None => seen.remove(key),
            };
        }
        Self { pairs: Arc::new(Mutex::new(SimPairs { seen, unsynced: Vec::new() })), faults }
    }
}

fn failed(action: &'static str) -> impl Fn(io::Error) -> StoreError {
    move |error| StoreError::Ledger { action, cause: error.to_string() }
}

impl Log for SimLog {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(lock_short(&self.pairs).seen.get(key).cloned())
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<Pair>, StoreError> {
        let pairs = lock_short(&self.pairs);
        let from = pairs.seen.range(prefix.to_vec()..);
        let hits = from.take_while(|(key, _)| key.starts_with(prefix));
        Ok(hits.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn scan_last(&self, prefix: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        Ok(self.scan(prefix)?.into_iter().rev().take(limit).collect())
    }

    fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        self.faults.step().map_err(failed("write"))?;
        let mut pairs = lock_short(&self.pairs);
        let mut before = Batch::new();
        for (key, value) in batch {
            let old = match value {
                Some(value) => pairs.seen.insert(key.clone(), value.clone()),
                None => pairs.seen.remove(key),
            };
            before.insert(key.clone(), old);
        }
        pairs.unsynced.push(before);
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.faults.sync().map_err(failed("sync"))?;
        lock_short(&self.pairs).unsynced.clear();
        Ok(())
    }
}
