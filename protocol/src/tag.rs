//! Tags: POLYVAL (RFC 8452) as a one-time universal hash, and the key tag (§2.3, §2.3.2).
//!
//! Both hash the message at a secret point `c` and exclusive-or a secret `d`, each used once. Must never
//! copy or allocate for a message, and must never compare tags itself: verifying is in constant time, in
//! [`crate::pad::TagKey::verify`] for messages and with the caller of [`key_tag`] for keys.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::polyval;

/// Bytes of one POLYVAL block.
const BLOCK_BYTES: u64 = 16;

/// Bytes of a key tag that authenticate context and key; the rest says whether a secret may begin with some u.
pub(crate) const KEY_TAG_MAC_BYTES: usize = 13;

/// What leads a key tag, with a gap of two blocks: the coefficient 1 at the highest degree, then zeros.
const LEAD_OF_THREE: [u8; 48] = {
    let mut lead = [0; 48];
    lead[0] = 1;
    lead
};

/// A tag of r = 128 bits. Public: it travels in the clear beside what it authenticates.
///
/// Equality here is not in constant time: right for grouping tags that were received, wrong for checking
/// one against a tag that was computed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tag([u8; 16]);

impl Tag {
    /// Wraps the bytes of a tag.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes of the tag.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tag(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// The tag of a message (§2.3): `POLYVAL_c(pad16(aad) ‖ pad16(message) ‖ LE64(bits of aad) ‖ LE64(bits of
/// message)) ⊕ d`, with `c = key[0..16]` and `d = key[16..32]`.
///
/// One forgery under a key that was used for one message succeeds with probability at most
/// [`tag_blocks`]` / 2^128`.
pub(crate) fn one_time_tag(key: &[u8; 32], aad: &[u8], message: &[u8]) -> Tag {
    finish(key, &[], aad, message)
}

/// The key tag (§2.3.2), which a receiver checks after reconstructing `u ‖ S`: of `POLYVAL_c(H ‖ pad16(context) ‖
/// pad16(key) ‖ lengths) ⊕ d` the first 13 bytes, with `c = u[0..16]`, `d = u[16..32]`, and of `POLYVAL_c(01 00…00 ‖ 0 ‖ 0)
/// ⊕ d` the last three.
///
/// `H` is the block `01 00…00` and one zero block, or two where the number of blocks would otherwise be
/// even. Since `u` travels inside the linear sharing, liars can shift `u` and the key together by offsets of
/// their choice; a leading 1 at an odd degree with a gap under it makes the tag an algebraic manipulation
/// detection code, so that each such attempt succeeds with probability at most `(blocks − 1) / 2^104`.
///
/// The last three bytes depend on `u` alone. They let a receiver among false shares find u, and with it where the true shares
/// are, without going over the key for every set of shares that it thinks of ([`crate::key_check`]); a shifted `c` passes
/// them with probability at most 2^-23.
pub fn key_tag(u: &[u8; 32], context: &[u8], key: &[u8]) -> Tag {
    let blocks = 2 + tag_blocks(context.len() as u64, key.len() as u64);
    let lead = if blocks.is_multiple_of(2) { &LEAD_OF_THREE[..] } else { &LEAD_OF_THREE[..32] };
    let mut tag = finish(u, lead, context, key);
    tag.0[KEY_TAG_MAC_BYTES..].copy_from_slice(&key_tag_hint(u));
    tag
}

/// The last bytes of a key tag: those that u alone gives.
pub(crate) fn key_tag_hint(u: &[u8; 32]) -> [u8; 16 - KEY_TAG_MAC_BYTES] {
    let ([point, mask], []) = u.as_chunks() else { unreachable!("32 bytes are two blocks") };
    let cube = polyval::hash(point, &[&LEAD_OF_THREE]);
    std::array::from_fn(|i| cube[KEY_TAG_MAC_BYTES + i] ^ mask[KEY_TAG_MAC_BYTES + i])
}

/// The part of a key tag's first bytes that is linear over GF(2) in the secret `u ‖ S` once c is known: all but what the
/// context, the lengths and the leading block add. The first 16 bytes of the secret do not enter.
pub(crate) fn key_tag_linear(point: &[u8; 16], secret: &[u8]) -> [u8; KEY_TAG_MAC_BYTES] {
    let (mask, key) = (secret.get(16..32).unwrap_or_default(), secret.get(32..).unwrap_or_default());
    // The last block holds the lengths, which are not part of it.
    let hash = polyval::hash(point, &[key, &[0; 16]]);
    let mut linear: [u8; KEY_TAG_MAC_BYTES] = std::array::from_fn(|i| hash[i]);
    linear.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    linear
}

/// Number of 16-byte blocks that the tag of a message covers, lengths block included: the s in the
/// forgery bound s/2^128.
pub fn tag_blocks(aad_bytes: u64, message_bytes: u64) -> u64 {
    aad_bytes.div_ceil(BLOCK_BYTES).saturating_add(message_bytes.div_ceil(BLOCK_BYTES)).saturating_add(1)
}

/// The tag of what leads, of both texts and of their lengths: hashed at `c = key[0..16]`, masked with `d = key[16..32]`.
fn finish(key: &[u8; 32], lead: &[u8], aad: &[u8], message: &[u8]) -> Tag {
    let mut lengths = [0; 16];
    lengths[..8].copy_from_slice(&bits(aad).to_le_bytes());
    lengths[8..].copy_from_slice(&bits(message).to_le_bytes());
    let ([point, mask], []) = key.as_chunks() else { unreachable!("32 bytes are two blocks") };
    let hash = polyval::hash(point, &[lead, aad, message, &lengths]);
    Tag(std::array::from_fn(|i| hash[i] ^ mask[i]))
}

/// Length in bits. No slice in memory is long enough to overflow this.
fn bits(text: &[u8]) -> u64 {
    (text.len() as u64).wrapping_mul(8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_count_padding_and_lengths() {
        assert_eq!(tag_blocks(0, 0), 1);
        assert_eq!(tag_blocks(1, 16), 3);
        assert_eq!(tag_blocks(17, 33), 6);
        assert!(tag_blocks(u64::MAX, u64::MAX) > u64::MAX / 16);
    }

    #[test]
    fn aad_and_message_cannot_be_shifted_into_each_other() {
        let key = [3; 32];
        assert_ne!(one_time_tag(&key, b"ab", b"c"), one_time_tag(&key, b"a", b"bc"));
        assert_ne!(one_time_tag(&key, b"a", b""), one_time_tag(&key, b"a\0", b""));
        assert_ne!(key_tag(&key, b"a", b"b"), one_time_tag(&key, b"a", b"b"));
    }

    #[test]
    fn a_key_tag_is_linear_in_the_secret_once_its_point_is_known() {
        let point = [9; 16];
        for len in [1, 16, 40] {
            let secret = |seed: u8| -> Vec<u8> {
                let rest = (0..16 + len).map(|i| u8::try_from(i).unwrap().wrapping_mul(seed) ^ seed);
                point.into_iter().chain(rest).collect()
            };
            let tag = |secret: &[u8]| {
                let (u, key) = secret.split_first_chunk().unwrap();
                *key_tag(u, b"context", key).as_bytes()
            };
            let (a, b) = (secret(3), secret(7));
            let sum: Vec<u8> = a.iter().zip(&b).map(|(a, b)| a ^ b).collect();
            let linear = key_tag_linear(&point, &sum);
            let (tags, linears) =
                ([tag(&a), tag(&b)], [key_tag_linear(&point, &a), key_tag_linear(&point, &b)]);
            for (i, sum) in linear.iter().enumerate().take(KEY_TAG_MAC_BYTES) {
                assert_eq!(tags[0][i] ^ tags[1][i], *sum, "byte {i}, key of {len} bytes");
                assert_eq!(linears[0][i] ^ linears[1][i], *sum);
            }
        }
    }

    #[test]
    fn the_end_of_a_key_tag_depends_on_u_alone() {
        let u = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let (one, other) = (key_tag(&u, b"a", b"b"), key_tag(&u, b"another", b"and another"));
        assert_eq!(one.as_bytes()[KEY_TAG_MAC_BYTES..], other.as_bytes()[KEY_TAG_MAC_BYTES..]);
        assert_ne!(one.as_bytes()[..KEY_TAG_MAC_BYTES], other.as_bytes()[..KEY_TAG_MAC_BYTES]);
        let mut shifted = u;
        shifted[0] ^= 1;
        assert_ne!(key_tag_hint(&u), key_tag_hint(&shifted));
    }

    #[test]
    fn debug_is_hexadecimal() {
        assert_eq!(format!("{:?}", Tag::new([0xa5; 16])), format!("Tag({})", "a5".repeat(16)));
    }
}
