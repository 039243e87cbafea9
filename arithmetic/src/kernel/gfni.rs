//! GFNI: the processor multiplies in GF(2^8) with this very polynomial, 0x11B, 32 bytes at once (GF2P8MULB).
//!
//! Tests run it only where the processor has it; its walk over the texts is the one that AVX2 is tested with, and a
//! product is one instruction.

#![allow(unsafe_code, reason = "vector instructions")]

use std::arch::x86_64::{_mm256_gf2p8mul_epi8, _mm256_set1_epi8};

use super::{
    Row,
    avx2::Avx2,
    blocks::{self, Multiplier},
};

/// Computes rows over the first `len` bytes of all texts, on a processor that has GFNI and AVX2.
pub(super) fn rows(inputs: &[&[u8]], rows: &mut [Row<'_>], len: usize) {
    let detected = is_x86_feature_detected!("gfni") && is_x86_feature_detected!("avx2");
    assert!(detected, "the kernel is chosen by what the processor has");
    assert!(inputs.iter().all(|input| input.len() >= len) && rows.iter().all(|row| row.len() >= len));
    // SAFETY: both were asserted.
    unsafe { with_gfni(inputs, rows, len) }
}

/// # Safety
/// The processor has GFNI and AVX2; no text is shorter than `len`.
#[target_feature(enable = "gfni,avx2")]
unsafe fn with_gfni(inputs: &[&[u8]], rows: &mut [Row<'_>], len: usize) {
    // SAFETY: as the caller vouches for.
    unsafe {
        if blocks::are_far(inputs.len() + rows.len(), len) {
            blocks::rows::<Gfni<true>>(inputs, rows, len);
        } else {
            blocks::rows::<Gfni<false>>(inputs, rows, len);
        }
    }
}

/// `FAR` is whether the texts are [far](blocks::are_far).
struct Gfni<const FAR: bool>;

impl<const FAR: bool> Multiplier for Gfni<FAR> {
    /// The coefficient itself: one instruction loads it into every byte of a register.
    type Factor = u8;
    /// The registers are those of AVX2.
    type Vector = <Avx2<FAR> as Multiplier>::Vector;
    type Operand = Self::Vector;
    const DEAR: bool = false;
    const GROUP_ROWS_MAX: usize = 5;

    #[inline(always)]
    fn factor(coefficient: u8) -> u8 {
        coefficient
    }

    #[inline(always)]
    fn prefetch(place: *const u8) {
        Avx2::<FAR>::prefetch(place);
    }

    #[inline(always)]
    unsafe fn zero() -> Self::Vector {
        // SAFETY: as the caller vouches for.
        unsafe { Avx2::<FAR>::zero() }
    }

    #[inline(always)]
    unsafe fn load(text: *const u8) -> Self::Vector {
        // SAFETY: as the caller vouches for.
        unsafe { Avx2::<FAR>::load(text) }
    }

    #[inline(always)]
    unsafe fn store(text: *mut u8, vector: Self::Vector) {
        // SAFETY: as the caller vouches for.
        unsafe { Avx2::<FAR>::store(text, vector) }
    }

    #[inline(always)]
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: as the caller vouches for.
        unsafe { Avx2::<FAR>::add(a, b) }
    }

    #[inline(always)]
    unsafe fn operand(vector: Self::Vector) -> Self::Operand {
        vector
    }

    #[inline(always)]
    unsafe fn add_product(sum: Self::Vector, factor: &u8, operand: Self::Operand) -> Self::Vector {
        // SAFETY: the caller vouches for GFNI and AVX2.
        unsafe {
            let factor = _mm256_set1_epi8(factor.cast_signed());
            let products =
                [_mm256_gf2p8mul_epi8(operand[0], factor), _mm256_gf2p8mul_epi8(operand[1], factor)];
            Self::add(sum, products)
        }
    }
}
