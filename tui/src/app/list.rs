//! A list of rows: how it is sorted, and which of them is chosen.

use crate::screens::{Entry, Screen};

/// See the head of the file.
#[derive(Debug, Clone)]
pub(crate) struct List {
    screen: Screen,
    pub(crate) column: usize,
    pub(crate) downwards: bool,
    /// The chosen row, by its key; `None` is the first one, whatever it is.
    chosen: Option<String>,
    /// Where it was last, for when it has gone.
    at: usize,
    /// Of a text without rows: the first line that is seen.
    pub(crate) scroll: usize,
}

impl List {
    pub(crate) fn new(screen: Screen) -> Self {
        let (column, downwards) = screen.sorted();
        Self { screen, column, downwards, chosen: None, at: 0, scroll: 0 }
    }

    /// Sorts by the next column.
    pub(crate) fn sort_next(&mut self) {
        let columns = self.screen.columns().len().max(1);
        (self.column, self.downwards) = ((self.column + 1) % columns, false);
    }

    /// Sorts by this column; a second time, the other way.
    pub(crate) fn sort_by(&mut self, column: usize) {
        if self.column == column {
            self.downwards = !self.downwards;
        } else {
            (self.column, self.downwards) = (column, false);
        }
    }

    /// Filters and sorts rows. Equal ones stand by their keys, so that nothing jumps.
    pub(crate) fn arrange(&self, mut entries: Vec<Entry>, words: &[String]) -> Vec<Entry> {
        entries.retain(|entry| entry.matches(words));
        entries.sort_by(|one, other| {
            let (one_rank, other_rank) = (one.ranks.get(self.column), other.ranks.get(self.column));
            let order = one_rank.cmp(&other_rank);
            let order = if self.downwards { order.reverse() } else { order };
            order.then_with(|| one.key.cmp(&other.key))
        });
        entries
    }

    /// Place of the chosen row among these.
    pub(crate) fn place(&self, entries: &[Entry]) -> usize {
        let chosen = self.chosen.as_ref();
        let found = chosen.and_then(|chosen| entries.iter().position(|entry| entry.key == *chosen));
        found
            .unwrap_or_else(|| if chosen.is_some() { self.at } else { 0 })
            .min(entries.len().saturating_sub(1))
    }

    /// Chooses a row by its place.
    pub(crate) fn choose(&mut self, entries: &[Entry], at: usize) {
        let at = at.min(entries.len().saturating_sub(1));
        self.at = at;
        // The first one is chosen for its place: what comes in above it becomes the first.
        self.chosen = entries.get(at).filter(|_| at > 0).map(|entry| entry.key.clone());
    }
}
