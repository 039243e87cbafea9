//! How blocks are agreed with one receiver: in rounds, for which a negotiation key is agreed now and then, or by General
//! agreements, which serve while rounds do not succeed.
//!
//! A negotiation key is many times a block's pad, and what says that a receiver has lost one carries no tag. So one that
//! ends before its rounds are used up makes the next one come later, twice as late each time, and be short.

use std::time::Duration;

use crate::params::Time;

/// Rounds of a first session with a receiver, and of later ones: a session that is lost early should cost little.
const ROUNDS_FIRST: u32 = 64;
/// See [`ROUNDS_FIRST`].
const ROUNDS_MOST: u32 = 512;

/// A new session is agreed when no more rounds than this are left.
pub const ROUNDS_LOW: u32 = 16;

/// Between the beginnings of two sessions with one receiver, at least, and after many that were lost.
const SESSION_PAUSE_MIN: Duration = Duration::from_millis(500);
/// See [`SESSION_PAUSE_MIN`].
const SESSION_PAUSE_MAX: Duration = Duration::from_secs(600);

/// A session that is being agreed for so long is not waited for.
const SESSION_LATE: Duration = Duration::from_secs(1);

/// Rounds that may fail one after the other, and how long General agreements serve after that.
const FAILURES_MAX: u32 = 3;
/// See `FAILURES_MAX`.
pub const GENERAL_FOR: Duration = Duration::from_secs(30);

/// What can be done for a block now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A round, under a session that is there.
    Round,
    /// A General agreement.
    General,
    /// A session has to be agreed first, of so many rounds at most.
    Negotiate(u32),
    /// One is being agreed.
    Wait,
}

/// See the head of the file.
#[derive(Debug)]
pub struct Path {
    /// Since when a session is being agreed.
    negotiating: Option<Time>,
    /// Not before this is another session agreed.
    session_from: Time,
    session_pause: Duration,
    /// Rounds that the last session had.
    rounds: u32,
    /// Rounds that failed since one succeeded.
    failures: u32,
    /// Until then General agreements serve.
    general_until: Time,
}

impl Default for Path {
    fn default() -> Self {
        Self {
            negotiating: None,
            session_from: Time::ZERO,
            session_pause: SESSION_PAUSE_MIN,
            rounds: 0,
            failures: 0,
            general_until: Time::ZERO,
        }
    }
}

impl Path {
    /// How the next block is agreed, with so many rounds left. `tries`: only a try is, for which nothing is negotiated.
    pub fn way(&self, now: Time, rounds_left: u32, tries: bool) -> Way {
        if now < self.general_until {
            return Way::General;
        }
        let may_negotiate = self.negotiating.is_none() && now >= self.session_from && !tries;
        match rounds_left {
            0..=ROUNDS_LOW if may_negotiate => Way::Negotiate(self.next_rounds()),
            1.. => Way::Round,
            0 if self.negotiating.is_some_and(|since| now < since + SESSION_LATE) => Way::Wait,
            0 => Way::General,
        }
    }

    fn next_rounds(&self) -> u32 {
        (self.rounds * 2).clamp(ROUNDS_FIRST, ROUNDS_MOST)
    }

    /// A session is being agreed, with so many rounds left of those before it: where there are any, they were not lost.
    pub fn negotiate(&mut self, now: Time, rounds_left: u32) {
        if rounds_left > 0 {
            self.session_pause = SESSION_PAUSE_MIN;
        }
        self.rounds = self.next_rounds();
        self.negotiating = Some(now);
        self.session_from = now + self.session_pause;
    }

    /// It has been agreed, or not.
    pub fn negotiated(&mut self, now: Time, agreed: bool) {
        self.negotiating = None;
        if !agreed {
            self.general_until = now + GENERAL_FOR;
            self.lose(now);
        }
    }

    /// A session was lost before its rounds were used up. Whether General agreements serve for a while from now on.
    pub fn lost(&mut self, now: Time) -> bool {
        self.lose(now);
        self.failed(now)
    }

    fn lose(&mut self, now: Time) {
        self.session_pause = (self.session_pause * 2).min(SESSION_PAUSE_MAX);
        self.session_from = self.session_from.max(now + self.session_pause);
    }

    /// A round has come to a key.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// A round has failed. Whether General agreements serve for a while from now on.
    pub fn failed(&mut self, now: Time) -> bool {
        self.failures += 1;
        self.rounds = 0;
        let often = self.failures >= FAILURES_MAX;
        if often {
            self.failures = 0;
            self.general_until = now + GENERAL_FOR;
        }
        often
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Time = Time::from_secs(1);

    #[test]
    fn a_session_is_agreed_when_few_rounds_are_left_and_serves_meanwhile() {
        let mut path = Path::default();
        assert_eq!(path.way(Time::ZERO, 0, false), Way::Negotiate(64));
        path.negotiate(Time::ZERO, 0);
        assert_eq!(path.way(Time::ZERO, 0, false), Way::Wait);
        assert_eq!(path.way(SECOND, 0, false), Way::General, "it takes too long");
        path.negotiated(SECOND, true);
        assert_eq!(path.way(SECOND, 64, false), Way::Round);
        assert_eq!(path.way(SECOND, ROUNDS_LOW, false), Way::Negotiate(128));
        path.negotiate(SECOND, ROUNDS_LOW);
        assert_eq!(path.way(SECOND, ROUNDS_LOW, false), Way::Round);
        path.negotiated(SECOND, true);
        for _ in 0..9 {
            path.negotiate(SECOND, 1);
            path.negotiated(SECOND, true);
        }
        assert_eq!(path.way(9 * SECOND, 0, false), Way::Negotiate(512), "and no more");
    }

    #[test]
    fn for_a_try_nothing_is_negotiated() {
        let path = Path::default();
        assert_eq!(path.way(Time::ZERO, 0, true), Way::General);
        assert_eq!(path.way(Time::ZERO, 3, true), Way::Round);
    }

    #[test]
    fn sessions_that_are_lost_again_and_again_become_rare() {
        let mut path = Path::default();
        let (mut sessions, mut now) = (0, Time::ZERO);
        while now < Time::from_secs(86_400) {
            now += Time::from_millis(100);
            if let Way::Negotiate(rounds) = path.way(now, 0, false) {
                assert_eq!(rounds, 64, "and are short");
                sessions += 1;
                path.negotiate(now, 0);
                path.negotiated(now, true);
                // A round succeeds, so that it looks well, and then somebody says that all is lost.
                path.succeeded();
                path.lost(now);
            }
        }
        assert!((144..170).contains(&sessions), "in a day: {sessions}");
        // One that serves to its end makes up for them.
        path.negotiate(now, 1);
        path.negotiated(now, true);
        assert!(matches!(path.way(now + SECOND, 0, false), Way::Negotiate(_)));
    }

    #[test]
    fn after_three_failures_in_a_row_general_agreements_serve() {
        let mut path = Path::default();
        assert!(!path.failed(SECOND) && !path.failed(SECOND));
        path.succeeded();
        assert!(!path.failed(SECOND) && !path.failed(SECOND) && path.failed(SECOND));
        assert_eq!(path.way(SECOND, 99, false), Way::General);
        assert_eq!(path.way(SECOND + GENERAL_FOR, 99, false), Way::Round);
    }
}
