//! Products of a coefficient with each half of a byte: the tables of kernels that look up 16 bytes at once in a
//! register, and of products of two coefficients.

use crate::field::Gf256;

/// The products of one coefficient `c`.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub(super) struct Nibbles {
    /// `c · i` for i < 16.
    pub(super) low: [u8; 16],
    /// `c · 16 i` for i < 16.
    pub(super) high: [u8; 16],
}

/// The product of two coefficients, which are public: it is looked up by both.
pub(crate) fn product(a: u8, b: u8) -> u8 {
    let Nibbles { low, high } = &ALL[usize::from(a)];
    low[usize::from(b & 15)] ^ high[usize::from(b >> 4)]
}

/// The tables of a coefficient, which is public: they are looked up by it.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) fn of(coefficient: u8) -> Nibbles {
    ALL[usize::from(coefficient)]
}

static ALL: [Nibbles; 256] = {
    let mut all = [Nibbles { low: [0; 16], high: [0; 16] }; 256];
    let mut coefficient: u8 = 255;
    while coefficient > 0 {
        let mut half: u8 = 0;
        while half < 16 {
            let c = Gf256(coefficient);
            all[coefficient as usize].low[half as usize] = c.mul(Gf256(half)).0;
            all[coefficient as usize].high[half as usize] = c.mul(Gf256(half << 4)).0;
            half += 1;
        }
        coefficient -= 1;
    }
    all
};
