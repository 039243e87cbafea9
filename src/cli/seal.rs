//! What seals a module: a key file, or a passphrase from `DSKE_PASSPHRASE` or the terminal.
//!
//! Neither is ever echoed, logged or passed on a command line, where other users could read it.

use std::path::{Path, PathBuf};

use clap::Args;
use dske_node::control::{Passphrase, Seal};
use dske_storage::pskm::ModuleKey;

use crate::cli::{
    context::{Context, absolute},
    error::{CliError, Result, exit},
};

/// Shortest passphrase for a new module, in characters. The module's protection is no better than it.
const PASSPHRASE_CHARS_MIN: usize = 8;

/// Where the sealing key comes from.
#[derive(Debug, Clone, Args)]
pub(crate) struct SealArgs {
    /// Key file of 32 random bytes, instead of a passphrase from DSKE_PASSPHRASE or the terminal; `make` makes one where there is none
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
}

impl SealArgs {
    /// For a new module: makes the key file if there is none, asks twice for a passphrase.
    pub(crate) fn for_making(&self, context: &Context) -> Result<Seal> {
        let Some(path) = &self.key_file else {
            let passphrase = passphrase(true)?;
            if passphrase.0.chars().count() < PASSPHRASE_CHARS_MIN {
                let message = format!("the passphrase has fewer than {PASSPHRASE_CHARS_MIN} characters");
                return Err(CliError::usage(message).help("use several words, or --key-file"));
            }
            return Ok(Seal::Passphrase(passphrase));
        };
        let path = absolute(path)?;
        if !path.exists() {
            generate(&path)?;
            let path = path.display();
            context.out.note(format_args!(
                "{} made key file {path}: carry it apart from the module",
                context.out.good()
            ));
        }
        Ok(Seal::KeyFile(path))
    }

    /// For a module that exists.
    pub(crate) fn for_opening(&self) -> Result<Seal> {
        match &self.key_file {
            Some(path) => Ok(Seal::KeyFile(absolute(path)?)),
            None => Ok(Seal::Passphrase(passphrase(false)?)),
        }
    }
}

/// Makes a key file, for its owner alone.
pub(crate) fn generate(path: &Path) -> Result<()> {
    let made = ModuleKey::generate_file(path).map_err(|error| {
        CliError::new("dske::pskm::key-file", exit::OTHER, format!("cannot make key file {}", path.display()))
            .because(error)
    });
    made.map(drop)
}

fn passphrase(twice: bool) -> Result<Passphrase> {
    if let Ok(text) = std::env::var("DSKE_PASSPHRASE") {
        return Ok(Passphrase(text));
    }
    let ask = |prompt| match dske_tui::terminal::read_secret(prompt) {
        Ok(Some(mut text)) => Ok(Passphrase(std::mem::take(&mut *text))),
        Ok(None) => Err(CliError::interrupted()),
        Err(error) => Err(CliError::usage("there is no terminal to ask for the passphrase")
            .because(error)
            .help("set DSKE_PASSPHRASE, or use --key-file")),
    };
    let first = ask("passphrase: ")?;
    if twice && ask("again: ")?.0 != first.0 {
        return Err(CliError::usage("the two passphrases differ"));
    }
    Ok(first)
}
