//! What hubs say about this node's directory having been put back, and which waiting keys that makes void.
//!
//! A key that waited in a copy may have been handed out after the copy was taken, so it is void once the directory is
//! known to have been put back. A node cannot see that by itself, and one hub's word is not enough: k_B distinct hubs
//! must say so. What was agreed after the directory was put back is good, and stays.
//!
//! The store counts *turns*: one more at each start, and at each comparison that ends. Each block has the turn in which it
//! was agreed, each table that of its last comparison. A hub that says "you were put back" at a table says that it
//! happened after that table's last comparison and not after this start: in the turns `after < turn <= until`. Where k_B
//! hubs have a turn in common, what was agreed before it is void, and that is dealt with: what a hub says of a table that
//! was last compared before then is explained by it, however late it comes. But one of the k_B may have meant a later turn, and
//! the others lied: the rest of its word stays open, and within that rest those of others count too.
//!
//! Must never: count one hub twice; void for fewer than k_B hubs; void what was agreed after.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    ids::NodeId,
    planted::{Fault, planted},
};

/// What one hub says: the directory was put back in a turn after `after` and up to `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The turn of the last comparison that it did not contradict.
    pub after: u64,
    /// The last turn in which it can have been.
    pub until: u64,
    /// How often it has said so.
    pub times: u32,
}

impl Said {
    fn covers(&self, turn: u64) -> bool {
        self.after < turn && turn <= self.until
    }
}

/// See the head of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restores {
    /// The last turn in which the directory is known to have been put back; 0 where it never was.
    dealt_with: u64,
    said: BTreeMap<NodeId, Said>,
}

impl Restores {
    /// What is on record.
    pub fn new(dealt_with: u64, said: impl IntoIterator<Item = (NodeId, Said)>) -> Self {
        Self { dealt_with, said: said.into_iter().collect() }
    }

    /// The last turn in which the directory is known to have been put back.
    pub fn dealt_with(&self) -> u64 {
        self.dealt_with
    }

    /// What hubs say that has not been dealt with.
    pub fn said(&self) -> &BTreeMap<NodeId, Said> {
        &self.said
    }

    /// A hub says at a table, which was last compared in turn `after`, that the directory was put back; at the latest in
    /// turn `until`. Gives the turn before which all that waits is void, where `k_min` hubs say so with it.
    pub fn hear(&mut self, hub: NodeId, after: u64, until: u64, k_min: u8) -> Option<u64> {
        let (after, until) = self.unexplained(after, until)?;
        let said = self.said.entry(hub).or_insert(Said { after, until, times: 0 });
        said.after = said.after.min(after);
        said.until = said.until.max(until);
        said.times = said.times.saturating_add(1);
        let voices = |turn: u64| self.said.values().filter(|said| said.covers(turn)).count();
        let needed = if planted(Fault::OneHubVoids) { 1 } else { usize::from(k_min.max(1)) };
        let turns = self.said.values().map(|said| said.until);
        let turn = turns.filter(|&turn| voices(turn) >= needed).max()?;
        self.dealt_with = turn;
        // One that may as well have meant a later turn may have been the only true one: the rest of it is still open.
        self.said.retain(|_, said| said.until > turn);
        self.said.values_mut().for_each(|said| said.after = said.after.max(turn));
        Some(turn)
    }

    /// What of a hub's word is not explained by what was dealt with. Where another one that counted then is still open
    /// beyond it, those that it counted with may have lied; up to there this word is new.
    fn unexplained(&self, after: u64, until: u64) -> Option<(u64, u64)> {
        if after >= self.dealt_with || planted(Fault::LateWordVoids) {
            return Some((after, until));
        }
        let open = self.said.values().filter(|said| said.after == self.dealt_with);
        let until = until.min(open.map(|said| said.until).max()?);
        (until > self.dealt_with).then_some((self.dealt_with, until))
    }

    /// What this node has found by itself, without anybody's word: its directory is of several moments since that turn.
    /// Gives the turn before which all that waits is void.
    pub fn found(&mut self, turn: u64) -> Option<u64> {
        if turn <= self.dealt_with {
            return None;
        }
        self.dealt_with = turn;
        self.said.retain(|_, said| said.after >= turn);
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    fn hub(at: u8) -> NodeId {
        NodeId::new([at; 32])
    }

    #[test]
    fn it_takes_k_b_distinct_hubs() {
        let mut restores = Restores::default();
        for times in 1..=20 {
            assert_eq!(restores.hear(hub(1), 3, 9, 3), None);
            assert_eq!(restores.said()[&hub(1)].times, times);
        }
        assert_eq!(restores.hear(hub(2), 5, 9, 3), None);
        assert_eq!(restores.hear(hub(3), 1, 9, 3), Some(9));
        assert!(restores.said().is_empty());
    }

    #[test]
    fn several_tables_of_one_hub_have_one_voice() {
        let mut restores = Restores::default();
        assert_eq!((restores.hear(hub(1), 3, 9, 2), restores.hear(hub(1), 7, 9, 2)), (None, None));
        assert_eq!(restores.said().len(), 1);
    }

    #[test]
    fn what_comes_later_from_others_is_explained_by_what_was_dealt_with() {
        let mut restores = Restores::default();
        assert_eq!((restores.hear(hub(1), 3, 9, 2), restores.hear(hub(2), 4, 9, 2)), (None, Some(9)));
        // Days and starts later: they had not been compared since.
        for late in 3..=20 {
            assert_eq!(restores.hear(hub(late), 8, 40, 2), None);
        }
        // One that had says something new, and is alone with it.
        assert_eq!(restores.hear(hub(1), 12, 40, 2), None);
        assert_eq!(restores.hear(hub(2), 30, 40, 2), Some(40), "a second one");
    }

    #[test]
    fn fewer_than_k_b_at_first_and_the_others_after_another_start() {
        let mut restores = Restores::default();
        assert_eq!(restores.hear(hub(1), 3, 9, 2), None);
        assert_eq!(restores.hear(hub(2), 4, 20, 2), Some(9), "the turn that both can mean");
        assert_eq!(restores.hear(hub(2), 4, 25, 2), None, "it has one voice");
        assert_eq!(
            restores.hear(hub(3), 4, 30, 2),
            Some(20),
            "had the first lied, these two would mean a later one"
        );
        assert!(restores.said().is_empty());
        assert_eq!(restores.hear(hub(4), 4, 40, 2), None);
    }

    #[test]
    fn a_lie_from_before_a_restore_does_not_explain_what_is_said_of_it() {
        // For each number of liars below k_B, and whenever they have lied in turns that honest hubs may mean as well.
        for k_min in 2..=4 {
            for lied in 4..=9 {
                let mut restores = Restores::default();
                for liar in 1..k_min {
                    assert_eq!(restores.hear(hub(liar), 3, lied, k_min), None);
                }
                let honest: Vec<_> = (0..k_min).map(|at| restores.hear(hub(100 + at), 2, 9, k_min)).collect();
                assert_eq!(honest.last(), Some(&if lied < 9 { Some(9) } else { None }), "{k_min}, {lied}");
                assert_eq!((restores.dealt_with(), restores.said().len()), (9, 0));
                assert_eq!(restores.hear(hub(200), 2, 20, k_min), None, "and then it is");
            }
        }
    }

    /// What a store keeps of it.
    #[derive(Debug, Clone)]
    struct Kept {
        restores: Restores,
        turn: u64,
        start: u64,
        last: Vec<u64>,
        /// Everything agreed before this is void.
        void: u64,
    }

    impl Kept {
        fn starts(&mut self) {
            self.turn += 1;
            self.start = self.turn;
        }

        fn compares(&mut self, at: usize) {
            self.turn += 1;
            self.last[at] = self.turn;
        }

        fn says(&mut self, at: usize, k_min: u8) {
            let until = if self.last[at] < self.start { self.start } else { self.turn + 1 };
            let id = hub(u8::try_from(at).unwrap_or(u8::MAX));
            self.void = self.void.max(self.restores.hear(id, self.last[at], until, k_min).unwrap_or(0));
            self.turn = self.turn.max(until);
            self.compares(at);
        }
    }

    #[test]
    fn fewer_than_k_b_liars_void_nothing_and_hide_no_restore() {
        let mut dice = StdRng::seed_from_u64(5);
        let mut roll = |sides: u64| dice.next_u64() % sides;
        for round in 0..20_000 {
            let k_min = u8::try_from(2 + roll(3)).expect("small");
            // First the liars, one fewer than it takes, then as many honest hubs as it takes.
            let (liars, hubs) = (usize::from(k_min) - 1, 2 * usize::from(k_min) - 1);
            let any = |below: usize, roll: u64| usize::try_from(roll).expect("small") % below;
            let restores = Restores::default();
            let mut now = Kept { restores, turn: 1, start: 1, last: vec![0; hubs], void: 0 };
            (0..hubs).for_each(|at| now.compares(at));
            let live = |now: &mut Kept, steps: u64, roll: &mut dyn FnMut(u64) -> u64| {
                for _ in 0..steps {
                    match roll(4) {
                        0 => now.starts(),
                        1 => now.compares(any(hubs, roll(97))),
                        _ => now.says(any(liars, roll(97)), k_min),
                    }
                }
            };
            let steps = roll(12);
            live(&mut now, steps, &mut roll);
            assert_eq!(now.void, 0, "round {round}: nothing was put back");
            // The copy, put back after more has happened, of which it knows nothing.
            now.starts();
            let restored = now.start;
            let mut honest: Vec<usize> = (liars..hubs).collect();
            while !honest.is_empty() {
                if roll(4) == 0 {
                    now.starts();
                } else if roll(3) == 0 {
                    now.says(any(liars, roll(97)), k_min);
                } else {
                    let at = honest.swap_remove(any(honest.len(), roll(97)));
                    now.says(at, k_min);
                }
            }
            assert!(now.void >= restored, "round {round}: {now:?}, put back at {restored}");
        }
    }

    #[test]
    fn what_is_open_is_on_record() {
        let mut restores = Restores::default();
        restores.hear(hub(1), 3, 5, 2);
        assert_eq!(restores.hear(hub(2), 2, 9, 2), Some(5));
        let mut again = Restores::new(restores.dealt_with(), restores.said().clone());
        assert_eq!(again, restores);
        assert_eq!(again.hear(hub(3), 2, 9, 2), Some(9));
    }

    #[test]
    fn words_about_different_times_do_not_add_up() {
        let mut restores = Restores::default();
        assert_eq!(restores.hear(hub(1), 8, 9, 2), None, "a liar");
        assert_eq!(restores.hear(hub(2), 11, 12, 2), None);
        assert_eq!(restores.hear(hub(3), 11, 12, 2), Some(12));
        assert_eq!(restores.dealt_with(), 12);
        assert!(restores.said().is_empty(), "the liar's word is about what is void already");
    }

    #[test]
    fn two_in_a_row_are_told_apart() {
        let mut restores = Restores::default();
        assert_eq!((restores.hear(hub(1), 3, 9, 2), restores.hear(hub(2), 3, 9, 2)), (None, Some(9)));
        assert_eq!((restores.hear(hub(1), 10, 15, 2), restores.hear(hub(2), 11, 15, 2)), (None, Some(15)));
        assert_eq!(restores.hear(hub(3), 3, 15, 2), None, "of either it is late word");
    }

    #[test]
    fn a_table_that_is_new_says_no_more_than_others() {
        let mut restores = Restores::new(9, []);
        assert_eq!(restores.hear(hub(1), 0, 12, 1), None, "never compared: explained");
        assert_eq!(restores.hear(hub(1), 12, 13, 1), Some(13));
    }

    #[test]
    fn what_is_found_without_anybody_is_void_once() {
        let mut restores = Restores::default();
        assert_eq!(restores.hear(hub(1), 3, 9, 2), None);
        assert_eq!((restores.found(9), restores.found(9)), (Some(9), None));
        assert!(restores.said().is_empty());
        assert_eq!(restores.hear(hub(2), 3, 9, 1), None);
    }

    #[test]
    fn what_is_on_record_goes_on() {
        let mut restores = Restores::default();
        restores.hear(hub(1), 3, 9, 2);
        let mut again = Restores::new(restores.dealt_with(), restores.said().clone());
        assert_eq!(again, restores);
        assert_eq!(again.hear(hub(1), 3, 9, 2), None, "a restart does not double it");
        assert_eq!(again.hear(hub(2), 3, 10, 2), Some(9), "and does not lose it");
    }
}
