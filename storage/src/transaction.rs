//! What a caller wants to happen together: durable as a whole or not at all.

use dske_protocol::{
    effect::SyncRecord,
    ids::{BlockId, NodeId, PadRange, TableId},
    limits::LimitsRecord,
    pad::PadBytes,
};
use serde::{Deserialize, Serialize};

use crate::{
    records::{
        BlockRecord, BudgetRecord, ClientRecord, ClockRecord, ExclusionRecord, HubRecord, IdentityRecord,
        ModuleRecord, StreamRecord,
    },
    secret::SecretBytes,
    status::{TableSide, Use},
};

/// Names one message in the outbox. Never used twice, also after a restart; in order of age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OutboxId(pub u64);

/// A run that a message of a peer names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldWant {
    /// The author of the message; the table must be shared with it.
    pub peer: NodeId,
    /// The run.
    pub range: PadRange,
    /// Whether the message is a mark, which alone may use a table before its marks are compared.
    pub for_sync: bool,
}

/// A pad that is wanted out of a lane that this node allocates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// With whom the table is shared.
    pub peer: NodeId,
    /// Which end of it this node is: two nodes may be hub and client for each other, in different tables.
    pub side: TableSide,
    /// Length of the run.
    pub bytes: u64,
    /// What it will be burned for.
    pub usage: Use,
}

/// A pad that was handed out; its run is used from now on.
#[derive(Debug)]
pub struct Minted {
    /// With whom the table is shared.
    pub peer: NodeId,
    /// The run.
    pub range: PadRange,
    /// Its bytes.
    pub pad: PadBytes,
}

/// A message that waits for its receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxItem {
    /// From [`crate::Store::next_outbox_id`].
    pub id: OutboxId,
    /// Who is to get it.
    pub receiver: NodeId,
    /// Whose key it is for.
    pub sender: NodeId,
    /// The agreement that it belongs to.
    pub block: BlockId,
    /// The table whose pad is burned for it.
    pub table: TableId,
    /// When it was put there, on the node's own clock of age ([`ClockRecord::age_ms`]).
    pub at_ms: u64,
    /// The whole message, already encrypted and tagged.
    pub bytes: Vec<u8>,
}

/// What the index of the outbox tells about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxEntry {
    /// Its id.
    pub id: OutboxId,
    /// Who is to get it.
    pub receiver: NodeId,
    /// Whose key it is for.
    pub sender: NodeId,
    /// The agreement that it belongs to.
    pub block: BlockId,
    /// The table whose pad is burned for it.
    pub table: TableId,
    /// When it was put there, on the node's own clock of age ([`ClockRecord::age_ms`]).
    pub at_ms: u64,
    /// Length of the message.
    pub bytes: u64,
}

/// A block, with its keys where the agreement succeeded.
#[derive(Debug)]
pub struct NewBlock {
    /// Its record. `Ready` goes with keys, `Aborted` without.
    pub record: BlockRecord,
    /// The keys one after another, each of `record.key_bytes`.
    pub key: Option<SecretBytes>,
}

/// Changes that become durable together.
#[derive(Debug, Default)]
pub struct Transaction {
    /// Held runs that become used for ever, then are erased.
    pub claims: Vec<(PadRange, Use)>,
    /// Messages to keep until they are delivered.
    pub outbox: Vec<OutboxItem>,
    /// Messages that arrived: removed and erased. Unknown ids are fine.
    pub delivered: Vec<OutboxId>,
    /// Agreements that ended. An id that exists fails the transaction.
    pub block: Vec<NewBlock>,
    /// Blocks whose keys that wait are given up, and why. Blocks of which none waits are fine.
    pub give_up: Vec<(BlockId, String)>,
    /// Blocks of which no key waits, and whose records are not kept any longer. Others are fine, and stay.
    pub forget: Vec<BlockId>,
    /// Clients to put.
    pub clients: Vec<ClientRecord>,
    /// Hubs to put.
    pub hubs: Vec<HubRecord>,
    /// Identities to put.
    pub identities: Vec<IdentityRecord>,
    /// Hubs to exclude.
    pub exclusions: Vec<ExclusionRecord>,
    /// Modules to put.
    pub modules: Vec<ModuleRecord>,
    /// Hubs whose exclusion ends.
    pub readmit: Vec<NodeId>,
    /// Pending tables that become active.
    pub activate: Vec<TableId>,
    /// Tables that are taken out of use for good; messages under them go too. Those that are already are fine.
    pub retire: Vec<TableId>,
    /// What comparing marks has brought to light.
    pub sync: Option<SyncRecord>,
    /// What accounts have spent.
    pub budgets: Vec<BudgetRecord>,
    /// Accounts that are full again: their records are removed.
    pub budgets_full: Vec<dske_protocol::quota::Account>,
    /// Limits of receivers at hubs to put.
    pub limits: Vec<LimitsRecord>,
    /// Streams to put.
    pub streams: Vec<StreamRecord>,
    /// Streams that are not kept filled any more, by [`StreamRecord::id`].
    pub streams_closed: Vec<Vec<u8>>,
    /// The node's own clocks.
    pub clock: Option<ClockRecord>,
}
