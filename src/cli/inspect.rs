//! `dske pskm inspect`: what a module file says about itself. Only the beginning of the file is read; whether
//! all of it is sound is for the import to find out.

use std::path::Path;

use comfy_table::{Table, presets};
use dske_node::control::Seal;
use dske_storage::pskm::{self, ModuleError, ModuleInfo, ModuleKey};
use zeroize::Zeroizing;

use crate::cli::{
    context::Context,
    error::{CliError, Result, exit},
    output::printable,
    units,
};

/// Runs `dske pskm inspect`; without a seal, only what is public is shown.
pub(crate) fn run(file: &Path, seal: Option<&Seal>, context: &Context) -> Result<()> {
    let fail = |error: ModuleError| CliError::new("dske::pskm", exit::OTHER, printable(&error.to_string()));
    let key = match seal {
        Some(Seal::KeyFile(path)) => Some(ModuleKey::from_key_file(path).map_err(fail)?),
        Some(Seal::Passphrase(passphrase)) => {
            Some(ModuleKey::from_passphrase(Zeroizing::new(passphrase.0.clone())).map_err(fail)?)
        }
        None => None,
    };
    let info = pskm::inspect(file, key.as_ref()).map_err(fail)?;
    if context.out.json {
        return context.out.document(&info);
    }
    context.out.line(table(&info).trim_fmt())?;
    if key.is_none() {
        context.out.note("add --key-file or --passphrase to see for whom it is");
    }
    Ok(())
}

fn table(info: &ModuleInfo) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    row("format", info.version.to_string());
    row("pads", units::size(info.bytes));
    row("opens with", if info.passphrase { "a passphrase" } else { "a key file" }.to_owned());
    if let Some(contents) = &info.contents {
        let addresses: Vec<String> =
            contents.hub_addresses.iter().map(|address| printable(address)).collect();
        row("serial", printable(&contents.serial));
        row("table", contents.table.to_string());
        row("hub", format!("{} ({})", contents.hub_name, contents.hub));
        row("reached at", addresses.join(", "));
        row("client", format!("{} ({})", contents.client_name, contents.client));
    }
    table
}
