use crate::cli::{context::Context, error::Result};
use std::process::ExitCode;
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {}
pub(crate) fn run(_: &DemoArgs, _: &Context) -> Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
