//! One process per directory: a lock that the system drops when the process ends, however it ends.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::{disk_os::FILE_MODE, error::StoreError};

/// Holds the directory until dropped.
pub(crate) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the lock, or says who has it.
    pub(crate) fn take(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("lock");
        let fail = |error: &std::io::Error| StoreError::io("lock", &path, error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(|error| fail(&error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // What stands in the file is only shown, so a failure to read it changes nothing.
                let _ = (&file).take(20).read_to_string(&mut pid);
                let known = !pid.is_empty() && pid.bytes().all(|digit| digit.is_ascii_digit());
                let pid = if known { pid } else { "unknown".to_owned() };
                return Err(StoreError::Locked { path: dir.to_owned(), pid });
            }
            Err(TryLockError::Error(error)) => return Err(fail(&error)),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", std::process::id()))
            .map_err(|error| fail(&error))?;
        Ok(Self { _file: file })
    }
}
