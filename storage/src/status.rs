//! What the store tells about its tables: a snapshot that may be shown, compared and serialised.

use std::fmt;

use dske_protocol::{
    ids::{Lane, Name, NodeId, TableId},
    sync::keys_from,
};
use serde::{Deserialize, Serialize};

/// What a run of a lane is burned for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    /// Shares of keys, and all that agreement on keys needs.
    Key,
    /// Identity requests and claims (§2.2).
    Identity,
    /// Comparing lane marks after a connect.
    Sync,
}

/// Whether the marks of a table have been compared with the peer. Not kept over a restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Compared {
    /// Not since the store was opened: nothing may be taken from it, nothing under it is accepted.
    #[default]
    Never,
    /// On an earlier connection: this end is sure of its own lane.
    Before,
    /// On the present connection.
    Now,
}

/// Which end of a table this node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableSide {
    /// This node is the hub, and allocates from the down lane.
    Hub,
    /// This node is the client, and allocates from the up lane.
    Client,
}

impl TableSide {
    /// The lane that this end allocates from.
    pub fn allocates(self) -> Lane {
        match self {
            Self::Hub => Lane::Down,
            Self::Client => Lane::Up,
        }
    }

    /// The end that allocates from a lane.
    pub fn that_allocates(lane: Lane) -> Self {
        match lane {
            Lane::Down => Self::Hub,
            Lane::Up => Self::Client,
        }
    }
}

impl fmt::Display for TableSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Hub => "hub",
            Self::Client => "client",
        })
    }
}

/// Whether a table may be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableState {
    /// Made, and waiting for the client's receipt.
    Pending,
    /// In use.
    Active,
    /// Too many forged messages: its forgery budget is spent.
    Suspended {
        /// What happened.
        reason: String,
    },
    /// Its records disagree by more than a crash can explain.
    Quarantined {
        /// What disagrees and what to do.
        reason: String,
    },
    /// Neither lane has room for another message.
    Spent,
    /// Taken out of use by the operator.
    Retired,
}

impl fmt::Display for TableState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending => f.write_str("pending (waiting for the client's receipt)"),
            Self::Active => f.write_str("active"),
            Self::Suspended { reason } => write!(f, "suspended ({reason})"),
            Self::Quarantined { reason } => write!(f, "quarantined ({reason})"),
            Self::Spent => f.write_str("spent"),
            Self::Retired => f.write_str("retired"),
        }
    }
}

/// Where the bytes of a lane have gone. `bytes` is always the sum of the other figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneStatus {
    /// Which lane.
    pub lane: Lane,
    /// Whether this node allocates from it.
    pub allocator: bool,
    /// Size of the lane.
    pub bytes: u64,
    /// Used for keys.
    pub used_key: u64,
    /// Used for identity.
    pub used_identity: u64,
    /// Used for sync.
    pub used_sync: u64,
    /// Reserved but never handed out: lost to a restart, or passed over.
    pub skipped: u64,
    /// Reserved, in memory, not yet handed out.
    pub reserved: u64,
    /// Not touched yet.
    pub left: u64,
    /// Of what is left and reserved: what messages can still have. The rest is kept for comparing marks.
    pub for_keys: u64,
}

impl LaneStatus {
    /// Bytes that messages could have of a fresh lane.
    pub fn of_keys(&self) -> u64 {
        keys_from(self.bytes)
    }
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableStatus {
    /// Its id.
    pub table: TableId,
    /// Serial of the module that it came in.
    pub serial: String,
    /// With whom it is shared.
    pub peer: NodeId,
    /// What people call that node.
    pub peer_name: Name,
    /// Which end this node is.
    pub side: TableSide,
    /// Whether it may be used.
    pub state: TableState,
    /// Up, then down.
    pub lanes: [LaneStatus; 2],
    /// Sum of the message blocks of failed tags; the table is suspended at 2^64.
    pub forged_blocks: u128,
    /// Whether marks have been compared on the present connection, and it is not quarantined: only then may the peer use it.
    pub open: bool,
    /// Whether its marks may be compared: what a quarantine for damage shut opens no more.
    pub comparable: bool,
}
