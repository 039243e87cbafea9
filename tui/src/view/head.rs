//! The head of the screen: what is watched, the fault margin beside the four thresholds (§4.2), and the tabs.

use std::collections::BTreeSet;

use dske_node::{
    config::Role,
    status::{PolicyStatus, Status},
};
use dske_protocol::ids::Name;
use ratatui::{buffer::Buffer, layout::Rect};

use super::pen::Pen;
use crate::{
    app::{App, Kind},
    screens::{Screen, Spans},
    text,
    theme::Tone,
};

/// The rate of keys is over this long.
const RATE_MS: u64 = 10_000;

/// The parts of the head, in as many lines as the screen can spare.
pub(super) fn lines(app: &App, now_ms: u64, area: Rect) -> Vec<Spans> {
    let most = match area.height {
        0..10 => 1,
        10..24 => 2,
        _ => 3,
    };
    let mut lines = flow(app, parts(app, now_ms), usize::from(area.width));
    lines.truncate(most);
    lines
}

fn parts(app: &App, _now_ms: u64) -> Vec<Spans> {
    let model = app.shown();
    let one = |text: String, tone| vec![(text, tone)];
    let mut title = vec![(" dske ".to_owned(), Tone::Dim), (app.title().to_owned(), Tone::Head)];
    if let Some(focus) = app.focus() {
        title.push((format!(" only {focus}"), Tone::Accent));
    }
    let mut parts = vec![title];
    if app.is_paused() {
        parts.push(one("PAUSED".to_owned(), Tone::Warn));
    }
    let faults = model.known(app.focus()).filter_map(|(name, node, status)| {
        node.away.is_none().then_some(())?;
        Some(format!("{name}: STORE STOPPED {}", text::printable(status.node.store_fault.as_deref()?)))
    });
    parts.extend(faults.take(1).map(|fault| one(fault, Tone::Crit)));
    let worst = worst_client(app);
    if let Some((name, policy, status)) = worst {
        parts.push(margin_part(app, name, policy, status));
    }
    parts.extend(rate(app).map(|rate| one(rate, Tone::Plain)));
    if worst.is_none() {
        parts.extend(hub_parts(app));
    }
    let excluded: BTreeSet<&str> = model
        .known(app.focus())
        .flat_map(|(_, _, status)| &status.peers)
        .filter(|peer| peer.role == Role::Hub && peer.excluded.is_some())
        .map(|peer| peer.name.as_str())
        .collect();
    if !excluded.is_empty() {
        let names: Vec<&str> = excluded.into_iter().collect();
        parts.push(one(format!("{} EXCLUDED", names.join(",")), Tone::Crit));
    }
    if app.kind() == Kind::Net {
        let down = model.nodes.values().filter(|node| node.away.is_some()).count();
        parts.push(one(format!("{} nodes", model.nodes.len()), Tone::Plain));
        if down > 0 {
            parts.push(one(format!("{down} DOWN"), Tone::Crit));
        }
        let liars: Vec<&str> = model
            .known(None)
            .filter(|(_, node, status)| node.away.is_none() && status.node.fault.is_some())
            .map(|(name, ..)| name.as_str())
            .collect();
        if !liars.is_empty() {
            parts.push(one(format!("{} LIES", liars.join(",")), Tone::Crit));
        }
    } else if let Some((_, node, _)) = model.known(None).next()
        && let Some(why) = &node.away
    {
        parts.push(one(format!("DOWN: {}", text::printable(why)), Tone::Crit));
    }
    if let Some((_, policy, _)) = worst {
        let PolicyStatus { n, k, k_min, leakage, malleability, injection, disruption, usable } = policy;
        let thresholds = format!("leak {leakage} mall {malleability} inj {injection} disr {disruption}");
        parts.push(one(thresholds, Tone::Plain));
        parts.push(one(format!("hubs {usable}/{n}"), if usable < n { Tone::Warn } else { Tone::Plain }));
        parts.push(one(format!("n{n} k{k} kB{k_min}"), Tone::Plain));
    }
    parts
}

/// The client with the least to spare.
fn worst_client(app: &App) -> Option<(&Name, &PolicyStatus, &Status)> {
    let clients = app.shown().known(app.focus()).filter_map(|(name, node, status)| {
        node.away.is_none().then_some(())?;
        Some((name, status.policy.as_ref()?, status))
    });
    clients.min_by_key(|(_, policy, status)| (status.margin(), policy.usable))
}

fn margin_part(app: &App, name: &Name, policy: &PolicyStatus, status: &Status) -> Spans {
    let liars = status.liars();
    // With all n hubs there, it is one less than what it takes to disrupt.
    let full = policy.disruption.saturating_sub(1);
    let who =
        if app.kind() == Kind::Net && app.focus().is_none() { format!("{name} ") } else { String::new() };
    let (mut told, tone) = match status.margin() {
        None if policy.margin().is_some() => ("margin NONE: too many lie !".to_owned(), Tone::Crit),
        None => ("margin NONE: no key !".to_owned(), Tone::Crit),
        Some(margin) if margin < full => (format!("margin {margin} of {full} !"), Tone::Warn),
        Some(margin) => (format!("margin {margin} of {full}"), Tone::Good),
    };
    if !liars.is_empty() {
        let names: Vec<String> = liars.iter().take(3).map(|liar| text::printable(liar)).collect();
        told.push_str(&format!(" ({} lied)", names.join(",")));
    }
    vec![(who, Tone::Accent), (told, tone)]
}

/// What hubs have done, where only hubs are looked at.
fn hub_parts(app: &App) -> Vec<Spans> {
    let mut parts = Vec::new();
    for (name, node, status) in app.shown().known(app.focus()).filter(|(_, node, _)| node.away.is_none()) {
        let waiting: u64 = status.peers.iter().map(|peer| peer.waiting).sum();
        let clients: Vec<_> = status.peers.iter().filter(|peer| peer.role == Role::Client).collect();
        let connected = clients.iter().filter(|client| client.connected).count();
        if node.is(Role::Hub) {
            let forwarded = text::short_count(status.counters.forwarded);
            parts.push(vec![
                (format!("{name} "), Tone::Accent),
                (format!("{forwarded} shares forwarded"), Tone::Plain),
            ]);
            parts.push(vec![(format!("clients {connected}/{}", clients.len()), Tone::Plain)]);
        }
        if waiting > 0 {
            parts.push(vec![(text::messages_wait(waiting), Tone::Warn)]);
        }
    }
    parts
}

/// Keys in a second, of all nodes in focus, where there are any.
fn rate(app: &App) -> Option<String> {
    let nodes = app.shown().known(app.focus()).filter(|(_, node, _)| node.away.is_none());
    let rates = nodes.filter_map(|(_, node, _)| node.history.keys().per_s_milli(RATE_MS));
    // Each key is counted by its sender and by each receiver where both are watched.
    let both = if app.kind() == Kind::Net && app.focus().is_none() { 2 } else { 1 };
    match rates.sum::<u64>() / both {
        0 => None,
        milli @ 1..100 => Some(format!("{} keys/min", milli * 60 / 1_000)),
        milli @ 100..100_000 => Some(format!("{}.{} keys/s", milli / 1_000, milli / 100 % 10)),
        milli => Some(format!("{} keys/s", milli / 1_000)),
    }
}

/// Parts with bars between, broken into lines where they do not fit.
fn flow(app: &App, parts: Vec<Spans>, width: usize) -> Vec<Spans> {
    let mut lines: Vec<Spans> = Vec::new();
    let mut used = 0;
    for part in parts {
        let wide: usize = part.iter().map(|(text, _)| text::width(text)).sum();
        match lines.last_mut() {
            Some(line) if used + 3 + wide <= width => {
                line.push((format!(" {} ", app.glyphs().bar), Tone::Dim));
                line.extend(part);
                used += 3 + wide;
            }
            _ => {
                let mut line = part;
                if !lines.is_empty() {
                    line.insert(0, (" ".to_owned(), Tone::Plain));
                }
                used = wide + 1;
                lines.push(line);
            }
        }
    }
    lines
}

pub(super) fn paint(app: &App, buffer: &mut Buffer, area: Rect, lines: &[Spans]) {
    let pen = Pen::new(app);
    for (y, line) in (area.top()..area.bottom()).zip(lines) {
        pen.write(buffer, (area.x, y), area.width, line);
    }
}

/// The tabs; gives where each is.
pub(super) fn tabs(app: &App, buffer: &mut Buffer, area: Rect) -> Vec<(Rect, Screen)> {
    let pen = Pen::new(app);
    let mut places = Vec::new();
    if area.is_empty() {
        return places;
    }
    let all = |named: fn(Screen, bool) -> bool| {
        Screen::ALL.iter().enumerate().map(move |(at, &screen)| {
            let open = screen == app.screen;
            let name = if named(screen, open) {
                format!("{} {}", at + 1, screen.title())
            } else {
                (at + 1).to_string()
            };
            (screen, if open { format!("[{name}]") } else { format!(" {name} ") }, open)
        })
    };
    let wide: usize = all(|_, _| true).map(|(_, text, _)| text.len()).sum();
    let tabs: Vec<_> = if wide <= usize::from(area.width) {
        all(|_, _| true).collect()
    } else {
        // Only the open one has room for its name.
        all(|_, open| open).collect()
    };
    let mut x = area.x;
    for (screen, text, open) in tabs {
        let tone = if open { Tone::Head } else { Tone::Dim };
        let used = pen.write(buffer, (x, area.y), area.right().saturating_sub(x), &[(text, tone)]);
        places.push((Rect::new(x, area.y, used, 1), screen));
        x = x.saturating_add(used);
    }
    places
}
