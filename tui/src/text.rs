//! Fitting text into columns. Widths are those of the terminal, not bytes or characters.

use ratatui::text::Span;

/// Columns that a text takes.
pub(crate) fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// Most characters of one text that are shown.
const SHOWN_MAX: usize = 600;

/// A text from elsewhere, cut to a length that can be read, with its control characters escaped: it can neither move
/// the cursor nor change colours, and no invisible mark can turn its direction or pile up on others.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::new();
    let mut marks = 0;
    for (at, c) in text.chars().enumerate() {
        if at == SHOWN_MAX {
            shown.push('…');
            break;
        }
        marks = if !c.is_ascii() && width(c.encode_utf8(&mut [0; 4])) == 0 { marks + 1 } else { 0 };
        if hidden(c) || marks > 1 {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Whether a character has no look of its own, but an effect.
fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// A text in plain ASCII, as wide as before: marks become their likes, anything else a question mark.
pub fn ascii(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '█' | '■' => plain.push('#'),
            '░' | '□' | '·' => plain.push('.'),
            '─' => plain.push('-'),
            '│' => plain.push('|'),
            '→' => plain.push('>'),
            '▪' => plain.push('+'),
            '×' => plain.push('x'),
            '…' => plain.push('~'),
            // Only in front of a k: `3/5 ok` where there are enough shares.
            '≥' => plain.push('o'),
            c if c.is_ascii() => plain.push(c),
            c => (0..width(c.encode_utf8(&mut [0; 4]))).for_each(|_| plain.push('?')),
        }
    }
    plain
}

/// The text in exactly `columns`: padded on the right, or cut with `…`.
pub(crate) fn fit(text: &str, columns: usize) -> String {
    let mut cut = clip(text, columns);
    cut.push_str(&" ".repeat(columns.saturating_sub(width(&cut))));
    cut
}

/// The text in at most `columns`, cut with `…` where it is longer.
pub(crate) fn clip(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut cut = String::new();
    for c in text.chars() {
        let mut next = cut.clone();
        next.push(c);
        if width(&next) + 1 > columns {
            break;
        }
        cut = next;
    }
    if columns > 0 {
        cut.push('…');
    }
    cut
}

/// The text in exactly `columns`, to the right.
pub(crate) fn right(text: &str, columns: usize) -> String {
    let cut = clip(text, columns);
    format!("{}{cut}", " ".repeat(columns.saturating_sub(width(&cut))))
}

/// `─ Title ─────`
pub(crate) fn rule(title: &str, columns: usize) -> String {
    let start = format!("─ {} ", clip(title, columns.saturating_sub(4)));
    let rest = "─".repeat(columns.saturating_sub(width(&start)));
    start + &rest
}

/// A gauge of exactly `columns`. Something left is always seen, and so is something missing.
pub(crate) fn gauge(part: u64, whole: u64, columns: usize) -> String {
    gauge_with(part, whole, columns, "█", "░")
}

/// The same with other marks.
pub(crate) fn gauge_with(part: u64, whole: u64, columns: usize, on: &str, off: &str) -> String {
    let cells = u64::try_from(columns).unwrap_or(u64::MAX);
    let exact = u128::from(part) * u128::from(cells) / u128::from(whole.max(1));
    let mut full = usize::try_from(exact).unwrap_or(columns).min(columns);
    if part > 0 && full == 0 && columns > 0 {
        full = 1;
    } else if part < whole && full == columns && columns > 1 {
        full = columns - 1;
    }
    on.repeat(full) + &off.repeat(columns - full)
}

/// `62%`; of nothing, nothing is left.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    format!("{}%", u128::from(part) * 100 / u128::from(whole.max(1)))
}

/// `41.0Mi`, `447`: at most six columns.
pub(crate) fn short_size(bytes: u64) -> String {
    let units = ["", "Ki", "Mi", "Gi", "Ti", "Pi"];
    let mut unit = 0;
    while unit + 1 < units.len() && bytes >> (10 * (unit + 1)) > 0 {
        unit += 1;
    }
    let (shift, name) = (10 * unit, units.get(unit).copied().unwrap_or_default());
    let whole = bytes >> shift;
    let tenths = ((u128::from(bytes) * 10) >> shift) % 10;
    if unit == 0 || whole >= 100 { format!("{whole}{name}") } else { format!("{whole}.{tenths}{name}") }
}

/// How many messages wait, in words.
pub(crate) fn messages_wait(count: u64) -> String {
    if count == 1 { "1 message waits".to_owned() } else { format!("{count} messages wait") }
}

/// `447`, `447k`, `12.3M`: at most six columns.
pub(crate) fn short_count(count: u64) -> String {
    match count {
        0..10_000 => count.to_string(),
        10_000..1_000_000 => format!("{}k", count / 1_000),
        1_000_000..100_000_000 => format!("{}.{}M", count / 1_000_000, count / 100_000 % 10),
        100_000_000..1_000_000_000_000 => format!("{}M", count / 1_000_000),
        _ => format!("{}T", count / 1_000_000_000_000),
    }
}

/// `18:51:02`, of the day in UTC.
pub(crate) fn time_of_day(at_ms: u64) -> String {
    let seconds = at_ms / 1_000 % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// `12ms`, `1.9s`, `6h08`, `1d21h`.
pub(crate) fn short_time(us: u64) -> String {
    let seconds = us / 1_000_000;
    match us {
        0..1_000 => format!("{us}us"),
        1_000..1_000_000 => format!("{}ms", us / 1_000),
        1_000_000..60_000_000 => format!("{}.{}s", seconds, us % 1_000_000 / 100_000),
        60_000_000..3_600_000_000 => format!("{}m{:02}", seconds / 60, seconds % 60),
        3_600_000_000..86_400_000_000 => format!("{}h{:02}", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_take_the_columns_that_they_are_given() {
        for text in ["", "alice", "a much longer name", "鍵交換鍵交換", "e\u{301}e\u{301}e\u{301}e\u{301}"]
        {
            for columns in 0..12 {
                assert_eq!(width(&fit(text, columns)), columns, "{text} in {columns}");
                assert_eq!(width(&right(text, columns)), columns, "{text} in {columns}");
            }
        }
        assert_eq!(clip("validated", 6), "valid…");
        assert_eq!(rule("Pads", 12), "─ Pads ─────");
    }

    #[test]
    fn what_came_from_elsewhere_cannot_steer_the_terminal() {
        let text = printable("p1\u{1b}[2J\u{202e}\r\n");
        assert!(text.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{text}");
        let long = printable(&"x".repeat(10_000));
        assert!(long.ends_with('…') && width(&long) == SHOWN_MAX + 1);
        let piled = printable(&format!("e{}", "\u{301}".repeat(100)));
        assert_eq!(piled.matches('\u{301}').count(), 1, "{piled}");
        assert!(!printable("a\u{61c}b\u{e0041}").contains(['\u{61c}', '\u{e0041}']));
    }

    #[test]
    fn ascii_keeps_the_width() {
        for text in ["─ Pads ───", "█░■□ │ alice→bob", "鍵", "e\u{301}"] {
            let plain = ascii(text);
            assert!(plain.is_ascii());
            assert_eq!(width(&plain), width(text), "{plain}");
        }
        assert_eq!(ascii("3/5 ≥k"), "3/5 ok");
    }

    #[test]
    fn gauges_differ_where_the_values_do() {
        assert_eq!(gauge(0, 100, 4), "░░░░");
        assert_eq!(gauge(1, 100, 4), "█░░░");
        assert_eq!(gauge(62, 100, 10), "██████░░░░");
        assert_eq!(gauge(31, 100, 10), "███░░░░░░░");
        assert_eq!(gauge(99, 100, 4), "███░");
        assert_eq!(gauge(100, 100, 4), "████");
        assert_eq!(gauge(0, 0, 3), "░░░");
        assert_eq!(gauge(u64::MAX, 1, 3), "███");
        assert_eq!(gauge(1, 2, 0), "");
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(short_size(447), "447");
        assert_eq!(short_size(41 << 20), "41.0Mi");
        assert_eq!(short_size(731 << 20), "731Mi");
        assert_eq!(short_size(u64::MAX), "16383Pi");
        assert_eq!(short_count(447_123), "447k");
        assert_eq!(short_count(12_345_678), "12.3M");
        assert_eq!(time_of_day(0), "00:00:00");
        assert_eq!(time_of_day(1_700_000_000_000), "22:13:20");
        assert_eq!(percent(1, 3), "33%");
        assert_eq!(short_time(900), "900us");
        assert_eq!(short_time(12_900), "12ms");
        assert_eq!(short_time(1_960_000), "1.9s");
        assert_eq!(short_time(22_080_000_000), "6h08");
        assert_eq!(short_time(162_000_000_000), "1d21h");
    }
}
