//! The seam between the state machines and the pads: what a machine asks for, and what comes back.
//!
//! A machine gives each request a [`Ticket`]; the answer carries the same one. The machine holds the
//! order of checks; whoever executes the effects holds the pads.

use crate::{
    ids::{BlockId, NodeId, PadRange, TableId},
    message::{Agreement, Identity},
    pad::PadBytes,
    quota::Lease,
    refusal::{AbortReason, Refusal},
};
use zeroize::Zeroizing;

/// Names one pending request of one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What pad is burned for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// A share of an agreement.
    Key,
    /// An identity request or claim.
    Identity,
}

/// A wish for a fresh run of the lane that we allocate towards a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// The peer.
    pub peer: NodeId,
    /// Bytes wanted.
    pub bytes: u64,
    /// What for.
    pub usage: Usage,
}

/// A fresh run, durably spent.
#[derive(Debug)]
pub struct Minted {
    /// Where it lies.
    pub range: PadRange,
    /// Its bytes.
    pub pad: PadBytes,
}

/// Why there is no fresh run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MintRefusal {
    /// Too little is left.
    Low {
        /// With whom.
        peer: NodeId,
        /// Bytes left.
        left: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// There is no active table with this peer.
    NoTable {
        /// With whom.
        peer: NodeId,
    },
    /// The store failed.
    Internal,
}

/// What a machine asks of the pads and the ledger.
#[derive(Debug)]
pub enum PadEffect {
    /// Hold a run of a lane that the peer allocates, exclusively, and read it. Answer: [`PadOutcome::Held`].
    Hold {
        /// For the answer.
        ticket: Ticket,
        /// The peer that sent the message; the table must be shared with it.
        from: NodeId,
        /// The run.
        range: PadRange,
        /// The block that the message belongs to, if any: the answer tells whether it has ended before.
        block: Option<BlockId>,
    },
    /// Give a held run back unburned.
    Release {
        /// The run.
        range: PadRange,
        /// Blocks under the tag, where the reason is a wrong tag.
        forged_blocks: Option<u64>,
    },
    /// Take fresh runs, all or none. Answer: [`PadOutcome::Minted`].
    Mint {
        /// For the answer.
        ticket: Ticket,
        /// What is wanted.
        wants: Vec<Want>,
    },
    /// Record durably, all or nothing. Answer: [`PadOutcome::Committed`].
    Commit {
        /// For the answer.
        ticket: Ticket,
        /// What to record.
        record: Box<Record>,
    },
}

/// What is recorded in one step.
#[derive(Debug, Default)]
pub struct Record {
    /// Held runs that are used now, for ever.
    pub claims: Vec<(PadRange, Usage)>,
    /// Messages to keep until they are delivered.
    pub outgoing: Vec<Outgoing>,
    /// An agreement that has ended.
    pub block: Option<EndedBlock>,
    /// An identity that is established.
    pub identity: Option<EstablishedIdentity>,
    /// Hubs that are not used any more, with the reason.
    pub exclusions: Vec<(NodeId, String)>,
    /// What accounts have spent, recorded ahead.
    pub leases: Vec<Lease>,
}

/// A message for a receiver that may be offline.
#[derive(Debug)]
pub struct Outgoing {
    /// For whom.
    pub receiver: NodeId,
    /// The agreement that it belongs to.
    pub block: BlockId,
    /// The table whose pad is burned for it.
    pub table: TableId,
    /// The sealed message.
    pub bytes: Vec<u8>,
}

/// How an agreement ended on this side.
#[derive(Debug)]
pub struct EndedBlock {
    /// Its parameters.
    pub agreement: Agreement,
    /// Whether we were its sender.
    pub sent: bool,
    /// The key, or why there is none.
    pub result: Result<BlockKey, AbortReason>,
}

/// A key to be recorded.
#[derive(Debug)]
pub enum BlockKey {
    /// To be kept until it is taken.
    Keep(SecretKey),
    /// Handed out as soon as the record is durable: only the record is kept.
    Taken,
}

/// An agreed key. Erased on drop, not printed, not cloned by accident.
pub struct SecretKey(pub Zeroizing<Vec<u8>>);

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey({} bytes)", self.0.len())
    }
}

/// An identity on which enough hubs agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EstablishedIdentity {
    /// Who it is.
    pub identity: Identity,
    /// The hubs that claimed it, each with the identifier by which it knows the client.
    pub known_as: Vec<(NodeId, u64)>,
}

/// What comes back from the pads and the ledger.
#[derive(Debug)]
pub enum PadOutcome {
    /// To [`PadEffect::Hold`].
    Held {
        /// Of the request.
        ticket: Ticket,
        /// The bytes, or why not.
        result: Result<PadBytes, Refusal>,
        /// Whether the named block had ended before.
        block_ended: bool,
    },
    /// To [`PadEffect::Mint`].
    Minted {
        /// Of the request.
        ticket: Ticket,
        /// The runs in the order of the wishes, or why not.
        result: Result<Vec<Minted>, MintRefusal>,
    },
    /// To [`PadEffect::Commit`].
    Committed {
        /// Of the request.
        ticket: Ticket,
        /// Whether all of it is durable.
        ok: bool,
    },
}
