//! Settings of the screen: flags over `NO_COLOR` over the file.

use std::{
    io,
    path::{Path, PathBuf},
};

use dske_node::bounded;
use dske_tui::{Palette, Settings};

use super::Look;
use crate::cli::{
    context::Context,
    error::{CliError, Result, exit},
    output::Output,
};

/// Reads them all.
pub(super) fn load(look: &Look, context: &Context) -> Result<Settings> {
    let mut settings = match &look.settings {
        Some(path) => read(path)?
            .ok_or_else(|| CliError::file("read", path, io::Error::from(io::ErrorKind::NotFound)))?,
        None => match default_path() {
            Some(path) => read(&path)?.unwrap_or_default(),
            None => Settings::default(),
        },
    };
    settings.ascii |= look.ascii;
    // `NO_COLOR` and `--color never` are about colours; a palette that is named is meant.
    if !Output::new(false, false, context.globals.color).color {
        settings.palette = Palette::Mono;
    }
    if let Some(palette) = look.palette {
        settings.palette = palette;
    }
    Ok(settings)
}

fn read(path: &Path) -> Result<Option<Settings>> {
    let text = match bounded::read_text(path, "a file of settings", bounded::CONFIG_BYTES_MAX) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CliError::file("read", path, error)),
    };
    Settings::parse(&text).map(Some).map_err(|error| {
        let message = format!("{} cannot be used", path.display());
        CliError::new("dske::top::settings", exit::CONFIG, message)
            .because(error)
            .help("mend its [tui] table, or name another file with --settings")
    })
}

fn default_path() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
    Some(base.join("dske/top.toml"))
}
