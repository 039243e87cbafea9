//! Where a node keeps its things.

use std::path::{Path, PathBuf};

/// The directory of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// Names a directory; nothing is looked at.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.0.join(crate::config::CONFIG_FILE)
    }

    /// The secret half of the node's identity.
    pub fn identity(&self) -> PathBuf {
        self.0.join("identity.key")
    }

    /// The directory of ledger, pads and keys.
    pub fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// The socket on which a running node takes orders from its owner.
    pub fn control_socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    /// Present only in directories that `dske testnet` made; only there may a node be told to misbehave.
    pub fn testnet_marker(&self) -> PathBuf {
        self.0.join("testnet")
    }
}
