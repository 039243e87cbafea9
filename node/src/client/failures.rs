//! What a client tells its owner when a key cannot be had.

use dske_protocol::{
    identity::IdentityFailure,
    ids::{KeyId, NodeId},
    refusal::{AbortReason, SendFailure},
};
use dske_storage::TakeError;

use crate::{
    control::{Failure, failure},
    span::span,
};

/// A sender's failure, with names in place of ids.
pub(super) fn send(error: &SendFailure, name: impl Fn(&NodeId) -> String) -> Failure {
    match error {
        SendFailure::TooFewHubs { usable, k } => failure(
            "dske::hubs::few",
            4,
            few_hubs(*usable, *k, Vec::new()),
            "see `dske status` for hubs that are not connected, not acknowledged or excluded; -n, --hubs and policy.hubs can \
             leave too few as well, and no receiver is a hub of its own key",
        ),
        SendFailure::Parameters(reason) => failure("dske::key::parameters", 2, (*reason).into(), ""),
        SendFailure::PadLow { hub, left, needed } => {
            let hub = name(hub);
            failure(
                "dske::pad::low",
                6,
                format!("the pad with {hub} has {left} bytes left; this key needs {needed}"),
                &format!("import a new module from {hub}, or leave it out with --hubs"),
            )
        }
        SendFailure::NotSynced { hub } => {
            let hub = name(hub);
            failure(
                "dske::sync::waiting",
                3,
                format!(
                    "no pad with {hub} is in use at the moment: it is being compared with it, or out of use"
                ),
                "try again in a moment, without that hub if need be; `dske status` names what is out of use",
            )
        }
        SendFailure::TooFewAccepted { accepted, k, n, refusals } => {
            let mut why: Vec<_> =
                refusals.iter().map(|(hub, refusal)| format!("{}: {refusal}", name(hub))).collect();
            // It ends as soon as too few can be left: others may have accepted, and not said so yet.
            let unheard = usize::from(*n).saturating_sub(usize::from(*accepted) + refusals.len());
            if unheard > 0 {
                why.push(format!("{unheard} had not answered by then"));
            }
            let why = why.join("; ");
            failure(
                "dske::shares::few",
                4,
                format!("{accepted} of {n} hubs accepted their share, {k} are needed ({why})"),
                "see `dske status` for the state of the hubs",
            )
        }
        SendFailure::Quota { refusals, key_bytes, rest } => {
            let why: Vec<_> =
                refusals.iter().map(|(hub, refusal)| format!("{}: {refusal}", name(hub))).collect();
            failure(
                "dske::key::quota",
                4,
                format!(
                    "a quota on the receiver's pads is used up ({}); keys of {} bits or more are not tried for {}",
                    why.join("; "),
                    u64::from(*key_bytes) * 8,
                    span(*rest)
                ),
                "wait, ask for a shorter key, or have whoever set the quota raise it, which ends no rest that has begun: \
                 `dske explain key::quota`",
            )
        }
        SendFailure::ReceiverAborted { receiver, reason } => {
            let receiver = name(receiver);
            let (code, exit) = aborted(reason);
            failure(code, exit, format!("{receiver} aborted: {reason}"), after_abort(reason))
        }
        SendFailure::Unconfirmed { receiver } => failure(
            "dske::key::unconfirmed",
            3,
            format!("{} did not confirm the key in time", name(receiver)),
            "see at the receiver whether its node runs and reaches the hubs",
        ),
        SendFailure::TooFewMatch { matching, offered, k } => failure(
            "dske::shares::false",
            5,
            format!("{matching} of the {offered} shares at the receiver are the sender's, {k} are needed"),
            "hubs change shares, or damage them; see `dske status` at the sender for which",
        ),
        SendFailure::NoSession => failure(
            "dske::round::key",
            1,
            "there is no key to negotiate another round with".into(),
            "another is agreed by itself",
        ),
        SendFailure::Busy => {
            failure("dske::node::busy", 1, error.to_string(), "try again when fewer keys are under way")
        }
        SendFailure::Internal => {
            failure("dske::store::fault", 1, error.to_string(), "see the node's log and `dske status`")
        }
    }
}

/// Hubs of which reasons are told.
const NAMED_MAX: usize = 8;

/// That fewer than k hubs can be used for some receivers, with what keeps the others from it.
pub(super) fn few_hubs(usable: usize, k: u8, mut why: Vec<String>) -> String {
    let told = match usable {
        0 => format!("no hub can be used for these receivers, {k} are needed"),
        1 => format!("only 1 hub can be used for these receivers, {k} are needed"),
        _ => format!("only {usable} hubs can be used for these receivers, {k} are needed"),
    };
    why.sort_unstable();
    why.truncate(NAMED_MAX);
    if why.is_empty() { told } else { format!("{told} ({})", why.join("; ")) }
}

/// Code and exit status where a receiver gave an agreement up.
fn aborted(reason: &AbortReason) -> (&'static str, u8) {
    match reason {
        _ if reason.is_security_event() => ("dske::key::validation", 5),
        AbortReason::Internal => ("dske::key::unrecorded", 4),
        AbortReason::QuotaExceeded { .. } => ("dske::key::quota", 4),
        _ => ("dske::shares::few", 4),
    }
}

/// What to do then. Hubs are named as the cause only where shares were false.
fn after_abort(reason: &AbortReason) -> &'static str {
    match reason {
        AbortReason::NoneValidates { .. } | AbortReason::Ambiguous | AbortReason::WorkBound { .. } => {
            "the key was not used on either side, and from it alone nobody can tell which hubs lied: `dske status` on the \
             receiver names those whose shares were false in other agreements"
        }
        AbortReason::Internal => {
            "no hub is at fault: see at the receiver, with `dske status --check`, whether its disk is full or its store has \
             stopped"
        }
        AbortReason::QuotaExceeded { .. } => {
            "wait, ask for a shorter key, or have whoever set the quota raise it: `dske explain key::quota`"
        }
        AbortReason::SenderNotEstablished => {
            "see `dske status` on the receiver for hubs that are not connected, and whether this node is enrolled with enough \
             of its hubs"
        }
        AbortReason::TooFewShares { .. } => "see `dske status` on both sides for hubs that are not connected",
        AbortReason::NoChoice { .. } | AbortReason::UnknownRound | AbortReason::Unconfirmed => {
            "the key was not used on either side; agree another"
        }
    }
}

/// An identity that is not established.
pub(super) fn identity(name: &str, error: &IdentityFailure) -> Failure {
    let message = format!("the identity of {name} is not established: {error}");
    match error {
        IdentityFailure::Unknown { .. } => failure(
            "dske::identity::unknown",
            3,
            message,
            "check the name; the client must be enrolled with your hubs",
        ),
        IdentityFailure::TooFewAlike { .. } => failure(
            "dske::identity::conflict",
            4,
            message,
            "see `dske status` for hubs that are not connected or were excluded",
        ),
        IdentityFailure::Busy | IdentityFailure::Internal => {
            failure("dske::node::busy", 1, message, "try again; see the node's log")
        }
    }
}

/// A key that was not handed out.
pub(super) fn take(error: &TakeError) -> Failure {
    match error {
        TakeError::Unknown(id) => unknown_key(id),
        TakeError::AlreadyTaken(_) => {
            failure("dske::key::taken", 1, error.to_string(), "a key is handed out once; agree a new one")
        }
        TakeError::Aborted { .. } => failure(
            "dske::key::aborted",
            4,
            error.to_string(),
            "agree a new key; `dske status` has what is known of the cause",
        ),
        TakeError::Store(_) => {
            failure("dske::store::fault", 1, error.to_string(), "see the node's log and `dske status`")
        }
    }
}

/// A key that its stream hands out in its turn.
pub(super) fn in_a_pool(id: &KeyId) -> Failure {
    failure(
        "dske::key::pooled",
        1,
        format!("key {id} lies in the pool of a stream, which hands its keys out in order"),
        "take the next one with `dske key next`, or close the stream first",
    )
}

/// A stream had no key for who waited; `trouble` is what keeps it from being filled.
pub(super) fn empty_pool(keys: u64, trouble: Option<&str>) -> Failure {
    let (cause, help) = match trouble {
        Some(trouble) => (trouble, "see `dske stream ls`: no key can be agreed until that is mended"),
        None => (
            "keys are taken faster than they are agreed",
            "wait longer with --timeout, or raise the stream's marks",
        ),
    };
    let message = format!("the pool has {keys} keys, and no more came in time: {cause}");
    failure("dske::pool::empty", 1, message, help)
}

/// No such key, and none came in time.
pub(super) fn unknown_key(id: &KeyId) -> Failure {
    failure(
        "dske::key::unknown",
        1,
        format!("key {id} is unknown here"),
        "check the id, or wait for it with --wait 10s",
    )
}

#[cfg(test)]
mod tests {
    use dske_protocol::refusal::Refusal;

    use super::*;

    #[test]
    fn an_empty_pool_says_what_keeps_it_from_being_filled() {
        let why = vec!["p1: its pads are used up".to_owned(), "p2: it is not connected".to_owned()];
        let told = empty_pool(0, Some(&few_hubs(1, 2, why)));
        assert_eq!(
            told.message,
            "the pool has 0 keys, and no more came in time: only 1 hub can be used for these receivers, 2 are needed (p1: its pads \
             are used up; p2: it is not connected)"
        );
        assert!(empty_pool(0, None).message.ends_with("keys are taken faster than they are agreed"));
        assert!(few_hubs(0, 2, vec!["p: x".to_owned(); 100]).len() < 120, "it has a bound");
    }

    #[test]
    fn hubs_that_had_not_answered_are_counted_beside_those_that_refused() {
        let told = |accepted, refusals| {
            send(&SendFailure::TooFewAccepted { accepted, k: 3, n: 4, refusals }, |_| "p2".into()).message
        };
        assert_eq!(
            told(1, vec![(NodeId::new([2; 32]), Refusal::UnknownTable)]),
            format!(
                "1 of 4 hubs accepted their share, 3 are needed (p2: {}; 2 had not answered by then)",
                Refusal::UnknownTable
            )
        );
        assert!(
            told(0, vec![(NodeId::new([2; 32]), Refusal::Busy); 4])
                .ends_with(&format!("p2: {})", Refusal::Busy))
        );
    }

    #[test]
    fn hubs_are_suspected_only_where_shares_were_false() {
        let reasons = [
            AbortReason::TooFewShares { received: 1, k: 2, n: 3 },
            AbortReason::NoneValidates { received: 3, k: 2, n: 3, at_least: 2 },
            AbortReason::Ambiguous,
            AbortReason::WorkBound { received: 3, k: 2 },
            AbortReason::SenderNotEstablished,
            AbortReason::Internal,
            AbortReason::QuotaExceeded { refused: 2, k: 2, n: 3 },
            AbortReason::NoChoice { received: 3 },
            AbortReason::UnknownRound,
            AbortReason::Unconfirmed,
        ];
        assert_eq!(reasons.len(), AbortReason::NAMES.len());
        for reason in reasons {
            let receiver = NodeId::new([7; 32]);
            let told =
                send(&SendFailure::ReceiverAborted { receiver, reason: reason.clone() }, |_| "bob".into());
            let help = told.help.unwrap_or_default();
            let security = told.code == "dske::key::validation";
            assert_eq!((security, help.contains("lied")), (reason.is_security_event(), security), "{help}");
            assert!(told.message.starts_with("bob aborted: "), "{}", told.message);
            if reason == AbortReason::Internal {
                assert_eq!(told.code, "dske::key::unrecorded");
                assert!(help.contains("no hub is at fault") && help.contains("at the receiver"), "{help}");
                assert!(told.message.contains("disk"), "{}", told.message);
            }
        }
    }
}
