//! How long the blocks of a stream may be.
//!
//! A block costs as many messages, records and syncs whatever its length, so they are as long as they can be. On a slow
//! way a long one takes seconds, though, others wait behind it, and in the end all of them run out of time together. So the
//! length is halved when one is late, and doubled when one was quick.

use std::time::Duration;

use dske_protocol::params::KEY_BYTES_MAX;

/// Bytes of key in a block, at least and at most.
const LEAST: u64 = 16 << 10;
/// See [`LEAST`].
const MOST: u64 = KEY_BYTES_MAX;

/// After a block that took no longer the next may be twice as long: it will not be late for that.
const QUICK: Duration = Duration::from_millis(400);

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Length(u64);

impl Default for Length {
    fn default() -> Self {
        Self(MOST)
    }
}

impl Length {
    /// Bytes of key that a block may have. One key may be longer.
    pub(super) fn bytes(&self) -> u64 {
        self.0
    }

    /// A block of so many bytes is late. `true` where this changes the length: those that are late together were begun with
    /// the same one, and halve it once.
    pub(super) fn late(&mut self, bytes: u64) -> bool {
        self.set(self.0.min(bytes / 2).max(LEAST))
    }

    /// A block of so many bytes took so long. `true` where this changes the length.
    pub(super) fn took(&mut self, bytes: u64, took: Duration) -> bool {
        let quick = if took <= QUICK { bytes.saturating_mul(2) } else { 0 };
        self.set(self.0.max(quick).min(MOST))
    }

    fn set(&mut self, bytes: u64) -> bool {
        std::mem::replace(&mut self.0, bytes) != bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Agrees blocks over a way of so many bytes in a second; gives their lengths.
    fn lengths(length: &mut Length, rate: u64, blocks: usize) -> Vec<u64> {
        let agree = |_| {
            let bytes = length.bytes();
            let took = Duration::from_secs_f64(bytes as f64 / rate as f64);
            if took > Duration::from_secs(1) {
                length.late(bytes)
            } else {
                length.took(bytes, took)
            };
            bytes
        };
        (0..blocks).map(agree).collect()
    }

    #[test]
    fn a_slow_way_gets_blocks_that_arrive_in_time_and_a_fast_one_long_ones() {
        let mut length = Length::default();
        assert_eq!(lengths(&mut length, 50 << 20, 10), [MOST; 10]);
        let slow = lengths(&mut length, 300 << 10, 20);
        assert_eq!(slow[..3], [1 << 20, 512 << 10, 256 << 10]);
        assert_eq!(slow[3..], [256 << 10; 17], "no to and fro");
        assert_eq!(lengths(&mut length, 1, 20).last(), Some(&LEAST));
        assert_eq!(lengths(&mut length, 50 << 20, 8)[5..], [512 << 10, MOST, MOST]);
    }

    #[test]
    fn blocks_that_are_late_together_count_once() {
        let mut length = Length::default();
        assert_eq!([length.late(MOST), length.late(MOST), length.late(MOST)], [true, false, false]);
        assert_eq!(length.bytes(), MOST / 2);
    }

    #[test]
    fn only_a_block_of_full_length_says_that_it_may_be_longer() {
        let mut length = Length(LEAST);
        assert!(
            !length.took(LEAST / 2, 5 * MS) && !length.took(LEAST, 401 * MS) && length.took(LEAST, 400 * MS)
        );
        assert_eq!(length.bytes(), 2 * LEAST);
        assert!(length.took(MOST * 2, MS), "a key that is longer by itself");
        assert_eq!(length.bytes(), MOST);
    }
}
