//! Reduces long shares to 16 bytes by one random linear map over GF(2^8).
//!
//! Being linear and the same for all shares, the map takes shares of one polynomial to words of one
//! polynomial. It is drawn when the shares are already fixed, so that a difference between two shares
//! survives except with probability 2^-128 per stage. The words still depend on the secret: they are handled
//! like it.

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::field::mul_add_rows;

/// Bytes of a reduced share.
pub(super) const WORD_BYTES: usize = 16;

/// Widths of the pieces that the stages add up, in bytes. Wide pieces run fast on long shares but leave more
/// bytes over, which the narrower ones then take.
const STAGE_WIDTHS_BYTES: [usize; 4] = [1024, 64, 8, 1];

/// Bytes that a stage goes over at once for all its rows: what stays in the nearest cache.
const STRETCH_BYTES: usize = 32 << 10;

/// A linear map from shares of one length to words.
pub(super) struct Reduction {
    stages: Vec<Stage>,
}

impl Reduction {
    /// Draws a map for shares of `share_bytes` bytes.
    pub(super) fn draw(share_bytes: usize, rng: &mut dyn CryptoRng) -> Self {
        let mut stages = Vec::new();
        let mut bytes = share_bytes;
        for width in STAGE_WIDTHS_BYTES {
            if width == 1 || bytes > width * WORD_BYTES {
                stages.push(Stage::draw(bytes, width, rng));
                bytes = width * WORD_BYTES;
            }
        }
        Self { stages }
    }

    /// The word of a share.
    pub(super) fn word(&self, share: &[u8]) -> Zeroizing<[u8; WORD_BYTES]> {
        let mut word = Zeroizing::new([0; WORD_BYTES]);
        let mut text: Option<Zeroizing<Vec<u8>>> = None;
        for stage in &self.stages {
            text = Some(stage.apply(text.as_ref().map_or(share, |text| text.as_slice())));
        }
        if let Some(text) = text {
            word.copy_from_slice(&text);
        }
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

    fn apply(&self, text: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut sums = Zeroizing::new(vec![0; WORD_BYTES * self.width]);
        let (whole, rest) = text.split_at(text.len() - text.len() % self.width);
        let mut padded = Zeroizing::new(vec![0; self.width]);
        padded[..rest.len()].copy_from_slice(rest);
        let mut pieces: Vec<&[u8]> = whole.chunks(self.width).collect();
        if !rest.is_empty() {
            pieces.push(&padded);
        }
        let mut outputs: Vec<&mut [u8]> = sums.chunks_mut(self.width).collect();
        let at_once = STRETCH_BYTES / self.width;
        for (stretch, pieces) in pieces.chunks(at_once).enumerate() {
            let start = stretch * at_once;
            let rows: Vec<&[u8]> = self.rows.iter().map(|row| &row[start..start + pieces.len()]).collect();
            mul_add_rows(&rows, pieces, &mut outputs);
        }
        drop(outputs);
        sums
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::field::{Gf256, xor_into};

    #[test]
    fn is_linear_and_keeps_single_differences() {
        let mut rng = StdRng::seed_from_u64(1);
        for len in [1, 15, 16, 17, 128, 129, 1024, 1025, 2177, 16_384, 40_000] {
            let reduction = Reduction::draw(len, &mut rng);
            let (mut a, mut b) = (vec![0; len], vec![0; len]);
            rng.fill_bytes(&mut a);
            rng.fill_bytes(&mut b);
            let mut expected = reduction.word(&b).map(|byte| Gf256(byte).mul(Gf256(0x53)).0);
            xor_into(&*reduction.word(&a), &mut expected);
            let sum: Vec<u8> = a.iter().zip(&b).map(|(a, b)| a ^ Gf256(*b).mul(Gf256(0x53)).0).collect();
            assert_eq!(*reduction.word(&sum), expected, "{len} bytes");
            for at in [0, len / 2, len - 1] {
                let mut changed = a.clone();
                changed[at] ^= 1;
                assert_ne!(*reduction.word(&changed), *reduction.word(&a), "byte {at} of {len}");
            }
        }
    }
}
