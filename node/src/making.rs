//! Making the directory of a node: store, identity, configuration, in this order. Each takes its name only when it is whole, so that
//! what a kill or a full disk has cut off is told from a node, and finished by the next try. Never removes what may hold pads.

use std::{
    fs::{self, DirBuilder},
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use dske_protocol::ids::NodeId;
use dske_storage::{Options, Store, StoreError, files::Draft};

use crate::{DataDir, Me, NodeError, check_access, config::Config, me};

/// Makes the directory of a new node, or finishes one whose making was cut off.
///
/// # Errors
/// If there is a node already, or the directory cannot be written.
pub fn init(dir: &DataDir, config: &Config) -> Result<NodeId, NodeError> {
    config.check()?;
    let exists = || NodeError::Exists { path: dir.path().to_owned() };
    let there = There::of(dir);
    if there.store && !is_unused(dir, &there)? || there.identity && there.config {
        return Err(exists());
    }
    // One file is in the way, and never the directory, which may hold more than a node.
    if there.config {
        return Err(there.unfinished(dir, dir.config()));
    }
    if there.identity && !there.store {
        return Err(there.unfinished(dir, dir.identity()));
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(dir.path()).map_err(failed("create", dir.path()))?;
    check_access(dir, None)?;
    if !there.store {
        make_store(dir)?;
    }
    let path = dir.identity();
    let keypair = match there.identity {
        true => me::load(&path).map_err(|source| NodeError::of_identity(path.clone(), source))?,
        false => {
            remove_empty(&path)?;
            me::create(&path).map_err(failed("create", &path))?
        }
    };
    let me = Me::of(&keypair).map_err(failed("use", &path))?;
    let (path, text) = (dir.config(), config.to_toml()?);
    remove_empty(&path)?;
    let written = Draft::nameless(&path).and_then(|draft| {
        draft.file().write_all(text.as_bytes())?;
        draft.keep()
    });
    written.map_err(failed("create", &path))?;
    sync(dir.path())?;
    Ok(me.node)
}

/// Whether a directory holds parts of a node and no configuration: `dske init` was cut off there, or the file was lost.
pub fn lacks_configuration(dir: &DataDir) -> bool {
    let there = There::of(dir);
    (there.store || there.identity || is_there(&unfinished_store(dir))) && !there.config
}

/// What there is of a node.
#[derive(Debug)]
struct There {
    store: bool,
    identity: bool,
    config: bool,
}

impl There {
    fn of(dir: &DataDir) -> Self {
        let has = |path: &Path| is_there(path) && !is_empty(path);
        Self { store: is_there(&dir.store()), identity: has(&dir.identity()), config: has(&dir.config()) }
    }

    fn unfinished(&self, dir: &DataDir, remove: PathBuf) -> NodeError {
        let parts =
            [(self.store, "the store"), (self.identity, "the identity"), (self.config, "the configuration")];
        let lacking: Vec<&str> =
            parts.into_iter().filter(|(there, _)| !there).map(|(_, part)| part).collect();
        let lacking = match lacking.as_slice() {
            [] => "a whole store".to_owned(),
            parts => parts.join(" and "),
        };
        NodeError::Unfinished { path: dir.path().to_owned(), lacking, remove }
    }
}

/// Whether the store of a directory that lacks something has never been used: then only the making was cut off.
fn is_unused(dir: &DataDir, there: &There) -> Result<bool, NodeError> {
    let path = dir.store();
    if there.identity && there.config || Store::count_tables(&path) > 0 {
        return Ok(false);
    }
    let store = match Store::open(&path, Options::default()) {
        Ok(store) => store,
        // The file that makes it a store comes last.
        Err(StoreError::Missing { what: "the store", .. }) if !there.identity && !there.config => {
            return Err(there.unfinished(dir, path));
        }
        Err(StoreError::Missing { .. } | StoreError::Damaged { .. }) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let is_unused = || -> Result<bool, StoreError> {
        Ok(store.tables().is_empty()
            && store.modules()?.is_empty()
            && store.clients()?.is_empty()
            && store.hubs()?.is_empty())
    };
    let unused = is_unused();
    store.close()?;
    Ok(unused?)
}

/// Makes the store beside its place, and puts it there when it is whole.
fn make_store(dir: &DataDir) -> Result<(), NodeError> {
    let unfinished = unfinished_store(dir);
    if is_there(&unfinished) {
        if Store::is_open_elsewhere(&unfinished) {
            return Err(failed("use", &unfinished)(std::io::ErrorKind::ResourceBusy.into()));
        }
        // Nobody has used what never was a store.
        fs::remove_dir_all(&unfinished).map_err(failed("remove", &unfinished))?;
    }
    Store::create(&unfinished)?;
    fs::rename(&unfinished, dir.store()).map_err(failed("create", &dir.store()))?;
    sync(dir.path())
}

fn unfinished_store(dir: &DataDir) -> PathBuf {
    dir.path().join("store.unfinished")
}

/// A link that leads nowhere is there, too.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// What earlier releases left where the disk was full.
fn is_empty(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|about| about.is_file() && about.len() == 0)
}

fn remove_empty(path: &Path) -> Result<(), NodeError> {
    match is_empty(path) {
        true => fs::remove_file(path).map_err(failed("remove", path)),
        false => Ok(()),
    }
}

fn sync(dir: &Path) -> Result<(), NodeError> {
    fs::File::open(dir).and_then(|file| file.sync_all()).map_err(failed("sync", dir))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> NodeError + use<> {
    let path = path.to_owned();
    move |source| NodeError::File { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;

    fn config() -> Config {
        Config::new("carol".parse().unwrap(), [Role::Client])
    }

    fn made() -> (tempfile::TempDir, DataDir, NodeId) {
        let place = tempfile::tempdir().unwrap();
        let dir = DataDir::new(place.path().join("carol"));
        let node = init(&dir, &config()).unwrap();
        (place, dir, node)
    }

    #[test]
    fn what_was_cut_off_is_finished_by_the_next_try() {
        let (_place, dir, node) = made();
        assert!(matches!(init(&dir, &config()), Err(NodeError::Exists { .. })), "it is whole");
        assert!(!lacks_configuration(&dir));
        // Before the configuration, which is written last: the identity stays.
        fs::remove_file(dir.config()).unwrap();
        assert!(lacks_configuration(&dir));
        assert_eq!(init(&dir, &config()).unwrap(), node);
        // Where the disk was full, as earlier releases left it.
        fs::write(dir.config(), "").unwrap();
        assert_eq!(init(&dir, &config()).unwrap(), node);
        Config::load(&dir.config()).unwrap();
        // Before the identity.
        fs::remove_file(dir.config()).unwrap();
        fs::write(dir.identity(), "").unwrap();
        let other = init(&dir, &config()).unwrap();
        assert_eq!(crate::identity(&dir).unwrap().node, other);
        // While the store was made.
        for path in [dir.config(), dir.identity()] {
            fs::remove_file(path).unwrap();
        }
        fs::rename(dir.store(), unfinished_store(&dir)).unwrap();
        fs::remove_file(unfinished_store(&dir).join("store")).unwrap();
        assert!(lacks_configuration(&dir));
        init(&dir, &config()).unwrap();
        assert!(!is_there(&unfinished_store(&dir)));
        Store::open(&dir.store(), Options::default()).unwrap().close().unwrap();
    }

    #[test]
    fn a_directory_that_holds_other_things_is_not_to_be_removed_and_stays_as_it_is() {
        let place = tempfile::tempdir().unwrap();
        let dir = DataDir::new(place.path());
        // The configuration of another program.
        fs::write(dir.config(), "[other]").unwrap();
        let refused = init(&dir, &config()).unwrap_err().failure();
        let help = refused.help.unwrap();
        assert!(help.contains(&format!("remove {} ", dir.config().display())), "{help}");
        assert!(!help.contains(&format!("remove {} ", dir.path().display())), "{help}");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "nothing is made");
        // What the advice says suffices.
        fs::remove_file(dir.config()).unwrap();
        init(&dir, &config()).unwrap();
        // An identity alone, likewise.
        fs::remove_file(dir.config()).unwrap();
        fs::remove_dir_all(dir.store()).unwrap();
        let help = init(&dir, &config()).unwrap_err().failure().help.unwrap();
        assert!(help.contains(&format!("remove {} ", dir.identity().display())), "{help}");
        fs::remove_file(dir.identity()).unwrap();
        init(&dir, &config()).unwrap();
    }

    #[test]
    fn links_are_not_taken_for_what_they_lead_to() {
        let place = tempfile::tempdir().unwrap();
        let dir = DataDir::new(place.path().join("carol"));
        let theirs = place.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        fs::write(theirs.join("pads"), "theirs").unwrap();
        fs::DirBuilder::new().mode(0o700).create(dir.path()).unwrap();
        // Where a store that is not finished would be.
        std::os::unix::fs::symlink(&theirs, unfinished_store(&dir)).unwrap();
        std::os::unix::fs::symlink(theirs.join("nothing"), dir.identity()).unwrap();
        let refused = init(&dir, &config()).unwrap_err().failure();
        assert_eq!(refused.code, "dske::node::unfinished", "a link that leads nowhere is there");
        fs::remove_file(dir.identity()).unwrap();
        init(&dir, &config()).unwrap();
        assert_eq!(fs::read_to_string(theirs.join("pads")).unwrap(), "theirs");
        assert_eq!(fs::read_dir(&theirs).unwrap().count(), 1);
        use std::os::unix::fs::PermissionsExt;
        for path in [dir.config(), dir.identity()] {
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600,
                "{}",
                path.display()
            );
        }
    }

    #[test]
    fn what_cannot_be_finished_says_what_to_remove_and_nothing_that_is_used_goes() {
        let (_place, dir, _) = made();
        let refused = || init(&dir, &config()).unwrap_err().failure();
        // A configuration without the identity that went with it.
        let secret = fs::read(dir.identity()).unwrap();
        fs::remove_file(dir.identity()).unwrap();
        let told = refused();
        assert_eq!(told.code, "dske::node::unfinished");
        assert!(told.message.ends_with("it lacks the identity"), "{}", told.message);
        let names = |told: &crate::control::Failure, path: &Path| {
            told.help.as_ref().unwrap().contains(&format!("remove {} ", path.display()))
        };
        assert!(names(&told, &dir.config()) && !names(&told, dir.path()), "{told:?}");
        // A store that an earlier release had not finished.
        fs::remove_file(dir.config()).unwrap();
        fs::remove_file(dir.store().join("store")).unwrap();
        let told = refused();
        assert!(told.code == "dske::node::unfinished" && names(&told, &dir.store()), "{told:?}");
        // With an identity it was one, and may have been used.
        fs::write(dir.identity(), secret).unwrap();
        assert_eq!(refused().code, "dske::node::exists");
        assert!(is_there(&dir.store()), "nothing is removed");
        // Nor is one with a table that nobody can open.
        fs::remove_file(dir.identity()).unwrap();
        fs::create_dir_all(dir.store().join("lanes/00")).unwrap();
        assert_eq!(refused().code, "dske::node::exists");
    }
}
