//! The figure: a map of n and k for each side, and two cuts through them with the paper's word beside.

use plotters::{coord::Shift, drawing::DrawingArea, style::RGBColor};
use plotters_backend::DrawingBackend;

use super::report::{Document, PAPER_POINT, Point};
use crate::{
    cli::units,
    experiment::plot::{
        Drawn, Figure,
        axes::{Axes, dashes, log_bounds, log_ticks, number, tick_label},
        palette::{BLACK, BLUE, GREY, ORANGE, VERMILION, WHITE, ink_on, viridis},
        sketch::{Place, Sketch, text_width},
    },
};

const SIZE: (i32, i32) = (1720, 1370);
/// Where the lines of the charts are named.
const KEY_TOP: i32 = 1336;
const MARGIN: i32 = 28;
/// Left sides of the two maps, and of the charts below them.
const COLUMNS: [i32; 2] = [110, 900];
const MAP_TOP: i32 = 160;
const MAP: (i32, i32) = (680, 540);
const CHART_TOP: i32 = 850;
const CHART_HEIGHT: i32 = 380;
const BAR_LEFT: i32 = 1612;

/// What is measured of a point.
type Value = fn(&Point) -> f64;

/// A line in a chart.
struct Series {
    label: &'static str,
    value: Value,
    color: RGBColor,
    marker: Marker,
}

#[derive(Debug, Clone, Copy)]
enum Marker {
    Disc,
    Square,
    Triangle,
}

const SERIES: [Series; 3] = [
    Series { label: "sender", value: |p| p.sender_ms_per_mbit, color: BLUE, marker: Marker::Disc },
    Series {
        label: "receiver, all n shares",
        value: |p| p.receiver_ms_per_mbit,
        color: VERMILION,
        marker: Marker::Square,
    },
    Series {
        label: "receiver, until it has the key",
        value: |p| p.receiver_to_key_ms_per_mbit,
        color: ORANGE,
        marker: Marker::Triangle,
    },
];

/// What is drawn.
pub(super) struct Fig5Figure<'a> {
    document: &'a Document,
    n_max: u8,
    /// Of the maps' colours.
    bounds: (f64, f64),
}

impl<'a> Fig5Figure<'a> {
    pub(super) fn new(document: &'a Document) -> Self {
        let n_max = document.points.iter().map(|point| point.n).max().unwrap_or(1);
        let values = document.points.iter().flat_map(|p| [p.sender_ms_per_mbit, p.receiver_ms_per_mbit]);
        Self { document, n_max, bounds: log_bounds(values) }
    }

    /// From 0 at the lower bound to 1 at the upper.
    fn share(&self, value: f64) -> f64 {
        let (low, high) = self.bounds;
        (value / low).ln() / (high / low).ln()
    }
}

impl Figure for Fig5Figure<'_> {
    fn title(&self) -> String {
        "Processing time of sender and receiver per Mbit of key, against n and k".into()
    }

    fn size(&self) -> (u32, u32) {
        (SIZE.0.unsigned_abs(), SIZE.1.unsigned_abs())
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn {
        let sketch = Sketch::on(area);
        let words = sketch.left_aligned();
        words.text("Processing time per Mbit of key", (MARGIN, 38), 32)?;
        let (n, k, paper) = PAPER_POINT;
        let line = format!(
            "keys of {}, medians of {} agreements, one core; the paper: about {paper} ms/Mbit on each side at \
             n = {n}, k = {k} (framed), close to proportional to k²",
            units::bits(self.document.bits),
            self.document.runs
        );
        words.color(GREY).text(&line, (MARGIN, 76), 20)?;
        let maps: [(&str, Value); 2] =
            [("Sender", |p| p.sender_ms_per_mbit), ("Receiver, all n shares", |p| p.receiver_ms_per_mbit)];
        for (left, (title, value)) in COLUMNS.into_iter().zip(maps) {
            self.draw_map(&sketch, left, title, value)?;
        }
        self.draw_bar(&sketch)?;
        self.draw_charts(&sketch)
    }
}

impl Fig5Figure<'_> {
    fn draw_map<B: DrawingBackend>(
        &self,
        sketch: &Sketch<'_, B>,
        left: i32,
        title: &str,
        value: Value,
    ) -> Drawn {
        let bottom = MAP_TOP + MAP.1;
        let count = i32::from(self.n_max);
        // Cells share what room there is without gaps.
        let x = |n: i32| left + MAP.0 * (n - 1) / count;
        let y = |k: i32| bottom - MAP.1 * (k - 1) / count;
        sketch.left_aligned().text(title, (left, MAP_TOP - 28), 24)?;
        for point in &self.document.points {
            let (n, k) = (i32::from(point.n), i32::from(point.k));
            let color = viridis(self.share(value(point)));
            sketch.color(color).block((x(n) + 1, y(k + 1) + 1), (x(n + 1), y(k)))?;
            let middle = (i32::midpoint(x(n), x(n + 1)), i32::midpoint(y(k), y(k + 1)));
            sketch.color(ink_on(color)).text(&number(value(point)), middle, 14)?;
        }
        let (n, k, _) = PAPER_POINT;
        if n <= self.n_max {
            let (n, k) = (i32::from(n), i32::from(k));
            sketch.color(WHITE).frame((x(n), y(k + 1)), (x(n + 1), y(k)), 4)?;
            sketch.color(BLACK).frame((x(n), y(k + 1)), (x(n + 1), y(k)), 2)?;
        }
        for number in 1..=count {
            let (across, up) =
                (i32::midpoint(x(number), x(number + 1)), i32::midpoint(y(number), y(number + 1)));
            sketch.text(&number.to_string(), (across, bottom + 18), 17)?;
            sketch.right_aligned().text(&number.to_string(), (left - 8, up), 17)?;
        }
        sketch.text("n, hubs", (left + MAP.0 / 2, bottom + 46), 20)?;
        sketch.turned().text("k, shares needed", (left - 56, MAP_TOP + MAP.1 / 2), 20)
    }

    /// What the colours mean.
    fn draw_bar<B: DrawingBackend>(&self, sketch: &Sketch<'_, B>) -> Drawn {
        let (low, high) = self.bounds;
        let steps = 90;
        let height = |step: i32| MAP_TOP + MAP.1 - MAP.1 * step / steps;
        for step in 0..steps {
            let color = viridis(f64::from(step) / f64::from(steps - 1));
            sketch.color(color).block((BAR_LEFT, height(step + 1)), (BAR_LEFT + 24, height(step)))?;
        }
        let scale = Axes {
            from: (BAR_LEFT, MAP_TOP),
            to: (BAR_LEFT + 24, MAP_TOP + MAP.1),
            x: (0.0, 1.0),
            y: (low, high),
        };
        for tick in log_ticks(self.bounds) {
            let (_, y) = scale.place(0.0, tick);
            sketch.color(BLACK).line([(BAR_LEFT + 24, y), (BAR_LEFT + 30, y)], 1)?;
            sketch.left_aligned().text(&tick_label(tick), (BAR_LEFT + 36, y), 18)?;
        }
        sketch.text("ms/Mbit", (BAR_LEFT + 30, MAP_TOP - 28), 18)
    }

    fn draw_charts<B: DrawingBackend>(&self, sketch: &Sketch<'_, B>) -> Drawn {
        let (paper_n, paper_k, paper) = PAPER_POINT;
        let n_max = self.n_max;
        let fixed_k = paper_k.min(n_max);
        let square = |k: u8| paper * (f64::from(k) / f64::from(paper_k)).powi(2);
        let all = self.document.points.iter().flat_map(|p| SERIES.iter().map(|series| (series.value)(p)));
        let bounds = log_bounds(all.chain([paper]));
        let ticks: Vec<u8> = (1..=n_max).filter(|tick| n_max < 10 || tick % 2 == 0 || *tick == 1).collect();
        let axes = |left| Axes {
            from: (left, CHART_TOP),
            to: (left + MAP.0, CHART_TOP + CHART_HEIGHT),
            x: (0.5, f64::from(n_max) + 0.5),
            y: bounds,
        };
        let title = |left: i32, text: String| sketch.left_aligned().text(&text, (left, CHART_TOP - 28), 24);

        let [by_k, by_n] = COLUMNS.map(axes);
        title(COLUMNS[0], format!("Against k, with n = {n_max} hubs"))?;
        by_k.draw(sketch, &ticks, "k, shares needed", "ms per Mbit of key")?;
        let paper_line: Vec<Place> = (1..=n_max)
            .filter(|k| (bounds.0..=bounds.1).contains(&square(*k)))
            .map(|k| by_k.place(f64::from(k), square(k)))
            .collect();
        for pair in paper_line.windows(2) {
            dashes(&sketch.color(GREY), pair[0], pair[1])?;
        }
        if paper_k <= n_max {
            sketch.color(BLACK).ring(by_k.place(f64::from(paper_k), paper), 9, 3)?;
        }
        self.draw_series(sketch, &by_k, |point| (point.n == n_max).then_some(point.k))?;

        title(COLUMNS[1], format!("Against n, with k = {fixed_k} shares needed"))?;
        by_n.draw(sketch, &ticks, "n, hubs", "ms per Mbit of key")?;
        if fixed_k == paper_k {
            let [from, to] = [paper_k, n_max].map(|n| by_n.place(f64::from(n), paper));
            dashes(&sketch.color(GREY), from, to)?;
        }
        self.draw_series(sketch, &by_n, |point| (point.k == fixed_k).then_some(point.n))?;
        if paper_n <= n_max {
            let at = by_n.place(f64::from(paper_n), paper);
            sketch.color(BLACK).ring(at, 9, 3)?;
        }
        self.draw_key(sketch)
    }

    fn draw_series<B: DrawingBackend>(
        &self,
        sketch: &Sketch<'_, B>,
        axes: &Axes,
        place: impl Fn(&Point) -> Option<u8>,
    ) -> Drawn {
        for series in &SERIES {
            let points = self.document.points.iter();
            let places: Vec<Place> = points
                .filter_map(|point| Some(axes.place(f64::from(place(point)?), (series.value)(point))))
                .collect();
            let sketch = sketch.color(series.color);
            sketch.line(places.clone(), 2)?;
            places.into_iter().try_for_each(|at| series.marker.draw(&sketch, at))?;
        }
        Ok(())
    }

    /// One line under both charts.
    fn draw_key<B: DrawingBackend>(&self, sketch: &Sketch<'_, B>) -> Drawn {
        let (mut x, y) = (COLUMNS[0], KEY_TOP);
        for series in &SERIES {
            let colored = sketch.color(series.color);
            colored.line([(x, y), (x + 40, y)], 2)?;
            series.marker.draw(&colored, (x + 20, y))?;
            sketch.left_aligned().text(series.label, (x + 50, y), 18)?;
            x += 50 + text_width(series.label, 18)? + 40;
        }
        sketch.color(BLACK).ring((x + 9, y), 9, 3)?;
        let label = "the paper's example, n = 9, k = 5";
        sketch.left_aligned().text(label, (x + 28, y), 18)?;
        x += 28 + text_width(label, 18)? + 40;
        dashes(&sketch.color(GREY), (x, y), (x + 40, y))?;
        sketch.left_aligned().text("from there in proportion to k², whatever n", (x + 50, y), 18)
    }
}

impl Marker {
    fn draw<B: DrawingBackend>(self, sketch: &Sketch<'_, B>, at: Place) -> Drawn {
        match self {
            Self::Disc => sketch.disc(at, 6),
            Self::Square => sketch.square(at, 5),
            Self::Triangle => sketch.triangle(at, 6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::report::tests::document, *};
    use crate::experiment::plot::svg;

    #[test]
    fn every_grid_can_be_drawn() {
        for n_max in [1, 2, 9, 20] {
            let document = document(n_max);
            let text = svg(&Fig5Figure::new(&document)).unwrap();
            for part in ["Sender", "ms/Mbit", "k, shares needed", "the paper: about 1 ms/Mbit"] {
                assert!(text.contains(part), "{part} at {n_max}");
            }
        }
    }
}
