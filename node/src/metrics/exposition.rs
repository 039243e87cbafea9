//! The metrics: a snapshot of the node in the words of Prometheus.
//!
//! How many series there are follows from what the operator has enrolled, imported and opened. Nothing that a stranger says
//! makes one: reasons are those of fixed lists, and names are those of enrolled peers.

use std::collections::BTreeMap;

use dske_protocol::{naming::Roll, refusal::Refusal};
use dske_storage::{OutboxEntry, TableState, TableStatus};
use prometheus::Result;

use super::{
    families::Families,
    health::Health,
    measures::{Measures, Side},
    process,
};
use crate::{
    config::Role,
    status::{Level, PadForecast, Status},
};

/// What an exposition is made from.
pub(super) struct Observed {
    pub(super) status: Status,
    pub(super) health: Health,
    /// Of a client.
    pub(super) measures: Option<Measures>,
    pub(super) outbox: Vec<OutboxEntry>,
    /// Syncs of the store, and microseconds waited for them.
    pub(super) syncs: (u64, u64),
}

/// The whole text.
pub(super) fn text(observed: &Observed) -> Result<String> {
    let families = Families::default();
    let status = &observed.status;
    node(&families, observed)?;
    let called = names(status);
    pads(&families, status, &called)?;
    tables(&families, &status.tables, &called)?;
    peers(&families, status, &called)?;
    outbox(&families, observed, &called)?;
    policy(&families, status)?;
    streams(&families, status)?;
    if let Some(measures) = &observed.measures {
        sessions(&families, measures)?;
    }
    turned_away(&families, status)?;
    process::describe(&families, status.node.uptime_ms)?;
    families.text()
}

/// What to call each peer: two of one name must not share their series.
fn names(status: &Status) -> Roll {
    let mut roll = Roll::default();
    for peer in &status.peers {
        roll.add(peer.node, peer.name.clone(), 0);
    }
    for table in &status.tables {
        roll.add(table.peer, table.peer_name.clone(), 0);
    }
    roll
}

fn node(families: &Families, observed: &Observed) -> Result<()> {
    let node = &observed.status.node;
    let roles: Vec<String> = node.roles.iter().map(ToString::to_string).collect();
    families.gauges(
        "dske_build_info",
        "The program, the node's name and its roles; always 1",
        ["version", "node", "roles"],
        [([node.version.as_str(), node.name.as_str(), &roles.join(",")], 1.0)],
    )?;
    let health = &observed.health;
    families.gauge("dske_ready", "1 if keys can be agreed, or served", flag(health.is_ready()))?;
    let up = flag(node.store_fault.is_none());
    families.gauge("dske_store_up", "0 if the store has stopped after a failed write", up)?;
    let locked = flag(node.memory_locked);
    families.gauge("dske_memory_locked", "1 if no memory of the process can reach the swap space", locked)?;
    let (syncs, micros) = observed.syncs;
    families.counter("dske_store_syncs_total", "Syncs of the store's files to the device", syncs)?;
    let seconds = prometheus::Counter::new(
        "dske_store_sync_seconds_total",
        "Time that the store waited for the device, over all its threads",
    )?;
    seconds.inc_by(micros as f64 / 1e6);
    families.kept(seconds)
}

fn pads(families: &Families, status: &Status, called: &Roll) -> Result<()> {
    let lane = |pad| {
        let &PadForecast { node, side, lane, .. } = pad;
        ([called.label(&node), side.to_string(), lane.to_string()], pad)
    };
    let lanes: Vec<([String; 3], &PadForecast)> = status.pads.iter().map(lane).collect();
    let rows = |figure: fn(&PadForecast) -> f64| {
        lanes.iter().map(move |(labels, pad)| (labels.each_ref().map(String::as_str), figure(pad)))
    };
    let labels = ["peer", "side", "lane"];
    families.gauges(
        "dske_pad_bytes",
        "Size of the active tables' lanes",
        labels,
        rows(|pad| pad.bytes as f64),
    )?;
    families.gauges(
        "dske_pad_left_bytes",
        "Bytes of the active tables that can still be used",
        labels,
        rows(|pad| pad.left_bytes as f64),
    )?;
    families.gauges(
        "dske_pad_use_bytes_per_second",
        "Use of the pad, averaged over a quarter of an hour",
        labels,
        rows(|pad| pad.bytes_per_s as f64),
    )?;
    families.gauges(
        "dske_pad_empty_seconds",
        "Time until the pad is empty at the present rate; infinite where nothing is used",
        labels,
        rows(|pad| pad.empty_in_s.map_or(f64::INFINITY, |seconds| seconds as f64)),
    )?;
    families.gauges(
        "dske_pad_level",
        "The node's own judgement by its [pads] settings: 0 good, 1 warning, 2 critical",
        labels,
        rows(|pad| match pad.level {
            Level::Info => 0.0,
            Level::Warn => 1.0,
            Level::Crit => 2.0,
        }),
    )
}

fn tables(families: &Families, tables: &[TableStatus], called: &Roll) -> Result<()> {
    const STATES: [&str; 6] = ["pending", "active", "suspended", "quarantined", "spent", "retired"];
    let state = |table: &TableStatus| match table.state {
        TableState::Pending => "pending",
        TableState::Active => "active",
        TableState::Suspended { .. } => "suspended",
        TableState::Quarantined { .. } => "quarantined",
        TableState::Spent => "spent",
        TableState::Retired => "retired",
    };
    let none = STATES.into_iter().map(|state| ([state], 0.0));
    let rows = none.chain(tables.iter().map(|table| ([state(table)], 1.0)));
    families.gauges("dske_tables", "Tables of pads by their state", ["state"], rows)?;
    // What was retired long ago would make series for ever.
    let there = tables.iter().filter(|table| table.state != TableState::Retired);
    let lanes: Vec<_> = there
        .flat_map(|table| table.lanes.iter().map(move |lane| (table, lane, lane.lane.to_string())))
        .collect();
    let key = |(table, _, name): &'_ _| -> [String; 4] {
        let (table, name): (&&TableStatus, &String) = (table, name);
        [table.serial.clone(), called.label(&table.peer), table.side.to_string(), name.clone()]
    };
    let keys: Vec<[String; 4]> = lanes.iter().map(key).collect();
    let labelled = || keys.iter().map(|labels| labels.each_ref().map(String::as_str));
    let labels = ["table", "peer", "side", "lane"];
    let figures = |figure: fn(&dske_storage::LaneStatus) -> u64| {
        labelled().zip(lanes.iter().map(move |(_, lane, _)| figure(lane) as f64)).collect::<Vec<_>>()
    };
    families.gauges("dske_table_bytes", "Size of a table's lane", labels, figures(|lane| lane.bytes))?;
    families.gauges(
        "dske_table_left_bytes",
        "Bytes of a table's lane that nothing has touched",
        labels,
        figures(|lane| lane.left),
    )?;
    families.gauges(
        "dske_table_reserved_bytes",
        "Bytes of a table's lane that are reserved ahead",
        labels,
        figures(|lane| lane.reserved),
    )?;
    let burnt = labelled().zip(&lanes).flat_map(|([table, peer, side, name], (_, lane, _))| {
        let kinds = [
            ("key", lane.used_key),
            ("identity", lane.used_identity),
            ("sync", lane.used_sync),
            ("skipped", lane.skipped),
        ];
        kinds.map(|(kind, bytes)| ([table, peer, side, name, kind], bytes))
    });
    families.counters(
        "dske_table_burnt_bytes_total",
        "Bytes of a table's lane that are gone, by what they went for; skipped ones were reserved and never used",
        ["table", "peer", "side", "lane", "kind"],
        burnt,
    )
}

fn peers(families: &Families, status: &Status, called: &Roll) -> Result<()> {
    let roles: Vec<(String, String)> =
        status.peers.iter().map(|peer| (called.label(&peer.node), peer.role.to_string())).collect();
    let peers = || status.peers.iter().zip(&roles);
    families.gauges(
        "dske_peer_connected",
        "1 if there is a connection to the peer",
        ["peer", "role"],
        peers().map(|(peer, (name, role))| ([name.as_str(), role.as_str()], flag(peer.connected))),
    )?;
    families.gauges(
        "dske_peer_excluded",
        "1 if the peer is not used: a hub that claimed what a client has not signed, or a client that the operator has disabled",
        ["peer", "role"],
        peers().map(|(peer, (name, role))| ([name.as_str(), role.as_str()], flag(peer.excluded.is_some()))),
    )
}

fn outbox(families: &Families, observed: &Observed, called: &Roll) -> Result<()> {
    let clients = observed.status.peers.iter().filter(|peer| peer.role == Role::Client);
    let mut waiting: BTreeMap<_, (String, u64, u64)> =
        clients.map(|peer| (peer.node, (called.label(&peer.node), 0, 0))).collect();
    for entry in &observed.outbox {
        if let Some((_, messages, bytes)) = waiting.get_mut(&entry.receiver) {
            *messages += 1;
            *bytes = bytes.saturating_add(entry.bytes);
        }
    }
    let rows = |figure: fn(&(String, u64, u64)) -> u64| {
        waiting.values().map(move |waits| ([waits.0.as_str()], figure(waits) as f64)).collect::<Vec<_>>()
    };
    families.gauges(
        "dske_outbox_messages",
        "Messages that wait for a client",
        ["peer"],
        rows(|(_, messages, _)| *messages),
    )?;
    families.gauges(
        "dske_outbox_bytes",
        "Bytes of messages that wait for a client",
        ["peer"],
        rows(|(.., bytes)| *bytes),
    )
}

fn policy(families: &Families, status: &Status) -> Result<()> {
    let Some(policy) = &status.policy else { return Ok(()) };
    families.gauges(
        "dske_policy",
        "What the client's policy asks for: hubs for a key, shares needed, least k accepted",
        ["parameter"],
        [("n", policy.n), ("k", policy.k), ("k_min", policy.k_min)]
            .map(|(name, figure)| ([name], f64::from(figure))),
    )?;
    families.gauges(
        "dske_threshold_hubs",
        "Hubs that together can break a property of a key",
        ["property"],
        [
            ("leakage", policy.leakage),
            ("malleability", policy.malleability),
            ("injection", policy.injection),
            ("disruption", policy.disruption),
        ]
        .map(|(name, figure)| ([name], f64::from(figure))),
    )?;
    let usable = f64::from(policy.usable);
    families.gauge("dske_hubs_usable", "Hubs that can serve now", usable)?;
    let excluded = status.peers.iter().filter(|peer| peer.role == Role::Hub && peer.excluded.is_some());
    families.gauge("dske_hubs_excluded", "Hubs that are excluded", excluded.count() as f64)?;
    families.gauge(
        "dske_margin_hubs",
        "Hubs that may fail or lie, besides those that lied in the latest agreements, while keys are agreed; -1 if none can be agreed",
        status.margin().map_or(-1.0, f64::from),
    )
}

fn streams(families: &Families, status: &Status) -> Result<()> {
    let keys: Vec<[String; 3]> = status
        .streams
        .iter()
        .map(|stream| [stream.with.join(","), stream.purpose.clone(), stream.bits.to_string()])
        .collect();
    let rows = |figure: fn(&crate::status::StreamStatus) -> u64| {
        let labelled = keys.iter().map(|[with, purpose, bits]| [with.as_str(), purpose, bits]);
        labelled.zip(status.streams.iter().map(figure)).collect::<Vec<_>>()
    };
    let gauge = |figure| rows(figure).into_iter().map(|(labels, figure)| (labels, figure as f64));
    let labels = ["with", "purpose", "bits"];
    families.gauges("dske_stream_keys", "Keys in a stream's pool", labels, gauge(|stream| stream.keys))?;
    families.gauges(
        "dske_stream_keys_under_way",
        "Keys of a stream that are being agreed",
        labels,
        gauge(|stream| stream.keys_out),
    )?;
    families.gauges(
        "dske_stream_low_mark",
        "With fewer keys than this in its pool, a stream agrees more",
        labels,
        gauge(|stream| u64::from(stream.low)),
    )?;
    families.gauges(
        "dske_stream_failing",
        "1 if a stream's last block could not be agreed",
        labels,
        gauge(|stream| u64::from(stream.problem.is_some())),
    )?;
    families.counters(
        "dske_stream_agreed_total",
        "Keys of a stream agreed since the start",
        labels,
        rows(|stream| stream.agreed),
    )?;
    families.counters(
        "dske_stream_handed_out_total",
        "Keys of a stream handed out since the start",
        labels,
        rows(|stream| stream.handed_out),
    )
}

fn sessions(families: &Families, measures: &Measures) -> Result<()> {
    let sides = || Side::ALL.into_iter().map(|side| (side, measures.counts(side)));
    families.counters(
        "dske_sessions_started_total",
        "Agreements begun",
        ["side"],
        sides().map(|(side, counts)| ([side.name()], counts.started)),
    )?;
    families.counters(
        "dske_sessions_validated_total",
        "Agreements that gave a key",
        ["side"],
        sides().map(|(side, counts)| ([side.name()], counts.validated)),
    )?;
    families.counters(
        "dske_sessions_aborted_total",
        "Agreements that gave none, by reason",
        ["side", "reason"],
        sides().flat_map(|(side, counts)| {
            counts.aborted.iter().map(move |(reason, count)| ([side.name(), *reason], *count))
        }),
    )?;
    families.gauges(
        "dske_sessions_under_way",
        "Agreements begun and not ended",
        ["side"],
        Side::ALL.map(|side| ([side.name()], measures.under_way(side) as f64)),
    )?;
    sides().try_for_each(|(_, counts)| families.kept(counts.seconds.clone()))
}

fn turned_away(families: &Families, status: &Status) -> Result<()> {
    families.counters(
        "dske_messages_refused_total",
        "Messages that were refused, by reason",
        ["reason"],
        Refusal::NAMES
            .into_iter()
            .map(|reason| ([reason], 0))
            .chain(status.refusals.iter().map(|(reason, count)| ([reason.as_str()], *count))),
    )?;
    let counters = &status.counters;
    let all = [
        ("dske_messages_forged_total", "Messages with a wrong tag", counters.forged),
        ("dske_messages_malformed_total", "Messages that could not be decoded", counters.malformed),
        ("dske_messages_expired_total", "Messages dropped after they waited too long", counters.expired),
        ("dske_message_sent_bytes_total", "Bytes of messages sent", counters.sent_bytes),
        ("dske_shares_forwarded_total", "Shares that this hub has passed on", counters.forwarded),
        ("dske_shares_false_total", "False shares seen", counters.false_shares),
        ("dske_connections_refused_total", "Connections not let in", counters.connections_refused),
        (
            "dske_connections_closed_total",
            "Connections closed for what came over them, or to make room",
            counters.connections_closed,
        ),
        ("dske_requests_refused_total", "Requests refused unread", counters.requests_refused),
        ("dske_requests_delayed_total", "Requests that had to wait", counters.requests_delayed),
        ("dske_gossip_refused_total", "Announcements not heard", counters.gossip_refused),
    ];
    all.into_iter().try_for_each(|(name, help, figure)| families.counter(name, help, figure))
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}
