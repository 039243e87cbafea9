//! What can go wrong in the store, split by whose fault it is.
//!
//! [`StoreError`] is the local machine's or the caller's; [`HoldRefusal`] is about a run that a peer named;
//! [`MintError`] is about pads that have run out; [`TakeError`] is about one key. All of them are plain data,
//! so that one failure of a group can be told to everybody in that group.

use std::{
    io,
    path::{Path, PathBuf},
};

use dske_protocol::ids::{BlockId, KeyId, NodeId, PadRange, TableId};

use crate::{access::Exposed, open::FORMAT, status::TableSide};

/// A failure of the store, or a request that it refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// `create` found a store, or something else, in its place.
    #[error("{} is not empty: choose another directory, or open the store that is there", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// Another process has the directory.
    #[error("{} is in use by process {pid}: stop that process first", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// What the other process wrote into the lock file.
        pid: String,
    },
    /// Something that must be there is not. It is never created anew, because a fresh one would forget what
    /// has been used.
    #[error("{what} is missing at {}, and is never made anew", path.display())]
    Missing {
        /// What is missing.
        what: &'static str,
        /// Where it should be.
        path: PathBuf,
    },
    /// Something is there, but is not what this store wrote.
    #[error("{what} is damaged: {detail}")]
    Damaged {
        /// What is damaged.
        what: &'static str,
        /// How, and what to do.
        detail: String,
    },
    /// A store that another release wrote. Nothing is wrong with it, and nothing in it was touched.
    #[error("{} is a store of format {found}; this release uses format {FORMAT} alone", path.display())]
    OtherFormat {
        /// What says so.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The operating system refused something that leaves the store as it was.
    #[error("cannot {action} {}: {cause}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The system's reason.
        cause: String,
    },
    /// There is no space left; nothing was changed.
    #[error("no space left to {action} {}: free some, then try again", path.display())]
    Full {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
    },
    /// The ledger failed.
    #[error("the ledger cannot {action}: {cause}")]
    Ledger {
        /// What was tried.
        action: &'static str,
        /// sled's reason.
        cause: String,
    },
    /// An earlier write failed, so that nothing of this store can be relied on until it is opened again.
    #[error("the store stopped after a failed write ({cause}): mend the disk and restart the node")]
    Poisoned {
        /// The first failure.
        cause: String,
    },
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
    /// A claim of a run that is not held: used already, or never held.
    #[error("{} bytes at {} of lane {} of table {} are not held: already used, or never asked for", range.len, range.offset, range.lane, range.table)]
    AlreadyUsed {
        /// The run.
        range: PadRange,
    },
    /// A block id is used once for ever.
    #[error("block {block} exists already")]
    BlockExists {
        /// The block.
        block: BlockId,
    },
    /// A record is larger than the ledger can hold safely.
    #[error("the {what} record needs {bytes} bytes, at most {max} fit: shorten its names or lists")]
    RecordTooLarge {
        /// Which kind of record.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// No such table.
    #[error("table {table} is not in this store")]
    UnknownTable {
        /// The table.
        table: TableId,
    },
    /// The table is in a state in which that cannot be done.
    #[error("table {table} is {state}: it cannot {action}")]
    WrongState {
        /// The table.
        table: TableId,
        /// Its state.
        state: String,
        /// What was asked.
        action: &'static str,
    },
    /// Others than the owner can get at its files.
    #[error(transparent)]
    Exposed(Exposed),
    /// The request makes no sense.
    #[error("refused: {what}")]
    Invalid {
        /// What is wrong with it.
        what: String,
    },
}

impl StoreError {
    /// Wraps an operating system error; a full disk is told apart.
    pub(crate) fn io(action: &'static str, path: &Path, error: &io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { action, path },
            io::ErrorKind::ReadOnlyFilesystem => {
                let cause = "the file system is read-only: mount it for writing, then restart the node";
                Self::Io { action, path, cause: cause.to_owned() }
            }
            _ => Self::Io { action, path, cause: error.to_string() },
        }
    }

    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid { what: what.into() }
    }
}

/// Why a run that a peer named is not handed out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HoldRefusal {
    /// No such table.
    #[error("table {0} is not in this store")]
    UnknownTable(TableId),
    /// The table is shared with somebody else.
    #[error("table {table} is not shared with {peer}")]
    WrongPeer {
        /// The table.
        table: TableId,
        /// Who named it.
        peer: NodeId,
    },
    /// The peer may not allocate from that lane; we do.
    #[error("that lane is ours to allocate from")]
    WrongLane,
    /// The table waits for its module's receipt, or for the hub's word of it.
    #[error("the table waits for its module's receipt")]
    Pending,
    /// The table is not active, and not about to be.
    #[error("table is {state}")]
    NotActive {
        /// Its state, with the reason.
        state: String,
    },
    /// Its marks have not been compared on the present connection.
    #[error("the marks of the table have not been compared on this connection")]
    NotSynced,
    /// The run is empty, longer than a run may be, or reaches past the lane.
    #[error("the run does not lie inside the lane")]
    OutOfRange,
    /// Some of the run has been used before.
    #[error("the run has been used before")]
    AlreadyUsed,
    /// Some of the run is held by a message that is being checked.
    #[error("the run is held by another message")]
    Held,
    /// The bytes are zeros: erased earlier, though no record says so.
    #[error("the bytes of the run have been erased")]
    Erased,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why pads could not be taken. Nothing was taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// There is no active table with that peer of which this node is that end.
    #[error("no active table with {peer} of which this node is the {side}: import or acknowledge a module")]
    NoTable {
        /// The peer.
        peer: NodeId,
        /// The end that was asked for.
        side: TableSide,
    },
    /// There are active tables, but their marks have not been compared since the store was opened.
    #[error("the tables with {peer} have not been compared with it since the start: it has to connect first")]
    NotSynced {
        /// The peer.
        peer: NodeId,
    },
    /// No active table with that peer has room for the run.
    #[error(
        "{wanted} pad bytes wanted with {peer}, no active table has more than {left} left: install a new module"
    )]
    Exhausted {
        /// The peer.
        peer: NodeId,
        /// Bytes of the run.
        wanted: u64,
        /// The most that is left in one table.
        left: u64,
    },
    /// The run is empty or longer than a run may be.
    #[error("a run of {bytes} bytes is empty or too long")]
    BadLength {
        /// Bytes asked for.
        bytes: u64,
    },
    /// The place asked for has been used, or lies outside the lane.
    #[error("that place of the lane has been used, or lies outside it")]
    PlaceUsed,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a table has no marks to compare.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MarksRefusal {
    /// No such table is shared with that peer.
    #[error("no such table is shared with this peer")]
    UnknownTable,
    /// The hub waits for the receipt of the table's module.
    #[error("the table waits for its module's receipt")]
    Pending,
    /// The table is not in use.
    #[error("table is {state}")]
    NotActive {
        /// Its state, with the reason.
        state: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a key was not handed out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TakeError {
    /// This node never had such a key.
    #[error("key {0} is unknown")]
    Unknown(KeyId),
    /// It was handed out before; that happens once.
    #[error("key {0} has been taken")]
    AlreadyTaken(KeyId),
    /// Its agreement failed.
    #[error("the agreement of key {id} was aborted: {reason}")]
    Aborted {
        /// The key.
        id: KeyId,
        /// Why.
        reason: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why runs of keys that were asked for together were not handed out. None of them was taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct TakeRefusal {
    /// The block in which it lies; `None` where it lies in none of them.
    pub block: Option<BlockId>,
    /// Why.
    pub error: TakeError,
}
