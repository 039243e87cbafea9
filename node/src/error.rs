//! Why a node cannot be made or run.

use std::{io, path::PathBuf};

use dske_storage::{StoreError, access::Exposed};

use crate::{
    config::ConfigError,
    control::{Failure, failure, store_failure},
    network::NetworkConfigError,
};

/// See the head of the file.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store cannot be made or opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file or directory of the node cannot be used.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The identity is not the one that the store's modules name: the file was damaged or exchanged.
    #[error("{} is not the identity of this node: module {serial} is for another", path.display())]
    ForeignIdentity {
        /// The identity file.
        path: PathBuf,
        /// A module of the store.
        serial: String,
    },
    /// The identity is not there, or is no identity.
    #[error("the identity of this node is {what}: {} {detail}", path.display())]
    NoIdentity {
        /// In a word.
        what: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// What is found there.
        detail: &'static str,
    },
    /// Others than the owner can get at the node's files.
    #[error(transparent)]
    Exposed(#[from] Exposed),
    /// There is a node in the directory already.
    #[error("{} already holds a node", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// Part of a node is there that nobody has used: its making was cut off.
    #[error("the node in {} is not finished: it lacks {lacking}", path.display())]
    Unfinished {
        /// The directory.
        path: PathBuf,
        /// What is missing, in words.
        lacking: String,
        /// What is in the way of making it.
        remove: PathBuf,
    },
    /// The network cannot be set up.
    #[error("{0}")]
    Network(String),
    /// The listener for monitoring cannot be set up.
    #[error("{0}")]
    Metrics(String),
}

impl From<NetworkConfigError> for NodeError {
    fn from(error: NetworkConfigError) -> Self {
        Self::Network(error.to_string())
    }
}

impl NodeError {
    /// Why an identity file cannot be read.
    pub(crate) fn of_identity(path: PathBuf, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::NoIdentity { what: "missing", path, detail: "is not there" },
            io::ErrorKind::InvalidData => {
                Self::NoIdentity { what: "damaged", path, detail: "does not have exactly 32 bytes" }
            }
            _ => Self::File { action: "read", path, source },
        }
    }

    /// The same for a person, with a code, an exit status and a remedy.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Config(_) => {
                failure("dske::config", 7, self.to_string(), "see `dske config template` for every key")
            }
            Self::Store(StoreError::Locked { .. }) => failure(
                "dske::node::running",
                1,
                self.to_string(),
                "one process at a time may use a directory",
            ),
            Self::Store(StoreError::Damaged { .. } | StoreError::Missing { .. }) => failure(
                "dske::store::damaged",
                8,
                self.to_string(),
                "put no single file back; `dske explain store::damaged` says what may be put back, and what to do otherwise",
            ),
            Self::Store(StoreError::OtherFormat { .. }) => failure(
                "dske::store::format",
                8,
                self.to_string(),
                "run the release that wrote it, or make a new node with `dske init`, enrol it with its hubs again and \
                 import new modules; the old directory is whole and can be kept",
            ),
            Self::Exposed(_) | Self::Store(StoreError::Exposed(_)) => failure(
                "dske::node::exposed",
                8,
                self.to_string(),
                "if others may have read the pads or the identity, treat them as known: enrol again with new modules",
            ),
            Self::Store(error) => store_failure(error),
            Self::File { .. } => {
                failure("dske::node::file", 1, self.to_string(), "check that the path exists and is yours")
            }
            Self::ForeignIdentity { .. } => failure(
                "dske::node::identity",
                8,
                self.to_string(),
                "put the right identity.key back from a copy, or enrol again as a new node",
            ),
            Self::NoIdentity { .. } => failure(
                "dske::node::identity",
                8,
                self.to_string(),
                "put identity.key back from a copy of this directory (it never changes, so a copy of any age is right), or enrol \
                 again as a new node",
            ),
            Self::Exists { .. } => failure(
                "dske::node::exists",
                1,
                self.to_string(),
                "choose another --dir, or run the node that is there; what it lacks comes from a copy of the directory",
            ),
            Self::Unfinished { remove, .. } => failure(
                "dske::node::unfinished",
                1,
                self.to_string(),
                &format!(
                    "it has no tables: remove {} and give `dske init` again, or put back from a copy what it lacks",
                    remove.display()
                ),
            ),
            Self::Network(_) => failure(
                "dske::network::setup",
                3,
                self.to_string(),
                "choose other addresses under [network] listen, or stop what uses them",
            ),
            Self::Metrics(_) => failure(
                "dske::metrics::setup",
                3,
                self.to_string(),
                "choose another address under [metrics] listen, or stop what uses it",
            ),
        }
    }
}
