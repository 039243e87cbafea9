//! A local network of real processes, driven with the built program as a user would.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

pub(crate) mod files;
pub(crate) mod http;
pub(crate) mod ledgers;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

pub(crate) mod needles;

/// What the nodes of a testnet log: the messages that they send and receive, among other things.
const LOG: &str = "warn,dske_node=debug,dske_node::messages=trace";

/// How long something may take that is nearly at once as a rule.
const GENEROUS: Duration = Duration::from_secs(30);

/// A running testnet; stopped and removed when dropped.
pub(crate) struct Net {
    dir: tempfile::TempDir,
}

/// What `key get` and `key fetch` tell, and the key.
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) report: Value,
    pub(crate) bytes: Vec<u8>,
}

impl Net {
    /// A place for one that is not up.
    pub(crate) fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// Starts one. Every node logs the messages that it sends and receives.
    pub(crate) fn up(hubs: u8, clients: u8, k: u8, pads: &str) -> Self {
        Self::up_with_log(hubs, clients, k, pads, LOG)
    }

    /// Starts one whose nodes answer monitoring.
    pub(crate) fn up_with_metrics(hubs: u8, clients: u8, k: u8, pads: &str) -> Self {
        Self::up_with(hubs, clients, k, pads, LOG, &["--metrics"])
    }

    /// The port on which a node answers monitoring.
    pub(crate) fn metrics_port(&self, node: &str) -> u16 {
        self.entry(node)["metrics"].as_u64().unwrap().try_into().unwrap()
    }

    /// Starts one whose nodes log what this filter lets through.
    pub(crate) fn up_with_log(hubs: u8, clients: u8, k: u8, pads: &str, log: &str) -> Self {
        Self::up_with(hubs, clients, k, pads, log, &[])
    }

    /// Starts one with further options.
    pub(crate) fn up_with(hubs: u8, clients: u8, k: u8, pads: &str, log: &str, more: &[&str]) -> Self {
        let net = Self::empty();
        let (hubs, clients, k) = (hubs.to_string(), clients.to_string(), k.to_string());
        let arguments = ["testnet", "up", "--hubs", &hubs, "--clients", &clients, "-k", &k, "--pads", pads];
        let output = net.dske(&arguments).args(more).env("RUST_LOG", log).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        net
    }

    /// Starts one of nodes that are hub and client for each other.
    pub(crate) fn of_peers(peers: u8, pads: &str) -> Self {
        let net = Self::empty();
        let up = ["testnet", "up", "--peers", &peers.to_string(), "--pads", pads];
        let output = net.dske(&up).output().unwrap();
        assert!(output.status.success(), "{}", error(&output));
        net
    }

    /// Ends a node as its operator would.
    #[track_caller]
    pub(crate) fn stop(&self, node: &str) {
        let pid = self.status(node)["node"]["pid"].to_string();
        assert!(Command::new("kill").arg(&pid).status().unwrap().success());
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        eventually("the node ends", || state().is_empty() || state().contains(") Z"));
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The program, in this network.
    pub(crate) fn dske(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dske"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DSKE_")) {
            command.env_remove(name);
        }
        command
            .current_dir(self.dir.path())
            .env("DSKE_TESTNET_DIR", self.dir.path().join("nets"))
            .env("RUST_LOG", LOG)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .args(arguments);
        command
    }

    /// The program, acting on one node.
    pub(crate) fn at(&self, node: &str, arguments: &[&str]) -> Command {
        let mut command = self.dske(arguments);
        command.args(["--testnet", "dev", "--as", node]);
        command
    }

    /// Runs a `testnet` command that must succeed.
    #[track_caller]
    pub(crate) fn testnet(&self, arguments: &[&str]) {
        let output = self.dske(&["testnet"]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The data directory of a node.
    pub(crate) fn node_dir(&self, node: &str) -> PathBuf {
        self.entry(node)["dir"].as_str().unwrap().into()
    }

    /// What a node has logged so far.
    pub(crate) fn log(&self, node: &str) -> String {
        let path = self.entry(node)["log"].as_str().unwrap().to_owned();
        String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
    }

    /// The names of all nodes.
    pub(crate) fn nodes(&self) -> Vec<String> {
        let descriptor = self.descriptor();
        let nodes = descriptor["nodes"].as_array().unwrap().iter();
        nodes.map(|node| node["name"].as_str().unwrap().to_owned()).collect()
    }

    fn descriptor(&self) -> Value {
        let text = std::fs::read_to_string(self.dir.path().join("nets/dev/net.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn entry(&self, node: &str) -> Value {
        let nodes = self.descriptor()["nodes"].as_array().unwrap().clone();
        nodes.into_iter().find(|entry| entry["name"] == node).unwrap()
    }

    /// The process of a node, as long as it runs.
    pub(crate) fn pid(&self, node: &str) -> Option<i32> {
        let entry = self.entry(node);
        let pid = i32::try_from(entry["pid"].as_i64()?).ok()?;
        // A number that was used again is not the node.
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let dir = entry["dir"].as_str()?.as_bytes();
        line.windows(dir.len()).any(|part| part == dir).then_some(pid)
    }

    /// Sends a signal to a node's process at once, without a program in between.
    pub(crate) fn signal(&self, node: &str, signal: Signal) -> Option<i32> {
        let pid = self.pid(node)?;
        kill_process(Pid::from_raw(pid)?, signal).ok()?;
        Some(pid)
    }

    /// `status --json` of a node.
    #[track_caller]
    pub(crate) fn status(&self, node: &str) -> Value {
        let output = self.at(node, &["status", "--json"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Agrees a key as the sender.
    pub(crate) fn try_get(&self, from: &str, with: &str, more: &[&str]) -> Result<Key, Output> {
        self.key(from, &["key", "get", "--with", with], more)
    }

    /// Agrees a key as the sender; must succeed.
    #[track_caller]
    pub(crate) fn get(&self, from: &str, with: &str, bits: &str) -> Key {
        self.try_get(from, with, &["--bits", bits]).unwrap_or_else(|output| panic!("{}", error(&output)))
    }

    /// Takes a key as a receiver.
    pub(crate) fn try_fetch(&self, node: &str, id: &str, wait: Option<&str>) -> Result<Key, Output> {
        let wait: Vec<_> = wait.into_iter().flat_map(|wait| ["--wait", wait]).collect();
        self.key(node, &["key", "fetch", id], &wait)
    }

    /// Takes a key as a receiver; must succeed.
    #[track_caller]
    pub(crate) fn fetch(&self, node: &str, id: &str) -> Key {
        self.try_fetch(node, id, Some("15s")).unwrap_or_else(|output| panic!("{}", error(&output)))
    }

    /// Agrees keys until the receiver confirms one: then the two clients have found each other.
    #[track_caller]
    pub(crate) fn acquaint(&self, from: &str, with: &str) {
        let began = Instant::now();
        loop {
            let sent = self.get(from, with, "256");
            self.fetch(with, &sent.id);
            if sent.report["confirmed"][0] == with {
                return;
            }
            let logs = || [from, with].map(|node| format!("{node}:\n{}", self.log(node))).join("\n");
            assert!(began.elapsed() < GENEROUS, "{from} and {with} do not find each other\n{}", logs());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Agrees keys until the receiver confirms one, which is given. On a busy machine the direct link between two clients may be
    /// gone for a moment, and the key is not confirmed then.
    #[track_caller]
    pub(crate) fn get_confirmed(&self, from: &str, with: &str, bits: &str) -> Key {
        let mut confirmed = None;
        eventually("a key is confirmed", || {
            let sent = self.get(from, with, bits);
            let is_confirmed = sent.report["confirmed"][0] == with;
            confirmed = is_confirmed.then_some(sent);
            is_confirmed
        });
        confirmed.unwrap()
    }

    /// A command that gives a key.
    pub(crate) fn try_key(&self, node: &str, arguments: &[&str]) -> Result<Key, Output> {
        self.key(node, arguments, &[])
    }

    fn key(&self, node: &str, arguments: &[&str], more: &[&str]) -> Result<Key, Output> {
        let file = tempfile::Builder::new().tempdir_in(self.dir.path()).unwrap();
        let path = file.path().join("key");
        let mut command = self.at(node, arguments);
        let output = command.args(more).args(["--json", "--out"]).arg(&path).output().unwrap();
        if !output.status.success() {
            assert!(!path.exists() || std::fs::read(&path).unwrap().is_empty(), "a failure leaves no key");
            return Err(output);
        }
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let id = report["id"].as_str().unwrap().to_owned();
        Ok(Key { id, report, bytes: std::fs::read(path).unwrap() })
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = self.dske(&["testnet", "down"]).output();
    }
}

/// Whether a killed process has let go of everything: its files and locks go with its last thread.
pub(crate) fn is_gone(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state stands after the name in brackets: Z and X are those of a thread that is gone.
    let state = stat.rsplit(") ").next().unwrap_or_default();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    threads <= 1 && (state.is_empty() || state.starts_with(['Z', 'X']))
}

/// A number that the environment may set.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// What a failed command said.
pub(crate) fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until something is so; fails after a generous while.
#[track_caller]
pub(crate) fn eventually(what: &str, holds: impl FnMut() -> bool) {
    eventually_within(GENEROUS, what, holds);
}

/// Waits until something is so that takes its time.
#[track_caller]
pub(crate) fn eventually_within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
