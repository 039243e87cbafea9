use crate::cli::{context::Context, error::Result};
#[derive(Debug, clap::Subcommand)]
pub(crate) enum BenchCommand {
    Session,
}
pub(crate) fn run(_: &BenchCommand, _: &Context) -> Result<()> {
    Ok(())
}
