//! A frame with numbers at its sides: even steps to the right, a logarithmic scale upwards.

use plotters_backend::DrawingBackend;

use super::{
    Drawn,
    palette::{BLACK, GREY, PALE},
    sketch::{Place, Sketch},
};

/// Where the frame stands and what its sides mean.
pub(crate) struct Axes {
    /// Upper left corner.
    pub(crate) from: Place,
    /// Lower right corner.
    pub(crate) to: Place,
    /// Values at the left and the right side.
    pub(crate) x: (f64, f64),
    /// Values at the lower and the upper side, both positive.
    pub(crate) y: (f64, f64),
}

impl Axes {
    /// Where a pair of values stands; within the frame, whatever they are.
    pub(crate) fn place(&self, x: f64, y: f64) -> Place {
        let share = |value: f64, (low, high): (f64, f64)| ((value - low) / (high - low)).clamp(0.0, 1.0);
        let logs = (self.y.0.ln(), self.y.1.ln());
        let (right, up) = (share(x, self.x), share(y.max(f64::MIN_POSITIVE).ln(), logs));
        (between(self.from.0, self.to.0, right), between(self.to.1, self.from.1, up))
    }

    /// Draws the frame, numbers at its sides, and what they count.
    pub(crate) fn draw<B: DrawingBackend>(
        &self,
        sketch: &Sketch<'_, B>,
        x_ticks: &[u8],
        x_title: &str,
        y_title: &str,
    ) -> Drawn {
        for value in log_ticks(self.y) {
            let (_, y) = self.place(self.x.0, value);
            sketch.color(PALE).line([(self.from.0, y), (self.to.0, y)], 1)?;
            sketch.right_aligned().text(&tick_label(value), (self.from.0 - 10, y), 18)?;
        }
        for tick in x_ticks {
            let (x, _) = self.place(f64::from(*tick), self.y.0);
            sketch.color(GREY).line([(x, self.to.1), (x, self.to.1 + 6)], 1)?;
            sketch.text(&tick.to_string(), (x, self.to.1 + 20), 18)?;
        }
        sketch.color(BLACK).frame(self.from, self.to, 1)?;
        sketch.text(x_title, (i32::midpoint(self.from.0, self.to.0), self.to.1 + 50), 20)?;
        sketch.turned().text(y_title, (self.from.0 - 78, i32::midpoint(self.from.1, self.to.1)), 20)
    }
}

/// A line of dashes.
pub(crate) fn dashes<B: DrawingBackend>(sketch: &Sketch<'_, B>, from: Place, to: Place) -> Drawn {
    let (dx, dy) = (f64::from(to.0 - from.0), f64::from(to.1 - from.1));
    let length = dx.hypot(dy);
    let mut at = 0.0;
    while at < length {
        let place = |at: f64| {
            let share = (at / length).min(1.0);
            (between(from.0, to.0, share), between(from.1, to.1, share))
        };
        sketch.line([place(at), place(at + 9.0)], 2)?;
        at += 16.0;
    }
    Ok(())
}

/// 1, 2 and 5 times the powers of ten within bounds.
pub(crate) fn log_ticks((low, high): (f64, f64)) -> Vec<f64> {
    let decades = (-12..=12).map(|power| 10_f64.powi(power));
    let all = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|step| step * decade));
    all.filter(|value| (low * 0.999..=high * 1.001).contains(value)).collect()
}

/// Bounds that are such values, around these.
pub(crate) fn log_bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let positive = values.filter(|value| value.is_finite() && *value > 0.0);
    let (low, high) = positive.fold((f64::MAX, 0_f64), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        return (0.1, 1.0);
    }
    let ticks = log_ticks((1e-12, 1e12));
    let below = ticks.iter().rev().find(|tick| **tick <= low * 1.0001).copied().unwrap_or(low);
    let above = ticks.iter().find(|tick| **tick >= high * 0.9999).copied().unwrap_or(high);
    if below < above { (below, above) } else { (below / 2.0, above * 2.0) }
}

/// Two significant digits.
pub(crate) fn number(value: f64) -> String {
    let digits = match value {
        v if v >= 9.95 => 0,
        v if v >= 0.995 => 1,
        v if v >= 0.0995 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// The digits of a value of [`log_ticks`] without zeros behind.
pub(crate) fn tick_label(value: f64) -> String {
    let text = format!("{value:.9}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[expect(clippy::cast_possible_truncation, reason = "between two places in a figure")]
fn between(from: i32, to: i32, share: f64) -> i32 {
    (f64::from(from) + f64::from(to - from) * share).round() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_logarithmic_upwards_and_stay_inside() {
        let axes = Axes { from: (100, 0), to: (200, 90), x: (0.0, 10.0), y: (0.1, 100.0) };
        assert_eq!(axes.place(5.0, 0.1), (150, 90));
        assert_eq!(axes.place(10.0, 1.0), (200, 60));
        assert_eq!(axes.place(99.0, 1e9), (200, 0));
        assert_eq!(axes.place(-1.0, 0.0), (100, 90));
    }

    #[test]
    fn bounds_are_ticks_around_the_values() {
        assert_eq!(log_bounds([0.3, 7.0].into_iter()), (0.2, 10.0));
        assert_eq!(log_bounds([1.0].into_iter()), (0.5, 2.0));
        assert_eq!(log_bounds(std::iter::empty()), (0.1, 1.0));
        assert_eq!(log_ticks((0.2, 5.0)), [0.2, 0.5, 1.0, 2.0, 5.0]);
        let words: Vec<_> = [0.021, 0.25, 1.0, 1.26, 14.2].into_iter().map(number).collect();
        assert_eq!(words, ["0.021", "0.25", "1.0", "1.3", "14"]);
        assert_eq!(
            log_ticks((0.02, 20.0)).into_iter().map(tick_label).collect::<Vec<_>>().join(" "),
            "0.02 0.05 0.1 0.2 0.5 1 2 5 10 20"
        );
    }
}
