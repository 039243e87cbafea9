//! AVX2: each half of a byte selects one of 16 products, 32 bytes at once (PSHUFB; Plank, Greenan and Miller,
//! "Screaming Fast Galois Field Arithmetic Using Intel SIMD Instructions").
//!
//! The selection is inside a register: no address depends on a byte of a text.

#![allow(unsafe_code, reason = "vector instructions")]

use std::arch::x86_64::{
    __m256i, _MM_HINT_T0, _mm_load_si128, _mm_prefetch, _mm256_and_si256, _mm256_broadcastsi128_si256,
    _mm256_loadu_si256, _mm256_set1_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi16,
    _mm256_storeu_si256, _mm256_xor_si256,
};

use super::{
    Row,
    blocks::{self, Multiplier},
    nibbles::{self, Nibbles},
};

/// Computes rows over the first `len` bytes of all texts, on a processor that has AVX2.
pub(super) fn rows(inputs: &[&[u8]], rows: &mut [Row<'_>], len: usize) {
    assert!(is_x86_feature_detected!("avx2"), "the kernel is chosen by what the processor has");
    assert!(inputs.iter().all(|input| input.len() >= len) && rows.iter().all(|row| row.len() >= len));
    // SAFETY: both were asserted.
    unsafe { with_avx2(inputs, rows, len) }
}

/// # Safety
/// The processor has AVX2; no text is shorter than `len`.
#[target_feature(enable = "avx2")]
unsafe fn with_avx2(inputs: &[&[u8]], rows: &mut [Row<'_>], len: usize) {
    // SAFETY: as the caller vouches for.
    unsafe {
        if blocks::are_far(inputs.len() + rows.len(), len) {
            blocks::rows::<Avx2<true>>(inputs, rows, len);
        } else {
            blocks::rows::<Avx2<false>>(inputs, rows, len);
        }
    }
}

/// `FAR` is whether the texts are [far](blocks::are_far).
pub(super) struct Avx2<const FAR: bool>;

impl<const FAR: bool> Multiplier for Avx2<FAR> {
    type Factor = Nibbles;
    type Vector = [__m256i; 2];
    /// The low halves and the high halves of the bytes.
    type Operand = [[__m256i; 2]; 2];
    const DEAR: bool = true;
    const GROUP_ROWS_MAX: usize = 4;

    #[inline(always)]
    fn factor(coefficient: u8) -> Nibbles {
        nibbles::of(coefficient)
    }

    #[inline(always)]
    fn prefetch(place: *const u8) {
        if FAR {
            // SAFETY: a hint, which every processor of this architecture takes and which faults at no address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) }
        }
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
        // SAFETY: the caller vouches for AVX2.
        unsafe {
            let half = _mm256_set1_epi8(0x0f);
            let low = [_mm256_and_si256(vector[0], half), _mm256_and_si256(vector[1], half)];
            let high = [_mm256_srli_epi16::<4>(vector[0]), _mm256_srli_epi16::<4>(vector[1])];
            [low, [_mm256_and_si256(high[0], half), _mm256_and_si256(high[1], half)]]
        }
    }

    #[inline(always)]
    unsafe fn add_product(sum: Self::Vector, factor: &Nibbles, operand: Self::Operand) -> Self::Vector {
        // SAFETY: the caller vouches for AVX2; each table is 16 bytes, aligned to 16.
        unsafe {
            let low = _mm256_broadcastsi128_si256(_mm_load_si128(factor.low.as_ptr().cast()));
            let high = _mm256_broadcastsi128_si256(_mm_load_si128(factor.high.as_ptr().cast()));
            let mut sum = sum;
            for i in 0..2 {
                let low = _mm256_shuffle_epi8(low, operand[0][i]);
                let high = _mm256_shuffle_epi8(high, operand[1][i]);
                sum[i] = _mm256_xor_si256(sum[i], _mm256_xor_si256(low, high));
            }
            sum
        }
    }
}
