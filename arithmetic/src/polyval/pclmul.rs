//! POLYVAL by PCLMULQDQ: the products of 8 blocks with powers of the key are added up before one reduction.
//!
//! A product is three multiplications of 64 bits (Karatsuba). Field elements are in Montgomery form, as RFC 8452 has
//! them: a reduction divides by x^128 (Gueron, Langley and Lindell, "AES-GCM-SIV: Specification and Analysis").

#![allow(unsafe_code, reason = "vector instructions")]

use std::arch::x86_64::{
    __m128i, _mm_bslli_si128, _mm_bsrli_si128, _mm_clmulepi64_si128, _mm_loadu_si128, _mm_set_epi64x,
    _mm_setzero_si128, _mm_shuffle_epi32, _mm_storeu_si128, _mm_xor_si128,
};

use zeroize::Zeroize;

use super::{BLOCK_BYTES, Block};
use crate::wiped::clear_stack;

/// More than the hash uses of the stack.
const STACK_BYTES: usize = 3072;

/// Powers of the key, and blocks for each reduction.
const POWERS: usize = 8;

/// Whether the processor has what [`hash`] needs.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("pclmulqdq") && is_x86_feature_detected!("sse2")
}

/// The hash of texts, on a processor that has PCLMULQDQ.
pub(super) fn hash(key: &Block, texts: &[&[u8]]) -> Block {
    assert!(is_available(), "the kernel is chosen by what the processor has");
    // SAFETY: this was asserted.
    let hash = unsafe { with_pclmul(key, texts) };
    clear_stack::<STACK_BYTES>();
    hash
}

#[target_feature(enable = "pclmulqdq,sse2")]
fn with_pclmul(key: &Block, texts: &[&[u8]]) -> Block {
    let mut powers = [[0; BLOCK_BYTES]; POWERS];
    let key = load(key);
    let mut power = key;
    for place in powers.iter_mut().rev() {
        store(place, power);
        power = multiply(power, key);
    }
    let mut state = _mm_setzero_si128();
    for text in texts {
        let (blocks, rest) = text.as_chunks();
        for blocks in blocks.chunks(POWERS) {
            state = add_blocks(state, blocks, &powers);
        }
        if !rest.is_empty() {
            let mut block = [0; BLOCK_BYTES];
            block[..rest.len()].copy_from_slice(rest);
            state = add_blocks(state, &[block], &powers);
            block.as_mut_slice().zeroize();
        }
    }
    powers.as_flattened_mut().zeroize();
    let mut hash = [0; BLOCK_BYTES];
    store(&mut hash, state);
    hash
}

/// Takes in as many blocks as there are powers, or fewer. `powers` ends with the first one.
#[target_feature(enable = "pclmulqdq,sse2")]
#[inline]
fn add_blocks(mut state: __m128i, blocks: &[Block], powers: &[Block; POWERS]) -> __m128i {
    let mut sum = [_mm_setzero_si128(); 3];
    for (block, power) in blocks.iter().zip(&powers[POWERS - blocks.len()..]) {
        // The state goes with the first block.
        add_product(&mut sum, _mm_xor_si128(load(block), state), load(power));
        state = _mm_setzero_si128();
    }
    reduce(sum)
}

/// `a · b / x^128`.
#[target_feature(enable = "pclmulqdq,sse2")]
#[inline]
pub(super) fn multiply(a: __m128i, b: __m128i) -> __m128i {
    let mut sum = [_mm_setzero_si128(); 3];
    add_product(&mut sum, a, b);
    reduce(sum)
}

/// Adds the product of the low halves, of the sums of halves, and of the high halves.
#[target_feature(enable = "pclmulqdq,sse2")]
#[inline]
fn add_product(sum: &mut [__m128i; 3], a: __m128i, b: __m128i) {
    sum[0] = _mm_xor_si128(sum[0], _mm_clmulepi64_si128::<0x00>(a, b));
    sum[1] = _mm_xor_si128(sum[1], _mm_clmulepi64_si128::<0x00>(fold(a), fold(b)));
    sum[2] = _mm_xor_si128(sum[2], _mm_clmulepi64_si128::<0x11>(a, b));
}

/// The sum of the two halves, in both of them.
#[target_feature(enable = "sse2")]
#[inline]
fn fold(a: __m128i) -> __m128i {
    _mm_xor_si128(a, _mm_shuffle_epi32::<0x4e>(a))
}

/// What three sums of products stand for, divided by x^128.
#[target_feature(enable = "pclmulqdq,sse2")]
#[inline]
pub(super) fn reduce([low, middle, high]: [__m128i; 3]) -> __m128i {
    let middle = _mm_xor_si128(middle, _mm_xor_si128(low, high));
    let low = _mm_xor_si128(low, _mm_bslli_si128::<8>(middle));
    let high = _mm_xor_si128(high, _mm_bsrli_si128::<8>(middle));
    // x^128 + x^127 + x^126 + x^121 + 1 without its ends, and without the factor x^64 of the rest.
    let polynomial = _mm_set_epi64x(0, 0xc200_0000_0000_0000_u64.cast_signed());
    let fold = |low| {
        let product = _mm_clmulepi64_si128::<0x00>(low, polynomial);
        _mm_xor_si128(_mm_shuffle_epi32::<0x4e>(low), product)
    };
    _mm_xor_si128(high, fold(fold(low)))
}

#[target_feature(enable = "sse2")]
#[inline]
pub(super) fn load(block: &Block) -> __m128i {
    // SAFETY: it reads the 16 bytes of a block, aligned in any way.
    unsafe { _mm_loadu_si128(block.as_ptr().cast()) }
}

#[target_feature(enable = "sse2")]
#[inline]
pub(super) fn store(block: &mut Block, value: __m128i) {
    // SAFETY: it writes the 16 bytes of a block, aligned in any way.
    unsafe { _mm_storeu_si128(block.as_mut_ptr().cast(), value) }
}
