//! Collecting the shares of one agreement on the receiver's side (§2.3.3): who has spoken, which shares
//! belong together, and the work of reconstruction as a job that can be carried elsewhere.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rand_core::CryptoRng;
use subtle::ConstantTimeEq;

use crate::{
    effect::SecretKey,
    ids::NodeId,
    key_check::KeyCheck,
    message::{Agreement, NoticeOutcome},
    params::{Time, U_BYTES, Validate},
    planted::{Fault, planted},
    receiver::Offered,
    reconstruct::{Reconstruction, WorkBound, reconstruct, reconstruct_only},
    refusal::AbortReason,
    sharing::Scheme,
    tag::KeyTag,
    wiped::{Wiped, clear_stack},
};

/// Reconstruction of so many bytes of shares is quicker done than carried to another thread.
const LIGHT_BYTES_MAX: usize = 32 << 10;

/// More than a reconstruction uses of the stack, but for what the kernels clear themselves.
const STACK_BYTES: usize = 16 << 10;

/// A decrypted share; erased on drop.
pub(crate) type Share = Arc<Wiped>;

/// Shares under the same parameters and the same key tag: only these may be combined.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) agreement: Agreement,
    pub(crate) key_tag: KeyTag,
    pub(crate) shares: Vec<(u8, ShareRef)>,
    /// Hubs whose share was beyond the sender's quota.
    refused: usize,
    /// Number of shares when reconstruction was last tried.
    pub(crate) tried: usize,
    /// Whether the last search came to its bound, so that these shares may give a key all the same.
    pub(crate) stopped: bool,
}

/// A share that does not print.
#[derive(Clone)]
pub(crate) struct ShareRef(pub(crate) Share);

impl std::fmt::Debug for ShareRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Share({} bytes)", self.0.len())
    }
}

/// The shares of one block id, as far as they have come.
#[derive(Debug)]
pub(crate) struct Collection {
    pub(crate) groups: Vec<Group>,
    /// Hubs that have spoken: each has one voice per block, in whichever group.
    voices: BTreeSet<NodeId>,
    pub(crate) began: Time,
    pub(crate) deadline: Time,
    /// The group that a job is out for, and what tells the job that more shares of that group have come.
    out: Option<(usize, Arc<AtomicBool>)>,
    /// Its deadline has passed: what there is must do.
    pub(crate) due: bool,
    /// The record of its end is being written.
    pub(crate) ending: bool,
    /// The verdict, once there is one.
    pub(crate) outcome: Option<Outcome>,
    /// Of a round: when its shares are offered even if not all have come.
    pub(crate) offer_due: Option<Time>,
    /// Of a round: what was offered to the sender.
    pub(crate) offered: Option<Offered>,
}

/// How a collection ended; it stays for the shares that come late.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The group that gave the key, and roster positions of its false shares.
    pub(crate) validated: Option<(usize, BTreeSet<u8>)>,
    /// k true positions, for checking late shares.
    pub(crate) basis: Vec<u8>,
}

impl Collection {
    pub(crate) fn new(now: Time, deadline: Time) -> Self {
        Self {
            groups: Vec::new(),
            voices: BTreeSet::new(),
            began: now,
            deadline,
            out: None,
            due: false,
            ending: false,
            outcome: None,
            offer_due: None,
            offered: None,
        }
    }

    /// Adds a hub's share, with its position, or notes that it was refused. `false` where this hub has spoken
    /// before: its first word counts.
    pub(crate) fn add(
        &mut self,
        hub: NodeId,
        agreement: Agreement,
        key_tag: KeyTag,
        share: Option<(u8, Share)>,
    ) -> bool {
        if !self.voices.insert(hub) && !planted(Fault::HubSpeaksTwice) {
            return false;
        }
        let fits = |group: &Group| {
            (group.key_tag == key_tag || planted(Fault::GroupIgnoresKeyTag))
                && (group.agreement == agreement || planted(Fault::GroupIgnoresAgreement))
        };
        let at = self.groups.iter().position(fits).unwrap_or_else(|| {
            let shares = Vec::new();
            self.groups.push(Group { agreement, key_tag, shares, refused: 0, tried: 0, stopped: false });
            self.groups.len() - 1
        });
        let group = &mut self.groups[at];
        match share {
            Some((_, share)) if planted(Fault::PositionByArrival) => {
                let at = u8::try_from(group.shares.len()).unwrap_or(u8::MAX);
                group.shares.push((at, ShareRef(share)));
            }
            Some((position, share)) => group.shares.push((position, ShareRef(share))),
            None => group.refused += 1,
        }
        if let Some((of, grown)) = &self.out
            && *of == at
        {
            grown.store(true, Ordering::Relaxed);
        }
        true
    }

    /// Bytes of shares held.
    pub(crate) fn held_bytes(&self) -> usize {
        self.groups.iter().flat_map(|group| &group.shares).map(|(_, share)| share.0.len()).sum()
    }

    /// Whether every hub that could still speak has. A hub that names another roster than the rest must not
    /// make it look so: the hubs of every roster count.
    pub(crate) fn is_complete(&self) -> bool {
        let mut hubs = self.groups.iter().flat_map(|group| &group.agreement.roster);
        hubs.all(|hub| self.voices.contains(hub))
    }

    /// The sender, once so many hubs have spoken alike that at least one of them is honest: it has really begun this.
    pub(crate) fn backed_sender(&self, k_min: u8) -> Option<NodeId> {
        let group = self.largest()?;
        let alike = group.shares.len() + group.refused;
        (alike >= usize::from(k_min)).then_some(group.agreement.sender)
    }

    /// The group for which most hubs have spoken.
    pub(crate) fn largest(&self) -> Option<&Group> {
        self.groups.iter().max_by_key(|group| group.shares.len() + group.refused)
    }

    /// The group to reconstruct next, if any. With more than one group, or after a failed try, it is tried again as soon
    /// as a group has grown.
    pub(crate) fn ready(&self, validate: Validate) -> Option<usize> {
        let early = validate == Validate::First || self.is_complete() || self.due;
        if self.is_busy() || self.outcome.is_some() || !early {
            return None;
        }
        let ready = |group: &Group| {
            // Of a round the sender chooses: there is no polynomial.
            !group.agreement.is_round()
                && group.shares.len() >= usize::from(group.agreement.k)
                && group.shares.len() > group.tried
        };
        self.groups.iter().position(ready)
    }

    /// The work of a group that is ready, which counts as out.
    pub(crate) fn job(&mut self, at: usize, validate: Validate) -> Option<ReconstructJob> {
        let group = self.groups.get_mut(at)?;
        let grown = Arc::default();
        group.tried = group.shares.len();
        self.out = Some((at, Arc::clone(&grown)));
        Some(group.job(grown, validate))
    }

    /// Whether a job is out.
    pub(crate) fn is_busy(&self) -> bool {
        self.out.is_some()
    }

    /// The job that was out has come back.
    pub(crate) fn returned(&mut self) {
        self.out = None;
    }

    /// Whether some other group could also give a key: it has k voices or more.
    pub(crate) fn has_rival(&self, winner: usize) -> bool {
        self.groups
            .iter()
            .enumerate()
            .any(|(at, group)| at != winner && group.shares.len() >= usize::from(group.agreement.k))
    }

    /// What is announced of a key, as far as it is known now; `None` where there is none.
    pub(crate) fn validated(&self) -> Option<NoticeOutcome> {
        let (winner, false_positions) = self.outcome.as_ref()?.validated.as_ref()?;
        let shares = u8::try_from(self.groups.get(*winner)?.shares.len()).unwrap_or(u8::MAX);
        let false_positions = false_positions.iter().copied().collect();
        Some(NoticeOutcome::Validated { shares, false_positions })
    }

    /// There is no key after all: its record could not be made durable.
    pub(crate) fn withdraw(&mut self) {
        if let Some(outcome) = &mut self.outcome {
            outcome.validated = None;
        }
    }

    /// Forgets the shares, keeping who spoke.
    pub(crate) fn forget_shares(&mut self) {
        self.groups.iter_mut().for_each(|group| group.shares.clear());
    }

    /// Why there is no key, at the deadline or when all have spoken.
    pub(crate) fn abort_reason(&self) -> AbortReason {
        if let Some(offered) = &self.offered {
            return AbortReason::NoChoice { received: offered.shares() };
        }
        let Some(group) = self.largest() else {
            return AbortReason::TooFewShares { received: 0, k: 0, n: 0 };
        };
        let (k, n) = (group.agreement.k, group.agreement.n());
        let received = u8::try_from(group.shares.len()).unwrap_or(u8::MAX);
        let refused = u8::try_from(group.refused).unwrap_or(u8::MAX);
        if received < k && received.saturating_add(refused) >= k {
            AbortReason::QuotaExceeded { refused, k, n }
        } else if received < k {
            AbortReason::TooFewShares { received, k, n }
        } else if group.agreement.is_round() {
            // Nothing says that any of them is false: they came too late to be offered.
            AbortReason::NoChoice { received }
        } else if group.stopped {
            AbortReason::WorkBound { received, k }
        } else {
            AbortReason::NoneValidates { received, k, n, at_least: received - k + 1 }
        }
    }
}

impl Group {
    /// Whether its reconstruction may have to search: k shares leave nothing to search.
    pub(crate) fn may_search(&self) -> bool {
        self.shares.len() > usize::from(self.agreement.k)
    }

    fn job(&self, grown: Arc<AtomicBool>, validate: Validate) -> ReconstructJob {
        ReconstructJob {
            agreement: self.agreement.clone(),
            key_tag: self.key_tag,
            shares: self.shares.clone(),
            validate,
            grown,
        }
    }

    /// Whether a share that came after the key lies on its polynomial.
    pub(crate) fn check_late(&self, basis: &[u8], position: u8, share: &[u8]) -> Option<bool> {
        let scheme = Scheme::new(self.agreement.n(), self.agreement.k).ok()?;
        let of = |at: &u8| self.shares.iter().find(|(p, _)| p == at).map(|(_, share)| share.0.as_slice());
        let shares: Vec<&[u8]> = basis.iter().map(of).collect::<Option<_>>()?;
        let mut expected = Wiped::new(share.to_vec());
        // Exclusive-or of the prediction into the share leaves zeros exactly if it is right.
        scheme.predict_onto(basis, &shares, position, &mut expected).ok()?;
        Some(expected.ct_eq(&vec![0; share.len()]).into())
    }
}

/// Reconstruction of one group, to be run wherever there is time for it.
#[derive(Debug)]
pub struct ReconstructJob {
    agreement: Agreement,
    key_tag: KeyTag,
    shares: Vec<(u8, ShareRef)>,
    validate: Validate,
    /// More shares have come: a search among these is not worth going on with.
    grown: Arc<AtomicBool>,
}

/// What a [`ReconstructJob`] found.
#[derive(Debug)]
pub enum Reconstructed {
    /// A key that its tag validates.
    Key {
        /// The key.
        key: SecretKey,
        /// Positions of false shares among those looked at.
        false_positions: Vec<u8>,
        /// The k positions that it was made from.
        basis: Vec<u8>,
    },
    /// Two different keys validate.
    Ambiguous,
    /// None does, among these shares.
    Nothing,
    /// The search among these shares ended before it was through, at its bound or because more shares have come.
    WorkBound,
}

impl ReconstructJob {
    /// Whether it is sure to be done in some microseconds: exactly k short shares leave nothing to search.
    pub fn is_light(&self) -> bool {
        let bytes: usize = self.shares.iter().map(|(_, share)| share.0.len()).sum();
        self.shares.len() == usize::from(self.agreement.k) && bytes <= LIGHT_BYTES_MAX
    }

    /// Does the work (§2.3.3, §2.4).
    pub fn run(self, rng: &mut dyn CryptoRng, cancelled: &dyn Fn() -> bool) -> Reconstructed {
        let (n, k) = (self.agreement.n(), self.agreement.k);
        let (Ok(scheme), Ok(context)) = (Scheme::new(n, k), self.agreement.context()) else {
            return Reconstructed::Nothing;
        };
        let check = KeyCheck::new(context, self.key_tag);
        let shares: Vec<(u8, &[u8])> =
            self.shares.iter().map(|(position, share)| (*position, share.0.as_slice())).collect();
        let bound = WorkBound::default();
        let ended = || self.grown.load(Ordering::Relaxed) || cancelled();
        let reconstruct = match self.validate {
            Validate::First => reconstruct,
            Validate::All => reconstruct_only,
        };
        let result = reconstruct(&scheme, &shares, &check, &bound, rng, &ended);
        // Of u and of images, which a search works on.
        clear_stack::<STACK_BYTES>();
        match result {
            Ok(Reconstruction::Found(mut found)) => {
                // A secret that validates begins with u; what stays is the key, in the same buffer.
                found.secret.drain(..usize::try_from(U_BYTES).unwrap_or(usize::MAX));
                Reconstructed::Key {
                    key: SecretKey(found.secret),
                    false_positions: found.false_positions,
                    basis: found.basis,
                }
            }
            Ok(Reconstruction::Ambiguous) => Reconstructed::Ambiguous,
            Ok(Reconstruction::None { exhausted: false, .. }) => Reconstructed::WorkBound,
            Ok(Reconstruction::None { .. }) | Err(_) => Reconstructed::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ids::BlockNonce, message::Content, params::PROTOCOL_VERSION, tag::Tag};

    fn node(id: u8) -> NodeId {
        NodeId::new([id; 32])
    }

    fn agreement(roster: &[u8]) -> Agreement {
        Agreement {
            version: PROTOCOL_VERSION,
            nonce: BlockNonce::new([1; 16]),
            sender: node(100),
            receivers: vec![node(101)],
            purpose: String::new(),
            k: 3,
            key_bytes: 32,
            content: Content::Keys(1),
            roster: roster.iter().copied().map(node).collect(),
        }
    }

    fn key_tag(byte: u8) -> KeyTag {
        KeyTag { tag: Tag::new([byte; 16]), hint: [byte; 8] }
    }

    #[test]
    fn a_short_roster_of_one_liar_completes_nothing() {
        let mut collection = Collection::new(Time::ZERO, Time::from_secs(1));
        let tag = key_tag(0);
        let share = |position: u8| Some((position, Arc::new(Wiped::new(vec![1; 64]))));
        assert!(collection.add(node(5), agreement(&[5, 1, 2]), tag, share(0)));
        for (position, hub) in [1, 2].into_iter().enumerate() {
            let position = u8::try_from(position).unwrap();
            assert!(collection.add(node(hub), agreement(&[1, 2, 3, 4, 5]), tag, share(position)));
        }
        assert!(!collection.is_complete(), "two honest hubs have not spoken");
        for hub in [3, 4] {
            assert!(collection.add(node(hub), agreement(&[1, 2, 3, 4, 5]), tag, share(hub - 1)));
        }
        assert!(collection.is_complete());
    }

    #[test]
    fn a_hub_has_one_voice() {
        let mut collection = Collection::new(Time::ZERO, Time::from_secs(1));
        let share = |position: u8| Some((position, Arc::new(Wiped::new(vec![1; 64]))));
        assert!(collection.add(node(1), agreement(&[1, 2, 3]), key_tag(0), share(0)));
        assert!(!collection.add(node(1), agreement(&[1, 2, 3]), key_tag(1), share(0)));
        assert_eq!(collection.groups.len(), 1);
    }
}
