//! `dske explain`: more about an error than its message can say. The text is that of docs/ERRORS.md.

use clap::Args;
use serde::Serialize;

use crate::cli::{
    context::Context,
    error::{CliError, Result, exit},
    output::printable,
    wrap,
};

/// A section for each code.
const ERRORS: &str = include_str!("../../docs/ERRORS.md");

/// Longest line, as far as the terminal has it.
const COLUMNS: usize = 100;

/// Arguments of `dske explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The code, such as dske::pad::low; all codes are listed without
    code: Option<String>,
}

/// What is to be said about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Explanation {
    code: &'static str,
    /// What happened, in a sentence; it begins with the exit status.
    summary: &'static str,
    /// Why, and what to do.
    remedy: &'static str,
}

/// Runs `dske explain`.
pub(crate) fn run(args: &ExplainArgs, context: &Context) -> Result<()> {
    let Some(code) = &args.code else { return list(context) };
    let wanted = code.trim().to_lowercase();
    let found =
        explanations().find(|one| one.code == wanted || one.code.strip_prefix("dske::") == Some(&wanted));
    let Some(found) = found else { return Err(unknown(&wanted)) };
    if context.out.json {
        return context.out.document(&found);
    }
    let width = wrap::width().unwrap_or(COLUMNS).min(COLUMNS);
    let wrapped = |text: &str| {
        let paragraphs =
            text.split("\n\n").map(|paragraph| textwrap::fill(&paragraph.replace('\n', " "), width));
        paragraphs.collect::<Vec<_>>().join("\n\n")
    };
    context.out.line(format_args!(
        "{}\n\n{}\n\n{}",
        found.code,
        wrapped(found.summary),
        wrapped(found.remedy)
    ))
}

fn list(context: &Context) -> Result<()> {
    #[derive(Serialize)]
    struct Errors {
        errors: Vec<Explanation>,
    }
    let errors: Vec<_> = explanations().collect();
    if context.out.json {
        return context.out.document(&Errors { errors });
    }
    let width = errors.iter().map(|one| one.code.len()).max().unwrap_or(0);
    errors.iter().try_for_each(|one| {
        let whole = one.summary.lines().collect::<Vec<_>>().join(" ");
        let what = whole.split_once(". ").map_or(whole.as_str(), |(_, what)| what);
        context.out.line(wrap::behind(&format!("{:width$}  ", one.code), width + 2, what))
    })
}

fn unknown(wanted: &str) -> CliError {
    let group = wanted.trim_start_matches("dske::").split("::").next().unwrap_or_default();
    let near: Vec<_> = explanations()
        .map(|one| one.code)
        .filter(|code| !group.is_empty() && code.split("::").nth(1) == Some(group))
        .collect();
    let help = match near.is_empty() {
        true => "`dske explain` lists all codes".to_owned(),
        false => format!("there are {}", near.join(", ")),
    };
    let message = format!("no error has the code '{}'", printable(wanted));
    CliError::new("dske::explain::unknown", exit::USAGE, message).help(help)
}

/// The sections of the text, in its order.
fn explanations() -> impl Iterator<Item = Explanation> {
    ERRORS.split("\n## ").skip(1).map(|section| {
        let (code, text) = section.split_once('\n').unwrap_or((section, ""));
        let (summary, remedy) = text.trim().split_once("\n\n").unwrap_or((text.trim(), ""));
        Explanation { code: code.trim(), summary: summary.trim(), remedy: remedy.trim() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_explanation_has_its_parts_and_its_place() {
        let all: Vec<_> = explanations().collect();
        assert!(all.len() > 50);
        assert!(all.is_sorted_by(|one, other| one.code < other.code), "in order, each once");
        for one in all {
            let status = one.summary.strip_prefix("Exit status ").and_then(|rest| rest.split_once(". "));
            let status = status.and_then(|(status, _)| status.parse::<u8>().ok());
            assert!(matches!(status, Some(1..=8 | 130)), "{}: {}", one.code, one.summary);
            assert!(one.remedy.len() > 10, "{} has no remedy", one.code);
        }
    }

    #[test]
    fn an_unknown_code_leads_to_its_neighbours() {
        let error = unknown("pad::high");
        assert!(error.render(false, 100).contains("dske::pad::low"));
        assert!(unknown("\u{1b}[31m").render(false, 100).contains("lists all codes"));
    }
}
