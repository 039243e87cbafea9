//! The question before something that cannot be undone, or that costs.

use ratatui::{
    Frame,
    layout::Rect,
    text::Line,
    widgets::{Block, Borders, Clear, Paragraph, Wrap},
};

use super::pen::Pen;
use crate::{
    app::{App, Mode, Question},
    theme::Tone,
};

/// Widest and highest.
const WIDTH: u16 = 64;
const HEIGHT: u16 = 8;

pub(super) fn paint(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let Mode::Confirm(question) = &app.mode else { return };
    let pen = Pen::new(app);
    let (what, consequence) = match question {
        Question::Do(order) => (format!("{order}?"), order.consequence()),
        Question::Quit => (
            "Stop the node?".to_owned(),
            "The node runs in this process and ends with the screen. Agreements under way are lost."
                .to_owned(),
        ),
    };
    let area = if area.is_empty() { frame.area() } else { area };
    let (width, height) = (WIDTH.min(area.width), HEIGHT.min(area.height));
    let place =
        Rect::new(area.x + (area.width - width) / 2, area.y + (area.height - height) / 2, width, height);
    let answers = vec![
        ("y".to_owned(), Tone::Accent),
        (" yes   ".to_owned(), Tone::Plain),
        ("n".to_owned(), Tone::Accent),
        (" no".to_owned(), Tone::Plain),
    ];
    let text: Vec<Line<'_>> =
        [vec![(what, Tone::Head)], vec![(consequence, Tone::Plain)], Vec::new(), answers]
            .iter()
            .map(|spans| pen.line(spans))
            .collect();
    let mut paragraph = Paragraph::new(text).wrap(Wrap { trim: false });
    if width >= 20 && height >= 6 {
        let block = Block::new()
            .borders(Borders::ALL)
            .border_set(app.glyphs().border)
            .border_style(pen.style(Tone::Warn));
        paragraph = paragraph.block(block);
    }
    frame.render_widget(Clear, place);
    frame.render_widget(paragraph, place);
}
