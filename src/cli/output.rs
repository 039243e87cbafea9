//! Where text goes: data to standard output, everything else to standard error, colours in few places.
//!
//! Never panics when a reader goes away (`| head`), and never lets key bytes near a buffer that outlives them:
//! those are written by [`crate::cli::key_out`].

use std::{
    fmt,
    io::{self, IsTerminal, Write},
};

use clap::ValueEnum;
use serde::Serialize;

use crate::cli::error::Result;

/// Version of the JSON that commands print; grows when a field changes its meaning or goes away.
pub(crate) const JSON_SCHEMA_VERSION: u32 = 1;

/// `--color`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl ColorChoice {
    fn on(self, terminal: bool) -> bool {
        let unwanted = || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        match self {
            Self::Auto => terminal && !unwanted(),
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// How much is printed, where and in which form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// JSON instead of text on standard output.
    pub(crate) json: bool,
    /// No notes, no progress bars.
    pub(crate) quiet: bool,
    /// Colours on standard output.
    pub(crate) color: bool,
    /// Colours on standard error.
    pub(crate) color_stderr: bool,
}

impl Output {
    /// Decides from the flags and from what the streams are.
    pub(crate) fn new(json: bool, quiet: bool, color: ColorChoice) -> Self {
        let color_stderr = color.on(io::stderr().is_terminal());
        Self { json, quiet, color: color.on(io::stdout().is_terminal()), color_stderr }
    }

    /// One line of data.
    pub(crate) fn line(&self, text: impl fmt::Display) -> Result<()> {
        Ok(writeln!(io::stdout().lock(), "{text}")?)
    }

    /// Text that brings its own line ends.
    pub(crate) fn text(&self, text: &str) -> Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        Ok(stdout.flush()?)
    }

    /// A document with the schema version in front.
    pub(crate) fn document(&self, body: &impl Serialize) -> Result<()> {
        #[derive(Serialize)]
        struct Document<'a, T> {
            schema_version: u32,
            #[serde(flatten)]
            body: &'a T,
        }
        self.json(&Document { schema_version: JSON_SCHEMA_VERSION, body })
    }

    /// A document that has a schema version of its own.
    pub(crate) fn json(&self, body: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(body).map_err(io::Error::other)?;
        self.line(text)
    }

    /// Something worth knowing that is not data. A failure to write it is of no consequence.
    pub(crate) fn note(&self, text: impl fmt::Display) {
        if !self.quiet {
            let _ = writeln!(io::stderr().lock(), "{text}");
        }
    }

    /// `✓`, green where colours are wanted.
    pub(crate) fn good(&self) -> &'static str {
        if self.color { "\u{1b}[32m✓\u{1b}[0m" } else { "✓" }
    }

    /// `✗`, red where colours are wanted.
    pub(crate) fn bad(&self) -> &'static str {
        if self.color { "\u{1b}[31m✗\u{1b}[0m" } else { "✗" }
    }

    /// Text in the background.
    pub(crate) fn dim(&self, text: impl fmt::Display) -> String {
        if self.color { format!("\u{1b}[2m{text}\u{1b}[0m") } else { text.to_string() }
    }
}

/// A name or reason that came from elsewhere, safe to print: control characters are escaped.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.into() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("p1\u{1b}[31m\n"), "p1\\u{1b}[31m\\n");
        assert_eq!(printable("größer"), "größer");
    }

    #[test]
    fn marks_are_plain_without_colour() {
        let plain = Output { json: false, quiet: false, color: false, color_stderr: false };
        assert_eq!((plain.good(), plain.bad(), plain.dim("x").as_str()), ("✓", "✗", "x"));
        assert!(Output { color: true, ..plain }.bad().contains("\u{1b}[31m"));
        assert!(!ColorChoice::Never.on(true));
        assert!(ColorChoice::Always.on(false));
    }
}
