//! Copies of nodes' directories, and what becomes of a node that is put back to one.

use std::path::Path;

use super::Net;

/// Copies a directory with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            copy(&path, &target);
        } else if kind.is_file() {
            // What the node removes meanwhile is not in the copy.
            let _ = std::fs::copy(&path, &target);
        }
    }
}

/// Kills a node and puts a copy of its directory in its place.
pub(crate) fn put_back(net: &Net, node: &str, saved: &Path) {
    let dir = net.node_dir(node);
    net.testnet(&["kill", node]);
    std::fs::remove_dir_all(&dir).unwrap();
    copy(saved, &dir);
}
