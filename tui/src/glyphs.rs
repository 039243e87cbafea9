//! The marks that the screen is made of: Unicode ones, or ASCII where a terminal has no others.

use ratatui::symbols::border;

/// See the head of the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Glyphs {
    pub(crate) full: &'static str,
    pub(crate) empty: &'static str,
    pub(crate) bar: &'static str,
    pub(crate) line: &'static str,
    pub(crate) arrow: &'static str,
    pub(crate) done: &'static str,
    pub(crate) now: &'static str,
    pub(crate) open: &'static str,
    pub(crate) half: &'static str,
    pub(crate) bad: &'static str,
    pub(crate) at_least: &'static str,
    pub(crate) ascending: &'static str,
    pub(crate) descending: &'static str,
    pub(crate) sparks: [&'static str; 8],
    pub(crate) border: border::Set<'static>,
}

/// With block and box characters.
pub(crate) const UNICODE: Glyphs = Glyphs {
    full: "█",
    empty: "░",
    bar: "│",
    line: "─",
    arrow: "→",
    done: "■",
    now: "▶",
    open: "□",
    half: "▪",
    bad: "×",
    at_least: "≥",
    ascending: "↑",
    descending: "↓",
    sparks: ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"],
    border: border::PLAIN,
};

/// Plain ASCII.
pub(crate) const ASCII: Glyphs = Glyphs {
    full: "#",
    empty: ".",
    bar: "|",
    line: "-",
    arrow: ">",
    done: "#",
    now: ">",
    open: "-",
    half: "+",
    bad: "x",
    at_least: ">=",
    ascending: "^",
    descending: "v",
    sparks: ["_", ".", ",", "-", "=", "+", "*", "#"],
    border: border::Set {
        top_left: "+",
        top_right: "+",
        bottom_left: "+",
        bottom_right: "+",
        vertical_left: "|",
        vertical_right: "|",
        horizontal_top: "-",
        horizontal_bottom: "-",
    },
};

impl Glyphs {
    /// Heights of a curve, newest value last, as wide as there are values.
    pub(crate) fn spark(&self, values: &[u64]) -> String {
        let most = values.iter().copied().max().unwrap_or(0).max(1);
        let top = self.sparks.len() - 1;
        let height = |value: &u64| {
            let at = u128::from(*value) * (top as u128) / u128::from(most);
            self.sparks[usize::try_from(at).unwrap_or(top).min(top)]
        };
        values.iter().map(height).collect()
    }
}
