//! The figures of a run.

use std::{collections::BTreeMap, fmt, fs, thread, time::Duration};

use dske_node::status::Counters;
use dske_protocol::ids::TableId;

use super::net::{Agreed, FloodError, Net};

/// When the pads have not changed for so long, nothing is under way.
const SETTLE_PAUSE: Duration = Duration::from_millis(1000);

/// Pad bytes that a 256-bit key burns per hub and side.
const KEY_BURNS: u64 = 104;

/// Half and ninety-five of a hundred keys were as fast.
#[derive(Debug, Clone, Copy, Default)]
pub struct Latency {
    /// The median.
    pub p50: Duration,
    /// The 95th percentile.
    pub p95: Duration,
}

/// What was seen in one part of a run.
#[derive(Debug, Clone, Default)]
pub struct Phase {
    /// Keys that both sides hold alike.
    pub keys: u64,
    /// Those of them that the receiver confirmed.
    pub confirmed: u64,
    /// Tries that gave no key.
    pub failed: u64,
    /// Why the first of them failed.
    pub first_failure: Option<String>,
    /// How long keys took.
    pub latency: Latency,
    /// Most memory that one node held, and which.
    pub rss_bytes: u64,
    /// Which node that was.
    pub rss_node: String,
}

/// Gathers what a part of a run shows.
#[derive(Debug, Default)]
pub(super) struct Meter {
    times: Vec<Duration>,
    phase: Phase,
}

impl Meter {
    pub(super) fn key(&mut self, agreed: Agreed) {
        self.phase.keys += 1;
        self.phase.confirmed += u64::from(agreed.confirmed);
        self.times.push(agreed.took);
    }

    pub(super) fn failed(&mut self, why: &FloodError) {
        self.phase.failed += 1;
        self.phase.first_failure.get_or_insert_with(|| why.to_string());
    }

    pub(super) fn memory(&mut self, net: &Net) {
        for node in &net.nodes {
            let bytes = rss_bytes(node.pid);
            if bytes > self.phase.rss_bytes {
                (self.phase.rss_bytes, self.phase.rss_node) = (bytes, node.name.clone());
            }
        }
    }

    pub(super) fn phase(mut self) -> Phase {
        self.times.sort_unstable();
        let rank = |percent: usize| {
            let place = (self.times.len() * percent).div_ceil(100).max(1) - 1;
            self.times.get(place).copied().unwrap_or_default()
        };
        self.phase.latency = Latency { p50: rank(50), p95: rank(95) };
        self.phase
    }
}

/// Memory that a process holds; 0 where the system does not tell.
fn rss_bytes(pid: u64) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Counters of all nodes together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Messages with a wrong tag.
    pub forged: u64,
    /// Messages that were none.
    pub malformed: u64,
    /// Messages that policy refused after a right tag.
    pub refused: u64,
    /// Connections that were not let in.
    pub connections_refused: u64,
    /// Connections that were closed.
    pub connections_closed: u64,
    /// Requests that nobody looked at.
    pub requests_refused: u64,
    /// Requests that had to wait.
    pub requests_delayed: u64,
    /// Announcements that were not heard.
    pub gossip_refused: u64,
}

impl Sums {
    pub(super) fn add(&mut self, counters: &Counters) {
        self.forged += counters.forged;
        self.malformed += counters.malformed;
        self.refused += counters.refused;
        self.connections_refused += counters.connections_refused;
        self.connections_closed += counters.connections_closed;
        self.requests_refused += counters.requests_refused;
        self.requests_delayed += counters.requests_delayed;
        self.gossip_refused += counters.gossip_refused;
    }

    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            forged: self.forged - before.forged,
            malformed: self.malformed - before.malformed,
            refused: self.refused - before.refused,
            connections_refused: self.connections_refused - before.connections_refused,
            connections_closed: self.connections_closed - before.connections_closed,
            requests_refused: self.requests_refused - before.requests_refused,
            requests_delayed: self.requests_delayed - before.requests_delayed,
            gossip_refused: self.gossip_refused - before.gossip_refused,
        }
    }
}

/// Bytes of each lane that were used for keys and identities, as the hubs have them on record.
#[derive(Debug, Default)]
pub(super) struct Pads(BTreeMap<(String, TableId), [u64; 2]>);

/// What has become of the pads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Burned {
    /// By the honest keys: what all hubs have on record for alice and bob.
    pub honest: u64,
    /// Beyond what the keys that were agreed cost.
    pub beyond: i64,
    /// Of carol's tables, whom the attacker played.
    pub victim: u64,
}

impl Pads {
    pub(super) fn of(net: &Net) -> Result<Self, FloodError> {
        let mut pads = BTreeMap::new();
        for hub in net.hubs() {
            for table in net.status(hub)?.tables {
                let used = table.lanes.map(|lane| lane.used_key + lane.used_identity);
                pads.insert((table.peer_name.to_string(), table.table), used);
            }
        }
        Ok(Self(pads))
    }

    /// The same once nothing is under way any more: the slowest hub's share of the last key counts too.
    pub(super) fn settled(net: &Net) -> Result<Self, FloodError> {
        let mut pads = Self::of(net)?;
        loop {
            thread::sleep(SETTLE_PAUSE);
            let later = Self::of(net)?;
            if later.0 == pads.0 {
                return Ok(later);
            }
            pads = later;
        }
    }

    pub(super) fn since(&self, before: &Self, net: &Net, keys: u64) -> Burned {
        let (mut honest, mut victim) = (0, 0);
        for ((peer, table), used) in &self.0 {
            let old = before.0.get(&(peer.clone(), *table)).copied().unwrap_or_default();
            let burned: u64 = used.iter().zip(old).map(|(now, old)| now.saturating_sub(old)).sum();
            *(if peer == "carol" { &mut victim } else { &mut honest }) += burned;
        }
        // Each key burns a run of alice's and one of bob's at each hub.
        let cost = keys * KEY_BURNS * 2 * net.hubs().count() as u64;
        let beyond = i64::try_from(honest).unwrap_or(i64::MAX) - i64::try_from(cost).unwrap_or(i64::MAX);
        Burned { honest, beyond, victim }
    }
}

/// All figures of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// Before the flood.
    pub before: Phase,
    /// During it.
    pub during: Phase,
    /// After it.
    pub after: Phase,
    /// What the attacker sent.
    pub sent: BTreeMap<&'static str, u64>,
    /// Pads.
    pub burned: Burned,
    /// What all nodes counted.
    pub counters: Sums,
}

impl Report {
    /// Whether no pad was burned but by the honest: what failed keys may have cost is theirs. (A hub that was out
    /// of reach for a key burned nothing for it.)
    pub fn is_clean(&self) -> bool {
        let failed = self.before.failed + self.during.failed + self.after.failed;
        // At most ten runs: five hubs, two sides.
        let most = i64::try_from(failed * KEY_BURNS * 10).unwrap_or(i64::MAX);
        self.burned.victim == 0 && self.burned.beyond <= most
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, phase) in [("before", &self.before), ("during", &self.during), ("after", &self.after)] {
            let Phase { keys, confirmed, failed, latency, rss_bytes, rss_node, first_failure } = phase;
            writeln!(
                f,
                "{name:>7}: {keys} keys, {confirmed} confirmed, {failed} failed; p50 {:.2} ms, p95 {:.2} ms; most memory {:.1} MiB ({rss_node})",
                latency.p50.as_secs_f64() * 1e3,
                latency.p95.as_secs_f64() * 1e3,
                *rss_bytes as f64 / f64::from(1 << 20),
            )?;
            if let Some(why) = first_failure {
                writeln!(f, "         first failure: {why}")?;
            }
        }
        let ratio =
            |during: Duration, before: Duration| during.as_secs_f64() / before.as_secs_f64().max(1e-9);
        let (before, during) = (self.before.latency, self.during.latency);
        writeln!(
            f,
            "latency during / before: p50 {:.2}, p95 {:.2}",
            ratio(during.p50, before.p50),
            ratio(during.p95, before.p95)
        )?;
        writeln!(f, "the attacker: {:?}", self.sent)?;
        writeln!(f, "the nodes:    {:?}", self.counters)?;
        let Burned { honest, beyond, victim } = self.burned;
        write!(
            f,
            "pad burned: {honest} bytes by the honest, {beyond} beyond what their keys cost, {victim} of carol's"
        )
    }
}
