//! Whether a secret is the sender's (§2.3.2), asked cheaply: first of u, then of short images of the shares.
//!
//! The tag of a secret `u ‖ S` is, once the point c that it hashes at is known, a sum of a constant and of a part that is linear
//! over GF(2) in the secret, hence in the shares. So a share has an *image* of 128 bytes, a linear function of it over GF(2^8),
//! and the image of a secret says whether its tag is right: of all sets of shares that one may think of, each then
//! costs as much as for a key of 88 bytes. c itself is found by the hint beside the tag.
//!
//! Must never branch on a secret, but for the answers that it gives: whether a secret validates, and whether it may begin so.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    field::{Gf256, mul_set_rows},
    pad::TAG_BYTES,
    planted::{Fault, planted},
    tag::{KeyTag, U, key_hint, key_tag, key_tag_linear},
    wiped::Wiped,
};

/// Bytes of an image: one for each bit of the tag.
pub(crate) const IMAGE_BYTES: usize = 8 * TAG_BYTES;

/// Passes over a share that its image takes.
pub(crate) const IMAGE_PASSES: u64 = 8;

/// c, the point that the tag hashes at and with which u begins.
pub(crate) type Point = [u8; 16];

/// The basis dual to 1, x, … x^7 under the trace: `Tr(x^i · DUAL[j])` is 1 where i = j, else 0.
const DUAL: [u8; 8] = {
    let mut dual = [0; 8];
    let mut element = 255;
    while element > 0 {
        let (mut at, mut ones, mut count) = (0, 0, 0);
        while at < 8 {
            if trace(Gf256(1 << at).mul(Gf256(element))) {
                ones = at;
                count += 1;
            }
            at += 1;
        }
        if count == 1 {
            dual[ones] = element;
        }
        element -= 1;
    }
    dual
};

/// The elements x^i whose trace is 1, as bits: the trace of an element is the parity of those that it has of them.
const TRACE: u8 = {
    let (mut mask, mut at) = (0, 0);
    while at < 8 {
        if trace(Gf256(1 << at)) {
            mask |= 1 << at;
        }
        at += 1;
    }
    mask
};

/// `y + y^2 + y^4 + … + y^128`, which is 0 or 1.
const fn trace(element: Gf256) -> bool {
    let (mut power, mut sum, mut step) = (element, element, 1);
    while step < 8 {
        power = power.mul(power);
        sum = sum.add(power);
        step += 1;
    }
    sum.0 == 1
}

/// The context and the key tag that a secret has to fit.
#[derive(Debug, Clone)]
pub struct KeyCheck {
    context: Vec<u8>,
    key_tag: KeyTag,
}

impl KeyCheck {
    /// For the secrets of one context and key tag.
    pub fn new(context: Vec<u8>, key_tag: KeyTag) -> Self {
        Self { context, key_tag }
    }

    /// Whether this is the key tag of a secret `u ‖ S`, the hint included; false for one that is shorter than u.
    pub fn validates(&self, secret: &[u8]) -> bool {
        secret.split_first_chunk().is_some_and(|(u, key)| {
            planted(Fault::KeyTagNotChecked) || KeyTag::of(u, &self.context, key).ct_eq(&self.key_tag).into()
        })
    }

    /// Whether a secret with this key tag may begin with u: always so for the sender's, for one with another c with probability
    /// 2^-63 at most, where nobody who chose it knew c.
    pub(crate) fn may_begin(&self, u: &U) -> bool {
        key_hint(u).ct_eq(&self.key_tag.hint).into()
    }

    /// What images need to know, for secrets of a length that begin with c. Hashes one such text.
    pub(crate) fn images(&self, c: &Point, secret_bytes: usize) -> Images {
        let point = Zeroizing::new(*c);
        let mut unmasked = Zeroizing::new([0; 32]);
        unmasked[..16].copy_from_slice(&*point);
        let zeros = vec![0; secret_bytes.saturating_sub(size_of::<U>())];
        let constant = key_tag(&unmasked, &self.context, &zeros);
        let wanted = std::array::from_fn(|i| constant.as_bytes()[i] ^ self.key_tag.tag.as_bytes()[i]);
        Images { point, wanted: Zeroizing::new(wanted) }
    }
}

/// Images of shares for secrets that begin with some c.
pub(crate) struct Images {
    point: Zeroizing<Point>,
    /// What the linear part of the tag has to be.
    wanted: Zeroizing<[u8; TAG_BYTES]>,
}

impl Images {
    /// The image of a share, linear over GF(2^8): that of a product is the product of the image.
    pub(crate) fn of(&self, share: &[u8]) -> [u8; IMAGE_BYTES] {
        let mut multiple = Wiped::new(share.to_vec());
        let mut next = Wiped::new(vec![0; share.len()]);
        let mut image = [0; IMAGE_BYTES];
        for dual in DUAL {
            let linear = key_tag_linear(&self.point, &multiple);
            let bits = linear.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1));
            image.iter_mut().zip(bits).for_each(|(byte, bit)| *byte ^= dual & bit.wrapping_neg());
            mul_set_rows(&[&[2]], &[&multiple], &mut [&mut next]);
            std::mem::swap(&mut multiple, &mut next);
        }
        image
    }

    /// Whether a secret with this image, if it begins with this c, has the tag.
    pub(crate) fn fits(&self, image: &[u8; IMAGE_BYTES]) -> bool {
        let mut linear = Zeroizing::new([0; TAG_BYTES]);
        for (at, byte) in image.iter().enumerate() {
            linear[at / 8] |= u8::from((byte & TRACE).count_ones() % 2 == 1) << (at % 8);
        }
        linear.ct_eq(&*self.wanted).into()
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{field::mul_add, tag::Tag};

    #[test]
    fn the_trace_is_linear_and_its_dual_basis_is_one() {
        for (i, dual) in DUAL.into_iter().enumerate() {
            for j in 0..8 {
                assert_eq!(trace(Gf256(1 << j).mul(Gf256(dual))), i == j, "{i}, {j}");
            }
        }
        for element in 0..=255_u8 {
            assert_eq!(trace(Gf256(element)), (element & TRACE).count_ones() % 2 == 1, "{element}");
        }
    }

    /// Images of shares add up, times any coefficients, to the image of the secret, and that fits exactly if the secret has
    /// the tag.
    #[test]
    fn an_image_tells_what_the_secret_would() {
        let rng = &mut StdRng::seed_from_u64(1);
        for len in [41, 48, 56, 72, 1000] {
            let mut secret = vec![0; len];
            rng.fill_bytes(&mut secret);
            let (u, key) = secret.split_first_chunk().unwrap();
            let check = KeyCheck::new(b"context".to_vec(), KeyTag::of(u, b"context", key));
            assert!(check.validates(&secret) && check.may_begin(u));
            let images = check.images(u.first_chunk().unwrap(), len);
            assert!(images.fits(&images.of(&secret)));

            // secret = 0x53 · a + 0x9c · b
            let (mut a, mut b) = (vec![0; len], secret.clone());
            rng.fill_bytes(&mut a);
            mul_add(Gf256(0x53), &a, &mut b);
            b.iter_mut().for_each(|byte| *byte = Gf256(*byte).mul(Gf256(0x9c).inv()).0);
            let mut image = [0; IMAGE_BYTES];
            mul_add(Gf256(0x53), &images.of(&a), &mut image);
            mul_add(Gf256(0x9c), &images.of(&b), &mut image);
            assert!(image == images.of(&secret) && images.fits(&image));

            // Any change of d or S is seen; one of c is not looked at here.
            for at in [16, 31, 40, len - 1] {
                let mut changed = secret.clone();
                changed[at] ^= 0x40;
                assert!(
                    !images.fits(&images.of(&changed)) && !check.validates(&changed),
                    "byte {at} of {len}"
                );
            }
            // Nor is one of m, which the hint sees.
            for at in [3, 32, 39] {
                let mut changed = secret.clone();
                changed[at] ^= 1;
                assert!(!check.validates(&changed), "byte {at} of {len}");
                assert!(!check.may_begin(changed.first_chunk().unwrap()), "byte {at} of {len}");
            }
        }
    }

    /// A sender that lies: the tag is right, and the hint is another one.
    #[test]
    fn a_secret_whose_hint_does_not_fit_does_not_validate() {
        let secret = [7; 80];
        let (u, key) = secret.split_first_chunk().unwrap();
        let mut key_tag = KeyTag::of(u, b"context", key);
        assert!(KeyCheck::new(b"context".to_vec(), key_tag).validates(&secret));
        for at in 0..key_tag.hint.len() {
            key_tag.hint[at] ^= 0x10;
            let check = KeyCheck::new(b"context".to_vec(), key_tag);
            assert!(!check.validates(&secret) && !check.may_begin(u), "byte {at}");
            key_tag.hint[at] ^= 0x10;
        }
    }

    #[test]
    fn what_is_shorter_than_u_does_not_validate() {
        // Of m alone: with c = 0 all else is zero, whatever the text.
        let check = KeyCheck::new(Vec::new(), KeyTag { tag: Tag::new([0; 16]), hint: [0; 8] });
        assert!(check.validates(&[0; 40]));
        assert!(!check.validates(&[]) && !check.validates(&[0; 39]));
    }
}
