//! GF(2^8) with the polynomial x^8 + x^4 + x^3 + x + 1 (0x11B), and rows of its elements times long
//! runs of bytes (§2.5).
//!
//! Two kinds of value meet here. *Coefficients* come from roster positions and are public: the kernels may
//! branch on them. *Data* are shares and secrets: no branch and no memory address may ever depend on them.
//! [`Gf256::inv`] and [`Gf256::div`] are for coefficients alone; the other operations take data too.

use crate::{
    coefficients::Field,
    kernel::{Kernel, Row, Start, nibbles},
};

/// What x^8 is congruent to.
const REDUCTION: u8 = 0x1B;

/// An element of GF(2^8).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Gf256(pub u8);

impl Gf256 {
    /// The additive identity.
    pub const ZERO: Self = Self(0);

    /// The multiplicative identity.
    pub const ONE: Self = Self(1);

    /// The sum, which is also the difference.
    #[must_use]
    pub const fn add(self, other: Self) -> Self {
        Self(self.0 ^ other.0)
    }

    /// The product, without branches or look-ups.
    #[must_use]
    pub const fn mul(self, other: Self) -> Self {
        let mut product = 0;
        let mut multiple = self.0;
        let mut bit = 0;
        while bit < 8 {
            product ^= multiple & ((other.0 >> bit) & 1).wrapping_neg();
            multiple = double(multiple);
            bit += 1;
        }
        Self(product)
    }

    /// The inverse; zero for zero. Looked up, hence for public values only.
    #[must_use]
    pub const fn inv(self) -> Self {
        INVERSES[self.0 as usize]
    }

    /// self^254.
    const fn computed_inverse(self) -> Self {
        // 254 = 2 + 4 + … + 128: the product of seven successive squares.
        let mut power = self;
        let mut inverse = Self::ONE;
        let mut step = 0;
        while step < 7 {
            power = power.mul(power);
            inverse = inverse.mul(power);
            step += 1;
        }
        inverse
    }

    /// The quotient; zero where the divisor is zero, which callers rule out. Looks the divisor up,
    /// hence for public divisors only.
    #[must_use]
    pub const fn div(self, other: Self) -> Self {
        self.mul(other.inv())
    }
}

impl Field for Gf256 {
    const ZERO: Self = Self::ZERO;
    const ONE: Self = Self::ONE;

    fn x(position: u8) -> Self {
        Self(position.wrapping_add(1))
    }

    fn add(self, other: Self) -> Self {
        self.add(other)
    }

    fn sub(self, other: Self) -> Self {
        self.add(other)
    }

    /// Looked up, hence for public values only, which coefficients are.
    fn mul(self, other: Self) -> Self {
        Self(nibbles::product(self.0, other.0))
    }

    fn div(self, other: Self) -> Self {
        Field::mul(self, other.inv())
    }
}

/// All inverses; that of zero is zero.
const INVERSES: [Gf256; 256] = {
    let mut inverses = [Gf256::ZERO; 256];
    let mut value: u8 = 255;
    while value > 0 {
        inverses[value as usize] = Gf256(value).computed_inverse();
        value -= 1;
    }
    inverses
};

/// `outputs[r] ^= Σ_j coefficients[r][j] · inputs[j]`, byte by byte, in one pass over inputs and outputs.
///
/// All inputs and outputs must have one length, and every row of coefficients one entry per input:
/// [`crate::sharing::Scheme`] checks both. Anything in excess is ignored.
pub fn mul_add_rows(coefficients: &[&[u8]], inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
    rows(coefficients, inputs, outputs, || Start::Output);
}

/// `outputs[r] = Σ_j coefficients[r][j] · inputs[j]`: as [`mul_add_rows`], but what the outputs hold is overwritten
/// and not read.
pub fn mul_set_rows(coefficients: &[&[u8]], inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
    rows(coefficients, inputs, outputs, || Start::Zero);
}

fn rows(
    coefficients: &[&[u8]],
    inputs: &[&[u8]],
    outputs: &mut [&mut [u8]],
    start: impl Fn() -> Start<'static>,
) {
    debug_assert_eq!(coefficients.len(), outputs.len());
    debug_assert!(coefficients.iter().all(|row| row.len() == inputs.len()));
    debug_assert!(outputs.iter().all(|output| inputs.iter().all(|input| input.len() == output.len())));
    let rows = coefficients.iter().zip(outputs.iter_mut());
    let mut rows: Vec<Row<'_>> =
        rows.map(|(coefficients, output)| Row { coefficients, start: start(), output }).collect();
    Kernel::detect().rows(inputs, &mut rows);
}

/// `output ^= input`, over the shorter of the two lengths.
pub fn xor_into(input: &[u8], output: &mut [u8]) {
    debug_assert_eq!(input.len(), output.len());
    for (byte, other) in output.iter_mut().zip(input) {
        *byte ^= other;
    }
}

/// `output ^= coefficient · input`, over the shorter of the two lengths: for short runs, on which
/// [`mul_add_rows`] would spend more on preparing than on adding.
pub fn mul_add(coefficient: Gf256, input: &[u8], output: &mut [u8]) {
    for (byte, other) in output.iter_mut().zip(input) {
        *byte ^= Gf256(*other).mul(coefficient).0;
    }
}

/// The product with x. An arithmetic shift spreads the top bit into a mask, which vectorises.
#[inline(always)]
pub(crate) const fn double(value: u8) -> u8 {
    (value << 1) ^ ((value.cast_signed() >> 7).cast_unsigned() & REDUCTION)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One operation, however it is called.
    fn as_field<F: Field>(a: F, b: F) -> [F; 4] {
        [a.add(b), a.sub(b), a.mul(b), a.div(b)]
    }

    #[test]
    fn as_a_field_it_is_the_same() {
        let (a, b) = (Gf256(0x57), Gf256(0x83));
        assert_eq!(as_field(a, b), [Gf256(0xd4), Gf256(0xd4), Gf256(0xc1), a.div(b)]);
        assert_eq!(a.div(b).mul(b), a);
        for (a, b) in (0..=255).flat_map(|a| (0..=255).map(move |b| (Gf256(a), Gf256(b)))) {
            let [_, _, product, quotient] = as_field(a, b);
            assert_eq!((product, quotient), (a.mul(b), a.div(b)));
        }
        assert_eq!([0, 7, 254].map(Gf256::x), [Gf256(1), Gf256(8), Gf256(255)]);
    }

    #[test]
    fn short_runs_are_added_as_long_ones_are() {
        let input = [0x83, 0, 1, 0xff, 0x80];
        for coefficient in [0, 1, 2, 0x57, 0xff] {
            let (mut short, mut long) = ([0x5a; 5], [0x5a; 5]);
            mul_add(Gf256(coefficient), &input, &mut short);
            mul_add_rows(&[&[coefficient]], &[&input], &mut [&mut long]);
            assert_eq!(short, long, "coefficient {coefficient}");
        }
    }
}
