//! The latest notable events of an actor, for people to look at.

use std::collections::VecDeque;

use crate::{
    clock::now_ms,
    status::{Event, Level},
};

/// Events remembered.
const EVENTS_MAX: usize = 128;

/// See the head of the file.
#[derive(Debug, Default)]
pub(crate) struct Events(VecDeque<Event>);

impl Events {
    /// Remembers an event and logs it.
    pub(crate) fn add(&mut self, level: Level, text: String) {
        match level {
            Level::Info => tracing::info!("{text}"),
            Level::Warn => tracing::warn!("{text}"),
            Level::Crit => tracing::error!("{text}"),
        }
        if self.0.len() >= EVENTS_MAX {
            self.0.pop_back();
        }
        self.0.push_front(Event { at_ms: now_ms(), level, text });
    }

    /// Newest first.
    pub(crate) fn newest_first(&self) -> Vec<Event> {
        self.0.iter().cloned().collect()
    }
}
