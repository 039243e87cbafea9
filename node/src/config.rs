//! What an operator sets: the node's name and roles, its network addresses and its policy.
//!
//! The file is TOML; `dske config template` prints an annotated one. Unknown keys are errors: a misspelt
//! policy must not silently become the default.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use dske_protocol::{
    ids::Name,
    naming::NodeRef,
    params::Validate,
    quota::{DefaultQuota, Quota},
};
use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};

pub use crate::config_text::{QuotaText, Size, Span, Text, TextError};
use crate::{bounded, network::ports::socket_of, quotas};

/// File of the configuration inside a data directory.
pub const CONFIG_FILE: &str = "config.toml";

/// The whole configuration of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who the node is.
    pub node: NodeConfig,
    /// Where it listens and whom it calls.
    #[serde(default)]
    pub network: NetworkConfig,
    /// What it accepts.
    #[serde(default)]
    pub policy: PolicyConfig,
    /// Messages that wait at a hub.
    #[serde(default)]
    pub outbox: OutboxConfig,
    /// Keys that wait at a client, and records of its agreements.
    #[serde(default)]
    pub keys: KeysConfig,
    /// When to warn that pads run out.
    #[serde(default)]
    pub pads: PadsConfig,
    /// What monitoring may ask.
    #[serde(default, skip_serializing_if = "MetricsConfig::is_off")]
    pub metrics: MetricsConfig,
}

/// `[node]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// The node's name, unique among the nodes that it deals with.
    pub name: Name,
    /// Hub, client, or both.
    pub roles: BTreeSet<Role>,
    /// Identities of applications behind this client, told to peers by its hubs (§2.2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub applications: Vec<String>,
    /// Threads for the network and the protocol, besides those of the store. One is best for a client;
    /// a busy hub with cores to spare may want more.
    #[serde(default = "one_thread")]
    pub threads: u8,
}

fn one_thread() -> u8 {
    1
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A Security Hub.
    Hub,
    /// A DSKE client: sender and receiver.
    Client,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Hub => "hub",
            Self::Client => "client",
        })
    }
}

/// `[network]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkConfig {
    /// Addresses to listen on.
    pub listen: Vec<Multiaddr>,
    /// Addresses told to others; empty means those listened on.
    pub announce: Vec<Multiaddr>,
    /// Nodes to call at the start besides the hubs that modules name; each ends in `/p2p/PEER-ID`.
    pub bootstrap: Vec<Multiaddr>,
    /// Most established connections; further ones are refused.
    pub connections_max: u32,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        let listen = "/ip4/0.0.0.0/tcp/7001".parse().into_iter().collect();
        Self { listen, announce: Vec::new(), bootstrap: Vec::new(), connections_max: 1024 }
    }
}

/// `[policy]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// Hubs used for a key; `0` means all that serve both sides.
    pub n: u8,
    /// Shares needed to reconstruct a key.
    pub k: u8,
    /// The paper's k_B: the least k that this client accepts as a receiver.
    pub k_min: u8,
    /// The hubs that this client accepts, each by its id, its name, or its name and the beginning of its id; empty means
    /// every hub that a module came from. A name means the hub that first came here under it.
    pub hubs: Vec<NodeRef>,
    /// How long a receiver waits for shares, in milliseconds.
    pub deadline_ms: u64,
    /// Whether a receiver takes the first key that validates, or waits until all hubs have spoken, or the deadline.
    pub validate: ValidateConfig,
    /// Longest key of one agreement, in bits.
    pub key_bits_max: u64,
    /// What a sender may have burned of others' pads (§4.1): at a hub of each receiver's down lanes, by `"alice"` or, for one
    /// receiver, `"alice:bob"`; at a client of the lanes with each hub, by `"alice"`. Instead of a name, an id serves.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub max_peer_use: BTreeMap<String, QuotaText>,
    /// The same for each sender that is not named: a quota, a part of the lanes such as "10%/day", or "none". Without it a hub
    /// lets each burn a tenth of a receiver's lanes in a day, and a client sets no limit beyond that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_peer_use_default: Option<Text<DefaultQuota>>,
    /// At a client: what all senders together that it does not name may have burned of its down lane with each hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unnamed_use: Option<QuotaText>,
    /// At a hub: what each client may have burned of its own down lanes by asking about others.
    pub max_identity_use: QuotaText,
}

/// Which key that validates a receiver takes (§2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValidateConfig {
    /// The first.
    First,
    /// The only one, when all hubs have spoken or the deadline has come.
    All,
}

impl From<ValidateConfig> for Validate {
    fn from(config: ValidateConfig) -> Self {
        match config {
            ValidateConfig::First => Self::First,
            ValidateConfig::All => Self::All,
        }
    }
}

/// `[outbox]`: what waits at a hub for clients that are away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutboxConfig {
    /// A message that has waited so long is dropped. Time for which the hub was down counts for one day at most each
    /// time.
    pub lifetime: Text<Span>,
    /// Most bytes that wait for one client; further messages for it are refused before any pad is burned.
    pub client_bytes_max: Text<Size>,
    /// The same for all clients together.
    pub bytes_max: Text<Size>,
}

impl Default for OutboxConfig {
    fn default() -> Self {
        Self {
            lifetime: Text(Span(Duration::from_secs(7 * 86_400))),
            client_bytes_max: Text(Size(1 << 30)),
            bytes_max: Text(Size(4 << 30)),
        }
    }
}

/// `[keys]`: what a client keeps of keys that nobody takes, and of the records of its agreements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeysConfig {
    /// A key that others agreed with this client is given up when nobody has taken it for so long; one of its own, in the
    /// pool of a stream, after half of it. Time for which the client was down counts for one day at most each time.
    pub lifetime: Text<Span>,
    /// Most bytes of keys that wait; beyond, the oldest of whoever sent most of them go.
    pub bytes_max: Text<Size>,
    /// Records of agreements of which no key waits are kept so long.
    pub records_lifetime: Text<Span>,
    /// Most records that are kept.
    pub records_max: u32,
}

impl Default for KeysConfig {
    fn default() -> Self {
        Self {
            lifetime: Text(Span(Duration::from_secs(30 * 86_400))),
            bytes_max: Text(Size(1 << 30)),
            records_lifetime: Text(Span(Duration::from_secs(90 * 86_400))),
            records_max: 100_000,
        }
    }
}

/// `[pads]`: how long before they run out, at the rate at which they are used, pads are worth a warning, and which rate that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PadsConfig {
    /// So long before, it is time to order a new module.
    pub warn_before: Text<Span>,
    /// So long before, it should be there.
    pub crit_before: Text<Span>,
    /// What is used is averaged over so long. Nothing is foretold before a part of it has been seen:
    /// [`Self::observed_min`].
    pub average_over: Text<Span>,
}

impl PadsConfig {
    /// So long use is watched before anything is foretold: an hour of a day.
    pub fn observed_min(&self) -> Duration {
        self.average_over.0.0 / 24
    }
}

impl Default for PadsConfig {
    fn default() -> Self {
        Self {
            warn_before: Text(Span(Duration::from_secs(7 * 86_400))),
            crit_before: Text(Span(Duration::from_secs(86_400))),
            average_over: Text(Span(Duration::from_secs(86_400))),
        }
    }
}

/// `[metrics]`: the HTTP listener for monitoring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Address and port, such as `127.0.0.1:9464`; without it there is no listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
}

impl MetricsConfig {
    /// A table without entries would be in the way of one that is appended to the file.
    fn is_off(&self) -> bool {
        self.listen.is_none()
    }
}

/// Inquiries burn 32 bytes each: 2048 in an hour.
const IDENTITY_USE_DEFAULT: Quota = Quota::per_hour(64 << 10);

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            n: 0,
            k: 3,
            k_min: 3,
            hubs: Vec::new(),
            deadline_ms: 10_000,
            validate: ValidateConfig::First,
            key_bits_max: 8 << 20,
            max_peer_use: BTreeMap::new(),
            max_peer_use_default: None,
            max_unnamed_use: None,
            max_identity_use: Text(IDENTITY_USE_DEFAULT),
        }
    }
}

impl PolicyConfig {
    /// How long a receiver waits for shares.
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read or written.
    #[error("cannot use {path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text is not a configuration.
    #[error("{path}: {at}: {reason}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The key at which it went wrong.
        at: String,
        /// What is wrong there.
        reason: String,
    },
    /// A value is outside what it may be.
    #[error("{key}: {reason}")]
    Value {
        /// The key, with its table.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl Config {
    /// A configuration with default network and policy.
    pub fn new(name: Name, roles: impl IntoIterator<Item = Role>) -> Self {
        let roles = roles.into_iter().collect();
        let node = NodeConfig { name, roles, applications: Vec::new(), threads: one_thread() };
        Self {
            node,
            network: NetworkConfig::default(),
            policy: PolicyConfig::default(),
            outbox: OutboxConfig::default(),
            keys: KeysConfig::default(),
            pads: PadsConfig::default(),
            metrics: MetricsConfig::default(),
        }
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    /// If it cannot be read, is not TOML of the right shape, or breaks a rule of [`Config::check`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = Self::read(path)?;
        Self::parse(&text, path)
    }

    /// Reads a file's text, and checks nothing.
    ///
    /// # Errors
    /// If it cannot be read, or is longer than a configuration may be.
    pub fn read(path: &Path) -> Result<String, ConfigError> {
        bounded::read_text(path, "a configuration", bounded::CONFIG_BYTES_MAX)
            .map_err(|source| ConfigError::File { path: path.to_owned(), source })
    }

    /// Reads and checks a text; `path` only serves the error message.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let syntax = |at: String, reason: String| ConfigError::Syntax { path: path.to_owned(), at, reason };
        let deserializer = toml::Deserializer::parse(text)
            .map_err(|error| syntax("syntax".into(), error.message().to_owned()))?;
        let config: Self = serde_path_to_error::deserialize(deserializer)
            .map_err(|error| syntax(error.path().to_string(), error.inner().message().to_owned()))?;
        config.check()?;
        Ok(config)
    }

    /// Checks what types cannot express.
    ///
    /// # Errors
    /// Names the key at fault.
    pub fn check(&self) -> Result<(), ConfigError> {
        let fail = |key, reason: String| Err(ConfigError::Value { key, reason });
        let policy = &self.policy;
        if self.node.roles.is_empty() {
            return fail("node.roles", "give at least one of \"hub\" and \"client\"".into());
        }
        let usable = |address: &Multiaddr| socket_of(address).is_some();
        if let Some(address) = self.network.listen.iter().find(|address| !usable(address)) {
            let reason =
                format!("{address} is not an IP address with a TCP port, such as /ip4/0.0.0.0/tcp/7001");
            return fail("network.listen", reason);
        }
        if policy.k == 0 || policy.k_min == 0 {
            return fail("policy.k", "k and k_min are at least 1".into());
        }
        if policy.k < policy.k_min {
            return fail("policy.k", format!("k = {} is below k_min = {}", policy.k, policy.k_min));
        }
        if policy.n != 0 && policy.n < policy.k {
            return fail("policy.n", format!("n = {} is below k = {}", policy.n, policy.k));
        }
        if policy.deadline_ms == 0 || policy.deadline_ms > 600_000 {
            return fail("policy.deadline_ms", "between 1 and 600000".into());
        }
        if let Err(reason) = quotas::check(policy, self.node.roles.contains(&Role::Hub)) {
            return fail("policy.max_peer_use", reason);
        }
        if self.pads.crit_before.0.0 > self.pads.warn_before.0.0 {
            return fail("pads.crit_before", "it is longer than pads.warn_before".into());
        }
        if policy.key_bits_max == 0 || policy.key_bits_max > dske_protocol::params::KEY_BYTES_MAX * 8 {
            let most = dske_protocol::params::KEY_BYTES_MAX * 8;
            return fail("policy.key_bits_max", format!("between 1 and {most}"));
        }
        Ok(())
    }

    /// The configuration as a TOML file.
    ///
    /// # Errors
    /// If a value has no TOML form (none of the present fields can cause that).
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string_pretty(self)
            .map_err(|error| ConfigError::Value { key: "config", reason: error.to_string() })
    }
}
