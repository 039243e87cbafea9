//! What one end of a round says to the other (§3), and says again where it found no answer.
//!
//! Without a direct link it goes through hubs, any of which may be bad and swallow it. So only the first word goes one
//! way; whatever follows goes every way at once, and one honest hub is enough.

use crate::{
    params::{SAID_AGAIN, Time},
    planted::{Fault, planted},
};

/// By which ways a message goes to another client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ways {
    /// The direct link where there is one, otherwise one of the hubs that both use.
    One,
    /// The direct link where there is one, and every hub that both use.
    All,
}

impl Ways {
    /// The ways of what is said again, or after something that found no answer.
    pub(crate) fn again() -> Self {
        if planted(Fault::AgainOneWay) { Self::One } else { Self::All }
    }
}

/// A message that was said, always the same.
pub(crate) struct Saying {
    bytes: Vec<u8>,
    last: Time,
}

impl Saying {
    /// One that goes out now.
    pub(crate) fn new(now: Time, bytes: Vec<u8>) -> Self {
        Self { bytes, last: now }
    }

    /// The message, to be said again every way; `None` where that was done just now. What asks for it may come
    /// through all hubs at once, or from one that repeats it without end.
    pub(crate) fn again(&mut self, now: Time) -> Option<Vec<u8>> {
        if now < self.last + SAID_AGAIN {
            return None;
        }
        self.last = now;
        Some(self.bytes.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_not_said_again_sooner_however_often_it_is_asked_for() {
        let start = Time::from_millis(5);
        let mut saying = Saying::new(start, vec![7]);
        let said: Vec<u64> = (0..1000)
            .filter(|ms| saying.again(start + Time::from_millis(*ms)).is_some_and(|bytes| bytes == [7]))
            .collect();
        assert_eq!(said, [300, 600, 900]);
    }
}
