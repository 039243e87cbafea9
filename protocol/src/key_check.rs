//! Whether a secret is the sender's (§2.3.2), asked cheaply: first of u, then of short images of the shares.
//!
//! The key tag of a secret `u ‖ S` is, once the point c that it hashes at is known, a sum of a constant and of a part that is linear
//! over GF(2) in the secret, hence in the shares. So a share has an *image* of 104 bytes, a linear function of it over GF(2^8),
//! and the image of a secret says whether its tag is right: of all sets of shares that one may think of, each then
//! costs as much as for a key of 72 bytes. c itself is found by the last bytes of the tag, which depend on u alone.
//!
//! Must never branch on a secret, but for the answers that it gives: whether a secret validates, and whether it may begin so.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    field::{Gf256, mul_set_rows},
    params::U_BYTES,
    planted::{Fault, planted},
    tag::{KEY_TAG_MAC_BYTES, Tag, key_tag, key_tag_hint, key_tag_linear},
    wiped::Wiped,
};

/// Bytes of an image: one for each bit of the tag's first part.
pub(crate) const IMAGE_BYTES: usize = 8 * KEY_TAG_MAC_BYTES;

/// Passes over a share that its image takes.
pub(crate) const IMAGE_PASSES: u64 = 8;

/// `u`, with which a secret begins.
pub(crate) type U = [u8; 32];

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
    tag: Tag,
}

/// [`U_BYTES`] as a length.
#[expect(clippy::cast_possible_truncation, reason = "it is 32")]
const U_LEN: usize = U_BYTES as usize;

impl KeyCheck {
    /// For the secrets of one context and key tag.
    pub fn new(context: Vec<u8>, tag: Tag) -> Self {
        Self { context, tag }
    }

    /// Whether this is the tag of a secret `u ‖ S`; false for one that is shorter than u.
    pub fn validates(&self, secret: &[u8]) -> bool {
        secret.split_first_chunk::<U_LEN>().is_some_and(|(u, key)| {
            planted(Fault::KeyTagNotChecked)
                || key_tag(u, &self.context, key).as_bytes().ct_eq(self.tag.as_bytes()).into()
        })
    }

    /// Whether a secret with this tag may begin with u: always so for the sender's, for one with another c with probability 2^-23
    /// at most, where nobody who chose it knew c.
    pub(crate) fn may_begin(&self, u: &U) -> bool {
        key_tag_hint(u).ct_eq(&self.tag.as_bytes()[KEY_TAG_MAC_BYTES..]).into()
    }

    /// What images need to know, for secrets of a length that begin with u. Hashes one such text.
    pub(crate) fn images(&self, u: &U, secret_bytes: usize) -> Images {
        let mut point = Zeroizing::new([0; 16]);
        point.copy_from_slice(&u[..16]);
        let mut masked = Zeroizing::new([0; 32]);
        masked[..16].copy_from_slice(&*point);
        let zeros = vec![0; secret_bytes.saturating_sub(u.len())];
        let constant = key_tag(&masked, &self.context, &zeros);
        let wanted = std::array::from_fn(|i| constant.as_bytes()[i] ^ self.tag.as_bytes()[i]);
        Images { point, wanted: Zeroizing::new(wanted) }
    }
}

/// Images of shares for secrets that begin with some u.
pub(crate) struct Images {
    point: Zeroizing<[u8; 16]>,
    /// What the linear part of the tag has to be.
    wanted: Zeroizing<[u8; KEY_TAG_MAC_BYTES]>,
}

impl Images {
    /// The image of a share, linear over GF(2^8): that of a product is the product of the image.
    pub(crate) fn of(&self, share: &[u8]) -> [u8; IMAGE_BYTES] {
        let mut multiple = Wiped::new(share.to_vec());
        let mut next = Wiped::new(vec![0; share.len()]);
        let mut image = [0; IMAGE_BYTES];
        for dual in DUAL {
            let linear = Zeroizing::new(key_tag_linear(&self.point, &multiple));
            let bits = linear.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1));
            image.iter_mut().zip(bits).for_each(|(byte, bit)| *byte ^= dual & bit.wrapping_neg());
            mul_set_rows(&[&[2]], &[&multiple], &mut [&mut next]);
            std::mem::swap(&mut multiple, &mut next);
        }
        image
    }

    /// Whether a secret with this image, if it begins with this u, has the tag.
    pub(crate) fn fits(&self, image: &[u8; IMAGE_BYTES]) -> bool {
        let mut linear = Zeroizing::new([0; KEY_TAG_MAC_BYTES]);
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
    use crate::field::mul_add;

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
        for len in [33, 48, 64, 1000] {
            let mut secret = vec![0; len];
            rng.fill_bytes(&mut secret);
            let (u, key) = secret.split_first_chunk::<32>().unwrap();
            let check = KeyCheck::new(b"context".to_vec(), key_tag(u, b"context", key));
            assert!(check.validates(&secret) && check.may_begin(u));
            let images = check.images(u, len);
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
            for at in [16, 28, 32, len - 1] {
                let mut changed = secret.clone();
                changed[at] ^= 0x40;
                assert!(
                    !images.fits(&images.of(&changed)) && !check.validates(&changed),
                    "byte {at} of {len}"
                );
            }
            let mut changed = secret.clone();
            changed[3] ^= 1;
            assert!(!check.validates(&changed));
            assert!(!check.may_begin(changed.first_chunk().unwrap()));
        }
    }

    #[test]
    fn what_is_shorter_than_u_does_not_validate() {
        let check = KeyCheck::new(Vec::new(), Tag::new([0; 16]));
        assert!(!check.validates(&[]) && !check.validates(&[0; 31]));
    }
}
