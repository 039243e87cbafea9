//! The differences of shares from the polynomial through k of them, exactly and in full.
//!
//! A difference is a linear function of the errors in the shares alone: the secret cancels out. So one may branch on
//! differences, which one must never do on a share. They are made strip by strip and nowhere kept: one pass over all
//! shares, in the memory of a few strips.

use crate::{
    kernel::{Kernel, Row, Start},
    sharing::Scheme,
};

/// Bytes of each share that are compared at once.
pub(super) const STRIP_BYTES: usize = 16 << 10;

/// Shares to compare with the polynomial through those of a basis.
pub(super) struct Comparison<'a> {
    /// The shares of the basis.
    inside: Vec<&'a [u8]>,
    /// The other shares, by position.
    others: Vec<(u8, &'a [u8])>,
    /// For each of the others, what takes the basis to it.
    rows: Vec<Vec<u8>>,
}

impl<'a> Comparison<'a> {
    /// Of shares of one length, by position, with the k positions of a basis among them.
    pub(super) fn new(scheme: &Scheme, basis: &[u8], shares: &[(u8, &'a [u8])]) -> Self {
        let (inside, others): (Vec<_>, Vec<_>) =
            shares.iter().copied().partition(|(position, _)| basis.contains(position));
        let positions: Vec<u8> = inside.iter().map(|(position, _)| *position).collect();
        let rows = others.iter().map(|(target, _)| scheme.prediction_row(&positions, *target)).collect();
        Self { inside: inside.into_iter().map(|(_, share)| share).collect(), others, rows }
    }

    /// Positions of the shares that lie off the polynomial.
    pub(super) fn off(&self) -> Vec<u8> {
        let mut off = vec![false; self.others.len()];
        self.for_each_difference(|strip| {
            strip.iter().zip(&mut off).for_each(|(difference, off)| *off |= !difference.is_empty());
        });
        let off = self.others.iter().zip(off).filter(|(_, off)| *off);
        off.map(|((position, _), _)| *position).collect()
    }

    /// Positions of the shares that are compared.
    pub(super) fn positions(&self) -> impl Iterator<Item = u8> {
        self.others.iter().map(|(position, _)| *position)
    }

    /// Shows each strip in which some share differs: for each share in turn its difference, or nothing where that
    /// is zero. The last strip may be shorter.
    pub(super) fn for_each_difference(&self, mut show: impl FnMut(&[&[u8]])) {
        let len = self.inside.first().map_or(0, |share| share.len());
        let mut strips = vec![vec![0; len.min(STRIP_BYTES)]; self.others.len()];
        for start in (0..len).step_by(STRIP_BYTES) {
            let range = start..len.min(start + STRIP_BYTES);
            let inputs: Vec<&[u8]> = self.inside.iter().map(|share| &share[range.clone()]).collect();
            let texts = self.others.iter().zip(&self.rows).zip(&mut strips);
            let mut rows: Vec<Row<'_>> = texts
                .map(|(((_, share), coefficients), strip)| Row {
                    coefficients,
                    start: Start::Text(&share[range.clone()]),
                    output: &mut strip[..range.len()],
                })
                .collect();
            Kernel::detect().rows(&inputs, &mut rows);
            let differences = strips.iter().map(|strip| &strip[..range.len()]);
            let differences: Vec<&[u8]> =
                differences.map(|strip| if is_zero(strip) { &[] } else { strip }).collect();
            if differences.iter().any(|difference| !difference.is_empty()) {
                show(&differences);
            }
        }
    }
}

/// Whether all bytes are zero, looked at many at once.
fn is_zero(text: &[u8]) -> bool {
    let (chunks, rest) = text.as_chunks::<128>();
    let zero = |chunk: &[u8; 128]| chunk.iter().fold(0, |all, byte| all | byte) == 0;
    chunks.iter().all(zero) && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_bytes_do_not_cancel_out() {
        for len in [2, 127, 128, 129, 300] {
            assert!(is_zero(&vec![0; len]));
            for at in [0, len / 2, len - 1] {
                let mut text = vec![0; len];
                text[at] = 0x41;
                assert!(!is_zero(&text), "byte {at} of {len}");
                text[len - 1 - at] = 0x41;
                assert!(!is_zero(&text), "two bytes of {len}");
            }
            assert!(!is_zero(&vec![0x41; len]));
        }
    }
}
