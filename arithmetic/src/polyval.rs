//! POLYVAL (RFC 8452) of whole texts under a key that is used once, by the fastest way that the processor has.
//!
//! Everything is known before the hash begins, so that only as many powers of the key are made as pay for
//! themselves: one costs as much as some blocks, and no key is used twice. No branch and no address may depend on
//! the key or a text; lengths are public. What is derived from the key is erased.

#[cfg(target_arch = "x86_64")]
mod pclmul;
#[cfg(target_arch = "x86_64")]
mod vpclmul;

use ::polyval::{Key, Polyval, universal_hash::UniversalHash};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a block, of the key and of the hash.
const BLOCK_BYTES: usize = 16;

/// A block.
type Block = [u8; BLOCK_BYTES];

/// A way to compute the hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kernel {
    /// The `polyval` crate, which knows some processors' instructions, and does without.
    Portable,
    /// 8 blocks for each reduction, one product at once.
    #[cfg(target_arch = "x86_64")]
    Pclmul,
    /// 8 or 32 blocks for each reduction, two products at once.
    #[cfg(target_arch = "x86_64")]
    Vpclmul,
}

/// `POLYVAL_key(pad16(texts[0]) ‖ pad16(texts[1]) ‖ …)`, each text padded with zeros to whole blocks.
pub fn hash(key: &Block, texts: &[&[u8]]) -> Zeroizing<Block> {
    hash_with(Kernel::detect(), key, texts)
}

fn hash_with(kernel: Kernel, key: &Block, texts: &[&[u8]]) -> Zeroizing<Block> {
    Zeroizing::new(match kernel {
        Kernel::Portable => portable(key, texts),
        #[cfg(target_arch = "x86_64")]
        Kernel::Pclmul => pclmul::hash(key, texts),
        #[cfg(target_arch = "x86_64")]
        Kernel::Vpclmul => vpclmul::hash(key, texts),
    })
}

impl Kernel {
    /// The fastest that this processor has.
    fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if vpclmul::is_available() {
            return Self::Vpclmul;
        } else if pclmul::is_available() {
            return Self::Pclmul;
        }
        Self::Portable
    }
}

fn portable(key: &Block, texts: &[&[u8]]) -> Block {
    let mut point = Key::default();
    point.copy_from_slice(key);
    let mut hash = Polyval::new(&point);
    point.as_mut_slice().zeroize();
    for text in texts {
        hash.update_padded(text);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    /// What this processor can run, besides the crate.
    fn kernels() -> Vec<Kernel> {
        #[cfg(target_arch = "x86_64")]
        {
            let available =
                [(Kernel::Pclmul, pclmul::is_available()), (Kernel::Vpclmul, vpclmul::is_available())];
            available.iter().filter(|(_, is_available)| *is_available).map(|(kernel, _)| *kernel).collect()
        }
        #[cfg(not(target_arch = "x86_64"))]
        Vec::new()
    }

    fn random(len: usize, rng: &mut StdRng) -> Vec<u8> {
        let mut bytes = vec![0; len];
        rng.fill_bytes(&mut bytes);
        bytes
    }

    #[test]
    fn all_kernels_agree_at_every_length_and_alignment() {
        let rng = &mut StdRng::seed_from_u64(1);
        for len in (0..700).chain([2047, 2048, 2049, 4096, 5000, 70_000]) {
            let (buffer, mut key) = (random(len + 64, rng), [0; BLOCK_BYTES]);
            rng.fill_bytes(&mut key);
            let text = &buffer[len % 64..][..len];
            let expected = portable(&key, &[text]);
            for kernel in kernels() {
                assert_eq!(*hash_with(kernel, &key, &[text]), expected, "{kernel:?}: {len} bytes");
            }
        }
    }

    #[test]
    fn keys_and_texts_of_few_bits_are_no_exception() {
        let texts = [[0; 320], [0xff; 320], [1; 320]];
        for key in [[0; 16], [0xff; 16], (1_u128 << 127).to_le_bytes(), 1_u128.to_le_bytes()] {
            for text in &texts {
                for kernel in kernels() {
                    assert_eq!(*hash_with(kernel, &key, &[text]), portable(&key, &[text]), "{kernel:?}");
                }
            }
        }
    }

    /// Appendix A of RFC 8452.
    #[test]
    fn the_example_of_the_rfc_comes_out() {
        let bytes = |hex: &str| -> Vec<u8> {
            (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).expect("hex")).collect()
        };
        let key: Block = bytes("25629347589242761d31f826ba4b757b").try_into().expect("a block");
        let text = bytes("4f4f95668c83dfb6401762bb2d01a262d1a24ddd2721d006bbe45f20d3c9f362");
        let expected = bytes("f7a3b47b846119fae5b7866cf5e5b77e");
        for kernel in kernels().into_iter().chain([Kernel::Portable]) {
            assert_eq!(hash_with(kernel, &key, &[&text]).as_slice(), expected, "{kernel:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn texts_are_padded_one_by_one(seed: u64, lengths in prop::collection::vec(0_usize..900, 0..5)) {
            let rng = &mut StdRng::seed_from_u64(seed);
            let mut key = [0; BLOCK_BYTES];
            rng.fill_bytes(&mut key);
            let texts: Vec<Vec<u8>> = lengths.iter().map(|len| random(*len, rng)).collect();
            let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
            let expected = portable(&key, &texts);
            for kernel in kernels() {
                prop_assert_eq!(*hash_with(kernel, &key, &texts), expected, "{:?}", kernel);
            }
        }
    }
}
