//! Reconstruction in the presence of false shares (§2.3.2, §2.4).
//!
//! The clean path takes the first k shares, checks the key tag, and compares the other shares with the
//! polynomial. Where the tag fails, the false shares are sought without trying every subset on the full
//! length: the differences of the other shares from the polynomial are reduced to 16 bytes each by one random linear
//! map, so that shares of one polynomial stay on one polynomial; what agrees there is confirmed on the full length
//! with the key tag. The first map takes little work and may miss a liar, with a probability that no liar can raise;
//! the second, where it is needed, misses none. Only a secret that no further share supports takes a search of
//! full-length subsets, under a bound on work.
//!
//! Must never branch on a secret: the search sees differences only, which the false shares alone determine.

mod compare;
mod locate;
mod reduce;
mod residual;
mod subsets;

use rand_core::CryptoRng;
use subtle::ConstantTimeEq;

use self::{
    compare::Comparison,
    reduce::{Density, is_long},
    residual::Residuals,
    subsets::{IndexSet, Subsets},
};
use crate::{
    sharing::{Scheme, SharingError, check_lengths},
    wiped::Wiped,
};

/// Most sets of agreeing shares that are collected. Random errors give none and honest shares one; past this
/// number liars have arranged them to cost memory, and looking them up costs more than trying subsets.
const AGREEMENTS_MAX: usize = 1024;

/// Most subsets that are looked at after a sparse reduction: what takes no longer than a dense one of long shares.
const SPARSE_SUBSETS_MAX: u64 = 512;

/// A secret that validates.
pub struct Candidate {
    /// The secret, `u ‖ S`.
    pub secret: Wiped,
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
    /// Subsets of k shares to look at, in each of the two searches that may take long; with more than 256 coefficients each (s
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
    let subsets_max = bound.subsets_max;
    let secret = Wiped::new(Vec::new());
    let mut search = Search { scheme, validates, bytes_left, subsets_max, rng, cancelled, tried: 0, secret };
    let basis = match search.find(&shares, None)? {
        Outcome::Valid(basis) => basis,
        Outcome::Exhausted => return Ok(Reconstruction::None { tried: search.tried, exhausted: true }),
        Outcome::Stopped => return Ok(Reconstruction::None { tried: search.tried, exhausted: false }),
    };
    let secret = std::mem::take(&mut search.secret);
    let false_positions = Comparison::new(scheme, &basis, &shares).off();
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
    /// With a secret that validates, in `Search::secret`, and the sorted positions that gave it.
    Valid(Vec<u8>),
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
    /// What was reconstructed last: one buffer for all that is tried.
    secret: Wiped,
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
        let share_bytes = shares.first().map_or(0, |(_, share)| share.len());
        let mut tried = vec![first];
        if is_long(share_bytes) {
            let residuals = Residuals::new(self.scheme, shares, Density::Sparse, self.rng);
            if residuals.all_agree {
                return Ok(Outcome::Exhausted);
            }
            let subsets_max = self.subsets_max.min(SPARSE_SUBSETS_MAX);
            if let Some(outcome) =
                self.try_agreeing(shares, &residuals, subsets_max, &mut tried, other_than)?
            {
                return Ok(outcome);
            }
        }
        let residuals = Residuals::new(self.scheme, shares, Density::Dense, self.rng);
        if residuals.all_agree {
            return Ok(Outcome::Exhausted);
        }
        if let Some(outcome) =
            self.try_agreeing(shares, &residuals, self.subsets_max, &mut tried, other_than)?
        {
            return Ok(outcome);
        }
        // Each set lies on one polynomial whose secret is known not to validate.
        let refuted: Vec<IndexSet> = tried.iter().map(|basis| residuals.agreeing(basis)).collect();
        self.try_subsets(shares, &refuted, other_than)
    }

    /// Tries sets of more than k shares that agree on the reduced words: first those that decoding proposes. `tried`
    /// holds bases whose secrets do not validate, and takes those that are tried here.
    fn try_agreeing(
        &mut self,
        shares: &[(u8, &[u8])],
        residuals: &Residuals,
        subsets_max: u64,
        tried: &mut Vec<Vec<u8>>,
        other_than: Option<&[u8]>,
    ) -> Result<Option<Outcome>, SharingError> {
        let mut refuted: Vec<IndexSet> = tried.iter().map(|basis| residuals.agreeing(basis)).collect();
        for set in locate::candidates(residuals, self.cancelled) {
            if refuted.contains(&set) {
                continue;
            }
            if let Some(outcome) = self.try_set(shares, &set, tried, other_than)? {
                return Ok(Some(outcome));
            }
            refuted.push(set);
        }
        for set in self.agreements(residuals, subsets_max, &refuted) {
            if let Some(outcome) = self.try_set(shares, &set, tried, other_than)? {
                return Ok(Some(outcome));
            }
        }
        Ok(None)
    }

    /// Sets of more than k shares that agree on the reduced words, the largest first, except given ones.
    fn agreements(&mut self, residuals: &Residuals, subsets_max: u64, known: &[IndexSet]) -> Vec<IndexSet> {
        let k = self.scheme.k();
        let mut found: Vec<IndexSet> = Vec::new();
        let mut subsets = self.subsets(residuals.len(), subsets_max);
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
        let mut subsets = self.subsets(shares.len(), self.subsets_max);
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

    /// The subsets of k out of s shares, as many as a bound allows.
    fn subsets(&mut self, shares: usize, subsets_max: u64) -> Subsets {
        let k = self.scheme.k();
        let cost = (shares as u64 * u64::from(k)).div_ceil(256);
        Subsets::new(u8::try_from(shares).unwrap_or(u8::MAX), k, subsets_max / cost, self.rng)
    }

    /// Tries the first k of a set of shares that agree.
    fn try_set(
        &mut self,
        shares: &[(u8, &[u8])],
        set: &IndexSet,
        tried: &mut Vec<Vec<u8>>,
        other_than: Option<&[u8]>,
    ) -> Result<Option<Outcome>, SharingError> {
        let basis: Vec<u8> = set.iter().take(self.scheme.k().into()).collect();
        let outcome = self.try_charged(shares, &basis, other_than)?;
        tried.push(basis);
        Ok(outcome)
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
        self.secret.resize(texts.first().map_or(0, |text| text.len()), 0);
        self.scheme.reconstruct(&positions, &texts, &mut self.secret)?;
        let is_known = other_than.is_some_and(|known| known.ct_eq(&self.secret).into());
        if !is_known && (self.validates)(&self.secret) {
            return Ok(Some(Outcome::Valid(positions)));
        }
        self.tried += 1;
        Ok(None)
    }
}
