//! Configuration errors with the line and column at which the file goes wrong.

use std::{collections::BTreeMap, ops::Range, path::Path};

use dske_node::config::{Config, ConfigError};
use miette::LabeledSpan;
use toml::Spanned;

use crate::cli::error::{CliError, exit};

/// An error that has no place in a file.
pub(crate) fn plain(error: &ConfigError) -> CliError {
    let code = match error {
        ConfigError::File { .. } => "dske::config::file",
        ConfigError::Syntax { .. } => "dske::config::syntax",
        ConfigError::Value { .. } => "dske::config::value",
    };
    let report = CliError::new(code, exit::CONFIG, error.to_string());
    match error {
        ConfigError::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            report.help("make a node with `dske init`, or name its directory with --dir")
        }
        ConfigError::File { .. } => report,
        ConfigError::Syntax { .. } | ConfigError::Value { .. } => {
            report.help("`dske config template` prints every key with its meaning")
        }
    }
}

/// An error in a text that was read from a file: shows the place where it can be found.
pub(crate) fn located(error: &ConfigError, text: &str, path: &Path) -> CliError {
    let (span, label) = match error {
        ConfigError::File { .. } => return plain(error),
        ConfigError::Syntax { reason, .. } => (syntax_span(text), reason.clone()),
        ConfigError::Value { key, reason } => (value_span(text, key), reason.clone()),
    };
    let Some(span) = span else { return plain(error) };
    let (line, column) = position(text, span.start);
    let name = path.display().to_string();
    let message = match error {
        ConfigError::Value { key, .. } => format!("{name}, line {line}, column {column}: {key}"),
        _ => format!("{name}, line {line}, column {column}"),
    };
    let code = if matches!(error, ConfigError::Value { .. }) {
        "dske::config::value"
    } else {
        "dske::config::syntax"
    };
    CliError::new(code, exit::CONFIG, format!("{message}: {label}"))
        .help("`dske config template` prints every key with its meaning")
        .at(name, text.to_owned(), LabeledSpan::at(span, "here"))
}

/// Where the reader stopped.
fn syntax_span(text: &str) -> Option<Range<usize>> {
    let error = toml::from_str::<Config>(text).err()?;
    let span = error.span()?;
    (span.end <= text.len()).then_some(span)
}

/// Where the value of a dotted key stands.
fn value_span(text: &str, key: &str) -> Option<Range<usize>> {
    type Tables = BTreeMap<String, BTreeMap<String, Spanned<toml::Value>>>;
    let (table, entry) = key.split_once('.')?;
    let tables: Tables = toml::from_str(text).ok()?;
    Some(tables.get(table)?.get(entry)?.span())
}

/// Line and column, both from 1, of a byte.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before.get(line_start..).unwrap_or_default().chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str) -> String {
        let path = Path::new("node.toml");
        let error = Config::parse(text, path).expect_err("an invalid configuration");
        located(&error, text, path).render(false, 100)
    }

    #[test]
    fn an_unknown_key_is_shown_in_its_line() {
        let text = report("[node]\nname = \"a\"\nroles = [\"client\"]\n[policy]\nkk = 3\n");
        assert!(text.contains("line 5, column 1"), "{text}");
        assert!(text.contains("kk = 3"), "{text}");
    }

    #[test]
    fn a_value_out_of_range_is_shown_in_its_line() {
        let text = report("[node]\nname = \"a\"\nroles = [\"client\"]\n[policy]\nk = 2\nk_min = 3\n");
        assert!(text.contains("line 5, column 5") && text.contains("below k_min"), "{text}");
    }

    #[test]
    fn broken_toml_is_shown_in_its_line() {
        let text = report("[node\nname = \"a\"\n");
        assert!(text.contains("line 1"), "{text}");
    }
}
