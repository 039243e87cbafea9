//! The foot of the screen: what is typed, what has just happened, or which keys there are.

use ratatui::{Frame, layout::Rect};

use super::pen::Pen;
use crate::{
    app::{App, Kind, Mode},
    bindings::Action,
    screens::Screen,
    text,
    theme::Tone,
};

/// What can be done with the rows of a screen.
fn deeds(app: &App) -> &'static [(Action, &'static str)] {
    match (app.screen, app.kind()) {
        (Screen::Hubs, Kind::Net) => &[
            (Action::Lie, "lie"),
            (Action::Stop, "stop"),
            (Action::Restart, "restart"),
            (Action::Readmit, "re-admit"),
        ],
        (Screen::Hubs | Screen::Identity, _) => &[(Action::Readmit, "re-admit")],
        (Screen::Pads | Screen::Modules, _) => &[(Action::Retire, "retire")],
        (Screen::Sessions, _) => &[(Action::Copy, "copy-id")],
        _ => &[],
    }
}

/// Keys that are shown, the most useful first.
const HINTS: [(Action, &str); 11] = [
    (Action::Show(Screen::Help), "help"),
    (Action::Quit, "quit"),
    (Action::Filter, "filter"),
    (Action::Detail, "detail"),
    (Action::DetailDown, "more"),
    (Action::Sort, "sort"),
    (Action::Command, "cmd"),
    (Action::Pause, "pause"),
    (Action::NextNode, "node"),
    (Action::Key, "key"),
    (Action::Export, "export"),
];

/// Paints it; `below` is whether details go on below what is seen.
pub(super) fn paint(app: &App, frame: &mut Frame<'_>, area: Rect, below: bool) {
    if area.is_empty() {
        return;
    }
    let pen = Pen::new(app);
    let typed = match &app.mode {
        Mode::Filter { .. } => Some(format!("/{}", app.filter)),
        Mode::Command { line } => Some(format!(":{line}")),
        Mode::Normal | Mode::Confirm(_) => None,
    };
    if let Some(line) = typed {
        // The end of the line is where it is typed.
        let room = usize::from(area.width.saturating_sub(1));
        let mut shown = text::printable(&line);
        while text::width(&shown) > room && !shown.is_empty() {
            shown.remove(0);
        }
        let used = pen.write(frame.buffer_mut(), (area.x, area.y), area.width, &[(shown, Tone::Head)]);
        let cursor = area.x.saturating_add(used).min(area.right().saturating_sub(1));
        frame.set_cursor_position((cursor, area.y));
        return;
    }
    if let Some(toast) = app.message() {
        pen.write(
            frame.buffer_mut(),
            (area.x, area.y),
            area.width,
            &[(format!(" {}", toast.text), toast.tone)],
        );
        return;
    }
    let mut spans = vec![(" ".to_owned(), Tone::Plain)];
    let mut used = 1;
    let (first, rest) = HINTS.split_at(5);
    let possible = |(action, _): &&(Action, _)| match action {
        Action::Key => app.has_clients(),
        Action::DetailDown => below,
        _ => true,
    };
    for &(action, name) in first.iter().chain(deeds(app)).chain(rest).filter(possible) {
        let Some(key) = app.settings().bindings.key(action) else { continue };
        let wide = text::width(&key) + 1 + name.len() + 2;
        if used + wide > usize::from(area.width) {
            break;
        }
        used += wide;
        spans.push((key, Tone::Accent));
        spans.push((format!(" {name}  "), Tone::Dim));
    }
    pen.write(frame.buffer_mut(), (area.x, area.y), area.width, &spans);
}
