//! `dske bench`: measurements that anybody can repeat on their own machine.

mod percentile;
mod report;
mod session;

use clap::Subcommand;

use crate::cli::{context::Context, error::Result};

pub(crate) use self::session::SessionArgs;

/// `dske bench …`
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Keys from end to end: asked for at one client, taken at both, compared
    Session(SessionArgs),
}

/// Runs `dske bench …`.
pub(crate) fn run(command: &BenchCommand, context: &Context) -> Result<()> {
    match command {
        BenchCommand::Session(args) => session::run(args, context),
    }
}
