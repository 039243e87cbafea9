//! The kernel for any processor: doublings and additions, which compilers turn into vector instructions.

use super::{Row, Start};
use crate::field::double;

/// Bytes that go through the accumulator of a row at once: half the vector registers of the plainest target,
/// so that the accumulator never leaves them.
const BLOCK_BYTES: usize = 128;

/// The same for what is left over, before single bytes.
const REST_BYTES: usize = 16;

/// Bytes of each input that all rows go over before the next strip, so that the inputs are read from
/// memory once.
const STRIP_BYTES: usize = 1024;

/// Computes rows over the first `len` bytes of all texts.
pub(super) fn rows(inputs: &[&[u8]], rows: &mut [Row<'_>], len: usize) {
    let sums: Vec<Sum<'_>> = rows.iter().map(|row| Sum::new(row.coefficients, inputs)).collect();
    for start in (0..len).step_by(STRIP_BYTES) {
        let end = len.min(start + STRIP_BYTES);
        for (sum, row) in sums.iter().zip(rows.iter_mut()) {
            let strip = &mut row.output[start..end];
            match row.start {
                Start::Zero => strip.fill(0),
                Start::Output => {}
                Start::Text(text) => strip.copy_from_slice(&text[start..end]),
            }
            sum.add_strip(start, strip);
        }
    }
}

/// The sum of one row, turned into additions and doublings.
///
/// By Horner's rule over the bits of the coefficients, `Σ_j c_j·y_j` is: start from zero and, for each bit from
/// the highest, double, then add every `y_j` whose coefficient has that bit. So a row costs seven doublings
/// however many inputs it has, and none where all coefficients are 1.
struct Sum<'a> {
    /// The inputs to add, bit after bit from the highest.
    terms: Vec<&'a [u8]>,
    /// For each of these bits, where its inputs end in `terms`.
    ends: Vec<usize>,
}

impl<'a> Sum<'a> {
    fn new(coefficients: &[u8], inputs: &[&'a [u8]]) -> Self {
        let bits = u8::BITS - coefficients.iter().fold(0, |all, c| all | c).leading_zeros();
        // One place more than there can be terms: each input is written, and counted if its bit is set. With
        // random coefficients a branch in its stead would cost more than the sums.
        let mut terms: Vec<&[u8]> = vec![&[]; inputs.len() * 8 + 1];
        let mut ends = Vec::with_capacity(8);
        let mut count = 0;
        for bit in (0..bits).rev() {
            for (coefficient, input) in coefficients.iter().zip(inputs) {
                terms[count] = input;
                count += usize::from(coefficient >> bit & 1);
            }
            ends.push(count);
        }
        terms.truncate(count);
        Self { terms, ends }
    }

    /// Adds the row's sum over `inputs[start..]` to one strip of its output.
    fn add_strip(&self, start: usize, strip: &mut [u8]) {
        let (blocks, tail) = strip.as_chunks_mut::<BLOCK_BYTES>();
        let mut at = start;
        for block in blocks {
            self.add_block(at, block);
            at += BLOCK_BYTES;
        }
        let (blocks, tail) = tail.as_chunks_mut::<REST_BYTES>();
        for block in blocks {
            self.add_block(at, block);
            at += REST_BYTES;
        }
        for byte in tail {
            self.add_block(at, std::array::from_mut(byte));
            at += 1;
        }
    }

    #[inline(always)]
    fn add_block<const N: usize>(&self, at: usize, output: &mut [u8; N]) {
        let mut sum = [0; N];
        let mut start = 0;
        for &end in &self.ends {
            if start > 0 {
                sum = sum.map(double);
            }
            for input in &self.terms[start..end] {
                add(&mut sum, &input[at..at + N]);
            }
            start = end;
        }
        add(output, &sum);
    }
}

#[inline(always)]
fn add<const N: usize>(sum: &mut [u8; N], other: &[u8]) {
    for (byte, other) in sum.iter_mut().zip(other) {
        *byte ^= other;
    }
}
