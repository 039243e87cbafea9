//! Text onto the screen: in the palette's colours, in ASCII where that is wanted, never beyond its place.

use ratatui::{
    buffer::Buffer,
    style::Style,
    text::{Line, Span},
};

use crate::{
    app::App,
    screens::Spans,
    text,
    theme::{Palette, Tone},
};

/// See the head of the file.
#[derive(Clone, Copy)]
pub(super) struct Pen {
    palette: Palette,
    ascii: bool,
}

impl Pen {
    pub(super) fn new(app: &App) -> Self {
        Self { palette: app.palette(), ascii: app.settings().ascii }
    }

    pub(super) fn style(self, tone: Tone) -> Style {
        self.palette.style(tone)
    }

    fn plain(self, text: &str) -> String {
        if self.ascii { text::ascii(text) } else { text.to_owned() }
    }

    /// Writes pieces from `(x, y)` on, cut to `columns`; gives the columns that they took.
    pub(super) fn write(
        self,
        buffer: &mut Buffer,
        at: (u16, u16),
        columns: u16,
        spans: &[(String, Tone)],
    ) -> u16 {
        let whole: usize = spans.iter().map(|(text, _)| text::width(text)).sum();
        let cut = whole > usize::from(columns);
        let mut left = usize::from(columns);
        let mut x = at.0;
        for (piece, tone) in spans {
            if left == 0 {
                break;
            }
            let wide = text::width(piece);
            // The last piece that fits in part gets the mark that something is missing.
            let shown =
                if cut && wide >= left { text::clip(&format!("{piece}…"), left) } else { piece.clone() };
            let (next, _) = buffer.set_stringn(x, at.1, self.plain(&shown), left, self.style(*tone));
            left = left.saturating_sub(usize::from(next.saturating_sub(x)));
            x = next;
        }
        x.saturating_sub(at.0)
    }

    /// A line for a paragraph.
    pub(super) fn line(self, spans: &Spans) -> Line<'static> {
        let span = |(text, tone): &(String, Tone)| Span::styled(self.plain(text), self.style(*tone));
        Line::from(spans.iter().map(span).collect::<Vec<_>>())
    }
}
