//! Rows in columns: which columns there is room for, and painting them.

use ratatui::{buffer::Buffer, layout::Rect};

use super::pen::Pen;
use crate::{
    app::{App, Areas},
    screens::{Cell, Column, Entry, Screen, Spans},
    text,
    theme::Tone,
};

/// Columns of this rank and above are left out before others have less room than they can use.
const EXTRA: u8 = 4;

/// Which columns there are, where and how wide.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Places(Vec<(usize, u16, u16)>);

impl Places {
    /// The columns that fit, each with at least its least width; what is left goes to those that can use it. No
    /// wider than the longest text in it, where that is known.
    pub(super) fn new(columns: &[Column], needed: &[u16], width: u16) -> Self {
        let want = |at: usize| {
            let (least, most) = columns[at].width;
            needed.get(at).map_or(most, |needed| (*needed).clamp(least, most))
        };
        let mut shown: Vec<usize> = (0..columns.len()).collect();
        let total = |shown: &[usize], wide: &dyn Fn(usize) -> u16| -> u16 {
            let widths = shown.iter().map(|&at| wide(at).saturating_add(1));
            widths.fold(0, u16::saturating_add).saturating_sub(1)
        };
        let least = |at: usize| columns[at].width.0;
        while let Some(last) = shown.iter().copied().max_by_key(|&at| (columns[at].rank, at)) {
            // What is nice to have does not take room from what is needed.
            let extra = columns[last].rank >= EXTRA;
            let comfortable = |at: usize| if columns[at].rank == 0 { want(at) } else { least(at) };
            let taken = if extra { total(&shown, &comfortable) } else { total(&shown, &least) };
            if taken <= width {
                break;
            }
            if columns[last].rank == 0 {
                break;
            }
            shown.retain(|&at| at != last);
        }
        let mut widths: Vec<u16> = shown.iter().map(|&at| columns[at].width.0).collect();
        let mut spare = width.saturating_sub(total(&shown, &least));
        let top = columns.iter().map(|column| column.rank).max().unwrap_or(0);
        for rank in 0..=top {
            // Among equals, one column each in turn, so that no one takes all.
            let mut grown = true;
            while spare > 0 && grown {
                grown = false;
                for (&at, wide) in shown.iter().zip(&mut widths) {
                    if spare > 0 && columns[at].rank == rank && *wide < want(at) {
                        *wide += 1;
                        spare -= 1;
                        grown = true;
                    }
                }
            }
        }
        for (&at, wide) in shown.iter().zip(&mut widths) {
            let more = columns[at].stretch.min(spare);
            *wide += more;
            spare -= more;
        }
        let mut x = 0;
        let mut places = Vec::new();
        for (at, wide) in shown.into_iter().zip(widths) {
            let wide = wide.min(width.saturating_sub(x));
            if wide > 0 {
                places.push((at, x, wide));
            }
            x = x.saturating_add(wide).saturating_add(1);
        }
        Self(places)
    }
}

/// Paints titles and rows; notes where they are. `chosen` is the place of the chosen row.
pub(super) fn paint(
    app: &App,
    buffer: &mut Buffer,
    area: Rect,
    screen: Screen,
    entries: &[Entry],
    chosen: Option<usize>,
    areas: &mut Areas,
) {
    let pen = Pen::new(app);
    if area.is_empty() {
        return;
    }
    let columns = screen.columns();
    let places = Places::new(columns, &needed(screen, entries), area.width);
    let list = app.list_of(screen);
    for &(at, x, wide) in &places.0 {
        let column = &columns[at];
        let mut title = column.title.to_owned();
        if at == list.column && chosen.is_some() {
            title.push_str(if list.downwards { app.glyphs().descending } else { app.glyphs().ascending });
        }
        let title = if column.right { text::right(&title, usize::from(wide)) } else { title };
        let tone = if at == list.column && chosen.is_some() { Tone::Head } else { Tone::Dim };
        pen.write(buffer, (area.x + x, area.y), wide, &[(title, tone)]);
        areas.columns.push((Rect::new(area.x + x, area.y, wide, 1), at));
    }
    let rows = Rect { y: area.y + 1, height: area.height - 1, ..area };
    let page = usize::from(rows.height);
    // The chosen row stays in sight, with a row around it where there are more.
    let first = chosen.map_or(0, |chosen| {
        let most = entries.len().saturating_sub(page);
        chosen.saturating_sub(page.saturating_sub(1) / 2).min(most)
    });
    areas.rows = rows;
    areas.first = first;
    areas.page = page;
    if entries.is_empty() && page > 0 {
        let why = if app.filter.is_empty() || chosen.is_none() {
            screen.nothing(app.has_clients())
        } else {
            "nothing matches the filter"
        };
        pen.write(buffer, (rows.x, rows.y), rows.width, &[(format!(" {why}"), Tone::Dim)]);
    }
    for (y, (at, entry)) in (rows.top()..rows.bottom()).zip(entries.iter().enumerate().skip(first)) {
        for &(column, x, wide) in &places.0 {
            if let Some(cell) = entry.cells.get(column) {
                paint_cell(app, pen, buffer, (rows.x + x, y, wide), cell, &columns[column]);
            }
        }
        if chosen == Some(at) {
            buffer.set_style(Rect::new(rows.x, y, rows.width, 1), app.palette().chosen());
        }
    }
}

fn paint_cell(
    app: &App,
    pen: Pen,
    buffer: &mut Buffer,
    place: (u16, u16, u16),
    cell: &Cell,
    column: &Column,
) {
    let (x, y, wide) = place;
    let columns = usize::from(wide);
    match cell {
        Cell::Gauge { part, whole, tone } => {
            let (full, empty) = (app.glyphs().full, app.glyphs().empty);
            let bar = text::gauge_with(*part, *whole, columns, full, empty);
            pen.write(buffer, (x, y), wide, &[(bar, *tone)]);
        }
        Cell::Text(spans) | Cell::Steps { full: spans, .. } => {
            let spans = match cell {
                Cell::Steps { full, brief } if wide_of(full) > columns => brief,
                _ => spans,
            };
            let taken = wide_of(spans);
            let before = if column.right { columns.saturating_sub(taken) } else { 0 };
            let before = u16::try_from(before).unwrap_or(0);
            pen.write(buffer, (x + before, y), wide - before, spans);
        }
    }
}

fn wide_of(spans: &Spans) -> usize {
    spans.iter().map(|(text, _)| text::width(text)).sum()
}

/// How wide the longest text of each column is, its title included.
fn needed(screen: Screen, entries: &[Entry]) -> Vec<u16> {
    let columns = screen.columns();
    let wide = |cell: &Cell| match cell {
        Cell::Gauge { .. } => usize::MAX,
        Cell::Text(spans) | Cell::Steps { full: spans, .. } => wide_of(spans),
    };
    let column = |at: usize| {
        let title = text::width(columns[at].title) + 1;
        let longest = entries.iter().filter_map(|entry| entry.cells.get(at)).map(wide).max();
        u16::try_from(longest.unwrap_or(0).max(title)).unwrap_or(u16::MAX)
    };
    (0..columns.len()).map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(screen: Screen, width: u16) -> Vec<&'static str> {
        let columns = screen.columns();
        let places = Places::new(columns, &[], width);
        for pair in places.0.windows(2) {
            assert!(pair[0].1 + pair[0].2 < pair[1].1, "columns overlap: {places:?}");
        }
        assert!(places.0.iter().all(|(_, x, wide)| x + wide <= width), "{places:?} in {width}");
        places.0.iter().map(|(at, ..)| columns[*at].title).collect()
    }

    #[test]
    fn columns_go_in_the_order_of_their_importance() {
        assert_eq!(titles(Screen::Pads, 200).len(), Screen::Pads.columns().len());
        assert_eq!(titles(Screen::Pads, 40), ["CLIENT", "HUB", "LANE", "PAD", "%", "EMPTY", "STATE"]);
        assert_eq!(titles(Screen::Sessions, 30), ["FROM/TO", "STEPS", "SHARES", "STATE"]);
        for screen in Screen::ALL {
            for width in 0..200 {
                titles(screen, width);
            }
        }
    }
}
