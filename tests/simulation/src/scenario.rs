//! Fault scenarios: files of weights in `faults/`. A new one is a new file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::lies::Lie;

/// What may go wrong in a simulated network, and how often.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The name of its file.
    #[serde(skip)]
    pub name: String,
    /// What it is for, in a sentence.
    pub about: String,
    /// Nothing but bad hubs: the thresholds must be met exactly.
    #[serde(default)]
    pub sharp: bool,
    #[serde(default)]
    pub(crate) world: Shape,
    #[serde(default)]
    pub(crate) network: Network,
    #[serde(default)]
    pub(crate) nodes: Nodes,
    #[serde(default)]
    pub(crate) liars: Liars,
}

/// How large the world is. Pairs are least and most.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Shape {
    pub(crate) hubs: [usize; 2],
    pub(crate) clients: [usize; 2],
    /// Instead of hubs and clients: nodes that are hub and client for each other. Nodes without both roles, where 0.
    pub(crate) peers: [usize; 2],
    pub(crate) wishes: [usize; 2],
    /// Chance of a world of up to 20 hubs, and of up to 10 clients where keys are not long.
    pub(crate) large: f64,
    /// Tables of each pair.
    pub(crate) tables: [usize; 2],
    pub(crate) lane_kib: [usize; 2],
    /// Instead of `lane_kib`, in a large world without long keys.
    pub(crate) large_lane_kib: usize,
    /// Of most keys. One in twenty may have up to 3000.
    pub(crate) key_bytes: [usize; 2],
    /// Instead of `key_bytes`, where it is not 0: shortest and longest keys. Each seed draws how long its keys may be, each doubling as
    /// likely as the next, and less where there are many hubs, so that a world stays small enough; its keys have half of that or
    /// more. Lanes are longer than `lane_kib` says by what all keys of the seed take.
    pub(crate) long_key_kib: [usize; 2],
    /// Chance that clients know each other from the start.
    pub(crate) established: f64,
    /// Chance that two clients have a direct link.
    pub(crate) links: f64,
    /// Chance that a key may be for several receivers.
    pub(crate) groups: f64,
    /// Chance that a client's table still waits for the hub's word.
    pub(crate) pending: f64,
    /// Whether most keys for one receiver are rounds of the Adapted protocol.
    pub(crate) rounds: bool,
    /// Whether receivers have places for few agreements at once.
    pub(crate) cramped: bool,
    /// Of messages that wait at a hub for one receiver; for all of them twice as much. As much as comes, where it is 0.
    pub(crate) outbox_kib: usize,
    /// Whether hubs have a default quota, and receivers set limits at them and change them.
    pub(crate) quotas: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            hubs: [1, 6],
            clients: [2, 3],
            peers: [0, 0],
            wishes: [1, 5],
            large: 0.01,
            tables: [1, 2],
            lane_kib: [8, 24],
            large_lane_kib: 8,
            key_bytes: [1, 300],
            long_key_kib: [0, 0],
            established: 0.5,
            links: 0.7,
            groups: 0.3,
            pending: 0.0,
            rounds: false,
            cramped: false,
            outbox_kib: 0,
            quotas: false,
        }
    }
}

/// What the network does: chances are per message, counts per seed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Network {
    pub(crate) delay_ms: [usize; 2],
    /// Chance that a message takes many times as long.
    pub(crate) slow: f64,
    pub(crate) loss: f64,
    pub(crate) duplicate: f64,
    pub(crate) corrupt: f64,
    /// Chance that an outsider adds a message of its own.
    pub(crate) forge: f64,
    /// Chance that an outsider makes messages of one about a round, a few or very many, and is quicker.
    pub(crate) forge_links: f64,
    /// Chance that an outsider sends an old message again.
    pub(crate) replay: f64,
    /// Chance that a field of a hello or of its answer is changed, and that an outsider adds a hello.
    pub(crate) hellos: f64,
    /// Chance that a mark is kept back.
    pub(crate) withhold: f64,
    /// Number expected.
    pub(crate) partitions: f64,
    /// Number expected.
    pub(crate) disconnects: f64,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            delay_ms: [1, 30],
            slow: 0.0,
            loss: 0.0,
            duplicate: 0.0,
            corrupt: 0.0,
            forge: 0.0,
            forge_links: 0.0,
            replay: 0.0,
            hellos: 0.0,
            withhold: 0.0,
            partitions: 0.0,
            disconnects: 0.0,
        }
    }
}

/// What happens to nodes: how many of each are expected in a seed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Nodes {
    /// The process ends; what was written stays or not.
    pub(crate) crashes: f64,
    /// The power goes at a write or a sync.
    pub(crate) power_cuts: f64,
    /// A clean end and start.
    pub(crate) restarts: f64,
    /// Writes fail while the process goes on.
    pub(crate) disk_failures: f64,
    pub(crate) disk_full: f64,
    pub(crate) clock_jumps: f64,
    /// The whole directory of a hub, or of a client, is put back.
    pub(crate) restores_of_hubs: f64,
    pub(crate) restores_of_clients: f64,
    /// The ledger of a hub is put back, and the lanes are not.
    pub(crate) old_ledgers: f64,
    /// The file of a lane is gone, cut short, or without a header.
    pub(crate) lost_lanes: f64,
}

/// Who lies, and how.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Liars {
    pub(crate) hubs: Budget,
    /// Chance that one client lies.
    pub(crate) clients: f64,
    /// What the share of an honest hub takes longer to its receiver, so that liars are heard first.
    pub(crate) honest_late_ms: [usize; 2],
    /// Weights.
    pub(crate) lies: BTreeMap<Lie, f64>,
}

/// How many hubs are bad.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Budget {
    #[default]
    None,
    /// Fewer than min(n − k + 1, k_B).
    Within,
    /// Up to min(n − k + 1, k_B), which is one too many.
    Near,
    /// Fewer than k_B: keys must still be right, though there may be none.
    Safe,
    /// Any number.
    Any,
}

/// Where the scenarios are.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("faults")
}

impl Scenario {
    /// All scenarios, in order of name.
    ///
    /// # Errors
    /// If a file cannot be read, or says what is not understood.
    pub fn all() -> Result<Vec<Self>, String> {
        let directory = directory();
        let fail = |error: std::io::Error| format!("{}: {error}", directory.display());
        let mut scenarios = Vec::new();
        for entry in std::fs::read_dir(&directory).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                scenarios.push(Self::read(&path)?);
            }
        }
        scenarios.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(scenarios)
    }

    fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut scenario: Self =
            toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        scenario.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(scenario)
    }
}
