//! Colours that people with any common colour vision tell apart. Nothing is said by colour alone.
//!
//! Okabe and Ito, *Color Universal Design* (2008), for kinds; viridis (Smith and van der Walt, 2015) for amounts.

use plotters::style::RGBColor;

pub(crate) const BLACK: RGBColor = RGBColor(0, 0, 0);
pub(crate) const GREY: RGBColor = RGBColor(110, 110, 110);
pub(crate) const PALE: RGBColor = RGBColor(226, 226, 226);
pub(crate) const WHITE: RGBColor = RGBColor(255, 255, 255);
pub(crate) const BLUE: RGBColor = RGBColor(0, 114, 178);
pub(crate) const ORANGE: RGBColor = RGBColor(230, 159, 0);
pub(crate) const VERMILION: RGBColor = RGBColor(213, 94, 0);

/// Viridis in ten equal steps.
const VIRIDIS: [[u8; 3]; 10] = [
    [68, 1, 84],
    [72, 40, 120],
    [62, 73, 137],
    [49, 104, 142],
    [38, 130, 142],
    [31, 158, 137],
    [53, 183, 121],
    [110, 206, 88],
    [181, 222, 43],
    [253, 231, 37],
];

/// The colour of a share of the whole, from 0 (dark) to 1 (light).
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "both ends are clamped before")]
pub(crate) fn viridis(share: f64) -> RGBColor {
    let steps = VIRIDIS.len() - 1;
    let place = if share.is_finite() { share.clamp(0.0, 1.0) * 9.0 } else { 0.0 };
    let below = (place.floor() as usize).min(steps - 1);
    let part = place - place.floor().min(8.0);
    let [r, g, b] = std::array::from_fn(|channel| {
        let [from, to] = [below, below + 1].map(|at| f64::from(VIRIDIS[at][channel]));
        (from + (to - from) * part).round() as u8
    });
    RGBColor(r, g, b)
}

/// Black or white, whichever is legible on it.
pub(crate) fn ink_on(RGBColor(r, g, b): RGBColor) -> RGBColor {
    let luminance = 299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b);
    if luminance > 130_000 { BLACK } else { WHITE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn viridis_runs_from_dark_to_light() {
        assert_eq!(viridis(0.0), RGBColor(68, 1, 84));
        assert_eq!(viridis(1.0), RGBColor(253, 231, 37));
        assert_eq!(viridis(f64::NAN), viridis(-3.0));
        assert_eq!(viridis(9.0), viridis(1.0));
        assert_eq!((ink_on(viridis(0.0)), ink_on(viridis(1.0))), (WHITE, BLACK));
    }
}
