//! Sessions: agreements as they pass through their steps, with the share of each hub; and streams.

use dske_node::status::{SessionStatus, ShareState, Step, WishStatus};
use dske_protocol::ids::Name;

use super::{Cell, Column, Context, Entry, Rank, Spans, Subject, ago, cell, column, fact, heading, plain};
use crate::{glyphs::Glyphs, merged::Merged, text, theme::Tone};

pub(super) const COLUMNS: [Column; 9] = [
    column("BLOCK", (5, 8), false, 3),
    column("FROM/TO", (10, 24), false, 0),
    column("STEPS", (5, 34), false, 0),
    column("SHARES", (6, 8), false, 2),
    column("STATE", (5, 9), false, 0),
    column("TOOK", (5, 5), true, 3),
    column("BITS", (5, 7), true, 5),
    column("AGO", (5, 5), true, 4),
    column("WHY", (12, 60), false, 6),
];

/// The column of the time when it began.
pub(super) const BEGAN: usize = 7;

/// Steps with short names, in their order.
const STEPS: [(Step, &str, &str); 5] = [
    (Step::Identity, "id", "identity"),
    (Step::Generation, "gen", "share generation"),
    (Step::Distribution, "dist", "distribution"),
    (Step::Reconstruction, "rec", "reconstruction"),
    (Step::Validation, "val", "validation"),
];

fn names(context: &Context<'_>, session: &SessionStatus) -> String {
    let name = |called: &String| text::printable(&context.model.name(called));
    let to: Vec<String> = session.receivers.iter().map(name).collect();
    format!("{}{}{}", name(&session.sender), context.glyphs.arrow, to.join(","))
}

fn share_mark(state: ShareState, glyphs: &Glyphs) -> (&'static str, Tone) {
    match state {
        ShareState::Waiting => (glyphs.open, Tone::Dim),
        ShareState::Sent => (glyphs.half, Tone::Dim),
        ShareState::Accepted => (glyphs.half, Tone::Good),
        ShareState::Arrived => (glyphs.done, Tone::Good),
        ShareState::Refused => (glyphs.bad, Tone::Warn),
        ShareState::Silent => (glyphs.bad, Tone::Dim),
        ShareState::False => ("!", Tone::Crit),
    }
}

fn share_words(state: ShareState) -> &'static str {
    match state {
        ShareState::Waiting => "nothing yet: LATE or away",
        ShareState::Sent => "sent, NO ANSWER yet",
        ShareState::Accepted => "taken by the hub",
        ShareState::Arrived => "here",
        ShareState::Refused => "REFUSED by the hub",
        ShareState::Silent => "the hub does NOT ANSWER",
        ShareState::False => "FALSE: not what was sent",
    }
}

/// The five steps with a mark each; distribution has one for each hub.
fn steps(merged: &Merged<'_>, glyphs: &Glyphs) -> Spans {
    let (at, phase) = (merged.step(), merged.phase());
    let mut spans = Vec::new();
    for (step, name, _) in STEPS {
        let (mark, tone) = match phase {
            "validated" => (glyphs.done, Tone::Good),
            "aborted" if step == at => (glyphs.bad, Tone::Crit),
            _ if step < at => (glyphs.done, Tone::Good),
            "agreeing" if step == at => (glyphs.now, Tone::Accent),
            _ => (glyphs.open, Tone::Dim),
        };
        spans.push((name.to_owned(), Tone::Dim));
        if step == Step::Distribution {
            spans.extend(shares(merged, glyphs));
        } else {
            spans.push((mark.to_owned(), tone));
        }
        spans.push((" ".to_owned(), Tone::Plain));
    }
    spans.pop();
    spans
}

fn shares(merged: &Merged<'_>, glyphs: &Glyphs) -> Spans {
    let marks = merged.hubs().into_iter().map(|(_, state)| share_mark(state, glyphs));
    marks.map(|(mark, tone)| (mark.to_owned(), tone)).collect()
}

/// How it ended, or the step that it is in.
fn state(phase: &str, step: Step) -> (&'static str, Tone) {
    match (phase, step) {
        ("validated", _) => ("validated", Tone::Good),
        ("aborted", _) => ("ABORTED", Tone::Crit),
        (_, Step::Identity) => ("identity", Tone::Accent),
        (_, Step::Generation) => ("sharing", Tone::Accent),
        (_, Step::Distribution) => ("distrib.", Tone::Accent),
        (_, Step::Reconstruction) => ("reconstr.", Tone::Accent),
        (_, Step::Validation) => ("validat.", Tone::Accent),
    }
}

/// One word on what went wrong, or a few.
fn why(merged: &Merged<'_>) -> (String, Tone) {
    let liars = merged.liars();
    match merged.reason() {
        Some(reason) => (text::printable(reason), Tone::Crit),
        None if !liars.is_empty() => (format!("false share from {}", printed(&liars).join(", ")), Tone::Crit),
        None => (String::new(), Tone::Plain),
    }
}

fn printed(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| text::printable(name)).collect()
}

pub(super) fn entries(context: &Context<'_>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Merged::all(context.model, context.focus)
        .iter()
        .filter_map(|merged| entry(context, merged))
        .collect();
    for (node, _, status) in context.model.known(context.focus) {
        let wishes = status.wishes.iter().enumerate();
        entries.extend(wishes.map(|(at, wish)| wish_entry(context, node, at, wish)));
    }
    entries
}

fn entry(context: &Context<'_>, merged: &Merged<'_>) -> Option<Entry> {
    let (session, glyphs) = (merged.session()?, context.glyphs);
    let (n, k, shares_in) = (session.n, session.k, merged.shares());
    let (state, tone) = state(merged.phase(), merged.step());
    let enough = if shares_in >= k { (glyphs.at_least, Tone::Good) } else { ("<", Tone::Warn) };
    let (took, bits) = (merged.took_us(), session.key_bytes.saturating_mul(8));
    let (names, (why, why_tone)) = (names(context, session), why(merged));
    Some(Entry {
        key: session.block.to_string(),
        ranks: vec![
            Rank::Text(session.block.to_string()),
            Rank::Text(names.clone()),
            Rank::Number(merged.step() as u64),
            Rank::Number(u64::from(shares_in)),
            Rank::Text(state.to_owned()),
            Rank::Number(took),
            Rank::Number(bits),
            Rank::Number(session.began_ms),
            Rank::Text(why.clone()),
        ],
        cells: vec![
            cell(session.block.short(), Tone::Dim),
            cell(names, Tone::Accent),
            Cell::Steps { full: steps(merged, glyphs), brief: shares(merged, glyphs) },
            Cell::Text(vec![
                (format!("{shares_in}/{n} "), Tone::Plain),
                (format!("{}k", enough.0), enough.1),
            ]),
            cell(state, tone),
            plain(text::short_time(took)),
            plain(text::short_count(bits)),
            cell(ago(context.now_ms, session.began_ms), Tone::Dim),
            cell(why, why_tone),
        ],
        node: merged.views.first().map(|(node, _)| (*node).clone()),
        subject: Subject::Block(session.block.to_string()),
    })
}

fn wish_entry(context: &Context<'_>, node: &Name, at: usize, wish: &WishStatus) -> Entry {
    let with: Vec<String> = wish.with.iter().map(|name| text::printable(name)).collect();
    let names = format!("{node}{}{}", context.glyphs.arrow, with.join(","));
    let (_, step, words) = STEPS.into_iter().find(|(step, ..)| *step == wish.step).unwrap_or(STEPS[0]);
    Entry {
        key: wish_key(node, at),
        ranks: vec![
            Rank::Text(String::new()),
            Rank::Text(names.clone()),
            Rank::Number(wish.step as u64),
            Rank::Number(0),
            Rank::Text("waiting".to_owned()),
            Rank::Number(wish.waiting_us),
            Rank::Number(wish.key_bytes.saturating_mul(8)),
            Rank::Number(u64::MAX - wish.waiting_us.min(u64::MAX / 2)),
            Rank::Text(words.to_owned()),
        ],
        cells: vec![
            cell("-", Tone::Dim),
            cell(names, Tone::Accent),
            Cell::Text(vec![(step.to_owned(), Tone::Dim), (context.glyphs.now.to_owned(), Tone::Accent)]),
            cell("-", Tone::Dim),
            cell("waiting", Tone::Accent),
            plain(text::short_time(wish.waiting_us)),
            plain(text::short_count(wish.key_bytes.saturating_mul(8))),
            cell("now", Tone::Dim),
            cell(format!("waits in {words}"), Tone::Plain),
        ],
        node: Some(node.clone()),
        subject: Subject::Nothing,
    }
}

fn wish_detail(context: &Context<'_>, key: &str) -> Option<Vec<Spans>> {
    let known = context.model.known(context.focus);
    let mut wishes = known.flat_map(|(node, _, status)| {
        status.wishes.iter().enumerate().map(move |(at, wish)| (wish_key(node, at), node, wish))
    });
    let (_, node, wish) = wishes.find(|(other, ..)| other == key)?;
    let with: Vec<String> = wish.with.iter().map(|name| text::printable(name)).collect();
    let words = match wish.step {
        Step::Identity => "waits until the hubs have said who the receivers are, and enough hubs can be used",
        _ => "pads are being taken and shares made",
    };
    Some(vec![
        heading(&format!("{node}{}{}", context.glyphs.arrow, with.join(","))),
        fact(
            "wanted",
            format!("{} bits, for {}", wish.key_bytes.saturating_mul(8), text::short_time(wish.waiting_us)),
            Tone::Plain,
        ),
        vec![(words.to_owned(), Tone::Accent)],
    ])
}

fn wish_key(node: &Name, at: usize) -> String {
    format!("wish {node} {at}")
}

pub(super) fn detail(context: &Context<'_>, key: &str) -> Vec<Spans> {
    if let Some(lines) = wish_detail(context, key) {
        return lines;
    }
    let all = Merged::all(context.model, context.focus);
    let found = all.iter().find(|merged| merged.session().is_some_and(|s| s.block.to_string() == key));
    let Some((merged, session)) = found.and_then(|merged| Some((merged, merged.session()?))) else {
        return Vec::new();
    };
    let (phase, tone) = state(merged.phase(), merged.step());
    let mut lines = vec![
        heading(&names(context, session)),
        vec![(session.block.to_string(), Tone::Dim)],
        fact("state", format!("{phase} in {}", text::short_time(merged.took_us())), tone),
        fact(
            "key",
            format!("{} bits, n {} k {}", session.key_bytes.saturating_mul(8), session.n, session.k),
            Tone::Plain,
        ),
    ];
    if !session.purpose.is_empty() {
        lines.push(fact("for", text::printable(&session.purpose), Tone::Plain));
    }
    if let Some(reason) = merged.reason() {
        lines.push(fact("because", text::printable(reason), Tone::Crit));
    }
    lines.push(heading("Shares"));
    for (hub, state) in merged.hubs() {
        let (mark, tone) = share_mark(state, context.glyphs);
        let hub = text::printable(&context.model.name(hub));
        lines.push(vec![
            (format!("{mark} "), tone),
            (format!("{} ", text::fit(&hub, 8)), Tone::Accent),
            (share_words(state).to_owned(), if tone == Tone::Good { Tone::Plain } else { tone }),
        ]);
    }
    for (node, session) in &merged.views {
        lines.push(heading(&format!(
            "Steps at {node} ({})",
            if session.sent { "sender" } else { "receiver" }
        )));
        for (at, (step, began)) in session.steps_us.iter().enumerate() {
            let next = session.steps_us.get(at + 1).map_or(session.took_us, |(_, next)| *next);
            let name = STEPS.iter().find(|(other, ..)| other == step).map_or("", |(.., name)| name);
            let took = text::short_time(next.saturating_sub(*began));
            lines.push(vec![(format!("  {name:<18}"), Tone::Dim), (took, Tone::Plain)]);
        }
    }
    lines
}

/// The streams of nodes in focus, a line each.
pub(crate) fn streams(context: &Context<'_>) -> Vec<Spans> {
    let mut lines = Vec::new();
    for (node, _, status) in context.model.known(context.focus) {
        for stream in &status.streams {
            let with: Vec<String> = stream.with.iter().map(|name| text::printable(name)).collect();
            let tone = if stream.keys < u64::from(stream.low) { Tone::Warn } else { Tone::Good };
            let mut line = vec![
                (format!("{node}{}{} ", context.glyphs.arrow, with.join(",")), Tone::Accent),
                (format!("{} bits ", stream.bits), Tone::Plain),
                (bar(context.glyphs, stream.keys, u64::from(stream.high)), tone),
                (format!(" {} keys of {} ", stream.keys, stream.high), Tone::Plain),
                (
                    format!(
                        "(low {}) {} agreed, {} taken, {}",
                        stream.low,
                        text::short_count(stream.agreed),
                        text::short_count(stream.handed_out),
                        text::printable(&stream.protocol)
                    ),
                    Tone::Dim,
                ),
            ];
            if stream.keys_out > 0 {
                line.push((format!(", {} on their way", stream.keys_out), Tone::Dim));
            }
            if let Some(problem) = &stream.problem {
                line.push((format!(" PROBLEM {}", text::printable(problem)), Tone::Crit));
            }
            if !stream.purpose.is_empty() {
                line.push((format!(" for {}", text::printable(&stream.purpose)), Tone::Dim));
            }
            lines.push(line);
        }
    }
    lines
}

fn bar(glyphs: &Glyphs, part: u64, whole: u64) -> String {
    text::gauge_with(part, whole, 10, glyphs.full, glyphs.empty)
}
