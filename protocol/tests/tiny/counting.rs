//! Counting: how often each secret occurs beside each view, over everything that can be drawn.

use super::Small;

/// Most counters that one check may need.
const COUNTERS_MAX: usize = 1 << 23;

/// How often each key occurs beside each view.
pub(crate) struct Joint {
    keys: usize,
    counts: Vec<u32>,
}

/// What the joint distribution says about key and view.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Beside every view every key occurs equally often.
    Independent,
    /// Beside every view exactly one key occurs.
    Determined,
    /// Something between.
    Leaking,
}

impl Joint {
    pub(crate) fn new(views: usize, keys: usize) -> Self {
        let counters = views.checked_mul(keys).filter(|&counters| counters <= COUNTERS_MAX);
        Self { keys, counts: vec![0; counters.expect("a smaller case")] }
    }

    pub(crate) fn count(&mut self, view: usize, key: usize) {
        self.counts[view * self.keys + key] += 1;
    }

    pub(crate) fn verdict(&self) -> Verdict {
        let seen = || self.counts.chunks(self.keys).filter(|keys| keys.iter().any(|&count| count > 0));
        assert!(seen().next().is_some(), "nothing was counted");
        if seen().all(|keys| keys.iter().all(|&count| count == keys[0])) {
            Verdict::Independent
        } else if seen().all(|keys| keys.iter().filter(|&&count| count > 0).count() == 1) {
            Verdict::Determined
        } else {
            Verdict::Leaking
        }
    }
}

/// A list of field elements as one number.
pub(crate) struct View {
    pub(crate) number: usize,
    pub(crate) values: usize,
}

impl View {
    pub(crate) fn new() -> Self {
        Self { number: 0, values: 1 }
    }

    pub(crate) fn see<F: Small>(&mut self, elements: &[F]) {
        for element in elements {
            self.number = self.number * F::SIZE + element.number();
            self.values *= F::SIZE;
        }
    }
}

pub(crate) fn sets(n: u8, len: u8) -> Vec<Vec<u8>> {
    (0..1_u32 << n)
        .filter(|set| set.count_ones() == u32::from(len))
        .map(|set| (0..n).filter(|hub| set >> hub & 1 == 1).collect())
        .collect()
}
