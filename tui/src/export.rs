//! A painted screen as a text, or as a picture.

use std::fmt::Write as _;

use ratatui::{
    buffer::{Buffer, Cell},
    style::{Color, Modifier},
};

/// Size of a character in the picture.
const CELL: (u16, u16) = (8, 17);
/// Colours of a terminal without any.
const PAPER: &str = "#11151c";
const INK: &str = "#d5d9e0";

/// The characters of the screen, line by line.
pub fn text(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in 0..buffer.area.height {
        let line: String = row(buffer, y).map(|(_, cell)| cell.symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The screen as an SVG picture, in the colours that most terminals have.
pub fn svg(buffer: &Buffer) -> String {
    let (width, height) = (buffer.area.width * CELL.0 + 16, buffer.area.height * CELL.1 + 16);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"{PAPER}\"/>\n\
         <g font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" font-size=\"13\" xml:space=\"preserve\">\n"
    );
    for y in 0..buffer.area.height {
        line(buffer, y, &mut svg);
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

/// Cells of a line with their columns; what a wide character covers is left out.
fn row(buffer: &Buffer, y: u16) -> impl Iterator<Item = (u16, &Cell)> {
    let mut covered = 0;
    (0..buffer.area.width).filter_map(move |x| {
        let cell = buffer.cell((buffer.area.x + x, buffer.area.y + y))?;
        if covered > 0 {
            covered -= 1;
            return None;
        }
        covered = crate::text::width(cell.symbol()).saturating_sub(1);
        Some((x, cell))
    })
}

fn line(buffer: &Buffer, y: u16, svg: &mut String) {
    let cells: Vec<_> = row(buffer, y).collect();
    for run in cells.chunk_by(|(_, one), (_, other)| look(one) == look(other)) {
        let Some((x, first)) = run.first() else { continue };
        let text: String = run.iter().map(|(_, cell)| cell.symbol()).collect();
        let (ink, paper) = match (first.modifier.contains(Modifier::REVERSED), first.bg) {
            (true, _) => (PAPER, Some(color(first.fg))),
            (false, Color::Reset) => (color(first.fg), None),
            (false, paper) => (color(first.fg), Some(color(paper))),
        };
        if text.trim().is_empty() && paper.is_none() {
            continue;
        }
        let (left, top) = (8 + x * CELL.0, 8 + y * CELL.1);
        let columns = u16::try_from(crate::text::width(&text)).unwrap_or(0);
        let wide = columns * CELL.0;
        // Writing to a string does not fail.
        if let Some(paper) = paper {
            let _ = writeln!(
                svg,
                "<rect x=\"{left}\" y=\"{top}\" width=\"{wide}\" height=\"{}\" fill=\"{paper}\"/>",
                CELL.1
            );
        }
        let bold = if first.modifier.contains(Modifier::BOLD) { " font-weight=\"bold\"" } else { "" };
        let under =
            if first.modifier.contains(Modifier::UNDERLINED) { " text-decoration=\"underline\"" } else { "" };
        let dim = if first.modifier.contains(Modifier::DIM) { " opacity=\"0.6\"" } else { "" };
        let _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"{}\" textLength=\"{wide}\" lengthAdjust=\"spacingAndGlyphs\" fill=\"{ink}\"{bold}{under}{dim}>{}</text>",
            top + 13,
            escaped(&text)
        );
    }
}

fn look(cell: &Cell) -> (Color, Color, Modifier) {
    (cell.fg, cell.bg, cell.modifier)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn color(color: Color) -> &'static str {
    match color {
        Color::Red => "#ff6b6b",
        Color::Green => "#7fd88f",
        Color::Yellow => "#f2c94c",
        Color::Cyan => "#6cc7e6",
        Color::DarkGray => "#7d8799",
        Color::Indexed(237) => "#2b3240",
        Color::Indexed(75) => "#5fafff",
        Color::Indexed(87) => "#5fffff",
        Color::Indexed(207) => "#ff5fff",
        Color::Indexed(214) => "#ffaf00",
        _ => INK,
    }
}
