//! The scaled (n, k) secret-sharing scheme (§2.5).
//!
//! `P` is a polynomial of degree < k over GF(2^8) with the secret at `P(0)`, byte by byte; the hub at roster
//! position i has `x_i = i + 1`. The shares of the first k positions are scaled by public constants,
//! `Y_i = λ_i · P(x_i)` with `λ_i` the Lagrange coefficient at 0 over x = 1..k, and `Y_i = P(x_i)` for the rest. So
//! the secret is the exclusive-or of the first k shares, and n = k is the Simple scheme (§2.5.2).
//!
//! What ends in `_onto` is added onto the caller's bytes: onto a pad it gives the ciphertext, in place. The rest
//! overwrites its outputs without reading them. Each call goes over every text once, whatever the number of outputs.
//! No branch and no memory address may depend on the bytes of a share or a secret.

use crate::{
    coefficients::{Coefficients, Field},
    field::{Gf256, mul_add_rows, mul_set_rows},
    kernel::{Kernel, Row, Start},
};

/// What is wrong with a call to the sharing scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SharingError {
    /// No such scheme.
    #[error("no ({n}, {k}) scheme exists: 1 <= k <= n is needed")]
    Parameters {
        /// Number of shares asked for.
        n: u8,
        /// Threshold asked for.
        k: u8,
    },
    /// Another number of shares than the operation takes.
    #[error("{given} shares given where {needed} are needed")]
    ShareCount {
        /// How many it takes.
        needed: usize,
        /// How many there were.
        given: usize,
    },
    /// More or fewer outputs than there are positions to derive.
    #[error("{given} outputs given where there are {possible} positions to derive")]
    OutputCount {
        /// How many positions there are.
        possible: usize,
        /// How many outputs there were.
        given: usize,
    },
    /// A roster position that the scheme does not have, or not in this role.
    #[error("position {position} is not one of {first}..{end}")]
    Position {
        /// The position given.
        position: u8,
        /// First position allowed.
        first: u8,
        /// The position after the last one allowed.
        end: u8,
    },
    /// Two shares of one roster position.
    #[error("two shares are given for position {position}")]
    RepeatedPosition {
        /// The position given twice.
        position: u8,
    },
    /// Shares of several lengths.
    #[error("a share has {given} bytes where the others have {expected}")]
    Length {
        /// Length of the first share, in bytes.
        expected: usize,
        /// The length that differs, in bytes.
        given: usize,
    },
    /// Shares without any bytes.
    #[error("the shares are empty")]
    Empty,
}

/// One (n, k) sharing scheme: any k of n shares give the secret, fewer say nothing about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheme {
    n: u8,
    k: u8,
    coefficients: Coefficients<Gf256>,
}

impl Scheme {
    /// The scheme with n shares and threshold k.
    ///
    /// # Errors
    /// [`SharingError::Parameters`] unless 1 ≤ k ≤ n.
    pub fn new(n: u8, k: u8) -> Result<Self, SharingError> {
        if k == 0 || k > n {
            return Err(SharingError::Parameters { n, k });
        }
        Ok(Self { n, k, coefficients: Coefficients::new(k) })
    }

    /// Number of shares.
    pub fn n(&self) -> u8 {
        self.n
    }

    /// Number of shares that give the secret.
    pub fn k(&self) -> u8 {
        self.k
    }

    /// `outputs[j] ^= Y_(k+j)`, given the first k shares. At most n − k outputs; positions beyond them are
    /// not computed. Over a pad this leaves the ciphertext `Z = Y ⊕ R` in place.
    ///
    /// # Errors
    /// If the number of shares is not k, there are too many outputs, or lengths differ or are zero.
    pub fn derive_onto(&self, first: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), SharingError> {
        let possible = usize::from(self.n - self.k);
        if outputs.len() > possible {
            return Err(SharingError::OutputCount { possible, given: outputs.len() });
        }
        let positions: Vec<u8> = (self.k..self.n).take(outputs.len()).collect();
        self.derive_positions_onto(first, &positions, outputs)
    }

    /// `outputs[j] ^= Y_(positions[j])`, given the first k shares, for any positions in k..n.
    ///
    /// # Errors
    /// If the number of shares is not k, a position is not in k..n, there is not one output for each
    /// position, or lengths differ or are zero.
    pub fn derive_positions_onto(
        &self,
        first: &[&[u8]],
        positions: &[u8],
        outputs: &mut [&mut [u8]],
    ) -> Result<(), SharingError> {
        if outputs.len() != positions.len() {
            return Err(SharingError::OutputCount { possible: positions.len(), given: outputs.len() });
        }
        if let Some(&position) = positions.iter().find(|p| !(self.k..self.n).contains(p)) {
            return Err(SharingError::Position { position, first: self.k, end: self.n });
        }
        self.check_count(first)?;
        check_lengths(first.iter().copied().chain(outputs.iter().map(|output| &**output)))?;
        let rows: Vec<_> = positions.iter().map(|&target| self.derivation_row(target)).collect();
        let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
        mul_add_rows(&rows, first, outputs);
        Ok(())
    }

    /// All of a sender's work in one pass: `rest[j] ^= Y_(k+j)` and `secret =` the secret, given the first k shares.
    /// At most n − k of the rest; over pads they become ciphertext in place.
    ///
    /// Each of the k shares is read once, each of the rest read and written once, the secret written once.
    ///
    /// # Errors
    /// As for [`Self::derive_onto`].
    pub fn split(
        &self,
        first: &[&[u8]],
        rest: &mut [&mut [u8]],
        secret: &mut [u8],
    ) -> Result<(), SharingError> {
        let possible = usize::from(self.n - self.k);
        if rest.len() > possible {
            return Err(SharingError::OutputCount { possible, given: rest.len() });
        }
        self.check_count(first)?;
        check_lengths(first.iter().copied().chain(rest.iter().map(|text| &**text)).chain([&*secret]))?;
        let derived: Vec<_> =
            (self.k..self.n).take(rest.len()).map(|target| self.derivation_row(target)).collect();
        let ones = vec![1; first.len()];
        let mut rows: Vec<Row<'_>> = derived
            .iter()
            .zip(rest)
            .map(|(coefficients, output)| Row { coefficients, start: Start::Output, output })
            .collect();
        rows.push(Row { coefficients: &ones, start: Start::Zero, output: secret });
        Kernel::detect().rows(first, &mut rows);
        Ok(())
    }

    /// `secret ^=` the secret, given the first k shares: their exclusive-or.
    ///
    /// # Errors
    /// If the number of shares is not k, or lengths differ or are zero.
    pub fn secret_onto(&self, first: &[&[u8]], secret: &mut [u8]) -> Result<(), SharingError> {
        self.check_count(first)?;
        check_lengths(first.iter().copied().chain([&*secret]))?;
        mul_add_rows(&[&vec![1; first.len()]], first, &mut [secret]);
        Ok(())
    }

    /// `secret ^=` the secret, given any k shares and their distinct positions. Plain exclusive-or where those
    /// are 0..k, in any order.
    ///
    /// # Errors
    /// If there are not k shares and positions, a position is repeated or not below n, or lengths differ or
    /// are zero.
    pub fn reconstruct_onto(
        &self,
        positions: &[u8],
        shares: &[&[u8]],
        secret: &mut [u8],
    ) -> Result<(), SharingError> {
        let row = self.checked_secret_row(positions, shares, secret)?;
        mul_add_rows(&[&row], shares, &mut [secret]);
        Ok(())
    }

    /// `secret =` the secret, given any k shares and their distinct positions: as [`Self::reconstruct_onto`], but
    /// what `secret` holds is overwritten and not read. Each share is read once, the secret written once.
    ///
    /// # Errors
    /// As for [`Self::reconstruct_onto`].
    pub fn reconstruct(
        &self,
        positions: &[u8],
        shares: &[&[u8]],
        secret: &mut [u8],
    ) -> Result<(), SharingError> {
        let row = self.checked_secret_row(positions, shares, secret)?;
        mul_set_rows(&[&row], shares, &mut [secret]);
        Ok(())
    }

    /// The row that takes shares to the secret, where all of them fit together.
    fn checked_secret_row(
        &self,
        positions: &[u8],
        shares: &[&[u8]],
        secret: &[u8],
    ) -> Result<Vec<u8>, SharingError> {
        self.check_shares(positions, shares)?;
        check_lengths(shares.iter().copied().chain([secret]))?;
        Ok(self.secret_row(positions))
    }

    /// `output ^=` the share of position `target` on the polynomial through any k shares: to check a further
    /// share against it.
    ///
    /// # Errors
    /// As for [`Self::reconstruct_onto`], and if `target` is not below n.
    pub fn predict_onto(
        &self,
        positions: &[u8],
        shares: &[&[u8]],
        target: u8,
        output: &mut [u8],
    ) -> Result<(), SharingError> {
        self.check_shares(positions, shares)?;
        self.check_position(target)?;
        check_lengths(shares.iter().copied().chain([&*output]))?;
        mul_add_rows(&[&self.prediction_row(positions, target)], shares, &mut [output]);
        Ok(())
    }

    /// The coefficients that take the shares at `basis` to the secret; `basis` as checked by the callers.
    pub fn secret_row(&self, basis: &[u8]) -> Vec<u8> {
        self.coefficients.secret_row(basis).map(|c| c.0).collect()
    }

    /// The coefficients that take the shares at `basis` to the share at `target`.
    pub fn prediction_row(&self, basis: &[u8], target: u8) -> Vec<u8> {
        self.coefficients.prediction_row(basis, target).map(|c| c.0).collect()
    }

    /// The coefficients that take the first k shares to the share at a target in k..n.
    fn derivation_row(&self, target: u8) -> Vec<u8> {
        self.coefficients.derivation_row(target).map(|c| c.0).collect()
    }

    /// What `P(x_i)` is multiplied with to give the share of a position.
    pub fn scale(&self, position: u8) -> Gf256 {
        self.coefficients.scale(position)
    }

    /// Whether there is such a position.
    ///
    /// # Errors
    /// [`SharingError::Position`] where there is none.
    pub fn check_position(&self, position: u8) -> Result<(), SharingError> {
        if position >= self.n {
            return Err(SharingError::Position { position, first: 0, end: self.n });
        }
        Ok(())
    }

    fn check_count<T>(&self, shares: &[T]) -> Result<(), SharingError> {
        let needed = usize::from(self.k);
        if shares.len() != needed {
            return Err(SharingError::ShareCount { needed, given: shares.len() });
        }
        Ok(())
    }

    fn check_shares(&self, positions: &[u8], shares: &[&[u8]]) -> Result<(), SharingError> {
        self.check_count(positions)?;
        self.check_count(shares)?;
        self.check_positions(positions.iter().copied())
    }

    /// Checks that positions are distinct and below n.
    pub fn check_positions(&self, positions: impl IntoIterator<Item = u8>) -> Result<(), SharingError> {
        let mut seen = [false; 256];
        for position in positions {
            self.check_position(position)?;
            if std::mem::replace(&mut seen[usize::from(position)], true) {
                return Err(SharingError::RepeatedPosition { position });
            }
        }
        Ok(())
    }
}

/// The x of a roster position. Positions stay below 255, so that no x is zero, where the secret lies.
pub fn x(position: u8) -> Gf256 {
    Gf256::x(position)
}

/// Checks that all texts have one length, which is not zero.
pub fn check_lengths<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> Result<(), SharingError> {
    let mut expected = None;
    for text in texts {
        if text.is_empty() {
            return Err(SharingError::Empty);
        }
        let expected = *expected.get_or_insert(text.len());
        if text.len() != expected {
            return Err(SharingError::Length { expected, given: text.len() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_schemes_are_refused() {
        assert_eq!(Scheme::new(3, 0), Err(SharingError::Parameters { n: 3, k: 0 }));
        assert_eq!(Scheme::new(3, 4), Err(SharingError::Parameters { n: 3, k: 4 }));
        assert_eq!(Scheme::new(0, 0), Err(SharingError::Parameters { n: 0, k: 0 }));
        assert!(Scheme::new(255, 255).is_ok());
    }

    #[test]
    fn the_first_k_shares_are_scaled_so_that_they_sum_to_the_secret() {
        let scheme = Scheme::new(9, 5).expect("a scheme");
        assert_eq!(scheme.secret_row(&[0, 1, 2, 3, 4]), [1; 5]);
        assert_eq!(scheme.secret_row(&[3, 1, 4, 0, 2]), [1; 5]);
        assert_ne!(scheme.secret_row(&[0, 1, 2, 3, 5]), [1; 5]);
        assert_eq!(scheme.prediction_row(&[0, 1, 2, 3, 4], 2), [0, 0, 1, 0, 0]);
    }

    #[test]
    fn deriving_is_predicting_from_the_first_k() {
        for (n, k) in [(2, 1), (9, 5), (12, 11), (255, 100)] {
            let scheme = Scheme::new(n, k).expect("a scheme");
            let first: Vec<u8> = (0..k).collect();
            for target in [k, n - 1] {
                assert_eq!(scheme.derivation_row(target), scheme.prediction_row(&first, target));
            }
        }
    }

    #[test]
    fn shares_from_k_on_are_not_scaled_and_may_be_derived_in_part() {
        let scheme = Scheme::new(6, 3).expect("a scheme");
        assert_eq!((scheme.n(), scheme.k()), (6, 3));
        assert_eq!([3, 4, 5].map(|position| scheme.scale(position)), [Gf256::ONE; 3]);
        assert!((0..3).all(|position| scheme.scale(position) != Gf256::ZERO));
        // λ_0 over x = 1, 2, 3 is 2·3 / ((2 − 1)·(3 − 1)), which is 6 / 6.
        assert_eq!(scheme.scale(0), Gf256(2).mul(Gf256(3)).div(Gf256(3).mul(Gf256(2))));
        assert_eq!([0, 4, 254].map(x), [Gf256(1), Gf256(5), Gf256(255)]);
        let (a, b, c): (&[u8], &[u8], &[u8]) = (&[1], &[2], &[3]);
        let (mut some, mut all) = ([0], [[0]; 3]);
        scheme.derive_onto(&[a, b, c], &mut [&mut some]).expect("one of three");
        let mut outputs: Vec<&mut [u8]> = all.iter_mut().map(|output| output.as_mut_slice()).collect();
        scheme.derive_onto(&[a, b, c], &mut outputs).expect("all three");
        assert_eq!(some, all[0]);
    }

    #[test]
    fn splitting_is_deriving_and_adding_up() {
        for (n, k) in [(1, 1), (3, 2), (4, 4), (9, 5), (20, 10)] {
            let scheme = Scheme::new(n, k).expect("a scheme");
            let text = |seed: u8| -> Vec<u8> { (0..=200).map(|i: u8| i.wrapping_mul(seed) ^ seed).collect() };
            let first: Vec<Vec<u8>> = (0..k).map(|i| text(2 * i + 3)).collect();
            let first: Vec<&[u8]> = first.iter().map(Vec::as_slice).collect();
            let pads: Vec<Vec<u8>> = (k..n).map(|i| text(2 * i + 3)).collect();
            let (mut one, mut other) = (pads.clone(), pads);
            let (mut secret, mut sum) = (vec![0xaa; 201], vec![0; 201]);
            let mut outputs: Vec<&mut [u8]> = one.iter_mut().map(Vec::as_mut_slice).collect();
            scheme.split(&first, &mut outputs, &mut secret).expect("a valid call");
            let mut outputs: Vec<&mut [u8]> = other.iter_mut().map(Vec::as_mut_slice).collect();
            scheme.derive_onto(&first, &mut outputs).expect("a valid call");
            scheme.secret_onto(&first, &mut sum).expect("a valid call");
            assert_eq!((one, &secret), (other, &sum), "({n},{k})");

            let positions: Vec<u8> = (0..k).collect();
            let mut again = vec![0xaa; 201];
            scheme.reconstruct(&positions, &first, &mut again).expect("a valid call");
            assert_eq!(again, secret);
        }
    }

    #[test]
    fn bad_calls_are_errors() {
        let scheme = Scheme::new(4, 2).expect("a scheme");
        let (a, b, short): (&[u8], &[u8], &[u8]) = (&[1, 2], &[3, 4], &[5]);
        let mut out = [0; 2];
        let count = SharingError::ShareCount { needed: 2, given: 1 };
        assert_eq!(scheme.secret_onto(&[a], &mut out), Err(count));
        assert_eq!(scheme.reconstruct_onto(&[0], &[a, b], &mut out), Err(count));
        let length = SharingError::Length { expected: 2, given: 1 };
        assert_eq!(scheme.secret_onto(&[a, short], &mut out), Err(length));
        assert_eq!(scheme.secret_onto(&[a, b], &mut out[..1]), Err(length));
        assert_eq!(scheme.secret_onto(&[&[], &[]], &mut []), Err(SharingError::Empty));
        let repeated = SharingError::RepeatedPosition { position: 3 };
        assert_eq!(scheme.reconstruct_onto(&[3, 3], &[a, b], &mut out), Err(repeated));
        let beyond = SharingError::Position { position: 4, first: 0, end: 4 };
        assert_eq!(scheme.reconstruct_onto(&[3, 4], &[a, b], &mut out), Err(beyond));
        assert_eq!(scheme.predict_onto(&[2, 3], &[a, b], 4, &mut out), Err(beyond));
        let early = SharingError::Position { position: 1, first: 2, end: 4 };
        assert_eq!(scheme.derive_positions_onto(&[a, b], &[1], &mut [&mut out]), Err(early));
        let (mut p, mut q, mut r) = ([0; 2], [0; 2], [0; 2]);
        let many = SharingError::OutputCount { possible: 2, given: 3 };
        assert_eq!(scheme.derive_onto(&[a, b], &mut [&mut p, &mut q, &mut r]), Err(many));
        assert_eq!(scheme.split(&[a, b], &mut [&mut p, &mut q, &mut r], &mut out), Err(many));
        assert_eq!(scheme.split(&[a], &mut [&mut p], &mut out), Err(count));
        assert_eq!(scheme.split(&[a, b], &mut [&mut p], &mut r[..1]), Err(length));
        assert_eq!(scheme.reconstruct(&[0], &[a, b], &mut out), Err(count));
        assert_eq!(scheme.reconstruct(&[0, 1], &[a, short], &mut out), Err(length));
        assert_eq!(out, [0; 2]);
    }
}
