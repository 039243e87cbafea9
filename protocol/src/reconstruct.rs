//! Reconstruction in the presence of false shares (§2.3.2, §2.4).
//!
//! The clean path takes the first k shares, checks the key tag, and compares the other shares with the
//! polynomial. Where the tag fails, the false shares are sought without trying every subset on the full
//! length: the differences of the other shares from the polynomial are reduced to 16 bytes each by one random linear
//! map, so that shares of one polynomial stay on one polynomial; what decoding proposes there is confirmed on the full
//! length with the key tag. The first map takes little work and may miss a liar, with a probability that no liar can raise;
//! the second, where it is needed, misses none. Where decoding proposes nothing right, every set of k shares is asked for the
//! u that it gives, which the hint of the key tag knows, and only what passes is looked at on the full length
//! (`reconstruct/sets.rs`): so the work does not depend on how the errors were chosen, and a bound on it holds.
//!
//! Must never branch on a secret, but on what the key tag accepts: decoding sees differences only, which the false shares
//! alone determine.

mod compare;
mod locate;
mod reduce;
mod residual;
mod sets;
mod subsets;

use rand_core::CryptoRng;
use subtle::ConstantTimeEq;

use self::{
    compare::Comparison,
    reduce::{Density, is_long},
    residual::Residuals,
    sets::{Gives, Sets},
    subsets::{IndexSet, Subsets},
};
use crate::{
    key_check::KeyCheck,
    sharing::{Scheme, SharingError, check_lengths},
    wiped::Wiped,
};

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
    /// Bytes to go over on the full length: of secrets that are reconstructed and validated, and of shares of which images
    /// are taken.
    pub full_length_bytes_max: u64,
    /// Subsets of k shares to look at; with more than 256 coefficients each (s shares given times k) a subset counts in
    /// proportion.
    pub subsets_max: u64,
}

impl Default for WorkBound {
    /// 2^21 subsets cover every scheme with up to 22 hubs, hence all that the paper evaluates, in a few seconds at most
    /// (C(22, 11) = 705 432; C(22, 12) = 646 646, which count twice). 8 GiB are a few seconds too. Of 22 shares of 1 MiB, a
    /// search whose end is the key needs 24 + 2 · 8 · 22 MiB at most, and as much for each false point that the hint accepts:
    /// the probability that it accepts any is below 705 432 / 2^63, less than 2^-43.
    fn default() -> Self {
        Self { full_length_bytes_max: 8 << 30, subsets_max: 1 << 21 }
    }
}

/// Reconstructs the secret from at least k shares, with their roster positions, of which some may be false.
///
/// `check` knows the key tag. `rng` draws the reduction, which must not be predictable when the shares are made, and samples
/// subsets where there are too many. `cancelled` is polled between subsets; once it returns true the search ends as if
/// the bound had been reached.
///
/// Where all subsets of k of these shares are within `subsets_max`, a secret that k true shares give is found, whatever
/// the errors in the others, unless false points that the hint accepts cost more full-length work than the bound allows, of
/// which [`WorkBound::default`] gives the probability. Where they are not, it is found for up to (s − k) / 2 false ones among s shares, and
/// beyond that by a random sample of subsets. When the shares off its polynomial number k or more, they are searched as
/// well for a second secret that validates; a search that its bound stops counts as having found none. See also
/// [`reconstruct_only`].
///
/// # Errors
/// If there are fewer than k shares, a position is repeated or not below n, or the lengths of the shares
/// differ or are zero.
pub fn reconstruct(
    scheme: &Scheme,
    shares: &[(u8, &[u8])],
    check: &KeyCheck,
    bound: &WorkBound,
    rng: &mut dyn CryptoRng,
    cancelled: &dyn Fn() -> bool,
) -> Result<Reconstruction, SharingError> {
    seek(scheme, shares, check, bound, rng, cancelled, Rivals::Apart)
}

/// As [`reconstruct`], where no other secret validates (§2.4): wherever a share lies off the polynomial, a second one is sought
/// among all sets of k shares, those that share up to k − 1 with the first included. So k colluders, who can put a secret of
/// their own onto one polynomial with k − 1 honest shares, are noticed where k true ones are there.
///
/// # Errors
/// As [`reconstruct`].
pub fn reconstruct_only(
    scheme: &Scheme,
    shares: &[(u8, &[u8])],
    check: &KeyCheck,
    bound: &WorkBound,
    rng: &mut dyn CryptoRng,
    cancelled: &dyn Fn() -> bool,
) -> Result<Reconstruction, SharingError> {
    seek(scheme, shares, check, bound, rng, cancelled, Rivals::All)
}

/// Where a second secret is sought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rivals {
    /// Among the shares off the polynomial of the first, where they are k or more.
    Apart,
    /// Among all sets of k shares, where any is off it.
    All,
}

fn seek(
    scheme: &Scheme,
    shares: &[(u8, &[u8])],
    check: &KeyCheck,
    bound: &WorkBound,
    rng: &mut dyn CryptoRng,
    cancelled: &dyn Fn() -> bool,
    rivals: Rivals,
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
    let mut search = Search { scheme, check, bytes_left, subsets_max, rng, cancelled, tried: 0, secret };
    let basis = match search.find(&shares, None)? {
        Outcome::Valid(basis) => basis,
        Outcome::Exhausted => return Ok(Reconstruction::None { tried: search.tried, exhausted: true }),
        Outcome::Stopped => return Ok(Reconstruction::None { tried: search.tried, exhausted: false }),
    };
    let secret = std::mem::take(&mut search.secret);
    let false_positions = Comparison::new(scheme, &basis, &shares).off();
    let second = match rivals {
        Rivals::All if !false_positions.is_empty() => {
            // Differences are then those from its polynomial.
            shares.sort_by_key(|(position, _)| !basis.contains(position));
            search.find_beside(&shares, &secret)?
        }
        Rivals::Apart if false_positions.len() >= usize::from(scheme.k()) => {
            shares.retain(|(position, _)| false_positions.contains(position));
            search.find(&shares, Some(&secret))?
        }
        Rivals::All | Rivals::Apart => Outcome::Exhausted,
    };
    match second {
        Outcome::Valid(..) => return Ok(Reconstruction::Ambiguous),
        // With more shares it begins anew.
        Outcome::Stopped if rivals == Rivals::All && cancelled() => {
            return Ok(Reconstruction::None { tried: search.tried, exhausted: false });
        }
        Outcome::Exhausted | Outcome::Stopped => {}
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
    check: &'a KeyCheck,
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
        let densities =
            if is_long(share_bytes) { &[Density::Sparse, Density::Dense][..] } else { &[Density::Dense] };
        let mut tried = vec![first];
        for density in densities {
            let residuals = Residuals::new(self.scheme, shares, *density, self.rng);
            if residuals.all_agree {
                return Ok(Outcome::Exhausted);
            }
            if let Some(outcome) = self.try_decoded(shares, &residuals, &mut tried, other_than)? {
                return Ok(outcome);
            }
        }
        self.try_subsets(shares, None, other_than)
    }

    /// Seeks a secret that validates beside the one that the first k shares give. Sets that give that one are passed over by
    /// their differences, without the full length.
    fn find_beside(&mut self, shares: &[(u8, &[u8])], known: &[u8]) -> Result<Outcome, SharingError> {
        let residuals = Residuals::new(self.scheme, shares, Density::Dense, self.rng);
        let mut tried = vec![(0..self.scheme.k()).collect()];
        if let Some(outcome) = self.try_decoded(shares, &residuals, &mut tried, Some(known))? {
            return Ok(outcome);
        }
        self.try_subsets(shares, Some(&residuals), Some(known))
    }

    /// Tries sets of more than k shares that decoding proposes. `tried` holds bases whose secrets do not validate, and
    /// takes those that are tried here.
    fn try_decoded(
        &mut self,
        shares: &[(u8, &[u8])],
        residuals: &Residuals,
        tried: &mut Vec<Vec<u8>>,
        other_than: Option<&[u8]>,
    ) -> Result<Option<Outcome>, SharingError> {
        let mut refuted: Vec<IndexSet> = tried.iter().map(|basis| residuals.agreeing(basis)).collect();
        for set in locate::candidates(residuals, self.cancelled) {
            if refuted.contains(&set) {
                continue;
            }
            let basis: Vec<u8> = set.iter().take(self.scheme.k().into()).collect();
            if let Some(outcome) = self.try_charged(shares, &basis, other_than)? {
                return Ok(Some(outcome));
            }
            tried.push(basis);
            refuted.push(set);
        }
        Ok(None)
    }

    /// Asks every subset of k shares, or as many as the bound allows; not those whose secret is that of the polynomial from
    /// which these differences are.
    fn try_subsets(
        &mut self,
        shares: &[(u8, &[u8])],
        beside: Option<&Residuals>,
        other_than: Option<&[u8]>,
    ) -> Result<Outcome, SharingError> {
        let (scheme, check) = (self.scheme, self.check);
        let Some(mut sets) = Sets::new(scheme, check, shares, beside) else { return Ok(Outcome::Exhausted) };
        let mut subsets = Subsets::for_search(shares.len(), scheme.k(), self.subsets_max, self.rng);
        while let Some(subset) = subsets.next(self.rng) {
            // Most take no bytes, so that nothing else would notice a cancellation here.
            if (self.cancelled)() {
                return Ok(Outcome::Stopped);
            }
            let outcome = match sets.ask(subset, &mut self.bytes_left) {
                Gives::No => None,
                Gives::Perhaps => self.try_charged(shares, subset, other_than)?,
                Gives::Unknown => Some(Outcome::Stopped),
            };
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
        }
        Ok(if subsets.is_exhaustive() { Outcome::Exhausted } else { Outcome::Stopped })
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
        if !is_known && self.check.validates(&self.secret) {
            return Ok(Some(Outcome::Valid(positions)));
        }
        self.tried += 1;
        Ok(None)
    }
}
