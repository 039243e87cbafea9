//! Help: keys as they are bound, commands, and what the marks mean.

use super::{Spans, heading};
use crate::{bindings::Bindings, command::COMMANDS, glyphs::Glyphs, text, theme::Tone};

/// Everything, a line each.
pub(crate) fn lines(bindings: &Bindings, glyphs: &Glyphs) -> Vec<Spans> {
    let mut lines = vec![heading("Keys (change them in [tui.keys] of top.toml)")];
    for (keys, help) in bindings.help() {
        let keys = if keys.is_empty() { "none".to_owned() } else { keys };
        lines.push(pair(&keys, 20, help));
    }
    lines.push(pair("mouse", 20, "tab, row, title to sort by; wheel on rows or details"));
    lines.push(heading("Commands"));
    lines.extend(COMMANDS.iter().map(|(usage, help)| pair(usage, 46, help)));
    lines.push(heading("Shares"));
    for (mark, tone, help) in [
        (glyphs.open, Tone::Dim, "nothing yet"),
        (glyphs.half, Tone::Good, "taken by the hub"),
        (glyphs.done, Tone::Good, "here"),
        (glyphs.bad, Tone::Warn, "refused, or the hub does not answer"),
        ("!", Tone::Crit, "false"),
    ] {
        lines.push(vec![(format!("  {mark} "), tone), (help.to_owned(), Tone::Plain)]);
    }
    lines.push(heading("Thresholds, in hubs"));
    for (name, help) in [
        ("leak", "learn a key: k"),
        ("mall", "make the two sides hold different keys: k_B"),
        ("inj", "make a receiver take a key that they know: k_B"),
        ("disr", "stop agreement: the lesser of n - k + 1 and k_B"),
        ("margin", "hubs that may still lie or fail, with those that are usable now"),
    ] {
        lines.push(pair(name, 8, help));
    }
    lines
}

fn pair(what: &str, columns: usize, help: &str) -> Spans {
    vec![(format!("  {} ", text::fit(what, columns)), Tone::Accent), (help.to_owned(), Tone::Plain)]
}
