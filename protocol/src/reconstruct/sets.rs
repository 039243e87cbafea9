//! The search of last resort: every set of k shares, each asked with little work whether it gives the sender's secret.
//!
//! A set is first asked for the u that it gives, 40 bytes, which the hint of the key tag accepts from true shares always and from
//! those that give another point c hardly ever. What passes is reconstructed on the full length, until so many sets have given one
//! c that it is cheaper to take the images of all shares under it: then an image of 128 bytes tells what the full length would.
//! So the full length is gone over a few times, however long the key, however many sets there are, and however the
//! errors in false shares were chosen.
//!
//! The values that a set gives are secret; branched on is only whether the key tag accepts them, and whether two are equal, which the
//! errors alone decide. Must never let a growing list move them, which would leave copies in freed memory.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    field::{Gf256, mul_add},
    key_check::{IMAGE_BYTES, IMAGE_PASSES, Images, KeyCheck, Point},
    sharing::Scheme,
    tag::U,
};

use super::{
    reduce::WORD_BYTES,
    residual::{Residuals, Word},
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
    beginnings: Zeroizing<Vec<U>>,
    /// Differences from a polynomial whose secret is known, as the shares are scaled: none of the secret.
    differences: Option<Vec<Word>>,
    /// Every point that the hint accepted. What they hold stays where it is.
    #[expect(clippy::vec_box, reason = "a list that grows would leave copies of what it held")]
    accepted: Vec<Box<Accepted>>,
    positions: Vec<u8>,
}

/// A point that the hint accepted. What sets that give it still may differ in, the mask of the tag and the key, is linear.
struct Accepted {
    point: Zeroizing<Point>,
    /// Sets that gave it and were reconstructed.
    tried: u64,
    images: Option<(Images, Zeroizing<Vec<[u8; IMAGE_BYTES]>>)>,
}

impl<'a> Sets<'a> {
    /// Of shares of one length; `None` where they are shorter than u, so that nothing they give validates. `beside`: their
    /// differences from a polynomial whose secret is known, and is not to be found again.
    pub(super) fn new(
        scheme: &'a Scheme,
        check: &'a KeyCheck,
        shares: &'a [(u8, &'a [u8])],
        beside: Option<&Residuals>,
    ) -> Option<Self> {
        let mut beginnings = Zeroizing::new(Vec::with_capacity(shares.len()));
        for (_, share) in shares {
            beginnings.push(*share.first_chunk()?);
        }
        let scaled = |(word, (position, _)): (&Word, &(u8, &[u8]))| {
            word.map(|byte| Gf256(byte).mul(scheme.scale(*position)).0)
        };
        let differences = beside.map(|residuals| residuals.words.iter().zip(shares).map(scaled).collect());
        let (accepted, positions) = (Vec::new(), Vec::new());
        Some(Self { scheme, check, shares, beginnings, differences, accepted, positions })
    }

    /// Asks a set of k indices of shares. `bytes_left` pays for what is done on the full length.
    pub(super) fn ask(&mut self, set: &[u8], bytes_left: &mut u64) -> Gives {
        let row = self.row(set);
        let mut u = Zeroizing::new([0; size_of::<U>()]);
        for (&index, coefficient) in set.iter().zip(&row) {
            mul_add(*coefficient, &self.beginnings[usize::from(index)], &mut *u);
        }
        if !self.check.may_begin(&u) || self.gives_the_known(set, &row) {
            return Gives::No;
        }
        let Some(point) = u.first_chunk::<16>() else { unreachable!("u begins with c") };
        let at = self.accepted.iter().position(|accepted| accepted.point.ct_eq(point).into());
        let at = at.unwrap_or_else(|| {
            let point = Zeroizing::new(*point);
            self.accepted.push(Box::new(Accepted { point, tried: 0, images: None }));
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
            let images = self.check.images(&accepted.point, bytes);
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

    /// Whether a set gives the secret that is known. The errors alone decide that; the map that reduces differences misses one with a
    /// probability of 2^-100 at most.
    fn gives_the_known(&self, set: &[u8], row: &[Gf256]) -> bool {
        let Some(differences) = &self.differences else { return false };
        let mut difference = [0; WORD_BYTES];
        for (&index, coefficient) in set.iter().zip(row) {
            mul_add(*coefficient, &differences[usize::from(index)], &mut difference);
        }
        difference == [0; WORD_BYTES]
    }

    /// What takes the shares of a set to its secret.
    fn row(&mut self, set: &[u8]) -> Vec<Gf256> {
        self.positions.clear();
        self.positions.extend(set.iter().map(|&index| self.shares[usize::from(index)].0));
        self.scheme.secret_row(&self.positions).into_iter().map(Gf256).collect()
    }
}
