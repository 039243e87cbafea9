//! A table that is not complete: its lane files in a directory of their own, moved into place only when all
//! of it is there. A crash leaves the directory, from which an import goes on.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use dske_protocol::ids::{Lane, TableId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{error::ModuleError, manifest::FRAME_BYTES};
use crate::{
    codec::{decode, encode},
    disk::{Disk, File},
    engine::Engine,
    lane_checks::{file_bytes, write_pads},
    lane_file::{LaneFile, lane_file_name},
    lane_header::DATA_OFFSET,
    layout, lock_short,
    store::Store,
};

/// How the names of their directories end.
const PARTIAL: &str = "partial";
const PROGRESS_FILE: &str = "progress";
const PROGRESS_BYTES: usize = 32 + 8 + 4;

/// Lanes that are being filled, as one stream: up, then down.
pub(super) struct Partial {
    disk: Arc<dyn Disk>,
    store_dir: PathBuf,
    table: TableId,
    dir: PathBuf,
    lane_bytes: [u64; 2],
    lanes: [Arc<dyn File>; 2],
}

/// How much of which module has been verified and synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    module: [u8; 32],
    bytes: u64,
}

impl Partial {
    /// Starts a table with its whole space really there.
    pub(super) fn create(engine: &Engine, table: TableId, lane_bytes: [u64; 2]) -> Result<Self, ModuleError> {
        let dir = layout::partial_dir(&engine.dir, &table);
        discard(&*engine.disk, &dir)?;
        let made = Self::build(engine, table, lane_bytes, &dir);
        if made.is_err() {
            // The first failure is the one to tell.
            let _ = discard(&*engine.disk, &dir);
        }
        made.map_err(|error| ModuleError::io("make", &dir, &error))
    }

    fn build(engine: &Engine, table: TableId, lane_bytes: [u64; 2], dir: &Path) -> std::io::Result<Self> {
        engine.disk.create_dir(dir)?;
        let make = |lane: Lane, bytes: u64| {
            let file = engine.disk.create(&dir.join(lane_file_name(lane)))?;
            file.allocate(file_bytes(bytes))?;
            LaneFile::format(&*file, table, lane, bytes)?;
            Ok::<_, std::io::Error>(file)
        };
        let [up, down] = lane_bytes;
        let lanes = [make(Lane::Up, up)?, make(Lane::Down, down)?];
        engine.disk.sync_dir(dir)?;
        let store_dir = engine.dir.clone();
        Ok(Self { disk: engine.disk.clone(), store_dir, table, dir: dir.to_owned(), lane_bytes, lanes })
    }

    /// Goes on with a table that a crash left, where it belongs to this module; with the bytes it has.
    pub(super) fn resume(
        engine: &Engine,
        table: TableId,
        lane_bytes: [u64; 2],
        module: [u8; 32],
    ) -> Result<Option<(Self, u64)>, ModuleError> {
        let dir = layout::partial_dir(&engine.dir, &table);
        let placed = layout::table_dir(&engine.dir, &table);
        let fail = |error: std::io::Error| ModuleError::io("go on with", &dir, &error);
        let exists = |path: &Path| engine.disk.exists(path).map_err(fail);
        if !exists(&dir)? && exists(&placed.join(PROGRESS_FILE))? {
            // The crash came after the move and before the ledger's record.
            engine.disk.rename(&placed, &dir).map_err(fail)?;
        }
        let open = |name: &str| engine.disk.open(&dir.join(name)).ok();
        let files = (open(PROGRESS_FILE), open(lane_file_name(Lane::Up)), open(lane_file_name(Lane::Down)));
        let (Some(progress), Some(up), Some(down)) = files else { return Ok(None) };
        let Some(known) = read_progress(&*progress) else { return Ok(None) };
        let whole = |file: &Arc<dyn File>, bytes: u64| file.len().is_ok_and(|len| len == file_bytes(bytes));
        if known.module != module || !whole(&up, lane_bytes[0]) || !whole(&down, lane_bytes[1]) {
            return Ok(None);
        }
        let (disk, store_dir) = (engine.disk.clone(), engine.dir.clone());
        Ok(Some((Self { disk, store_dir, table, dir, lane_bytes, lanes: [up, down] }, known.bytes)))
    }

    /// Writes pad bytes at `at` of the stream, with their checksums. A piece never crosses from one lane into
    /// the other, and begins at a block of its lane.
    pub(super) fn write(&self, at: u64, bytes: &[u8]) -> Result<(), ModuleError> {
        let (file, lane_bytes, offset) = self.place(at);
        write_pads(file, lane_bytes, offset, bytes)
            .map_err(|error| ModuleError::io("write", &self.dir, &error))
    }

    /// Reads back what was written.
    pub(super) fn read(&self, at: u64, bytes: u64) -> Result<Zeroizing<Vec<u8>>, ModuleError> {
        let (file, _, offset) = self.place(at);
        let mut read = Zeroizing::new(vec![0; usize::try_from(bytes).unwrap_or(0)]);
        file.read_at(&mut read, DATA_OFFSET + offset)
            .map_err(|error| ModuleError::io("read", &self.dir, &error))?;
        Ok(read)
    }

    /// The lane in which a byte of the stream lies, its length, and where in it.
    fn place(&self, at: u64) -> (&dyn File, u64, u64) {
        let ([up, down], [up_bytes, down_bytes]) = (&self.lanes, self.lane_bytes);
        match at.checked_sub(up_bytes) {
            Some(offset) => (&**down, down_bytes, offset),
            None => (&**up, up_bytes, at),
        }
    }

    /// Notes durably that `bytes` of the stream are there.
    pub(super) fn note(&self, module: [u8; 32], bytes: u64) -> Result<(), ModuleError> {
        self.sync()?;
        let path = self.dir.join(PROGRESS_FILE);
        let mut text = encode("progress", &Progress { module, bytes })?;
        text.extend_from_slice(&crc32fast::hash(&text).to_le_bytes());
        let write = || {
            let file =
                if self.disk.exists(&path)? { self.disk.open(&path)? } else { self.disk.create(&path)? };
            file.write_at(&text, 0)?;
            file.sync()?;
            self.disk.sync_dir(&self.dir)
        };
        write().map_err(|error| ModuleError::io("write", &path, &error))
    }

    pub(super) fn sync(&self) -> Result<(), ModuleError> {
        let synced = self.lanes.iter().try_for_each(|file| file.sync());
        synced.map_err(|error| ModuleError::io("sync", &self.dir, &error))
    }

    /// Moves the table into its place.
    pub(super) fn place_table(&self) -> Result<(), ModuleError> {
        self.sync()?;
        let target = layout::table_dir(&self.store_dir, &self.table);
        let fail = |error: std::io::Error| ModuleError::io("move into place", &target, &error);
        if self.disk.exists(&target).map_err(fail)? {
            return Err(ModuleError::AlreadyImported { table: self.table });
        }
        let move_it = || {
            self.disk.rename(&self.dir, &target)?;
            self.disk.sync_dir(&layout::lanes_dir(&self.store_dir))?;
            self.disk.sync_dir(&layout::imports_dir(&self.store_dir))
        };
        move_it().map_err(fail)
    }

    /// Takes the table out of its place again, after its record was refused.
    pub(super) fn take_back(&self) {
        // It never existed for the ledger; if this fails it is only a stray directory.
        let _ = self.disk.rename(&layout::table_dir(&self.store_dir, &self.table), &self.dir);
    }

    /// Removes the progress file of a table that exists now.
    pub(super) fn finish(&self) {
        let path = layout::table_dir(&self.store_dir, &self.table).join(PROGRESS_FILE);
        // Left behind it does no harm: the table has a record.
        let _ = self.disk.remove(&path);
    }

    /// Removes everything.
    pub(super) fn discard(&self) {
        if let Err(error) = discard(&*self.disk, &self.dir) {
            tracing::warn!(%error, "a table that was not completed could not be removed");
        }
    }
}

/// Removes what was being made, or had hardly begun to be imported, when something ended the program: nothing can go on from it.
/// What an import can go on from stays. Only for whoever has the turn.
pub(super) fn sweep(engine: &Engine) {
    let left = engine.disk.list(&layout::imports_dir(&engine.dir)).unwrap_or_default();
    for dir in left.iter().filter(|dir| dir.extension().is_some_and(|kind| kind == PARTIAL)) {
        let swept = match engine.disk.exists(&dir.join(PROGRESS_FILE)) {
            Ok(false) => discard(&*engine.disk, dir).map_err(|error| error.to_string()),
            Ok(true) => continue,
            Err(error) => Err(error.to_string()),
        };
        match swept {
            Ok(()) => tracing::info!(dir = %dir.display(), "removed a table that was never completed"),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "a table that was never completed stays")
            }
        }
    }
}

/// Removes what was being made in a store whose program is about to end.
///
/// # Errors
/// What the system says.
pub fn abandon(store: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(layout::imports_dir(store))? {
        let dir = entry?.path();
        if dir.extension().is_some_and(|kind| kind == PARTIAL) && !dir.join(PROGRESS_FILE).exists() {
            std::fs::remove_dir_all(&dir)?;
        }
    }
    Ok(())
}

/// Removes what modules that were never completed have left in a store; see [`make`](super::make) and
/// [`import`](super::import), which clear up by themselves unless something ends the program.
///
/// # Errors
/// If the store has stopped.
pub fn clear(store: &Store) -> Result<(), ModuleError> {
    let engine = store.engine()?;
    let _turn = lock_short(&engine.modules);
    sweep(&engine);
    Ok(())
}

/// Length of the next piece of the stream at `at`: a frame, or what is left of the lane.
pub(super) fn piece_bytes(lane_bytes: [u64; 2], at: u64) -> u64 {
    let [up, down] = lane_bytes;
    let lane_end = if at < up { up } else { up + down };
    (lane_end - at).min(u64::from(FRAME_BYTES))
}

/// Pieces of the stream before `at`, each one frame.
pub(super) fn pieces_before(lane_bytes: [u64; 2], at: u64) -> u64 {
    let [up, _] = lane_bytes;
    let frame = u64::from(FRAME_BYTES);
    if at <= up { at.div_ceil(frame) } else { up.div_ceil(frame) + (at - up).div_ceil(frame) }
}

fn read_progress(file: &dyn File) -> Option<Progress> {
    let mut text = vec![0; PROGRESS_BYTES];
    file.read_at(&mut text, 0).ok()?;
    let (body, checksum) = text.split_at_checked(PROGRESS_BYTES - 4)?;
    (crc32fast::hash(body).to_le_bytes() == checksum).then(|| decode("progress", body).ok()).flatten()
}

fn discard(disk: &dyn Disk, dir: &Path) -> Result<(), ModuleError> {
    let remove = || {
        if !disk.exists(dir)? {
            return Ok(());
        }
        for path in disk.list(dir)? {
            disk.remove(&path)?;
        }
        disk.remove_dir(dir)
    };
    remove().map_err(|error| ModuleError::io("remove", dir, &error))
}
