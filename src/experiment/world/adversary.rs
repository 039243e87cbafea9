//! Hubs in one hand: what they say in an agreement, with everything that compromised hubs have, their pads and the
//! shares that passed through them, and without what they do not have, the secret.
//!
//! Must never: look at what belongs to an honest hub.

use dske_protocol::{
    codec::Blob,
    effect::Minted,
    ids::{Lane, NodeId},
    message::{Agreement, KeyInstruction, KeyRequest, Unverified, seal},
    pad::PadBytes,
    sharing::Scheme,
    tag::KeyTag,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// What the hubs of one adversary have agreed to say. The same for all of them: it follows from a seed that they
/// share.
pub(super) struct Adversary {
    seed: u64,
    /// The least k that the receiver accepts.
    k_min: u8,
}

/// What is said in place of the sender's word.
struct Word {
    agreement: Agreement,
    key_tag: KeyTag,
    share: Vec<u8>,
}

impl Adversary {
    pub(super) fn new(seed: u64, k_min: u8) -> Self {
        Self { seed, k_min }
    }

    /// Reads a request as the hub itself does: with its own run. `None` where its tag does not fit.
    pub(super) fn read(sealed: Vec<u8>, run: PadBytes) -> Option<(KeyRequest, Vec<u8>)> {
        let message = Unverified::<KeyRequest>::decode(sealed).ok()?;
        let (pad, tag_key) = run.split()?;
        let request = message.verify(tag_key).ok()?.into_inner();
        let share = match &request.share {
            None => pad.into_bytes().to_vec(),
            Some(ciphertext) => {
                let mut share = ciphertext.0.clone();
                pad.apply(&mut share);
                share
            }
        };
        Some((request, share))
    }

    /// Every bad hub moves its share by its share of one offset: what they send lies on one polynomial, another
    /// than the sender's.
    pub(super) fn offset(
        &self,
        hub: NodeId,
        request: KeyRequest,
        mut share: Vec<u8>,
        run: Minted,
    ) -> Option<Vec<u8>> {
        let KeyRequest { agreement, key_tags, .. } = request;
        // There is one receiver.
        let key_tag = *key_tags.first()?;
        let offsets = self.polynomial(agreement.n(), agreement.k, share.len())?;
        let position = usize::from(agreement.position(&hub)?);
        share.iter_mut().zip(offsets.shares.get(position)?).for_each(|(byte, offset)| *byte ^= offset);
        Word { agreement, key_tag, share }.sealed(run)
    }

    /// Every bad hub sends its share of a secret that the adversary chose, with the key tag of that.
    pub(super) fn inject(&self, hub: NodeId, request: KeyRequest, run: Minted) -> Option<Vec<u8>> {
        let agreement = Agreement { k: self.k_min, ..request.agreement };
        let bytes = usize::try_from(agreement.share_bytes(Lane::Down)).ok()?;
        let mut chosen = self.polynomial(agreement.n(), agreement.k, bytes)?;
        let (u, key) = chosen.secret.split_first_chunk()?;
        let key_tag = KeyTag::of(u, &agreement.context().ok()?, key);
        let share = chosen.shares.swap_remove(usize::from(agreement.position(&hub)?));
        Word { agreement, key_tag, share }.sealed(run)
    }

    /// A random polynomial of degree below k for each byte, as its n shares and its secret.
    fn polynomial(&self, n: u8, k: u8, bytes: usize) -> Option<Polynomial> {
        let scheme = Scheme::new(n, k).ok()?;
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut shares = vec![vec![0; bytes]; usize::from(n)];
        let (first, rest) = shares.split_at_mut(usize::from(k));
        first.iter_mut().for_each(|share| rng.fill_bytes(share));
        let first: Vec<&[u8]> = first.iter().map(Vec::as_slice).collect();
        let mut rest: Vec<&mut [u8]> = rest.iter_mut().map(Vec::as_mut_slice).collect();
        let mut secret = vec![0; bytes];
        scheme.derive_onto(&first, &mut rest).ok()?;
        scheme.secret_onto(&first, &mut secret).ok()?;
        Some(Polynomial { shares, secret })
    }
}

struct Polynomial {
    shares: Vec<Vec<u8>>,
    secret: Vec<u8>,
}

impl Word {
    fn sealed(self, run: Minted) -> Option<Vec<u8>> {
        let Self { agreement, key_tag, mut share } = self;
        let (pad, tag_key) = run.pad.split()?;
        if pad.len() != share.len() {
            return None;
        }
        pad.apply(&mut share);
        seal(&KeyInstruction { range: run.range, agreement, key_tag, share: Blob(share) }, tag_key).ok()
    }
}
