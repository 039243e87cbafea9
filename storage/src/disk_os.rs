//! The real disk: positioned reads and writes, preallocated owner-only files, directories that are synced.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use dske_protocol::wiped::Wiped;
use rustix::{
    buffer::spare_capacity,
    fs::{FallocateFlags, fallocate},
    io::{Errno, pread},
};

use crate::{
    direct::Direct,
    disk::{Disk, File, write_zeros},
    files,
};

/// Mode of every file.
pub(crate) const FILE_MODE: u32 = 0o600;
/// Mode of every directory.
pub(crate) const DIR_MODE: u32 = 0o700;

static SYNCS: AtomicU64 = AtomicU64::new(0);
static SYNC_MICROS: AtomicU64 = AtomicU64::new(0);

/// Syncs that this process has waited for, and the microseconds that they took together.
pub fn syncs() -> (u64, u64) {
    (SYNCS.load(Ordering::Relaxed), SYNC_MICROS.load(Ordering::Relaxed))
}

/// Counts a sync and its time.
pub(crate) fn timed<T>(sync: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = sync();
    SYNCS.fetch_add(1, Ordering::Relaxed);
    let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    SYNC_MICROS.fetch_add(micros, Ordering::Relaxed);
    result
}

/// The operating system's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsDisk;

struct OsFile {
    file: fs::File,
    direct: Direct,
}

impl OsFile {
    fn shared(file: fs::File) -> Arc<dyn File> {
        Arc::new(Self { file, direct: Direct::default() })
    }
}

impl File for OsFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    /// Into room that nobody has filled before: zeros first would cost a third of the reading.
    fn read(&self, offset: u64, len: usize) -> io::Result<Wiped> {
        let mut bytes = Wiped::new(Vec::with_capacity(len));
        while bytes.len() < len {
            let at = offset.saturating_add(bytes.len() as u64);
            match pread(&self.file, spare_capacity(&mut bytes), at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // A vector may have more room than was asked for.
        bytes.truncate(len);
        Ok(bytes)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    fn zero(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let end = offset.saturating_add(bytes);
        let (from, to) = self.direct.zero(&self.file, offset, bytes)?.unwrap_or((end, end));
        for (start, end) in [(offset, from), (to, end)] {
            write_zeros(self, start, end - start)?;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        timed(|| self.file.sync_data())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        match fallocate(&self.file, FallocateFlags::empty(), 0, len) {
            // The file system has no preallocation; the length at least is right.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.file.set_len(len),
            other => Ok(other?),
        }
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        match fallocate(&self.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            other => Ok(other?),
        }
    }
}

impl Disk for OsDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(OsFile::shared(files::open_own(path, false)?))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(OsFile::shared(files::create_new(path)?))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(path)?;
        fs::set_permissions(path, Permissions::from_mode(DIR_MODE))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut entries =
            fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        entries.sort();
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        timed(|| fs::File::open(path)?.sync_all())
    }
}

/// Makes everything below `dir` owner-only: sled creates its files under the process's umask.
pub(crate) fn restrict(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, Permissions::from_mode(DIR_MODE))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            restrict(&entry.path())?;
        } else {
            match fs::set_permissions(entry.path(), Permissions::from_mode(FILE_MODE)) {
                // A snapshot that sled replaced in between.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
    }
    Ok(())
}
