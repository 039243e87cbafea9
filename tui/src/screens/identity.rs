//! Identity (§2.2): who the hubs say that clients are, where they contradict each other, and who was excluded for it.

use dske_node::status::{IdentityStatus, InquiryStatus, PeerStatus};
use dske_protocol::ids::Name;

use super::{Column, Context, Entry, Rank, Spans, Subject, ago, cell, column, fact, heading, plain};
use crate::{text, theme::Tone};

pub(super) const COLUMNS: [Column; 6] = [
    column("SUBJECT", (6, 14), false, 0),
    column("SEEN BY", (6, 12), false, 2),
    column("STATE", (8, 11), false, 0),
    column("ALIKE", (5, 5), true, 1),
    column("CONFLICT", (8, 20), false, 1),
    column("OUTCOME", (12, 70), false, 4),
];

/// What a node knows of a client, or holds against a hub.
enum Row<'a> {
    Client { node: &'a Name, known: Option<&'a IdentityStatus>, inquiry: Option<&'a InquiryStatus> },
    Excluded { node: &'a Name, hub: &'a PeerStatus, reason: &'a str },
}

fn rows<'a>(context: &Context<'a>) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    for (node, _, status) in context.model.known(context.focus) {
        for hub in &status.peers {
            if let Some(reason) = &hub.excluded {
                rows.push(Row::Excluded { node, hub, reason });
            }
        }
        let about = |subject: &str| status.inquiries.iter().find(|inquiry| inquiry.subject == subject);
        for known in &status.identities {
            rows.push(Row::Client { node, known: Some(known), inquiry: about(known.name.as_str()) });
        }
        let unknown = |inquiry: &&InquiryStatus| {
            !status.identities.iter().any(|known| known.name.as_str() == inquiry.subject)
        };
        let unknown = status.inquiries.iter().filter(unknown);
        rows.extend(unknown.map(|inquiry| Row::Client { node, known: None, inquiry: Some(inquiry) }));
    }
    rows
}

impl Row<'_> {
    fn key(&self) -> String {
        match self {
            Row::Client { node, known, inquiry } => {
                let name = known.map(|known| known.name.to_string());
                let asked = || inquiry.map(|inquiry| inquiry.subject.clone()).unwrap_or_default();
                format!("{node} client {}", name.unwrap_or_else(asked))
            }
            Row::Excluded { node, hub, .. } => format!("{node} hub {}", hub.name),
        }
    }

    fn conflicting(&self) -> Vec<String> {
        let Row::Client { inquiry: Some(inquiry), .. } = self else { return Vec::new() };
        let contrary = inquiry.words.iter().filter(|word| word.agrees == Some(false));
        contrary.map(|word| text::printable(&word.hub)).collect()
    }

    fn entry(&self, context: &Context<'_>) -> Entry {
        let (node, subject, state, tone, alike, conflict, outcome) = match self {
            Row::Excluded { node, hub, reason } => (
                *node,
                hub.name.to_string(),
                "EXCLUDED",
                Tone::Crit,
                None,
                String::new(),
                text::printable(reason),
            ),
            Row::Client { node, known, inquiry } => {
                let conflict = self.conflicting();
                let asked = || inquiry.map(|inquiry| text::printable(&inquiry.subject)).unwrap_or_default();
                let subject = known.map_or_else(asked, |known| context.model.name(known.name.as_str()));
                let (state, tone) = match (known, conflict.is_empty()) {
                    (Some(_), true) => ("established", Tone::Good),
                    (Some(_), false) => ("CONFLICT", Tone::Crit),
                    (None, _) => ("UNKNOWN", Tone::Warn),
                };
                let on_record = || known.map(|known| format!("on record: {}", known.node.short()));
                let outcome = inquiry
                    .map(|inquiry| text::printable(&inquiry.outcome))
                    .or_else(on_record)
                    .unwrap_or_default();
                (*node, subject, state, tone, known.map(|known| known.claims), conflict.join(","), outcome)
            }
        };
        Entry {
            key: self.key(),
            ranks: vec![
                Rank::Text(subject.clone()),
                Rank::Text(node.to_string()),
                Rank::Text(state.to_owned()),
                Rank::Number(alike.map_or(0, u64::from)),
                Rank::Text(conflict.clone()),
                Rank::Text(outcome.clone()),
            ],
            cells: vec![
                cell(subject, Tone::Accent),
                plain(node.to_string()),
                cell(state, tone),
                alike.map_or_else(|| cell("-", Tone::Dim), |alike| plain(alike.to_string())),
                if conflict.is_empty() { cell("-", Tone::Dim) } else { cell(conflict, Tone::Crit) },
                cell(outcome, if tone == Tone::Good { Tone::Plain } else { tone }),
            ],
            node: Some(node.clone()),
            subject: match self {
                Row::Excluded { hub, .. } => Subject::Hub(hub.name.to_string()),
                Row::Client { .. } => Subject::Nothing,
            },
        }
    }
}

pub(super) fn entries(context: &Context<'_>) -> Vec<Entry> {
    rows(context).iter().map(|row| row.entry(context)).collect()
}

pub(super) fn detail(context: &Context<'_>, key: &str) -> Vec<Spans> {
    let rows = rows(context);
    let Some(row) = rows.iter().find(|row| row.key() == key) else { return Vec::new() };
    match row {
        Row::Excluded { node, hub, reason } => vec![
            heading(&format!("{} is not used by {node}", hub.name)),
            fact("because", text::printable(reason), Tone::Crit),
            vec![(
                "Find out why before it is re-admitted: it may be in other hands.".to_owned(),
                Tone::Plain,
            )],
        ],
        Row::Client { node, known, inquiry } => {
            let mut lines = Vec::new();
            if let Some(known) = known {
                lines.push(heading(&format!("{} as {node} knows it", known.name)));
                lines.push(fact("id", known.node.short(), Tone::Plain));
                let mut hubs: Vec<String> = known.hubs.iter().map(|hub| text::printable(hub)).collect();
                hubs.sort_unstable();
                lines.push(fact("alike", format!("{} hubs: {}", known.claims, hubs.join(", ")), Tone::Good));
            }
            let Some(inquiry) = inquiry else {
                lines.push(vec![(
                    "From the node's records; hubs were not asked since its start.".to_owned(),
                    Tone::Dim,
                )]);
                return lines;
            };
            lines.push(fact("outcome", text::printable(&inquiry.outcome), Tone::Plain));
            lines.push(fact("asked", format!("{} ago", ago(context.now_ms, inquiry.at_ms)), Tone::Dim));
            lines.push(heading("What each hub says"));
            for word in &inquiry.words {
                let (mark, tone) = match word.agrees {
                    Some(true) => (context.glyphs.done, Tone::Good),
                    Some(false) => ("!", Tone::Crit),
                    None => (context.glyphs.open, Tone::Dim),
                };
                let judged = if word.agrees == Some(false) { " CONFLICTS" } else { "" };
                lines.push(vec![
                    (format!("{mark} "), tone),
                    (format!("{} ", text::fit(&text::printable(&word.hub), 8)), Tone::Accent),
                    (format!("{}{judged}", text::printable(&word.says)), tone),
                ]);
            }
            lines
        }
    }
}
