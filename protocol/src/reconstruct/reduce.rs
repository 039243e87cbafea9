//! Reduces long differences to 16 bytes by one random linear map over GF(2^8).
//!
//! Being linear and the same for all shares, the map takes shares of one polynomial to words of one polynomial. It is
//! drawn when the shares are already fixed. A *dense* map loses a difference with probability 2^-128 per stage. A
//! *sparse* one takes an eighth of the work where shares are long and loses one with probability 2^-16: good for a
//! first guess, which the key tag then confirms or not.

use rand_core::CryptoRng;

use super::compare::STRIP_BYTES;
use crate::field::mul_add_rows;

/// Bytes of a reduced share.
pub(super) const WORD_BYTES: usize = 16;

/// Width of the pieces of a strip that the first stage adds up, in bytes: 16 sums of them are one strip again.
const PIECE_BYTES: usize = STRIP_BYTES / WORD_BYTES;

/// Widths of the pieces that the stages behind it add up, in bytes. Wide pieces run fast on long texts but leave more
/// bytes over, which the narrower ones then take.
const STAGE_WIDTHS_BYTES: [usize; 3] = [64, 8, 1];

/// Sums that the pieces of one strip go into, of a sparse map.
const SPARSE_SUMS: usize = 2;

/// How much of a difference goes into each byte of its word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Density {
    /// The pieces of a strip go into two of the 16 sums.
    Sparse,
    /// Every piece goes into every sum.
    Dense,
}

/// Whether shares are so long that a sparse map differs from a dense one.
pub(super) fn is_long(share_bytes: usize) -> bool {
    share_bytes > STRIP_BYTES
}

/// Adds up differences of shares, strip by strip.
pub(super) struct Sums {
    density: Density,
    /// For each share 16 sums of pieces, as long as one strip.
    sums: Vec<Vec<u8>>,
}

impl Sums {
    /// For a number of shares.
    pub(super) fn new(shares: usize, density: Density) -> Self {
        Self { density, sums: vec![vec![0; STRIP_BYTES]; shares] }
    }

    /// Adds one strip of every share, of which empty ones are zero, with coefficients drawn for it.
    pub(super) fn add(&mut self, differences: &[&[u8]], rng: &mut dyn CryptoRng) {
        let chosen = match self.density {
            Density::Sparse => {
                let first = usize::from(rng.next_u32().to_le_bytes()[0]) % (WORD_BYTES + 1 - SPARSE_SUMS);
                first..first + SPARSE_SUMS
            }
            Density::Dense => 0..WORD_BYTES,
        };
        let mut coefficients = vec![[0; WORD_BYTES]; chosen.len()];
        coefficients.iter_mut().for_each(|row| rng.fill_bytes(row));
        for (difference, sums) in differences.iter().zip(&mut self.sums) {
            let (whole, rest) = difference.split_at(difference.len() - difference.len() % PIECE_BYTES);
            let mut padded = [0; PIECE_BYTES];
            padded[..rest.len()].copy_from_slice(rest);
            let mut pieces: Vec<&[u8]> = whole.chunks(PIECE_BYTES).collect();
            if !rest.is_empty() {
                pieces.push(&padded);
            }
            let rows: Vec<&[u8]> = coefficients.iter().map(|row| &row[..pieces.len()]).collect();
            let sums = sums.chunks_mut(PIECE_BYTES).skip(chosen.start).take(chosen.len());
            let mut outputs: Vec<&mut [u8]> = sums.collect();
            mul_add_rows(&rows, &pieces, &mut outputs);
        }
    }

    /// The sums of each share.
    pub(super) fn finish(self) -> Vec<Vec<u8>> {
        self.sums
    }
}

/// A dense linear map from texts of one length, at most a strip, to words.
pub(super) struct Reduction {
    stages: Vec<Stage>,
}

impl Reduction {
    /// Draws a map for texts of `bytes` bytes.
    pub(super) fn draw(bytes: usize, rng: &mut dyn CryptoRng) -> Self {
        let mut stages = Vec::new();
        let mut bytes = bytes;
        for width in STAGE_WIDTHS_BYTES {
            if width == 1 || bytes > width * WORD_BYTES {
                stages.push(Stage::draw(bytes, width, rng));
                bytes = width * WORD_BYTES;
            }
        }
        Self { stages }
    }

    /// The word of a text.
    pub(super) fn word(&self, text: &[u8]) -> [u8; WORD_BYTES] {
        let mut text = text.to_vec();
        for stage in &self.stages {
            text = stage.apply(&text);
        }
        let mut word = [0; WORD_BYTES];
        word.copy_from_slice(&text);
        word
    }
}

/// Adds up the pieces of a text, each times a random coefficient, into 16 sums of one piece's width.
struct Stage {
    width: usize,
    /// For each sum one coefficient for every piece.
    rows: Vec<Vec<u8>>,
}

impl Stage {
    fn draw(bytes: usize, width: usize, rng: &mut dyn CryptoRng) -> Self {
        let mut rows = vec![vec![0; bytes.div_ceil(width)]; WORD_BYTES];
        rows.iter_mut().for_each(|row| rng.fill_bytes(row));
        Self { width, rows }
    }

    fn apply(&self, text: &[u8]) -> Vec<u8> {
        let mut sums = vec![0; WORD_BYTES * self.width];
        let mut padded = text.to_vec();
        padded.resize(text.len().next_multiple_of(self.width), 0);
        let pieces: Vec<&[u8]> = padded.chunks(self.width).collect();
        let rows: Vec<&[u8]> = self.rows.iter().map(Vec::as_slice).collect();
        let mut outputs: Vec<&mut [u8]> = sums.chunks_mut(self.width).collect();
        mul_add_rows(&rows, &pieces, &mut outputs);
        sums
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::field::{Gf256, xor_into};

    #[test]
    fn is_linear_and_keeps_single_differences() {
        let mut rng = StdRng::seed_from_u64(1);
        for len in [1, 15, 16, 17, 128, 129, 1024, 1025, 2177, STRIP_BYTES] {
            let reduction = Reduction::draw(len, &mut rng);
            let (mut a, mut b) = (vec![0; len], vec![0; len]);
            rng.fill_bytes(&mut a);
            rng.fill_bytes(&mut b);
            let mut expected = reduction.word(&b).map(|byte| Gf256(byte).mul(Gf256(0x53)).0);
            xor_into(&reduction.word(&a), &mut expected);
            let sum: Vec<u8> = a.iter().zip(&b).map(|(a, b)| a ^ Gf256(*b).mul(Gf256(0x53)).0).collect();
            assert_eq!(reduction.word(&sum), expected, "{len} bytes");
            for at in [0, len / 2, len - 1] {
                let mut changed = a.clone();
                changed[at] ^= 1;
                assert_ne!(reduction.word(&changed), reduction.word(&a), "byte {at} of {len}");
            }
        }
    }

    #[test]
    fn sums_of_strips_are_linear_and_keep_single_differences() {
        let mut rng = StdRng::seed_from_u64(2);
        for density in [Density::Sparse, Density::Dense] {
            // Two texts and their sum, of two strips and a short one.
            let mut sums = Sums::new(4, density);
            for len in [STRIP_BYTES, STRIP_BYTES, 2100] {
                let (mut a, mut b, mut single) = (vec![0; len], vec![0; len], vec![0; len]);
                rng.fill_bytes(&mut a);
                rng.fill_bytes(&mut b);
                let sum: Vec<u8> = a.iter().zip(&b).map(|(a, b)| a ^ Gf256(*b).mul(Gf256(0x53)).0).collect();
                single[len - 1] = u8::from(len == 2100);
                sums.add(&[&a, &b, &sum, if len == 2100 { &single } else { &[] }], &mut rng);
            }
            let sums = sums.finish();
            let mut expected: Vec<u8> = sums[1].iter().map(|byte| Gf256(*byte).mul(Gf256(0x53)).0).collect();
            xor_into(&sums[0], &mut expected);
            assert_eq!(sums[2], expected, "{density:?}");
            let nonzero = sums[3].iter().filter(|byte| **byte != 0).count();
            assert!(nonzero >= 1 && nonzero <= if density == Density::Sparse { 2 } else { 16 });
        }
    }

    #[test]
    fn what_fits_into_one_strip_is_not_long() {
        assert!(!is_long(1) && !is_long(STRIP_BYTES) && is_long(STRIP_BYTES + 1));
    }

    #[test]
    fn a_sparse_map_puts_a_strip_into_any_two_sums_side_by_side() {
        let mut rng = StdRng::seed_from_u64(3);
        let mut strip = vec![0; STRIP_BYTES];
        rng.fill_bytes(&mut strip);
        let pairs: BTreeSet<Vec<usize>> = (0..400)
            .map(|_| {
                let mut sums = Sums::new(1, Density::Sparse);
                sums.add(&[&strip], &mut rng);
                let sums = sums.finish().remove(0);
                let nonzero = sums.chunks(PIECE_BYTES).map(|sum| sum.iter().any(|byte| *byte != 0));
                nonzero.enumerate().filter_map(|(at, nonzero)| nonzero.then_some(at)).collect()
            })
            .collect();
        assert_eq!(pairs, (0..=WORD_BYTES - SPARSE_SUMS).map(|at| vec![at, at + 1]).collect());
    }

    #[test]
    fn a_text_goes_through_the_stages_that_shorten_it() {
        let mut rng = StdRng::seed_from_u64(4);
        for (len, widths) in [
            (1, &[1][..]),
            (128, &[1]),
            (129, &[8, 1]),
            (1024, &[8, 1]),
            (1025, &[64, 8, 1]),
            (STRIP_BYTES, &[64, 8, 1]),
        ] {
            let stages = Reduction::draw(len, &mut rng).stages;
            assert!(stages.iter().map(|stage| stage.width).eq(widths.iter().copied()), "{len} bytes");
        }
    }
}
