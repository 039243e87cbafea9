//! Why a message was not accepted, and why an agreement came to nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::NodeId;

/// Why a node refused a message. Sent to its author as advice; carries no tag and is not believed where
/// keys depend on it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error,
)]
pub enum Refusal {
    /// It could not be decoded, or contradicts itself.
    #[error("the message is malformed")]
    Malformed,
    /// No such table between the two.
    #[error("no such table is shared with this peer")]
    UnknownTable,
    /// The receipt of the table's module has not come back yet, or the word of it.
    #[error("the table waits for its module's receipt")]
    TablePending,
    /// The table is suspended, quarantined, spent or retired.
    #[error("the table is not active")]
    TableInactive,
    /// The run lies outside the lane, or in the lane that the other side allocates.
    #[error("the pad range is outside the lane")]
    OutOfRange,
    /// Some of the run has been used before, or is being used.
    #[error("the pad range has been used")]
    PadUsed,
    /// The tag is wrong.
    #[error("the tag is wrong")]
    BadTag,
    /// This hub is not in the roster at the place that the message implies.
    #[error("this hub's place in the roster does not fit the message")]
    NotInRoster,
    /// The sender is not an enabled client.
    #[error("the sender is not an enabled client of this hub")]
    UnknownSender,
    /// A receiver is not an enabled client.
    #[error("a receiver is not an enabled client of this hub")]
    UnknownReceiver,
    /// This client is not among the receivers.
    #[error("the message is for somebody else")]
    NotForMe,
    /// k is below the receiver's bound.
    #[error("k is below the least that the receiver accepts")]
    KTooSmall,
    /// A roster hub is not acceptable to the receiver.
    #[error("the roster has a hub that the receiver does not accept")]
    HubNotAccepted,
    /// The hubs do not vouch for the sender.
    #[error("the sender's identity is not established")]
    SenderNotEstablished,
    /// The block id belongs to an agreement that has ended.
    #[error("the block id has been used")]
    BlockKnown,
    /// The key is longer than policy allows.
    #[error("the key is longer than allowed")]
    TooLarge,
    /// The hub has too little pad left with a receiver.
    #[error("the hub has too little pad left with the receiver")]
    PadLow,
    /// Too much is under way; the same message may be sent again.
    #[error("too much is under way")]
    Busy,
    /// The node's own store failed.
    #[error("the node cannot record anything at the moment")]
    Internal,
    /// The two ends have not compared the marks of the table on this connection.
    #[error("the marks of the table have not been compared yet")]
    NotSynced,
    /// The hub has started since it last heard from a receiver, and so cannot yet tell which pad is fresh.
    #[error("the hub has not been in touch with the receiver since it started")]
    ReceiverAway,
    /// The sender has used up what this node lets it burn for the time being.
    #[error("the sender has used up the quota that the operator there has set for it")]
    QuotaExceeded,
    /// Too much waits at the hub for a receiver already.
    #[error("too many messages wait there for the receiver already")]
    OutboxFull,
    /// The receiver has no negotiation key for this round, or the round has begun for another block.
    #[error("the receiver has no key to negotiate this round with")]
    UnknownRound,
    /// The receiver lets this sender, or senders that it does not name, burn no more at the hub for the time being.
    #[error(
        "the receiver lets the sender burn no more of its pads there for the time being: the receiver has set that"
    )]
    ReceiverLimit,
    /// The sender has used up what the hub lets anybody burn of one receiver's pads.
    #[error(
        "the sender has used up what that hub lets anybody burn of one receiver's pads: unless its operator sets \
         otherwise, a tenth of them in a day"
    )]
    DefaultQuota,
    /// The hub's table with a receiver is out of use: quarantined, suspended, spent, retired, or none.
    #[error("the hub's pad with the receiver is out of use")]
    ReceiverTableInactive,
}

impl Refusal {
    /// The stable names of all refusals.
    pub const NAMES: [&str; 27] = [
        "malformed",
        "unknown-table",
        "table-pending",
        "table-inactive",
        "out-of-range",
        "pad-used",
        "bad-tag",
        "not-in-roster",
        "unknown-sender",
        "unknown-receiver",
        "not-for-me",
        "k-too-small",
        "hub-not-accepted",
        "sender-not-established",
        "block-known",
        "too-large",
        "pad-low",
        "busy",
        "internal",
        "not-synced",
        "receiver-away",
        "quota-exceeded",
        "outbox-full",
        "unknown-round",
        "receiver-limit",
        "default-quota",
        "receiver-table-inactive",
    ];

    /// A stable name, for counting.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownTable => "unknown-table",
            Self::TablePending => "table-pending",
            Self::TableInactive => "table-inactive",
            Self::OutOfRange => "out-of-range",
            Self::PadUsed => "pad-used",
            Self::BadTag => "bad-tag",
            Self::NotInRoster => "not-in-roster",
            Self::UnknownSender => "unknown-sender",
            Self::UnknownReceiver => "unknown-receiver",
            Self::NotForMe => "not-for-me",
            Self::KTooSmall => "k-too-small",
            Self::HubNotAccepted => "hub-not-accepted",
            Self::SenderNotEstablished => "sender-not-established",
            Self::BlockKnown => "block-known",
            Self::TooLarge => "too-large",
            Self::PadLow => "pad-low",
            Self::Busy => "busy",
            Self::Internal => "internal",
            Self::NotSynced => "not-synced",
            Self::ReceiverAway => "receiver-away",
            Self::QuotaExceeded => "quota-exceeded",
            Self::OutboxFull => "outbox-full",
            Self::UnknownRound => "unknown-round",
            Self::ReceiverLimit => "receiver-limit",
            Self::DefaultQuota => "default-quota",
            Self::ReceiverTableInactive => "receiver-table-inactive",
        }
    }

    /// Whether somebody's bound on what may be burned is used up for the time being.
    pub fn is_of_quota(self) -> bool {
        matches!(self, Self::QuotaExceeded | Self::ReceiverLimit | Self::DefaultQuota)
    }

    /// Whether the very same message may succeed later.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Busy | Self::Internal | Self::TablePending | Self::NotSynced)
    }
}

/// Why a receiver ended an agreement without a key (§2.3.3, §2.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum AbortReason {
    /// Fewer than k shares arrived in time.
    #[error("{received} of {n} shares arrived in time, {k} are needed")]
    TooFewShares {
        /// Shares of the largest consistent group.
        received: u8,
        /// Shares needed.
        k: u8,
        /// Hubs in the roster.
        n: u8,
    },
    /// No k of the shares give a key that its tag validates.
    #[error(
        "{received} of {n} shares arrived, but no {k} of them give a valid key: {at_least} or more are false"
    )]
    NoneValidates {
        /// Shares of the group.
        received: u8,
        /// Shares needed.
        k: u8,
        /// Hubs in the roster.
        n: u8,
        /// Least number of false shares that explains it.
        at_least: u8,
    },
    /// Two different keys validate: the injection threshold is exceeded.
    #[error("two different keys validate: the injection threshold is exceeded")]
    Ambiguous,
    /// The bound on work ended the search among false shares.
    #[error("the search among {received} shares for {k} true ones reached its bound on work")]
    WorkBound {
        /// Shares of the group.
        received: u8,
        /// Shares needed.
        k: u8,
    },
    /// The hubs do not vouch for the sender.
    #[error("the sender's identity is not established")]
    SenderNotEstablished,
    /// The receiver's own store failed.
    #[error("the receiver's own store cannot record it: its disk may be full, or its store has stopped")]
    Internal,
    /// So many shares went beyond what the receiver, or at the sender a hub, lets this sender burn that too few are left.
    #[error("{refused} of {n} shares went beyond a quota on the receiver's pads, {k} are needed")]
    QuotaExceeded {
        /// Shares that were refused for it.
        refused: u8,
        /// Shares needed.
        k: u8,
        /// Hubs in the roster.
        n: u8,
    },
    /// No choice of the sender's among the shares of a round came in time, or it was too late to offer them.
    #[error("no choice among {received} shares came in time")]
    NoChoice {
        /// Shares that were offered, or could have been.
        received: u8,
    },
    /// The receiver has no negotiation key for a round: it has started since, or the key is used up.
    #[error("there is no key to negotiate the round with")]
    UnknownRound,
    /// No receiver's word came that it has the key, and it was not to be used without.
    #[error("the receiver did not confirm the key in time")]
    Unconfirmed,
}

impl AbortReason {
    /// The stable names of all reasons.
    pub const NAMES: [&str; 10] = [
        "too-few-shares",
        "none-validates",
        "ambiguous",
        "work-bound",
        "sender-not-established",
        "internal",
        "quota-exceeded",
        "no-choice",
        "unknown-round",
        "unconfirmed",
    ];

    /// A stable name, for counting.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TooFewShares { .. } => "too-few-shares",
            Self::NoneValidates { .. } => "none-validates",
            Self::Ambiguous => "ambiguous",
            Self::WorkBound { .. } => "work-bound",
            Self::SenderNotEstablished => "sender-not-established",
            Self::Internal => "internal",
            Self::QuotaExceeded { .. } => "quota-exceeded",
            Self::NoChoice { .. } => "no-choice",
            Self::UnknownRound => "unknown-round",
            Self::Unconfirmed => "unconfirmed",
        }
    }

    /// Whether the reason speaks of an attack rather than of a failure.
    pub fn is_security_event(&self) -> bool {
        matches!(self, Self::NoneValidates { .. } | Self::Ambiguous | Self::WorkBound { .. })
    }
}

/// Why a sender got no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendFailure {
    /// Too few hubs can be reached to begin with.
    #[error("{usable} hubs can be used, {k} are needed")]
    TooFewHubs {
        /// Hubs connected, with an active table, serving all receivers.
        usable: usize,
        /// Shares needed.
        k: u8,
    },
    /// A parameter is out of its range.
    #[error("{0}")]
    Parameters(&'static str),
    /// Too little pad is left with a hub.
    #[error("the pad with {hub:?} has {left} bytes left, this key needs {needed}")]
    PadLow {
        /// The hub.
        hub: NodeId,
        /// Bytes left.
        left: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// No pad with a hub is in use: its marks have not been compared since the start, or it was put out of use.
    #[error("no pad with {hub:?} is in use")]
    NotSynced {
        /// The hub.
        hub: NodeId,
    },
    /// Fewer than k hubs accepted their message.
    #[error("{accepted} of {n} hubs accepted their share, {k} are needed")]
    TooFewAccepted {
        /// Hubs that accepted.
        accepted: u8,
        /// Shares needed.
        k: u8,
        /// Hubs in the roster.
        n: u8,
        /// Who refused, and why; silent hubs are absent.
        refusals: Vec<(NodeId, Refusal)>,
    },
    /// As many hubs as must be honest in part refuse to burn more of the receivers' pads for this sender now. Nothing is
    /// burned to ask them again for a while.
    #[error(
        "{} hubs refuse by quota: keys of {key_bytes} bytes or more rest for {} s", refusals.len(), rest.as_secs()
    )]
    Quota {
        /// Who refused, and whose quota it is.
        refusals: Vec<(NodeId, Refusal)>,
        /// The length of the shortest key that was refused.
        key_bytes: u32,
        /// How long such keys are not tried from now on.
        rest: Duration,
    },
    /// A receiver says that it aborted.
    #[error("the receiver aborted: {reason}")]
    ReceiverAborted {
        /// The receiver.
        receiver: NodeId,
        /// Its reason.
        reason: AbortReason,
    },
    /// A receiver did not say in time that it has the key, and without its word it was not wanted.
    #[error("{receiver:?} did not confirm the key in time")]
    Unconfirmed {
        /// The receiver.
        receiver: NodeId,
    },
    /// Fewer than k shares of a round are the same at both ends.
    #[error("{matching} of {offered} shares are the same at both ends, {k} are needed")]
    TooFewMatch {
        /// Shares whose tags were right.
        matching: u8,
        /// Shares that the receiver offered.
        offered: u8,
        /// Shares needed.
        k: u8,
    },
    /// There is no negotiation key for another round.
    #[error("there is no key to negotiate another round with")]
    NoSession,
    /// Too many agreements are under way.
    #[error("too many agreements are under way")]
    Busy,
    /// The store failed.
    #[error("the node cannot record anything at the moment")]
    Internal,
}

impl SendFailure {
    /// The stable names of all failures.
    pub const NAMES: [&str; 12] = [
        "too-few-hubs",
        "parameters",
        "pad-low",
        "not-synced",
        "too-few-accepted",
        "quota",
        "receiver-aborted",
        "unconfirmed",
        "too-few-match",
        "no-session",
        "busy",
        "internal",
    ];

    /// A stable name, for counting.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TooFewHubs { .. } => "too-few-hubs",
            Self::Parameters(_) => "parameters",
            Self::PadLow { .. } => "pad-low",
            Self::NotSynced { .. } => "not-synced",
            Self::TooFewAccepted { .. } => "too-few-accepted",
            Self::Quota { .. } => "quota",
            Self::ReceiverAborted { .. } => "receiver-aborted",
            Self::Unconfirmed { .. } => "unconfirmed",
            Self::TooFewMatch { .. } => "too-few-match",
            Self::NoSession => "no-session",
            Self::Busy => "busy",
            Self::Internal => "internal",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_all_in_the_lists() {
        for names in [&Refusal::NAMES[..], &AbortReason::NAMES, &SendFailure::NAMES] {
            let mut distinct = names.to_vec();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), names.len());
        }
        assert!(Refusal::NAMES.contains(&Refusal::UnknownRound.name()));
        assert!(AbortReason::NAMES.contains(&AbortReason::Unconfirmed.name()));
        assert!(SendFailure::NAMES.contains(&SendFailure::Internal.name()));
    }
}
