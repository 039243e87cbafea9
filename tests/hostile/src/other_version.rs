//! A node of another version: it has a node's identity and its address, and speaks one other version of the protocol
//! alone. It counts what comes of its own exchanges, and what comes to it.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify,
    identity::Keypair,
    noise,
    request_response::{self, Event, Message, OutboundFailure, ProtocolSupport},
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};

/// Between two tries to say something to each node that is connected.
const TRY_INTERVAL: Duration = Duration::from_millis(200);

/// Longest text that is read.
const BYTES_MAX: u64 = 1 << 20;

/// A running one; it ends when dropped.
pub struct OtherVersion {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    ends: AtomicBool,
    heard: AtomicU64,
    answered: AtomicU64,
    refused: AtomicU64,
}

/// Any bytes on a stream, to its end.
#[derive(Debug, Clone, Copy, Default)]
struct Bytes;

impl request_response::Codec for Bytes {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, bytes: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&bytes).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, bytes: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&bytes).await
    }
}

async fn read<T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io.take(BYTES_MAX).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    exchange: request_response::Behaviour<Bytes>,
    identify: identify::Behaviour,
}

impl OtherVersion {
    /// Takes the place of a node that does not run: with the identity in its directory, at its address, speaking
    /// `protocol` alone. It calls the nodes at these addresses, and tries to talk to all with whom it is connected.
    ///
    /// # Errors
    /// If the identity cannot be read, or the address cannot be listened on.
    pub fn run(
        dir: &Path,
        protocol: &'static str,
        listen: &str,
        call: &[(PeerId, String)],
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let mut secret = std::fs::read(dir.join("identity.key"))?;
        let keypair = Keypair::ed25519_from_bytes(&mut secret)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let mut swarm = swarm(keypair, protocol)?;
        swarm.listen_on(listen.parse()?)?;
        for (peer, address) in call {
            let address: Multiaddr = address.parse()?;
            swarm.dial(address.with_p2p(*peer).map_err(|address| format!("{address} is of another"))?)?;
        }
        drop(entered);
        let shared = Arc::new(Shared::default());
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || runtime.block_on(live(swarm, &shared))
        });
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Requests that came under its protocol.
    pub fn heard(&self) -> u64 {
        self.shared.heard.load(Ordering::Relaxed)
    }

    /// Its own requests that were answered.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Its own requests for which the other end had no such protocol.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }
}

impl Drop for OtherVersion {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn swarm(
    keypair: Keypair,
    protocol: &'static str,
) -> Result<Swarm<Behaviour>, Box<dyn std::error::Error + Send + Sync>> {
    let behaviour = |keypair: &Keypair| {
        let protocols = [(StreamProtocol::new(protocol), ProtocolSupport::Full)];
        let config = request_response::Config::default();
        Behaviour {
            exchange: request_response::Behaviour::with_codec(Bytes, protocols, config),
            identify: identify::Behaviour::new(identify::Config::new(protocol.into(), keypair.public())),
        }
    };
    Ok(SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)?
        .with_behaviour(behaviour)?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(3600)))
        .build())
}

async fn live(mut swarm: Swarm<Behaviour>, shared: &Shared) {
    let mut tries = tokio::time::interval(TRY_INTERVAL);
    let count = |counter: &AtomicU64| {
        counter.fetch_add(1, Ordering::Relaxed);
    };
    while !shared.ends.load(Ordering::Relaxed) {
        tokio::select! {
            _ = tries.tick() => {
                let peers: Vec<PeerId> = swarm.connected_peers().copied().collect();
                for peer in peers {
                    swarm.behaviour_mut().exchange.send_request(&peer, vec![0; 8]);
                }
            }
            event = swarm.select_next_some() => match event {
                SwarmEvent::Behaviour(BehaviourEvent::Exchange(Event::Message { message, .. })) => {
                    count(match message {
                        Message::Request { .. } => &shared.heard,
                        Message::Response { .. } => &shared.answered,
                    });
                }
                SwarmEvent::Behaviour(BehaviourEvent::Exchange(Event::OutboundFailure {
                    error: OutboundFailure::UnsupportedProtocols,
                    ..
                })) => count(&shared.refused),
                _ => {}
            },
        }
    }
}
