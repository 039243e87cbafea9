//! Segment files for bytes that come and go: outbox messages and agreed keys. Each lies in one run of one
//! segment, is erased in place when it is no longer wanted, and its segment is used again when all of it is
//! zeros. Which runs are live stands in the ledger alone; at open everything else is erased again.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use serde::{Deserialize, Serialize};

use dske_protocol::wiped::Wiped;

use crate::{
    disk::{Disk, File},
    error::StoreError,
    intervals::IntervalSet,
    lock_short,
};

/// Size of an ordinary segment; a longer item gets one of its own size.
pub(crate) const SEGMENT_BYTES: u64 = 4 << 20;
/// Most that one spool keeps: a peer that is never connected must not fill the disk.
const SPOOL_BYTES_MAX: u64 = 4 << 30;

/// Where an item lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) segment: u32,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// A directory of segments.
pub(crate) struct Spool {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_bytes: u64,
    segments: Mutex<BTreeMap<u32, Segment>>,
}

struct Segment {
    file: Arc<dyn File>,
    bytes: u64,
    next: u64,
    /// What is live or waits to be erased.
    busy: IntervalSet,
}

impl Segment {
    /// Room for an item behind all that is there; `None` where there is none.
    fn allocate(&mut self, len: u64) -> Option<u64> {
        let (offset, end) = (self.next, self.next.checked_add(len)?);
        if end > self.bytes {
            return None;
        }
        self.next = end;
        self.busy.insert(offset, end);
        Some(offset)
    }
}

impl Spool {
    /// Opens the spool with the runs that the ledger says are live, and erases all else. `must_exist`: a
    /// missing segment is an error; otherwise an empty one takes its place, so that checksums fail.
    /// `segment_bytes` is the size of a new ordinary segment.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        live: &[Run],
        must_exist: bool,
        segment_bytes: u64,
    ) -> Result<Self, StoreError> {
        let mut wanted: BTreeMap<u32, IntervalSet> = BTreeMap::new();
        for run in live {
            let busy = wanted.entry(run.segment).or_default();
            let end = run.offset.checked_add(run.len).filter(|end| !busy.overlaps(run.offset, *end));
            let Some(end) = end else {
                let detail = format!(
                    "{} bytes at {} of segment {} are two items', or end nowhere: check the disk",
                    run.len, run.offset, run.segment
                );
                return Err(StoreError::Damaged {
                    what: "the ledger's record of what lies in a segment",
                    detail,
                });
            };
            busy.insert(run.offset, end);
        }
        let spool = Self { disk, dir: dir.to_owned(), segment_bytes, segments: Mutex::default() };
        for path in spool.disk.list(dir).map_err(|error| StoreError::io("list", dir, &error))? {
            let Some(index) = segment_index(&path) else { continue };
            let live = wanted.remove(&index).unwrap_or_default();
            let segment = spool.load(&path, &live)?;
            lock_short(&spool.segments).insert(index, segment);
        }
        for (index, live) in wanted {
            if must_exist {
                return Err(StoreError::Missing { what: "a segment of keys", path: spool.path(index) });
            }
            let mut segment = spool.create(index, live.furthest().max(segment_bytes))?;
            segment.next = live.furthest();
            segment.busy = live;
            lock_short(&spool.segments).insert(index, segment);
        }
        Ok(spool)
    }

    /// Finds room; nothing is written yet.
    pub(crate) fn allocate(&self, len: u64) -> Result<Run, StoreError> {
        let mut segments = lock_short(&self.segments);
        let fitting = segments.iter_mut().find_map(|(index, segment)| Some((*index, segment.allocate(len)?)));
        if let Some((segment, offset)) = fitting {
            return Ok(Run { segment, offset, len });
        }
        let total: u64 = segments.values().map(|segment| segment.bytes).sum();
        if total.saturating_add(len) > SPOOL_BYTES_MAX {
            return Err(StoreError::Full { action: "keep more in", path: self.dir.clone() });
        }
        let index = segments.last_key_value().map_or(Some(0), |(last, _)| last.checked_add(1));
        // A number that is there already would be made anew, over what lies in it.
        let index =
            index.ok_or_else(|| StoreError::Full { action: "number more in", path: self.dir.clone() })?;
        let mut segment = self.create(index, len.max(self.segment_bytes))?;
        let offset = segment.allocate(len).ok_or_else(|| StoreError::invalid("an item of no file"))?;
        segments.insert(index, segment);
        Ok(Run { segment: index, offset, len })
    }

    /// Writes an item into its run; durable after [`Spool::sync`].
    pub(crate) fn write(&self, run: Run, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path(run.segment);
        self.file(run)?.write_at(bytes, run.offset).map_err(|error| StoreError::io("write", &path, &error))
    }

    /// Makes what was written into these segments durable, with one sync each.
    pub(crate) fn sync(&self, segments: impl IntoIterator<Item = u32>) -> Result<(), StoreError> {
        for segment in segments {
            let path = self.path(segment);
            self.file(Run { segment, offset: 0, len: 0 })?
                .sync()
                .map_err(|error| StoreError::io("sync", &path, &error))?;
        }
        Ok(())
    }

    /// Reads an item, or a part of one.
    pub(crate) fn read(&self, run: Run) -> Result<Wiped, StoreError> {
        let len = usize::try_from(run.len).map_err(|_| StoreError::invalid("an item longer than memory"))?;
        let path = self.path(run.segment);
        let file = self.file(run)?;
        let length = file.len().map_err(|error| StoreError::io("read", &path, &error))?;
        if run.offset.saturating_add(run.len) > length {
            return Err(StoreError::Damaged {
                what: "a segment",
                detail: "it is shorter than its records".into(),
            });
        }
        file.read(run.offset, len).map_err(|error| StoreError::io("read", &path, &error))
    }

    /// Gives back room that was never written. Fails where it is not what was allocated.
    pub(crate) fn give_back(&self, run: Run) -> Result<(), StoreError> {
        self.settle(run)
    }

    /// Overwrites items with zeros and syncs; then their room may be used again.
    pub(crate) fn erase(&self, runs: &[Run]) -> Result<(), StoreError> {
        for run in runs {
            let path = self.path(run.segment);
            self.file(*run)?
                .zero(run.offset, run.len)
                .map_err(|error| StoreError::io("erase", &path, &error))?;
        }
        let mut segments: Vec<u32> = runs.iter().map(|run| run.segment).collect();
        segments.sort_unstable();
        segments.dedup();
        self.sync(segments)?;
        runs.iter().try_for_each(|run| self.settle(*run))
    }

    /// Only an erased segment starts over: a new item must not meet an erasure that is still to come. Room that is not in use
    /// cannot be given back: then somebody else's has been erased, and what lies where is not known any more.
    fn settle(&self, run: Run) -> Result<(), StoreError> {
        let mut segments = lock_short(&self.segments);
        let Some((segment, end)) = segments.get_mut(&run.segment).zip(run.offset.checked_add(run.len)) else {
            return Err(self.astray(run));
        };
        if !segment.busy.remove(run.offset, end) {
            return Err(self.astray(run));
        }
        if segment.busy.is_empty() {
            segment.next = 0;
        }
        Ok(())
    }

    fn astray(&self, run: Run) -> StoreError {
        let Run { offset, len, .. } = run;
        let path = self.path(run.segment);
        let detail = format!(
            "{len} bytes at {offset} of {} are given back, and are not in use: restart the node, which reads anew what \
             its ledger says is there; if it comes again, check the disk",
            path.display()
        );
        StoreError::Damaged { what: "the account of a segment", detail }
    }

    fn load(&self, path: &Path, live: &IntervalSet) -> Result<Segment, StoreError> {
        let fail = |error: &std::io::Error| StoreError::io("read", path, error);
        let file = self.disk.open(path).map_err(|error| fail(&error))?;
        let bytes = file.len().map_err(|error| fail(&error))?;
        scrub(&*file, bytes, live).map_err(|error| StoreError::io("erase", path, &error))?;
        Ok(Segment { file, bytes, next: live.furthest().min(bytes), busy: live.clone() })
    }

    fn create(&self, index: u32, bytes: u64) -> Result<Segment, StoreError> {
        let path = self.path(index);
        let made = self.disk.create(&path).and_then(|file| {
            file.allocate(bytes)?;
            file.sync()?;
            self.disk.sync_dir(&self.dir)?;
            Ok(file)
        });
        match made {
            Ok(file) => Ok(Segment { file, bytes, next: 0, busy: IntervalSet::default() }),
            Err(error) => {
                // Nothing refers to it yet, so a failure to remove it costs space only.
                let _ = self.disk.remove(&path);
                Err(StoreError::io("make", &path, &error))
            }
        }
    }

    fn file(&self, run: Run) -> Result<Arc<dyn File>, StoreError> {
        let segments = lock_short(&self.segments);
        let segment = segments.get(&run.segment);
        segment
            .map(|segment| segment.file.clone())
            .ok_or_else(|| StoreError::Missing { what: "a segment", path: self.path(run.segment) })
    }

    fn path(&self, index: u32) -> PathBuf {
        self.dir.join(format!("{index:08}.segment"))
    }
}

fn segment_index(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_suffix(".segment")?.parse().ok()
}

/// Erases what is neither live nor zero already.
fn scrub(file: &dyn File, bytes: u64, live: &IntervalSet) -> std::io::Result<()> {
    let mut dirty = false;
    let mut at = 0;
    while at < bytes {
        let (live_start, live_end) = live.at_or_after(at).unwrap_or((bytes, bytes));
        if live_start <= at {
            at = live_end;
            continue;
        }
        let piece = (live_start.min(bytes) - at).min(1 << 20);
        let mut read = Wiped::new(vec![0; usize::try_from(piece).unwrap_or(0)]);
        file.read_at(&mut read, at)?;
        if read.iter().any(|&byte| byte != 0) {
            file.zero(at, piece)?;
            dirty = true;
        }
        at += piece;
    }
    if dirty { file.sync() } else { Ok(()) }
}
