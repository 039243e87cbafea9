//! Residuals: the differences of the shares from the polynomial through the first k of them, reduced to words.
//!
//! A residual is a linear function of the errors in the shares alone: the secret cancels out. So whatever
//! follows may branch on residuals and look up by them, which it must never do with a share.

use rand_core::CryptoRng;

use super::{
    compare::Comparison,
    reduce::{Density, Reduction, Sums, WORD_BYTES, is_long},
    subsets::IndexSet,
};
use crate::{
    field::{Gf256, mul_add},
    sharing::{Scheme, x},
};

/// 16 interleaved values of polynomials at one place.
pub(super) type Word = [u8; WORD_BYTES];

/// One word for each share, in the order of the shares, with the scaling of the first k positions undone: the
/// words of shares without errors are values of polynomials of degree < k.
pub(super) struct Residuals {
    pub(super) k: usize,
    pub(super) xs: Vec<Gf256>,
    pub(super) words: Vec<Word>,
    /// Whether all shares lie on the polynomial, in full.
    pub(super) all_agree: bool,
}

impl Residuals {
    /// Draws a reduction and takes the residuals of shares of one length at distinct positions, sorted, k or more.
    pub(super) fn new(
        scheme: &Scheme,
        shares: &[(u8, &[u8])],
        density: Density,
        rng: &mut dyn CryptoRng,
    ) -> Self {
        let k = usize::from(scheme.k());
        let len = shares.first().map_or(0, |(_, share)| share.len());
        let basis: Vec<u8> = shares.iter().take(k).map(|(position, _)| *position).collect();
        let comparison = Comparison::new(scheme, &basis, shares);
        let others = comparison.positions().count();
        let mut all_agree = true;
        let mut texts = vec![Vec::new(); others];
        if is_long(len) {
            let mut sums = Sums::new(others, density);
            comparison.for_each_difference(|strip| {
                all_agree = false;
                sums.add(strip, rng);
            });
            texts = sums.finish();
        } else {
            comparison.for_each_difference(|strip| {
                all_agree = false;
                texts = strip.iter().map(|difference| difference.to_vec()).collect();
            });
        }
        let reduction = Reduction::draw(texts.iter().map(Vec::len).max().unwrap_or(0), rng);
        let unscaled = comparison.positions().zip(&texts).map(|(position, text)| {
            let unscale = scheme.scale(position).inv();
            let word = if text.is_empty() { [0; WORD_BYTES] } else { reduction.word(text) };
            word.map(|byte| Gf256(byte).mul(unscale).0)
        });
        let words = std::iter::repeat_n([0; WORD_BYTES], k).chain(unscaled).collect();
        Self { k, xs: shares.iter().map(|(position, _)| x(*position)).collect(), words, all_agree }
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
