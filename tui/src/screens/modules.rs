//! Modules: their custody from made to spent, as both ends have it on record.

use std::collections::BTreeMap;

use dske_protocol::ids::{Name, TableId};
use dske_storage::{ModuleRecord, ModuleState, TableState, TableStatus};

use super::{
    Cell, Column, Context, Entry, Rank, Spans, Subject, ago, cell, column, fact, heading, plain, stretching,
};
use crate::{glyphs::Glyphs, text, theme::Tone};

pub(super) const COLUMNS: [Column; 8] = [
    column("MODULE", (8, 14), false, 0),
    column("HUB", (4, 12), false, 4),
    column("CLIENT", (6, 12), false, 3),
    column("SIZE", (6, 7), true, 2),
    column("CUSTODY", (5, 34), false, 0),
    stretching("USED", (8, 8), 3, 30),
    column("STATE", (5, 12), false, 0),
    column("SINCE", (5, 6), true, 5),
];

/// Stations of a module's life, in their order.
const STATIONS: [(&str, &str); 5] = [
    ("made", "made by the hub"),
    ("imp", "imported by the client"),
    ("ack", "receipt at the hub"),
    ("use", "in use"),
    ("end", "spent or retired"),
];

/// A module as the nodes in focus have it.
struct Module<'a> {
    records: Vec<(&'a Name, &'a ModuleRecord)>,
    tables: Vec<(&'a Name, &'a TableStatus)>,
}

impl<'a> Module<'a> {
    fn all(context: &Context<'a>) -> Vec<Self> {
        let mut modules: BTreeMap<TableId, Self> = BTreeMap::new();
        for (name, _, status) in context.model.known(context.focus) {
            for record in &status.modules {
                let module = modules
                    .entry(record.table)
                    .or_insert_with(|| Module { records: Vec::new(), tables: Vec::new() });
                module.records.push((name, record));
                let table = status.tables.iter().find(|table| table.table == record.table);
                module.tables.extend(table.map(|table| (name, table)));
            }
        }
        modules.into_values().collect()
    }

    fn record(&self) -> Option<&'a ModuleRecord> {
        self.records.first().map(|(_, record)| *record)
    }

    fn has(&self, state: ModuleState) -> bool {
        self.records.iter().any(|(_, record)| record.state == state)
    }

    fn used(&self) -> u64 {
        let used = |table: &TableStatus| -> u64 {
            table
                .lanes
                .iter()
                .map(|lane| lane.bytes.saturating_sub(lane.left.saturating_add(lane.reserved)))
                .sum()
        };
        self.tables.iter().map(|(_, table)| used(table)).max().unwrap_or(0)
    }

    /// How many stations it has passed, of [`STATIONS`].
    fn stations(&self) -> usize {
        let ended = |table: &TableStatus| matches!(table.state, TableState::Spent | TableState::Retired);
        let active = |table: &TableStatus| matches!(table.state, TableState::Active);
        if self.has(ModuleState::Retired) || self.tables.iter().any(|(_, table)| ended(table)) {
            5
        } else if self.used() > 0 && self.tables.iter().any(|(_, table)| active(table)) {
            4
        } else if self.has(ModuleState::Acknowledged) || self.tables.iter().any(|(_, table)| active(table)) {
            3
        } else if self.has(ModuleState::Imported) {
            2
        } else {
            1
        }
    }

    fn state(&self) -> (&'static str, Tone) {
        let is = |want: fn(&TableState) -> bool| self.tables.iter().any(|(_, table)| want(&table.state));
        if self.has(ModuleState::Retired) || is(|state| matches!(state, TableState::Retired)) {
            ("retired", Tone::Dim)
        } else if is(|state| matches!(state, TableState::Suspended { .. })) {
            ("SUSPENDED", Tone::Crit)
        } else if is(|state| matches!(state, TableState::Quarantined { .. })) {
            ("QUARANTINED", Tone::Crit)
        } else if is(|state| matches!(state, TableState::Spent)) {
            ("spent", Tone::Warn)
        } else {
            match self.stations() {
                4 => ("in use", Tone::Good),
                3 => ("ready", Tone::Good),
                2 => ("await ack", Tone::Warn),
                _ => ("on its way", Tone::Warn),
            }
        }
    }

    fn custody(&self, glyphs: &Glyphs) -> Spans {
        let passed = self.stations();
        let mut spans = Vec::new();
        for (at, (name, _)) in STATIONS.iter().enumerate() {
            let (mark, tone) = if at + 1 == passed {
                (glyphs.now, Tone::Accent)
            } else if at < passed {
                (glyphs.done, Tone::Good)
            } else {
                (glyphs.open, Tone::Dim)
            };
            spans.extend([
                ((*name).to_owned(), Tone::Dim),
                (mark.to_owned(), tone),
                (" ".to_owned(), Tone::Plain),
            ]);
        }
        spans.pop();
        spans
    }

    fn entry(&self, context: &Context<'_>) -> Option<Entry> {
        let record = self.record()?;
        let (state, tone) = self.state();
        let (used, serial) = (self.used(), text::printable(&record.serial));
        let changed = self.records.iter().map(|(_, record)| record.changed_ms).max().unwrap_or(0);
        Some(Entry {
            key: record.table.to_string(),
            ranks: vec![
                Rank::Text(serial.clone()),
                Rank::Text(record.hub_name.to_string()),
                Rank::Text(record.client_name.to_string()),
                Rank::Number(record.bytes),
                Rank::Number(self.stations() as u64),
                Rank::Number(used),
                Rank::Text(state.to_owned()),
                Rank::Number(changed),
            ],
            cells: vec![
                cell(serial, Tone::Accent),
                plain(record.hub_name.to_string()),
                plain(record.client_name.to_string()),
                plain(text::short_size(record.bytes)),
                {
                    let full = self.custody(context.glyphs);
                    let brief = full.iter().skip(1).step_by(3).cloned().collect();
                    Cell::Steps { full, brief }
                },
                Cell::Gauge { part: used, whole: record.bytes, tone: Tone::Plain },
                cell(state, tone),
                cell(ago(context.now_ms, changed), Tone::Dim),
            ],
            // The client's end is retired where both are watched: it is the client that asks for keys.
            node: self
                .records
                .iter()
                .map(|(node, _)| *node)
                .find(|node| **node == record.client_name)
                .or_else(|| self.records.first().map(|(node, _)| *node))
                .cloned(),
            subject: Subject::Module(record.serial.clone()),
        })
    }
}

pub(super) fn entries(context: &Context<'_>) -> Vec<Entry> {
    Module::all(context).iter().filter_map(|module| module.entry(context)).collect()
}

pub(super) fn detail(context: &Context<'_>, key: &str) -> Vec<Spans> {
    let modules = Module::all(context);
    let found = modules.iter().find(|module| module.record().is_some_and(|r| r.table.to_string() == key));
    let Some((module, record)) = found.and_then(|module| Some((module, module.record()?))) else {
        return Vec::new();
    };
    let (state, tone) = module.state();
    let passed = module.stations();
    let mut lines = vec![
        heading(&text::printable(&record.serial)),
        fact("from", record.hub_name.to_string(), Tone::Accent),
        fact("for", record.client_name.to_string(), Tone::Accent),
        fact("state", state, tone),
        fact("made", format!("{} ago", ago(context.now_ms, record.made_ms)), Tone::Plain),
        fact(
            "used",
            format!("{} of {}", text::short_size(module.used()), text::short_size(record.bytes)),
            Tone::Plain,
        ),
        heading("Custody"),
    ];
    for (at, (_, words)) in STATIONS.iter().enumerate() {
        let (mark, tone) =
            if at < passed { (context.glyphs.done, Tone::Good) } else { (context.glyphs.open, Tone::Dim) };
        lines.push(vec![(format!("{mark} "), tone), ((*words).to_owned(), Tone::Plain)]);
    }
    for (node, record) in &module.records {
        let state = match record.state {
            ModuleState::Made => "made, receipt awaited",
            ModuleState::Imported => "imported",
            ModuleState::Acknowledged => "acknowledged",
            ModuleState::Retired => "retired",
            ModuleState::Locked => "locked by wrong receipts: retire it",
        };
        lines.push(fact(
            &format!("at {node}"),
            format!("{state}, {} ago", ago(context.now_ms, record.changed_ms)),
            Tone::Plain,
        ));
    }
    for (node, table) in &module.tables {
        lines.push(fact(&format!("table {node}"), text::printable(&table.state.to_string()), Tone::Plain));
    }
    let next = match passed {
        1 => Some("next: the client imports it"),
        2 => Some("next: its receipt is read to the hub's operator"),
        _ => None,
    };
    lines.extend(next.map(|next| vec![(next.to_owned(), Tone::Warn)]));
    lines
}
