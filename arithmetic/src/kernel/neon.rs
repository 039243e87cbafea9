//! NEON: each half of a byte selects one of 16 products, 16 bytes at once (TBL).
//!
//! The selection is inside a register: no address depends on a byte of a text.

#![allow(unsafe_code, reason = "vector instructions")]
#![allow(
    clippy::needless_range_loop,
    reason = "closures are compiled without the instructions of the kernel"
)]

use std::arch::aarch64::{
    uint8x16_t, vandq_u8, vdupq_n_u8, veorq_u8, vld1q_u8, vqtbl1q_u8, vshrq_n_u8, vst1q_u8,
};

use super::{
    Row,
    blocks::{self, Multiplier},
    nibbles::{self, Nibbles},
};

/// Computes rows over the first `len` bytes of all texts, on a processor that has NEON.
pub(super) fn rows(inputs: &[&[u8]], rows: &mut [Row<'_>], len: usize) {
    let detected = std::arch::is_aarch64_feature_detected!("neon");
    assert!(detected, "the kernel is chosen by what the processor has");
    assert!(inputs.iter().all(|input| input.len() >= len) && rows.iter().all(|row| row.len() >= len));
    // SAFETY: both were asserted.
    unsafe { with_neon(inputs, rows, len) }
}

/// # Safety
/// The processor has NEON; no text is shorter than `len`.
#[target_feature(enable = "neon")]
unsafe fn with_neon(inputs: &[&[u8]], rows: &mut [Row<'_>], len: usize) {
    // SAFETY: as the caller vouches for.
    unsafe { blocks::rows::<Neon>(inputs, rows, len) }
}

struct Neon;

impl Multiplier for Neon {
    type Factor = Nibbles;
    type Vector = [uint8x16_t; 4];
    /// The low halves and the high halves of the bytes.
    type Operand = [[uint8x16_t; 4]; 2];
    const DEAR: bool = true;
    const GROUP_ROWS_MAX: usize = 5;

    #[inline(always)]
    fn factor(coefficient: u8) -> Nibbles {
        nibbles::of(coefficient)
    }

    #[inline(always)]
    unsafe fn zero() -> Self::Vector {
        // SAFETY: the caller vouches for NEON.
        unsafe { [vdupq_n_u8(0); 4] }
    }

    #[inline(always)]
    unsafe fn load(text: *const u8) -> Self::Vector {
        // SAFETY: the caller vouches for NEON and for 64 bytes.
        unsafe { [vld1q_u8(text), vld1q_u8(text.add(16)), vld1q_u8(text.add(32)), vld1q_u8(text.add(48))] }
    }

    #[inline(always)]
    unsafe fn store(text: *mut u8, vector: Self::Vector) {
        for i in 0..4 {
            // SAFETY: the caller vouches for NEON and for 64 bytes.
            unsafe { vst1q_u8(text.add(16 * i), vector[i]) };
        }
    }

    #[inline(always)]
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        let mut sum = a;
        for i in 0..4 {
            // SAFETY: the caller vouches for NEON.
            sum[i] = unsafe { veorq_u8(a[i], b[i]) };
        }
        sum
    }

    #[inline(always)]
    unsafe fn operand(vector: Self::Vector) -> Self::Operand {
        // SAFETY: the caller vouches for NEON.
        unsafe {
            let half = vdupq_n_u8(0x0f);
            let mut operand = [vector, vector];
            for i in 0..4 {
                operand[0][i] = vandq_u8(vector[i], half);
                operand[1][i] = vshrq_n_u8::<4>(vector[i]);
            }
            operand
        }
    }

    #[inline(always)]
    unsafe fn add_product(sum: Self::Vector, factor: &Nibbles, operand: Self::Operand) -> Self::Vector {
        // SAFETY: the caller vouches for NEON; each table is 16 bytes.
        unsafe {
            let (low, high) = (vld1q_u8(factor.low.as_ptr()), vld1q_u8(factor.high.as_ptr()));
            let mut sum = sum;
            for i in 0..4 {
                let product = veorq_u8(vqtbl1q_u8(low, operand[0][i]), vqtbl1q_u8(high, operand[1][i]));
                sum[i] = veorq_u8(sum[i], product);
            }
            sum
        }
    }
}
