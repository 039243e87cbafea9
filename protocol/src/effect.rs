//! The seam between the state machines and the pads: what a machine asks for, and what comes back.
//!
//! A machine gives each request a [`Ticket`]; the answer carries the same one. The machine holds the
//! order of checks; whoever executes the effects holds the pads.

use crate::{
    ids::{BlockId, Lane, NodeId, PadRange, TableId},
    limits::LimitsRecord,
    message::{Agreement, Identity},
    pad::PadBytes,
    quota::Spending,
    refusal::{AbortReason, Refusal},
    wiped::Wiped,
};

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
    /// Comparing marks.
    Sync,
}

/// A wish for a fresh run of a lane that we allocate towards a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// The peer.
    pub peer: NodeId,
    /// Which lane: up where the peer is to be our hub, down where it is to be our client. It may be both, in
    /// different tables.
    pub lane: Lane,
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
    /// There is no active table with this peer in which we allocate the lane that was asked for.
    NoTable {
        /// With whom.
        peer: NodeId,
    },
    /// Marks have not been compared with this peer since the start: nothing may be taken yet.
    NotSynced {
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
        /// Whether it is a message of [`crate::sync`], which alone may use a table that is not open yet.
        for_sync: bool,
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
    /// How far the lanes of a table have come. Answer: [`PadOutcome::Marks`].
    Marks {
        /// For the answer.
        ticket: Ticket,
        /// With whom the table must be shared.
        peer: NodeId,
        /// The lane that we must allocate in it: up as the client, down as the hub.
        own: Lane,
        /// The table.
        table: TableId,
        /// Reserve ahead first, so that the mark covers what will be handed out next.
        reserve: bool,
    },
    /// Take the tag key of a mark, out of the part of our lane that is kept for them ([`crate::sync::keys_from`]): the
    /// first place that is free and does not begin before `at`. Answer: [`PadOutcome::Minted`].
    MintSync {
        /// For the answer.
        ticket: Ticket,
        /// The table.
        table: TableId,
        /// No byte before this one. An untagged word may be in it.
        at: u64,
    },
    /// Give up, durably, everything before `to` in the lane that we allocate. Answer: [`PadOutcome::Skipped`].
    Skip {
        /// For the answer.
        ticket: Ticket,
        /// The table.
        table: TableId,
        /// The first byte that may still be used.
        to: u64,
    },
    /// The marks of a table have been compared: from now on it may be used.
    Open(TableId),
    /// The connection is gone: what the peer sends under its tables is refused until they are compared again.
    Close {
        /// The peer.
        peer: NodeId,
        /// Only tables in which we allocate this lane: those of the other side are another desk's.
        own: Lane,
    },
    /// The same for one table, whose comparison has lapsed.
    Shut(TableId),
    /// A table that the peer does not use any more: nothing is taken from it until it is compared again.
    Leave(TableId),
}

/// How far the two lanes of a table have come at this end, as [`crate::sync`] compares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneMarks {
    /// Of the lane that this node allocates, its part for messages: everything that was ever handed out lies below,
    /// durably, and after a start nothing below is handed out.
    pub own: u64,
    /// Of the same lane: nothing below will be handed out any more.
    pub next: u64,
    /// Of the lane that the peer allocates, its part for messages: the furthest byte on record here, used or announced.
    pub seen: u64,
    /// Of the lane that the peer allocates: everything below counts as used here.
    pub used_below: u64,
    /// What the peer has told, under a tag, to have on record of our lane; never less than before, never beyond `own`.
    pub lease: u64,
    /// Of the lane that this node allocates: below this every place for tag keys of marks counts as used.
    pub keys: u64,
    /// The same of the lane that the peer allocates.
    pub keys_seen: u64,
    /// Length of the lane that this node allocates.
    pub own_bytes: u64,
    /// Length of the other lane.
    pub peer_bytes: u64,
    /// When so little is left below the lease, the next mark should be announced.
    pub ahead: u64,
    /// Whether the records of the table disagree with each other: only what the peer has on record can settle it.
    pub unsure: bool,
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
    /// What comparing marks has brought to light.
    pub sync: Option<SyncRecord>,
    /// What accounts have spent, recorded ahead.
    pub spendings: Vec<Spending>,
    /// Limits that a receiver has set.
    pub limits: Option<LimitsRecord>,
}

/// What a verified mark of the peer changes about a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncRecord {
    /// The table.
    pub table: TableId,
    /// The peer's mark of the lane that it allocates.
    pub peer_mark: u64,
    /// What the peer has on record of the lane that we allocate. No more of it counts than we have on record ourselves.
    pub lease: u64,
    /// The peer's places for tag keys of marks that lie below count as used.
    pub peer_keys: u64,
    /// Our own that lie below do, for the peer has them on record.
    pub own_keys: u64,
    /// Everything below this in the peer's lane counts as used: our own record of it was put back.
    pub void_below: Option<u64>,
    /// The peer, a hub, says that our records were put back. So many hubs must say so before keys that wait are void,
    /// because they may have been handed out before ([`crate::sync::Restores`]).
    pub put_back: Option<u8>,
    /// Our records of the table disagreed with each other, and that ends now: keys that waited when it began are void.
    pub settle: bool,
    /// The comparison ends with this record: nothing has to be skipped any more.
    pub compared: bool,
    /// The table waited for the hub's word that its receipt has come back, and this is it.
    pub activate: bool,
}

impl SyncRecord {
    /// One that changes nothing yet.
    pub fn of(table: TableId) -> Self {
        Self {
            table,
            peer_mark: 0,
            lease: 0,
            peer_keys: 0,
            own_keys: 0,
            void_below: None,
            put_back: None,
            settle: false,
            compared: false,
            activate: false,
        }
    }
}

/// A message for a receiver that may be offline.
#[derive(Debug)]
pub struct Outgoing {
    /// For whom.
    pub receiver: NodeId,
    /// Whose key it is for.
    pub sender: NodeId,
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
pub struct SecretKey(pub Wiped);

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
    /// To [`PadEffect::Marks`].
    Marks {
        /// Of the request.
        ticket: Ticket,
        /// The marks, or why there are none.
        result: Result<LaneMarks, Refusal>,
    },
    /// To [`PadEffect::Skip`].
    Skipped {
        /// Of the request.
        ticket: Ticket,
        /// Whether it is durable.
        ok: bool,
    },
}
