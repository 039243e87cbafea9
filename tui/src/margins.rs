//! The fault margin as it is now: what is left of it with the hubs that lie already.

use std::collections::BTreeSet;

use dske_node::{
    config::Role,
    status::{PolicyStatus, Status},
};

use crate::once::margin;

/// A hub counts as a liar for so many agreements after its last false share.
const LATE_SESSIONS: usize = 10;

/// Hubs whose share was false in one of the last agreements, and that are still used.
pub(crate) fn liars(status: &Status) -> BTreeSet<&str> {
    let hubs = || status.peers.iter().filter(|peer| peer.role == Role::Hub);
    let used = |hub: &&str| hubs().any(|peer| peer.name.as_str() == *hub && peer.excluded.is_none());
    let last = status.sessions.iter().take(LATE_SESSIONS);
    last.flat_map(|session| session.liars.iter().map(String::as_str)).filter(used).collect()
}

/// What is left of the margin with those that lie already.
pub(crate) fn live(policy: &PolicyStatus, liars: &BTreeSet<&str>) -> Option<u8> {
    margin(policy)?.checked_sub(u8::try_from(liars.len()).unwrap_or(u8::MAX))
}
