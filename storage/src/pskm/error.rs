//! What can go wrong with a module.

use std::{
    io,
    path::{Path, PathBuf},
};

use dske_protocol::ids::{NodeId, TableId};

use super::entropy::EntropyError;
use crate::{access::Exposed, error::StoreError};

/// A module that cannot be made, read, imported or acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModuleError {
    /// The system refused.
    #[error("cannot {action} {}: {cause}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's reason.
        cause: String,
    },
    /// There is no space; nothing half-made was left behind.
    #[error("no space left to {action} {}: free some, then start again; nothing half-made was kept", path.display())]
    Full {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
    },
    /// The file that should be made is there already.
    #[error("{} exists already: choose another name", .0.display())]
    OutExists(PathBuf),
    /// Not a module.
    #[error("{} is not a module", .0.display())]
    NotAModule(PathBuf),
    /// A module of another version.
    #[error("the module has format {0}, which this release does not know")]
    Version(u32),
    /// The first frame does not open.
    #[error(
        "the key does not open this module: check that it is the key for this file, of the right kind, or ask for a new module"
    )]
    WrongKey,
    /// Something after the first frame is not what was written.
    #[error("the module is damaged at frame {frame} ({detail}): copy it again, or ask for a new one")]
    Damaged {
        /// Which frame, from 0.
        frame: u64,
        /// What is wrong.
        detail: String,
    },
    /// A passphrase that is empty, or a key file that is not 32 bytes.
    #[error("unusable key: {0}")]
    BadKey(String),
    /// A key file that others can get at.
    #[error("the key file is no secret: {0}")]
    Exposed(Exposed),
    /// A size that makes no sense.
    #[error("a module has at least {min} and at most {max} pad bytes in each direction, not {bytes}")]
    Size {
        /// What was asked for.
        bytes: u64,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// The source of randomness failed.
    #[error("the making stopped: {0}")]
    Entropy(#[from] EntropyError),
    /// It was made for another node.
    #[error("the module was made for {client} ({name}), not for this node")]
    NotForUs {
        /// For whom.
        client: NodeId,
        /// Its name there.
        name: String,
    },
    /// This node made it: it is no client of its own.
    #[error("this node made the module itself: its client imports it")]
    OurOwn,
    /// A second import.
    #[error("table {table} was imported before; a module is imported once")]
    AlreadyImported {
        /// Its table.
        table: TableId,
    },
    /// The hub's name, and every name that could be made of it and its id, are those of other hubs here.
    #[error("hub {hub} calls itself {name}, and there are too many of that name here already")]
    NameTaken {
        /// The hub.
        hub: NodeId,
        /// What it calls itself.
        name: String,
    },
    /// No module of that serial waits for a receipt.
    #[error("no module {serial} was made here")]
    UnknownSerial {
        /// What was asked for.
        serial: String,
    },
    /// Its receipt has been given already, or it is out of use.
    #[error("module {serial} does not wait for a receipt")]
    NotWaiting {
        /// Its serial.
        serial: String,
    },
    /// It has not the form of a receipt, so it was mistyped; it does not count.
    #[error(
        "that is no receipt: {detail}. It was not counted; {} left for {serial}. A receipt is two words and four digits, as the client's import printed them", tries(*left)
    )]
    NotAReceipt {
        /// Its serial.
        serial: String,
        /// What is wrong with the form.
        detail: &'static str,
        /// Tries that are left.
        left: u32,
    },
    /// Not the phrase that the import printed.
    #[error("wrong receipt for {serial}, {}", advice(serial, *left))]
    WrongReceipt {
        /// Its serial.
        serial: String,
        /// Tries that are left.
        left: u32,
    },
    /// Too many wrong phrases.
    #[error("too many wrong receipts for {serial}: {}", over(serial))]
    ReceiptLocked {
        /// Its serial.
        serial: String,
    },
    /// The store failed or refused.
    #[error(transparent)]
    Store(StoreError),
}

fn tries(left: u32) -> String {
    format!("{left} {}", if left == 1 { "try" } else { "tries" })
}

fn advice(serial: &str, left: u32) -> String {
    match left {
        0 => format!("and no try is left: {}", over(serial)),
        _ => format!("{} left: ask the client for the phrase that its import printed", tries(left)),
    }
}

/// What to do with a module that takes no receipt any more.
fn over(serial: &str) -> String {
    format!(
        "no receipt is taken for it any more. `dske pskm retire {serial}` at both ends, then make a new module"
    )
}

impl From<StoreError> for ModuleError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full { action, path } => Self::Full { action, path },
            other => Self::Store(other),
        }
    }
}

impl ModuleError {
    pub(super) fn io(action: &'static str, path: &Path, error: &io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { action, path },
            _ => Self::Io { action, path, cause: error.to_string() },
        }
    }

    pub(super) fn damaged(frame: u64, detail: impl Into<String>) -> Self {
        Self::Damaged { frame, detail: detail.into() }
    }
}
