//! Peers that speak no version of the protocol that this node speaks: what is said of them.
//!
//! A peer's word about its versions bears no tag. It is for people alone, and decides nothing.

use dske_protocol::{ids::NodeId, params::Time};

use super::{ClientActor, Names};
use crate::{control::Failure, network::Foreign, status::Level};

/// Peers that one failure names.
const NAMED_MAX: usize = 3;

impl ClientActor {
    /// A peer said which versions it speaks.
    pub(super) fn versions(&mut self, now: Time, peer: NodeId, foreign: Option<Foreign>) {
        let names = Names { hubs: &self.hubs, clients: &self.roll, me: &self.me };
        if let Some(foreign) = self.foreign.said(now, peer, foreign) {
            self.sessions.event(Level::Warn, format!("{} {}", names.of(&peer), foreign.advice()));
        }
    }

    /// Adds to a failure which hubs and receivers cannot be talked to: that is most likely why.
    pub(super) fn with_versions(&self, mut why: Failure) -> Failure {
        const CONCERNED: [&str; 6] = [
            "dske::hubs::few",
            "dske::shares::few",
            "dske::sync::waiting",
            "dske::key::timeout",
            "dske::key::unconfirmed",
            "dske::identity::conflict",
        ];
        if !CONCERNED.contains(&why.code.as_str()) {
            return why;
        }
        let names = Names { hubs: &self.hubs, clients: &self.roll, me: &self.me };
        for (node, foreign) in self.foreign.iter().take(NAMED_MAX) {
            why.message.push_str(&format!("; {} {foreign}", names.of(node)));
            why.help = Some(foreign.help().to_owned());
        }
        why
    }
}
