//! Fields so small that everything in them can be tried, and the tags of the protocol over any field.

// Each test takes what it needs.
#![allow(dead_code)]

pub(crate) mod counting;

use dske_protocol::coefficients::Field;

/// The integers modulo a prime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prime<const P: u8>(u8);

/// GF(2^BITS) modulo a polynomial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Binary<const BITS: u32, const POLYNOMIAL: u32>(u8);

pub(crate) type Gf3 = Prime<3>;
pub(crate) type Gf5 = Prime<5>;
/// GF(4) modulo x^2 + x + 1.
pub(crate) type Gf4 = Binary<2, 0b111>;
/// GF(8) modulo x^3 + x + 1.
pub(crate) type Gf8 = Binary<3, 0b1011>;

/// A field whose elements are numbered.
pub(crate) trait Small: Field {
    /// How many elements it has.
    const SIZE: usize;

    fn of(number: usize) -> Self;

    fn number(self) -> usize;

    fn all() -> impl Iterator<Item = Self> {
        (0..Self::SIZE).map(Self::of)
    }
}

/// The x of a position in a small field.
fn small_x<F: Small>(position: u8) -> F {
    let x = usize::from(position) + 1;
    assert!(x < F::SIZE, "the field has no x for position {position}");
    F::of(x)
}

/// The quotient, by trying.
fn small_div<F: Small>(dividend: F, divisor: F) -> F {
    F::all().find(|quotient| quotient.mul(divisor) == dividend).expect("the divisor is not zero")
}

impl<const P: u8> Field for Prime<P> {
    const ZERO: Self = Self(0);
    const ONE: Self = Self(1);

    fn x(position: u8) -> Self {
        small_x(position)
    }

    fn add(self, other: Self) -> Self {
        Self((self.0 + other.0) % P)
    }

    fn sub(self, other: Self) -> Self {
        Self((self.0 + P - other.0) % P)
    }

    fn mul(self, other: Self) -> Self {
        Self(self.0 * other.0 % P)
    }

    fn div(self, other: Self) -> Self {
        small_div(self, other)
    }
}

impl<const P: u8> Small for Prime<P> {
    const SIZE: usize = P as usize;

    fn of(number: usize) -> Self {
        assert!(number < Self::SIZE);
        Self(u8::try_from(number).expect("a small field"))
    }

    fn number(self) -> usize {
        usize::from(self.0)
    }
}

impl<const BITS: u32, const POLYNOMIAL: u32> Field for Binary<BITS, POLYNOMIAL> {
    const ZERO: Self = Self(0);
    const ONE: Self = Self(1);

    fn x(position: u8) -> Self {
        small_x(position)
    }

    fn add(self, other: Self) -> Self {
        Self(self.0 ^ other.0)
    }

    fn sub(self, other: Self) -> Self {
        self.add(other)
    }

    fn mul(self, other: Self) -> Self {
        let mut product = 0;
        for bit in (0..BITS).rev() {
            product <<= 1;
            if product >> BITS & 1 == 1 {
                product ^= POLYNOMIAL;
            }
            if other.0 >> bit & 1 == 1 {
                product ^= u32::from(self.0);
            }
        }
        Self(u8::try_from(product).expect("reduced"))
    }

    fn div(self, other: Self) -> Self {
        small_div(self, other)
    }
}

impl<const BITS: u32, const POLYNOMIAL: u32> Small for Binary<BITS, POLYNOMIAL> {
    const SIZE: usize = 1 << BITS;

    fn of(number: usize) -> Self {
        assert!(number < Self::SIZE);
        Self(u8::try_from(number).expect("a small field"))
    }

    fn number(self) -> usize {
        usize::from(self.0)
    }
}

/// Calls `visit` with every list of `len` elements.
pub(crate) fn for_all<F: Small>(len: usize, mut visit: impl FnMut(&[F])) {
    let mut list = vec![F::ZERO; len];
    loop {
        visit(&list);
        let Some(at) = list.iter().rposition(|element| element.number() + 1 < F::SIZE) else { return };
        list[at] = F::of(list[at].number() + 1);
        list[at + 1..].fill(F::ZERO);
    }
}

/// The tag of blocks: `Σ_i X_i · point^(e−i+1) + mask`, as `docs/PROTOCOL.md` writes it.
pub(crate) fn tag<F: Field>(point: F, mask: F, blocks: &[F]) -> F {
    blocks.iter().fold(F::ZERO, |sum, &block| sum.add(block).mul(point)).add(mask)
}

/// The blocks under a key tag: `H ‖ context ‖ key ‖ lengths`.
pub(crate) fn key_tag_blocks<F: Field>(context: &[F], key: &[F], lengths: F) -> Vec<F> {
    let mut blocks = vec![F::ONE, F::ZERO];
    if (blocks.len() + context.len() + key.len() + 1).is_multiple_of(2) {
        blocks.push(F::ZERO);
    }
    blocks.extend_from_slice(context);
    blocks.extend_from_slice(key);
    blocks.push(lengths);
    blocks
}
