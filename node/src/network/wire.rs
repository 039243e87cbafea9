//! What libp2p carries between nodes, and its limits.
//!
//! Everything here is public and unprotected as far as DSKE is concerned: the sealed messages inside carry
//! their own tags. Several messages to one peer travel together, so that a busy node pays for one
//! exchange, and one flush at the other end, instead of many.

use std::{io, sync::Arc};

use dske_protocol::{
    codec::{self, Blob},
    ids::{BlockId, Name, NodeId, TableId},
    message::Notice,
    negotiation::NEGOTIATION_BYTES_MAX,
    params::MESSAGE_BYTES_MAX,
    refusal::Refusal,
    sync::{HelloBack, SyncHello},
};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response};
use serde::{Deserialize, Serialize};

use super::{
    gate::{Gate, points},
    limits::READ_TIMEOUT,
};
use crate::config::Role;

/// The gossip topic of announcements. It bears the version of what they say.
pub(crate) const ANNOUNCE_TOPIC: &str = "dske/announce/2";

/// Messages in one exchange.
pub(crate) const BATCH_MESSAGES_MAX: usize = 64;

/// Longest request: one message of the longest kind, or many short ones.
pub(crate) const REQUEST_BYTES_MAX: usize = MESSAGE_BYTES_MAX + (4 << 10);

/// Longest response: a few bytes per message of a batch, or one identity claim.
pub(crate) const RESPONSE_BYTES_MAX: usize = 64 << 10;

/// Longest announcement.
pub(crate) const ANNOUNCEMENT_BYTES_MAX: usize = 2 << 10;

/// Addresses in an announcement, and bytes of each.
pub(crate) const ADDRESSES_MAX: usize = 8;

/// What one node asks of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Sender to hub: sealed key requests.
    Shares(Vec<Blob>),
    /// Hub to receiver: sealed key instructions.
    Instructions(Vec<Blob>),
    /// Client to hub: a sealed identity request.
    Identity(Blob),
    /// Client to hub: which of our tables are active?
    Hello,
    /// Receiver to sender: how agreements ended.
    Notices(Vec<Notice>),
    /// Client to hub: let us compare the marks of a table.
    SyncHello(SyncHello),
    /// Between the ends of a table: a sealed mark.
    Mark(Blob),
    /// Between two clients: about a round, or how an agreement ended.
    Link(LinkMessage),
    /// Client to hub: pass this on to another client.
    Relay {
        /// For whom.
        to: NodeId,
        /// What is passed on.
        message: LinkMessage,
    },
    /// Hub to client: another client sends this. That it does is the hub's word alone.
    Relayed {
        /// Whose it is said to be.
        from: NodeId,
        /// What was passed on.
        message: LinkMessage,
    },
}

/// What two clients say to each other, directly or through a hub: nothing here is believed without its own tag, and
/// nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LinkMessage {
    /// Receiver to sender: a sealed offer of the shares of a round.
    Offer(Blob),
    /// Sender to receiver: a sealed choice among them.
    Choice(Blob),
    /// Receiver to sender: a sealed word that the key of a round is durable.
    Confirmation(Blob),
    /// Receiver to sender: there is no key of this session here any more. Advice.
    SessionLost(BlockId),
    /// Receiver to sender: how an agreement ended. Advice.
    Notice(Notice),
}

impl LinkMessage {
    fn bytes(&self) -> usize {
        match self {
            Self::Offer(message) | Self::Choice(message) | Self::Confirmation(message) => message.0.len(),
            Self::SessionLost(_) => size_of::<BlockId>(),
            Self::Notice(notice) => codec::encoded_bytes(notice).unwrap_or(usize::MAX),
        }
    }
}

impl Request {
    /// Bytes of messages inside.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Shares(messages) | Self::Instructions(messages) => messages.iter().map(|m| m.0.len()).sum(),
            Self::Identity(message) => message.0.len(),
            Self::Mark(message) => message.0.len(),
            Self::Link(message) | Self::Relay { message, .. } | Self::Relayed { message, .. } => {
                message.bytes()
            }
            Self::Hello => 0,
            Self::SyncHello(_) => size_of::<SyncHello>(),
            Self::Notices(notices) => notices.len() * size_of::<Notice>(),
        }
    }

    /// The sealed messages inside.
    pub(crate) fn sealed(&self) -> impl Iterator<Item = &[u8]> {
        let messages = match self {
            Self::Shares(messages) | Self::Instructions(messages) => messages.as_slice(),
            Self::Identity(message) | Self::Mark(message) => std::slice::from_ref(message),
            Self::Hello
            | Self::Notices(_)
            | Self::SyncHello(_)
            | Self::Link(_)
            | Self::Relay { .. }
            | Self::Relayed { .. } => &[],
        };
        messages.iter().map(|message| message.0.as_slice())
    }

    /// Number of messages inside.
    pub(crate) fn messages(&self) -> usize {
        match self {
            Self::Shares(messages) | Self::Instructions(messages) => messages.len(),
            Self::Notices(notices) => notices.len(),
            Self::Identity(_)
            | Self::Hello
            | Self::SyncHello(_)
            | Self::Mark(_)
            | Self::Link(_)
            | Self::Relay { .. }
            | Self::Relayed { .. } => 1,
        }
    }

    /// Whether there are not too many messages inside.
    pub(crate) fn is_within_limits(&self) -> bool {
        let link_bytes = match self {
            Self::Link(message) | Self::Relay { message, .. } | Self::Relayed { message, .. } => {
                message.bytes()
            }
            _ => 0,
        };
        self.messages() <= BATCH_MESSAGES_MAX && link_bytes <= NEGOTIATION_BYTES_MAX
    }
}

/// What the other answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Response {
    /// To `Shares` and `Instructions`: one result per message, in order.
    Results(Vec<Result<(), Refusal>>),
    /// To `Identity`: a sealed claim.
    Identity(Result<Blob, Refusal>),
    /// To `Hello`: the tables that the hub has active with the asker.
    Hello(Vec<TableId>),
    /// To `Notices`, `Link`, `Relay` and `Relayed`, and to what the node does not serve.
    Done,
    /// To `SyncHello`: the hub's hello.
    SyncHello(Result<HelloBack, Refusal>),
    /// To `Mark`: a sealed mark of the other end.
    Mark(Result<Blob, Refusal>),
}

impl Response {
    /// What the messages that it answers cost their author; see [`points`].
    pub(super) fn points(&self) -> u32 {
        match self {
            Self::Results(results) => results.iter().map(points).sum(),
            Self::Identity(result) => points(&result.as_ref().map(|_| ()).map_err(|refusal| *refusal)),
            Self::Mark(result) => points(&result.as_ref().map(|_| ()).map_err(|refusal| *refusal)),
            Self::SyncHello(result) => points(&result.as_ref().map(|_| ()).map_err(|refusal| *refusal)),
            Self::Hello(_) | Self::Done => 0,
        }
    }
}

/// Gossip: who exists, and where. Never believed where keys depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Announcement {
    /// The author; must be the author of the gossip message.
    pub(crate) node: NodeId,
    /// What it calls itself.
    pub(crate) name: Name,
    /// What it says it is.
    pub(crate) roles: Vec<Role>,
    /// Where it says it can be reached.
    pub(crate) addresses: Vec<String>,
    /// Grows with every change.
    pub(crate) sequence: u64,
}

/// Length-prefixed bincode, bounded, read in steps so that a length that lies allocates little.
#[derive(Debug, Clone)]
pub(crate) struct WireCodec {
    /// Of the connection that this codec serves.
    gate: Arc<Gate>,
}

impl WireCodec {
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        Self { gate }
    }
}

impl request_response::Codec for WireCodec {
    type Protocol = StreamProtocol;
    type Request = Request;
    type Response = Response;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        let bytes = read_length(io).await?;
        let _pass = self.gate.enter(bytes).await?;
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let read = tokio::time::timeout(READ_TIMEOUT, read_body(io, bytes, REQUEST_BYTES_MAX));
        let request: Request = read.await.map_err(late)??;
        self.gate.bring(request.messages()).await;
        Ok(request)
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Response>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, RESPONSE_BYTES_MAX).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: Request) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &request).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Response,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &response).await
    }
}

pub(crate) async fn read<T, M>(io: &mut T, bytes_max: usize) -> io::Result<M>
where
    T: AsyncRead + Unpin + Send,
    M: serde::de::DeserializeOwned,
{
    let length = read_length(io).await?;
    read_body(io, length, bytes_max).await
}

async fn read_length<T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<usize> {
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    Ok(usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX))
}

async fn read_body<T, M>(io: &mut T, length: usize, bytes_max: usize) -> io::Result<M>
where
    T: AsyncRead + Unpin + Send,
    M: serde::de::DeserializeOwned,
{
    if length > bytes_max {
        return Err(invalid("a message is longer than allowed"));
    }
    // Room for all of it only when as much as this is there: a length alone allocates little.
    let mut bytes = vec![0; length.min(64 << 10)];
    io.read_exact(&mut bytes).await?;
    let first = bytes.len();
    bytes.resize(length, 0);
    io.read_exact(&mut bytes[first..]).await?;
    codec::decode(&bytes, bytes_max).map_err(|_| invalid("a message is malformed"))
}

pub(crate) async fn write<T, M>(io: &mut T, message: &M) -> io::Result<()>
where
    T: AsyncWrite + Unpin + Send,
    M: Serialize,
{
    let mut bytes = vec![0; 4];
    codec::encode_into(message, &mut bytes).map_err(|_| invalid("a message has no encoding"))?;
    let length = u32::try_from(bytes.len() - 4).map_err(|_| invalid("a message is too long"))?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    io.write_all(&bytes).await?;
    io.flush().await
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{executor::block_on, io::Cursor};

    #[test]
    fn a_request_round_trips() {
        let request = Request::Shares(vec![Blob(vec![1, 2, 3]), Blob(Vec::new())]);
        let mut bytes = Cursor::new(Vec::new());
        block_on(write(&mut bytes, &request)).unwrap();
        bytes.set_position(0);
        assert_eq!(block_on(read::<_, Request>(&mut bytes, REQUEST_BYTES_MAX)).unwrap(), request);
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let too_long = u32::try_from(REQUEST_BYTES_MAX + 1).unwrap().to_le_bytes().to_vec();
        assert!(block_on(read::<_, Request>(&mut Cursor::new(too_long), REQUEST_BYTES_MAX)).is_err());
        let short = [100u32.to_le_bytes().as_slice(), &[0; 20]].concat();
        assert!(block_on(read::<_, Request>(&mut Cursor::new(short), REQUEST_BYTES_MAX)).is_err());
    }
}
