//! POLYVAL by VPCLMULQDQ on 256 bits: the products of up to 32 blocks with powers of the key are added up, two blocks
//! at once, before one reduction.
//!
//! The arithmetic is that of `pclmul`. The halves of the powers are added up beforehand.

#![allow(unsafe_code, reason = "vector instructions")]

use std::arch::x86_64::{
    __m128i, __m256i, _mm_setzero_si128, _mm_xor_si128, _mm256_broadcastsi128_si256, _mm256_bslli_epi128,
    _mm256_bsrli_epi128, _mm256_castsi256_si128, _mm256_clmulepi64_epi128, _mm256_extracti128_si256,
    _mm256_loadu_si256, _mm256_set_m128i, _mm256_set1_epi64x, _mm256_setzero_si256, _mm256_shuffle_epi32,
    _mm256_storeu_si256, _mm256_xor_si256, _mm256_zextsi128_si256,
};

use zeroize::Zeroize;

use super::{
    BLOCK_BYTES, Block,
    pclmul::{load, multiply, reduce, store},
};
use crate::wiped::clear_stack;

/// More than the hash uses of the stack.
const STACK_BYTES: usize = 3072;

/// Most powers of the key, and blocks for each reduction.
const POWERS_MAX: usize = 32;

/// Powers that are always made; the others pay for themselves in long texts.
const POWERS_MIN: usize = 8;

/// Bytes of all texts from which on all powers are made.
const LONG_BYTES: usize = 2048;

/// Two blocks, one register.
type Pair = [Block; 2];

/// Whether the processor has what [`hash`] needs.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("vpclmulqdq")
        && is_x86_feature_detected!("pclmulqdq")
        && is_x86_feature_detected!("avx2")
}

/// The hash of texts, on a processor that has VPCLMULQDQ and AVX2.
pub(super) fn hash(key: &Block, texts: &[&[u8]]) -> Block {
    assert!(is_available(), "the kernel is chosen by what the processor has");
    // SAFETY: this was asserted.
    let hash = unsafe { with_vpclmul(key, texts) };
    clear_stack::<STACK_BYTES>();
    hash
}

#[target_feature(enable = "vpclmulqdq,pclmulqdq,avx2")]
fn with_vpclmul(key: &Block, texts: &[&[u8]]) -> Block {
    let bytes = texts.iter().fold(0_usize, |sum, text| sum.saturating_add(text.len()));
    let powers = Powers::new(key, bytes >= LONG_BYTES);
    let mut state = _mm_setzero_si128();
    for text in texts {
        let (blocks, rest) = text.as_chunks();
        let mut blocks: &[Block] = blocks;
        if powers.count == POWERS_MAX {
            let (long, others) = blocks.as_chunks::<POWERS_MAX>();
            for blocks in long {
                state = add_blocks(state, blocks, &powers);
            }
            blocks = others;
        }
        let (short, others) = blocks.as_chunks::<POWERS_MIN>();
        for blocks in short {
            state = add_blocks(state, blocks, &powers);
        }
        if !others.is_empty() {
            state = add_blocks(state, others, &powers);
        }
        if !rest.is_empty() {
            let mut block = [0; BLOCK_BYTES];
            block[..rest.len()].copy_from_slice(rest);
            state = add_blocks(state, &[block], &powers);
            block.as_mut_slice().zeroize();
        }
    }
    let mut hash = [0; BLOCK_BYTES];
    store(&mut hash, state);
    hash
}

/// Powers of the key, the highest first; the last is the key itself. Those that are not made are zero. Erased on drop.
#[repr(C, align(32))]
struct Powers {
    powers: [Block; POWERS_MAX],
    /// Of each power the sum of its halves, in both halves.
    folded: [Block; POWERS_MAX],
    count: usize,
}

impl Drop for Powers {
    fn drop(&mut self) {
        // As bytes of one slice, which are erased many at once; in nested arrays it would be one after the other.
        let unused = POWERS_MAX - self.count;
        self.powers[unused..].as_flattened_mut().zeroize();
        self.folded[unused..].as_flattened_mut().zeroize();
    }
}

impl Powers {
    #[target_feature(enable = "vpclmulqdq,pclmulqdq,avx2")]
    fn new(key: &Block, all: bool) -> Self {
        let count = if all { POWERS_MAX } else { POWERS_MIN };
        let mut powers =
            Self { powers: [[0; BLOCK_BYTES]; POWERS_MAX], folded: [[0; BLOCK_BYTES]; POWERS_MAX], count };
        let first = load(key);
        let second = multiply(first, first);
        powers.set(1, _mm256_set_m128i(first, second));
        // With the first 2, 4, 8 and 16, all of them times the highest are as many again.
        let mut done = 2;
        while done < count {
            let highest = _mm256_broadcastsi128_si256(load(&powers.powers[POWERS_MAX - done]));
            for pair in 1..=done / 2 {
                powers.set(pair + done / 2, multiply_pair(powers.get(pair), highest));
            }
            done *= 2;
        }
        powers
    }

    /// Powers 2 · pair and 2 · pair − 1.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn get(&self, pair: usize) -> __m256i {
        load_pair(&self.powers.as_chunks().0[POWERS_MAX / 2 - pair])
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn set(&mut self, pair: usize, value: __m256i) {
        let place = POWERS_MAX / 2 - pair;
        store_pair(&mut self.powers.as_chunks_mut().0[place], value);
        store_pair(&mut self.folded.as_chunks_mut().0[place], fold(value));
    }
}

/// Takes in as many blocks as there are powers, or fewer, at least one.
#[target_feature(enable = "vpclmulqdq,pclmulqdq,avx2")]
#[inline]
fn add_blocks(state: __m128i, blocks: &[Block], powers: &Powers) -> __m128i {
    let state = _mm256_zextsi128_si256(state);
    let from = POWERS_MAX - blocks.len();
    let (pairs, odd) = blocks.as_chunks::<2>();
    let (power_pairs, _) = powers.powers[from..].as_chunks::<2>();
    let (folded_pairs, _) = powers.folded[from..].as_chunks::<2>();
    let mut sum = [_mm256_setzero_si256(); 3];
    for i in 1..pairs.len() {
        let (power, folded) = (load_pair(&power_pairs[i]), load_pair(&folded_pairs[i]));
        add_product(&mut sum, load_pair(&pairs[i]), power, folded);
    }
    if let [block] = odd {
        let last = POWERS_MAX - 1;
        let (power, folded) = (load(&powers.powers[last]), load(&powers.folded[last]));
        let block = _mm256_zextsi128_si256(load(block));
        let block = if pairs.is_empty() { _mm256_xor_si256(block, state) } else { block };
        add_product(&mut sum, block, _mm256_zextsi128_si256(power), _mm256_zextsi128_si256(folded));
    }
    // The state goes with the first block; last, so that everything else need not wait for it.
    if let Some(pair) = pairs.first() {
        let (power, folded) = (load_pair(&power_pairs[0]), load_pair(&folded_pairs[0]));
        add_product(&mut sum, _mm256_xor_si256(load_pair(pair), state), power, folded);
    }
    reduce([add_lanes(sum[0]), add_lanes(sum[1]), add_lanes(sum[2])])
}

/// Adds the products of two blocks: of the low halves, of the sums of halves, and of the high halves.
#[target_feature(enable = "vpclmulqdq,avx2")]
#[inline]
fn add_product(sum: &mut [__m256i; 3], blocks: __m256i, power: __m256i, folded: __m256i) {
    sum[0] = _mm256_xor_si256(sum[0], _mm256_clmulepi64_epi128::<0x00>(blocks, power));
    sum[1] = _mm256_xor_si256(sum[1], _mm256_clmulepi64_epi128::<0x00>(fold(blocks), folded));
    sum[2] = _mm256_xor_si256(sum[2], _mm256_clmulepi64_epi128::<0x11>(blocks, power));
}

/// `a · b / x^128` for each of two pairs of elements.
#[target_feature(enable = "vpclmulqdq,avx2")]
#[inline]
fn multiply_pair(a: __m256i, b: __m256i) -> __m256i {
    let mut sum = [_mm256_setzero_si256(); 3];
    add_product(&mut sum, a, b, fold(b));
    let [low, middle, high] = sum;
    let middle = _mm256_xor_si256(middle, _mm256_xor_si256(low, high));
    let low = _mm256_xor_si256(low, _mm256_bslli_epi128::<8>(middle));
    let high = _mm256_xor_si256(high, _mm256_bsrli_epi128::<8>(middle));
    let polynomial = _mm256_set1_epi64x(0xc200_0000_0000_0000_u64.cast_signed());
    let reduced = |low| {
        let product = _mm256_clmulepi64_epi128::<0x00>(low, polynomial);
        _mm256_xor_si256(_mm256_shuffle_epi32::<0x4e>(low), product)
    };
    _mm256_xor_si256(high, reduced(reduced(low)))
}

/// The sum of the two halves of each element, in both of them.
#[target_feature(enable = "avx2")]
#[inline]
fn fold(a: __m256i) -> __m256i {
    _mm256_xor_si256(a, _mm256_shuffle_epi32::<0x4e>(a))
}

/// The sum of the two elements.
#[target_feature(enable = "avx2")]
#[inline]
fn add_lanes(a: __m256i) -> __m128i {
    _mm_xor_si128(_mm256_castsi256_si128(a), _mm256_extracti128_si256::<1>(a))
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_pair(pair: &Pair) -> __m256i {
    // SAFETY: it reads the 32 bytes of two blocks, aligned in any way.
    unsafe { _mm256_loadu_si256(pair.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store_pair(pair: &mut Pair, value: __m256i) {
    // SAFETY: it writes the 32 bytes of two blocks, aligned in any way.
    unsafe { _mm256_storeu_si256(pair.as_mut_ptr().cast(), value) }
}

#[cfg(test)]
mod tests {
    use std::{mem::MaybeUninit, ptr};

    use super::*;

    #[test]
    fn powers_are_erased_when_they_go() {
        if !is_available() {
            return;
        }
        for all in [false, true] {
            let mut place = Box::new(MaybeUninit::<Powers>::uninit());
            // SAFETY: the processor has the instructions.
            place.write(unsafe { Powers::new(&[7; BLOCK_BYTES], all) });
            let powers: *mut Powers = place.as_mut_ptr();
            // SAFETY: it has been written, is dropped once, and its memory stays; what is read is bytes.
            let left = unsafe {
                ptr::drop_in_place(powers);
                [(*powers).powers, (*powers).folded]
            };
            assert!(left.as_flattened().as_flattened().iter().all(|byte| *byte == 0), "all: {all}");
        }
    }
}
