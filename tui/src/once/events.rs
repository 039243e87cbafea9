//! Events: what an operator may want to know, newest first.

use dske_node::status::{Event, Level, Status};

use crate::text;

/// Most events shown.
const EVENTS_MAX: usize = 8;

/// One line per event, with the time of day in UTC.
pub(crate) fn lines(status: &Status, width: usize) -> Vec<String> {
    if status.events.is_empty() {
        return vec![" none".to_owned()];
    }
    status.events.iter().take(EVENTS_MAX).map(|event| line(event, width)).collect()
}

fn line(event: &Event, width: usize) -> String {
    let level = match event.level {
        Level::Info => "info",
        Level::Warn => "WARN",
        Level::Crit => "CRIT",
    };
    text::clip(
        &format!(" {} {level} {}", text::time_of_day(event.at_ms), text::printable(&event.text)),
        width,
    )
}
