//! The coefficients of the scaled (n, k) scheme (§2.5), over any field.
//!
//! Everything here is public: it depends on roster positions alone, never on a share. It is generic so that the
//! very formulas that run over GF(2^8) can be examined in fields so small that all pads can be tried
//! (`tests/secrecy.rs`). Positions must be distinct where several are given, and fewer than the field has
//! elements other than zero: [`crate::sharing::Scheme`] checks both.

/// A field, as far as the scheme needs it.
pub trait Field: Copy + PartialEq {
    /// The additive identity, where the secret lies.
    const ZERO: Self;

    /// The multiplicative identity.
    const ONE: Self;

    /// The x of a roster position: never zero, and different for different positions.
    fn x(position: u8) -> Self;

    /// The sum.
    #[must_use]
    fn add(self, other: Self) -> Self;

    /// The difference.
    #[must_use]
    fn sub(self, other: Self) -> Self;

    /// The product.
    #[must_use]
    fn mul(self, other: Self) -> Self;

    /// The quotient; the divisor is not zero.
    #[must_use]
    fn div(self, other: Self) -> Self;
}

/// The coefficients of all schemes with one threshold k: the number of shares does not matter to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coefficients<F> {
    /// λ_i for the first k positions.
    scales: Vec<F>,
}

impl<F: Field> Coefficients<F> {
    /// The coefficients for threshold k.
    pub fn new(k: u8) -> Self {
        let first: Vec<u8> = (0..k).collect();
        let scales = first.iter().map(|&i| lagrange(&first, i, F::ZERO)).collect();
        Self { scales }
    }

    /// What `P(x_i)` is multiplied with to give the share of a position: λ_i among the first k, 1 after them.
    pub fn scale(&self, position: u8) -> F {
        self.scales.get(usize::from(position)).copied().unwrap_or(F::ONE)
    }

    /// Takes the shares at `basis`, any k positions, to the secret.
    pub fn secret_row(&self, basis: &[u8]) -> impl Iterator<Item = F> {
        basis.iter().map(|&i| lagrange(basis, i, F::ZERO).div(self.scale(i)))
    }

    /// Takes the shares at `basis`, any k positions, to the share at `target`.
    pub fn prediction_row(&self, basis: &[u8], target: u8) -> impl Iterator<Item = F> {
        let scale = self.scale(target);
        let at = F::x(target);
        basis.iter().map(move |&i| lagrange(basis, i, at).mul(scale).div(self.scale(i)))
    }

    /// Takes the first k shares to the share at a target after them: the same as [`Self::prediction_row`], in
    /// which the scaling cancels most factors and leaves `x_i / (x_i − x_t) · ∏_m (x_m − x_t) / x_m`.
    pub fn derivation_row(&self, target: u8) -> impl Iterator<Item = F> {
        let at = F::x(target);
        let xs = (0..=u8::MAX).take(self.scales.len()).map(F::x);
        let numerator = xs.clone().fold(F::ONE, |product, x| product.mul(x.sub(at)));
        let denominator = xs.clone().fold(F::ONE, F::mul);
        let common = numerator.div(denominator);
        xs.map(move |x| common.mul(x.div(x.sub(at))))
    }
}

/// The Lagrange coefficient of position i at a point, over the distinct positions of a basis:
/// `∏_{m ≠ i} (at − x_m) / (x_i − x_m)`.
fn lagrange<F: Field>(basis: &[u8], i: u8, at: F) -> F {
    let mut numerator = F::ONE;
    let mut denominator = F::ONE;
    for &m in basis.iter().filter(|&&m| m != i) {
        numerator = numerator.mul(at.sub(F::x(m)));
        denominator = denominator.mul(F::x(i).sub(F::x(m)));
    }
    numerator.div(denominator)
}
