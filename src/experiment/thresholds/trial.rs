//! Many agreements under one attack, and how they ended.

use dske_protocol::{message::NoticeOutcome, refusal::AbortReason};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::Serialize;

use super::{Attack, Scheme};
use crate::experiment::world::{self, Ended, Setup};

/// Bytes of the keys that are agreed; what holds for one byte holds for all.
const KEY_BYTES: u32 = 32;

/// How an agreement ended, seen from both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Both sides hold the sender's key.
    Agreed,
    /// The receiver has no key.
    Aborted(Reason),
    /// The receiver holds a key that is not the sender's.
    WrongKey,
    /// The receiver takes the sender for somebody else.
    WrongName,
}

/// One agreement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trial {
    outcome: Outcome,
    sender_alone: bool,
}

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Fewer than k shares arrived.
    TooFewShares,
    /// No k shares give a key that its tag validates.
    NoneValidates,
    /// Two different keys validate.
    Ambiguous,
    /// Too few hubs say alike who the sender is.
    UnknownSender,
    /// Anything else; not seen so far.
    Other,
}

/// How many agreements ended in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub(super) runs: u32,
    pub(super) agreed: u32,
    pub(super) too_few_shares: u32,
    pub(super) none_validates: u32,
    pub(super) ambiguous: u32,
    pub(super) unknown_sender: u32,
    pub(super) other: u32,
    pub(super) wrong_key: u32,
    pub(super) wrong_name: u32,
    /// Of those that were aborted: the sender took its key all the same, without the receiver's word that it has it.
    pub(super) sender_alone: u32,
}

impl Counts {
    pub(super) fn add(&mut self, Trial { outcome, sender_alone }: Trial) {
        self.runs += 1;
        self.sender_alone += u32::from(sender_alone);
        *match outcome {
            Outcome::Agreed => &mut self.agreed,
            Outcome::Aborted(Reason::TooFewShares) => &mut self.too_few_shares,
            Outcome::Aborted(Reason::NoneValidates) => &mut self.none_validates,
            Outcome::Aborted(Reason::Ambiguous) => &mut self.ambiguous,
            Outcome::Aborted(Reason::UnknownSender) => &mut self.unknown_sender,
            Outcome::Aborted(Reason::Other) => &mut self.other,
            Outcome::WrongKey => &mut self.wrong_key,
            Outcome::WrongName => &mut self.wrong_name,
        } += 1;
    }

    /// Agreements that ended without a key.
    pub(super) fn aborted(&self) -> u32 {
        self.too_few_shares + self.none_validates + self.ambiguous + self.unknown_sender + self.other
    }

    /// Agreements in which a side was deceived: about the key, or about the other side.
    pub(super) fn deceived(&self) -> u32 {
        self.wrong_key + self.wrong_name
    }
}

/// One agreement: who is bad, in what order the messages arrive and all bytes are drawn from the seed.
pub(super) fn run(scheme: Scheme, attack: Attack, bad: u8, seed: u64) -> Trial {
    let mut rng = StdRng::seed_from_u64(seed);
    let conducts = attack.conducts(scheme.n, bad, &mut rng);
    let ended = world::agree(Setup {
        k: scheme.k,
        k_min: scheme.k_min,
        key_bytes: KEY_BYTES,
        conducts,
        acquainted: !attack.needs_a_stranger(),
        seed: rng.next_u64(),
    });
    let sender_alone = ended.receiver_key.is_none() && ended.sender.is_ok();
    Trial { outcome: judge(&ended), sender_alone }
}

fn judge(ended: &Ended) -> Outcome {
    match (&ended.verdict, ended.receiver_key) {
        (_, Some(false)) => Outcome::WrongKey,
        _ if ended.misled => Outcome::WrongName,
        (_, Some(true)) => Outcome::Agreed,
        (Some(NoticeOutcome::Aborted(reason)), None) => Outcome::Aborted(match reason {
            AbortReason::TooFewShares { .. } => Reason::TooFewShares,
            AbortReason::NoneValidates { .. } => Reason::NoneValidates,
            AbortReason::Ambiguous => Reason::Ambiguous,
            _ => Reason::Other,
        }),
        (None, None) if ended.unknown => Outcome::Aborted(Reason::UnknownSender),
        // No share arrived at all: the receiver has nothing to judge.
        (None, None) => Outcome::Aborted(Reason::TooFewShares),
        (Some(NoticeOutcome::Validated { .. }), None) => Outcome::Aborted(Reason::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_attack_is_borne_up_to_the_threshold_and_deceives_nobody_below_k_min() {
        for (n, k, k_min) in [(3, 2, 2), (5, 3, 3), (5, 3, 2), (7, 6, 4), (4, 1, 1)] {
            let scheme = Scheme { n, k, k_min };
            for &attack in Attack::value_variants() {
                for bad in 0..=n {
                    let mut counts = Counts::default();
                    (0..6).for_each(|seed| counts.add(run(scheme, attack, bad, seed)));
                    let case = format!("{scheme:?} {attack:?} {bad}: {counts:?}");
                    assert_eq!(counts.agreed + counts.aborted() + counts.deceived(), 6, "{case}");
                    if bad < scheme.disruption() {
                        assert_eq!(counts.agreed, 6, "{case}");
                    }
                    if bad < k_min {
                        assert_eq!(counts.deceived(), 0, "{case}");
                    }
                    if n - bad < k && attack != Attack::FalseIdentity && attack != Attack::Mixed {
                        assert_eq!(counts.agreed, 0, "{case}");
                    }
                    if attack == Attack::Injection {
                        let expected = if bad < k_min { 0 } else { 6 };
                        assert_eq!(counts.wrong_key, expected, "{case}");
                    }
                    assert_eq!(counts.other, 0, "{case}");
                }
            }
        }
    }

    #[test]
    fn runs_are_repeated_exactly() {
        let scheme = Scheme { n: 9, k: 5, k_min: 3 };
        for &attack in Attack::value_variants() {
            assert_eq!(run(scheme, attack, 4, 11), run(scheme, attack, 4, 11));
        }
    }
}
