//! Reconstruction in the presence of false shares (§2.3.2, §2.4).
//!
//! The clean path takes the first k shares, checks the key tag, and compares the other shares with the
//! polynomial. Where the tag fails, the false shares are sought without trying every subset on the full
//! length: each share is reduced to 16 bytes by one random linear map, so that shares of one polynomial
//! stay on one polynomial; what agrees there is confirmed on the full length with the key tag. Only a
//! secret that no further share supports takes a search of full-length subsets, under a bound on work.
//!
//! Must never branch on a secret: the search sees residuals only, which the false shares alone determine.

mod locate;
mod reduce;
mod residual;
mod subsets;

use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use self::{
    residual::Residuals,
    subsets::{IndexSet, Subsets},
};
use crate::{
    field::mul_add_rows,
    sharing::{Scheme, SharingError, check_lengths},
};

/// Bytes of each share that are compared with the polynomial at once.
const COMPARE_BYTES: usize = 4096;

/// Most sets of agreeing shares that are collected. Random errors give none and honest shares one; past this
/// number liars have arranged them to cost memory, and looking them up costs more than trying subsets.
const AGREEMENTS_MAX: usize = 1024;

/// A secret that validates.
pub struct Candidate {
    /// The secret, `u ‖ S`.
    pub secret: Zeroizing<Vec<u8>>,
    /// Positions of the shares that lie off the polynomial, sorted.
    pub false_positions: Vec<u8>,
    /// The k positions that the secret was reconstructed from, sorted.
    pub basis: Vec<u8>,
}

/// What came of a reconstruction.
pub enum Reconstruction {
    /// A secret validates.
    Found(Candidate),
    /// Two different secrets validate: at least k hubs lie, and which key is the sender's cannot be told.
    Ambiguous,
    /// No secret validates.
    None {
        /// How many secrets were reconstructed on the full length and failed to validate.
        tried: u64,
        /// Whether that was all there are; false where the work bound or cancellation stopped the search.
        exhausted: bool,
    },
}

/// How much work a reconstruction may spend on a search for false shares. The clean path is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkBound {
    /// Bytes of secret to reconstruct and validate, over all subsets tried.
    pub full_length_bytes_max: u64,
    /// Subsets of k shares to look at, in each of the two searches; with more than 256 coefficients each (s
    /// shares given times k) a subset counts in proportion.
    pub subsets_max: u64,
}

impl Default for WorkBound {
    /// 2^20 subsets cover every scheme with up to 22 hubs (C(22, 11) = 705 432), hence all that the paper
    /// evaluates, in a few seconds at most; 1 GiB is a few seconds too, and covers every subset of ten out of
    /// twenty for secrets of up to 5 KiB, that is some 180 keys of 256 bits.
    fn default() -> Self {
        Self { full_length_bytes_max: 1 << 30, subsets_max: 1 << 20 }
    }
}

/// Reconstructs the secret from at least k shares, with their roster positions, of which some may be false.
///
/// `validates` is the check of the key tag on `u ‖ S`. `rng` draws the reduction, which must not be
/// predictable when the shares are made, and samples subsets where there are too many. `cancelled` is polled
/// between subsets; once it returns true the search ends as if the bound had been reached.
///
/// A secret that k + 1 or more shares agree on is found whatever the bound on full-length work, unless
/// subsets run out first or, with probability below 2^-100, the reduction hides an error. When the shares
/// off its polynomial number k or more, they are searched as well for a second secret that validates; a
/// search that its bound stops counts as having found none.
///
/// # Errors
/// If there are fewer than k shares, a position is repeated or not below n, or the lengths of the shares
/// differ or are zero.
pub fn reconstruct(
    scheme: &Scheme,
    shares: &[(u8, &[u8])],
    validates: &mut dyn FnMut(&[u8]) -> bool,
    bound: &WorkBound,
    rng: &mut dyn CryptoRng,
    cancelled: &dyn Fn() -> bool,
) -> Result<Reconstruction, SharingError> {
    if shares.len() < usize::from(scheme.k()) {
        return Err(SharingError::ShareCount { needed: scheme.k().into(), given: shares.len() });
    }
    scheme.check_positions(shares.iter().map(|(position, _)| *position))?;
    check_lengths(shares.iter().map(|(_, share)| *share))?;
    let mut shares = shares.to_vec();
    // So that the first k of any set are the ones that exclusive-or reconstructs from, where it has them.
    shares.sort_unstable_by_key(|(position, _)| *position);

    let bytes_left = bound.full_length_bytes_max;
    let mut search =
        Search { scheme, validates, bytes_left, subsets_max: bound.subsets_max, rng, cancelled, tried: 0 };
    let (secret, basis) = match search.find(&shares, None)? {
        Outcome::Valid(secret, basis) => (secret, basis),
        Outcome::Exhausted => return Ok(Reconstruction::None { tried: search.tried, exhausted: true }),
        Outcome::Stopped => return Ok(Reconstruction::None { tried: search.tried, exhausted: false }),
    };
    let false_positions = off_polynomial(scheme, &basis, &shares);
    if false_positions.len() >= usize::from(scheme.k()) {
        shares.retain(|(position, _)| false_positions.contains(position));
        if let Outcome::Valid(..) = search.find(&shares, Some(&secret))? {
            return Ok(Reconstruction::Ambiguous);
        }
    }
    Ok(Reconstruction::Found(Candidate { secret, false_positions, basis }))
}

/// How a search ended.
enum Outcome {
    /// With a secret that validates, and the sorted positions that gave it.
    Valid(Zeroizing<Vec<u8>>, Vec<u8>),
    /// Nothing validates.
    Exhausted,
    /// Nothing validated until the bound was reached or the search cancelled.
    Stopped,
}

struct Search<'a> {
    scheme: &'a Scheme,
    validates: &'a mut dyn FnMut(&[u8]) -> bool,
    bytes_left: u64,
    subsets_max: u64,
    rng: &'a mut dyn CryptoRng,
    cancelled: &'a dyn Fn() -> bool,
    tried: u64,
}

impl Search<'_> {
    /// Seeks a secret that validates, other than a given one, among shares sorted by position.
    fn find(&mut self, shares: &[(u8, &[u8])], other_than: Option<&[u8]>) -> Result<Outcome, SharingError> {
        let k = self.scheme.k();
        let indices = u8::try_from(shares.len()).unwrap_or(u8::MAX);
        let first: Vec<u8> = (0..k).collect();
        if let Some(valid) = self.try_basis(shares, &first, other_than)? {
            return Ok(valid);
        }
        if indices == k {
            return Ok(Outcome::Exhausted);
        }
        let residuals = Residuals::new(self.scheme, shares, self.rng)?;
        // Each set lies on one polynomial whose secret is known not to validate.
        let mut refuted = vec![residuals.agreeing(&first)];
        if refuted.iter().any(|set| set.len() == indices.into()) {
            return Ok(Outcome::Exhausted);
        }
        for set in locate::candidates(&residuals, self.cancelled) {
            if refuted.contains(&set) {
                continue;
            }
            if let Some(outcome) = self.try_set(shares, &set, other_than)? {
                return Ok(outcome);
            }
            refuted.push(set);
        }
        for set in self.agreements(&residuals, &refuted) {
            if let Some(outcome) = self.try_set(shares, &set, other_than)? {
                return Ok(outcome);
            }
            refuted.push(set);
        }
        self.try_subsets(shares, &refuted, other_than)
    }

    /// Sets of more than k shares that agree on the reduced words, the largest first, except given ones.
    fn agreements(&mut self, residuals: &Residuals, known: &[IndexSet]) -> Vec<IndexSet> {
        let k = self.scheme.k();
        let mut found: Vec<IndexSet> = Vec::new();
        let mut subsets = self.subsets(residuals.len());
        while let Some(subset) = subsets.next(self.rng) {
            if (self.cancelled)() || found.len() >= AGREEMENTS_MAX {
                break;
            }
            if known.iter().chain(&found).any(|set| set.contains_all(subset)) {
                continue;
            }
            let agreeing = residuals.agreeing(subset);
            if agreeing.len() > usize::from(k) {
                found.push(agreeing);
            }
        }
        found.sort_by_key(|set| std::cmp::Reverse(set.len()));
        found
    }

    /// Tries subsets of k shares that no further share supports, on the full length.
    fn try_subsets(
        &mut self,
        shares: &[(u8, &[u8])],
        refuted: &[IndexSet],
        other_than: Option<&[u8]>,
    ) -> Result<Outcome, SharingError> {
        let mut subsets = self.subsets(shares.len());
        while let Some(subset) = subsets.next(self.rng) {
            if refuted.iter().any(|set| set.contains_all(subset)) {
                // Skipping takes no bytes, so that nothing else would notice a cancellation here.
                if (self.cancelled)() {
                    return Ok(Outcome::Stopped);
                }
                continue;
            }
            if let Some(outcome) = self.try_charged(shares, subset, other_than)? {
                return Ok(outcome);
            }
        }
        Ok(if subsets.is_exhaustive() { Outcome::Exhausted } else { Outcome::Stopped })
    }

    /// The subsets of k out of s shares, as many as the bound allows.
    fn subsets(&mut self, shares: usize) -> Subsets {
        let k = self.scheme.k();
        let cost = (shares as u64 * u64::from(k)).div_ceil(256);
        Subsets::new(u8::try_from(shares).unwrap_or(u8::MAX), k, self.subsets_max / cost, self.rng)
    }

    /// Tries the first k of a set of shares that agree.
    fn try_set(
        &mut self,
        shares: &[(u8, &[u8])],
        set: &IndexSet,
        other_than: Option<&[u8]>,
    ) -> Result<Option<Outcome>, SharingError> {
        let basis: Vec<u8> = set.iter().take(self.scheme.k().into()).collect();
        self.try_charged(shares, &basis, other_than)
    }

    /// Tries k shares unless cancelled or out of budget; `None` where they do not validate.
    fn try_charged(
        &mut self,
        shares: &[(u8, &[u8])],
        indices: &[u8],
        other_than: Option<&[u8]>,
    ) -> Result<Option<Outcome>, SharingError> {
        let bytes = shares.first().map_or(0, |(_, share)| share.len() as u64);
        match self.bytes_left.checked_sub(bytes) {
            Some(left) if !(self.cancelled)() => self.bytes_left = left,
            _ => return Ok(Some(Outcome::Stopped)),
        }
        self.try_basis(shares, indices, other_than)
    }

    fn try_basis(
        &mut self,
        shares: &[(u8, &[u8])],
        indices: &[u8],
        other_than: Option<&[u8]>,
    ) -> Result<Option<Outcome>, SharingError> {
        let chosen = indices.iter().filter_map(|&index| shares.get(usize::from(index)));
        let (positions, texts): (Vec<u8>, Vec<&[u8]>) = chosen.copied().unzip();
        let mut secret = Zeroizing::new(vec![0; texts.first().map_or(0, |text| text.len())]);
        self.scheme.reconstruct_onto(&positions, &texts, &mut secret)?;
        let is_known = other_than.is_some_and(|known| known.ct_eq(&secret).into());
        if !is_known && (self.validates)(&secret) {
            return Ok(Some(Outcome::Valid(secret, positions)));
        }
        self.tried += 1;
        Ok(None)
    }
}

/// Positions of the shares that lie off the polynomial through those at `basis`, exactly.
fn off_polynomial(scheme: &Scheme, basis: &[u8], shares: &[(u8, &[u8])]) -> Vec<u8> {
    let (inside, others): (Vec<_>, Vec<_>) =
        shares.iter().copied().partition(|(position, _)| basis.contains(position));
    let rows: Vec<_> = others.iter().map(|(target, _)| scheme.prediction_row(basis, *target)).collect();
    let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
    let len = shares.first().map_or(0, |(_, share)| share.len());
    let mut differences = vec![0; others.len()];
    for start in (0..len).step_by(COMPARE_BYTES) {
        let strip = start..len.min(start + COMPARE_BYTES);
        let inputs: Vec<&[u8]> = inside.iter().map(|(_, share)| &share[strip.clone()]).collect();
        let mut texts: Vec<_> =
            others.iter().map(|(_, share)| Zeroizing::new(share[strip.clone()].to_vec())).collect();
        let mut outputs: Vec<&mut [u8]> = texts.iter_mut().map(|text| text.as_mut_slice()).collect();
        mul_add_rows(&rows, &inputs, &mut outputs);
        for (difference, text) in differences.iter_mut().zip(&texts) {
            *difference = text.iter().fold(*difference, |all, byte| all | byte);
        }
    }
    let off = others.iter().zip(&differences).filter(|(_, difference)| **difference != 0);
    off.map(|((position, _), _)| *position).collect()
}
