//! GFNI: the processor multiplies in GF(2^8) with this very polynomial, 0x11B, 32 bytes at once (GF2P8MULB).
//!
//! Tests run it only where the processor has it; its walk over the texts is the one that AVX2 is tested with, and a
//! product is one instruction.

#![allow(unsafe_code, reason = "vector instructions")]

use std::arch::x86_64::{
    __m256i, _mm256_gf2p8mul_epi8, _mm256_loadu_si256, _mm256_set1_epi8, _mm256_setzero_si256,
    _mm256_storeu_si256, _mm256_xor_si256,
};

use super::{
    Row,
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
    unsafe { blocks::rows::<Gfni>(inputs, rows, len) }
}

struct Gfni;

impl Multiplier for Gfni {
    /// The coefficient itself: one instruction loads it into every byte of a register.
    type Factor = u8;
    type Vector = [__m256i; 2];
    type Operand = [__m256i; 2];

    #[inline(always)]
    fn factor(coefficient: u8) -> u8 {
        coefficient
    }

    #[inline(always)]
    unsafe fn zero() -> Self::Vector {
        // SAFETY: the caller vouches for AVX2.
        unsafe { [_mm256_setzero_si256(); 2] }
    }

    #[inline(always)]
    unsafe fn load(text: *const u8) -> Self::Vector {
        // SAFETY: the caller vouches for AVX2 and for 64 bytes.
        unsafe { [_mm256_loadu_si256(text.cast()), _mm256_loadu_si256(text.add(32).cast())] }
    }

    #[inline(always)]
    unsafe fn store(text: *mut u8, vector: Self::Vector) {
        // SAFETY: the caller vouches for AVX2 and for 64 bytes.
        unsafe {
            _mm256_storeu_si256(text.cast(), vector[0]);
            _mm256_storeu_si256(text.add(32).cast(), vector[1]);
        }
    }

    #[inline(always)]
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: the caller vouches for AVX2.
        unsafe { [_mm256_xor_si256(a[0], b[0]), _mm256_xor_si256(a[1], b[1])] }
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
