//! The all-seeing checker: it knows every lane, every message and every key, and is told of everything that
//! becomes visible. The first thing that must not be ends the run.

mod facts;
mod hearsay;
mod keys;
mod lanes;
mod quotas;

use std::collections::{BTreeMap, BTreeSet};

use dske_protocol::ids::{BlockId, NodeId, TableId};

use crate::shared::Micros;

pub(crate) use facts::{Facts, Pending, status_adds_up};
pub(crate) use keys::Ended;
pub(crate) use lanes::{Lanes, body};

use hearsay::Said;
use keys::Blocks;
use quotas::Accounts;

/// What must always hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// No byte of a lane serves two messages.
    LaneByteOnce,
    /// Nothing is visible before it is durable.
    DurableFirst,
    /// A node takes in exactly what its peer sent, once, and what policy allows.
    GenuineOnly,
    /// All who hold a key of one block hold the same.
    KeysEqual,
    /// A key is handed out once by each node.
    KeyOnce,
    /// Bad hubs stop an agreement exactly from the threshold on.
    Threshold,
    /// Everything ends.
    NoHang,
    /// What was acknowledged is there after a crash.
    NothingLost,
    /// No hub learns more than its own share.
    SharesApart,
    /// Used, skipped, reserved and left bytes are all bytes of a lane.
    StatusAdds,
    /// Liars are named, honest hubs are not.
    LiarsNamed,
    /// Fewer than k_B hubs decide on no identity.
    Identities,
    /// What moves a sender without a tag was said.
    Hearsay,
    /// Memory stays within its limits.
    Bounded,
    /// What bad hubs take leaves room for the others.
    Fair,
    /// What quotas and limits allow, and no more, is burned; who keeps to them is not refused.
    Quotas,
    /// Code of the project does not panic.
    NoPanic,
}

/// Something that must not be.
#[derive(Debug, Clone)]
pub struct Violation {
    /// What was violated.
    pub invariant: Invariant,
    /// How.
    pub text: String,
}

/// What the run has been told about itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Bad hubs are the only fault.
    pub(crate) sharp: bool,
    /// Not even that: no hub is bad, and every wish comes to its key.
    pub(crate) calm: bool,
    /// Fewer than k_B hubs are bad.
    pub(crate) safe: bool,
    pub(crate) k_min: u8,
    /// Everybody who must be known is, or good hubs outnumber bad ones.
    pub(crate) identifiable: bool,
}

/// A point of the run: in virtual time, and in the order of events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    pub(crate) at: Micros,
    pub(crate) step: u64,
}

/// How often a directory was put back, and who has said so.
#[derive(Debug, Clone, Default)]
pub(crate) struct Restored {
    times: u32,
    /// Honest hubs that have said so since the last time.
    told: BTreeSet<usize>,
    /// Tables of honest hubs that their client, this node, has not compared since: there it may still be said.
    open: BTreeSet<TableId>,
}

pub(crate) struct Checker {
    /// Now.
    pub(crate) moment: Moment,
    pub(crate) lanes: Lanes,
    pub(crate) ids: Vec<NodeId>,
    /// By node: whether its directory was put back.
    pub(crate) was_put_back: Vec<bool>,
    /// By node.
    pub(crate) restores: Vec<Restored>,
    /// Tag keys of marks that a node has asked for, by table.
    pub(crate) keys_taken: BTreeMap<(usize, TableId), u64>,
    pub(crate) blocks: Blocks,
    pub(crate) quotas: Accounts,
    /// By node.
    pub(crate) facts: Vec<Facts>,
    pub(crate) bounds: Bounds,
    pub(crate) bad_hubs: BTreeSet<NodeId>,
    pub(crate) bad_clients: BTreeSet<NodeId>,
    pub(crate) violation: Option<Violation>,
    /// What receivers have truly said without a tag.
    said: Said,
    /// Several hubs add errors that may cancel.
    pub(crate) colluding: bool,
    /// Blocks whose key somebody had handed out before he was put back.
    pub(crate) put_back: BTreeSet<BlockId>,
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

impl Checker {
    pub(crate) fn new(ids: Vec<NodeId>, bounds: Bounds) -> Self {
        Self {
            lanes: Lanes::default(),
            was_put_back: vec![false; ids.len()],
            restores: vec![Restored::default(); ids.len()],
            keys_taken: BTreeMap::new(),
            moment: Moment::default(),
            blocks: Blocks::default(),
            quotas: Accounts::default(),
            facts: ids.iter().map(|_| Facts::default()).collect(),
            ids,
            bounds,
            bad_hubs: BTreeSet::new(),
            bad_clients: BTreeSet::new(),
            violation: None,
            said: Said::default(),
            colluding: false,
            put_back: BTreeSet::new(),
            counts: BTreeMap::new(),
        }
    }

    pub(crate) fn fail(&mut self, invariant: Invariant, text: impl Into<String>) {
        if self.violation.is_none() {
            self.violation = Some(Violation { invariant, text: text.into() });
        }
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// The directory of a node is put back; these are the facts of the copy.
    pub(crate) fn directory_put_back(&mut self, node: usize, facts: Facts) {
        self.was_put_back[node] = true;
        let tables = self.lanes.of_client(node).filter(|(_, hub)| !self.is_bad(&self.ids[*hub]));
        let open = tables.map(|(table, _)| table).collect();
        let times = self.restores[node].times + 1;
        self.restores[node] = Restored { times, told: BTreeSet::new(), open };
        self.facts[node] = facts;
        self.facts[node].put_back();
    }

    /// Whether an honest hub may yet be one of the first k_B to say that the directory was put back. What it says after another
    /// start may mean a restore after all that was recorded before that start.
    fn may_be_told(&self, node: usize) -> bool {
        let Restored { times, told, open } = &self.restores[node];
        // Of a second one a table says nothing new that was not compared between the two; and liars leave something open.
        let dealt_with =
            *times == 1 && told.len() >= usize::from(self.bounds.k_min) && self.bad_hubs.is_empty();
        !open.is_empty() && !dealt_with
    }

    pub(crate) fn is_bad(&self, node: &NodeId) -> bool {
        self.bad_hubs.contains(node) || self.bad_clients.contains(node)
    }
}
