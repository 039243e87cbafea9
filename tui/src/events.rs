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
    text::clip(&format!(" {} {level} {}", time_of_day(event.at_ms), text::printable(&event.text)), width)
}

/// `18:51:02`
fn time_of_day(at_ms: u64) -> String {
    let seconds = at_ms / 1_000 % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_the_day() {
        assert_eq!(time_of_day(0), "00:00:00");
        assert_eq!(time_of_day(1_700_000_000_000), "22:13:20");
    }
}
