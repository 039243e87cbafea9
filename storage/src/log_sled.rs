//! The ledger's log on sled. Its own flush does not survive a power cut, so every [`Log::sync`] also syncs
//! the log file through a handle of ours. That is slow: commits are made durable by the journal in front of
//! it (`journaled_log.rs`), and this one gets them at checkpoints.
//!
//! Three more things that sled 0.34 leaves to others are done here. A snapshot that was not finished when the
//! power went is taken for the newest one and stops it from opening: it is removed first. What recovery
//! reads may not be on the device yet, but the snapshot of it will be: it is synced first. And where the
//! device fails, sled panics, or waits for ever: panics are caught and told as the failure that they are, and
//! whoever waits is woken.
//!
//! Waking takes a lock that all databases of the process share, and that is refused while anybody waits to write. So
//! writes and flushes take turns, those of other stores too.

use std::{
    fs::{self, File},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        mpsc::{RecvTimeoutError, channel},
    },
    time::{Duration, Instant},
};

use crate::{
    disk_os::restrict,
    error::StoreError,
    lock_short,
    log::{Batch, Log, Pair},
};

/// sled's page cache: the ledger holds small records only.
const CACHE_BYTES: u64 = 32 << 20;

/// sled lets its own lock go a little after its database was dropped. The directory's lock is ours by then,
/// so whoever still holds that one is a store of this process that is going away.
const SLED_LOCK_WAIT: Duration = Duration::from_secs(5);
const SLED_LOCK_PAUSE: Duration = Duration::from_millis(5);
/// A flush whose write has failed in another thread learns of it only when somebody flushes again.
const FLUSH_AGAIN: Duration = Duration::from_millis(300);
const SLED_LOCK_ERROR: &str = "could not acquire lock";

/// Who writes or flushes, of all stores of the process.
static TURN: Mutex<()> = Mutex::new(());

/// File in which sled keeps its log.
const LOG_FILE: &str = "db";
/// How sled names a snapshot that it has not finished.
const UNFINISHED_SNAPSHOT: &str = ".generating";

/// A sled database and a handle to its log file.
pub(crate) struct SledLog {
    /// Taken only when this is dropped.
    db: Option<sled::Db>,
    file: File,
    dir: PathBuf,
}

impl SledLog {
    /// Creates a new log in `dir`, which exists and is empty.
    pub(crate) fn create(dir: &Path) -> Result<Self, StoreError> {
        let log = Self::start(dir)?;
        // sled never syncs the file that holds its parameters, and cannot open without a whole one.
        sync_all(dir).map_err(|error| StoreError::io("sync", dir, &error))?;
        Ok(log)
    }

    /// Opens an existing log; one that is missing is an error, never made anew.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(LOG_FILE);
        if !path.is_file() {
            return Err(StoreError::Missing { what: "the ledger", path });
        }
        prepare(dir, &path).map_err(|error| StoreError::io("prepare", dir, &error))?;
        Self::start(dir)
    }

    fn start(dir: &Path) -> Result<Self, StoreError> {
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            // Every decision is flushed explicitly, at once.
            .flush_every_ms(None);
        let deadline = Instant::now() + SLED_LOCK_WAIT;
        let db = loop {
            match guarded("open", dir, || config.open()) {
                Ok(db) => break db,
                Err(StoreError::Ledger { cause, .. })
                    if cause.contains(SLED_LOCK_ERROR) && Instant::now() < deadline =>
                {
                    std::thread::sleep(SLED_LOCK_PAUSE);
                }
                Err(error) => return Err(error),
            }
        };
        let path = dir.join(LOG_FILE);
        let file = File::open(&path).map_err(|error| StoreError::io("open", &path, &error))?;
        restrict(dir).map_err(|error| StoreError::io("restrict", dir, &error))?;
        Ok(Self { db: Some(db), file, dir: dir.to_owned() })
    }

    /// Does something with sled, whose panics come back as errors.
    fn with<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&sled::Db) -> sled::Result<T>,
    ) -> Result<T, StoreError> {
        let db = self.db.as_ref().ok_or(StoreError::Closed)?;
        guarded(action, &self.dir, || work(db))
    }

    fn flush(&self) -> Result<(), StoreError> {
        let _turn = lock_short(&TURN);
        let (done, waiting) = channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while waiting.recv_timeout(FLUSH_AGAIN) == Err(RecvTimeoutError::Timeout) {
                    // What comes of it is told to whoever waits.
                    let _ = self.with("flush", |db| db.flush());
                }
            });
            let flushed = self.with("flush", |db| db.flush());
            drop(done);
            flushed.map(|_| ())
        })
    }
}

impl Drop for SledLog {
    fn drop(&mut self) {
        // Closing flushes as well, and would wait for ever where that fails; once a flush has failed it does not
        // try. All that counts has been synced before.
        let _ = self.flush();
        let db = self.db.take();
        let _turn = lock_short(&TURN);
        if let Err(error) = guarded("close", &self.dir, || {
            drop(db);
            Ok(())
        }) {
            tracing::error!(%error, "the ledger did not close cleanly");
        }
    }
}

impl Log for SledLog {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.with("read", |db| Ok(db.get(key)?.map(|value| value.to_vec())))
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<Pair>, StoreError> {
        self.with("scan", |db| db.scan_prefix(prefix).map(pair).collect())
    }

    fn scan_last(&self, prefix: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        self.with("scan", |db| db.scan_prefix(prefix).rev().take(limit).map(pair).collect())
    }

    fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut changes = sled::Batch::default();
        for (key, value) in batch {
            match value {
                Some(value) => changes.insert(key.as_slice(), value.as_slice()),
                None => changes.remove(key.as_slice()),
            }
        }
        let _turn = lock_short(&TURN);
        self.with("write", |db| db.apply_batch(changes))
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.flush()?;
        crate::disk_os::timed(|| self.file.sync_data())
            .map_err(|error| StoreError::io("sync the ledger in", &self.dir, &error))
    }
}

fn pair(entry: sled::Result<(sled::IVec, sled::IVec)>) -> sled::Result<Pair> {
    entry.map(|(key, value)| (key.to_vec(), value.to_vec()))
}

fn guarded<T>(
    action: &'static str,
    dir: &Path,
    work: impl FnOnce() -> sled::Result<T>,
) -> Result<T, StoreError> {
    let cause = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(sled::Error::Io(error))) => match StoreError::io(action, dir, &error) {
            StoreError::Io { cause, .. } => cause,
            full => return Err(full),
        },
        Ok(Err(sled::Error::Corruption { .. } | sled::Error::Unsupported(_))) => {
            return Err(StoreError::Damaged {
                what: "the ledger",
                detail: format!(
                    "{} does not hold what was written: check the disk; put the whole store back from a copy, or retire it \
                     and enrol again with new modules",
                    dir.display()
                ),
            });
        }
        Ok(Err(error)) => error.to_string(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            text.unwrap_or("it stopped without a reason").to_owned()
        }
    };
    // What sled says when it has panicked is the system's reason in words of its own.
    if cause.contains("ReadOnlyFilesystem") {
        return Err(StoreError::io(action, dir, &io::ErrorKind::ReadOnlyFilesystem.into()));
    }
    if cause.contains("StorageFull") {
        return Err(StoreError::Full { action, path: dir.to_owned() });
    }
    Err(StoreError::Ledger { action, cause })
}

/// Makes ready for opening what a crash or a power cut may have left.
fn prepare(dir: &Path, log: &Path) -> io::Result<()> {
    let unfinished = entries(dir)?.into_iter().filter(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(UNFINISHED_SNAPSHOT))
    });
    for path in unfinished {
        fs::remove_file(path)?;
    }
    File::open(dir)?.sync_all()?;
    File::open(log)?.sync_all()
}

/// Syncs the files in a directory, and its entries.
fn sync_all(dir: &Path) -> io::Result<()> {
    for path in entries(dir)? {
        File::open(path)?.sync_all()?;
    }
    File::open(dir)?.sync_all()
}

fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
}
