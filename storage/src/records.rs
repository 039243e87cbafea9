//! The records that the ledger keeps for the node. All are public facts: none may ever hold a pad or key.
//!
//! Times are milliseconds since the epoch, given by the caller. A record is at most 4 KiB when encoded
//! ([`crate::StoreError::RecordTooLarge`]).

use dske_protocol::{
    enrolment::Signature,
    ids::{BlockId, Name, NodeId, TableId},
    quota::{Account, Quota},
};
use serde::{Deserialize, Serialize};

use crate::{codec::encode, error::StoreError};

/// A client that this hub serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRecord {
    /// Its node id.
    pub node: NodeId,
    /// What people call it.
    pub name: Name,
    /// Identifier by which this hub knows it (§2.2).
    pub local_id: u64,
    /// Its own signature over id, name and applications, from its enrolment request.
    pub signature: Signature,
    /// Applications on whose behalf it may speak.
    pub applications: Vec<String>,
    /// Whether the hub serves it.
    pub enabled: bool,
    /// When it was enrolled.
    pub enrolled_ms: u64,
}

/// A hub that this client uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubRecord {
    /// Its node id.
    pub node: NodeId,
    /// What it called itself in the first module that came from it; it keeps that name here.
    pub name: Name,
    /// Multiaddresses where it may be reached.
    pub addresses: Vec<String>,
    /// When this client first learned of it.
    pub since_ms: u64,
}

/// A client whose identity enough hubs have claimed alike (§2.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityRecord {
    /// Its node id.
    pub node: NodeId,
    /// Its accepted name.
    pub name: Name,
    /// Its accepted applications.
    pub applications: Vec<String>,
    /// By which identifier each hub knows it.
    pub known_as: Vec<(NodeId, u64)>,
    /// When it was accepted.
    pub established_ms: u64,
}

/// A hub that this node no longer uses until an operator re-admits it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExclusionRecord {
    /// The hub.
    pub hub: NodeId,
    /// What it did.
    pub reason: String,
    /// When.
    pub at_ms: u64,
}

/// How far a module has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModuleState {
    /// Made by this hub, not yet acknowledged.
    Made,
    /// Imported by this client.
    Imported,
    /// The hub has the client's receipt.
    Acknowledged,
    /// Out of use.
    Retired,
    /// Too many wrong receipts were given: it can only be retired.
    Locked,
}

/// A module (PSKM) that was made or imported here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleRecord {
    /// Serial such as `p1-0007`: the hub's name and a count.
    pub serial: String,
    /// The table in it.
    pub table: TableId,
    /// The hub.
    pub hub: NodeId,
    /// The hub's name.
    pub hub_name: Name,
    /// The client.
    pub client: NodeId,
    /// The client's name.
    pub client_name: Name,
    /// Pad bytes of both lanes.
    pub bytes: u64,
    /// How far it has come.
    pub state: ModuleState,
    /// When the hub made it.
    pub made_ms: u64,
    /// When its state last changed here.
    pub changed_ms: u64,
}

/// What an account of a quota has spent, as the moment at which it is full again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetRecord {
    /// The account.
    pub account: Account,
    /// That moment, on the node's own running clock ([`ClockRecord::running_ms`]).
    pub full_at_ms: u64,
    /// The quota under which it is full then; at a start another may be in force.
    pub quota: Quota,
}

/// The node's own clocks, which no change of the calendar can turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockRecord {
    /// How long the node has run in all, less what a crash lost.
    pub running_ms: u64,
    /// The same, with a bounded part of each time in between: by which the age of messages is counted.
    pub age_ms: u64,
    /// The calendar when this was written, in milliseconds since the epoch.
    pub wall_ms: u64,
}

/// Which end of an agreement this node was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// It chose the key.
    Sender,
    /// It received the shares.
    Receiver,
}

/// What became of an agreement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockState {
    /// Keys wait to be taken.
    Ready,
    /// Every key has been taken.
    Taken,
    /// No key came of it.
    Aborted {
        /// Why.
        reason: String,
    },
}

/// One agreement at this client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRecord {
    /// Its id.
    pub block: BlockId,
    /// Which end this node was.
    pub side: Side,
    /// The sender.
    pub sender: NodeId,
    /// The receivers.
    pub receivers: Vec<NodeId>,
    /// What the key is for.
    pub purpose: String,
    /// Bytes of each key of the block.
    pub key_bytes: u32,
    /// Hubs in the roster.
    pub n: u8,
    /// Shares needed.
    pub k: u8,
    /// What became of it.
    pub state: BlockState,
    /// When.
    pub at_ms: u64,
    /// The same on the node's own clock of age ([`ClockRecord::age_ms`]).
    pub aged_ms: u64,
    /// Whether its shares were those of a round, which nothing can begin anew once its session is over.
    pub round: bool,
}

/// A stream of keys that this node, as the sender, agrees ahead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// The receivers, sorted.
    pub receivers: Vec<NodeId>,
    /// What the keys are for.
    pub purpose: String,
    /// Bytes of each key.
    pub key_bytes: u32,
    /// With fewer keys than this in the pool, more are agreed.
    pub low: u32,
    /// Until there are so many.
    pub high: u32,
}

impl StreamRecord {
    /// What tells it from other streams: receivers, purpose and length of the keys.
    ///
    /// # Errors
    /// Never for a stream within the limits of an agreement.
    pub fn id(&self) -> Result<Vec<u8>, StoreError> {
        encode("stream", &(&self.receivers, &self.purpose, self.key_bytes))
    }

    /// Whether these tell it from others; receivers in order.
    pub fn is_of(&self, receivers: &[NodeId], purpose: &str, key_bytes: u32) -> bool {
        self.receivers == receivers && self.purpose == purpose && self.key_bytes == key_bytes
    }
}
