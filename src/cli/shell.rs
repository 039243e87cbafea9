//! `dske completions` and `dske man`: made from the command line's own description, so they never disagree.

use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use dske_storage::files;

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
    // Its own id: `dir` is the node's directory, and both would be one.
    #[arg(value_name = "DIR")]
    into: Option<PathBuf>,
}

/// Runs `dske completions`.
pub(crate) fn completions(args: &CompletionsArgs, context: &Context) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "dske", &mut text);
    context.out.text(&String::from_utf8_lossy(&text))
}

/// Runs `dske man`.
pub(crate) fn man(args: &ManArgs, context: &Context) -> Result<()> {
    let Some(dir) = &args.into else {
        let mut text = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut text)?;
        return context.out.text(&String::from_utf8_lossy(&text));
    };
    std::fs::create_dir_all(dir).map_err(|error| CliError::file("make", dir, error))?;
    // As `clap_mangen` does it, but for how they are written: never through what stands at a page's name.
    let mut whole = Cli::command().disable_help_subcommand(true);
    whole.build();
    write_pages(whole, dir)?;
    context.out.note(format_args!("{} manual pages in {}", context.out.good(), dir.display()));
    Ok(())
}

/// The pages of a command and of those below it.
fn write_pages(command: Command, dir: &Path) -> Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()).cloned() {
        write_pages(below, dir)?;
    }
    let page = clap_mangen::Man::new(command);
    let path = dir.join(page.get_filename());
    let mut text = Vec::new();
    page.render(&mut text)?;
    files::write_public(&path, &text).map_err(|error| CliError::file("write", &path, error))
}
