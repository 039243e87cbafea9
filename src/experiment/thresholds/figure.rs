//! The figure: for each scheme a map of attacks and numbers of bad hubs, each cell split by how agreements ended,
//! and a line where the paper puts the threshold.

use plotters::{coord::Shift, drawing::DrawingArea, style::RGBColor};
use plotters_backend::DrawingBackend;

use super::{Attack, Counts, Scheme, report::Row};
use crate::experiment::plot::{
    Drawn, Figure,
    palette::{BLACK, BLUE, GREY, ORANGE, VERMILION, WHITE},
    sketch::{Place, Sketch, text_width},
};

const CELL_WIDTH: i32 = 44;
const CELL_HEIGHT: i32 = 36;
const MARGIN: i32 = 28;
const LABELS_WIDTH: i32 = 260;
const GAP: i32 = 44;
/// Above the cells of a scheme: its name and the number of bad hubs that are borne.
const HEAD: i32 = 78;
/// Below them: numbers and what they are.
const FOOT: i32 = 70;
const TOP: i32 = 110;
const LEGEND: i32 = 104;
/// Schemes stand side by side up to this width.
const WIDTH_MAX: i32 = 1700;

/// The schemes that were tried, each with its rows.
pub(super) struct ThresholdsFigure<'a> {
    panels: Vec<Panel<'a>>,
    attacks: Vec<Attack>,
    runs: u32,
    size: (i32, i32),
}

struct Panel<'a> {
    scheme: Scheme,
    rows: Vec<&'a Row>,
    /// Upper left corner of its cells.
    at: Place,
    /// Whether it is the first in its line, where attacks are named.
    labelled: bool,
}

/// What a cell, or a part of one, stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Agreed,
    TooFewShares,
    NoneValidates,
    UnknownSender,
    OtherEnd,
    Deceived,
}

const LEGEND_ENTRIES: [(Mark, &str); 5] = [
    (Mark::Agreed, "both hold the same key"),
    (Mark::TooFewShares, "aborted: fewer than k shares"),
    (Mark::NoneValidates, "aborted: no k shares give a valid key"),
    (Mark::UnknownSender, "aborted: sender not identified"),
    (Mark::Deceived, "deceived: another key, or another name"),
];

impl<'a> ThresholdsFigure<'a> {
    /// Places the schemes in the order of their first rows.
    pub(super) fn new(rows: &'a [Row]) -> Self {
        let mut attacks: Vec<Attack> = Vec::new();
        let mut panels: Vec<Panel<'a>> = Vec::new();
        for row in rows {
            if !attacks.contains(&row.attack) {
                attacks.push(row.attack);
            }
            match panels.iter_mut().find(|panel| panel.scheme == row.scheme()) {
                Some(panel) => panel.rows.push(row),
                None => {
                    panels.push(Panel { scheme: row.scheme(), rows: vec![row], at: (0, 0), labelled: false })
                }
            }
        }
        let count = i32::try_from(attacks.len()).unwrap_or(i32::MAX / 1000);
        let line_height = HEAD + count * CELL_HEIGHT + FOOT;
        let left = MARGIN + LABELS_WIDTH;
        let (mut x, mut y, mut width) = (left, TOP + HEAD, 0);
        for (at, panel) in panels.iter_mut().enumerate() {
            if at > 0 && x + panel.width() > WIDTH_MAX {
                (x, y) = (left, y + line_height);
            }
            panel.labelled = x == left;
            panel.at = (x, y);
            x += panel.width();
            width = width.max(x);
            x += GAP;
        }
        let size = ((width + MARGIN).max(1200), y - HEAD + line_height + LEGEND);
        let runs = rows.first().map_or(0, |row| row.counts.runs);
        Self { panels, attacks, runs, size }
    }
}

impl Panel<'_> {
    fn width(&self) -> i32 {
        (i32::from(self.scheme.n) + 1) * CELL_WIDTH
    }
}

impl Figure for ThresholdsFigure<'_> {
    fn title(&self) -> String {
        "How agreements end, by kind of attack and number of bad hubs, beside the predicted threshold".into()
    }

    fn size(&self) -> (u32, u32) {
        (self.size.0.unsigned_abs(), self.size.1.unsigned_abs())
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn {
        let sketch = Sketch::on(area);
        let words = sketch.left_aligned();
        words.text("How many bad hubs an agreement bears", (MARGIN, 38), 32)?;
        let runs = self.runs;
        words.color(GREY).text(
            &format!(
                "{runs} agreements a cell; the black line is the prediction: every attack is borne up to \
                 min(n − k + 1, k_B) − 1 bad hubs; \
                 k_B is the least k that the receiver accepts"
            ),
            (MARGIN, 76),
            20,
        )?;
        for panel in &self.panels {
            self.draw_panel(&sketch, panel)?;
        }
        self.draw_legend(&sketch)
    }
}

impl ThresholdsFigure<'_> {
    fn draw_panel<B: DrawingBackend>(&self, sketch: &Sketch<'_, B>, panel: &Panel<'_>) -> Drawn {
        let (left, top) = panel.at;
        let Scheme { n, k, k_min } = panel.scheme;
        sketch.left_aligned().text(&format!("n = {n}, k = {k}, k_B = {k_min}"), (left, top - 54), 22)?;
        let mut bottom = top;
        for (line, attack) in (0..).zip(&self.attacks) {
            let y = top + line * CELL_HEIGHT;
            if panel.labelled {
                let words = sketch.right_aligned();
                words.text(attack.label(), (left - 12, y + CELL_HEIGHT / 2), 19)?;
            }
            for row in panel.rows.iter().filter(|row| row.attack == *attack) {
                let x = left + i32::from(row.bad) * CELL_WIDTH;
                draw_cell(sketch, (x, y), &row.counts)?;
            }
            bottom = y + CELL_HEIGHT;
        }
        for bad in 0..=n {
            let x = left + i32::from(bad) * CELL_WIDTH + CELL_WIDTH / 2;
            sketch.text(&bad.to_string(), (x, bottom + 18), 19)?;
        }
        sketch.text("bad hubs", (left + panel.width() / 2, bottom + 44), 19)?;
        // To the right of the last number that is borne.
        let borne = panel.scheme.disruption() - 1;
        let x = left + (i32::from(borne) + 1) * CELL_WIDTH;
        sketch.block((x - 2, top - 16), (x + 2, bottom + 6))?;
        let label = format!("≤ {borne} borne");
        // Beside the line, where there is room on that side.
        let fits = x - text_width(&label, 18)? - 8 >= left;
        if fits {
            sketch.right_aligned().text(&label, (x - 8, top - 20), 18)
        } else {
            sketch.left_aligned().text(&label, (x + 8, top - 20), 18)
        }
    }

    fn draw_legend<B: DrawingBackend>(&self, sketch: &Sketch<'_, B>) -> Drawn {
        let (mut x, mut y) = (MARGIN, self.size.1 - LEGEND + 10);
        for (mark, label) in LEGEND_ENTRIES {
            let wide = CELL_HEIGHT + 8 + text_width(label, 19)? + 30;
            if x + wide > self.size.0 {
                (x, y) = (MARGIN, y + CELL_HEIGHT + 6);
            }
            sketch.color(mark.color()).block((x, y), (x + CELL_HEIGHT - 4, y + CELL_HEIGHT - 4))?;
            mark.draw(sketch, (x + CELL_HEIGHT / 2 - 2, y + CELL_HEIGHT / 2 - 2))?;
            sketch.left_aligned().text(label, (x + CELL_HEIGHT + 6, y + CELL_HEIGHT / 2 - 2), 19)?;
            x += wide;
        }
        let label = "not all alike: success rate";
        if x + CELL_WIDTH + 8 + text_width(label, 19)? + MARGIN > self.size.0 {
            (x, y) = (MARGIN, y + CELL_HEIGHT + 6);
        }
        let example = Counts { runs: 4, agreed: 1, too_few_shares: 3, ..Counts::default() };
        draw_cell(sketch, (x - 1, y - 2), &example)?;
        sketch.left_aligned().text(label, (x + CELL_WIDTH + 6, y + CELL_HEIGHT / 2 - 2), 19)
    }
}

/// A cell is split from left to right in proportion; where all ended alike it bears the mark, otherwise the
/// success rate.
fn draw_cell<B: DrawingBackend>(sketch: &Sketch<'_, B>, (left, top): Place, counts: &Counts) -> Drawn {
    let (from, to) = ((left + 1, top + 1), (left + CELL_WIDTH - 1, top + CELL_HEIGHT - 1));
    let parts: Vec<(Mark, u32)> = parts(counts).into_iter().filter(|(_, count)| *count > 0).collect();
    let width = i64::from(to.0 - from.0);
    let runs = i64::from(counts.runs.max(1));
    let mut before = 0;
    for (mark, count) in &parts {
        let place = |count: i64| from.0 + i32::try_from(width * count / runs).unwrap_or(0);
        let (begin, end) = (place(before), place(before + i64::from(*count)));
        sketch.color(mark.color()).block((begin, from.1), (end, to.1))?;
        before += i64::from(*count);
    }
    let middle = (left + CELL_WIDTH / 2, top + CELL_HEIGHT / 2);
    match parts.as_slice() {
        [(mark, _)] => mark.draw(sketch, middle),
        _ => {
            let percent = i64::from(counts.agreed) * 100 / runs;
            let label = format!("{percent}%");
            let half = text_width(&label, 15)? / 2 + 2;
            sketch.color(WHITE).block((middle.0 - half, middle.1 - 9), (middle.0 + half, middle.1 + 9))?;
            sketch.text(&label, middle, 15)
        }
    }
}

fn parts(counts: &Counts) -> [(Mark, u32); 6] {
    [
        (Mark::Agreed, counts.agreed),
        (Mark::TooFewShares, counts.too_few_shares),
        (Mark::NoneValidates, counts.none_validates),
        (Mark::UnknownSender, counts.unknown_sender),
        (Mark::OtherEnd, counts.ambiguous + counts.other),
        (Mark::Deceived, counts.deceived()),
    ]
}

impl Mark {
    fn color(self) -> RGBColor {
        match self {
            Self::Agreed => BLUE,
            Self::TooFewShares | Self::NoneValidates | Self::UnknownSender | Self::OtherEnd => ORANGE,
            Self::Deceived => VERMILION,
        }
    }

    fn draw<B: DrawingBackend>(self, sketch: &Sketch<'_, B>, at: Place) -> Drawn {
        match self {
            Self::Agreed => sketch.color(WHITE).disc(at, 6),
            Self::TooFewShares => sketch.color(BLACK).dash(at, 8),
            Self::NoneValidates => sketch.color(BLACK).cross(at, 7),
            Self::UnknownSender => sketch.color(BLACK).text("?", at, 22),
            Self::OtherEnd => sketch.color(BLACK).ring(at, 6, 2),
            Self::Deceived => sketch.color(WHITE).triangle(at, 8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::plot::svg;

    #[test]
    fn schemes_stand_side_by_side_and_wrap() {
        let counts = Counts { runs: 2, agreed: 1, wrong_key: 1, ..Counts::default() };
        let row = |n, k| Row::new(Scheme { n, k, k_min: k }, Attack::Silent, 0, counts);
        let rows = [row(9, 5), row(9, 6), row(20, 7), row(3, 2)];
        let figure = ThresholdsFigure::new(&rows);
        let labelled: Vec<bool> = figure.panels.iter().map(|panel| panel.labelled).collect();
        assert_eq!(labelled, [true, false, true, false]);
        let (width, _) = figure.size();
        assert!(width <= WIDTH_MAX.unsigned_abs() + MARGIN.unsigned_abs());
        let text = svg(&figure).unwrap();
        for part in ["n = 20, k = 7, k_B = 7", "50%", "hub is silent", "≤ 4 borne", "bad hubs"] {
            assert!(text.contains(part), "{part}");
        }
    }
}
