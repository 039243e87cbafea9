//! Who else may get at a node's files (as `ssh` asks of its own): what is secret others may not read, and nothing of it may they
//! write.
//!
//! Whoever can write an identity, a lane or a directory that they lie in can put other bytes there, also old ones. So this is
//! looked at before anything is read, and a node does not start on it.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Bits of a mode that let others write.
const WRITE: u32 = 0o022;
/// Bits that let others read or write.
const READ_OR_WRITE: u32 = 0o066;
/// In a directory with this bit others may not take away or rename what is not theirs.
const STICKY: u32 = 0o1000;
/// Directories below one another that are looked into: a link may lead round in a circle.
const DEPTH_MAX: u32 = 16;

/// What others may do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Read it, but not write it.
    Public,
    /// Neither.
    Secret,
}

/// A file or directory that others than its owner can get at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Exposed {
    /// By its mode.
    #[error("{} can be {} by others (mode {mode:04o}): `chmod {} {0}`, and think about who may have {3} it already", path.display(), if *written { "written" } else { "read" }, if *written { "go-w" } else { "go=" }, if *written { "written" } else { "read" })]
    Mode {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Whether they can write it.
        written: bool,
    },
    /// It belongs to somebody else, who is not root.
    #[error("{} belongs to user {owner}, and this is user {me}: `chown` it, or run this as its owner", path.display())]
    Owner {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who asks.
        me: u32,
    },
    /// It cannot be looked at.
    #[error("cannot look at {}: {cause}", path.display())]
    Unknown {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        cause: String,
    },
}

/// Looks at one file, or at a directory and nothing in it.
///
/// # Errors
/// If others can get at it.
pub fn check(path: &Path, kind: Kind) -> Result<(), Exposed> {
    let about = fs::metadata(path).map_err(|error| unknown(path, &error))?;
    judge(path, &about, kind, rustix::process::geteuid().as_raw())
}

/// Looks at a secret file that is open: what is read from it afterwards is what was looked at.
///
/// # Errors
/// As [`check`]; `path` only serves the message.
pub fn check_open(path: &Path, file: &fs::File) -> Result<(), Exposed> {
    let about = file.metadata().map_err(|error| unknown(path, &error))?;
    judge(path, &about, Kind::Secret, rustix::process::geteuid().as_raw())
}

/// Looks at a file that is alone, and at the directories above it.
///
/// # Errors
/// As [`check`] and [`check_above`].
pub fn check_alone(path: &Path, kind: Kind) -> Result<(), Exposed> {
    check(path, kind)?;
    check_above(path)
}

/// Looks at the directories above a path: whoever can write one of them can put another in its place, unless it is one like
/// `/tmp`, where only the owner of a thing can.
///
/// # Errors
/// As [`check`]; to whom they belong is not asked.
pub fn check_above(path: &Path) -> Result<(), Exposed> {
    let path = path.canonicalize().map_err(|error| unknown(path, &error))?;
    for dir in path.ancestors().skip(1) {
        let about = fs::metadata(dir).map_err(|error| unknown(dir, &error))?;
        if about.mode() & WRITE != 0 && about.mode() & STICKY == 0 {
            return Err(Exposed::Mode { path: dir.to_owned(), mode: about.mode() & 0o7777, written: true });
        }
    }
    Ok(())
}

/// Looks at a directory with everything in it, all of it secret. Links are followed.
///
/// # Errors
/// As [`check`], of what is met first.
pub fn check_tree(dir: &Path) -> Result<(), Exposed> {
    walk(dir, rustix::process::geteuid().as_raw(), DEPTH_MAX)
}

/// Closes the snapshots of sled in a directory that others cannot enter: it makes them as open as the process lets new files
/// be, and behind such a door nobody has read or written them. Nothing else is changed, and nothing in a directory that
/// others can enter: [`check_tree`] then tells what is open.
///
/// # Errors
/// If the directory cannot be read, or a mode not be changed.
pub(crate) fn close_snapshots(dir: &Path) -> io::Result<()> {
    const ANY: u32 = 0o077;
    let about = match fs::metadata(dir) {
        Ok(about) => about,
        // That it is missing is found, and told, when it is opened.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let me = rustix::process::geteuid().as_raw();
    if about.mode() & ANY != 0 || about.uid() != me {
        return Ok(());
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(b"snap.") {
            continue;
        }
        // Not through a link. A file with a second name can be reached by that.
        let about = entry.metadata()?;
        if about.is_file() && about.nlink() == 1 && about.uid() == me && about.mode() & ANY != 0 {
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(about.mode() & 0o700))?;
        }
    }
    Ok(())
}

fn walk(path: &Path, me: u32, depth: u32) -> Result<(), Exposed> {
    let about = match fs::metadata(path) {
        Ok(about) => about,
        // It was removed meanwhile, or is a link that leads nowhere.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unknown(path, &error)),
    };
    judge(path, &about, Kind::Secret, me)?;
    if !about.is_dir() || depth == 0 {
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(|error| unknown(path, &error))? {
        let entry = entry.map_err(|error| unknown(path, &error))?;
        walk(&entry.path(), me, depth - 1)?;
    }
    Ok(())
}

fn judge(path: &Path, about: &Metadata, kind: Kind, me: u32) -> Result<(), Exposed> {
    if about.uid() != me && about.uid() != 0 {
        return Err(Exposed::Owner { path: path.to_owned(), owner: about.uid(), me });
    }
    if is_open(about, kind) {
        let mode = about.mode() & 0o7777;
        return Err(Exposed::Mode { path: path.to_owned(), mode, written: mode & WRITE != 0 });
    }
    Ok(())
}

/// Whether the mode of a file or directory lets others in.
pub fn is_open(about: &Metadata, kind: Kind) -> bool {
    // Names are not secret, and what is behind them is closed by itself.
    let closed = if kind == Kind::Public || about.is_dir() { WRITE } else { READ_OR_WRITE };
    about.mode() & closed != 0
}

fn unknown(path: &Path, error: &io::Error) -> Exposed {
    Exposed::Unknown { path: path.to_owned(), cause: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn file(path: &Path, mode: u32) {
        fs::write(path, b"x").unwrap();
        set(path, mode);
    }

    #[test]
    fn what_others_can_write_or_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for (mode, public, secret) in [
            (0o600, true, true),
            (0o400, true, true),
            (0o644, true, false),
            (0o640, true, false),
            (0o610, true, true),
            (0o620, false, false),
            (0o602, false, false),
            (0o666, false, false),
        ] {
            file(&path, mode);
            assert_eq!(check(&path, Kind::Public).is_ok(), public, "{mode:o}");
            assert_eq!(check(&path, Kind::Secret).is_ok(), secret, "{mode:o}");
        }
        let said = check(&path, Kind::Secret).unwrap_err().to_string();
        assert!(said.contains("0666") && said.contains("chmod go-w"), "{said}");
        file(&path, 0o644);
        let said = check(&path, Kind::Secret).unwrap_err().to_string();
        assert!(said.contains("read by others (mode 0644)") && said.contains("chmod go= "), "{said}");
    }

    #[test]
    fn everything_in_a_directory_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let lanes = dir.path().join("lanes");
        fs::create_dir(&lanes).unwrap();
        file(&lanes.join("up"), 0o600);
        set(&lanes, 0o755);
        check_tree(dir.path()).unwrap();
        set(&lanes, 0o775);
        assert!(matches!(check_tree(dir.path()), Err(Exposed::Mode { written: true, .. })));
        set(&lanes, 0o700);
        set(&lanes.join("up"), 0o604);
        assert!(matches!(check_tree(dir.path()), Err(Exposed::Mode { written: false, .. })));
        set(&lanes.join("up"), 0o600);
        // What a link leads to counts, and one that leads round in a circle ends nothing.
        let elsewhere = tempfile::tempdir().unwrap();
        file(&elsewhere.path().join("down"), 0o600);
        std::os::unix::fs::symlink(elsewhere.path(), lanes.join("other")).unwrap();
        std::os::unix::fs::symlink(dir.path(), lanes.join("round")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("nowhere"), lanes.join("dangling")).unwrap();
        check_tree(dir.path()).unwrap();
        set(&elsewhere.path().join("down"), 0o644);
        assert!(check_tree(dir.path()).is_err());
    }

    #[test]
    fn snapshots_that_were_left_open_behind_a_closed_door_are_closed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger");
        fs::create_dir(&ledger).unwrap();
        let (snapshot, elsewhere) = (ledger.join("snap.1"), dir.path().join("elsewhere"));
        file(&snapshot, 0o644);
        set(&ledger, 0o755);
        close_snapshots(&ledger).unwrap();
        assert!(check_tree(&ledger).is_err(), "others could enter");
        set(&ledger, 0o700);
        let journal = ledger.join("journal");
        file(&journal, 0o604);
        close_snapshots(&ledger).unwrap();
        assert!(check_tree(&ledger).is_err(), "of that somebody must hear");
        fs::remove_file(&journal).unwrap();
        check_tree(&ledger).unwrap();
        set(&snapshot, 0o644);
        fs::hard_link(&snapshot, &elsewhere).unwrap();
        close_snapshots(&ledger).unwrap();
        assert!(check_tree(&ledger).is_err(), "it has another name outside");
        fs::remove_file(&elsewhere).unwrap();
        fs::remove_file(&snapshot).unwrap();
        file(&elsewhere, 0o644);
        std::os::unix::fs::symlink(&elsewhere, &snapshot).unwrap();
        close_snapshots(&ledger).unwrap();
        assert_eq!(fs::metadata(&elsewhere).unwrap().mode() & 0o777, 0o644, "what a link leads to is left");
    }

    #[test]
    fn a_directory_above_may_be_written_by_others_only_if_it_is_like_tmp() {
        let dir = tempfile::tempdir().unwrap();
        let (open, inner) = (dir.path().join("open"), dir.path().join("open").join("inner"));
        fs::create_dir_all(&inner).unwrap();
        set(&open, 0o755);
        check_above(&inner).unwrap();
        set(&open, 0o777);
        assert!(check_above(&inner).is_err());
        set(&open, 0o1777);
        check_above(&inner).unwrap();
    }
}
