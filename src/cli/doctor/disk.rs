//! The disk under the node's directory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use dske_node::{
    config::Role,
    status::{self, DiskStatus},
};

use super::{Patient, finding::Finding};
use crate::cli::units;

/// A node makes few files; with fewer free inodes than this something else eats them.
const INODES_WARN: u64 = 1000;

/// Room and kind of the file system.
pub(super) fn disk(patient: &Patient<'_>) -> Vec<Finding> {
    // The store may lie on a disk of its own.
    let store = patient.dir.store();
    let path = if store.exists() { &store } else { patient.dir.path() };
    let mut findings = vec![kind(path)];
    match rustix::fs::statvfs(path) {
        Ok(room) => {
            let free = room.f_bavail.saturating_mul(room.f_frsize);
            let outbox = patient.config.outbox.bytes_max.0.0;
            let is_hub = patient.config.node.roles.contains(&Role::Hub);
            findings.push(space(free, is_hub.then_some(outbox)));
            if room.f_files > 0 && room.f_favail < INODES_WARN {
                let help = "remove small files that are not needed, or make a larger file system";
                findings.push(Finding::warn("inodes", format!("{} are free", room.f_favail), help));
            }
            if room.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
                let help = "see the kernel's log: a disk that fails is often made read-only; then mount it to be written";
                findings.push(Finding::fail("disk", "the file system is read-only", help));
            }
        }
        Err(error) => {
            let help = "see that the directory exists: `dske init` makes one";
            findings.push(Finding::fail("disk", format!("{}: {error}", path.display()), help));
        }
    }
    findings
}

/// Judges what is free. A hub needs room for messages that wait.
fn space(free: u64, outbox: Option<u64>) -> Finding {
    let told = format!("{} free", units::size(free));
    match DiskStatus::with(free).level {
        status::Level::Crit => Finding::fail(
            "disk space",
            told,
            "make room: soon nothing can be recorded any more, and keys are refused",
        ),
        status::Level::Warn => Finding::warn("disk space", told, "make room before it is full"),
        status::Level::Info if outbox.is_some_and(|outbox| free < outbox) => Finding::warn(
            "disk space",
            format!(
                "{told}, less than the {} that [outbox] bytes_max allows",
                units::size(outbox.unwrap_or(0))
            ),
            "make room, or lower bytes_max",
        ),
        status::Level::Info => Finding::good("disk space", told),
    }
}

fn kind(path: &Path) -> Finding {
    let Ok(path) = fs::canonicalize(path) else {
        let help = "see that the directory exists: `dske init` makes one";
        return Finding::fail("file system", format!("{} cannot be used", path.display()), help);
    };
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match kind_in(&mounts, &path) {
        Some(kind) => judge(&kind),
        None => Finding::warn("file system", "of unknown kind", "use ext4 or XFS on a disk of the machine"),
    }
}

/// The kind of the file system that a path lies on. Later lines hide earlier ones on the same place.
fn kind_in(mounts: &str, path: &Path) -> Option<String> {
    let mut best: Option<(PathBuf, &str)> = None;
    for line in mounts.lines() {
        let (before, after) = line.split_once(" - ")?;
        let place = PathBuf::from(unescaped(before.split(' ').nth(4)?));
        let depth = |place: &Path| place.components().count();
        let deeper = best.as_ref().is_none_or(|(best, _)| depth(&place) >= depth(best));
        if path.starts_with(&place) && deeper {
            best = Some((place, after.split(' ').next()?));
        }
    }
    best.map(|(_, kind)| kind.to_owned())
}

/// The kernel writes blanks in paths as octal numbers.
fn unescaped(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

fn judge(kind: &str) -> Finding {
    let shown = kind.to_owned();
    match kind {
        "ext2" | "ext3" | "ext4" | "xfs" | "f2fs" => Finding::good("file system", shown),
        "tmpfs" | "ramfs" => Finding::fail(
            "file system",
            format!("{kind}: pads, and the record of which are used, are gone at the next restart"),
            "move the directory to a disk while the node is stopped",
        ),
        "btrfs" | "zfs" | "bcachefs" | "nilfs2" => Finding::warn(
            "file system",
            format!(
                "{kind} copies on write: used pads stay readable on the device after they were overwritten"
            ),
            "use ext4 or XFS for the data directory, no snapshots, and encrypt the disk",
        ),
        "overlay" | "aufs" => Finding::warn(
            "file system",
            format!("{kind}: the writable layer of a container, gone with it"),
            "mount a volume over the data directory",
        ),
        kind if kind.starts_with("nfs") || matches!(kind, "cifs" | "smb3" | "9p" | "ceph" | "glusterfs") => {
            Finding::warn(
                "file system",
                format!("{kind}: another machine holds the pads, and decides what a sync and a lock mean"),
                "use a disk of this machine",
            )
        }
        _ => Finding::warn(
            "file system",
            format!("{kind}: it is not known whether it syncs and overwrites as the store needs"),
            "use ext4 or XFS",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Level, *};

    const MOUNTS: &str = "21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n\
        22 21 0:20 / /run rw shared:2 - tmpfs tmpfs rw\n\
        23 21 8:2 / /srv/key\\040store rw - xfs /dev/sdb rw\n\
        24 21 0:50 / /mnt rw - nfs4 host:/ rw\n\
        25 24 0:51 / /mnt rw - btrfs /dev/sdc rw\n";

    #[test]
    fn the_deepest_and_latest_mount_counts() {
        let kind = |path: &str| kind_in(MOUNTS, Path::new(path)).unwrap_or_default();
        assert_eq!(kind("/var/lib/dske"), "ext4");
        assert_eq!(kind("/run/dske"), "tmpfs");
        assert_eq!(kind("/running"), "ext4");
        assert_eq!(kind("/srv/key store/alice"), "xfs");
        assert_eq!(kind("/mnt/x"), "btrfs");
    }

    #[test]
    fn file_systems_that_lose_or_keep_too_much_are_told() {
        for (kind, level) in [
            ("xfs", Level::Ok),
            ("tmpfs", Level::Fail),
            ("zfs", Level::Warn),
            ("nfs4", Level::Warn),
            ("overlay", Level::Warn),
        ] {
            assert_eq!(judge(kind).level, level, "{kind}");
        }
    }

    #[test]
    fn a_hub_needs_room_for_what_waits() {
        assert_eq!(space(1 << 20, None).level, Level::Fail);
        assert_eq!(space(512 << 20, None).level, Level::Warn);
        assert_eq!(space(2 << 30, None).level, Level::Ok);
        assert_eq!(space(2 << 30, Some(4 << 30)).level, Level::Warn);
    }
}
