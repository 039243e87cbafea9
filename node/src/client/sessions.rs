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
    status::{Event, HubShare, Level, SessionStatus, ShareState, Step},
};

/// Agreements remembered.
const SESSIONS_MAX: usize = 128;

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Sessions {
    sessions: VecDeque<Kept>,
    events: Events,
    pub(super) validated: u64,
    pub(super) sent: u64,
    pub(super) aborted: u64,
    pub(super) measures: Measures,
}

/// An agreement that is remembered.
#[derive(Debug)]
struct Kept {
    status: SessionStatus,
    began: Time,
    /// Places of the hubs in the status.
    roster: Vec<NodeId>,
}

/// What went before the roster of an agreement was drawn.
#[derive(Debug, Clone)]
pub(super) struct Beginning {
    /// What this node is in it.
    pub(super) side: Side,
    /// The steps so far; the first one is the beginning.
    pub(super) steps: Vec<(Step, Time)>,
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
        beginning: &Beginning,
        agreement: &Agreement,
        name: impl Fn(&NodeId) -> String,
    ) {
        self.measures.began(beginning.side, agreement.block(), now);
        if self.sessions.len() >= SESSIONS_MAX {
            self.sessions.pop_back();
        }
        let began = beginning.steps.first().map_or(now, |(_, at)| *at);
        let since = |at: Time| micros(at.saturating_sub(began));
        let mut steps_us: Vec<_> = beginning.steps.iter().map(|(step, at)| (*step, since(*at))).collect();
        steps_us.push((Step::Distribution, since(now)));
        let waiting = |hub: &NodeId| HubShare { hub: name(hub), state: ShareState::Waiting };
        let status = SessionStatus {
            block: agreement.block(),
            sender: name(&agreement.sender),
            receivers: agreement.receivers.iter().map(&name).collect(),
            sent: beginning.side == Side::Sender,
            purpose: agreement.purpose.clone(),
            key_bytes: u64::from(agreement.key_bytes),
            n: agreement.n(),
            k: agreement.k,
            shares: 0,
            hubs: agreement.roster.iter().map(waiting).collect(),
            step: Step::Distribution,
            steps_us,
            phase: "agreeing".into(),
            liars: Vec::new(),
            reason: None,
            took_us: 0,
            began_ms: now_ms().saturating_sub(since(now) / 1_000),
        };
        self.sessions.push_front(Kept { status, began, roster: agreement.roster.clone() });
    }

    fn kept(&mut self, block: &BlockId) -> Option<&mut Kept> {
        self.sessions.iter_mut().find(|kept| kept.status.block == *block)
    }

    /// Changes what is remembered of an agreement, if it still is.
    pub(super) fn update(&mut self, block: &BlockId, change: impl FnOnce(&mut SessionStatus, Time)) {
        if let Some(kept) = self.kept(block) {
            change(&mut kept.status, kept.began);
        }
    }

    /// An agreement has come further.
    pub(super) fn step(&mut self, now: Time, block: &BlockId, step: Step) {
        self.update(block, |session, began| {
            if session.step < step && session.phase == "agreeing" {
                session.step = step;
                session.steps_us.push((step, micros(now.saturating_sub(began))));
            }
        });
    }

    /// More is known about the share of a hub.
    pub(super) fn share(&mut self, now: Time, block: &BlockId, hub: &NodeId, state: ShareState) {
        let Some(kept) = self.kept(block) else { return };
        let at = kept.roster.iter().position(|node| node == hub);
        let Some(share) = at.and_then(|at| kept.status.hubs.get_mut(at)) else { return };
        share.state = state;
        let there = |share: &&HubShare| matches!(share.state, ShareState::Accepted | ShareState::Arrived);
        if kept.status.phase != "agreeing" {
            return;
        }
        kept.status.shares = u8::try_from(kept.status.hubs.iter().filter(there).count()).unwrap_or(u8::MAX);
        if kept.status.sent && kept.status.shares >= kept.status.k {
            // What is left to a sender is the receivers' word.
            self.step(now, block, Step::Validation);
        }
    }

    /// The agreement of a sender has ended; `liars` are hubs whose share was false, by their names.
    pub(super) fn ended(&mut self, now: Time, block: &BlockId, result: Result<(u8, Vec<String>), String>) {
        self.update(block, |session, began| {
            session.took_us = micros(now.saturating_sub(began));
            match result {
                Ok((shares, liars)) => {
                    session.phase = "validated".into();
                    session.shares = shares;
                    blame(session, liars);
                }
                Err(reason) => {
                    session.phase = "aborted".into();
                    session.reason = Some(reason);
                }
            }
        });
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
        self.update(&agreement.block(), |session, began| {
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
                    blame(session, liars);
                }
                NoticeOutcome::Aborted(reason) => {
                    session.phase = "aborted".into();
                    session.reason = Some(reason.to_string());
                }
            }
        });
        let short = agreement.block().short();
        for liar in named {
            self.event(Level::Crit, format!("{short}: the share of {liar} is false"));
        }
        match outcome {
            NoticeOutcome::Validated { .. } => {
                self.validated += u64::from(first);
                self.measures.validated(Side::Receiver, agreement.block(), now);
            }
            NoticeOutcome::Aborted(reason) => {
                self.measures.aborted(Side::Receiver, Some(agreement.block()), reason.name());
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
        let so_far = |kept: &Kept| {
            let mut session = kept.status.clone();
            if session.phase == "agreeing" {
                session.took_us = micros(now.saturating_sub(kept.began));
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

fn blame(session: &mut SessionStatus, liars: Vec<String>) {
    for share in session.hubs.iter_mut().filter(|share| liars.contains(&share.hub)) {
        share.state = ShareState::False;
    }
    session.liars = liars;
}

/// Whole microseconds.
pub(super) fn micros(time: Time) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
