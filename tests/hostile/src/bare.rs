//! A node's transport and nothing above it: whoever has its identity can open connections in its name, and exchange any
//! bytes under any version of the protocol.

use std::{error::Error, io, path::Path, time::Duration};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{
    StreamProtocol, Swarm, SwarmBuilder, identify,
    identity::Keypair,
    noise,
    request_response::{self, ProtocolSupport},
    swarm::NetworkBehaviour,
    tcp, yamux,
};

/// Longest text that is read.
const BYTES_MAX: u64 = 1 << 20;

/// Any bytes on a stream, to its end.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bytes;

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
pub(crate) struct Behaviour {
    pub(crate) exchange: request_response::Behaviour<Bytes>,
    identify: identify::Behaviour,
}

/// The identity of the node in a directory.
///
/// # Errors
/// If there is none.
pub(crate) fn keypair(dir: &Path) -> Result<Keypair, Box<dyn Error + Send + Sync>> {
    let mut secret = std::fs::read(dir.join("identity.key"))?;
    Ok(Keypair::ed25519_from_bytes(&mut secret)?)
}

/// A node with this identity that speaks `protocol` alone.
pub(crate) fn swarm(
    keypair: Keypair,
    protocol: &'static str,
) -> Result<Swarm<Behaviour>, Box<dyn Error + Send + Sync>> {
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
