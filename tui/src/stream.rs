//! What has happened between two snapshots of a node, as lines: for pipes, logs and people without a screen.

use std::collections::{BTreeMap, BTreeSet};

use dske_node::{
    config::Role,
    status::{Event, Level, SessionStatus, Status},
};
use dske_protocol::ids::{BlockId, NodeId, TableId};
use dske_storage::{ModuleState, TableState};
use serde::Serialize;

use crate::text;

/// One thing that has happened at a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// The node.
    pub node: String,
    /// `session`, `event`, `peer`, `module`, `table` or `node`.
    pub kind: &'static str,
    /// How much it matters.
    pub level: Level,
    /// What, safe to print.
    pub text: String,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let level = match self.level {
            Level::Info => "info",
            Level::Warn => "WARN",
            Level::Crit => "CRIT",
        };
        let (time, node, kind) = (text::time_of_day(self.at_ms), &self.node, self.kind);
        write!(f, "{time} {node:<8} {kind:<7} {level} {}", self.text)
    }
}

/// Remembers what was told of a node.
#[derive(Debug, Default)]
pub struct Changes {
    known: bool,
    down: bool,
    sessions: BTreeMap<BlockId, (String, u8, Vec<String>)>,
    events: BTreeSet<(u64, String)>,
    peers: BTreeMap<(NodeId, Role), (bool, Option<String>)>,
    modules: BTreeMap<TableId, ModuleState>,
    tables: BTreeMap<TableId, TableState>,
}

impl Changes {
    /// A node does not answer.
    pub fn away(&mut self, at_ms: u64, node: &str, why: &str) -> Option<Change> {
        let first = !std::mem::replace(&mut self.down, true);
        let text = format!("down: {}", text::printable(why));
        first.then(|| Change { at_ms, node: node.to_owned(), kind: "node", level: Level::Warn, text })
    }

    /// What is new in a snapshot, oldest first. Of the first one everything is, but what has long been over.
    pub fn since(&mut self, at_ms: u64, status: &Status) -> Vec<Change> {
        let node = status.node.name.to_string();
        let mut changes = Vec::new();
        let mut tell = |at_ms, kind, level, text| {
            changes.push(Change { at_ms, node: node.clone(), kind, level, text });
        };
        if !self.known || self.down {
            let roles: Vec<String> = status.node.roles.iter().map(ToString::to_string).collect();
            tell(at_ms, "node", Level::Info, format!("up: {}, process {}", roles.join("+"), status.node.pid));
        }
        self.events(status, &mut tell);
        self.sessions(at_ms, status, &mut tell);
        self.peers(at_ms, status, &mut tell);
        self.modules(at_ms, status, &mut tell);
        (self.known, self.down) = (true, false);
        changes.sort_by_key(|change| change.at_ms);
        changes
    }

    fn events(&mut self, status: &Status, tell: &mut impl FnMut(u64, &'static str, Level, String)) {
        let key = |event: &Event| (event.at_ms, event.text.clone());
        for event in status.events.iter().rev().filter(|event| !self.events.contains(&key(event))) {
            tell(event.at_ms, "event", event.level, text::printable(&event.text));
        }
        // What the node has forgotten does not come back.
        self.events = status.events.iter().map(key).collect();
    }

    fn sessions(
        &mut self,
        at_ms: u64,
        status: &Status,
        tell: &mut impl FnMut(u64, &'static str, Level, String),
    ) {
        let mut now = BTreeMap::new();
        for session in status.sessions.iter().rev() {
            let state = (session.phase.clone(), session.shares, session.liars.clone());
            let before = self.sessions.get(&session.block);
            if before != Some(&state) {
                let bad = session.phase == "aborted" || !session.liars.is_empty();
                let level = if bad { Level::Warn } else { Level::Info };
                let at_ms = if before.is_none() { session.began_ms } else { at_ms };
                tell(at_ms, "session", level, session_line(session, status));
            }
            now.insert(session.block, state);
        }
        self.sessions = now;
    }

    fn peers(
        &mut self,
        at_ms: u64,
        status: &Status,
        tell: &mut impl FnMut(u64, &'static str, Level, String),
    ) {
        for peer in &status.peers {
            let state = (peer.connected, peer.excluded.clone());
            // Who is hub and client stands there twice.
            let whom = (peer.node, peer.role);
            if self.peers.get(&whom) == Some(&state) {
                continue;
            }
            let (level, word) = match &state {
                (_, Some(reason)) => (Level::Crit, format!("excluded: {}", text::printable(reason))),
                (true, None) => (Level::Info, "connected".to_owned()),
                (false, None) => (Level::Warn, "away".to_owned()),
            };
            tell(at_ms, "peer", level, format!("{} {} {word}", peer.role, peer.name));
            self.peers.insert(whom, state);
        }
    }

    fn modules(
        &mut self,
        at_ms: u64,
        status: &Status,
        tell: &mut impl FnMut(u64, &'static str, Level, String),
    ) {
        for module in &status.modules {
            if self.modules.insert(module.table, module.state) != Some(module.state) {
                let state = match module.state {
                    ModuleState::Made => "made",
                    ModuleState::Imported => "imported",
                    ModuleState::Acknowledged => "acknowledged",
                    ModuleState::Retired => "retired",
                    ModuleState::Locked => "locked by wrong receipts",
                };
                let serial = text::printable(&module.serial);
                tell(at_ms, "module", Level::Info, format!("{serial} for {} is {state}", module.client_name));
            }
        }
        for table in &status.tables {
            let before = self.tables.insert(table.table, table.state.clone());
            if before.is_some_and(|before| before != table.state) {
                let (serial, state) =
                    (text::printable(&table.serial), text::printable(&table.state.to_string()));
                tell(at_ms, "table", Level::Warn, format!("{serial} is {state}"));
            }
        }
    }
}

fn session_line(session: &SessionStatus, status: &Status) -> String {
    let own = status.node.id.short();
    let name =
        |name: &String| if *name == own { status.node.name.to_string() } else { text::printable(name) };
    let to: Vec<String> = session.receivers.iter().map(name).collect();
    let mut line = format!(
        "{} {}>{} {} {}/{} k{} {} {}bit",
        session.block.short(),
        name(&session.sender),
        to.join(","),
        text::printable(&session.phase),
        session.shares,
        session.n,
        session.k,
        text::short_time(session.took_us),
        session.key_bytes.saturating_mul(8)
    );
    if !session.liars.is_empty() {
        let liars: Vec<String> = session.liars.iter().map(|liar| text::printable(liar)).collect();
        line.push_str(&format!(" false share from {}", liars.join(",")));
    }
    if let Some(reason) = &session.reason {
        line.push_str(&format!(" because {}", text::printable(reason)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn each_thing_is_told_once() {
        let mut changes = Changes::default();
        let mut status = samples::client();
        let first = changes.since(1, &status);
        let told = |changes: &[Change], kind: &str| changes.iter().filter(|c| c.kind == kind).count();
        assert_eq!(told(&first, "session"), status.sessions.len());
        assert_eq!(told(&first, "event"), status.events.len());
        assert_eq!(told(&first, "peer"), status.peers.len());
        assert!(changes.since(2, &status).is_empty());
        status.sessions[0].phase = "aborted".into();
        status.sessions[0].reason = Some("\u{1b}[2Jtoo few".into());
        status.peers[0].connected = false;
        let next = changes.since(3, &status);
        assert_eq!(next.len(), 2, "{next:?}");
        assert!(next.iter().all(|change| !change.to_string().chars().any(char::is_control)));
        assert!(changes.away(4, "alice", "gone").is_some() && changes.away(5, "alice", "gone").is_none());
        assert!(changes.since(6, &status).iter().any(|change| change.text.starts_with("up")));
    }
}
