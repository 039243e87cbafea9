//! All chance of a simulation, from one seed.

use std::{convert::Infallible, ops::RangeInclusive};

use rand::{Rng as _, SeedableRng, rngs::StdRng};
use rand_core::{TryCryptoRng, TryRng};

/// Draws. The same seed gives the same draws.
pub(crate) struct Rng(pub(crate) StdRng);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// A number below `bound`; 0 where that is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.0.next_u64() % bound }
    }

    pub(crate) fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (low, high) = (*range.start(), *range.end().max(range.start()));
        low + self.below(high - low + 1)
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    pub(crate) fn between(&mut self, range: [usize; 2]) -> usize {
        self.within(range[0] as u64..=range[1] as u64) as usize
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64 <= probability
    }

    /// How often something happens of which `mean` are expected.
    pub(crate) fn count(&mut self, mean: f64) -> usize {
        // Twice the mean in tries of one half each, so that none and many both occur.
        let tries = (2.0 * mean).floor() as usize;
        let rest = 2.0 * mean - tries as f64;
        (0..tries).filter(|_| self.chance(0.5)).count() + usize::from(self.chance(rest / 2.0))
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let at = self.index(from.len());
        from.get(at)
    }

    pub(crate) fn shuffle<T>(&mut self, of: &mut [T]) {
        for at in (1..of.len()).rev() {
            let other = self.index(at + 1);
            of.swap(at, other);
        }
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// Gives the nonce that somebody wants to draw, where the first 16 bytes are asked for; then what is truly drawn.
pub(crate) struct Chosen<'a> {
    pub(crate) nonce: Option<[u8; 16]>,
    pub(crate) rest: &'a mut StdRng,
}

impl TryRng for Chosen<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.rest.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.rest.try_next_u64()
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        match self.nonce.take() {
            Some(nonce) if nonce.len() == to.len() => to.copy_from_slice(&nonce),
            _ => self.rest.try_fill_bytes(to)?,
        }
        Ok(())
    }
}

impl TryCryptoRng for Chosen<'_> {}

/// A digest of bytes: to tell messages apart, not against anybody.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    let mut digest = Digest::default();
    digest.bytes(bytes);
    digest.0
}

/// A running digest of all that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest(pub(crate) u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    pub(crate) fn number(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 29);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        for piece in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..piece.len()].copy_from_slice(piece);
            self.number(u64::from_le_bytes(word));
        }
    }
}
