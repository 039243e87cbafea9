//! The latest agreements and events of a client, for people to look at.

use std::collections::VecDeque;

use dske_protocol::{
    ids::{BlockId, NodeId},
    message::{Agreement, NoticeOutcome},
    params::Time,
};

use crate::{
    clock::now_ms,
    events::Events,
    metrics::{Measures, Side},
    status::{Event, Level, SessionStatus},
};

/// Agreements remembered.
const SESSIONS_MAX: usize = 64;

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Sessions {
    sessions: VecDeque<(SessionStatus, Time)>,
    events: Events,
    pub(super) validated: u64,
    pub(super) sent: u64,
    pub(super) aborted: u64,
    pub(super) measures: Measures,
}

impl Sessions {
    /// None so far.
    pub(super) fn new(measures: Measures) -> Self {
        let (validated, sent, aborted) = (0, 0, 0);
        Self { sessions: VecDeque::new(), events: Events::default(), validated, sent, aborted, measures }
    }

    /// An agreement has begun. `name` gives the name of a node, or its short id.
    pub(super) fn began(
        &mut self,
        now: Time,
        side: Side,
        agreement: &Agreement,
        name: impl Fn(&NodeId) -> String,
    ) {
        self.measures.began(side, agreement.block, now);
        if self.sessions.len() >= SESSIONS_MAX {
            self.sessions.pop_back();
        }
        let session = SessionStatus {
            block: agreement.block,
            sender: name(&agreement.sender),
            receivers: agreement.receivers.iter().map(name).collect(),
            key_bytes: u64::from(agreement.key_bytes),
            n: agreement.n(),
            k: agreement.k,
            shares: 0,
            phase: "agreeing".into(),
            liars: Vec::new(),
            reason: None,
            took_us: 0,
            began_ms: now_ms(),
        };
        self.sessions.push_front((session, now));
    }

    /// Changes what is remembered of an agreement, if it still is.
    pub(super) fn update(&mut self, block: &BlockId, change: impl FnOnce(&mut SessionStatus, Time)) {
        if let Some((session, began)) = self.sessions.iter_mut().find(|(session, _)| session.block == *block)
        {
            change(session, *began);
        }
    }

    /// A receiver's agreement has ended, or more is known about it. Gives whether this is its first end.
    pub(super) fn progress(
        &mut self,
        now: Time,
        agreement: &Agreement,
        outcome: &NoticeOutcome,
        name: impl Fn(&NodeId) -> String,
    ) {
        let hub = |at: &u8| agreement.roster.get(usize::from(*at)).map(&name);
        let mut first = false;
        let mut named = Vec::new();
        self.update(&agreement.block, |session, began| {
            first = session.phase == "agreeing";
            if first {
                session.took_us = micros(now.saturating_sub(began));
            }
            match outcome {
                NoticeOutcome::Validated { shares, false_positions } => {
                    session.phase = "validated".into();
                    session.shares = *shares;
                    let liars: Vec<_> = false_positions.iter().filter_map(hub).collect();
                    named = liars.iter().filter(|liar| !session.liars.contains(liar)).cloned().collect();
                    session.liars = liars;
                }
                NoticeOutcome::Aborted(reason) => {
                    session.phase = "aborted".into();
                    session.reason = Some(reason.to_string());
                }
            }
        });
        let short = agreement.block.short();
        for liar in named {
            self.event(Level::Crit, format!("{short}: the share of {liar} is false"));
        }
        match outcome {
            NoticeOutcome::Validated { .. } => {
                self.validated += u64::from(first);
                self.measures.validated(Side::Receiver, agreement.block, now);
            }
            NoticeOutcome::Aborted(reason) => {
                self.measures.aborted(Side::Receiver, Some(agreement.block), reason.name());
                self.aborted += 1;
                let level = if reason.is_security_event() { Level::Crit } else { Level::Warn };
                self.event(level, format!("{short}: aborted: {reason}"));
            }
        }
    }

    /// Remembers an event and logs it.
    pub(super) fn event(&mut self, level: Level, text: String) {
        self.events.add(level, text);
    }

    /// Newest first; those under way with the time so far.
    pub(super) fn sessions(&self, now: Time) -> Vec<SessionStatus> {
        let so_far = |(session, began): &(SessionStatus, Time)| {
            let mut session = session.clone();
            if session.phase == "agreeing" {
                session.took_us = micros(now.saturating_sub(*began));
            }
            session
        };
        self.sessions.iter().map(so_far).collect()
    }

    /// Newest first.
    pub(super) fn events(&self) -> Vec<Event> {
        self.events.newest_first()
    }
}

/// Whole microseconds.
pub(super) fn micros(time: Time) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
