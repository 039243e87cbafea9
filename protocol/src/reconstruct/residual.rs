//! Residuals: what is left of the reduced shares without the polynomial through the first k of them.
//!
//! A residual is a linear function of the errors in the shares alone: the secret cancels out. So whatever
//! follows may branch on residuals and look up by them, which it must never do with a share.

use rand_core::CryptoRng;

use super::{
    reduce::{Reduction, WORD_BYTES},
    subsets::IndexSet,
};
use crate::{
    field::{Gf256, mul_add, mul_add_rows},
    sharing::{Scheme, SharingError, x},
};

/// 16 interleaved values of polynomials at one place.
pub(super) type Word = [u8; WORD_BYTES];

/// One word for each share, in the order of the shares, with the scaling of the first k positions undone: the
/// words of shares without errors are values of polynomials of degree < k.
pub(super) struct Residuals {
    pub(super) k: usize,
    pub(super) xs: Vec<Gf256>,
    pub(super) words: Vec<Word>,
}

impl Residuals {
    /// Draws a reduction and takes the residuals of shares of one length at distinct positions, k or more.
    pub(super) fn new(
        scheme: &Scheme,
        shares: &[(u8, &[u8])],
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, SharingError> {
        let k = usize::from(scheme.k());
        let Some((first, others)) = shares.split_at_checked(k) else {
            return Err(SharingError::ShareCount { needed: k, given: shares.len() });
        };
        let reduction = Reduction::draw(shares.first().map_or(0, |(_, share)| share.len()), rng);
        let basis: Vec<u8> = first.iter().map(|(position, _)| *position).collect();
        let inputs: Vec<_> = first.iter().map(|(_, share)| reduction.word(share)).collect();
        let inputs: Vec<&[u8]> = inputs.iter().map(|word| word.as_slice()).collect();
        let rows: Vec<_> = others.iter().map(|(target, _)| scheme.prediction_row(&basis, *target)).collect();
        let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
        let mut residuals: Vec<_> = others.iter().map(|(_, share)| reduction.word(share)).collect();
        let mut outputs: Vec<&mut [u8]> = residuals.iter_mut().map(|word| word.as_mut_slice()).collect();
        mul_add_rows(&rows, &inputs, &mut outputs);

        let unscaled = others.iter().zip(&residuals).map(|((position, _), word)| {
            let unscale = scheme.scale(*position).inv();
            word.map(|byte| Gf256(byte).mul(unscale).0)
        });
        let words = std::iter::repeat_n([0; WORD_BYTES], k).chain(unscaled).collect();
        Ok(Self { k, xs: shares.iter().map(|(position, _)| x(*position)).collect(), words })
    }

    /// Number of shares.
    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    /// The shares that lie on the polynomial through those of a basis of k distinct indices, these included.
    pub(super) fn agreeing(&self, basis: &[u8]) -> IndexSet {
        let chosen = basis.iter().map(|&index| usize::from(index));
        let xs: Vec<Gf256> = chosen.clone().map(|index| self.xs[index]).collect();
        let newton = newton(&xs, chosen.map(|index| self.words[index]).collect());
        let mut set = IndexSet::default();
        for (index, (&at, word)) in (0..=u8::MAX).zip(self.xs.iter().zip(&self.words)) {
            if basis.contains(&index) || evaluate(&xs, &newton, at) == *word {
                set.insert(index);
            }
        }
        set
    }
}

/// Coefficients of the Newton form of the polynomials with given values at distinct points.
fn newton(xs: &[Gf256], mut values: Vec<Word>) -> Vec<Word> {
    for level in 1..xs.len() {
        for i in (level..xs.len()).rev() {
            let by = xs[i].add(xs[i - level]).inv();
            let before = values[i - 1];
            values[i] = std::array::from_fn(|t| Gf256(values[i][t] ^ before[t]).mul(by).0);
        }
    }
    values
}

/// The values at one point of polynomials in Newton form.
fn evaluate(xs: &[Gf256], newton: &[Word], at: Gf256) -> Word {
    xs.iter().zip(newton).rev().fold([0; WORD_BYTES], |value, (&x, coefficient)| {
        let mut next = *coefficient;
        mul_add(at.add(x), &value, &mut next);
        next
    })
}
