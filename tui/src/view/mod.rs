//! Painting: where everything goes. One file per part.

mod body;
mod dialog;
mod foot;
mod head;
mod pen;
mod table;

use ratatui::{
    Frame,
    layout::{Constraint, Layout},
};

use crate::{app::App, app::Areas};

/// Paints everything into the frame.
pub(crate) fn draw(app: &mut App, frame: &mut Frame<'_>, now_ms: u64) {
    let area = frame.area();
    if area.is_empty() {
        return;
    }
    let head = head::lines(app, now_ms, area);
    let tabs = u16::from(area.height >= 6);
    let foot = u16::from(area.height >= 3);
    let head_height = u16::try_from(head.len()).unwrap_or(1);
    let rows = [
        Constraint::Length(head_height),
        Constraint::Length(tabs),
        Constraint::Min(0),
        Constraint::Length(foot),
    ];
    let [head_area, tabs_area, body_area, foot_area] = Layout::vertical(rows).areas(area);
    let mut areas = Areas::default();
    head::paint(app, frame.buffer_mut(), head_area, &head);
    areas.tabs = head::tabs(app, frame.buffer_mut(), tabs_area);
    body::paint(app, frame, body_area, now_ms, &mut areas);
    foot::paint(app, frame, foot_area, areas.details.below() > 0);
    dialog::paint(app, frame, body_area);
    app.areas = areas;
}
