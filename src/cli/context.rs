//! What every command needs: the data directory that it acts on, the configuration, the output.

use std::path::{Path, PathBuf};

use dske_node::DataDir;

use crate::{
    cli::{
        args::Globals,
        error::{CliError, Result, exit},
        output::Output,
        settings::{self, NodeFlags, Resolved},
    },
    testnet::Descriptor,
};

/// What to do about a directory with parts of a node and no configuration.
pub(crate) const UNFINISHED: &str = "if `dske init` was cut off here, give it again: it finishes the node; if this was a whole node, put config.toml back from a \
                                     copy, or name it with --config";

/// The global options, resolved as far as no file need be read.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) globals: Globals,
    pub(crate) out: Output,
}

impl Context {
    /// From the command line.
    pub(crate) fn new(globals: Globals) -> Self {
        let out = Output::new(globals.json, globals.quiet, globals.color);
        Self { globals, out }
    }

    /// The data directory: of a testnet's node, as given, or the user's own.
    pub(crate) fn dir(&self) -> Result<DataDir> {
        match (&self.globals.testnet, &self.globals.as_node) {
            (Some(net), Some(node)) => Ok(DataDir::new(Descriptor::load(net)?.node(node)?.dir.clone())),
            (Some(net), None) => {
                let help = format!("add --as NODE, such as `--testnet {net} --as alice`");
                Err(CliError::usage("--testnet names a network, not a node").help(help))
            }
            (None, Some(_)) => {
                Err(CliError::usage("--as names a node of a testnet").help("add --testnet NAME"))
            }
            (None, None) => match &self.globals.dir {
                Some(dir) => Ok(DataDir::new(absolute(dir)?)),
                None => Ok(DataDir::new(default_dir()?)),
            },
        }
    }

    /// The configuration of the node in that directory, with flags and variables laid over it.
    pub(crate) fn config(&self, dir: &DataDir, flags: &NodeFlags) -> Result<Resolved> {
        let path = self.globals.config.clone().unwrap_or_else(|| dir.config().to_path_buf());
        let (config, text) = settings::load(&path).map_err(|error| {
            let cut_off = self.globals.config.is_none() && dske_node::lacks_configuration(dir);
            if cut_off { error.help(UNFINISHED) } else { error }
        })?;
        Resolved::new(config, &text, flags, &|name| self.variable(name))
    }

    /// How a receiver takes a key, as it would be typed here: a node of a local testnet is named in the command.
    pub(crate) fn fetch_command(&self, receiver: &str, key: impl std::fmt::Display) -> String {
        match &self.globals.testnet {
            Some(net) => format!("dske key fetch --testnet {net} --as {receiver} {key}"),
            None => format!("dske key fetch {key}"),
        }
    }

    /// A `DSKE_*` variable. Nodes of a testnet have their own settings: there, the user's do not count.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        if self.globals.testnet.is_some() {
            return None;
        }
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }
}

/// The path from the root: a running node has a working directory of its own.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| CliError::file("resolve", path, error))
}

fn default_dir() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")));
    base.map(|base| base.join("dske")).ok_or_else(|| {
        CliError::new("dske::dir", exit::USAGE, "there is no home directory to keep the node's data in")
            .help("name one with --dir or DSKE_DIR")
    })
}
