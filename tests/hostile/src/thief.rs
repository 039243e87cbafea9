//! A thief who has a node's transport key and none of its pads: it opens connections under the node's peer id from
//! several addresses, takes whatever it is sent, and never says a word. What is closed it opens again.

use std::{
    error::Error,
    io,
    net::Ipv4Addr,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread::JoinHandle,
    time::Duration,
};

use futures::{
    AsyncRead, AsyncReadExt, AsyncWrite, FutureExt, StreamExt,
    future::{BoxFuture, Pending},
};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, SwarmBuilder, Transport,
    core::{
        transport::{self, ListenerId, TransportError, TransportEvent},
        upgrade,
    },
    identity::Keypair,
    multiaddr::Protocol,
    noise, request_response,
    swarm::{
        SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
    tcp, yamux,
};
use tokio::net::TcpSocket;

/// Between two tries after a connection was refused or closed.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// A thief at work; stops when dropped.
#[derive(Debug)]
pub struct Thief {
    stop: Arc<AtomicBool>,
    open: Arc<AtomicUsize>,
    heard: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

/// Reads, and never answers.
#[derive(Debug, Clone)]
struct Silence {
    heard: Arc<AtomicUsize>,
}

impl request_response::Codec for Silence {
    type Protocol = StreamProtocol;
    type Request = ();
    type Response = ();

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<()>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut first = [0];
        io.read_exact(&mut first).await?;
        self.heard.fetch_add(1, Ordering::Relaxed);
        std::future::pending().await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, _: &mut T) -> io::Result<()>
    where
        T: AsyncRead + Unpin + Send,
    {
        std::future::pending().await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, _: &mut T, (): ()) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        std::future::pending().await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, _: &mut T, (): ()) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        std::future::pending().await
    }
}

impl Thief {
    /// Calls nodes, given by peer id and port on this machine, with the key in a file, from each of the addresses.
    ///
    /// # Errors
    /// If the key cannot be read or is none.
    pub fn begin(
        key: &Path,
        nodes: &[(PeerId, u16)],
        protocol: &'static str,
        from: &[Ipv4Addr],
    ) -> io::Result<Self> {
        let mut secret = std::fs::read(key)?;
        let key = Keypair::ed25519_from_bytes(&mut secret).map_err(io::Error::other)?;
        let (stop, open, heard) = <(Arc<AtomicBool>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let calls: Vec<_> =
            nodes.iter().flat_map(|&(peer, port)| from.iter().map(move |&from| (peer, port, from))).collect();
        let (stops, opens, hears) = (Arc::clone(&stop), Arc::clone(&open), Arc::clone(&heard));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                let calls = calls
                    .into_iter()
                    .map(|(peer, port, from)| hold(&key, protocol, peer, port, from, &opens, &hears));
                let all = futures::future::join_all(calls);
                let stopped = async {
                    while !stops.load(Ordering::Relaxed) {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                };
                futures::pin_mut!(all, stopped);
                futures::future::select(all, stopped).await;
            });
        });
        Ok(Self { stop, open, heard, thread: Some(thread) })
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Requests that it was sent so far.
    pub fn heard(&self) -> usize {
        self.heard.load(Ordering::Relaxed)
    }
}

impl Drop for Thief {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// TCP that calls from an address, each time from a new port, and takes no calls.
struct CallsFrom(Ipv4Addr);

impl Transport for CallsFrom {
    type Output = tcp::tokio::TcpStream;
    type Error = io::Error;
    type ListenerUpgrade = Pending<io::Result<Self::Output>>;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(&mut self, _: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        Err(TransportError::MultiaddrNotSupported(address))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(
        &mut self,
        to: Multiaddr,
        _: transport::DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let mut parts = to.iter();
        let (Some(Protocol::Ip4(ip)), Some(Protocol::Tcp(port))) = (parts.next(), parts.next()) else {
            return Err(TransportError::MultiaddrNotSupported(to));
        };
        let from = self.0;
        let call = async move {
            let socket = TcpSocket::new_v4()?;
            socket.bind((from, 0).into())?;
            Ok(tcp::tokio::TcpStream(socket.connect((ip, port).into()).await?))
        };
        Ok(call.boxed())
    }

    fn poll(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Poll::Pending
    }
}

/// One connection, opened again whenever it ends.
async fn hold(
    key: &Keypair,
    protocol: &'static str,
    peer: PeerId,
    port: u16,
    from: Ipv4Addr,
    open: &AtomicUsize,
    heard: &Arc<AtomicUsize>,
) {
    let silence = Silence { heard: Arc::clone(heard) };
    let behaviour = |_: &Keypair| {
        let protocols = [(StreamProtocol::new(protocol), request_response::ProtocolSupport::Full)];
        let config = request_response::Config::default().with_request_timeout(Duration::from_secs(3600));
        request_response::Behaviour::with_codec(silence, protocols, config)
    };
    let transport = |key: &Keypair| {
        let secure = noise::Config::new(key).map_err(io::Error::other)?;
        let upgraded = CallsFrom(from).upgrade(upgrade::Version::V1Lazy).authenticate(secure);
        Ok::<_, io::Error>(upgraded.multiplex(yamux::Config::default()))
    };
    let builder = SwarmBuilder::with_existing_identity(key.clone()).with_tokio();
    let Ok(builder) =
        builder.with_other_transport(|key| transport(key).map_err(Box::<dyn Error + Send + Sync>::from))
    else {
        return;
    };
    let Ok(builder) = builder.with_behaviour(behaviour);
    let mut swarm =
        builder.with_swarm_config(|c| c.with_idle_connection_timeout(Duration::from_secs(3600))).build();
    let address = Multiaddr::from(Ipv4Addr::LOCALHOST).with(Protocol::Tcp(port));
    loop {
        let call = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(vec![address.clone()]);
        if swarm.dial(call.build()).is_ok() {
            let mut is_open = false;
            loop {
                match swarm.select_next_some().await {
                    SwarmEvent::ConnectionEstablished { .. } => {
                        is_open = true;
                        open.fetch_add(1, Ordering::Relaxed);
                    }
                    SwarmEvent::ConnectionClosed { .. } | SwarmEvent::OutgoingConnectionError { .. } => break,
                    _ => {}
                }
            }
            if is_open {
                open.fetch_sub(1, Ordering::Relaxed);
            }
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}
