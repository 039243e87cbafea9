//! Tags: POLYVAL (RFC 8452) as a one-time universal hash, and the key tag (§2.3, §2.3.2).
//!
//! Both hash the message at a secret point `c` and exclusive-or a secret `d`, each used once. Must never
//! copy or allocate for a message, and must never compare tags itself: verifying is in constant time, in
//! [`crate::pad::TagKey::verify`] for messages and in [`crate::key_check`] for keys.

use std::fmt;

use serde::{Deserialize, Serialize};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use crate::{pad::TAG_KEY_BYTES, polyval};

/// Bytes of one POLYVAL block.
const BLOCK_BYTES: u64 = 16;

/// `c ‖ d ‖ m`, the key-tag key of one receiver: the point and the mask of the tag, and the mask of the hint. A secret
/// begins with it.
pub type U = [u8; TAG_KEY_BYTES + HINT_BYTES];

/// Bytes of the hint that stands beside a key's tag, and of the mask in u that hides it.
pub const HINT_BYTES: usize = 8;

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

/// The key tag of one receiver and the hint beside it: what travels with a key.
///
/// Equality here is not in constant time, as that of [`Tag`]; [`ConstantTimeEq`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyTag {
    /// Authenticates context and key.
    pub tag: Tag,
    /// Says whether a secret may begin with some u; authenticates nothing.
    pub hint: [u8; HINT_BYTES],
}

impl KeyTag {
    /// Of a key that one receiver gets behind u.
    pub fn of(u: &U, context: &[u8], key: &[u8]) -> Self {
        let (tag_key, _) = parts(u);
        Self { tag: key_tag(tag_key, context, key), hint: key_hint(u) }
    }
}

impl ConstantTimeEq for KeyTag {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.tag.as_bytes().ct_eq(other.tag.as_bytes()) & self.hint.ct_eq(&other.hint)
    }
}

/// The tag of a key (§2.3.2), which a receiver checks after reconstructing `u ‖ S`: `POLYVAL_c(H ‖
/// pad16(context) ‖ pad16(key) ‖ lengths) ⊕ d`, with `c = key[0..16]`, `d = key[16..32]` of the first 32 bytes of u.
///
/// `H` is the block `01 00…00` and one zero block, or two where the number of blocks would otherwise be
/// even. Since `u` travels inside the linear sharing, liars can shift `u` and the key together by offsets of
/// their choice; a leading 1 at an odd degree with a gap under it makes the tag an algebraic manipulation
/// detection code, so that each such attempt succeeds with probability at most `(blocks − 1) / 2^128`.
pub fn key_tag(tag_key: &[u8; 32], context: &[u8], key: &[u8]) -> Tag {
    let blocks = 2 + tag_blocks(context.len() as u64, key.len() as u64);
    let lead = if blocks.is_multiple_of(2) { &LEAD_OF_THREE[..] } else { &LEAD_OF_THREE[..32] };
    finish(tag_key, lead, context, key)
}

/// The hint: of `POLYVAL_c(01 00…00 ‖ 0 ‖ 0)` the first 8 bytes, ⊕ m, with `c = u[0..16]`, `m = u[32..40]`.
///
/// It lets a receiver among false shares find c, and with it where the true shares are, without going over the key for
/// every set of shares that it thinks of ([`crate::key_check`]). m serves nothing else, so the hint tells nothing; a shifted
/// `c` passes it with probability at most 2^-63, whatever m is shifted by, and a shifted m with the true `c` never does.
pub(crate) fn key_hint(u: &U) -> [u8; HINT_BYTES] {
    let (tag_key, mask) = parts(u);
    let ([point, _], []) = tag_key.as_chunks() else { unreachable!("32 bytes are two blocks") };
    let cube = polyval::hash(point, &[&LEAD_OF_THREE]);
    std::array::from_fn(|i| cube[i] ^ mask[i])
}

/// The key of the tag and the mask of the hint.
fn parts(u: &U) -> (&[u8; 32], &[u8; HINT_BYTES]) {
    let (Some((tag_key, _)), Some((_, mask))) = (u.split_first_chunk(), u.split_last_chunk()) else {
        unreachable!("u has 40 bytes")
    };
    (tag_key, mask)
}

/// The part of a key's tag that is linear over GF(2) in the secret `u ‖ S` once c is known: all but what the
/// context, the lengths and the leading block add. c and m, the first 16 bytes of the secret and those from 32 to 40, do not enter.
pub(crate) fn key_tag_linear(point: &[u8; 16], secret: &[u8]) -> Zeroizing<[u8; 16]> {
    let mask = secret.get(16..32).unwrap_or_default();
    let key = secret.get(size_of::<U>()..).unwrap_or_default();
    // The last block holds the lengths, which are not part of it.
    let mut linear = polyval::hash(point, &[key, &[0; 16]]);
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
                let rest = (0..24 + len).map(|i| u8::try_from(i).unwrap().wrapping_mul(seed) ^ seed);
                point.into_iter().chain(rest).collect()
            };
            let tag = |secret: &[u8]| {
                let (u, key) = secret.split_first_chunk().unwrap();
                *KeyTag::of(u, b"context", key).tag.as_bytes()
            };
            let (a, b) = (secret(3), secret(7));
            let sum: Vec<u8> = a.iter().zip(&b).map(|(a, b)| a ^ b).collect();
            let linear = key_tag_linear(&point, &sum);
            let (tags, linears) =
                ([tag(&a), tag(&b)], [key_tag_linear(&point, &a), key_tag_linear(&point, &b)]);
            for (i, sum) in linear.iter().enumerate() {
                assert_eq!(tags[0][i] ^ tags[1][i], *sum, "byte {i}, key of {len} bytes");
                assert_eq!(linears[0][i] ^ linears[1][i], *sum);
            }
        }
    }

    #[test]
    fn the_hint_depends_on_the_point_and_its_own_mask_alone() {
        let u: U = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let hint = KeyTag::of(&u, b"a", b"b").hint;
        assert_eq!(hint, KeyTag::of(&u, b"another", b"and another").hint);
        for at in 0..u.len() {
            let mut shifted = u;
            shifted[at] ^= 1;
            assert_eq!(key_hint(&shifted) == hint, (16..32).contains(&at), "byte {at}");
        }
        // Without its mask it is a part of the tag of three blocks.
        let mut masked = [0; 40];
        masked[..16].copy_from_slice(&u[..16]);
        masked[32..].copy_from_slice(&hint);
        assert_eq!(key_hint(&masked), *u.last_chunk().unwrap());
    }

    #[test]
    fn key_tags_are_equal_if_both_parts_are() {
        let one = KeyTag::of(&[1; 40], b"a", b"b");
        assert!(bool::from(one.ct_eq(&one)));
        let mut tag = *one.tag.as_bytes();
        tag[15] ^= 1;
        assert!(!bool::from(one.ct_eq(&KeyTag { tag: Tag::new(tag), ..one })));
        let mut hint = one.hint;
        hint[7] ^= 1;
        assert!(!bool::from(one.ct_eq(&KeyTag { hint, ..one })));
    }

    #[test]
    fn debug_is_hexadecimal() {
        assert_eq!(format!("{:?}", Tag::new([0xa5; 16])), format!("Tag({})", "a5".repeat(16)));
    }
}
