//! A local network of real processes, and an honest pair of clients in it.

use std::{
    cell::RefCell,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use dske_node::{
    DataDir,
    control::{Client, KeyGet, Reply, Request},
    status::Status,
};
use dske_protocol::ids::Name;
use serde_json::Value;
use tokio::runtime::Runtime;

/// How long a key may take.
const KEY_TIMEOUT_MS: u64 = 20_000;

/// What went wrong.
#[derive(Debug)]
pub struct FloodError {
    text: String,
    fatal: bool,
}

impl FloodError {
    pub(super) fn new(text: impl fmt::Display) -> Self {
        Self { text: text.to_string(), fatal: true }
    }

    fn passing(text: impl fmt::Display) -> Self {
        Self { text: text.to_string(), fatal: false }
    }

    /// Whether it makes no sense to go on.
    pub(super) fn is_fatal(&self) -> bool {
        self.fatal
    }
}

impl fmt::Display for FloodError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for FloodError {}

impl From<std::io::Error> for FloodError {
    fn from(error: std::io::Error) -> Self {
        Self::new(error)
    }
}

/// A node of the network.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) dir: PathBuf,
    pub(super) port: u16,
    pub(super) pid: u64,
}

/// A key that two clients hold alike.
#[derive(Debug, Clone, Copy)]
pub struct Agreed {
    /// Until both had it.
    pub took: Duration,
    /// Its sender was told that the receiver has it.
    pub confirmed: bool,
}

/// A network that was started for the floods; taken down when dropped.
pub struct Net {
    dir: tempfile::TempDir,
    dske: PathBuf,
    runtime: Runtime,
    pub(super) nodes: Vec<Node>,
    honest: RefCell<(Client, Client)>,
}

impl Net {
    /// Starts five hubs and three clients: alice and bob, who are honest, and carol, whose transport key the
    /// attacker has. `dske` is the program; `pads` the size of each table.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn up(dske: &Path, pads: &str) -> Result<Self, FloodError> {
        let dir = tempfile::tempdir()?;
        let command = |arguments: &[&str]| -> Result<(), FloodError> {
            let output = testnet(dske, dir.path()).args(arguments).output()?;
            if output.status.success() {
                return Ok(());
            }
            Err(FloodError::new(String::from_utf8_lossy(&output.stderr)))
        };
        command(&["testnet", "up", "--hubs", "5", "--clients", "3", "-k", "3", "--pads", pads])?;
        // From here on it has to be taken down again.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let nodes = nodes(&dir.path().join("nets/dev/net.json"))?;
        let connect = |name: &str| {
            let node = nodes.iter().find(|node| node.name == name);
            let node = node.ok_or_else(|| FloodError::new(format!("there is no {name}")))?;
            runtime.block_on(Client::connect(&DataDir::new(&node.dir))).map_err(FloodError::new)
        };
        let honest = RefCell::new((connect("alice")?, connect("bob")?));
        Ok(Self { dske: dske.to_owned(), runtime, nodes, honest, dir })
    }

    pub(super) fn node(&self, name: &str) -> Result<&Node, FloodError> {
        let node = self.nodes.iter().find(|node| node.name == name);
        node.ok_or_else(|| FloodError::new(format!("there is no {name}")))
    }

    pub(super) fn hubs(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.name.starts_with('p'))
    }

    /// Agrees a key between alice and bob, takes it at both, and compares.
    ///
    /// # Errors
    /// Fatal if the keys differ; else no key came.
    pub fn agree(&self) -> Result<Agreed, FloodError> {
        let (alice, bob) = &mut *self.honest.borrow_mut();
        let name = |text: &str| text.parse::<Name>().map_err(FloodError::new);
        let get = KeyGet {
            with: vec![name("bob")?.into()],
            bits: 256,
            hubs: Vec::new(),
            k: None,
            purpose: String::new(),
            timeout_ms: KEY_TIMEOUT_MS,
        };
        let began = Instant::now();
        let sent = match self.runtime.block_on(alice.call(Request::KeyGet(get), &mut |_, _| ()))? {
            Reply::Key(key) => key,
            Reply::Failed(why) => return Err(FloodError::passing(why)),
            other => return Err(FloodError::new(format!("a strange reply: {other:?}"))),
        };
        let fetch = Request::KeyFetch { id: sent.id, wait_ms: KEY_TIMEOUT_MS };
        match self.runtime.block_on(bob.call(fetch, &mut |_, _| ()))? {
            Reply::Key(key) if key.key.expose() == sent.key.expose() => {
                Ok(Agreed { took: began.elapsed(), confirmed: !sent.confirmed.is_empty() })
            }
            Reply::Key(_) => Err(FloodError::new("the two sides hold different keys")),
            Reply::Failed(why) => Err(FloodError::passing(why)),
            other => Err(FloodError::new(format!("a strange reply: {other:?}"))),
        }
    }

    /// What a node says about itself.
    pub(super) fn status(&self, node: &Node) -> Result<Status, FloodError> {
        let ask = async {
            let mut client = Client::connect(&DataDir::new(&node.dir)).await.map_err(FloodError::new)?;
            match client.call(Request::Status, &mut |_, _| ()).await? {
                Reply::Status(status) => Ok(*status),
                other => Err(FloodError::new(format!("a strange reply: {other:?}"))),
            }
        };
        self.runtime.block_on(ask)
    }

    /// Stops a node, copies its store, starts it again, and waits until it can use all hubs.
    pub(super) fn copy_of(&self, node: &Node) -> Result<tempfile::TempDir, FloodError> {
        let run = |what: &str| -> Result<(), FloodError> {
            let output = testnet(&self.dske, self.dir.path()).args(["testnet", what, &node.name]).output()?;
            if output.status.success() {
                return Ok(());
            }
            Err(FloodError::new(String::from_utf8_lossy(&output.stderr)))
        };
        let copy = tempfile::tempdir()?;
        run("kill")?;
        copy_dir(&node.dir.join("store"), copy.path())?;
        run("restart")?;
        let began = Instant::now();
        loop {
            let usable =
                self.status(node).ok().and_then(|status| status.policy).map_or(0, |policy| policy.usable);
            if usize::from(usable) == self.hubs().count() {
                return Ok(copy);
            }
            if began.elapsed() > Duration::from_secs(20) {
                return Err(FloodError::new(format!("{} does not come back", node.name)));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The counters of all nodes together.
    pub(super) fn counters(&self) -> Result<super::report::Sums, FloodError> {
        let mut sums = super::report::Sums::default();
        for node in &self.nodes {
            sums.add(&self.status(node)?.counters);
        }
        Ok(sums)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // What cannot be stopped any more is gone already.
        let _ = testnet(&self.dske, self.dir.path()).args(["testnet", "down"]).output();
    }
}

fn testnet(dske: &Path, dir: &Path) -> Command {
    let mut command = Command::new(dske);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DSKE_")) {
        command.env_remove(name);
    }
    command
        .current_dir(dir)
        .env("DSKE_TESTNET_DIR", dir.join("nets"))
        .env("NO_COLOR", "1")
        .env_remove("RUST_LOG");
    command
}

fn copy_dir(from: &Path, to: &Path) -> Result<(), FloodError> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_dir(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

fn nodes(path: &Path) -> Result<Vec<Node>, FloodError> {
    let descriptor: Value = serde_json::from_slice(&fs::read(path)?).map_err(FloodError::new)?;
    let node = |entry: &Value| {
        Some(Node {
            name: entry["name"].as_str()?.to_owned(),
            dir: entry["dir"].as_str()?.into(),
            port: u16::try_from(entry["port"].as_u64()?).ok()?,
            pid: entry["pid"].as_u64()?,
        })
    };
    let nodes =
        descriptor["nodes"].as_array().map(|nodes| nodes.iter().map(node).collect::<Option<Vec<_>>>());
    nodes.flatten().ok_or_else(|| FloodError::new("the network's description is not understood"))
}
