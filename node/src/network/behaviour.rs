//! The libp2p behaviour of a node, with every limit in one place.

use std::time::Duration;

use libp2p::{
    StreamProtocol, Swarm, SwarmBuilder, connection_limits, core::upgrade::Version, gossipsub, identify,
    identity::Keypair, memory_connection_limits, noise, ping, request_response, swarm::NetworkBehaviour, tcp,
    yamux,
};

use super::wire::{ANNOUNCEMENT_BYTES_MAX, PROTOCOL, WireCodec};

/// Substreams of one connection; yamux closes the whole connection beyond its limit, so requests in
/// flight stay far below it.
const STREAMS_MAX: usize = 128;

/// Connections of one peer: both ends may call each other at the same moment.
const CONNECTIONS_PER_PEER_MAX: u32 = 2;

/// Connections that are being set up.
const CONNECTIONS_PENDING_MAX: u32 = 64;

/// No new connections beyond this much memory of the process.
const MEMORY_BYTES_MAX: usize = 2 << 30;

/// A request that has no answer by then has failed. Covers the other side's work, too.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections rest open: a hub must be able to reach its clients.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// A dead connection is noticed within about this time.
const PING_INTERVAL: Duration = Duration::from_secs(5);

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    limits: connection_limits::Behaviour,
    memory: memory_connection_limits::Behaviour,
    pub(super) exchange: request_response::Behaviour<WireCodec>,
    pub(super) gossip: gossipsub::Behaviour,
    pub(super) identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// Builds the swarm.
pub(super) fn swarm(keypair: Keypair, connections_max: u32) -> Result<Swarm<Behaviour>, String> {
    let builder = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, || {
            let mut config = yamux::Config::default();
            config.set_max_num_streams(STREAMS_MAX);
            config
        })
        .map_err(|error| error.to_string())?
        .with_dns()
        .map_err(|error| error.to_string())?
        .with_behaviour(|keypair| behaviour(keypair, connections_max))
        .map_err(|error| error.to_string())?;
    Ok(builder
        .with_swarm_config(|config| {
            config
                .with_idle_connection_timeout(IDLE_TIMEOUT)
                // Every exchange opens a substream, and both ends speak one protocol: the first message may
                // go with the proposal instead of after its acceptance.
                .with_substream_upgrade_protocol_override(Version::V1Lazy)
        })
        .build())
}

fn behaviour(
    keypair: &Keypair,
    connections_max: u32,
) -> Result<Behaviour, Box<dyn std::error::Error + Send + Sync>> {
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(CONNECTIONS_PENDING_MAX))
        .with_max_pending_outgoing(Some(CONNECTIONS_PENDING_MAX))
        .with_max_established(Some(connections_max))
        .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER_MAX));
    let protocols = [(PROTOCOL, request_response::ProtocolSupport::Full)];
    let config = request_response::Config::default()
        .with_request_timeout(REQUEST_TIMEOUT)
        .with_max_concurrent_streams(STREAMS_MAX / 2);
    let gossip_config = gossipsub::ConfigBuilder::default()
        .max_transmit_size(ANNOUNCEMENT_BYTES_MAX)
        .validation_mode(gossipsub::ValidationMode::Strict)
        .validate_messages()
        .heartbeat_interval(Duration::from_secs(1))
        .build()?;
    let authenticity = gossipsub::MessageAuthenticity::Signed(keypair.clone());
    let identify = identify::Config::new("/dske/1".into(), keypair.public())
        .with_agent_version(format!("dske/{}", env!("CARGO_PKG_VERSION")))
        .with_cache_size(0);
    Ok(Behaviour {
        limits: connection_limits::Behaviour::new(limits),
        memory: memory_connection_limits::Behaviour::with_max_bytes(MEMORY_BYTES_MAX),
        exchange: request_response::Behaviour::with_codec(
            WireCodec,
            protocols.into_iter().collect::<Vec<(StreamProtocol, _)>>(),
            config,
        ),
        gossip: gossipsub::Behaviour::new(authenticity, gossip_config)?,
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_INTERVAL)),
    })
}
