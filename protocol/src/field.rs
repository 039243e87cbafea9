//! GF(2^8) with the polynomial x^8 + x^4 + x^3 + x + 1 (0x11B), and its kernels over long runs of bytes
//! (§2.5).
//!
//! Two kinds of value meet here. *Coefficients* come from roster positions and are public: the kernels may
//! branch on them. *Data* are shares and secrets: no branch and no memory address may ever depend on them.
//! [`Gf256::inv`] and [`Gf256::div`] are for coefficients alone; the other operations take data too.

use crate::coefficients::Field;

/// What x^8 is congruent to.
const REDUCTION: u8 = 0x1B;

/// Bytes that go through the accumulator of a row at once: half the vector registers of the plainest target,
/// so that the accumulator never leaves them.
const BLOCK_BYTES: usize = 128;

/// The same for what is left over, before single bytes.
const REST_BYTES: usize = 16;

/// Bytes of each input that all rows go over before the next strip, so that the inputs are read from
/// memory once.
const STRIP_BYTES: usize = 1024;

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

    fn mul(self, other: Self) -> Self {
        self.mul(other)
    }

    fn div(self, other: Self) -> Self {
        self.div(other)
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

/// `outputs[r] ^= Σ_j coefficients[r][j] · inputs[j]`, byte by byte.
///
/// All inputs and outputs must have one length, and every row of coefficients one entry per input:
/// [`crate::sharing::Scheme`] checks both. Anything in excess is ignored.
pub fn mul_add_rows(coefficients: &[&[u8]], inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
    debug_assert_eq!(coefficients.len(), outputs.len());
    debug_assert!(coefficients.iter().all(|row| row.len() == inputs.len()));
    debug_assert!(outputs.iter().all(|output| inputs.iter().all(|input| input.len() == output.len())));

    let rows: Vec<Row<'_>> = coefficients.iter().map(|row| Row::new(row, inputs)).collect();
    let len = outputs.iter().map(|output| output.len()).chain(inputs.iter().map(|input| input.len())).min();
    let len = len.unwrap_or(0);
    for start in (0..len).step_by(STRIP_BYTES) {
        let end = len.min(start + STRIP_BYTES);
        for (row, output) in rows.iter().zip(outputs.iter_mut()) {
            row.add_strip(start, &mut output[start..end]);
        }
    }
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
pub(crate) fn mul_add(coefficient: Gf256, input: &[u8], output: &mut [u8]) {
    for (byte, other) in output.iter_mut().zip(input) {
        *byte ^= Gf256(*other).mul(coefficient).0;
    }
}

/// One row of coefficients, turned into additions and doublings.
///
/// By Horner's rule over the bits of the coefficients, `Σ_j c_j·y_j` is: start from zero and, for each bit from
/// the highest, double, then add every `y_j` whose coefficient has that bit. So a row costs seven doublings
/// however many inputs it has.
struct Row<'a> {
    /// The inputs to add, bit after bit from the highest.
    terms: Vec<&'a [u8]>,
    /// For each of these bits, where its inputs end in `terms`.
    ends: Vec<usize>,
}

impl<'a> Row<'a> {
    fn new(coefficients: &[u8], inputs: &[&'a [u8]]) -> Self {
        let bits = u8::BITS - coefficients.iter().fold(0, |all, c| all | c).leading_zeros();
        // One place more than there can be terms: each input is written, and counted if its bit is set. With
        // random coefficients a branch in its stead would cost more than the sums.
        let mut terms: Vec<&[u8]> = vec![&[]; inputs.len() * 8 + 1];
        let mut ends = Vec::with_capacity(8);
        let mut count = 0;
        for bit in (0..bits).rev() {
            for (coefficient, input) in coefficients.iter().zip(inputs) {
                terms[count] = input;
                count += usize::from(coefficient >> bit & 1);
            }
            ends.push(count);
        }
        terms.truncate(count);
        Self { terms, ends }
    }

    /// Adds the row's sum over `inputs[start..]` to one strip of its output.
    fn add_strip(&self, start: usize, strip: &mut [u8]) {
        let (blocks, tail) = strip.as_chunks_mut::<BLOCK_BYTES>();
        let mut at = start;
        for block in blocks {
            self.add_block(at, block);
            at += BLOCK_BYTES;
        }
        let (blocks, tail) = tail.as_chunks_mut::<REST_BYTES>();
        for block in blocks {
            self.add_block(at, block);
            at += REST_BYTES;
        }
        for byte in tail {
            self.add_block(at, std::array::from_mut(byte));
            at += 1;
        }
    }

    #[inline(always)]
    fn add_block<const N: usize>(&self, at: usize, output: &mut [u8; N]) {
        let mut sum = [0; N];
        let mut start = 0;
        for &end in &self.ends {
            if start > 0 {
                sum = sum.map(double);
            }
            for input in &self.terms[start..end] {
                add(&mut sum, &input[at..at + N]);
            }
            start = end;
        }
        add(output, &sum);
    }
}

#[inline(always)]
fn add<const N: usize>(sum: &mut [u8; N], other: &[u8]) {
    for (byte, other) in sum.iter_mut().zip(other) {
        *byte ^= other;
    }
}

/// The product with x. An arithmetic shift spreads the top bit into a mask, which vectorises.
#[inline(always)]
const fn double(value: u8) -> u8 {
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
