//! Locates false shares by decoding: the key equation of Reed–Solomon codes, joint over all 16 words.
//!
//! With s shares, up to (s − k) / 2 false ones are always located. More, up to 16/17 of s − k, are located
//! where their errors are independent of each other, as with damaged tables: the 16 words then give 16
//! equations where one would give one. Liars who arrange their errors are left to the search of subsets.

use super::{
    reduce::WORD_BYTES,
    residual::{Residuals, Word},
    subsets::IndexSet,
};
use crate::field::{Gf256, mul_add};

/// Sets of more than k agreeing shares that decoding for some number of errors finds, in the order found.
/// Ends early where cancelled.
pub(super) fn candidates(
    residuals: &Residuals,
    cancelled: &dyn Fn() -> bool,
) -> impl Iterator<Item = IndexSet> {
    let redundancy = residuals.len() - residuals.k;
    let syndromes = syndromes(residuals, redundancy);
    let error_counts = (redundancy / 2).max(1)..redundancy;
    error_counts.take_while(|_| !cancelled()).filter_map(move |errors| {
        let honest = honest(residuals, &locator(syndromes.as_flattened(), redundancy, errors)?)?;
        let basis: Vec<u8> = honest.iter().take(residuals.k).collect();
        let agreeing = residuals.agreeing(&basis);
        (agreeing.len() > residuals.k).then_some(agreeing)
    })
}

/// `S_i = Σ_p w_p · x_p^i · word_p` for i < s − k, with `w_p = ∏_{q ≠ p} 1 / (x_p − x_q)`: zero without errors.
fn syndromes(residuals: &Residuals, redundancy: usize) -> Vec<Word> {
    let mut syndromes = vec![[0; WORD_BYTES]; redundancy];
    for (&at, word) in residuals.xs.iter().zip(&residuals.words) {
        let others = residuals.xs.iter().filter(|other| **other != at);
        let mut factor = others.fold(Gf256::ONE, |product, other| product.mul(at.add(*other))).inv();
        for syndrome in &mut syndromes {
            mul_add(factor, word, syndrome);
            factor = factor.mul(at);
        }
    }
    syndromes
}

/// The polynomial Λ of least degree, at most `errors`, with `Σ_j Λ_j · S_(i+j) = 0` for all i < s − k − errors, lowest
/// coefficient first; its zeros are the points of the errors where no more than can be located.
///
/// Its coefficients are the first dependence among the columns `S_j ‖ S_(j+1) ‖ …`, which are runs of
/// the syndromes.
fn locator(syndromes: &[u8], redundancy: usize, errors: usize) -> Option<Vec<Gf256>> {
    let column_bytes = (redundancy - errors) * WORD_BYTES;
    let mut echelon: Vec<(usize, Vec<u8>, Vec<u8>)> = Vec::with_capacity(errors);
    for degree in 0..=errors {
        let start = degree * WORD_BYTES;
        let mut column = syndromes[start..start + column_bytes].to_vec();
        let mut combination = vec![0; errors + 1];
        combination[degree] = 1;
        for (pivot, reduced, by) in &echelon {
            let factor = Gf256(column[*pivot]);
            mul_add(factor, reduced, &mut column);
            mul_add(factor, by, &mut combination);
        }
        let Some(pivot) = column.iter().position(|byte| *byte != 0) else {
            return Some(combination[..=degree].iter().map(|byte| Gf256(*byte)).collect());
        };
        let normalise = Gf256(column[pivot]).inv();
        for byte in column.iter_mut().chain(&mut combination) {
            *byte = Gf256(*byte).mul(normalise).0;
        }
        echelon.push((pivot, column, combination));
    }
    None
}

/// The shares that are not at a zero of Λ; `None` unless Λ has as many zeros among them as its degree.
fn honest(residuals: &Residuals, locator: &[Gf256]) -> Option<IndexSet> {
    let mut honest = IndexSet::default();
    for (index, &at) in (0..=u8::MAX).zip(&residuals.xs) {
        let value = locator.iter().rev().fold(Gf256::ZERO, |value, c| value.mul(at).add(*c));
        if value != Gf256::ZERO {
            honest.insert(index);
        }
    }
    (honest.len() + locator.len() == residuals.len() + 1).then_some(honest)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::sharing::x;

    #[test]
    fn decoding_is_tried_for_half_of_the_redundancy_and_more_errors() {
        let rng = &mut StdRng::seed_from_u64(1);
        for (shares, k, tries) in [(3, 3, 0), (4, 3, 0), (5, 3, 1), (9, 5, 2), (9, 3, 3), (20, 9, 6)] {
            let mut words = vec![[0; WORD_BYTES]; usize::from(shares)];
            words.iter_mut().skip(k).for_each(|word| rng.fill_bytes(word));
            let residuals = Residuals { k, xs: (0..shares).map(x).collect(), words, all_agree: false };
            let polls = Cell::new(0);
            let count = || {
                polls.set(polls.get() + 1);
                false
            };
            let found = candidates(&residuals, &count).count();
            assert_eq!((found, polls.get()), (0, tries), "{shares} shares, k = {k}");
        }
    }

    /// Two errors look located where the rest lies on one polynomial, though on one of too high a degree: what k shares
    /// alone agree on is nothing.
    #[test]
    fn only_what_more_than_k_shares_agree_on_is_proposed() {
        for (squares, most) in [(1, 7), (2, 0)] {
            let xs: Vec<Gf256> = (0..9).map(x).collect();
            let power = |at: Gf256| (0..squares).fold(at, |value, _| value.mul(value));
            let mut words: Vec<Word> = xs.iter().map(|at| [power(*at).0; WORD_BYTES]).collect();
            words[0] = [0x35; WORD_BYTES];
            words[1] = [0x9c; WORD_BYTES];
            let residuals = Residuals { k: 3, xs, words, all_agree: false };
            let found = candidates(&residuals, &|| false).map(|set| set.len()).max();
            assert_eq!(found.unwrap_or(0), most, "squared {squares} times");
        }
    }
}
