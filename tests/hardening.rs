//! The system keeps a node's memory to itself: no core, nothing for other processes to read, and locked memory where
//! any amount may be locked; where it may not, the node runs all the same and says so.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, chown},
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use common::eventually;
use rustix::process::{Resource, Rlimit};
use serde_json::Value;

/// Whoever is not root; in the containers of build machines too.
const NOBODY: u32 = 65_534;

/// More than all that a node maps at its start, and a limit all the same.
const KIB_BEYOND_THE_START: u64 = 8 << 20;

/// A node in a directory of its own, started by a shell with other limits.
#[derive(Debug)]
struct Node {
    dir: tempfile::TempDir,
    program: PathBuf,
    user: Option<u32>,
    child: Option<Child>,
}

impl Node {
    /// Starts one. `user`: as whom; only root can choose.
    fn start(limits: &str, user: Option<u32>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Where the program was built, others may not be able to read it.
        let program = dir.path().join("dske");
        // By another process: a child that another thread starts at this moment would hold a file that is open here
        // for writing, and while it does the program is "busy" and cannot be started.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_dske")).arg(&program).status().unwrap();
        assert!(copied.success());
        if let Some(user) = user {
            chown(dir.path(), Some(user), Some(user)).unwrap();
        }
        let mut node = Self { dir, program, user, child: None };
        let init = ["init", "--role", "client", "--name", "alice", "--listen", "/ip4/127.0.0.1/tcp/0"];
        let made = node.command(&node.program).args(init).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let log = fs::File::create(node.dir.path().join("log")).unwrap();
        let script = format!("{limits} && exec {} run", node.program.display());
        let child = node.command(Path::new("sh")).args(["-c", &script]).stderr(log).spawn().unwrap();
        node.child = Some(child);
        eventually("the node answers", || node.status().is_some());
        node
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.dir.path()).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("DSKE_DIR", self.dir.path().join("alice")).stdin(Stdio::null()).stdout(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    fn status(&self) -> Option<Value> {
        let mut command = self.command(&self.program);
        let output = command.args(["status", "--json"]).stdout(Stdio::piped()).output().unwrap();
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    fn memory_locked(&self) -> bool {
        self.status().unwrap()["node"]["memory_locked"].as_bool().unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// What the system tells about the process.
    fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.child.as_ref().unwrap().id()))
    }

    /// KiB of locked memory.
    fn locked_kib(&self) -> u64 {
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Ends it by a signal.
    fn kill(&mut self, signal: &str) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let mut status = None;
        eventually("the signal ends the node", || {
            // Rust's own handler of SIGSEGV, which looks for stacks that overflow, lets the first one pass: it
            // expects the fault to come again.
            let _ = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
            status = child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Somebody who is not root: we, or whom root can be.
fn somebody() -> (Option<u32>, u32) {
    let me = rustix::process::geteuid();
    if me.is_root() { (Some(NOBODY), NOBODY) } else { (None, me.as_raw()) }
}

#[test]
fn a_signal_that_usually_leaves_a_core_leaves_none() {
    for signal in ["-ABRT", "-SEGV"] {
        // As many as may be, so that it is the program that wants none.
        let mut node = Node::start("ulimit -S -c $(ulimit -H -c)", None);
        let limits = fs::read_to_string(node.proc("limits")).unwrap();
        let cores = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        let words: Vec<&str> = cores.split_whitespace().collect();
        assert_eq!(words[4..6], ["0", "0"], "{cores}");
        let status = node.kill(signal);
        assert!(status.signal().is_some() && !status.core_dumped(), "{status}");
        let left = fs::read_dir(node.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<String> = left.map(|name| name.to_string_lossy().into_owned()).collect();
        assert!(!left.iter().any(|name| name.starts_with("core")), "{left:?}");
    }
}

#[test]
fn the_memory_of_a_node_belongs_to_root_alone() {
    let (user, uid) = somebody();
    let node = Node::start("true", user);
    // Of a process that is not dumpable the system takes these away from its user.
    for file in ["mem", "maps", "environ", "auxv"] {
        assert_eq!(fs::metadata(node.proc(file)).unwrap().uid(), 0, "{file} of {uid}");
    }
    // It is this that does it: another process of the same user keeps them.
    let mut other = node.command(Path::new("sleep")).arg("60").spawn().unwrap();
    let of_other = format!("/proc/{}/mem", other.id());
    eventually("the other process is there", || {
        fs::read_to_string(format!("/proc/{}/comm", other.id())).is_ok_and(|name| name == "sleep\n")
    });
    assert_eq!(fs::metadata(of_other).unwrap().uid(), uid);
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn memory_is_locked_where_any_amount_may_be() {
    let node = Node::start("ulimit -S -l $(ulimit -H -l)", None);
    let locked = node.locked_kib();
    assert_eq!(node.memory_locked(), locked > 0, "the status says how it is: {locked} KiB");
    assert!(!is_root() || locked > 0 || node.log().contains("memory is not locked"), "{}", node.log());
    assert_eq!(node.log().contains("memory is locked"), node.memory_locked(), "{}", node.log());
}

#[test]
fn where_little_may_be_locked_a_node_runs_all_the_same_and_says_so() {
    let (user, _) = somebody();
    let most = rustix::process::getrlimit(Resource::Memlock).maximum.unwrap_or(u64::MAX);
    let more = Rlimit { current: Some(most), maximum: Some(KIB_BEYOND_THE_START << 10) };
    let can_raise = most < u64::MAX && rustix::process::setrlimit(Resource::Memlock, more).is_ok();
    // Less than a node needs; and, where we may allow it, more than it has at the start.
    for limit in [64, 8192, KIB_BEYOND_THE_START] {
        if limit << 10 > most && !can_raise {
            println!("{limit} KiB cannot be tried: nobody here may allow more than {} KiB", most >> 10);
            continue;
        }
        let node = Node::start(&format!("ulimit -l {limit}"), user);
        assert!(!node.memory_locked(), "{limit} KiB");
        assert_eq!(node.locked_kib(), 0, "nothing is locked in part: {limit} KiB");
        let log = node.log();
        assert_eq!(log.matches("memory is not locked").count(), 1, "{log}");
        assert!(log.contains("LimitMEMLOCK=infinity"), "{log}");
        // Without an order it serves on, and ends well.
        for _ in 0..20 {
            assert!(node.status().is_some());
        }
    }
}
