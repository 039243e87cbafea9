//! How much may be agreed ahead with receivers who have not confirmed it.
//!
//! A stream agrees keys before anybody asks for them, and each block burns pad at every hub whether its receivers are
//! there or not. So what was begun since they last confirmed something is bounded in blocks and bytes; and as soon as a
//! block is late, or has failed, that was begun after they last confirmed anything, they are only *tried*: with one key,
//! less and less often. A confirmation ends that. A sign of them that proves nothing, such as a connection, brings the
//! next try forward and makes tries frequent again, but not more often than once in [`SIGN_PAUSE`]: whoever fakes signs
//! makes little burn.
//!
//! Must never: let anything but a confirmation give back room for more than a try.

use std::time::Duration;

use crate::params::Time;

/// Blocks that may be unconfirmed at once: those that count as under way, and those that are late.
pub const UNCONFIRMED_BLOCKS_MAX: u32 = 20;

/// Bytes of key that may be unconfirmed at once, when many have been confirmed before.
pub const UNCONFIRMED_BYTES_MAX: u64 = 8 << 20;

/// See [`UNCONFIRMED_BYTES_MAX`]: at first, and at least. Doubled by each confirmation, halved by each failure.
pub const UNCONFIRMED_BYTES_FIRST: u64 = 64 << 10;

/// Between two tries of receivers who do not confirm, at first and at last; doubled by each.
pub const TRY_PAUSE_MIN: Duration = Duration::from_secs(1);
/// See [`TRY_PAUSE_MIN`].
pub const TRY_PAUSE_MAX: Duration = Duration::from_secs(300);

/// A sign of the receivers restarts the tries once in this time.
pub const SIGN_PAUSE: Duration = Duration::from_secs(300);

/// What is begun at once with receivers that may be away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Amount {
    blocks: u32,
    bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.blocks += 1;
        self.bytes += bytes;
    }

    /// Takes a block off that was added; `false` where there is no such block, which is a mistake of the caller.
    fn remove(&mut self, bytes: u64) -> bool {
        let (Some(blocks), Some(bytes)) = (self.blocks.checked_sub(1), self.bytes.checked_sub(bytes)) else {
            return false;
        };
        *self = Self { blocks, bytes };
        true
    }
}

/// What may be begun now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Blocks, of so many bytes of key together.
    Bytes(u64),
    /// One key, to see whether the receivers are there.
    Try,
    /// Nothing, until a confirmation comes or the time of the next try.
    None,
}

/// How a block ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All its receivers have confirmed it.
    Confirmed,
    /// Pad was burned for it, and there is no key.
    Failed,
    /// It failed before anything was burned.
    Unburned,
}

/// What is known of one set of receivers. See the head of the file.
#[derive(Debug)]
pub struct Ahead {
    /// Begun, and neither confirmed nor older than what was confirmed last.
    unconfirmed: Amount,
    /// Of all that was begun: what has not ended.
    under_way: Amount,
    bytes_max: u64,
    /// They do not confirm: tries only.
    doubtful: bool,
    confirmed_at: Option<Time>,
    try_pause: Duration,
    try_due: Time,
    signs_from: Time,
}

impl Default for Ahead {
    fn default() -> Self {
        Self {
            unconfirmed: Amount::default(),
            under_way: Amount::default(),
            bytes_max: UNCONFIRMED_BYTES_FIRST,
            doubtful: false,
            confirmed_at: None,
            try_pause: TRY_PAUSE_MIN,
            try_due: Time::ZERO,
            signs_from: Time::ZERO,
        }
    }
}

impl Ahead {
    /// What may be begun now.
    pub fn room(&self, now: Time) -> Room {
        let left = self.bytes_max.saturating_sub(self.unconfirmed.bytes);
        let free = !self.doubtful && self.unconfirmed.blocks < UNCONFIRMED_BLOCKS_MAX && left > 0;
        match free {
            true => Room::Bytes(left),
            false if now >= self.try_due => Room::Try,
            false => Room::None,
        }
    }

    /// Keys of so many bytes that one block may have now: 0 where none may be begun. With nothing unconfirmed one key may
    /// be longer than all that blocks may have together.
    pub fn keys(&self, now: Time, key_bytes: u32) -> u64 {
        match self.room(now) {
            Room::Bytes(left) => {
                (left / u64::from(key_bytes.max(1))).max(u64::from(self.unconfirmed.blocks == 0))
            }
            Room::Try => 1,
            Room::None => 0,
        }
    }

    /// A block of so many bytes of key is begun.
    pub fn begin(&mut self, now: Time, bytes: u64) {
        if self.room(now) == Room::Try {
            self.try_due = now + self.try_pause;
            self.try_pause = (self.try_pause * 2).min(TRY_PAUSE_MAX);
        } else {
            self.try_due = now + TRY_PAUSE_MIN;
        }
        self.unconfirmed.add(bytes);
        self.under_way.add(bytes);
    }

    /// A block that was begun at this time is awaited no more; it may still be confirmed.
    pub fn late(&mut self, begun: Time) {
        self.doubtful |= self.confirmed_at.is_none_or(|at| at < begun);
    }

    /// A block of so many bytes that was begun at this time has ended.
    pub fn ended(&mut self, now: Time, begun: Time, bytes: u64, how: Ended) {
        let known = self.under_way.remove(bytes);
        debug_assert!(known, "it was begun");
        match how {
            Ended::Confirmed => {
                self.unconfirmed = self.under_way;
                self.bytes_max = (self.bytes_max * 2).min(UNCONFIRMED_BYTES_MAX);
                self.doubtful = false;
                self.confirmed_at = Some(now);
                self.try_pause = TRY_PAUSE_MIN;
                self.try_due = now;
                self.signs_from = now;
            }
            Ended::Failed => {
                self.bytes_max = (self.bytes_max / 2).max(UNCONFIRMED_BYTES_FIRST);
                self.late(begun);
            }
            Ended::Unburned => {
                // What a confirmation has struck off already is not there any more.
                let _ = self.unconfirmed.remove(bytes);
            }
        }
    }

    /// Something that proves nothing says that the receivers are there, or somebody waits for a key with them. Whether it
    /// counts.
    pub fn sign(&mut self, now: Time) -> bool {
        let counts = now >= self.signs_from && !matches!(self.room(now), Room::Bytes(_));
        if counts {
            self.signs_from = now + SIGN_PAUSE;
            self.try_pause = TRY_PAUSE_MIN;
            self.try_due = now;
        }
        counts
    }

    /// All these receivers have confirmed a key that is none of a stream: one is tried now, and tries are frequent again. Such
    /// a key was asked for by the operator, so nobody else can make this count often.
    pub fn confirmed_otherwise(&mut self, now: Time) {
        self.try_pause = TRY_PAUSE_MIN;
        self.try_due = self.try_due.min(now);
    }

    /// Whether nothing but tries is begun, because the receivers do not confirm.
    pub fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// When the next try is due, where nothing else may be begun.
    pub fn next_try(&self, now: Time) -> Option<Time> {
        (!matches!(self.room(now), Room::Bytes(_))).then_some(self.try_due)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Time = Time::from_secs(1);

    /// Tries of at most so many bytes that are possible in this time, with a sign at every moment.
    fn tries_max(time: Time) -> u64 {
        // Between two signs that count: 1, 2, 4 … 128 s, and the first at once. Then one in 300 s.
        let signs = time.as_secs() / SIGN_PAUSE.as_secs() + 1;
        (signs + 1) * 10
    }

    #[test]
    fn with_somebody_who_never_confirms_one_block_is_begun_and_then_single_keys() {
        let mut ahead = Ahead::default();
        assert_eq!(ahead.keys(Time::ZERO, 32), UNCONFIRMED_BYTES_FIRST / 32);
        ahead.begin(Time::ZERO, 1000);
        ahead.late(Time::ZERO);
        let (mut tries, mut now) = (Vec::new(), Time::ZERO);
        while now < Time::from_secs(86_400) {
            now += SECOND;
            match ahead.keys(now, 32) {
                0 => {}
                keys => {
                    assert_eq!(keys, 1);
                    ahead.begin(now, 32);
                    tries.push(now.as_secs());
                }
            }
        }
        assert_eq!(tries[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
        assert_eq!(tries[10] - tries[9], 300);
        assert!(tries.len() < 300, "a day of it: {}", tries.len());
    }

    #[test]
    fn a_confirmation_opens_the_way_and_room_grows_with_each() {
        let mut ahead = Ahead::default();
        ahead.begin(Time::ZERO, 1000);
        ahead.late(Time::ZERO);
        ahead.begin(SECOND, 32);
        assert_eq!(ahead.room(SECOND), Room::None);
        ahead.ended(2 * SECOND, SECOND, 32, Ended::Confirmed);
        assert_eq!(ahead.room(2 * SECOND), Room::Bytes(2 * UNCONFIRMED_BYTES_FIRST - 1000));
        // Late, but somebody has confirmed something that was begun after it.
        ahead.late(SECOND);
        assert!(matches!(ahead.room(2 * SECOND), Room::Bytes(_)));
        for at in 3..20 {
            ahead.begin(at * SECOND, 32);
            ahead.ended(at * SECOND, at * SECOND, 32, Ended::Confirmed);
        }
        assert_eq!(ahead.room(20 * SECOND), Room::Bytes(UNCONFIRMED_BYTES_MAX - 1000));
    }

    #[test]
    fn a_sign_brings_tries_back_once_in_a_while() {
        let mut ahead = Ahead::default();
        ahead.begin(Time::ZERO, 1000);
        ahead.late(Time::ZERO);
        for at in 1..200 {
            if ahead.room(at * SECOND) == Room::Try {
                ahead.begin(at * SECOND, 32);
            }
        }
        assert_eq!(ahead.next_try(200 * SECOND), Some(256 * SECOND));
        assert!(ahead.sign(200 * SECOND));
        assert_eq!(ahead.room(200 * SECOND), Room::Try);
        ahead.begin(200 * SECOND, 32);
        assert!(!ahead.sign(200 * SECOND));
        assert_eq!(ahead.room(200 * SECOND), Room::None, "one in five minutes");
        assert_eq!(ahead.next_try(200 * SECOND), Some(201 * SECOND), "and they are frequent again");
        ahead.ended(201 * SECOND, 200 * SECOND, 32, Ended::Confirmed);
        ahead.begin(202 * SECOND, 32);
        ahead.late(202 * SECOND);
        assert!(ahead.sign(202 * SECOND));
        assert_eq!(ahead.room(202 * SECOND), Room::Try, "after a confirmation the next sign counts");
    }

    #[test]
    fn a_key_that_was_confirmed_elsewhere_brings_a_try_and_no_more() {
        let mut ahead = Ahead::default();
        ahead.begin(Time::ZERO, 1000);
        ahead.late(Time::ZERO);
        for at in 1..200 {
            if ahead.room(at * SECOND) == Room::Try {
                ahead.begin(at * SECOND, 32);
            }
        }
        assert_eq!(ahead.room(200 * SECOND), Room::None);
        ahead.confirmed_otherwise(200 * SECOND);
        assert_eq!(ahead.room(200 * SECOND), Room::Try);
        ahead.begin(200 * SECOND, 32);
        assert_eq!((ahead.room(200 * SECOND), ahead.room(201 * SECOND)), (Room::None, Room::Try));
    }

    #[test]
    fn what_burned_nothing_is_given_back_and_what_failed_is_not() {
        let mut ahead = Ahead::default();
        for _ in 0..1000 {
            ahead.begin(Time::ZERO, 1000);
            ahead.ended(Time::ZERO, Time::ZERO, 1000, Ended::Unburned);
        }
        assert_eq!(ahead.room(Time::ZERO), Room::Bytes(UNCONFIRMED_BYTES_FIRST));
        ahead.begin(Time::ZERO, 1000);
        ahead.ended(Time::ZERO, Time::ZERO, 1000, Ended::Failed);
        assert!(ahead.is_doubtful());
        assert_eq!(ahead.keys(SECOND, 32), 1);
    }

    #[test]
    fn a_key_longer_than_the_room_may_be_the_only_one() {
        let mut ahead = Ahead::default();
        let key_bytes = 1 << 20;
        assert_eq!(ahead.keys(Time::ZERO, key_bytes), 1);
        ahead.begin(Time::ZERO, key_bytes.into());
        assert_eq!(ahead.keys(Time::ZERO, key_bytes), 0);
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Begin(u16),
        Late(u8),
        Fail(u8),
        Unburned(u8),
        Confirm(u8),
        Sign,
        Wait(u16),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => any::<u16>().prop_map(Step::Begin),
            1 => any::<u8>().prop_map(Step::Late),
            1 => any::<u8>().prop_map(Step::Fail),
            1 => any::<u8>().prop_map(Step::Unburned),
            1 => any::<u8>().prop_map(Step::Confirm),
            2 => Just(Step::Sign),
            3 => any::<u16>().prop_map(Step::Wait),
        ];
        proptest::collection::vec(step, 1..400)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever happens in whatever order: what has been burned since the last confirmation, without one, is within the
        /// bound, and so is what was under way when it came.
        #[test]
        fn what_is_burned_without_a_confirmation_is_bounded(steps in steps(), key_bytes in 1u32..5000) {
            let mut ahead = Ahead::default();
            let mut out: Vec<(Time, u64)> = Vec::new();
            // Since the last confirmation: blocks and bytes begun, less those that burned nothing; and when it came.
            let (mut blocks, mut bytes, mut since, mut now) = (0u64, 0u64, Time::ZERO, Time::ZERO);
            for step in steps {
                let pick = |at: u8| usize::from(at) % out.len().max(1);
                match step {
                    Step::Begin(want) => {
                        let keys = ahead.keys(now, key_bytes).min(u64::from(want));
                        if keys > 0 {
                            let length = keys * u64::from(key_bytes);
                            ahead.begin(now, length);
                            out.push((now, length));
                            (blocks, bytes) = (blocks + 1, bytes + length);
                        }
                    }
                    Step::Late(at) if !out.is_empty() => ahead.late(out[pick(at)].0),
                    Step::Fail(at) if !out.is_empty() => {
                        let (begun, length) = out.remove(pick(at));
                        ahead.ended(now, begun, length, Ended::Failed);
                    }
                    Step::Unburned(at) if !out.is_empty() => {
                        let (begun, length) = out.remove(pick(at));
                        ahead.ended(now, begun, length, Ended::Unburned);
                        (blocks, bytes) = (blocks.saturating_sub(1), bytes.saturating_sub(length));
                    }
                    Step::Confirm(at) if !out.is_empty() => {
                        let (begun, length) = out.remove(pick(at));
                        ahead.ended(now, begun, length, Ended::Confirmed);
                        blocks = out.len() as u64;
                        bytes = out.iter().map(|(_, length)| length).sum();
                        since = now;
                    }
                    Step::Sign => {
                        ahead.sign(now);
                    }
                    Step::Wait(ms) => now += Time::from_millis(ms.into()),
                    _ => {}
                }
                // What is given back as unburned may be begun again, as another try.
                let tries = tries_max(now - since) + u64::from(UNCONFIRMED_BLOCKS_MAX);
                prop_assert!(blocks <= u64::from(UNCONFIRMED_BLOCKS_MAX) + tries, "{blocks} blocks");
                let most = UNCONFIRMED_BYTES_MAX.max(key_bytes.into()) + tries * u64::from(key_bytes);
                prop_assert!(bytes <= most, "{bytes} bytes");
            }
        }
    }
}
