//! Pads: for each table and lane what is left, how fast it goes, and what that means for keys.

use dske_node::status::{Level, PadForecast, Status};
use dske_protocol::ids::{Lane, Name};
use dske_storage::{LaneStatus, TableSide, TableState, TableStatus};

use super::{
    Cell, Column, Context, Entry, Rank, Spans, Subject, cell, column, fact, heading, plain, stretching,
};
use crate::{
    forecast::{Forecast, RATE_MS, keys},
    history::Growth,
    text,
    theme::Tone,
};

pub(super) const COLUMNS: [Column; 11] = [
    column("CLIENT", (6, 12), false, 1),
    column("HUB", (4, 12), false, 0),
    column("LANE", (4, 4), false, 2),
    column("MODULE", (8, 12), false, 6),
    stretching("PAD", (4, 10), 0, 40),
    column("%", (4, 4), true, 3),
    column("LEFT", (7, 7), true, 4),
    column("USE/s", (7, 7), true, 3),
    column("KEYS", (7, 7), true, 5),
    column("EMPTY", (6, 7), true, 2),
    column("STATE", (5, 5), false, 0),
];

/// The column of the time to empty.
pub(super) const EMPTY: usize = 9;

/// A lane of a table, as one of its ends knows it.
struct Pad<'a> {
    node: &'a Name,
    table: &'a TableStatus,
    lane: &'a LaneStatus,
    growth: Option<&'a Growth>,
    forecast: Option<&'a PadForecast>,
}

impl Pad<'_> {
    fn key(&self) -> String {
        let (client, hub) = self.ends();
        format!("{client} {hub} {} {} {}", self.lane.lane, self.table.table, self.node)
    }

    fn ends(&self) -> (String, String) {
        let (node, peer) = (self.node.to_string(), self.table.peer_name.to_string());
        if self.table.side == TableSide::Client { (node, peer) } else { (peer, node) }
    }

    fn for_keys(&self) -> u64 {
        self.lane.for_keys
    }

    /// Seconds until this lane is empty, at the faster of the rate of late and the node's average.
    fn empty_in_s(&self) -> Option<u64> {
        let average = self.forecast.map_or(0, |forecast| forecast.bytes_per_s);
        let late = self.growth.and_then(|growth| growth.per_s_milli(RATE_MS)).unwrap_or(0) / 1_000;
        let rate = Some(average.max(late)).filter(|rate| *rate > 0)?;
        (self.table.state == TableState::Active).then(|| self.for_keys() / rate)
    }

    /// The state in a word of at most five letters.
    fn state(&self) -> (&'static str, Tone) {
        let (left, bytes) = (self.for_keys(), self.lane.of_keys());
        let foreseen = self.forecast.map_or(Level::Info, |forecast| forecast.level);
        match self.table.state {
            TableState::Pending => ("WAIT", Tone::Accent),
            TableState::Suspended { .. } => ("SUSP", Tone::Crit),
            TableState::Quarantined { .. } => ("QUAR", Tone::Crit),
            TableState::Spent => ("SPENT", Tone::Dim),
            TableState::Retired => ("OUT", Tone::Dim),
            TableState::Active
                if left < part(bytes, PadForecast::CRIT_PERCENT) || foreseen == Level::Crit =>
            {
                ("CRIT", Tone::Crit)
            }
            TableState::Active
                if left < part(bytes, PadForecast::WARN_PERCENT) || foreseen == Level::Warn =>
            {
                ("WARN", Tone::Warn)
            }
            TableState::Active if !self.table.open => ("APART", Tone::Warn),
            TableState::Active => ("OK", Tone::Good),
        }
    }

    fn entry(&self, context: &Context<'_>) -> Entry {
        let (client, hub) = self.ends();
        let (left, bytes) = (self.for_keys(), self.lane.of_keys());
        let (state, tone) = self.state();
        let rate = self.growth.and_then(|growth| growth.per_s_milli(RATE_MS));
        let (empty, many) = (self.empty_in_s(), keys(left, context.bits));
        // How full it is, whatever is foreseen.
        let bar = match left.saturating_mul(100) / bytes.max(1) {
            _ if tone == Tone::Dim => Tone::Dim,
            0..5 => Tone::Crit,
            5..20 => Tone::Warn,
            _ => Tone::Good,
        };
        Entry {
            key: self.key(),
            ranks: vec![
                Rank::Text(client.clone()),
                Rank::Text(hub.clone()),
                Rank::Text(self.lane.lane.to_string()),
                Rank::Text(self.table.serial.clone()),
                Rank::Number(left),
                Rank::Number(left.saturating_mul(1_000) / bytes.max(1)),
                Rank::Number(left),
                Rank::Number(rate.unwrap_or(0)),
                Rank::Number(many),
                // What is not in use is not the next to be empty.
                Rank::Number(match self.table.state {
                    // Of those that are not used, the lowest is.
                    TableState::Active => {
                        empty.unwrap_or(u64::MAX - 1_001 + left.saturating_mul(1_000) / bytes.max(1))
                    }
                    _ => u64::MAX,
                }),
                Rank::Text(state.to_owned()),
            ],
            cells: vec![
                cell(client, Tone::Accent),
                cell(hub, Tone::Accent),
                plain(self.lane.lane.to_string()),
                cell(text::printable(&self.table.serial), Tone::Dim),
                Cell::Gauge { part: left, whole: bytes, tone: bar },
                cell(text::percent(left, bytes), tone),
                plain(text::short_size(left)),
                rate.map_or_else(|| cell("-", Tone::Dim), |rate| cell(per_s(rate), use_tone(rate))),
                plain(text::short_count(many)),
                empty.map_or_else(|| cell("-", Tone::Dim), |s| cell(seconds(s), tone)),
                cell(state, tone),
            ],
            node: Some(self.node.clone()),
            subject: Subject::Module(self.table.serial.clone()),
        }
    }
}

fn use_tone(rate: u64) -> Tone {
    if rate == 0 { Tone::Dim } else { Tone::Plain }
}

/// So many percent of these bytes.
fn part(bytes: u64, percent: u8) -> u64 {
    bytes.saturating_mul(u64::from(percent)) / 100
}

fn seconds(seconds: u64) -> String {
    text::short_time(seconds.saturating_mul(1_000_000))
}

/// `1.9Ki`, from thousandths of a byte.
fn per_s(milli: u64) -> String {
    match milli {
        0 => "0".to_owned(),
        1..1_000 => "<1".to_owned(),
        _ => text::short_size(milli / 1_000),
    }
}

/// Lanes in focus. Where both ends are watched, the one that allocates speaks: it knows what it has reserved.
fn pads<'a>(context: &Context<'a>) -> Vec<Pad<'a>> {
    let mut pads = Vec::new();
    for (node, known, status) in context.model.known(context.focus) {
        for table in &status.tables {
            let other = context.focus.is_none()
                && context.model.nodes.get(&table.peer_name).is_some_and(|peer| peer.live().is_some());
            for lane in table.lanes.iter().filter(|lane| lane.allocator || !other) {
                let is_it = |forecast: &&PadForecast| {
                    forecast.peer == table.peer_name
                        && forecast.side == table.side
                        && forecast.lane == lane.lane
                };
                let forecast = status.pads.iter().find(is_it);
                let growth = known.history.lane(&table.table, lane.lane);
                pads.push(Pad { node, table, lane, growth, forecast });
            }
        }
    }
    pads
}

pub(super) fn entries(context: &Context<'_>) -> Vec<Entry> {
    pads(context).iter().map(|pad| pad.entry(context)).collect()
}

pub(super) fn detail(context: &Context<'_>, key: &str) -> Vec<Spans> {
    let pads = pads(context);
    let Some(pad) = pads.iter().find(|pad| pad.key() == key) else { return Vec::new() };
    let (table, lane) = (pad.table, pad.lane);
    let (client, hub) = pad.ends();
    let (state, tone) = pad.state();
    let (from, to) = if lane.lane == Lane::Up { (client, hub) } else { (hub, client) };
    let mut lines = vec![
        heading(&format!("{from} {} {to}", context.glyphs.arrow)),
        fact("module", text::printable(&table.serial), Tone::Accent),
        fact("state", format!("{state}: {}", text::printable(&table.state.to_string())), tone),
        fact(
            "left",
            format!("{} of {}", text::short_size(pad.for_keys()), text::short_size(lane.of_keys())),
            tone,
        ),
        fact(
            "",
            format!(
                "{} keys of {} bits",
                text::short_count(keys(pad.for_keys(), context.bits)),
                context.bits
            ),
            Tone::Plain,
        ),
    ];
    if let Some(growth) = pad.growth {
        let rate = growth
            .per_s_milli(RATE_MS)
            .map_or_else(|| "not known yet".to_owned(), |rate| format!("{} B/s", per_s(rate)));
        lines.push(fact("use 30s", rate, Tone::Plain));
        lines.push(fact("last min", context.glyphs.spark(&growth.slices(20)), Tone::Accent));
    }
    if let Some(forecast) = pad.forecast {
        lines.push(fact("use 15m", format!("{} B/s", text::short_size(forecast.bytes_per_s)), Tone::Plain));
    }
    let empty = pad.empty_in_s().map_or_else(|| "not in sight".to_owned(), |s| format!("in {}", seconds(s)));
    lines.push(fact("empty", empty, tone));
    lines.push(heading("Where it went"));
    for (what, bytes) in [
        ("keys", lane.used_key),
        ("identity", lane.used_identity),
        ("sync", lane.used_sync),
        ("passed over", lane.skipped),
        ("reserved", lane.reserved),
    ] {
        lines.push(fact(what, text::short_size(bytes), Tone::Plain));
    }
    if table.forged_blocks > 0 {
        lines.push(fact("forged", format!("{} blocks under wrong tags", table.forged_blocks), Tone::Warn));
    }
    if !table.open {
        lines.push(vec![("marks are not compared on this connection".to_owned(), Tone::Warn)]);
    }
    if matches!(state, "CRIT" | "WARN" | "SPENT") {
        lines.push(vec![("next: import a new module for this pair".to_owned(), tone)]);
    }
    lines
}

/// What the pads of clients in focus are good for: a line for sending, and one for receiving where that ends sooner.
pub(crate) fn forecasts(context: &Context<'_>) -> Vec<Spans> {
    let mut all: Vec<(u64, Spans)> = Vec::new();
    for (node, known, status) in context.model.known(context.focus) {
        for (lane, does) in [(Lane::Up, "sends"), (Lane::Down, "receives")] {
            if let Some(forecast) = Forecast::new(status, &known.history, lane) {
                let tone = worst(status, lane);
                let end = forecast.first.empty_in_s.unwrap_or(u64::MAX);
                let line = vec![
                    (format!("{node} {does}: "), Tone::Accent),
                    (forecast.told(context.bits), if tone == Tone::Plain { Tone::Plain } else { tone }),
                ];
                all.push((end, line));
            }
        }
    }
    // The one that ends soonest stands first.
    all.sort_by_key(|(end, _)| *end);
    all.into_iter().map(|(_, line)| line).collect()
}

fn worst(status: &Status, lane: Lane) -> Tone {
    let levels = status
        .pads
        .iter()
        .filter(|pad| pad.side == TableSide::Client && pad.lane == lane)
        .map(|pad| pad.level);
    levels.max().map_or(Tone::Plain, super::level_tone)
}
