//! One agreement as several nodes see it.

use std::collections::BTreeMap;

use dske_node::status::{SessionStatus, ShareState, Step};
use dske_protocol::ids::{BlockId, Name};

use crate::model::Model;

/// See the head of the file.
#[derive(Debug, Clone)]
pub(crate) struct Merged<'a> {
    /// The nodes that know of it, with what they know.
    pub(crate) views: Vec<(&'a Name, &'a SessionStatus)>,
}

impl<'a> Merged<'a> {
    /// Every agreement that nodes in focus know of, newest first.
    pub(crate) fn all(model: &'a Model, focus: Option<&'a Name>) -> Vec<Self> {
        let mut blocks: BTreeMap<BlockId, Self> = BTreeMap::new();
        for (name, _, status) in model.known(focus) {
            for session in &status.sessions {
                let merged = blocks.entry(session.block).or_insert_with(|| Self { views: Vec::new() });
                // The sender's word on the parameters stands first.
                let at = if session.sent { 0 } else { merged.views.len() };
                merged.views.insert(at, (name, session));
            }
        }
        let mut all: Vec<Self> = blocks.into_values().collect();
        all.sort_by_key(|merged| std::cmp::Reverse(merged.first().map(|session| session.began_ms)));
        all
    }

    fn first(&self) -> Option<&'a SessionStatus> {
        self.views.first().map(|(_, session)| *session)
    }

    /// What one of the nodes says; they agree on it.
    pub(crate) fn session(&self) -> Option<&'a SessionStatus> {
        self.first()
    }

    /// `validated` once the receivers say so, `aborted` if anybody does.
    pub(crate) fn phase(&self) -> &'a str {
        let is = |phase: &str| self.views.iter().any(|(_, session)| session.phase == phase);
        let open = is("agreeing");
        match self.first() {
            _ if is("aborted") => "aborted",
            Some(session) if !open => &session.phase,
            _ => "agreeing",
        }
    }

    /// The furthest that anybody has come.
    pub(crate) fn step(&self) -> Step {
        self.views.iter().map(|(_, session)| session.step).max().unwrap_or(Step::Identity)
    }

    /// Each hub and its share, by the best knowledge of all.
    pub(crate) fn hubs(&self) -> Vec<(&'a str, ShareState)> {
        let Some(first) = self.first() else { return Vec::new() };
        let of = |hub: &'a str| {
            let states = self.views.iter().flat_map(|(_, session)| &session.hubs);
            let known = states.filter(|share| share.hub == hub).map(|share| share.state);
            (hub, known.max_by_key(|state| weight(*state)).unwrap_or(ShareState::Waiting))
        };
        first.hubs.iter().map(|share| of(&share.hub)).collect()
    }

    /// Shares that have come furthest.
    pub(crate) fn shares(&self) -> u8 {
        self.views.iter().map(|(_, session)| session.shares).max().unwrap_or(0)
    }

    /// Hubs whose share was false.
    pub(crate) fn liars(&self) -> Vec<&'a str> {
        let mut liars: Vec<&str> =
            self.views.iter().flat_map(|(_, session)| session.liars.iter().map(String::as_str)).collect();
        liars.sort_unstable();
        liars.dedup();
        liars
    }

    /// Why there is no key.
    pub(crate) fn reason(&self) -> Option<&'a str> {
        // A receiver knows it at first hand, and the sender's word quotes it.
        self.views.iter().rev().find_map(|(_, session)| session.reason.as_deref())
    }

    /// From the wish to the key.
    pub(crate) fn took_us(&self) -> u64 {
        self.views.iter().map(|(_, session)| session.took_us).max().unwrap_or(0)
    }
}

/// How much a word about a share says.
fn weight(state: ShareState) -> u8 {
    match state {
        ShareState::Waiting => 0,
        ShareState::Sent => 1,
        ShareState::Silent => 2,
        ShareState::Accepted => 3,
        ShareState::Refused => 4,
        ShareState::Arrived => 5,
        ShareState::False => 6,
    }
}
