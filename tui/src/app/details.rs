//! Details that are longer than their pane: which of their lines are seen.

use ratatui::layout::Rect;

use crate::screens::Screen;

/// See the head of the file. As they were painted last; the next picture goes on from here.
#[derive(Debug, Clone, Default)]
pub(crate) struct Details {
    pub(crate) area: Rect,
    /// The screen and the row that they are about.
    of: Option<(Screen, String)>,
    first: usize,
    lines: usize,
}

impl Details {
    /// So many lines in this place: from where they were left, or from the top where they are about something else.
    pub(crate) fn painted(&self, of: (Screen, String), area: Rect, lines: usize) -> Self {
        let first = if self.of.as_ref() == Some(&of) { self.first } else { 0 };
        let mut painted = Self { area, of: Some(of), first, lines };
        painted.turn(|first| first);
        painted
    }

    /// Moves them, no further than their end.
    pub(crate) fn turn(&mut self, to: impl Fn(usize) -> usize) {
        self.first = to(self.first).min(self.lines.saturating_sub(self.page()));
    }

    /// Lines that there is room for.
    pub(crate) fn page(&self) -> usize {
        usize::from(self.area.height)
    }

    /// Lines above the first one that is seen.
    pub(crate) fn above(&self) -> usize {
        self.first
    }

    /// Lines below the last one that is seen.
    pub(crate) fn below(&self) -> usize {
        self.lines.saturating_sub(self.first.saturating_add(self.page()))
    }

    /// Whether there is more than is seen.
    pub(crate) fn is_cut(&self) -> bool {
        self.above() + self.below() > 0
    }
}
