//! `dske bench`: measurements that anybody can repeat on their own machine.

mod arithmetic;
mod network;
mod percentile;
mod pool;
mod report;
mod session;
mod shares;
mod stream;
mod tags;

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
    /// Keys out of a pool that was filled before: rate and time of a request
    Pool(pool::PoolArgs),
    /// Splitting secrets and putting them together again, among false shares too; one core
    Shares(shares::SharesArgs),
    /// Tags of messages and of keys; one core
    Tags(tags::TagsArgs),
}

/// Runs `dske bench …`.
pub(crate) fn run(command: &BenchCommand, context: &Context) -> Result<()> {
    match command {
        BenchCommand::Session(args) => session::run(args, context),
        BenchCommand::Stream(args) => stream::run(args, context),
        BenchCommand::Pool(args) => pool::run(args, context),
        BenchCommand::Shares(args) => shares::run(args, context),
        BenchCommand::Tags(args) => tags::run(args, context),
    }
}
