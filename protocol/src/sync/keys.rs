//! Where the tag keys of marks stand: in a part of their own, at the end of every lane.
//!
//! A comparison begins with an untagged hello, and an end that was put back cannot know which places it has used. So
//! an untagged word may choose among places that serve nothing but marks, and never one that a message has used or
//! will. Whatever it says costs one place of 32 bytes.

use crate::pad::TAG_KEY_BYTES;

/// Bytes of one place.
const PLACE: u64 = TAG_KEY_BYTES as u64;

/// Where the part of a lane begins that is kept for the tag keys of marks: a sixteenth of it, up to 1 MiB, or a 64th
/// where that is more. Of short lanes it is 4 KiB, and never more than a quarter.
#[must_use]
pub const fn keys_from(lane_bytes: u64) -> u64 {
    let sixteenth = lane_bytes / 16;
    let mut kept = if sixteenth < 1 << 20 { sixteenth } else { 1 << 20 };
    if kept < 4096 {
        let quarter = lane_bytes / 4;
        kept = if quarter < 4096 { quarter } else { 4096 };
    }
    if kept < lane_bytes / 64 {
        kept = lane_bytes / 64;
    }
    lane_bytes - kept
}

/// The first place in that part which does not begin before `at`; `None` where there is none.
#[must_use]
pub fn key_place(lane_bytes: u64, at: u64) -> Option<u64> {
    let from = keys_from(lane_bytes);
    let place = from.checked_add(at.saturating_sub(from).div_ceil(PLACE).checked_mul(PLACE)?)?;
    (place.checked_add(PLACE)? <= lane_bytes).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_every_lane_is_kept_for_marks_and_it_never_shrinks() {
        for (bytes, kept) in [
            (0, 0),
            (4096, 1024),
            (12 << 10, 3072),
            (16 << 10, 4096),
            (64 << 10, 4096),
            (128 << 10, 8192),
            (16 << 20, 1 << 20),
            (64 << 20, 1 << 20),
            (1 << 30, 16 << 20),
        ] {
            assert_eq!(bytes - keys_from(bytes), kept, "of {bytes}");
        }
        let kept: Vec<u64> = (0..4096).map(|at| at * 40_000).map(|bytes| bytes - keys_from(bytes)).collect();
        assert!(kept.is_sorted());
    }

    #[test]
    fn places_lie_side_by_side_in_that_part_whatever_is_asked() {
        let (bytes, from) = (4100, 4100 - 1025);
        assert_eq!(keys_from(bytes), from);
        for (at, place) in [
            (0, Some(from)),
            (from, Some(from)),
            (from + 1, Some(from + 32)),
            (from + 32, Some(from + 32)),
            (bytes - 33, Some(bytes - 33)),
            (bytes - 32, None),
            (bytes, None),
            (u64::MAX, None),
        ] {
            assert_eq!(key_place(bytes, at), place, "at {at}");
        }
        assert_eq!(key_place(3, 0), None);
    }
}
