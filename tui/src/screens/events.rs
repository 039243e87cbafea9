//! Events: what the nodes tell, and what was done from here, newest first.

use dske_node::status::{Event, Level};

use super::{Column, Context, Entry, Rank, Spans, Subject, ago, cell, column, fact, heading, level_tone};
use crate::{text, theme::Tone};

pub(super) const COLUMNS: [Column; 4] = [
    column("TIME", (8, 8), false, 2),
    column("NODE", (5, 12), false, 3),
    column("", (4, 4), false, 1),
    column("EVENT", (20, 400), false, 0),
];

/// Who it is that acted from here.
const HERE: &str = "(you)";

fn word(level: Level) -> &'static str {
    match level {
        Level::Info => "info",
        Level::Warn => "WARN",
        Level::Crit => "CRIT",
    }
}

/// Each with the node that tells it, and a name for it.
fn all<'a>(context: &Context<'a>) -> Vec<(String, String, &'a Event)> {
    let mut all: Vec<(String, &Event)> =
        context.model.own_events().map(|event| (HERE.to_owned(), event)).collect();
    for (name, _, status) in context.model.known(context.focus) {
        all.extend(status.events.iter().map(|event| (name.to_string(), event)));
    }
    let key =
        |(node, event): (String, &'a Event)| (format!("{} {node} {}", event.at_ms, event.text), node, event);
    all.into_iter().map(key).collect()
}

pub(super) fn entries(context: &Context<'_>) -> Vec<Entry> {
    let entry = |(key, node, event): (String, String, &Event)| {
        let (tone, told) = (level_tone(event.level), text::printable(&event.text));
        Entry {
            key,
            ranks: vec![
                Rank::Number(event.at_ms),
                Rank::Text(node.clone()),
                Rank::Number(event.level as u64),
                Rank::Text(told.clone()),
            ],
            cells: vec![
                cell(text::time_of_day(event.at_ms), Tone::Dim),
                cell(node, Tone::Accent),
                cell(word(event.level), tone),
                cell(told, tone),
            ],
            node: None,
            subject: Subject::Nothing,
        }
    };
    all(context).into_iter().map(entry).collect()
}

pub(super) fn detail(context: &Context<'_>, key: &str) -> Vec<Spans> {
    let Some((_, node, event)) = all(context).into_iter().find(|(other, ..)| other == key) else {
        return Vec::new();
    };
    vec![
        heading(&format!("{} at {node}", word(event.level))),
        fact(
            "time",
            format!("{} UTC, {} ago", text::time_of_day(event.at_ms), ago(context.now_ms, event.at_ms)),
            Tone::Plain,
        ),
        vec![(text::printable(&event.text), level_tone(event.level))],
    ]
}
