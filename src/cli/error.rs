//! What went wrong, for a person and for a script: a code, the cause, the remedy and an exit status.

use std::{error::Error, fmt, io};

use dske_node::{NodeError, control::Failure};
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use serde::Serialize;

use crate::cli::output::JSON_SCHEMA_VERSION;

/// Exit statuses. A [`Failure`] from a node carries its own; these are for what the command line itself finds.
pub(crate) mod exit {
    /// Anything that has no status of its own.
    pub(crate) const OTHER: u8 = 1;
    /// The command line makes no sense.
    pub(crate) const USAGE: u8 = 2;
    /// The node does not answer.
    pub(crate) const UNREACHABLE: u8 = 3;
    /// The configuration cannot be used.
    pub(crate) const CONFIG: u8 = 7;
    /// Interrupted by the user, as shells count it: 128 + SIGINT.
    pub(crate) const INTERRUPTED: u8 = 130;
}

/// An error as the user sees it.
#[derive(Debug)]
pub(crate) struct CliError(Box<Parts>);

/// Boxed: errors are rare, and every result would have to have room for one.
#[derive(Debug)]
struct Parts {
    failure: Failure,
    cause: Option<Box<dyn Error + Send + Sync>>,
    place: Option<(NamedSource<String>, LabeledSpan)>,
    pipe_closed: bool,
}

/// What commands return.
pub(crate) type Result<T> = std::result::Result<T, CliError>;

impl CliError {
    /// An error with a stable code and an exit status.
    pub(crate) fn new(code: &str, exit: u8, message: impl Into<String>) -> Self {
        Failure { code: code.to_owned(), exit, message: message.into(), help: None }.into()
    }

    /// A request that makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new("dske::usage", exit::USAGE, message)
    }

    /// A file or directory that cannot be used.
    pub(crate) fn file(doing: &str, path: &std::path::Path, cause: io::Error) -> Self {
        Self::new("dske::file", exit::OTHER, format!("cannot {doing} {}", path.display())).because(cause)
    }

    /// The user pressed Ctrl-C, or the system asked the program to stop.
    pub(crate) fn interrupted() -> Self {
        Self::new("dske::interrupted", exit::INTERRUPTED, "interrupted")
    }

    /// The node answered a request with the answer to another.
    pub(crate) fn strange_reply() -> Self {
        Self::new(
            "dske::control::reply",
            exit::OTHER,
            "the node gave an answer that does not fit the question",
        )
        .help("the running node and this program are of different versions; restart the node")
    }

    /// Adds what to do about it.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.0.failure.help = Some(help.into());
        self
    }

    /// Adds the underlying error.
    pub(crate) fn because(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Adds the place in a text file, to be shown with the lines around it.
    pub(crate) fn at(mut self, file: String, text: String, label: LabeledSpan) -> Self {
        self.0.place = Some((NamedSource::new(file, text), label));
        self
    }

    /// Standard output was closed by its reader: not an error of ours.
    pub(crate) fn is_pipe_closed(&self) -> bool {
        self.0.pipe_closed
    }

    /// The program's exit status.
    pub(crate) fn exit(&self) -> u8 {
        self.0.failure.exit
    }

    /// The error's stable code.
    pub(crate) fn code(&self) -> &str {
        &self.0.failure.code
    }

    /// The report for a person.
    pub(crate) fn render(&self, color: bool, width: usize) -> String {
        let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let mut text = String::from("Error: ");
        let handler = GraphicalReportHandler::new_themed(theme).with_links(false).with_width(width);
        if handler.render_report(&mut text, self).is_err() {
            text.push_str(&self.0.failure.message);
        }
        text.truncate(text.trim_end().len());
        text
    }

    /// The report for a script, as one line.
    pub(crate) fn render_json(&self) -> String {
        #[derive(Serialize)]
        struct Document<'a> {
            schema_version: u32,
            error: Body<'a>,
        }
        #[derive(Serialize)]
        struct Body<'a> {
            code: &'a str,
            exit: u8,
            message: &'a str,
            cause: Option<String>,
            help: Option<&'a str>,
        }
        let Failure { code, exit, message, help } = &self.0.failure;
        let cause = self.0.cause.as_ref().map(ToString::to_string);
        let error = Body { code, exit: *exit, message, cause, help: help.as_deref() };
        serde_json::to_string(&Document { schema_version: JSON_SCHEMA_VERSION, error })
            .unwrap_or_else(|_| message.clone())
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.failure.message)
    }
}

impl Error for CliError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.cause.as_ref().map(|cause| cause.as_ref() as &(dyn Error + 'static))
    }
}

impl Diagnostic for CliError {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.0.failure.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.0.failure.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.0.place.as_ref().map(|(source, _)| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let (_, label) = self.0.place.as_ref()?;
        Some(Box::new(std::iter::once(label.clone())))
    }
}

impl From<Failure> for CliError {
    fn from(mut failure: Failure) -> Self {
        failure.help = failure.help.filter(|help| !help.is_empty());
        Self(Box::new(Parts { failure, cause: None, place: None, pipe_closed: false }))
    }
}

impl From<NodeError> for CliError {
    fn from(error: NodeError) -> Self {
        error.failure().into()
    }
}

impl From<io::Error> for CliError {
    /// Only for writing to standard output; other files go through [`CliError::file`], which names them.
    fn from(error: io::Error) -> Self {
        let pipe_closed = error.kind() == io::ErrorKind::BrokenPipe;
        let mut report = Self::new("dske::output", exit::OTHER, "cannot write the output").because(error);
        report.0.pipe_closed = pipe_closed;
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_code_cause_and_remedy() {
        let error = CliError::usage("three is not even").because(io::Error::other("parity")).help("try four");
        let text = error.render(false, 80);
        for part in ["Error: dske::usage", "three is not even", "parity", "help: try four"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains('\u{1b}'));
        assert!(error.render_json().contains("\"exit\":2"));
    }

    #[test]
    fn a_closed_pipe_is_told_apart() {
        assert!(CliError::from(io::Error::from(io::ErrorKind::BrokenPipe)).is_pipe_closed());
        assert!(!CliError::from(io::Error::other("disk")).is_pipe_closed());
    }
}
