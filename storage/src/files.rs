//! Files that this program makes: new ones, for their owner alone, and never something that somebody else put in their place.
//!
//! A name that is known beforehand, in a directory that others may write, can hold a link to a file of somebody else's choice, a pipe,
//! or a file that is open elsewhere. So nothing here writes to what is there already: a file is made or it is an error,
//! links are not followed, and what is written before it gets its name lies under a name that nobody can know.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, OFlags, linkat};

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
    /// Where it lies, if it has a name at all.
    draft: Option<PathBuf>,
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
        Ok(Self { path: path.to_owned(), draft: Some(draft), file, kept: false })
    }

    /// Makes a draft that has no name until it is kept, where the file system can do that: whatever ends the program before,
    /// nothing is left. It cannot be put in the place of another file.
    ///
    /// # Errors
    /// What the system says.
    pub fn nameless(path: &Path) -> io::Result<Self> {
        let flags = i32::try_from(OFlags::TMPFILE.bits()).map_err(io::Error::other)?;
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .mode(FILE_MODE)
            .custom_flags(flags)
            .open(directory_of(path));
        match opened {
            // By that place it gets its name.
            Ok(file) if by_number(&file).exists() => {
                Ok(Self { path: path.to_owned(), draft: None, file, kept: false })
            }
            _ => Self::new(path),
        }
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where it lies; of one without a name, where it is to lie.
    pub fn draft(&self) -> &Path {
        self.draft.as_deref().unwrap_or(&self.path)
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
        match &self.draft {
            Some(draft) => fs::hard_link(draft, &self.path).or_else(|error| match error.kind() {
                // The file system knows no links, as on a memory stick: then an empty file takes the name, if nothing has it.
                io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied => {
                    drop(create_new(&self.path)?);
                    fs::rename(draft, &self.path)
                }
                _ => Err(error),
            })?,
            None => linkat(CWD, by_number(&self.file), CWD, &self.path, AtFlags::SYMLINK_FOLLOW)?,
        }
        self.sync_directory()
    }

    /// Syncs it and puts it in the place of what has its name: of a link, not of what that leads to.
    ///
    /// # Errors
    /// What the system says. The draft is gone then, and what was there stays.
    pub fn replace(mut self) -> io::Result<()> {
        let draft = self.draft.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        self.file.sync_all()?;
        fs::rename(draft, &self.path)?;
        self.kept = true;
        self.sync_directory()
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(directory_of(&self.path))?.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(draft) = self.draft.as_ref().filter(|_| !self.kept) {
            // It may have been renamed; nothing better can be done where it cannot be removed.
            let _ = fs::remove_file(draft);
        }
    }
}

/// Removes drafts for a path. Only for whoever knows that nobody is writing one any more.
///
/// # Errors
/// What the system says.
pub fn remove_drafts(path: &Path) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let begin = format!(".{name}.");
    for entry in fs::read_dir(directory_of(path))? {
        let entry = entry?;
        let found = entry.file_name();
        let number = found.to_str().and_then(|text| text.strip_prefix(&begin)?.strip_suffix(".new"));
        let is_number = |text: &str| {
            text.len() == 2 * DRAFT_NAME_BYTES && text.bytes().all(|digit| digit.is_ascii_hexdigit())
        };
        if number.is_some_and(is_number) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The directory in which a path lies.
fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file of this process by its number, which serves also where it has no name.
fn by_number(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
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

    use rustix::fs::{FileType, Mode, mknodat};

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
            for draft in [Draft::new(path).unwrap(), Draft::nameless(path).unwrap()] {
                draft.file().write_all(b"secret").unwrap();
                let refused = draft.keep().unwrap_err();
                assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists, "{}", path.display());
            }
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
    fn a_draft_without_a_name_leaves_nothing_until_it_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made");
        let draft = Draft::nameless(&path).unwrap();
        draft.file().write_all(b"all").unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "where the file system can do it");
        draft.keep().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"all");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
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
