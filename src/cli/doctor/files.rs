//! Who may read and write the node's files.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use dske_node::NodeError;
use dske_storage::access::{self, Kind};

use super::{Patient, finding::Finding};

/// Open files that are named; of more, their number.
const NAMED_MAX: usize = 3;

/// Looks at the directory with everything below, and at the configuration, which may lie elsewhere.
pub(super) fn permissions(patient: &Patient<'_>) -> Vec<Finding> {
    let dir = patient.dir.path();
    let Ok(top) = fs::metadata(dir) else { return Vec::new() };
    let mut findings = vec![owner(dir, top.uid())];
    let mut open = Vec::new();
    match walk(dir, top.uid(), &mut open) {
        Ok(()) if open.is_empty() => {
            findings.push(Finding::good("permissions", "nobody but the owner can read the node's files"));
        }
        Ok(()) => {
            let named: Vec<String> =
                open.iter().take(NAMED_MAX).map(|path| path.display().to_string()).collect();
            let more = match open.len().saturating_sub(NAMED_MAX) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            findings.push(Finding::fail(
                "permissions",
                format!("open to others, or not the owner's: {}{more}", named.join(", ")),
                format!("`chmod -R go= {0}`, and `chown -R` to its owner; if others may have read them, treat this node's pads as known", dir.display()),
            ));
        }
        Err(error) => findings.push(Finding::warn(
            "permissions",
            format!("not all files can be looked at: {error}"),
            "give this command as the node's user or root",
        )),
    }
    findings.extend(configuration(patient, dir));
    findings
}

/// What a start would refuse, by the very checks that a start makes. That the identity is the store's own is looked at where
/// the store is opened.
pub(super) fn start(patient: &Patient<'_>) -> Vec<Finding> {
    let access = dske_node::check_access(patient.dir, patient.context.globals.config.as_deref());
    let access = match access {
        Ok(()) => Finding::good("access", "a node would start on it"),
        Err(error) => refused("access", &error),
    };
    let identity = match (dske_node::identity(patient.dir), patient.running) {
        (Err(error), _) => Some(refused("identity", &error)),
        (Ok(me), Some(status)) if me.node != status.node.id => Some(Finding::fail(
            "identity",
            format!("{} is not that of the node that runs", patient.dir.identity().display()),
            "put the right file back before the node ends: it will not start with this one",
        )),
        (Ok(_), Some(_)) => Some(own_identity()),
        (Ok(_), None) => None,
    };
    [access].into_iter().chain(identity).collect()
}

/// An identity that a start takes.
pub(super) fn own_identity() -> Finding {
    Finding::good("identity", "the node's own")
}

/// What a start says, where it refuses.
pub(super) fn refused(check: &'static str, error: &NodeError) -> Finding {
    let failure = error.failure();
    Finding::fail(
        check,
        failure.message,
        failure.help.unwrap_or_else(|| format!("`dske explain {}`", failure.code)),
    )
}

/// Whether this process is the directory's owner, as whom the node must run.
fn owner(dir: &Path, owner: u32) -> Finding {
    let me = rustix::process::geteuid().as_raw();
    if me == owner {
        return Finding::good("owner", "the directory is this user's own");
    }
    let text = format!("{} belongs to user {owner}, and you are user {me}", dir.display());
    Finding::warn("owner", text, format!("give commands as its owner: `sudo -u '#{owner}' dske …`"))
}

/// Collects what is open to others, or belongs to somebody else.
fn walk(path: &Path, owner: u32, open: &mut Vec<PathBuf>) -> io::Result<()> {
    let about = fs::symlink_metadata(path)?;
    if about.is_symlink() {
        return Ok(());
    }
    // A file in a closed directory is closed; what has wrong modes was still put there by something else.
    let kind = if is_public(path) { Kind::Public } else { Kind::Secret };
    if access::is_open(&about, kind) || about.uid() != owner {
        open.push(path.to_owned());
    }
    if about.is_dir() {
        for entry in fs::read_dir(path)? {
            walk(&entry?.path(), owner, open)?;
        }
    }
    Ok(())
}

/// The configuration holds no secret. It is looked at by itself.
fn is_public(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == dske_node::config::CONFIG_FILE)
}

/// Whoever may write the configuration may lower k.
fn configuration(patient: &Patient<'_>, dir: &Path) -> Option<Finding> {
    let path =
        patient.context.globals.config.clone().unwrap_or_else(|| dir.join(dske_node::config::CONFIG_FILE));
    let about = fs::metadata(&path).ok()?;
    access::is_open(&about, Kind::Public).then(|| {
        let text = format!("others than its owner may write {}", path.display());
        Finding::fail("configuration", text, format!("`chmod go-w {}`", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_others_may_read_is_found() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).expect("set");
        let me = rustix::process::geteuid().as_raw();
        let file = |name: &str, mode| {
            let path = dir.path().join(name);
            fs::write(&path, b"x").expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
            path
        };
        file("identity.key", 0o600);
        file("config.toml", 0o644);
        // As a start judges: names in a directory are no secret.
        fs::create_dir(dir.path().join("store")).expect("made");
        fs::set_permissions(dir.path().join("store"), fs::Permissions::from_mode(0o755)).expect("set");
        let bad = file("lane", 0o640);
        let mut open = Vec::new();
        walk(dir.path(), me, &mut open).expect("walked");
        assert_eq!(open, [bad]);
    }
}
