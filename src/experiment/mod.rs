//! `dske experiment`: the paper's results, measured again on this program's own code, with the paper's beside them.
//!
//! What is computed here is what nodes compute: the machines of `dske-protocol`. Only what lies between them, pads
//! and messages, is in memory ([`world`]).

mod fig5;
mod files;
mod plot;
mod thresholds;
mod world;

use clap::Subcommand;

use crate::cli::{context::Context, error::Result};

/// `dske experiment …`
#[derive(Debug, Subcommand)]
pub(crate) enum ExperimentCommand {
    /// Processing time of sender and receiver against n and k (the paper's Fig. 5)
    Fig5(fig5::Fig5Args),
    /// How many bad hubs an agreement bears, for each kind of attack (the paper's §4.2 and §5.1)
    Thresholds(thresholds::ThresholdsArgs),
}

/// Runs `dske experiment …`.
pub(crate) fn run(command: &ExperimentCommand, context: &Context) -> Result<()> {
    match command {
        ExperimentCommand::Fig5(args) => fig5::run(args, context),
        ExperimentCommand::Thresholds(args) => thresholds::run(args, context),
    }
}
