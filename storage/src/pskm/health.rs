//! Health tests of NIST SP 800-90B §4.4 for a source that claims full entropy, eight bits in every byte:
//! repetition count and adaptive proportion. The cut-offs are for a false alarm of about 2^-64 a test, so
//! that a terabyte passes and a source that gets stuck does not.

/// A byte that comes this often in a row: 1 + ceil(64 / 8).
const REPETITIONS_MAX: u32 = 9;
/// Bytes in a window of the adaptive proportion test.
const WINDOW_BYTES: u32 = 512;
/// The first byte of a window may come this often in it: the mean is 2.
const PROPORTION_MAX: u32 = 26;

/// Why a source was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HealthFailure {
    /// Repetition count test.
    #[error("one byte was repeated {REPETITIONS_MAX} times in a row")]
    Repetition,
    /// Adaptive proportion test.
    #[error("one byte came {PROPORTION_MAX} times in {WINDOW_BYTES}")]
    Proportion,
}

/// Both tests, over all that a source has given.
#[derive(Debug, Default)]
pub(crate) struct HealthTests {
    last: Option<u8>,
    repeated: u32,
    sample: u8,
    seen: u32,
    hits: u32,
}

impl HealthTests {
    /// Examines the next bytes.
    pub(crate) fn examine(&mut self, bytes: &[u8]) -> Result<(), HealthFailure> {
        bytes.iter().try_for_each(|&byte| self.examine_one(byte))
    }

    fn examine_one(&mut self, byte: u8) -> Result<(), HealthFailure> {
        self.repeated = if self.last == Some(byte) { self.repeated + 1 } else { 1 };
        self.last = Some(byte);
        if self.repeated >= REPETITIONS_MAX {
            return Err(HealthFailure::Repetition);
        }
        if self.seen == 0 {
            self.sample = byte;
            self.hits = 0;
        }
        self.hits += u32::from(byte == self.sample);
        self.seen = (self.seen + 1) % WINDOW_BYTES;
        if self.hits >= PROPORTION_MAX { Err(HealthFailure::Proportion) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    #[test]
    fn good_bytes_pass_and_bad_ones_do_not() {
        let mut bytes = vec![0; 4 << 20];
        StdRng::seed_from_u64(1).fill_bytes(&mut bytes);
        assert_eq!(HealthTests::default().examine(&bytes), Ok(()));
        assert_eq!(HealthTests::default().examine(&[7; 9]), Err(HealthFailure::Repetition));
        let alternating: Vec<u8> = (0..512u32).map(|i| u8::from(i % 2 == 0)).collect();
        assert_eq!(HealthTests::default().examine(&alternating), Err(HealthFailure::Proportion));
    }
}
