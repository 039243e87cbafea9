//! The end of a table: once its record says that it is retired, durably, the pads that are left are overwritten
//! and its files removed.
//!
//! Must never: touch a file before that record is on the device. After it, every step may be repeated: a
//! start finds what a crash left and goes on.

use std::{io, path::Path};

use crate::{
    disk::{Disk, File},
    error::StoreError,
    lane_header::{DATA_OFFSET, LaneHeader},
};

/// Bytes overwritten between two reports of progress.
const PIECE_BYTES: u64 = 16 << 20;

/// Overwrites all files of a retired table, syncs, and removes them with their directory. Nothing there is fine.
/// `progress` hears of bytes done and in all.
pub(crate) fn destroy(disk: &dyn Disk, dir: &Path, progress: &dyn Fn(u64, u64)) -> Result<(), StoreError> {
    let fail = |error: io::Error| StoreError::io("erase", dir, &error);
    if !disk.exists(dir).map_err(fail)? {
        return Ok(());
    }
    let mut files = Vec::new();
    for path in disk.list(dir).map_err(fail)? {
        let file = disk.open(&path).map_err(fail)?;
        let (start, end) = remains(&*file).map_err(fail)?;
        files.push((path, file, start, end));
    }
    let total = files.iter().map(|(_, _, start, end)| end - start).sum();
    let mut done = 0;
    for (_, file, start, end) in &files {
        let mut at = *start;
        while at < *end {
            let piece = PIECE_BYTES.min(end - at);
            file.zero(at, piece).map_err(fail)?;
            (at, done) = (at + piece, done + piece);
            progress(done, total);
        }
        file.sync().map_err(fail)?;
    }
    // Removed only when all are zeros: of what is gone nobody could tell any more.
    let remove = || {
        files.iter().try_for_each(|(path, ..)| disk.remove(path))?;
        disk.remove_dir(dir)?;
        dir.parent().map_or(Ok(()), |parent| disk.sync_dir(parent))
    };
    remove().map_err(fail)
}

/// The part of a file that may still hold pads: what is below a lane's floor has been erased, and its space
/// perhaps given back.
fn remains(file: &dyn File) -> io::Result<(u64, u64)> {
    let len = file.len()?;
    let floor = if len < DATA_OFFSET { None } else { LaneHeader::read(file)? };
    let start = floor.map_or(0, |header| DATA_OFFSET + header.floor);
    Ok((start.min(len), len))
}
