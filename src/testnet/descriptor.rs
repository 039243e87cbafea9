//! The descriptor `net.json`: what a testnet consists of, for every command that acts on it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use dske_node::{DataDir, config::Role};
use dske_protocol::ids::Name;
use dske_storage::files;
use serde::{Deserialize, Serialize};

use crate::{
    cli::{
        context::absolute,
        error::{CliError, Result, exit},
    },
    testnet::process,
};

/// File of the descriptor in a testnet's directory.
const FILE: &str = "net.json";
/// Version of its form.
const SCHEMA_VERSION: u32 = 2;

/// A testnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Descriptor {
    schema_version: u32,
    /// Its name.
    pub(crate) name: Name,
    /// The directory that holds everything of it.
    pub(crate) root: PathBuf,
    /// Shares needed for a key.
    pub(crate) k: u8,
    /// Pad bytes of one table.
    pub(crate) pad_bytes: u64,
    /// The process that makes it, until it is ready. Where that has gone before, the testnet is unfinished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) maker: Option<u32>,
    /// Its nodes, hubs first.
    pub(crate) nodes: Vec<NodeEntry>,
}

/// One node of a testnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeEntry {
    /// Its name.
    pub(crate) name: Name,
    /// What it is: a hub, a client, or both.
    pub(crate) roles: Vec<Role>,
    /// Its data directory.
    pub(crate) dir: PathBuf,
    /// Its log.
    pub(crate) log: PathBuf,
    /// The port that it listens on, on 127.0.0.1.
    pub(crate) port: u16,
    /// The port on which it answers monitoring, on 127.0.0.1, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) metrics: Option<u16>,
    /// Its libp2p peer id.
    pub(crate) peer_id: String,
    /// Its process, while it runs and perhaps after.
    pub(crate) pid: Option<u32>,
}

impl NodeEntry {
    /// Whether it has a role.
    pub(crate) fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Its roles in words.
    pub(crate) fn roles(&self) -> String {
        let roles: Vec<String> = self.roles.iter().map(ToString::to_string).collect();
        roles.join("+")
    }

    /// Its data directory.
    pub(crate) fn data_dir(&self) -> DataDir {
        DataDir::new(self.dir.clone())
    }
}

impl Descriptor {
    /// A testnet without nodes, to be made by this process.
    pub(crate) fn new(name: Name, root: PathBuf, k: u8, pad_bytes: u64) -> Self {
        let maker = Some(std::process::id());
        Self { schema_version: SCHEMA_VERSION, name, root, k, pad_bytes, maker, nodes: Vec::new() }
    }

    /// The directory of a testnet: under `DSKE_TESTNET_DIR`, or `.dske` where the user is.
    pub(crate) fn root_of(name: &Name) -> Result<PathBuf> {
        Ok(home()?.join(name.as_str()))
    }

    /// Reads a testnet's descriptor, of one that is ready.
    pub(crate) fn load(name: &Name) -> Result<Self> {
        let net = Self::load_any(name)?;
        if net.maker.is_none() {
            return Ok(net);
        }
        let message = format!("testnet {name} is not ready: {}", net.unfinished());
        Err(CliError::new("dske::testnet::unfinished", exit::USAGE, message)
            .help(format!("wait for it, or remove it with `dske testnet down --name {name}`")))
    }

    /// How far one is that is not ready.
    pub(crate) fn unfinished(&self) -> String {
        match self.maker.filter(|pid| process::is_maker(*pid)) {
            Some(pid) => format!("process {pid} is making it"),
            None => "the command that made it ended before it was".to_owned(),
        }
    }

    /// Reads a testnet's descriptor, also of one that was never finished.
    pub(crate) fn load_any(name: &Name) -> Result<Self> {
        let root = Self::root_of(name)?;
        Self::read(&root).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                let message =
                    format!("there is no testnet {name} in {}", root.parent().unwrap_or(&root).display());
                CliError::new("dske::testnet::unknown", exit::USAGE, message)
                    .help("`dske testnet ls` shows the testnets here; DSKE_TESTNET_DIR names another place")
            }
            _ => CliError::file("use the descriptor in", &root, error),
        })
    }

    /// Every testnet here whose descriptor can be read.
    pub(crate) fn all() -> Result<Vec<Self>> {
        let home = home()?;
        let entries = match fs::read_dir(&home) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(CliError::file("list", &home, error)),
        };
        let mut nets: Vec<Self> =
            entries.flatten().filter_map(|entry| Self::read(&entry.path()).ok()).collect();
        nets.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(nets)
    }

    /// The node of that name.
    pub(crate) fn node(&self, name: &Name) -> Result<&NodeEntry> {
        self.nodes.iter().find(|node| node.name == *name).ok_or_else(|| self.no_such_node(name))
    }

    /// The same, to be changed.
    pub(crate) fn node_mut(&mut self, name: &Name) -> Result<&mut NodeEntry> {
        let missing = self.no_such_node(name);
        self.nodes.iter_mut().find(|node| node.name == *name).ok_or(missing)
    }

    /// The nodes of one role.
    pub(crate) fn with_role(&self, role: Role) -> impl Iterator<Item = &NodeEntry> {
        self.nodes.iter().filter(move |node| node.has(role))
    }

    /// Writes the descriptor, whole or not at all.
    pub(crate) fn save(&self) -> Result<()> {
        let path = self.root.join(FILE);
        let write = || -> io::Result<()> {
            let mut text = serde_json::to_vec_pretty(self)?;
            text.push(b'\n');
            files::write(&path, &text)
        };
        write().map_err(|error| CliError::file("write", &path, error))
    }

    /// Whether a directory has a descriptor.
    pub(crate) fn is_in(root: &Path) -> bool {
        root.join(FILE).exists()
    }

    /// Path of the descriptor.
    pub(crate) fn path(&self) -> PathBuf {
        self.root.join(FILE)
    }

    fn read(root: &Path) -> io::Result<Self> {
        let net: Self = serde_json::from_slice(&fs::read(root.join(FILE))?)?;
        // A directory that was moved or copied must not lead to processes and files of the original.
        if net.schema_version != SCHEMA_VERSION || net.root != fs::canonicalize(root)? {
            return Err(io::Error::other("the descriptor is of another version, or of another directory"));
        }
        Ok(net)
    }

    fn no_such_node(&self, name: &Name) -> CliError {
        let names: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
        CliError::usage(format!("testnet {} has no node {name}", self.name))
            .help(format!("it has {}", names.join(", ")))
    }
}

fn home() -> Result<PathBuf> {
    let set = std::env::var_os("DSKE_TESTNET_DIR").filter(|value| !value.is_empty());
    absolute(Path::new(&set.unwrap_or_else(|| ".dske".into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_round_trips_and_knows_its_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let name: Name = "dev".parse().expect("a name");
        let mut net =
            Descriptor::new(name.clone(), fs::canonicalize(dir.path()).expect("its path"), 3, 1 << 20);
        let entry = NodeEntry {
            name: "p1".parse().expect("a name"),
            roles: vec![Role::Hub],
            dir: dir.path().join("p1"),
            log: dir.path().join("p1.log"),
            port: 7001,
            metrics: Some(9464),
            peer_id: "12D3".into(),
            pid: None,
        };
        net.nodes.push(entry);
        net.save().expect("saved");
        assert_eq!(Descriptor::read(dir.path()).expect("read"), net);
        assert!(net.node(&name).is_err_and(|error| error.exit() == 2));
        let other = tempfile::tempdir().expect("another directory");
        fs::copy(dir.path().join(FILE), other.path().join(FILE)).expect("copied");
        assert!(Descriptor::read(other.path()).is_err());
    }
}
