//! Looking at a module without importing it.

use std::{fs::File, io::BufReader, path::Path};

use dske_protocol::ids::{Name, NodeId, TableId};
use serde::Serialize;

use super::{
    error::ModuleError,
    import::OpenModule,
    key::ModuleKey,
    manifest::{Header, VERSION},
};

/// What a module says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModuleInfo {
    /// Version of the file format.
    pub version: u32,
    /// Pad bytes of both lanes.
    pub bytes: u64,
    /// Whether a passphrase opens it; otherwise a key file does.
    pub passphrase: bool,
    /// What only the key shows.
    pub contents: Option<ModuleContents>,
}

/// The sealed part of a module, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModuleContents {
    /// Its serial.
    pub serial: String,
    /// The table in it.
    pub table: TableId,
    /// Who made it.
    pub hub: NodeId,
    /// What people call that hub.
    pub hub_name: Name,
    /// Where the hub is reached.
    pub hub_addresses: Vec<String>,
    /// For whom it is.
    pub client: NodeId,
    /// What the hub calls that client.
    pub client_name: Name,
    /// When it was made.
    pub made_ms: u64,
}

/// Looks at a module: without a key only at what is public.
///
/// # Errors
/// It is not a module, or the key does not open it. Only the beginning of the file is verified.
pub fn inspect(path: &Path, key: Option<&ModuleKey>) -> Result<ModuleInfo, ModuleError> {
    let Some(key) = key else {
        let file = File::open(path).map_err(|error| ModuleError::io("open", path, &error))?;
        let (header, _) = Header::read(&mut BufReader::new(file), path)?;
        return Ok(info(&header, None));
    };
    let module = OpenModule::open(path, key)?;
    let manifest = module.manifest;
    let contents = ModuleContents {
        serial: manifest.serial,
        table: manifest.table,
        hub: manifest.hub,
        hub_name: manifest.hub_name,
        hub_addresses: manifest.hub_addresses,
        client: manifest.client,
        client_name: manifest.client_name,
        made_ms: manifest.made_ms,
    };
    Ok(info(&module.header, Some(contents)))
}

fn info(header: &Header, contents: Option<ModuleContents>) -> ModuleInfo {
    ModuleInfo { version: VERSION, bytes: header.bytes, passphrase: header.stretch.is_some(), contents }
}
