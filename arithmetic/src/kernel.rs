//! Rows of coefficients over long runs of bytes (§2.5), by the fastest kernel that the processor has.
//!
//! A row is `output = start ⊕ Σ_j coefficient_j · input_j` over GF(2^8), byte by byte. All rows of a call go over
//! the inputs together, strip by strip, so that each input is read from memory once and each output written once.
//! Coefficients and lengths are public; no branch and no address may depend on the bytes of an input, an output or
//! a start. All kernels give the same bytes; which one runs is found out once per process.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod blocks;
#[cfg(target_arch = "x86_64")]
mod gfni;
#[cfg(target_arch = "aarch64")]
mod neon;
pub(crate) mod nibbles;
mod portable;

use crate::wiped::clear_stack;
#[cfg(target_arch = "x86_64")]
use crate::without_gfni;

/// More than any kernel uses of the stack.
const STACK_BYTES: usize = 6 << 10;

/// What the sum of a row is added to.
pub enum Start<'a> {
    /// Nothing: whatever the output holds is overwritten, and not read.
    Zero,
    /// The output's own bytes.
    Output,
    /// Another text of the same length.
    Text(&'a [u8]),
}

/// One row: where its sum goes.
pub struct Row<'a> {
    /// One for each input.
    pub coefficients: &'a [u8],
    /// What the sum is added to.
    pub start: Start<'a>,
    /// As long as the inputs.
    pub output: &'a mut [u8],
}

impl Row<'_> {
    /// Bytes that the row can be computed over.
    fn len(&self) -> usize {
        match self.start {
            Start::Text(text) => text.len().min(self.output.len()),
            Start::Zero | Start::Output => self.output.len(),
        }
    }
}

/// A way to compute rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kernel {
    /// Doublings and additions, for any processor.
    Portable,
    /// Tables of 16 products for each half of a byte, 32 bytes at once.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// The processor's own multiplication in GF(2^8), 32 bytes at once.
    #[cfg(target_arch = "x86_64")]
    Gfni,
    /// Tables of 16 products for each half of a byte, 16 bytes at once.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Kernel {
    /// The fastest that this processor has.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            let gfni = is_x86_feature_detected!("gfni") && !without_gfni::chosen();
            return if gfni { Self::Gfni } else { Self::Avx2 };
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            return Self::Neon;
        }
        Self::Portable
    }

    /// Computes rows over inputs. What texts have beyond the shortest one is left alone, a coefficient that is
    /// missing counts as zero and one too many is ignored: [`crate::sharing::Scheme`] checks that there is none of
    /// this.
    pub fn rows(self, inputs: &[&[u8]], rows: &mut [Row<'_>]) {
        let lengths = rows.iter().map(Row::len).chain(inputs.iter().map(|input| input.len()));
        let len = lengths.min().unwrap_or(0);
        match self {
            Self::Portable => portable::rows(inputs, rows, len),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::rows(inputs, rows, len),
            #[cfg(target_arch = "x86_64")]
            Self::Gfni => gfni::rows(inputs, rows, len),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => neon::rows(inputs, rows, len),
        }
        // Of the inputs and sums that a kernel puts there while it goes over blocks.
        clear_stack::<STACK_BYTES>();
    }
}

#[cfg(test)]
mod tests;
