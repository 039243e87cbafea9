//! The search of last resort: every set of k shares, each asked with little work whether it gives the sender's secret.
//!
//! A set is first asked for the u that it gives, 32 bytes, which the end of the key tag accepts from true shares always and from
//! others hardly ever. What passes is reconstructed on the full length, until so many sets have given one u that it is
//! cheaper to take the images of all shares under it: then an image of 104 bytes tells what the full length would.
//! So the full length is gone over a few times, however long the key, however many sets there are, and however the
//! errors in false shares were chosen.
//!
//! The values that a set gives are secret; branched on is only whether the key tag accepts them, and whether two are equal, which the
//! errors alone decide.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    field::{Gf256, mul_add},
    key_check::{IMAGE_BYTES, IMAGE_PASSES, Images, KeyCheck, U},
    sharing::Scheme,
};

/// Whether a set of shares gives the sender's secret, as far as little work tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gives {
    /// It does not.
    No,
    /// It may, and is worth the full length.
    Perhaps,
    /// Images would tell, and there is no work left for them.
    Unknown,
}

/// Shares, and what is known of the secrets that sets of them give.
pub(super) struct Sets<'a> {
    scheme: &'a Scheme,
    check: &'a KeyCheck,
    shares: &'a [(u8, &'a [u8])],
    beginnings: Vec<Zeroizing<U>>,
    /// Every u that the key tag accepted.
    accepted: Vec<Accepted>,
    positions: Vec<u8>,
}

/// A u that the key tag accepted.
struct Accepted {
    u: Zeroizing<U>,
    /// Sets that gave it and were reconstructed.
    tried: u64,
    images: Option<(Images, Zeroizing<Vec<[u8; IMAGE_BYTES]>>)>,
}

impl<'a> Sets<'a> {
    /// Of shares of one length; `None` where they are shorter than u, so that nothing they give validates.
    pub(super) fn new(scheme: &'a Scheme, check: &'a KeyCheck, shares: &'a [(u8, &'a [u8])]) -> Option<Self> {
        let beginning = |(_, share): &(u8, &[u8])| Some(Zeroizing::new(*share.first_chunk()?));
        let beginnings = shares.iter().map(beginning).collect::<Option<_>>()?;
        Some(Self { scheme, check, shares, beginnings, accepted: Vec::new(), positions: Vec::new() })
    }

    /// Asks a set of k indices of shares. `bytes_left` pays for what is done on the full length.
    pub(super) fn ask(&mut self, set: &[u8], bytes_left: &mut u64) -> Gives {
        let row = self.row(set);
        let mut u = Zeroizing::new([0; 32]);
        for (&index, coefficient) in set.iter().zip(&row) {
            mul_add(*coefficient, &*self.beginnings[usize::from(index)], &mut *u);
        }
        if !self.check.may_begin(&u) {
            return Gives::No;
        }
        let of = |accepted: &Accepted| accepted.u.ct_eq(&*u).into();
        let at = self.accepted.iter().position(of).unwrap_or_else(|| {
            self.accepted.push(Accepted { u, tried: 0, images: None });
            self.accepted.len() - 1
        });
        let passes = IMAGE_PASSES * self.shares.len() as u64;
        let accepted = &mut self.accepted[at];
        if accepted.tried < passes {
            accepted.tried += 1;
            return Gives::Perhaps;
        }
        if accepted.images.is_none() {
            let bytes = self.shares.first().map_or(0, |(_, share)| share.len());
            let Some(left) = bytes_left.checked_sub(passes.saturating_mul(bytes as u64)) else {
                return Gives::Unknown;
            };
            *bytes_left = left;
            let images = self.check.images(&accepted.u, bytes);
            let of_shares = self.shares.iter().map(|(_, share)| images.of(share)).collect();
            accepted.images = Some((images, Zeroizing::new(of_shares)));
        }
        let mut image = Zeroizing::new([0; IMAGE_BYTES]);
        let Some((images, of_shares)) = &accepted.images else { return Gives::Unknown };
        for (&index, coefficient) in set.iter().zip(&row) {
            mul_add(*coefficient, &of_shares[usize::from(index)], &mut *image);
        }
        if images.fits(&image) { Gives::Perhaps } else { Gives::No }
    }

    /// What takes the shares of a set to its secret.
    fn row(&mut self, set: &[u8]) -> Vec<Gf256> {
        self.positions.clear();
        self.positions.extend(set.iter().map(|&index| self.shares[usize::from(index)].0));
        self.scheme.secret_row(&self.positions).into_iter().map(Gf256).collect()
    }
}
