//! The seam under the flat files: what the store needs of a disk, so that a simulated one can stand in.
//!
//! A [`File`] write may be lost by a crash until `sync` has returned; the store never relies on less.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use dske_protocol::wiped::Wiped;

/// Zeros are written in pieces of this size.
pub(crate) const ZEROS_BYTES: usize = 1 << 20;

/// One flat file, read and written by position.
pub trait File: Send + Sync {
    /// Fills `buf` from `offset`; an error where the file is too short.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Reads so many bytes from `offset`; an error where the file is too short.
    fn read(&self, offset: u64, len: usize) -> io::Result<Wiped> {
        let mut bytes = Wiped::new(vec![0; len]);
        self.read_at(&mut bytes, offset)?;
        Ok(bytes)
    }
    /// Writes all of `buf` at `offset`.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Writes zeros over a range.
    fn zero(&self, offset: u64, bytes: u64) -> io::Result<()> {
        write_zeros(self, offset, bytes)
    }
    /// Returns once every earlier write is on the device.
    fn sync(&self) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Makes the file `len` bytes long, with the space really there; new bytes are zeros.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Gives the space of already zeroed bytes back, where the file system can. They read as zeros.
    fn punch(&self, offset: u64, len: u64) -> io::Result<()>;
}

/// Files by path.
pub trait Disk: Send + Sync {
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Creates a file, owner-only; an error where it exists.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Creates a directory, owner-only; fine where it exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Whether there is anything at `path`.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// The entries of a directory, in order of name.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    /// Moves a file or directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Returns once the entries of a directory are on the device.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// Writes zeros over a range, piece by piece.
pub(crate) fn write_zeros(file: &(impl File + ?Sized), offset: u64, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS_BYTES.min(usize::try_from(bytes).unwrap_or(ZEROS_BYTES))];
    let mut done = 0;
    while done < bytes {
        let piece = usize::try_from(bytes - done).unwrap_or(usize::MAX).min(zeros.len());
        file.write_at(zeros.get(..piece).unwrap_or(&zeros), offset + done)?;
        done += piece as u64;
    }
    Ok(())
}
