//! `dske pskm inspect`: what a module file says about itself.

use std::path::Path;

use dske_storage::pskm;

use crate::cli::{
    context::Context,
    error::{CliError, Result, exit},
    seal::SealArgs,
    units,
};

/// Runs `dske pskm inspect`.
pub(crate) fn run(file: &Path, seal: &SealArgs, context: &Context) -> Result<()> {
    let _ = seal;
    let info = pskm::inspect(file, None).map_err(|error| {
        CliError::new("dske::pskm::module", exit::OTHER, format!("cannot inspect {}", file.display()))
            .because(error)
    })?;
    context.out.line(units::size(info.bytes))
}
