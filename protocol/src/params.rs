//! Limits of the protocol, and what a receiver accepts.
//!
//! Every limit on what a peer can make a node do has a name here, with its reason.

use std::{collections::BTreeSet, time::Duration};

use crate::{ids::NodeId, tag::U};

/// A moment, as time since an origin that the caller chose and keeps. Must never go back.
pub type Time = Duration;

/// Version of messages and of the canonical context; nodes negotiate it in the name of the protocol between them.
pub const PROTOCOL_VERSION: u16 = 3;

/// Bytes of u, the key of a receiver's key tag (§2.3.2: l bits) and the mask of its hint. One for each receiver travels in
/// front of the key inside the secret.
pub const U_BYTES: u64 = size_of::<U>() as u64;

/// Longest key of one agreement: 8 Mbit, the paper's figure (§5.1). Longer material is agreed as a
/// stream of blocks.
pub const KEY_BYTES_MAX: u64 = 1 << 20;

/// Most keys that one block is cut into.
pub const KEYS_PER_BLOCK_MAX: u32 = 65_536;

/// Most hubs in one agreement: coordinates are the non-zero elements of GF(2^8).
pub const ROSTER_MAX: usize = 255;

/// Most receivers of one agreement; each costs a hub one message.
pub const RECEIVERS_MAX: usize = 16;

/// Longest statement of purpose, in bytes.
pub const PURPOSE_BYTES_MAX: usize = 64;

/// Most application identities of one client, and the longest of them in bytes.
pub const APPLICATIONS_MAX: usize = 16;
/// See [`APPLICATIONS_MAX`].
pub const APPLICATION_BYTES_MAX: usize = 128;

/// Longest tagged message: the longest key, a full roster and receiver list (271 ids of 32 bytes), u and key tag of each
/// receiver, and fixed fields.
pub const MESSAGE_BYTES_MAX: usize = (1 << 20) + (16 << 10);

/// Agreements that a receiver collects shares for while fewer than k_B hubs have spoken for them alike, in fair parts
/// of hubs and of the senders that each names: eight times what one sender has under way. Each hub has a floor, so that
/// there may be half as many more.
pub const COLLECTING_LONE_MAX: u64 = 8192;

/// Agreements that k_B hubs have spoken for, in fair parts of their senders. Asked when an agreement begins, so that
/// those that have begun may come on top.
pub const COLLECTING_BACKED_MAX: u64 = 8192;

/// Agreements that are over and kept for late shares; beyond it the oldest goes.
pub const LATE_BLOCKS_MAX: usize = 8192;

/// Messages of hubs that a receiver has in work, in fair parts of the hubs.
pub const RECEIVING_MESSAGES_MAX: u64 = 32_768;

/// How long a receiver keeps the shares of an agreement that has ended, to check those that come late.
pub const LATE_SHARES: Duration = Duration::from_secs(2);

/// In a round of the Adapted protocol (§3): how long the rest of the shares is awaited when enough have come.
pub const OFFER_GRACE: Duration = Duration::from_millis(50);

/// How long the sender's choice is awaited before the shares are offered again.
pub const OFFER_AGAIN: Duration = Duration::from_secs(1);

/// How long the receiver's confirmation is awaited before the choice is sent again: well within the time in which a
/// receiver still remembers what it has ended ([`LATE_SHARES`]).
pub const CHOICE_AGAIN: Duration = Duration::from_millis(700);

/// What an end of a round is asked for again it says no sooner than so long after it said it last: less than
/// [`CHOICE_AGAIN`], more than the ways differ.
pub const SAID_AGAIN: Duration = Duration::from_millis(300);

/// Senders that one hub may name within [`UNKNOWN_SENDER_PAUSE`] that turn out to be unknown. Counted by
/// hub, so that one that invents senders cannot keep others from introducing real ones.
pub const UNKNOWN_SENDERS_PER_HUB_MAX: usize = 16;

/// How long a sender that the hubs did not vouch for is refused without asking them again: an inquiry
/// burns pad, and a hub must not be able to cause one with every message.
pub const UNKNOWN_SENDER_PAUSE: Duration = Duration::from_secs(10);

/// Inquiries about one sender, each within [`UNKNOWN_SENDER_MEMORY`] of the one before, that may end in vain before the
/// pauses become longer: each is then twice as long as the one before. So a client that enrols in such a way that it is never
/// established uses up little of what hubs may cause for others.
pub const UNKNOWN_SENDER_TRIES: u32 = 6;

/// Longest such pause: one that enrols with more hubs is heard within it.
pub const UNKNOWN_SENDER_PAUSE_MAX: Duration = Duration::from_secs(600);

/// How long after its pause an unknown sender is remembered, so that its next pause is no shorter. Each that is has cost an
/// inquiry, of which there are few in that time.
pub const UNKNOWN_SENDER_MEMORY: Duration = Duration::from_secs(86_400);

/// Bytes of every up lane that all hubs together may make a client burn, within [`INTRODUCED_PERIOD`], by naming
/// senders that turn out to be unknown. Each hub has an equal part, so that one that invents senders leaves the
/// others theirs. An inquiry burns 32 bytes of each up lane, so these are 1024 of them: a table of 1 MiB would
/// bear it for more than two weeks.
pub const INTRODUCED_BYTES_MAX: u64 = 32 << 10;

/// See [`INTRODUCED_BYTES_MAX`].
pub const INTRODUCED_PERIOD: Duration = Duration::from_secs(86_400);

/// Unknown senders that a hub may name within [`INTRODUCED_PERIOD`] at least, however many hubs there are.
pub const INTRODUCED_PER_HUB_MIN: u64 = 16;

/// Bytes of messages that a receiver works on and of shares that it keeps at once, in fair parts of hubs and senders: of
/// the longest key a sender may have 25 under way through 5 hubs. Each hub has a floor, so that there may be half as
/// many more.
pub const COLLECTING_BYTES_MAX: usize = 256 << 20;

/// Searches for false shares that a receiver has under way at once: each may take a processor for seconds. Two, so that
/// a long one does not keep the others waiting. What is done besides is one pass over shares that it holds.
pub const SEARCHES_MAX: usize = 2;

/// Messages that wait while the identity of their sender is being established.
pub const WAITING_MESSAGES_MAX: usize = 512;

/// After a refusal by quota, keys of that length with the same receivers rest for so long, twice as long each time: a quota
/// fills slowly, and nobody says when there is room.
pub const QUOTA_REST_MIN: Duration = Duration::from_secs(60);
/// Longest such rest: a quota that somebody raises is noticed within it.
pub const QUOTA_REST_MAX: Duration = Duration::from_secs(3_600);

/// Agreements that a sender has under way at once.
pub const SENDING_BLOCKS_MAX: usize = 1024;

/// What a client accepts as a receiver (§2.3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptancePolicy {
    /// The paper's k_B: the least k, and the least number of hubs that must claim an identity alike.
    pub k_min: u8,
    /// Hubs that may stand in a roster.
    pub hubs: BTreeSet<NodeId>,
    /// Longest key.
    pub key_bytes_max: u64,
    /// How long shares are awaited after the first one.
    pub deadline: Duration,
    /// Which key that validates is taken.
    pub validate: Validate,
}

/// When a receiver takes a key that validates (§2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Validate {
    /// As soon as there is one. Hubs that are slow or away cost no time; k_B that collude and are heard before the
    /// others go unnoticed.
    #[default]
    First,
    /// When all hubs of all rosters have spoken, or at the deadline, as the paper has it: if another could be the sender's as
    /// well, none is taken.
    All,
}

/// Number of bad hubs that stop an agreement: min(n − k + 1, k_B) (§4.2).
pub fn disruption_threshold(n: u8, k: u8, k_min: u8) -> u8 {
    n.saturating_sub(k).saturating_add(1).min(k_min)
}

/// Length of a share, and of the secret: the u of so many receivers, and the key.
pub fn share_bytes(key_bytes: u64, receivers: usize) -> u64 {
    U_BYTES * receivers as u64 + key_bytes
}

/// Pad bytes that the message of one share burns: m + l + R·(l + 64) bits of the up lane of a hub, with R receivers; m + 2l + 64
/// bits of the down lane of each receiver, who gets his own part alone (§2.3.2).
pub fn burned_bytes(key_bytes: u64, receivers: usize) -> u64 {
    share_bytes(key_bytes, receivers) + crate::pad::TAG_KEY_BYTES as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_256_bits_burns_104_bytes() {
        assert_eq!(burned_bytes(32, 1), 104);
    }

    #[test]
    fn each_further_receiver_costs_40_bytes_up() {
        assert_eq!(burned_bytes(32, 2), 144);
        assert_eq!(burned_bytes(32, RECEIVERS_MAX), 104 + 15 * 40);
    }

    #[test]
    fn disruption_is_the_lesser_of_the_two_bounds() {
        assert_eq!(disruption_threshold(5, 3, 3), 3);
        assert_eq!(disruption_threshold(5, 3, 2), 2);
        assert_eq!(disruption_threshold(9, 8, 5), 2);
        assert_eq!(disruption_threshold(255, 1, 1), 1);
    }
}
