//! Whose turn it is to search among false shares: so many at once and no more, and each sender in turn.
//!
//! A search may take seconds where hubs lie. Without a bound, hubs that lie in every agreement would have as many under way as there
//! are agreements; without turns, the many agreements of one sender would keep those of another waiting.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
};

use crate::{
    ids::{BlockId, NodeId},
    params::SEARCHES_MAX,
};

/// Searches under way, and those that wait. What waits is bounded by the agreements that a receiver collects.
#[derive(Debug, Default)]
pub(super) struct Searches {
    under_way: BTreeSet<BlockId>,
    /// By sender; none is empty.
    waiting: BTreeMap<NodeId, VecDeque<BlockId>>,
    served_last: Option<NodeId>,
}

impl Searches {
    /// Whether a search may begin now, or is under way already; otherwise it waits for its turn.
    pub(super) fn begin(&mut self, sender: NodeId, block: BlockId) -> bool {
        if self.under_way.contains(&block) {
            return true;
        }
        if self.under_way.len() < SEARCHES_MAX && self.waiting.is_empty() {
            self.served_last = Some(sender);
            return self.under_way.insert(block);
        }
        let of_sender = self.waiting.entry(sender).or_default();
        if !of_sender.contains(&block) {
            of_sender.push_back(block);
        }
        false
    }

    /// A search has ended, or there was none.
    pub(super) fn end(&mut self, block: &BlockId) {
        self.under_way.remove(block);
    }

    /// The next block whose turn it is, where there is room: the eldest of the sender that follows the last one. Its
    /// search counts as under way.
    pub(super) fn turn(&mut self) -> Option<BlockId> {
        if self.under_way.len() >= SEARCHES_MAX {
            return None;
        }
        let after = self.served_last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut in_turn = self.waiting.range((after, Bound::Unbounded)).chain(&self.waiting);
        let sender = in_turn.next().map(|(sender, _)| *sender)?;
        let of_sender = self.waiting.get_mut(&sender)?;
        let block = of_sender.pop_front()?;
        if of_sender.is_empty() {
            self.waiting.remove(&sender);
        }
        self.served_last = Some(sender);
        self.under_way.insert(block);
        Some(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: u8) -> BlockId {
        BlockId::new([number; 16])
    }

    fn node(number: u8) -> NodeId {
        NodeId::new([number; 32])
    }

    #[test]
    fn no_more_run_at_once_than_the_limit_and_each_sender_has_its_turn() {
        let mut searches = Searches::default();
        // A sender with many, and two that come after it with one each.
        for number in 0..10 {
            assert_eq!(searches.begin(node(5), block(number)), usize::from(number) < SEARCHES_MAX);
        }
        assert!(searches.begin(node(5), block(0)), "it is under way");
        assert!(!searches.begin(node(5), block(9)), "it waits, and once");
        assert!(!searches.begin(node(9), block(20)) && !searches.begin(node(1), block(30)));
        assert_eq!(searches.turn(), None, "there is no room");
        let mut order = Vec::new();
        for number in (0..SEARCHES_MAX).cycle().take(3) {
            searches.end(&block(u8::try_from(number).unwrap()));
            while let Some(next) = searches.turn() {
                order.push(next);
                searches.end(&next);
            }
        }
        let expected: Vec<BlockId> =
            [20, 30].into_iter().chain(u8::try_from(SEARCHES_MAX).unwrap()..10).map(block).collect();
        assert_eq!(order, expected);
        assert!(searches.begin(node(5), block(9)), "it may come again");
    }
}
