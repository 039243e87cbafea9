//! The body: the rows of the screen, the details of the chosen one, and on a large screen what happens elsewhere.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    widgets::{Block, Borders, Paragraph, Wrap},
};

use super::{pen::Pen, table};
use crate::{
    app::{App, Areas, Details},
    bindings::Action,
    screens::{self, Entry, Screen, Spans},
    text,
    theme::Tone,
};

/// From these sizes on, parts have whole frames.
const FRAMES_FROM: (u16, u16) = (80, 14);
/// Columns from which details stand at the side, and how many they get.
const SIDE_FROM: u16 = 100;
const SIDE: u16 = 42;
/// Lines of the body from which details stand below, and how many they get.
const BELOW_FROM: u16 = 16;
const BELOW: u16 = 9;
/// Lines of the body from which the pads have sessions and events below them.
const STRIPS_FROM: u16 = 26;
/// Title of the details.
const DETAILS: &str = " Details ";
/// Most streams that are shown.
const STREAMS_MAX: usize = 5;

/// Paints the body and notes where things are.
pub(super) fn paint(app: &App, frame: &mut Frame<'_>, area: Rect, now_ms: u64, areas: &mut Areas) {
    if area.is_empty() {
        return;
    }
    if app.screen == Screen::Help {
        return help(app, frame, area, areas);
    }
    let rows = app.rows(now_ms);
    let chosen = app.list().place(&rows);
    let streams =
        if app.screen == Screen::Sessions { screens::streams(&app.context(now_ms)) } else { Vec::new() };
    let (main, sessions, events) = split(app, area, streams.len());
    areas.small = is_small(main);
    let (list, detail) = beside(app, main);
    if let Some(list) = list {
        list_part(app, frame, list, now_ms, &rows, chosen, areas);
    }
    if let Some(detail) = detail {
        detail_part(app, frame, detail, now_ms, rows.get(chosen), areas);
    }
    if let Some(area) = sessions {
        if streams.is_empty() {
            strip(app, frame, area, now_ms, Screen::Sessions);
        } else {
            let inner = framed(app, frame, area, &[(" Streams ".to_owned(), Tone::Head)]);
            frame.render_widget(wrapped(app, &streams), inner);
        }
    }
    if let Some(area) = events {
        strip(app, frame, area, now_ms, Screen::Events);
    }
}

/// The part of the screen, and what is below it.
fn split(app: &App, area: Rect, streams: usize) -> (Rect, Option<Rect>, Option<Rect>) {
    let frame = if framing(area) { 2 } else { 1 };
    if app.screen == Screen::Pads && area.height >= STRIPS_FROM {
        let rows = [Constraint::Min(0), Constraint::Length(6 + frame), Constraint::Length(4 + frame)];
        let [main, sessions, events] = Layout::vertical(rows).areas(area);
        return (main, Some(sessions), Some(events));
    }
    if streams > 0 && area.height >= 10 {
        let height = u16::try_from(streams.min(STREAMS_MAX)).unwrap_or(1) + frame;
        let [main, below] = Layout::vertical([Constraint::Min(0), Constraint::Length(height)]).areas(area);
        return (main, Some(below), None);
    }
    (area, None, None)
}

/// The list and the details: side by side, one above the other, or only one of them.
fn beside(app: &App, area: Rect) -> (Option<Rect>, Option<Rect>) {
    if is_small(area) {
        return if app.zoomed { (None, Some(area)) } else { (Some(area), None) };
    }
    if !app.detail {
        return (Some(area), None);
    }
    if area.width >= SIDE_FROM {
        let columns = [Constraint::Min(0), Constraint::Length(SIDE)];
        let [list, detail] = Layout::horizontal(columns).areas(area);
        (Some(list), Some(detail))
    } else {
        let rows = [Constraint::Min(0), Constraint::Length(BELOW)];
        let [list, detail] = Layout::vertical(rows).areas(area);
        (Some(list), Some(detail))
    }
}

/// Whether there is no room for a list and details at once.
fn is_small(area: Rect) -> bool {
    area.width < SIDE_FROM && area.height < BELOW_FROM
}

fn framing(area: Rect) -> bool {
    area.width >= FRAMES_FROM.0 && area.height >= 4
}

/// A frame with a title; gives what is inside.
fn framed(app: &App, frame: &mut Frame<'_>, area: Rect, title: &[(String, Tone)]) -> Rect {
    let pen = Pen::new(app);
    let whole = frame.area().width >= FRAMES_FROM.0 && frame.area().height >= FRAMES_FROM.1;
    let borders = if whole { Borders::ALL } else { Borders::TOP };
    let block =
        Block::new().borders(borders).border_set(app.glyphs().border).border_style(pen.style(Tone::Dim));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    pen.write(frame.buffer_mut(), (area.x + 1, area.y), area.width.saturating_sub(2), title);
    inner
}

fn list_part(
    app: &App,
    frame: &mut Frame<'_>,
    area: Rect,
    now_ms: u64,
    rows: &[Entry],
    chosen: usize,
    areas: &mut Areas,
) {
    let dash = app.glyphs().line;
    let mut title = vec![(format!(" {} ", app.screen.title()), Tone::Head)];
    title.push((format!("{dash} {}/{} ", (chosen + 1).min(rows.len()), rows.len()), Tone::Dim));
    if !app.filter.is_empty() {
        title.push((format!("{dash} /{} ", text::printable(&app.filter)), Tone::Accent));
    }
    if app.screen == Screen::Pads && app.bits() != crate::command::KEY_BITS {
        title.push((format!("{dash} keys of {} bits ", app.bits()), Tone::Accent));
    }
    let mut inner = framed(app, frame, area, &title);
    if app.screen == Screen::Pads {
        let forecasts = screens::forecasts(&app.context(now_ms));
        // Rows come first.
        let room = usize::from(inner.height / 6).min(2);
        for line in forecasts.iter().take(room) {
            Pen::new(app).write(frame.buffer_mut(), (inner.x, inner.y), inner.width, line);
            inner = Rect { y: inner.y + 1, height: inner.height - 1, ..inner };
        }
    }
    table::paint(app, frame.buffer_mut(), inner, app.screen, rows, Some(chosen), areas);
}

fn detail_part(
    app: &App,
    frame: &mut Frame<'_>,
    area: Rect,
    now_ms: u64,
    chosen: Option<&Entry>,
    areas: &mut Areas,
) {
    let inner = framed(app, frame, area, &[(DETAILS.to_owned(), Tone::Head)]);
    let Some(entry) = chosen else { return };
    let text = wrapped(app, &app.screen.detail(&app.context(now_ms), &entry.key));
    let of = (app.screen, entry.key.clone());
    let details = app.areas.details.painted(of, inner, text.line_count(inner.width));
    let above = u16::try_from(details.above()).unwrap_or(u16::MAX);
    frame.render_widget(text.scroll((above, 0)), inner);
    if details.is_cut() {
        let taken = 1 + u16::try_from(DETAILS.len()).unwrap_or(0);
        let room = area.width.saturating_sub(taken + 1);
        let at = (area.x.saturating_add(taken), area.y);
        Pen::new(app).write(frame.buffer_mut(), at, room, &more(app, &details));
    }
    areas.details = details;
}

/// How many lines of the details are not seen, and the keys that lead there.
fn more(app: &App, details: &Details) -> Spans {
    let parts =
        [(details.above(), "above", Action::DetailUp), (details.below(), "below", Action::DetailDown)];
    let said = parts.into_iter().filter(|(lines, ..)| *lines > 0).map(|(lines, place, action)| {
        let key = app.settings().bindings.key(action).map_or_else(String::new, |key| format!(" ({key})"));
        format!("{lines} {place}{key}")
    });
    let said = said.collect::<Vec<_>>().join(", ");
    vec![(format!("{} ", app.glyphs().line), Tone::Dim), (format!("{said} "), Tone::Accent)]
}

fn wrapped(app: &App, lines: &[Spans]) -> Paragraph<'static> {
    let pen = Pen::new(app);
    let text: Vec<_> = lines.iter().map(|line| pen.line(line)).collect();
    Paragraph::new(text).wrap(Wrap { trim: false })
}

/// The newest rows of another screen.
fn strip(app: &App, frame: &mut Frame<'_>, area: Rect, now_ms: u64, screen: Screen) {
    let title = [(format!(" {} ", screen.title()), Tone::Head)];
    let inner = framed(app, frame, area, &title);
    let rows = app.list_of(screen).arrange(screen.entries(&app.context(now_ms)), &[]);
    // Its places are not for the mouse.
    table::paint(app, frame.buffer_mut(), inner, screen, &rows, None, &mut Areas::default());
}

fn help(app: &App, frame: &mut Frame<'_>, area: Rect, areas: &mut Areas) {
    let inner = framed(app, frame, area, &[(" Help ".to_owned(), Tone::Head)]);
    let all = screens::help_lines(&app.settings().bindings, app.glyphs());
    areas.page = usize::from(inner.height);
    areas.help_lines = all.len();
    let shown: Vec<_> = all.iter().skip(app.list().scroll).take(areas.page).cloned().collect();
    let pen = Pen::new(app);
    for (y, line) in (inner.top()..inner.bottom()).zip(&shown) {
        pen.write(frame.buffer_mut(), (inner.x, y), inner.width, line);
    }
}
