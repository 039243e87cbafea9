//! Pads: for each peer and lane what is left, as a gauge sized from the width, and where the bytes went.

use dske_node::status::Status;
use dske_protocol::ids::Lane;
use dske_storage::{LaneStatus, TableState, TableStatus};

use crate::text;

/// Columns from which the module's serial is shown.
const SERIAL_FROM: usize = 60;
/// Columns from which the use of each lane is shown.
const USES_FROM: usize = 96;
/// Longest gauge.
const GAUGE_MAX: usize = 32;

/// A header and one line per lane.
pub(crate) fn lines(status: &Status, width: usize) -> Vec<String> {
    if status.tables.is_empty() {
        return vec![" no tables: import or make a module".to_owned()];
    }
    let columns = Columns::new(width);
    let mut lines = vec![columns.head()];
    let mut tables: Vec<&TableStatus> = status.tables.iter().collect();
    tables.sort_by_key(|table| (&table.peer_name, &table.serial));
    for table in tables {
        lines.extend(table.lanes.iter().map(|lane| columns.row(table, lane)));
        if let TableState::Suspended { reason } | TableState::Quarantined { reason } = &table.state {
            lines.push(text::clip(&format!("   {}: {}", table.serial, text::printable(reason)), width));
        }
    }
    lines
}

/// Which columns there are, and how wide.
struct Columns {
    width: usize,
    peer: usize,
    serial: usize,
    uses: bool,
    gauge: usize,
}

impl Columns {
    fn new(width: usize) -> Self {
        let serial = if width >= SERIAL_FROM { 10 } else { 0 };
        let uses = width >= USES_FROM;
        let peer = if width >= SERIAL_FROM { 10 } else { 6 };
        // Every other column of a row, with its space: lane 5, left 7, percent 5, state 6.
        let fixed = 1
            + (peer + 1)
            + 5
            + 7
            + 5
            + 6
            + if serial > 0 { serial + 1 } else { 0 }
            + if uses { 24 } else { 0 };
        let gauge = width.saturating_sub(fixed).clamp(4, GAUGE_MAX);
        Self { width, peer, serial, uses, gauge }
    }

    fn head(&self) -> String {
        self.line(
            ["PEER", "LANE", "MODULE", "PAD", "", "LEFT", "KEYS", "IDENT", "SYNC", "STATE"].map(String::from),
        )
    }

    fn row(&self, table: &TableStatus, lane: &LaneStatus) -> String {
        let (left, bytes) = (lane.for_keys, lane.of_keys());
        self.line([
            table.peer_name.to_string(),
            // The lane that this node allocates from is marked: it is the one that it can run out of.
            format!(
                "{}{}",
                if lane.lane == Lane::Up { "up" } else { "down" },
                if lane.allocator { "*" } else { "" }
            ),
            text::printable(&table.serial),
            text::gauge(left, bytes, self.gauge),
            text::percent(left, bytes),
            text::short_size(left),
            text::short_size(lane.used_key),
            text::short_size(lane.used_identity),
            text::short_size(lane.used_sync),
            state(table, left, bytes).to_owned(),
        ])
    }

    fn line(&self, cells: [String; 10]) -> String {
        let [peer, lane, module, pad, percent, left, keys, identity, sync, state] = cells;
        let mut line = format!(" {} {}", text::fit(&peer, self.peer), text::fit(&lane, 5));
        if self.serial > 0 {
            line.push_str(&format!("{} ", text::fit(&module, self.serial)));
        }
        line.push_str(&text::fit(&pad, self.gauge));
        line.push_str(&text::right(&percent, 5));
        line.push_str(&text::right(&left, 7));
        if self.uses {
            line.extend([keys, identity, sync].iter().map(|use_bytes| text::right(use_bytes, 8)));
        }
        line.push(' ');
        line.push_str(&state);
        text::clip(&line, self.width)
    }
}

/// The state in a word of at most five letters.
fn state(table: &TableStatus, left: u64, bytes: u64) -> &'static str {
    match table.state {
        TableState::Pending => "WAIT",
        TableState::Suspended { .. } => "SUSP",
        TableState::Quarantined { .. } => "QUAR",
        TableState::Spent => "SPENT",
        TableState::Retired => "OUT",
        TableState::Active if left < bytes / 20 => "CRIT",
        TableState::Active if left < bytes / 5 => "WARN",
        TableState::Active => "OK",
    }
}
