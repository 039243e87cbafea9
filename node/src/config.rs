//! What an operator sets: the node's name and roles, its network addresses and its policy.
//!
//! The file is TOML; `dske config template` prints an annotated one. Unknown keys are errors: a misspelt
//! policy must not silently become the default.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use dske_protocol::ids::Name;
use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};

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
    /// Names of the hubs that this client accepts; empty means every hub that a module came from.
    pub hubs: Vec<Name>,
    /// How long a receiver waits for shares, in milliseconds.
    pub deadline_ms: u64,
    /// Longest key of one agreement, in bits.
    pub key_bits_max: u64,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self { n: 0, k: 3, k_min: 3, hubs: Vec::new(), deadline_ms: 10_000, key_bits_max: 8 << 20 }
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
        Self { node, network: NetworkConfig::default(), policy: PolicyConfig::default() }
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    /// If it cannot be read, is not TOML of the right shape, or breaks a rule of [`Config::check`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            fs::read_to_string(path).map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
        Self::parse(&text, path)
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
