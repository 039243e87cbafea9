//! What is known of the nodes that are watched.

use std::collections::{BTreeMap, VecDeque};

use dske_node::{
    config::Role,
    status::{Event, Level, Status},
};
use dske_protocol::ids::Name;

use crate::history::History;

/// Own events remembered: what was asked for here, and what came of it.
const OWN_EVENTS_MAX: usize = 64;

/// What the source of snapshots tells.
#[derive(Debug, Clone)]
pub enum Update {
    /// A node's status.
    Status {
        /// Its name.
        node: Name,
        /// When, in milliseconds since the epoch.
        at_ms: u64,
        /// The snapshot.
        status: Box<Status>,
    },
    /// A node does not answer.
    Away {
        /// Its name.
        node: Name,
        /// What it is meant to be, as far as that is known.
        roles: Vec<Role>,
        /// Why, for a person.
        why: String,
    },
}

/// One watched node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Node {
    pub(crate) status: Option<Box<Status>>,
    /// When that was.
    pub(crate) at_ms: u64,
    /// Why it does not answer, if it does not.
    pub(crate) away: Option<String>,
    /// None where nothing is known of it.
    pub(crate) roles: Vec<Role>,
    pub(crate) history: History,
}

impl Node {
    /// Whether it is known to have a role.
    pub(crate) fn is(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// The status of a node that answers.
    pub(crate) fn live(&self) -> Option<&Status> {
        self.status.as_deref().filter(|_| self.away.is_none())
    }
}

/// See the head of the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) nodes: BTreeMap<Name, Node>,
    own: VecDeque<Event>,
}

impl Model {
    /// Takes an update in. Gives whether anything that is shown has changed; ages do not count.
    pub(crate) fn update(&mut self, update: Update) -> bool {
        match update {
            Update::Status { node, at_ms, status } => {
                let node = self.nodes.entry(node).or_default();
                node.history.add(at_ms, &status);
                let changed = node.away.take().is_some()
                    || node.status.as_ref().is_none_or(|before| moved(before, &status));
                node.roles.clone_from(&status.node.roles);
                node.status = Some(status);
                node.at_ms = at_ms;
                changed
            }
            Update::Away { node, roles, why } => {
                let node = self.nodes.entry(node).or_default();
                if node.roles.is_empty() {
                    node.roles = roles;
                }
                let changed = node.away.as_ref() != Some(&why);
                node.away = Some(why);
                changed
            }
        }
    }

    /// Remembers what was asked for here, or what came of it.
    pub(crate) fn note(&mut self, at_ms: u64, level: Level, text: String) {
        self.own.truncate(OWN_EVENTS_MAX - 1);
        self.own.push_front(Event { at_ms, level, text });
    }

    /// Newest first.
    pub(crate) fn own_events(&self) -> impl Iterator<Item = &Event> {
        self.own.iter()
    }

    /// Nodes in focus with their status: of those that are away, the last one.
    pub(crate) fn known<'a>(
        &'a self,
        focus: Option<&'a Name>,
    ) -> impl Iterator<Item = (&'a Name, &'a Node, &'a Status)> {
        let in_focus = move |name: &Name| focus.is_none_or(|focus| focus == name);
        self.nodes
            .iter()
            .filter(move |(name, _)| in_focus(name))
            .filter_map(|(name, node)| Some((name, node, node.status.as_deref()?)))
    }

    /// The name for what a node calls another: its own names stand, short ids of nodes watched here are resolved.
    pub(crate) fn name(&self, called: &str) -> String {
        let short = |status: &Status| status.node.id.short() == called;
        let known = self.nodes.iter().find(|(_, node)| node.status.as_deref().is_some_and(short));
        known.map_or_else(|| called.to_owned(), |(name, _)| name.to_string())
    }
}

/// Whether two snapshots differ in more than ages.
fn moved(before: &Status, after: &Status) -> bool {
    // Everything that moves moves one of these, or is small.
    before.counters != after.counters
        || before.node.pid != after.node.pid
        || before.node.fault != after.node.fault
        || before.node.store_fault != after.node.store_fault
        || before.policy != after.policy
        || before.tables != after.tables
        || before.peers != after.peers
        || before.modules != after.modules
        || before.wishes.len() != after.wishes.len()
        || before.identities != after.identities
        || before.inquiries != after.inquiries
        || before.events.first() != after.events.first()
        || before.streams != after.streams
        || before.sessions.len() != after.sessions.len()
        || before.sessions.iter().zip(&after.sessions).any(|(one, other)| {
            one.block != other.block
                || one.phase != other.phase
                || one.shares != other.shares
                || one.step != other.step
                || one.hubs != other.hubs
        })
}
