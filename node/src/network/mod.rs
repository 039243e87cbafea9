//! The libp2p side of a node: one task owns the swarm; others send it [`Command`]s and get [`NetEvent`]s.

mod acquaintances;
mod addresses;
mod behaviour;
mod directory;
mod exchanges;
mod gate;
mod guard;
mod limits;
mod messages;
mod outbound;
pub(crate) mod ports;
mod rate;
mod task;
mod versions;
pub(crate) mod wire;

use dske_protocol::{
    codec::Blob,
    effect::Ticket,
    hub::RequestId,
    identity::InquiryId,
    ids::{BlockId, NodeId, TableId},
    message::Notice,
    refusal::Refusal,
    sync::{Connection, HelloBack, SyncHello},
};
use libp2p::Multiaddr;
use tokio::sync::{mpsc, oneshot};

use crate::config::Role;

pub(crate) use directory::Directory;
pub(crate) use gate::Dropped;
pub(crate) use task::{NetworkConfigError, NetworkTask, Setup};
pub(crate) use versions::{Foreign, Foreigners};
pub(crate) use wire::LinkMessage;

/// What a sealed question to a hub is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// Who somebody is.
    Inquiry(InquiryId),
    /// What this client lets others burn.
    Limits,
}

/// What the actors ask of the network.
#[derive(Debug)]
pub(crate) enum Command {
    /// A sealed key request, for a hub.
    Share { hub: NodeId, block: BlockId, bytes: Vec<u8> },
    /// A sealed key instruction, for a receiver. The ticket comes back with the answer.
    Instruction { receiver: NodeId, ticket: Ticket, bytes: Vec<u8> },
    /// A sealed identity request, or sealed limits, for a hub.
    Identity { hub: NodeId, about: Question, bytes: Vec<u8> },
    /// Ask a hub for its active tables.
    Hello { hub: NodeId },
    /// Begin to compare the marks of a table with a hub.
    SyncHello { hub: NodeId, hello: SyncHello },
    /// A sealed mark, for the other end of a table.
    Mark { peer: NodeId, table: TableId, bytes: Vec<u8> },
    /// Tell a sender how an agreement ended.
    Notice { sender: NodeId, notice: Notice },
    /// A message for another client, directly or, where `via` is given, through that hub.
    Link { to: NodeId, via: Option<NodeId>, message: LinkMessage },
    /// Answer a batch that came in.
    AnswerBatch { id: RequestId, results: Vec<Result<(), Refusal>> },
    /// Answer an identity request or limits that came in.
    AnswerIdentity { id: RequestId, to: NodeId, result: Result<Blob, Refusal> },
    /// Answer a hello that came in.
    AnswerHello { id: RequestId, active: Vec<TableId> },
    /// Answer a hello about a table that came in.
    AnswerSyncHello { id: RequestId, result: Result<HelloBack, Refusal> },
    /// Answer a mark that came in with one of ours.
    AnswerMark { id: RequestId, to: NodeId, result: Result<Blob, Refusal> },
    /// Answer notices or a message of another client. `forged`: it came from that client's own connection, and its tag
    /// was wrong.
    AnswerLink { id: RequestId, forged: bool },
    /// Call a node if it is not connected. With `is_hub` also where it has called us and has not shown that it holds a
    /// table: whoever did may be another.
    Dial { node: NodeId, addresses: Vec<Multiaddr>, is_hub: bool },
    /// Client: a mark with which a hub answered one of ours had a right tag.
    Proved { table: TableId },
    /// A part of this node, its hub or its client, has, or has no more, to do with a peer: it is not a stranger.
    Acquaint { node: NodeId, by: Role, known: bool },
    /// Say that the task still works.
    Ping(oneshot::Sender<()>),
}

/// What the network tells a hub.
#[derive(Debug)]
pub(crate) enum HubEvent {
    /// Key requests came in.
    Shares { id: RequestId, from: NodeId, messages: Vec<Blob> },
    /// An identity request came in, or limits that a receiver sets.
    Identity { id: RequestId, from: NodeId, message: Blob },
    /// Somebody asks for its active tables.
    Hello { id: RequestId, from: NodeId },
    /// A client wants to compare the marks of a table.
    SyncHello { id: RequestId, from: NodeId, over: Connection, hello: SyncHello },
    /// A client's mark came in.
    Mark { id: RequestId, from: NodeId, message: Blob },
    /// A client answered a mark of ours; `None`: it could not be reached, or refused.
    MarkAnswer { peer: NodeId, table: TableId, bytes: Option<Vec<u8>> },
    /// A receiver answered an instruction; `None`: it could not be delivered.
    InstructionAnswer { receiver: NodeId, ticket: Ticket, answer: Option<Result<(), Refusal>> },
    /// A connection came or went.
    Connection { peer: NodeId, up: bool },
    /// A known peer said which versions it speaks; none in common, where there is a word about that.
    Versions { peer: NodeId, foreign: Option<Foreign> },
}

/// What the network tells a client.
#[derive(Debug)]
pub(crate) enum ClientEvent {
    /// Key instructions came in.
    Instructions { id: RequestId, from: NodeId, messages: Vec<Blob> },
    /// Notices came in.
    Notices { id: RequestId, from: NodeId, notices: Vec<Notice> },
    /// A message of another client, or of one that a hub (`via`) says it is of.
    Link { id: RequestId, from: NodeId, via: Option<NodeId>, message: LinkMessage },
    /// A hub answered a key request; `None`: it could not be reached.
    ShareAnswer { hub: NodeId, block: BlockId, answer: Option<Result<(), Refusal>> },
    /// A hub answered an identity request, or limits.
    IdentityAnswer { hub: NodeId, about: Question, bytes: Option<Vec<u8>> },
    /// A hub answered a hello about a table; `None`: it could not be reached.
    SyncHelloAnswer { hub: NodeId, table: TableId, answer: Option<Result<HelloBack, Refusal>> },
    /// A hub's mark came in.
    Mark { id: RequestId, from: NodeId, message: Blob },
    /// A hub answered a mark of ours; `None`: it could not be reached, or refused.
    MarkAnswer { peer: NodeId, table: TableId, bytes: Option<Vec<u8>> },
    /// A hub told which tables it has active with us; `None`: it could not be reached.
    HelloAnswer { hub: NodeId, active: Option<Vec<TableId>> },
    /// A connection came or went; `called`: it came because we called.
    Connection { peer: NodeId, up: bool, called: bool },
    /// A known peer said which versions it speaks; none in common, where there is a word about that.
    Versions { peer: NodeId, foreign: Option<Foreign> },
}

/// Sends commands to the network task. Unbounded on purpose: what stands in it is bounded by what the
/// actors have under way, and an actor that waited here could wait for itself.
pub(crate) type Commands = mpsc::UnboundedSender<Command>;
