//! What the node tells the service manager that started it: that it is up, how it is, that it lives, that it stops.
//!
//! Without `NOTIFY_SOCKET` nothing is told. The watchdog is fed only while every task answers and the store works: a node
//! that hangs, or whose store has stopped, is started again.

use std::{sync::Arc, time::Duration};

use sd_notify::NotifyState;

use crate::{metrics::Health, node::Shared};

/// Between two looks, at most.
const LOOK: Duration = Duration::from_secs(10);

/// Longest status that is told; it is a line for people.
const STATUS_CHARS_MAX: usize = 200;

/// Says that the node is up, and from then on how it is, until it is dropped.
pub(crate) async fn run(shared: Arc<Shared>) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    tell(&[NotifyState::Ready]);
    let watchdog = sd_notify::watchdog_enabled();
    // Twice within its time, so that one late look does no harm.
    let pause = watchdog.map_or(LOOK, |within| (within / 2).min(LOOK));
    let mut looks = tokio::time::interval(pause);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        looks.tick().await;
        let health = Health::ask(&shared).await;
        if watchdog.is_some() && health.is_alive() {
            tell(&[NotifyState::Watchdog]);
        }
        let words = in_words(&health);
        if last.as_ref() != Some(&words) {
            tell(&[NotifyState::Status(&words)]);
            last = Some(words);
        }
    }
}

/// Says that the node is on its way out.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// A line: new lines would be taken for further words to the service manager.
fn in_words(health: &Health) -> String {
    let reasons: Vec<&str> = health.reasons().collect();
    let text = if reasons.is_empty() { "ready".to_owned() } else { reasons.join("; ") };
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(STATUS_CHARS_MAX).collect()
}

fn tell(words: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(words) {
        tracing::warn!(%error, "the service manager cannot be told how the node is");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_one_line_of_bounded_length() {
        assert_eq!(in_words(&Health::default()), "ready");
        let long = format!("the store has stopped: x\nWATCHDOG=1\u{1b}{}", "y".repeat(500));
        let words = in_words(&Health { dead: vec![long], ..Health::default() });
        assert!(!words.contains('\n') && !words.contains('\u{1b}'));
        assert_eq!(words.chars().count(), STATUS_CHARS_MAX);
    }
}
