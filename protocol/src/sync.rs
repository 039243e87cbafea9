//! The guard against rollback: before a table is used on a connection, its two ends compare how far its lanes
//! have come, and no message leaves before the peer has its run on record.
//!
//! A node whose directory was put back to an earlier state would hand out pad bytes a second time. It cannot
//! see that by itself; its peer can. So each end tells the other the *mark* of the lane that it allocates, the
//! other records it durably and says so under a tag. What the peer has on record is the **lease** of the lane,
//! and a message is sent only if its run lies below the lease. An allocator that was put back therefore finds, at
//! the next comparison, a record at or beyond everything that it ever sent, whether it arrived or not, and goes on
//! from there.
//!
//! One comparison: the client says hello with a fresh nonce, the hub answers with its own (both untagged); then
//! each sends a tagged [`Mark`] with both nonces. The client spends its tag key first, at the place that the hub names or
//! after it; the hub spends one only after a right tag, so a lying hello costs it nothing. Tag keys of marks stand in
//! a part of the lane of their own ([`keys_from`]), so that whatever a hello says costs the client 32 bytes of that
//! part, and moves nothing that covers messages. Later either end announces a mark that has moved, with the same exchange.
//!
//! Must never: let a message pass beyond the lease, nor the lease beyond our own durable mark; believe an untagged
//! mark; tell a mark before it is durable; tell to have recorded what is not.

mod desk;
mod keys;
mod pace;
mod restores;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    effect::{PadEffect, PadOutcome, Ticket},
    hub::RequestId,
    ids::{Lane, NodeId, PadRange, TableId},
    message::{ClientMark, HubMark, Mark, Nonce, Tagged},
    refusal::Refusal,
};

pub use desk::SyncDesk;
pub use keys::{key_place, keys_from};
pub use pace::Pace;
pub use restores::{Restores, Said};

/// A table is greeted at most this often over one connection: a hello costs a hub little, but not nothing.
pub const HELLO_PAUSE: Duration = Duration::from_millis(50);

/// Comparisons of one table that have begun at a hub, each over a connection of its own, and wait for a mark. More than a
/// peer has connections: whoever has stolen its transport key says hello beside it, and not in its place.
pub const GREETINGS_MAX: usize = 16;

/// A connection with a peer, as the node numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection(pub u64);

/// Marks of peers in work at once; each holds one short message.
pub const MARKS_MAX: usize = 256;

/// The untagged word of a client with which a comparison begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncHello {
    /// The table.
    pub table: TableId,
    /// The client's fresh nonce.
    pub nonce: Nonce,
}

/// The hub's answer to a [`SyncHello`], untagged too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloBack {
    /// The table.
    pub table: TableId,
    /// The hub's fresh nonce.
    pub nonce: Nonce,
    /// Where the client should look for a place for its tag key: below, the hub says, all of them are used.
    pub keys: u64,
}

/// Which end of its tables a desk works for.
pub trait SyncSide: std::fmt::Debug {
    /// The lane that this end allocates.
    const OWN: Lane;
    /// Marks of this end.
    type Own: Tagged + From<Mark>;
    /// Marks of the other end.
    type Peer: Tagged + Into<Mark> + Copy + std::fmt::Debug;
}

/// The client's end: it begins every comparison.
#[derive(Debug)]
pub enum ClientEnd {}

/// The hub's end.
#[derive(Debug)]
pub enum HubEnd {}

impl SyncSide for ClientEnd {
    const OWN: Lane = Lane::Up;
    type Own = ClientMark;
    type Peer = HubMark;
}

impl SyncSide for HubEnd {
    const OWN: Lane = Lane::Down;
    type Own = HubMark;
    type Peer = ClientMark;
}

impl From<Mark> for ClientMark {
    fn from(mark: Mark) -> Self {
        Self(mark)
    }
}

impl From<Mark> for HubMark {
    fn from(mark: Mark) -> Self {
        Self(mark)
    }
}

impl From<ClientMark> for Mark {
    fn from(mark: ClientMark) -> Self {
        mark.0
    }
}

impl From<HubMark> for Mark {
    fn from(mark: HubMark) -> Self {
        mark.0
    }
}

/// What happens to a desk.
#[derive(Debug)]
pub enum SyncInput {
    /// Client: compare the marks of a table with its hub, which is connected.
    Begin {
        /// The hub.
        peer: NodeId,
        /// The table.
        table: TableId,
    },
    /// Client: a hub answered a hello, or could not be reached (`None`).
    HelloAnswer {
        /// The hub.
        peer: NodeId,
        /// The table that the hello was about.
        table: TableId,
        /// Its answer.
        answer: Option<Result<HelloBack, Refusal>>,
    },
    /// Hub: a client said hello.
    Hello {
        /// For the answer.
        id: RequestId,
        /// The peer on whose connection it came.
        from: NodeId,
        /// That connection.
        over: Connection,
        /// What it said.
        hello: SyncHello,
    },
    /// The peer sent a sealed mark.
    Mark {
        /// For the answer.
        id: RequestId,
        /// The peer on whose connection it came.
        from: NodeId,
        /// The sealed mark.
        bytes: Vec<u8>,
    },
    /// The peer answered a mark of ours with one of its own, or did not (`None`).
    MarkAnswer {
        /// The peer.
        peer: NodeId,
        /// The table that ours was about.
        table: TableId,
        /// Its sealed mark.
        bytes: Option<Vec<u8>>,
    },
    /// A message is ready to be sent. Answer: [`SyncEffect::Pass`] or [`SyncEffect::Drop`] with this ticket.
    Outgoing {
        /// Chosen by the caller.
        ticket: Ticket,
        /// To whom.
        peer: NodeId,
        /// The run that it consumes.
        range: PadRange,
    },
    /// A connection is gone.
    Disconnected(NodeId),
    /// A table is not used any more: the peer does not, or it was retired here. Where the peer takes it up again its marks
    /// are compared anew.
    Left(TableId),
    /// The pads answered.
    Pad(PadOutcome),
}

/// What a desk wants done.
#[derive(Debug)]
pub enum SyncEffect {
    /// Something with pads or records.
    Pad(PadEffect),
    /// Say hello to a hub; answer with [`SyncInput::HelloAnswer`].
    Hello {
        /// The hub.
        peer: NodeId,
        /// What to say.
        hello: SyncHello,
    },
    /// The answer to a hello.
    AnswerHello {
        /// The request.
        id: RequestId,
        /// Our hello, or why there is none.
        result: Result<HelloBack, Refusal>,
    },
    /// Send a sealed mark; answer with [`SyncInput::MarkAnswer`].
    Mark {
        /// To whom.
        peer: NodeId,
        /// The table that it is about.
        table: TableId,
        /// The message.
        bytes: Vec<u8>,
    },
    /// The answer to a mark: one of ours.
    AnswerMark {
        /// The request.
        id: RequestId,
        /// Our sealed mark, or why there is none.
        result: Result<Vec<u8>, Refusal>,
    },
    /// The message may be sent: the peer has its run on record.
    Pass(Ticket),
    /// The message cannot be sent now.
    Drop(Ticket),
    /// The marks of a table have been compared; it is open.
    Synced {
        /// With whom.
        peer: NodeId,
        /// The table.
        table: TableId,
        /// What the comparison has brought to light.
        found: Found,
    },
    /// Client: the comparison failed or has lapsed; begin again when the hub can be reached.
    Lapsed {
        /// With whom.
        peer: NodeId,
        /// The table.
        table: TableId,
    },
}

/// What a comparison has brought to light.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// Bytes of the lane that we allocate that were given up, because the peer has seen more of it than we have
    /// on record: our directory was put back.
    pub skipped: u64,
    /// Whether the peer has been told more of us, or has more tag keys of ours on record, than we have on record
    /// ourselves, or more of our lane: our directory was put back. All that it had sent so far is void.
    pub put_back: bool,
    /// Whether the peer's records are older than what it told us before: its directory was put back.
    pub peer_put_back: bool,
    /// Whether our records of the table disagreed with each other, which the peer's have settled: all that either end
    /// had sent so far, and every key that waited when that began, is void.
    pub settled: bool,
}

impl Found {
    /// Whether there is something that an operator must be told.
    pub fn is_notable(&self) -> bool {
        *self != Self::default()
    }
}

/// What a desk has seen since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncCounters {
    /// Marks with a wrong tag.
    pub forged: u64,
    /// Marks that could not be decoded, or named places outside their lanes.
    pub malformed: u64,
    /// Marks of another connection, or before a hello.
    pub stale: u64,
}
