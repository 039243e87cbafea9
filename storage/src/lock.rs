//! One process per directory: a lock that the system drops when the process ends, however it ends.

use std::{
    fs::{File, TryLockError},
    io::{Read, Seek, Write},
    path::Path,
};

use crate::{error::StoreError, files};

/// Holds the directory until dropped.
pub(crate) struct DirLock {
    file: File,
}

impl DirLock {
    /// Whether a process has the lock.
    pub(crate) fn is_taken(dir: &Path) -> bool {
        File::open(dir.join("lock"))
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Takes the lock, or says who has it.
    pub(crate) fn take(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("lock");
        let fail = |error: &std::io::Error| StoreError::io("lock", &path, error);
        let mut file = files::open_own(&path, true).map_err(|error| fail(&error))?;
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
        Ok(Self { file })
    }
}

impl Drop for DirLock {
    /// Closing is not enough: a child that is being started has a copy of the file until it runs its program.
    fn drop(&mut self) {
        // If this fails the lock goes when the last copy is closed.
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link in the place of the lock would have us empty the file that it leads to.
    #[test]
    fn a_link_in_the_place_of_the_lock_is_refused() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let victim = other.path().join("victim");
        std::fs::write(&victim, b"theirs").unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join("lock")).unwrap();
        assert!(matches!(DirLock::take(dir.path()), Err(StoreError::Io { .. })));
        assert_eq!(std::fs::read(&victim).unwrap(), b"theirs");
    }

    #[test]
    fn a_directory_has_one_holder_and_others_see_that() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!DirLock::is_taken(dir.path()), "nobody was ever there");
        let lock = DirLock::take(dir.path()).unwrap();
        assert!(DirLock::is_taken(dir.path()));
        let refused = DirLock::take(dir.path()).err().unwrap();
        let me = std::process::id().to_string();
        assert!(matches!(&refused, StoreError::Locked { pid, .. } if *pid == me), "{refused}");
        let copy_of_a_child = lock.file.try_clone().unwrap();
        drop(lock);
        assert!(!DirLock::is_taken(dir.path()));
        drop(copy_of_a_child);
        assert!(DirLock::take(dir.path()).is_ok());
    }
}
