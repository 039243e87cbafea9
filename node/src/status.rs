//! What a node says about itself: one snapshot, the same for `status --json`, the dashboard and tests.
//!
//! Never holds a secret, nor anything computed from one.

use std::{collections::BTreeMap, path::Path, time::Duration};

use dske_protocol::ids::{BlockId, Lane, Name, NodeId};
use dske_storage::{ModuleRecord, TableSide, TableStatus};
use serde::{Deserialize, Serialize};

use crate::{config::Role, span::span};

/// Version of the JSON form; grows when a field changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 1;

/// Everything that a node shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// See [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The node itself.
    pub node: NodeStatus,
    /// A client's policy and what it can bear; `None` on a node that is only a hub.
    pub policy: Option<PolicyStatus>,
    /// Every table, with its lanes.
    pub tables: Vec<TableStatus>,
    /// Hubs of a client, clients of a hub. A peer that is both stands in it twice, once in each role.
    pub peers: Vec<PeerStatus>,
    /// Modules and their custody.
    pub modules: Vec<ModuleRecord>,
    /// Agreements under way and the latest ended ones, newest first.
    pub sessions: Vec<SessionStatus>,
    /// Keys that are wanted and not yet being agreed, oldest first.
    pub wishes: Vec<WishStatus>,
    /// Established identities of other clients.
    pub identities: Vec<IdentityStatus>,
    /// What hubs said of other clients when they were last asked, newest first.
    pub inquiries: Vec<InquiryStatus>,
    /// Latest notable events, newest first.
    pub events: Vec<Event>,
    /// Streams of keys that are agreed ahead.
    pub streams: Vec<StreamStatus>,
    /// What is spent of quotas, where something is.
    pub quotas: Vec<QuotaStatus>,
    /// Keys that wait at a client; `None` on a node that is only a hub.
    #[serde(default)]
    pub keys: Option<KeysStatus>,
    /// Every pad with its rate of use.
    pub pads: Vec<PadForecast>,
    /// Messages refused since the node started, by reason.
    pub refusals: BTreeMap<String, u64>,
    /// Counters since the node started.
    pub counters: Counters,
}

/// Keys that wait at a client, and records of its agreements, as of the last look; each look is half a minute after the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysStatus {
    /// Blocks with keys that wait.
    pub blocks: u64,
    /// Bytes of these keys.
    pub bytes: u64,
    /// Most bytes that wait.
    pub bytes_max: u64,
    /// Seconds after which a received key is given up.
    pub lifetime_s: u64,
    /// Blocks of which keys were given up since the node started.
    pub given_up: u64,
    /// Records of agreements of which no key waits.
    pub records: u64,
    /// Most of them that are kept.
    pub records_max: u32,
    /// Records that were dropped since the node started.
    pub forgotten: u64,
}

/// What is spent of one quota.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaStatus {
    /// Whose, in words.
    pub who: String,
    /// Bytes spent that have not come back yet; absent for what is counted elsewhere.
    pub used_bytes: Option<u64>,
    /// Of a limit that this client sets at a hub: whether the hub has said, under a tag, that it is in force there. Absent
    /// for what is counted here.
    pub in_force: Option<bool>,
    /// The quota, such as "1GiB/day".
    pub limit: String,
}

/// One lane of all active tables with a peer of which this node is one end, and what is to be expected of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PadForecast {
    /// The peer's id.
    pub node: NodeId,
    /// What it is called.
    pub peer: Name,
    /// Which end this node is: a peer may be its hub and its client, in different tables.
    pub side: TableSide,
    /// Which lane.
    pub lane: Lane,
    /// Bytes left.
    pub left_bytes: u64,
    /// Bytes of these lanes.
    pub bytes: u64,
    /// Bytes used in a second, averaged over a quarter of an hour.
    pub bytes_per_s: u64,
    /// Seconds until it is empty at the rate of `pads.average_over`; `None` where nothing is used, nothing is left, or use has
    /// not been watched for long enough to say.
    pub empty_in_s: Option<u64>,
    /// Whether that, or how little is left, is worth a warning.
    pub level: Level,
}

impl PadForecast {
    /// Pads are low below this part of all active tables together, in percent, whatever their rate of use.
    pub const WARN_PERCENT: u8 = 20;
    /// See [`Self::WARN_PERCENT`].
    pub const CRIT_PERCENT: u8 = 5;

    /// When it is empty, in words.
    pub fn end(&self) -> Option<String> {
        let left = span(Duration::from_secs(self.empty_in_s?));
        Some(format!("empty in {left} at the present rate"))
    }
}

impl Status {
    /// Clients with which no key can be agreed now though hubs enough are usable: fewer than k of these serve them.
    pub fn too_few_hubs(&self) -> impl Iterator<Item = &IdentityStatus> {
        let policy = self.policy.filter(|policy| policy.usable >= policy.k);
        let short = move |known: &&IdentityStatus| policy.is_some_and(|policy| known.usable < policy.k);
        self.identities.iter().filter(short)
    }
}

/// The node itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: Name,
    /// Its id.
    pub id: NodeId,
    /// Its libp2p peer id.
    pub peer_id: String,
    /// Its roles.
    pub roles: Vec<Role>,
    /// Version of the program.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Addresses listened on.
    pub listen: Vec<String>,
    /// Milliseconds since the start.
    pub uptime_ms: u64,
    /// Why the store refuses to work, where it does.
    pub store_fault: Option<String>,
    /// Room on the disk under its store; `None` where the system does not say.
    #[serde(default)]
    pub disk: Option<DiskStatus>,
    /// Whether all memory of the process is locked: if not, secrets may reach the swap space.
    pub memory_locked: bool,
    /// How a hub of a local test network was told to misbehave.
    pub fault: Option<String>,
}

/// What is free on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStatus {
    /// Bytes that this user can still write.
    pub free_bytes: u64,
    /// Whether that is worth a warning.
    pub level: Level,
}

impl DiskStatus {
    /// With less it is time to look.
    pub const WARN_BYTES: u64 = 1 << 30;
    /// With less the store soon has no room for what it must record.
    pub const CRIT_BYTES: u64 = 64 << 20;

    /// Of the file system that a path lies on.
    pub fn of(path: &Path) -> Option<Self> {
        let room = rustix::fs::statvfs(path).ok()?;
        Some(Self::with(room.f_bavail.saturating_mul(room.f_frsize)))
    }

    /// With so much free.
    pub fn with(free_bytes: u64) -> Self {
        let level = match free_bytes {
            ..Self::CRIT_BYTES => Level::Crit,
            Self::CRIT_BYTES..Self::WARN_BYTES => Level::Warn,
            _ => Level::Info,
        };
        Self { free_bytes, level }
    }
}

/// A client's parameters and the four thresholds (§4.2) that they give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// Hubs used for a key. A client that is a hub as well is none for its own keys: where one is known, this is what
    /// is left for it.
    pub n: u8,
    /// Shares needed.
    pub k: u8,
    /// k_B.
    pub k_min: u8,
    /// Hubs needed to learn a key as the sender has it: k.
    pub leakage: u8,
    /// Hubs needed to make the two sides hold different keys: k_B.
    pub malleability: u8,
    /// Hubs needed to make a receiver take a key that they know: k_B.
    pub injection: u8,
    /// Hubs needed to stop agreement: min(n − k + 1, k_B).
    pub disruption: u8,
    /// Hubs to which messages can go right now: connected, with an open table, not excluded; with any client that is known,
    /// as for `n`. Whether a hub serves a certain receiver is not in it: that is told with each identity.
    pub usable: u8,
}

/// A hub as its client sees it, or the other way round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its id.
    pub node: NodeId,
    /// Its name.
    pub name: Name,
    /// What it is.
    pub role: Role,
    /// Whether there is a connection.
    pub connected: bool,
    /// Why it is not used, where it is not.
    pub excluded: Option<String>,
    /// Which versions of the protocol it speaks and what to do, where none is among those of this node: nothing can be
    /// exchanged with it.
    pub incompatible: Option<String>,
    /// Of a hub that is connected and not excluded: why no message can go to it all the same, as where its table is out of
    /// use. Of one that is not counted in `usable` one of the four says why.
    #[serde(default)]
    pub shut: Option<String>,
    /// Messages waiting for it in the outbox (a hub's view of a client).
    pub waiting: u64,
}

/// One agreement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Its block.
    pub block: BlockId,
    /// Name of the sender, or its short id where the name is not known.
    pub sender: String,
    /// The same for the receivers.
    pub receivers: Vec<String>,
    /// Whether this node is its sender.
    pub sent: bool,
    /// What it is for.
    pub purpose: String,
    /// Bytes of key.
    pub key_bytes: u64,
    /// Hubs in the roster.
    pub n: u8,
    /// Shares needed.
    pub k: u8,
    /// Shares accepted by hubs (sender) or received (receiver).
    pub shares: u8,
    /// What is known of each hub's share, in the order of the roster.
    pub hubs: Vec<HubShare>,
    /// How far it has come.
    pub step: Step,
    /// When each step began, in microseconds since the beginning.
    pub steps_us: Vec<(Step, u64)>,
    /// Where it stands: one of `agreeing`, `validated`, `aborted`.
    pub phase: String,
    /// Hubs whose share was false, by name.
    pub liars: Vec<String>,
    /// Why it was aborted.
    pub reason: Option<String>,
    /// How long it took, or has taken so far, in microseconds.
    pub took_us: u64,
    /// When it began, in milliseconds since the epoch.
    pub began_ms: u64,
}

/// The steps of an agreement, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Who the others are (§2.2).
    Identity,
    /// Pads are taken and shares made (§2.3.1).
    Generation,
    /// Shares go through the hubs (§2.3.2).
    Distribution,
    /// The key is made from shares (§2.3.3).
    Reconstruction,
    /// Its tag is right, and its record is written; a sender waits for the receivers' word (§2.3.4).
    Validation,
}

/// One hub's share of an agreement, as this node knows of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubShare {
    /// Name of the hub, or its short id.
    pub hub: String,
    /// Where its share is.
    pub state: ShareState,
}

/// Where a share is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShareState {
    /// Nothing was sent, or nothing has come.
    Waiting,
    /// On its way to the hub (sender).
    Sent,
    /// The hub has taken it (sender).
    Accepted,
    /// It has come (receiver).
    Arrived,
    /// The hub refused it (sender).
    Refused,
    /// The hub did not answer (sender).
    Silent,
    /// It was not what the sender gave the hub.
    False,
}

/// A key that is wanted: identities are asked for, links awaited, or pads taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WishStatus {
    /// The receivers, as they were named by who asked.
    pub with: Vec<String>,
    /// Bytes of key.
    pub key_bytes: u64,
    /// What it waits in: identity or share generation.
    pub step: Step,
    /// For how long, in microseconds.
    pub waiting_us: u64,
}

/// What the hubs said when they were asked who a client is (§2.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InquiryStatus {
    /// Name of the client, or its short id.
    pub subject: String,
    /// When the last answer was in, in milliseconds since the epoch.
    pub at_ms: u64,
    /// What follows.
    pub outcome: String,
    /// Each hub's word.
    pub words: Vec<HubWordStatus>,
}

/// What one hub said of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubWordStatus {
    /// Name of the hub, or its short id.
    pub hub: String,
    /// What it claims, as name and short id; or that it is silent, or does not know the client.
    pub says: String,
    /// Whether that is what was established; `None` where it made no claim, or none was accepted.
    pub agrees: Option<bool>,
}

/// A stream of keys that this node agrees ahead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamStatus {
    /// Names of the receivers, or short ids.
    pub with: Vec<String>,
    /// What the keys are for.
    pub purpose: String,
    /// Bits of each key.
    pub bits: u64,
    /// With fewer keys than this, more are agreed.
    pub low: u32,
    /// Until there are so many.
    pub high: u32,
    /// Keys in the pool.
    pub keys: u64,
    /// Keys that are being agreed.
    pub keys_out: u64,
    /// Keys agreed since the start.
    pub agreed: u64,
    /// Keys handed out since the start.
    pub handed_out: u64,
    /// How its blocks are agreed now: `adapted`, `general`, or `waiting` for hubs or a negotiation key.
    pub protocol: String,
    /// Why the last block failed, where none has succeeded since.
    pub problem: Option<String>,
}

/// Another client whose identity the hubs agree on (§2.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityStatus {
    /// Its id.
    pub node: NodeId,
    /// Its name.
    pub name: Name,
    /// Number of hubs that claim it alike.
    pub claims: u32,
    /// These hubs, by name.
    pub hubs: Vec<String>,
    /// How many of the hubs that serve it can be used right now: with fewer than k no key can be agreed with it.
    #[serde(default)]
    pub usable: u8,
}

/// Something that an operator may want to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// How much it matters.
    pub level: Level,
    /// What happened, safe to print.
    pub text: String,
}

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For the record.
    Info,
    /// Look at it when there is time.
    Warn,
    /// Look at it now.
    Crit,
}

/// Counters since the node started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Keys validated as a receiver.
    pub validated: u64,
    /// Keys agreed as a sender.
    pub sent: u64,
    /// Agreements aborted on either side.
    pub aborted: u64,
    /// Shares forwarded as a hub.
    pub forwarded: u64,
    /// Messages refused after a correct tag, by policy.
    pub refused: u64,
    /// Messages whose tag was wrong.
    pub forged: u64,
    /// Messages that could not be decoded.
    pub malformed: u64,
    /// False shares seen.
    pub false_shares: u64,
    /// Messages that had waited too long for their receiver, and were dropped.
    pub expired: u64,
    /// Connections that were not let in.
    pub connections_refused: u64,
    /// Connections that were closed for what came over them, or to make room.
    pub connections_closed: u64,
    /// Requests that were refused before anybody looked at them.
    pub requests_refused: u64,
    /// Requests that had to wait because too much came at once.
    pub requests_delayed: u64,
    /// Announcements that were not heard.
    pub gossip_refused: u64,
    /// Bytes of messages sent to others, without what carries them.
    pub sent_bytes: u64,
}
