//! How long a client keeps keys that nobody takes, and records of agreements that ended: which of them go, and why.
//!
//! Age is the node's own ([`Kept::age`]): a calendar that is set wrong throws nothing away. A key that goes is recorded as
//! given up before its bytes are overwritten; whoever asks for it is told so.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use crate::ids::{BlockId, NodeId};

/// What of keys that wait is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyLimits {
    /// Keys that others agreed with this node are given up after so long. Its own, which it hands out of its pools, go after
    /// half of it: what a pool gives is then still there at a receiver with the same setting, for the other half.
    pub lifetime: Duration,
    /// Most bytes of keys that wait.
    pub bytes_max: u64,
}

/// A block with keys that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// The block.
    pub block: BlockId,
    /// Who chose its keys.
    pub sender: NodeId,
    /// Whether that was this node.
    pub own: bool,
    /// For how long they have waited, by the node's own clock.
    pub age: Duration,
    /// Bytes of its keys.
    pub bytes: u64,
}

/// Why keys are given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GivenUp {
    /// Nobody took them in their lifetime.
    Lifetime,
    /// There were more than is kept, and most of them from the same sender.
    Room,
}

/// The blocks whose keys are given up, in the order of the list. First those that are too old; then, while more wait than may, the
/// oldest of the sender of whom most bytes wait: nobody's keys make way for those of one who sends too many.
pub fn to_give_up(kept: &[Kept], limits: KeyLimits) -> Vec<(BlockId, GivenUp)> {
    let is_old = |kept: &&Kept| {
        let lifetime = if kept.own { limits.lifetime / 2 } else { limits.lifetime };
        kept.age > lifetime
    };
    let (old, young): (Vec<&Kept>, Vec<&Kept>) = kept.iter().partition(is_old);
    let mut gone: BTreeMap<BlockId, GivenUp> =
        old.iter().map(|kept| (kept.block, GivenUp::Lifetime)).collect();
    // Of each sender the bytes, and its blocks with the oldest last.
    let mut senders: BTreeMap<NodeId, (u64, Vec<&Kept>)> = BTreeMap::new();
    let mut bytes: u64 = 0;
    for kept in young {
        let of = senders.entry(kept.sender).or_default();
        of.0 = of.0.saturating_add(kept.bytes);
        of.1.push(kept);
        bytes = bytes.saturating_add(kept.bytes);
    }
    senders.values_mut().for_each(|(_, blocks)| blocks.sort_by_key(|kept| (kept.age, Reverse(kept.block))));
    while bytes > limits.bytes_max {
        let most = senders.values_mut().max_by_key(|(bytes, blocks)| (*bytes, blocks.len()));
        let Some((of, Some(oldest))) = most.map(|(of, blocks)| (of, blocks.pop())) else { break };
        *of = of.saturating_sub(oldest.bytes);
        bytes = bytes.saturating_sub(oldest.bytes);
        gone.insert(oldest.block, GivenUp::Room);
    }
    kept.iter().filter_map(|kept| Some((kept.block, *gone.get(&kept.block)?))).collect()
}

/// What of the records of agreements that ended is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordLimits {
    /// How long.
    pub lifetime: Duration,
    /// How many.
    pub count_max: usize,
}

/// The records that go, of those of agreements of which no key waits, with their age: those that are too old, and the oldest
/// beyond as many as are kept.
pub fn to_forget(ended: &[(BlockId, Duration)], limits: RecordLimits) -> Vec<BlockId> {
    let mut by_age: Vec<(Duration, BlockId)> = ended.iter().map(|(block, age)| (*age, *block)).collect();
    by_age.sort_unstable();
    let young = by_age.iter().take(limits.count_max).take_while(|(age, _)| *age <= limits.lifetime).count();
    by_age.split_off(young).into_iter().map(|(_, block)| block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const ME: NodeId = NodeId::new([1; 32]);

    fn id(number: u8) -> BlockId {
        BlockId::new([number; 16])
    }

    fn kept(block: u8, sender: NodeId, days: u32, bytes: u64) -> Kept {
        Kept { block: id(block), sender, own: sender == ME, age: DAY * days, bytes }
    }

    #[test]
    fn keys_go_after_their_lifetime_and_ones_own_after_half_of_it() {
        let other = NodeId::new([2; 32]);
        let list = [kept(1, ME, 15, 9), kept(2, ME, 16, 9), kept(3, other, 30, 9), kept(4, other, 31, 9)];
        let limits = KeyLimits { lifetime: DAY * 30, bytes_max: 1000 };
        let expected = [(id(2), GivenUp::Lifetime), (id(4), GivenUp::Lifetime)];
        assert_eq!(to_give_up(&list, limits), expected);
    }

    #[test]
    fn who_sends_too_much_makes_nobody_elses_keys_go() {
        let (honest, greedy) = (NodeId::new([2; 32]), NodeId::new([3; 32]));
        let list = [
            kept(1, honest, 9, 100),
            kept(2, greedy, 5, 300),
            kept(3, greedy, 8, 300),
            kept(4, greedy, 1, 300),
            kept(5, ME, 8, 100),
        ];
        let give_up = |bytes_max| to_give_up(&list, KeyLimits { lifetime: DAY * 30, bytes_max });
        assert_eq!(give_up(1100), []);
        assert_eq!(give_up(1099), [(id(3), GivenUp::Room)], "the oldest of the greedy one");
        assert_eq!(give_up(799), [(id(2), GivenUp::Room), (id(3), GivenUp::Room)]);
        assert_eq!(give_up(0).len(), 5);
    }

    #[test]
    fn records_go_by_age_and_by_number() {
        let ended: Vec<(BlockId, Duration)> = (1..=5).map(|day| (id(day), DAY * u32::from(day))).collect();
        let forget = |days, count_max| to_forget(&ended, RecordLimits { lifetime: DAY * days, count_max });
        assert_eq!(forget(5, 5), []);
        assert_eq!(forget(3, 5), [id(4), id(5)]);
        assert_eq!(forget(5, 2), [id(3), id(4), id(5)]);
        assert_eq!(forget(0, 9).len(), 5);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_more_is_kept_than_may_be_and_no_more_goes_than_must(
            list in prop::collection::vec((1u8..5, 0u32..40, 1u64..100), 0..40),
            bytes_max in 0u64..2000,
        ) {
            let list: Vec<Kept> = (1..).zip(&list)
                .map(|(block, &(sender, days, bytes))| kept(block, NodeId::new([sender; 32]), days, bytes))
                .collect();
            let limits = KeyLimits { lifetime: DAY * 20, bytes_max };
            let gone: BTreeMap<BlockId, GivenUp> = to_give_up(&list, limits).into_iter().collect();
            let left: u64 = list.iter().filter(|k| !gone.contains_key(&k.block)).map(|k| k.bytes).sum();
            prop_assert!(left <= bytes_max);
            let largest = list.iter().map(|k| k.bytes).max().unwrap_or(0);
            if gone.values().any(|why| *why == GivenUp::Room) {
                prop_assert!(left + largest > bytes_max, "one of them could have stayed");
            }
            for kept in &list {
                let lifetime = if kept.own { DAY * 10 } else { DAY * 20 };
                let old = gone.get(&kept.block) == Some(&GivenUp::Lifetime);
                prop_assert_eq!(old, kept.age > lifetime);
            }
            prop_assert_eq!(to_give_up(&list, limits), to_give_up(&list, limits));
        }
    }
}
