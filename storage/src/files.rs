//! Files that this program makes: new ones, for their owner alone, and never something that somebody else put in their place.
//!
//! A name that is known beforehand, in a directory that others may write, can hold a link to a file of somebody else's choice, a pipe,
//! or a file that is open elsewhere. So nothing here writes to what is there already: a file is made or it is an error,
//! links are not followed, and what is written before it gets its name lies under a name that nobody can know.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use crate::disk_os::FILE_MODE;

/// Random bytes in the name of a draft.
const DRAFT_NAME_BYTES: usize = 8;

/// Mode of what everybody may read.
const PUBLIC_MODE: u32 = 0o644;

/// Makes a file, readable and writable by its owner alone.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] where there is anything of that name, a link that leads nowhere too; or what the system says.
pub fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path)
}

/// Opens a file that is there for reading and writing, or makes it where `create` says so. What it holds stays.
///
/// # Errors
/// If it is a link or anything else than a file, or what the system says.
pub fn open_own(path: &Path, create: bool) -> io::Result<File> {
    open_regular(path, OpenOptions::new().read(true).write(true).create(create).truncate(false))
}

/// Opens a file to add to its end, and makes it where there is none.
///
/// # Errors
/// As [`open_own`].
pub fn append(path: &Path) -> io::Result<File> {
    open_regular(path, OpenOptions::new().create(true).append(true))
}

fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // A pipe must not keep us waiting for its other end.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = options.mode(FILE_MODE).custom_flags(flags).open(path).map_err(|error| {
        if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
            io::Error::new(io::ErrorKind::InvalidInput, "it is a link, which is not followed")
        } else {
            error
        }
    })?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    Ok(file)
}

/// A file that is being written, beside the place that it is meant for; removed unless it is kept.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    draft: PathBuf,
    file: File,
    kept: bool,
}

impl Draft {
    /// Makes a draft for a path.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(path: &Path) -> io::Result<Self> {
        let mut random = [0; DRAFT_NAME_BYTES];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
        let draft = path.with_file_name(format!(".{name}.{:016x}.new", u64::from_le_bytes(random)));
        let file = create_new(&draft)?;
        Ok(Self { path: path.to_owned(), draft, file, kept: false })
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where it lies.
    pub fn draft(&self) -> &Path {
        &self.draft
    }

    /// Syncs it and gives it its name, which nothing may have.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`], or what the system says. The draft is gone then.
    pub fn keep(self) -> io::Result<()> {
        self.place()
    }

    /// The same, but where it fails the draft stays under its own name, for whoever has nothing but it.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`], or what the system says.
    pub fn keep_in_any_case(mut self) -> io::Result<()> {
        let placed = self.place();
        self.kept = placed.is_err();
        placed
    }

    fn place(&self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::hard_link(&self.draft, &self.path).or_else(|error| match error.kind() {
            // The file system knows no links, as on a memory stick: then an empty file takes the name, if nothing has it.
            io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied => {
                drop(create_new(&self.path)?);
                fs::rename(&self.draft, &self.path)
            }
            _ => Err(error),
        })?;
        self.sync_directory()
    }

    /// Syncs it and puts it in the place of what has its name: of a link, not of what that leads to.
    ///
    /// # Errors
    /// What the system says. The draft is gone then, and what was there stays.
    pub fn replace(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.draft, &self.path)?;
        self.kept = true;
        self.sync_directory()
    }

    fn sync_directory(&self) -> io::Result<()> {
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir)?.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            // It may have been renamed; nothing better can be done where it cannot be removed.
            let _ = fs::remove_file(&self.draft);
        }
    }
}

/// Writes a file whole, in the place of what has its name.
///
/// # Errors
/// As [`Draft::new`] and [`Draft::replace`].
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = Draft::new(path)?;
    io::Write::write_all(&mut draft.file(), bytes)?;
    draft.replace()
}

/// The same for a file that everybody may read.
///
/// # Errors
/// As [`write()`].
pub fn write_public(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = Draft::new(path)?;
    io::Write::write_all(&mut draft.file(), bytes)?;
    draft.file().set_permissions(fs::Permissions::from_mode(PUBLIC_MODE))?;
    draft.replace()
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::fs::symlink};

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    /// Places that somebody else may have prepared, and a file of theirs that must stay as it is.
    fn planted(dir: &Path) -> (PathBuf, Vec<PathBuf>) {
        let victim = dir.join("victim");
        fs::write(&victim, b"theirs").unwrap();
        let [link, dangling, pipe, hard] = ["link", "dangling", "pipe", "hard"].map(|name| dir.join(name));
        symlink(&victim, &link).unwrap();
        symlink(dir.join("nowhere"), &dangling).unwrap();
        mknodat(CWD, &pipe, FileType::Fifo, Mode::from(0o666), 0).unwrap();
        fs::hard_link(&victim, &hard).unwrap();
        (victim, vec![link, dangling, pipe, hard])
    }

    #[test]
    fn nothing_is_written_to_what_is_there_already() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, planted) = planted(dir.path());
        for path in &planted {
            let refused = create_new(path).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists, "{}", path.display());
            let draft = Draft::new(path).unwrap();
            draft.file().write_all(b"secret").unwrap();
            let refused = draft.keep().unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists, "{}", path.display());
        }
        for path in &planted[..3] {
            assert!(open_own(path, true).is_err() && append(path).is_err(), "{}", path.display());
        }
        assert!(!dir.path().join("nowhere").exists());
        for path in &planted {
            write(path, b"ours").unwrap();
            assert_eq!(fs::read(path).unwrap(), b"ours");
            assert!(fs::symlink_metadata(path).unwrap().is_file());
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read(&victim).unwrap(), b"theirs");
        assert!(!dir.path().join("nowhere").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 5, "no draft is left");
    }

    #[test]
    fn a_draft_has_its_name_once_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made");
        let draft = Draft::new(&path).unwrap();
        draft.file().write_all(b"all").unwrap();
        assert!(!path.exists() && draft.draft().exists());
        draft.keep().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"all");
        drop(Draft::new(&path).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(open_own(&path, false).is_ok());
        append(&path).unwrap().write_all(b" of it").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"all of it");
    }
}
