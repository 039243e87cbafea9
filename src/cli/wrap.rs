//! Text that fits the terminal: broken between words, the further lines below the first.

use std::io::{self, IsTerminal};

use textwrap::{Options, fill};

/// A column of text is not squeezed below this; it then begins further left.
const NARROWEST: usize = 24;

/// A paragraph behind a head of so many columns, for a terminal or, as one line, for a program.
pub(crate) fn behind(head: &str, columns: usize, text: &str) -> String {
    wrapped(head, columns, text, width())
}

/// Columns of the terminal that standard output goes to; `None` where it goes elsewhere, whatever the errors do.
pub(crate) fn width() -> Option<usize> {
    io::stdout().is_terminal().then(dske_tui::terminal::width)?.map(usize::from)
}

fn wrapped(head: &str, columns: usize, text: &str, width: Option<usize>) -> String {
    let Some(width) = width else { return format!("{head}{text}") };
    let indent = if width < columns + NARROWEST { 4 } else { columns };
    let indent = " ".repeat(indent);
    fill(text, Options::new(width).initial_indent(head).subsequent_indent(&indent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_stand_below_each_other() {
        let text = "nobody but the owner can read the node's files";
        assert_eq!(wrapped("ok  ", 4, text, None), format!("ok  {text}"));
        assert_eq!(
            wrapped("ok  ", 4, text, Some(30)),
            "ok  nobody but the owner can\n    read the node's files"
        );
        // A head that leaves no room: the rest begins further left.
        let narrow = wrapped("✓ ok   permissions   ", 21, text, Some(30));
        assert!(narrow.lines().skip(1).all(|line| line.starts_with("    ") && line.len() <= 30), "{narrow}");
    }
}
