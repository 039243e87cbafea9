//! Hubs: the nodes that are watched and the peers that they know, whether they are there, and who lies.

use std::collections::{BTreeMap, BTreeSet};

use dske_node::{
    config::Role,
    status::{PeerStatus, PolicyStatus, Status},
};
use dske_protocol::ids::Name;
use dske_storage::{LaneStatus, TableSide, TableState};

use super::{
    Cell, Column, Context, Entry, Rank, Spans, Subject, cell, column, fact, heading, plain, stretching,
};
use crate::{merged::Merged, model::Node, text, theme::Tone};

pub(super) const COLUMNS: [Column; 9] = [
    column("NODE", (5, 12), false, 0),
    column("ROLE", (6, 6), false, 3),
    column("STATE", (8, 24), false, 0),
    column("LINKS", (5, 5), true, 2),
    stretching("LEAST PAD", (9, 9), 4, 30),
    column("KEYS", (7, 7), true, 5),
    column("FALSE", (5, 5), true, 2),
    column("WAIT", (5, 5), true, 6),
    column("NOTE", (10, 70), false, 7),
];

/// A node, from what it says and what others say of it.
struct Row<'a> {
    name: &'a Name,
    own: Option<&'a Node>,
    roles: BTreeSet<Role>,
    /// Those who know it, and how: twice by one who deals with it as its hub and as its client.
    known_by: Vec<(&'a Name, &'a PeerStatus)>,
    /// Agreements in which its share was false.
    lies: u64,
}

impl<'a> Row<'a> {
    fn all(context: &Context<'a>) -> Vec<Self> {
        let mut rows: BTreeMap<&Name, Self> = BTreeMap::new();
        let row = |name| Row { name, own: None, roles: BTreeSet::new(), known_by: Vec::new(), lies: 0 };
        for (name, node) in &context.model.nodes {
            if context.focus.is_none_or(|focus| focus == name) {
                let entry = rows.entry(name).or_insert_with(|| row(name));
                entry.own = Some(node);
                entry.roles.extend(&node.roles);
            }
        }
        for (name, node, status) in context.model.known(context.focus) {
            for peer in &status.peers {
                let entry = rows.entry(&peer.name).or_insert_with(|| row(&peer.name));
                if entry.own.is_none_or(|own| own.roles.is_empty()) {
                    entry.roles.insert(peer.role);
                }
                if node.away.is_none() {
                    entry.known_by.push((name, peer));
                }
            }
        }
        for merged in Merged::all(context.model, context.focus) {
            for liar in merged.liars() {
                if let Some(row) = rows.values_mut().find(|row| row.name.as_str() == liar) {
                    row.lies += 1;
                }
            }
        }
        rows.into_values().collect()
    }

    fn status(&self) -> Option<&'a Status> {
        self.own.and_then(|node| node.live())
    }

    fn excluded_by(&self) -> Vec<(&'a Name, &'a str)> {
        let reason = |(name, peer): &(&'a Name, &'a PeerStatus)| Some((*name, peer.excluded.as_deref()?));
        self.known_by.iter().filter_map(reason).collect()
    }

    /// Its connections, as it knows them itself or as the others do; and how many there should be.
    fn links(&self) -> (usize, usize) {
        // Who is a hub and a client of the same node has one connection with it.
        if let Some(status) = self.status() {
            let (peers, up) = (status.peers.iter(), status.peers.iter().filter(|peer| peer.connected));
            return (distinct(up.map(|peer| peer.node)), distinct(peers.map(|peer| peer.node)));
        }
        let up = self.known_by.iter().filter(|(_, peer)| peer.connected);
        (distinct(up.map(|(name, _)| *name)), self.knowers())
    }

    /// How many know it.
    fn knowers(&self) -> usize {
        distinct(self.known_by.iter().map(|(name, _)| *name))
    }

    fn role(&self) -> &'static str {
        match (self.roles.contains(&Role::Hub), self.roles.contains(&Role::Client)) {
            (true, true) => "both",
            (true, false) => "hub",
            (false, true) => "client",
            (false, false) => "?",
        }
    }

    fn state(&self) -> (String, Tone) {
        let (links, all) = self.links();
        let (known, excluded) = (self.knowers(), distinct(self.excluded_by().iter().map(|(name, _)| *name)));
        match (self.own, self.status()) {
            (Some(node), None) if node.away.is_some() => ("DOWN".to_owned(), Tone::Crit),
            (Some(_), None) => ("asked".to_owned(), Tone::Dim),
            (_, Some(status)) if status.node.store_fault.is_some() => {
                ("STORE STOPPED".to_owned(), Tone::Crit)
            }
            (_, Some(status)) if status.node.fault.is_some() => ("up, LIES".to_owned(), Tone::Crit),
            _ if excluded > 0 && excluded == known => ("EXCLUDED".to_owned(), Tone::Crit),
            _ if excluded > 0 => (format!("EXCLUDED by {excluded} of {known}"), Tone::Crit),
            (None, _) if links == 0 => ("AWAY".to_owned(), Tone::Warn),
            (None, _) => ("connected".to_owned(), Tone::Good),
            (Some(_), Some(_)) if all > 0 && links == 0 => ("up, cut off".to_owned(), Tone::Warn),
            (Some(_), Some(_)) => ("up".to_owned(), Tone::Good),
        }
    }

    /// What is left least of, of the active tables that it shares, with its whole.
    fn least_pad(&self, context: &Context<'a>) -> Option<(u64, u64)> {
        let mine = |name: &Name, peer: &Name| name == self.name || peer == self.name;
        let tables = context.model.known(context.focus).flat_map(|(name, _, status)| {
            status.tables.iter().filter(move |table| mine(name, &table.peer_name))
        });
        tables
            .filter(|table| table.state == TableState::Active)
            .flat_map(|table| &table.lanes)
            .map(|lane| (lane.for_keys, lane.of_keys()))
            .min_by_key(|(left, bytes)| u128::from(*left) * 10_000 / u128::from((*bytes).max(1)))
    }

    /// Keys of a client, also of one that is a hub as well; shares forwarded of a hub.
    fn keys(&self) -> Option<u64> {
        let status = self.status()?;
        let counters = &status.counters;
        Some(match status.policy {
            Some(_) => counters.sent + counters.validated,
            None => counters.forwarded,
        })
    }

    fn note(&self) -> (String, Tone) {
        if let Some(why) = self.own.and_then(|node| node.away.as_deref()) {
            return (text::printable(why), Tone::Warn);
        }
        if let Some((by, reason)) = self.excluded_by().first() {
            return (format!("{by}: {}", text::printable(reason)), Tone::Crit);
        }
        match self.status() {
            Some(Status { node, .. }) if node.fault.is_some() => {
                (text::printable(node.fault.as_deref().unwrap_or_default()), Tone::Crit)
            }
            Some(status @ Status { policy: Some(policy), .. }) => policy_note(status, policy),
            Some(Status { counters, .. }) if counters.forged > 0 => {
                (format!("{} messages under wrong tags", counters.forged), Tone::Warn)
            }
            _ => (String::new(), Tone::Plain),
        }
    }

    fn entry(&self, context: &Context<'a>) -> Entry {
        let (state, tone) = self.state();
        let ((links, known), (note, note_tone)) = (self.links(), self.note());
        let role = self.role().to_owned();
        let least = self.least_pad(context);
        let permille = least.map_or(u64::MAX, |(left, bytes)| left.saturating_mul(1_000) / bytes.max(1));
        let waiting: u64 =
            self.status().map_or(0, |status| status.peers.iter().map(|peer| peer.waiting).sum());
        let number = |value: u64, tone| {
            if value == 0 { cell("-", Tone::Dim) } else { cell(text::short_count(value), tone) }
        };
        Entry {
            key: self.name.to_string(),
            ranks: vec![
                Rank::Text(self.name.to_string()),
                Rank::Text(role.clone()),
                Rank::Text(state.clone()),
                Rank::Number(links as u64),
                Rank::Number(permille),
                Rank::Number(self.keys().unwrap_or(0)),
                Rank::Number(self.lies),
                Rank::Number(waiting),
                Rank::Text(note.clone()),
            ],
            cells: vec![
                cell(self.name.to_string(), Tone::Accent),
                cell(role, Tone::Plain),
                cell(state, tone),
                cell(format!("{links}/{known}"), if links < known { Tone::Warn } else { Tone::Plain }),
                least.map_or_else(
                    || cell("-", Tone::Dim),
                    |(part, whole)| Cell::Gauge { part, whole, tone: pad_tone(permille) },
                ),
                self.keys().map_or_else(|| cell("-", Tone::Dim), |keys| plain(text::short_count(keys))),
                number(self.lies, Tone::Crit),
                number(waiting, Tone::Warn),
                cell(note, note_tone),
            ],
            node: self.own.map(|_| self.name.clone()),
            subject: match self.own {
                Some(_) => Subject::Node(self.name.clone()),
                None if self.roles.contains(&Role::Hub) => Subject::Hub(self.name.to_string()),
                None => Subject::Nothing,
            },
        }
    }
}

fn pad_tone(permille: u64) -> Tone {
    match permille {
        0..50 => Tone::Crit,
        50..200 => Tone::Warn,
        _ => Tone::Good,
    }
}

/// What a client can still bear.
fn policy_note(status: &Status, policy: &PolicyStatus) -> (String, Tone) {
    let liars = status.liars();
    let mut hubs = format!("{} of {} hubs usable", policy.usable, policy.n);
    if !liars.is_empty() {
        hubs.push_str(&format!(", {} of them lied", liars.len()));
    }
    match status.margin() {
        None => (format!("NO KEY: {hubs}, k is {}", policy.k), Tone::Crit),
        Some(margin) if policy.usable < policy.n || !liars.is_empty() => {
            (format!("margin {margin}: {hubs}"), Tone::Warn)
        }
        Some(margin) => (format!("margin {margin}: {hubs}"), Tone::Plain),
    }
}

pub(super) fn entries(context: &Context<'_>) -> Vec<Entry> {
    Row::all(context).iter().map(|row| row.entry(context)).collect()
}

pub(super) fn detail(context: &Context<'_>, key: &str) -> Vec<Spans> {
    let rows = Row::all(context);
    let Some(row) = rows.iter().find(|row| row.name.as_str() == key) else { return Vec::new() };
    let (state, tone) = row.state();
    let role = if row.roles.is_empty() { String::new() } else { format!(" ({})", row.role()) };
    let mut lines = vec![heading(&format!("{}{role}", row.name)), fact("state", state, tone)];
    if let Some(why) = row.own.and_then(|node| node.away.as_deref()) {
        lines.push(fact("because", text::printable(why), Tone::Warn));
    }
    if let Some(status) = row.status() {
        own(status, &mut lines);
    }
    if row.lies > 0 {
        lines.push(fact("lies", format!("{} agreements had a false share of it", row.lies), Tone::Crit));
    }
    if !row.known_by.is_empty() {
        lines.push(heading("Seen by"));
    }
    for (name, peer) in &row.known_by {
        let (word, tone) = match (&peer.excluded, &peer.incompatible) {
            (Some(reason), _) => (format!("EXCLUDED: {}", text::printable(reason)), Tone::Crit),
            (None, Some(versions)) => (text::printable(versions), Tone::Crit),
            (None, None) if peer.connected => ("connected".to_owned(), Tone::Good),
            (None, None) => ("not connected".to_owned(), Tone::Warn),
        };
        let word = if row.roles.len() > 1 { format!("as a {}: {word}", peer.role) } else { word };
        lines.push(vec![(format!("{} ", text::fit(name.as_str(), 8)), Tone::Accent), (word, tone)]);
    }
    lines
}

/// What a node with both roles has burned of its pads in each, and what is left.
fn burned(status: &Status, lines: &mut Vec<Spans>) {
    if status.node.roles.len() < 2 {
        return;
    }
    lines.push(heading("Pads, in each role"));
    for (role, side) in [("client", TableSide::Client), ("hub", TableSide::Hub)] {
        let lanes =
            || status.tables.iter().filter(move |table| table.side == side).flat_map(|table| &table.lanes);
        let used = |lane: &LaneStatus| lane.used_key + lane.used_identity + lane.used_sync;
        let (burned, left): (u64, u64) = (lanes().map(used).sum(), lanes().map(|lane| lane.for_keys).sum());
        let told = format!("{} burned, {} left", text::short_size(burned), text::short_size(left));
        lines.push(fact(&format!("as {role}"), told, Tone::Plain));
    }
}

/// How many different ones there are.
fn distinct<T: Ord>(all: impl Iterator<Item = T>) -> usize {
    all.collect::<BTreeSet<T>>().len()
}

fn own(status: &Status, lines: &mut Vec<Spans>) {
    let (node, counters) = (&status.node, &status.counters);
    lines.push(fact(
        "process",
        format!("{}, up {}", node.pid, text::short_time(node.uptime_ms.saturating_mul(1_000))),
        Tone::Plain,
    ));
    lines.push(fact("id", node.id.short(), Tone::Dim));
    for address in node.listen.iter().take(2) {
        lines.push(fact("listens", text::printable(address), Tone::Dim));
    }
    if let Some(policy) = &status.policy {
        lines.push(heading("Thresholds: hubs needed to"));
        lines.push(fact("leak", format!("{} learn a key", policy.leakage), Tone::Plain));
        lines.push(fact("malleate", format!("{} make two sides differ", policy.malleability), Tone::Plain));
        lines.push(fact("inject", format!("{} plant a key", policy.injection), Tone::Plain));
        lines.push(fact("disrupt", format!("{} stop a key", policy.disruption), Tone::Plain));
        let (now, tone) = policy_note(status, policy);
        lines.push(fact("now", now, tone));
    }
    burned(status, lines);
    lines.push(heading("Since its start"));
    let counts = [
        ("sent", counters.sent, Tone::Plain),
        ("received", counters.validated, Tone::Plain),
        ("aborted", counters.aborted, Tone::Warn),
        ("forwarded", counters.forwarded, Tone::Plain),
        ("false", counters.false_shares, Tone::Crit),
        ("forged", counters.forged, Tone::Warn),
        ("malformed", counters.malformed, Tone::Warn),
        ("refused", counters.refused, Tone::Warn),
        ("expired", counters.expired, Tone::Warn),
    ];
    for (what, count, tone) in counts.into_iter().filter(|(_, count, _)| *count > 0) {
        lines.push(fact(what, count.to_string(), tone));
    }
    for (refusal, count) in status.refusals.iter().take(6) {
        lines.push(fact("", format!("{count} {}", text::printable(refusal)), Tone::Dim));
    }
    for quota in status.quotas.iter().take(6) {
        let used = match quota.used_bytes {
            Some(used) => format!("{} used {} of {}", quota.who, text::short_size(used), quota.limit),
            None => format!("{} {}", quota.who, quota.limit),
        };
        lines.push(fact("quota", text::printable(&used), Tone::Plain));
    }
}
