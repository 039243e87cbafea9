//! Where things lie in a store's directory.

use std::path::{Path, PathBuf};

use dske_protocol::ids::TableId;

/// Says that the directory is a store; holds its random id, which the ledger holds too.
pub(crate) fn store_file(dir: &Path) -> PathBuf {
    dir.join("store")
}

/// The ledger.
pub(crate) fn ledger_dir(dir: &Path) -> PathBuf {
    dir.join("ledger")
}

/// The journal in front of the ledger. It lies with it, so that both are copied and put back together.
pub(crate) fn journal_file(dir: &Path) -> PathBuf {
    ledger_dir(dir).join("journal")
}

/// Tables, a directory each.
pub(crate) fn lanes_dir(dir: &Path) -> PathBuf {
    dir.join("lanes")
}

/// One table's lanes.
pub(crate) fn table_dir(dir: &Path, table: &TableId) -> PathBuf {
    lanes_dir(dir).join(table.to_string())
}

/// Tables that are not complete.
pub(crate) fn imports_dir(dir: &Path) -> PathBuf {
    dir.join("imports")
}

/// A table on its way in.
pub(crate) fn partial_dir(dir: &Path, table: &TableId) -> PathBuf {
    imports_dir(dir).join(format!("{table}.partial"))
}

/// Messages that wait.
pub(crate) fn outbox_dir(dir: &Path) -> PathBuf {
    dir.join("outbox")
}

/// Agreed keys.
pub(crate) fn keys_dir(dir: &Path) -> PathBuf {
    dir.join("keys")
}
