//! What goes into a sender and what comes out of it.

use crate::{
    effect::{PadEffect, PadOutcome, SecretKey},
    hub::RequestId,
    ids::{BlockId, NodeId},
    message::{Agreement, Notice},
    refusal::{Refusal, SendFailure},
    saying::Ways,
};

use super::{KeyWish, RoundWish};

/// What happens to a sender.
#[derive(Debug)]
pub enum SenderInput {
    /// Somebody wants a key.
    Start {
        /// For the outcome.
        id: RequestId,
        /// What is wanted.
        wish: KeyWish,
    },
    /// Another block is wanted under a session (§3).
    Round {
        /// For the outcome.
        id: RequestId,
        /// What is wanted.
        wish: RoundWish,
    },
    /// A receiver offers the shares of a round that it has.
    Offer {
        /// The peer that is said to have sent it.
        from: NodeId,
        /// The sealed message.
        bytes: Vec<u8>,
    },
    /// A receiver says that it has the key of a round.
    Confirmation {
        /// The peer that is said to have sent it.
        from: NodeId,
        /// The sealed message.
        bytes: Vec<u8>,
    },
    /// A hub passes on that a receiver does not know a session any more.
    SessionLost {
        /// The client that is said to say so.
        from: NodeId,
        /// The hub.
        via: NodeId,
        /// The session.
        session: BlockId,
    },
    /// A hub answered, or could not be reached (`None`).
    HubAnswer {
        /// The agreement.
        block: BlockId,
        /// The hub.
        hub: NodeId,
        /// Its answer.
        answer: Option<Result<(), Refusal>>,
    },
    /// A receiver told how it ended.
    Notice {
        /// The client that is said to say so.
        from: NodeId,
        /// The node that passed it on; `None` where it came over a direct link to that client.
        via: Option<NodeId>,
        /// What it said.
        notice: Notice,
    },
    /// The direct link to a receiver is gone: no notice will come from it soon.
    Unlinked(NodeId),
    /// The pads answered.
    Pad(PadOutcome),
    /// A deadline may have passed.
    Tick,
}

/// What a sender wants done.
#[derive(Debug)]
pub enum SenderEffect {
    /// Something with pads or records.
    Pad(PadEffect),
    /// Send a sealed key request to a hub.
    Send {
        /// The agreement, for the answer.
        block: BlockId,
        /// The hub.
        hub: NodeId,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Send a receiver the choice among the shares of a round.
    Choose {
        /// The round's agreement.
        block: BlockId,
        /// The receiver.
        to: NodeId,
        /// By which ways.
        ways: Ways,
        /// The sealed message.
        bytes: Vec<u8>,
    },
    /// An agreement has begun.
    Began {
        /// The request.
        id: RequestId,
        /// Its parameters.
        agreement: Agreement,
    },
    /// It has ended.
    Ended {
        /// The request.
        id: RequestId,
        /// The agreement, where it came to one.
        block: Option<BlockId>,
        /// The key, or why there is none.
        result: Result<AgreedKey, SendFailure>,
    },
}

/// A key on the sender's side; its record is durable, and says that it has been handed out or is kept.
#[derive(Debug)]
pub struct AgreedKey {
    /// The parameters.
    pub agreement: Agreement,
    /// The key; `None` where it is kept, or negotiates rounds.
    pub key: Option<SecretKey>,
    /// Hubs that a message went to, and pad was burned for.
    pub asked: u8,
    /// Shares known to be on their way or to have arrived.
    pub shares: u8,
    /// Receivers that said that they validated it.
    pub confirmed: Vec<NodeId>,
    /// Hubs that a receiver says lied.
    pub liars: Vec<NodeId>,
}
