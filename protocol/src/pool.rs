//! What a stream of keys has ahead: runs of keys that every receiver has, taken in order.
//!
//! Taking from the pool decides which keys are handed out; whether they are rests with the store, which may refuse: the
//! block was voided, or is damaged. Then what the others of the same request gave comes back, and the block does not.

use std::collections::VecDeque;

use crate::ids::{BlockId, KeyId};

/// Consecutive keys of one block: the first, and their number.
pub type KeySpan = (KeyId, u32);

/// Keys that every receiver has, oldest block first.
#[derive(Debug, Default)]
pub struct Pool {
    spans: VecDeque<Span>,
    keys: u64,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    block: BlockId,
    next: u32,
    end: u32,
}

impl Span {
    fn len(&self) -> u32 {
        self.end - self.next
    }
}

impl Pool {
    /// Adds the keys of a block from `next` to before `end`.
    pub fn add(&mut self, block: BlockId, next: u32, end: u32) {
        if next < end {
            self.keys += u64::from(end - next);
            self.spans.push_back(Span { block, next, end });
        }
    }

    /// Whether one of so many keys is among those that are still to be handed out.
    pub fn holds(&self, first: KeyId, count: u32) -> bool {
        let end = first.index.saturating_add(count);
        let overlap = |span: &Span| first.index < span.end && span.next < end;
        self.spans.iter().any(|span| span.block == first.block && overlap(span))
    }

    /// Number of keys.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Takes so many keys, in order. `None` where there are not as many; then nothing is taken.
    pub fn take(&mut self, count: u32) -> Option<Vec<KeySpan>> {
        if self.keys < u64::from(count) {
            return None;
        }
        let mut spans = Vec::new();
        let mut left = count;
        while left > 0 {
            let first = self.spans.front_mut()?;
            let taken = left.min(first.len());
            spans.push((KeyId { block: first.block, index: first.next }, taken));
            first.next += taken;
            left -= taken;
            self.keys -= u64::from(taken);
            if first.next == first.end {
                self.spans.pop_front();
            }
        }
        Some(spans)
    }

    /// Puts back, before all others and in their order, what was taken and not handed out.
    pub fn give_back(&mut self, spans: &[KeySpan]) {
        for &(first, count) in spans.iter().rev() {
            let Some(end) = first.index.checked_add(count).filter(|_| count > 0) else { continue };
            self.keys += u64::from(count);
            match self.spans.front_mut() {
                Some(front) if front.block == first.block && front.next == end => front.next = first.index,
                _ => self.spans.push_front(Span { block: first.block, next: first.index, end }),
            }
        }
    }

    /// Keeps the keys of those blocks alone of which it is said; gives how many others there were.
    pub fn retain(&mut self, keep: impl Fn(&BlockId) -> bool) -> u64 {
        let before = self.keys;
        self.spans.retain(|span| keep(&span.block));
        self.keys = self.spans.iter().map(|span| u64::from(span.len())).sum();
        before - self.keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: BlockId = BlockId::new([1; 16]);
    const B: BlockId = BlockId::new([2; 16]);

    fn id(block: BlockId, index: u32) -> KeyId {
        KeyId { block, index }
    }

    #[test]
    fn keys_come_in_order_across_blocks_and_never_in_part() {
        let mut pool = Pool::default();
        pool.add(A, 2, 4);
        pool.add(B, 0, 3);
        pool.add(B, 3, 3);
        assert_eq!(pool.keys(), 5);
        assert_eq!(pool.take(6), None);
        assert!(pool.holds(id(A, 2), 1) && pool.holds(id(A, 0), 3));
        assert!(!pool.holds(id(A, 0), 2) && !pool.holds(id(A, 4), 9));
        assert_eq!(pool.take(1), Some(vec![(id(A, 2), 1)]));
        assert!(!pool.holds(id(A, 2), 1), "it has been handed out");
        assert_eq!(pool.take(3), Some(vec![(id(A, 3), 1), (id(B, 0), 2)]));
        assert_eq!(pool.take(1), Some(vec![(id(B, 2), 1)]));
        assert_eq!((pool.keys(), pool.take(1)), (0, None));
    }

    #[test]
    fn what_was_not_handed_out_comes_first_again_and_a_void_block_never() {
        let mut pool = Pool::default();
        pool.add(A, 0, 4);
        pool.add(B, 0, 4);
        let taken = pool.take(6).expect("eight are there");
        assert_eq!(taken, [(id(A, 0), 4), (id(B, 0), 2)]);
        // The first block turns out to be void.
        let rest: Vec<KeySpan> = taken.into_iter().filter(|(first, _)| first.block != A).collect();
        pool.give_back(&rest);
        assert_eq!(pool.retain(|block| *block != A), 0);
        assert_eq!((pool.keys(), pool.take(4)), (4, Some(vec![(id(B, 0), 4)])));
        pool.add(A, 0, 2);
        pool.add(B, 7, 9);
        assert_eq!((pool.retain(|block| *block == B), pool.keys()), (2, 2));
        assert_eq!(pool.take(2), Some(vec![(id(B, 7), 2)]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_key_is_handed_out_twice_nor_after_its_block_is_void(
            steps in prop::collection::vec((0u8..4, 1u32..9), 1..60),
        ) {
            let mut pool = Pool::default();
            let mut blocks = 0u8;
            let mut there = std::collections::BTreeSet::new();
            for (step, number) in steps {
                match step {
                    0 => {
                        blocks += 1;
                        let block = BlockId::new([blocks; 16]);
                        pool.add(block, 0, number);
                        there.extend((0..number).map(|index| (block, index)));
                    }
                    1 | 2 => {
                        let Some(spans) = pool.take(number) else {
                            prop_assert!(there.len() < number as usize);
                            continue;
                        };
                        if step == 2 && number % 2 == 0 {
                            pool.give_back(&spans);
                            continue;
                        }
                        for (first, count) in spans {
                            for index in first.index..first.index + count {
                                prop_assert!(there.remove(&(first.block, index)), "{index} of {}", first.block);
                            }
                        }
                    }
                    _ => {
                        let gone = BlockId::new([u8::try_from(number).expect("small"); 16]);
                        pool.retain(|block| *block != gone);
                        there.retain(|(block, _)| *block != gone);
                    }
                }
                prop_assert_eq!(pool.keys(), there.len() as u64);
            }
        }
    }
}
