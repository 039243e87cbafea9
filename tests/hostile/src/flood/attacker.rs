//! An attacker that speaks libp2p: it opens connections under any identity and sends whatever bytes it likes, at
//! whatever speed.

use std::{io, time::Duration};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, gossipsub,
    identity::Keypair,
    noise, request_response,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};

use super::attack::Life;

/// The protocol of the nodes.
const PROTOCOL: StreamProtocol = StreamProtocol::new("/dske/3");

/// The topic of their announcements.
pub(super) const TOPIC: &str = "dske/announce/2";

/// What is sent on one stream.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    pub(super) bytes: Vec<u8>,
    pub(super) manner: Manner,
}

/// How it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// All at once; the answer is read.
    Plain,
    /// One byte a second.
    Slowly,
    /// All at once, and then neither more nor an end.
    Half,
    /// All at once; the answer is never read.
    Unread,
}

/// Any bytes on a stream.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RawCodec(Option<Manner>);

/// Longer than any flood.
async fn for_ever() {
    tokio::time::sleep(Duration::from_secs(86_400)).await;
}

impl request_response::Codec for RawCodec {
    type Protocol = StreamProtocol;
    type Request = Raw;
    type Response = ();

    async fn read_request<T>(&mut self, _: &StreamProtocol, _: &mut T) -> io::Result<Raw>
    where
        T: AsyncRead + Unpin + Send,
    {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<()>
    where
        T: AsyncRead + Unpin + Send,
    {
        if self.0 == Some(Manner::Unread) {
            for_ever().await;
        }
        let mut answer = Vec::new();
        io.take(1 << 20).read_to_end(&mut answer).await.map(|_| ())
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, raw: Raw) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        self.0 = Some(raw.manner);
        match raw.manner {
            Manner::Plain | Manner::Unread => io.write_all(&raw.bytes).await?,
            Manner::Half => {
                io.write_all(&raw.bytes).await?;
                io.flush().await?;
                for_ever().await;
            }
            Manner::Slowly => {
                for byte in raw.bytes {
                    io.write_all(&[byte]).await?;
                    io.flush().await?;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
        io.flush().await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, _: &mut T, (): ()) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    exchange: request_response::Behaviour<RawCodec>,
    gossip: gossipsub::Behaviour,
}

/// One connection, under some identity.
pub(super) struct Session {
    swarm: Swarm<Behaviour>,
    peer: PeerId,
    topic: gossipsub::IdentTopic,
}

/// What has happened on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happened {
    /// It is open.
    Open,
    /// A stream has ended, one way or the other.
    Ended,
    /// It is gone, or could not be opened.
    Gone,
}

impl Session {
    /// Calls a node.
    pub(super) fn open(identity: Keypair, peer: PeerId, address: Multiaddr) -> Option<Self> {
        let author = identity.clone();
        let behaviour = |_: &Keypair| {
            let config = gossipsub::ConfigBuilder::default().max_transmit_size(64 << 10).build()?;
            let gossip = gossipsub::Behaviour::new(gossipsub::MessageAuthenticity::Signed(author), config)?;
            let protocols = [(PROTOCOL, request_response::ProtocolSupport::Outbound)];
            let config = request_response::Config::default()
                .with_request_timeout(Duration::from_secs(3600))
                .with_max_concurrent_streams(1024);
            let exchange = request_response::Behaviour::with_codec(RawCodec::default(), protocols, config);
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Behaviour { exchange, gossip })
        };
        let mut swarm = SwarmBuilder::with_existing_identity(identity)
            .with_tokio()
            .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
            .ok()?
            .with_behaviour(behaviour)
            .ok()?
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(3600)))
            .build();
        swarm.dial(address.with_p2p(peer).ok()?).ok()?;
        let topic = gossipsub::IdentTopic::new(TOPIC);
        swarm.behaviour_mut().gossip.subscribe(&topic).ok()?;
        Some(Self { swarm, peer, topic })
    }

    /// Waits for something to happen.
    pub(super) async fn next(&mut self) -> Happened {
        loop {
            match self.swarm.select_next_some().await {
                SwarmEvent::ConnectionEstablished { .. } => return Happened::Open,
                SwarmEvent::ConnectionClosed { .. } | SwarmEvent::OutgoingConnectionError { .. } => {
                    return Happened::Gone;
                }
                SwarmEvent::Behaviour(BehaviourEvent::Exchange(
                    request_response::Event::Message { .. } | request_response::Event::OutboundFailure { .. },
                )) => return Happened::Ended,
                _ => {}
            }
        }
    }

    /// Sends on a stream of its own.
    pub(super) fn send(&mut self, raw: Raw) {
        self.swarm.behaviour_mut().exchange.send_request(&self.peer, raw);
    }

    /// Publishes; whether that was possible.
    pub(super) fn publish(&mut self, bytes: Vec<u8>) -> bool {
        self.swarm.behaviour_mut().gossip.publish(self.topic.clone(), bytes).is_ok()
    }

    /// Holds the connection, sending `at_once` requests at a time, until it is gone or the flood is over.
    pub(super) async fn hold(mut self, life: &Life, at_once: usize, mut make: impl FnMut() -> Raw) {
        while life.goes_on() {
            match tokio::time::timeout(Duration::from_millis(200), self.next()).await {
                Err(_) => {}
                Ok(Happened::Gone) => return,
                Ok(happened) => {
                    let count = if happened == Happened::Open { at_once } else { 1 };
                    for _ in 0..count {
                        self.send(make());
                        life.count(1);
                    }
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}
