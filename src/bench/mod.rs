//! `dske bench`: measurements that anybody can repeat on their own machine.

mod percentile;
mod report;
mod session;
mod stream;

use clap::Subcommand;

use crate::cli::{context::Context, error::Result};

pub(crate) use self::{session::SessionArgs, stream::StreamArgs};

/// `dske bench …`
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Keys from end to end: asked for at one client, taken at both, compared
    Session(SessionArgs),
    /// Keys agreed ahead: rate from end to end, memory, and bytes sent by the sender
    Stream(StreamArgs),
}

/// Runs `dske bench …`.
pub(crate) fn run(command: &BenchCommand, context: &Context) -> Result<()> {
    match command {
        BenchCommand::Session(args) => session::run(args, context),
        BenchCommand::Stream(args) => stream::run(args, context),
    }
}
