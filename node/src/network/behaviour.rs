//! The libp2p behaviour of a node, with every limit in one place.

use std::{sync::Arc, time::Duration};

use libp2p::{
    Swarm, SwarmBuilder, core::upgrade::Version, gossipsub, identify, identity::Keypair,
    memory_connection_limits, noise, ping, request_response, swarm::NetworkBehaviour, tcp, yamux,
};

use super::{
    exchanges::Exchanges,
    gate::{Arriving, Dropped},
    guard::Guard,
    limits::{HANDSHAKE_TIMEOUT, REQUESTS_AT_ONCE_MAX, STREAMS_MAX},
    versions,
    wire::ANNOUNCE_TOPIC,
};

/// No new connections beyond this much memory of the process.
const MEMORY_BYTES_MAX: usize = 2 << 30;

/// A request that has no answer by then has failed. Covers the other side's work, too.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections rest open: a hub must be able to reach its clients.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// How often the other end is asked for a sign of life, and how long it has for one. A connection over which two in a row
/// have not come is closed: a link that died without a word, or a process that hangs, is noticed within half a minute.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// See [`PING_INTERVAL`].
const PING_TIMEOUT: Duration = Duration::from_secs(8);

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    /// First, so that what it refuses costs nothing more, and the codec finds its gate.
    pub(super) guard: Guard,
    memory: memory_connection_limits::Behaviour,
    pub(super) exchange: Exchanges,
    pub(super) gossip: gossipsub::Behaviour,
    pub(super) identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// Builds the swarm.
pub(super) fn swarm(
    keypair: Keypair,
    connections_max: u32,
    dropped: Arc<Dropped>,
) -> Result<Swarm<Behaviour>, String> {
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
        .with_behaviour(|keypair| behaviour(keypair, connections_max, dropped))
        .map_err(|error| error.to_string())?;
    Ok(builder
        .with_swarm_config(|config| {
            config
                .with_idle_connection_timeout(IDLE_TIMEOUT)
                // Every exchange opens a substream, and there is one version to propose: the first message may
                // go with the proposal instead of after its acceptance. It is untagged where the other end may not
                // speak that version: messages under a pad follow a comparison of marks on the same connection.
                .with_substream_upgrade_protocol_override(Version::V1Lazy)
        })
        .with_connection_timeout(HANDSHAKE_TIMEOUT)
        .build())
}

/// The gossip protocol measures what it has read at once, which may be many small messages, and not each of them: where
/// that is too much the other end is heard no more. How long an announcement may be is looked at when it is decoded.
const GOSSIP_READ_BYTES_MAX: usize = 64 << 10;

fn behaviour(
    keypair: &Keypair,
    connections_max: u32,
    dropped: Arc<Dropped>,
) -> Result<Behaviour, Box<dyn std::error::Error + Send + Sync>> {
    let arriving = Arriving::default();
    let config = request_response::Config::default()
        .with_request_timeout(REQUEST_TIMEOUT)
        .with_max_concurrent_streams(REQUESTS_AT_ONCE_MAX);
    let gossip_config = gossipsub::ConfigBuilder::default()
        .max_transmit_size(GOSSIP_READ_BYTES_MAX)
        .validation_mode(gossipsub::ValidationMode::Strict)
        .validate_messages()
        .heartbeat_interval(Duration::from_secs(1))
        .build()?;
    let authenticity = gossipsub::MessageAuthenticity::Signed(keypair.clone());
    let mut gossip = gossipsub::Behaviour::new(authenticity, gossip_config)?;
    let (score, thresholds) = scoring();
    gossip.with_peer_score(score, thresholds)?;
    let identify = identify::Config::new(versions::HIGHEST.into(), keypair.public())
        .with_agent_version(format!("dske/{}", env!("CARGO_PKG_VERSION")))
        .with_cache_size(0);
    Ok(Behaviour {
        guard: Guard::new(connections_max, Arc::clone(&arriving), dropped),
        memory: memory_connection_limits::Behaviour::with_max_bytes(MEMORY_BYTES_MAX),
        exchange: Exchanges::new(arriving, versions::protocols().collect(), config),
        gossip,
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::new(
            ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT),
        ),
    })
}

/// Below this score a peer is sent away: it has passed on announcements that are badly signed or about others.
pub(super) const GOSSIP_SCORE_MIN: f64 = -80.0;

/// Scores count nothing but what no honest peer does. They are forgotten soon after a peer has gone, for peers
/// come and go as an attacker likes.
fn scoring() -> (gossipsub::PeerScoreParams, gossipsub::PeerScoreThresholds) {
    let topic = gossipsub::TopicScoreParams {
        time_in_mesh_weight: 0.0,
        first_message_deliveries_weight: 0.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: -1.0,
        invalid_message_deliveries_decay: 0.9,
        ..gossipsub::TopicScoreParams::default()
    };
    let score = gossipsub::PeerScoreParams {
        topics: [(gossipsub::IdentTopic::new(ANNOUNCE_TOPIC).hash(), topic)].into(),
        // Many nodes may stand behind one address; the guard counts them.
        ip_colocation_factor_weight: 0.0,
        retain_score: Duration::from_secs(30),
        ..gossipsub::PeerScoreParams::default()
    };
    let thresholds = gossipsub::PeerScoreThresholds {
        gossip_threshold: -10.0,
        publish_threshold: -50.0,
        graylist_threshold: GOSSIP_SCORE_MIN,
        ..gossipsub::PeerScoreThresholds::default()
    };
    (score, thresholds)
}
