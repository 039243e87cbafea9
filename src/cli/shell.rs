//! `dske completions` and `dske man`: made from the command line's own description, so they never disagree.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::{
    args::Cli,
    context::Context,
    error::{CliError, Result},
};

/// Arguments of `dske completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments of `dske man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write a page for each command into this directory
    dir: Option<PathBuf>,
}

/// Runs `dske completions`.
pub(crate) fn completions(args: &CompletionsArgs, context: &Context) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "dske", &mut text);
    context.out.text(&String::from_utf8_lossy(&text))
}

/// Runs `dske man`.
pub(crate) fn man(args: &ManArgs, context: &Context) -> Result<()> {
    let Some(dir) = &args.dir else {
        let mut text = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut text)?;
        return context.out.text(&String::from_utf8_lossy(&text));
    };
    std::fs::create_dir_all(dir).map_err(|error| CliError::file("make", dir, error))?;
    clap_mangen::generate_to(Cli::command(), dir)
        .map_err(|error| CliError::file("write into", dir, error))?;
    context.out.note(format_args!("{} manual pages in {}", context.out.good(), dir.display()));
    Ok(())
}
