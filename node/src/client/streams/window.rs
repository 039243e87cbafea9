//! How many blocks of a stream are under way at once.
//!
//! Too few leave the way to the hubs empty, too many only wait for each other, in more memory than the processors'
//! caches hold: on one machine six blocks at once went half as fast as two. So the number follows what is seen. Now
//! and then a block goes alone; how much longer the others take says how many of them wait. It is kept at about one, as
//! TCP Vegas does with packets (Brakmo and Peterson, 1995).

use std::time::Duration;

/// Blocks under way at the beginning, and at most.
const FIRST: usize = 2;
/// See [`FIRST`].
const MOST: usize = 8;

/// So many blocks are begun between the first two that go alone, twice as many each time, and at most.
const BETWEEN_ALONE_FIRST: u32 = 8;
/// See [`BETWEEN_ALONE_FIRST`].
const BETWEEN_ALONE: u32 = 128;

/// With fewer blocks waiting another is begun; with more, one fewer.
const WAITING_FEW: f64 = 0.5;
/// See [`WAITING_FEW`].
const WAITING_MANY: f64 = 1.5;

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Window {
    size: usize,
    /// How long a block takes that goes alone.
    alone: Option<Duration>,
    /// Whether one is under way that goes alone.
    measuring: bool,
    /// Blocks to be begun before the next one goes alone.
    until_alone: u32,
    between_alone: u32,
    /// How long the others took that have ended since the size was last looked at.
    took: Vec<Duration>,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            size: FIRST,
            alone: None,
            measuring: false,
            until_alone: 0,
            between_alone: BETWEEN_ALONE_FIRST,
            took: Vec::new(),
        }
    }
}

impl Window {
    /// Blocks that may be under way at once.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Whether another may begin beside so many.
    pub(super) fn has_room(&self, under_way: usize) -> bool {
        let most = if self.until_alone == 0 { 1 } else { self.size };
        !self.measuring && under_way < most
    }

    /// One begins beside so many. `true` where it goes alone: [`Window::ended`] wants to know.
    pub(super) fn begin(&mut self, under_way: usize) -> bool {
        let alone = self.until_alone == 0 && under_way == 0;
        if alone {
            self.measuring = true;
            self.until_alone = self.between_alone;
        } else {
            self.until_alone = self.until_alone.saturating_sub(1);
        }
        alone
    }

    /// Blocks have another length from now on: what was measured does not count any more.
    pub(super) fn again(&mut self) {
        self.alone = None;
        self.until_alone = 0;
        self.between_alone = BETWEEN_ALONE_FIRST;
        self.took.clear();
    }

    /// One has ended, after `took` where it came to keys.
    pub(super) fn ended(&mut self, alone: bool, took: Option<Duration>) {
        if alone {
            self.measuring = false;
            match took {
                Some(took) => {
                    // One that was held up by something else must not count for long, nor a way that has grown for ever.
                    self.alone = Some(self.alone.map_or(took, |before| took.min((before + took) / 2)));
                    self.between_alone = (self.between_alone * 2).min(BETWEEN_ALONE);
                }
                None => self.until_alone = 0,
            }
            return;
        }
        let (Some(took), Some(alone)) = (took, self.alone) else { return };
        self.took.push(took);
        // One look for every change of the size, when half of what has ended began after the last one.
        if self.took.len() < 2 * self.size {
            return;
        }
        let all: Duration = self.took.iter().sum();
        let waiting = self.size as f64
            - alone.as_secs_f64() * (self.size * self.took.len()) as f64 / all.as_secs_f64().max(1e-6);
        self.took.clear();
        if waiting < WAITING_FEW {
            self.size = (self.size + 1).min(MOST);
        } else if waiting > WAITING_MANY {
            self.size = (self.size - 1).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Agrees blocks that take `work` one after the other and `way` beside each other; gives the sizes seen.
    fn sizes(window: &mut Window, work: Duration, way: Duration, blocks: usize) -> Vec<usize> {
        let (mut now, mut free) = (Duration::ZERO, Duration::ZERO);
        let mut out: VecDeque<(Duration, Duration, bool)> = VecDeque::new();
        let mut sizes = Vec::new();
        while sizes.len() < blocks {
            while window.has_room(out.len()) {
                let alone = window.begin(out.len());
                free = free.max(now) + work;
                out.push_back((now, free + way, alone));
            }
            let (begun, done, alone) = out.pop_front().unwrap();
            now = done;
            window.ended(alone, Some(done - begun));
            sizes.push(window.size());
        }
        sizes
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn where_work_is_the_limit_few_are_under_way() {
        let mut window = Window::default();
        let seen = sizes(&mut window, 20 * MS, 3 * MS, 1000);
        assert!(seen[200..].iter().all(|size| *size == 2), "{seen:?}");
    }

    #[test]
    fn where_the_way_is_long_many_are() {
        let mut window = Window::default();
        let seen = sizes(&mut window, 5 * MS, 200 * MS, 1000);
        assert_eq!(seen.last(), Some(&MOST));
        // And fewer again when the way has become short.
        let seen = sizes(&mut window, 20 * MS, 3 * MS, 1000);
        assert!(seen[400..].iter().all(|size| *size == 2), "{seen:?}");
    }

    #[test]
    fn one_goes_alone_now_and_then_and_again_if_it_fails() {
        let mut window = Window::default();
        assert!(window.has_room(0) && window.begin(0), "the first one does");
        assert!(!window.has_room(1), "beside it there is no other");
        window.ended(true, None);
        assert!(window.has_room(0) && window.begin(0), "it has failed");
        window.ended(true, Some(10 * MS));
        for _ in 0..BETWEEN_ALONE_FIRST {
            assert!(!window.begin(0));
            window.ended(false, Some(10 * MS));
        }
        assert!(!window.has_room(1), "those under way are awaited");
        assert!(window.has_room(0) && window.begin(0));
    }

    #[test]
    fn failures_change_nothing() {
        let mut window = Window::default();
        assert!(window.begin(0));
        window.ended(true, Some(10 * MS));
        (0..100).for_each(|_| window.ended(false, None));
        assert_eq!(window.size(), FIRST);
    }
}
