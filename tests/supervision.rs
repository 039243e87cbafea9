//! What a node tells the service manager that started it, and what the unit lets it do.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::{
    net::{TcpListener, UdpSocket},
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::http;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

/// A service manager: the socket on which nodes speak to it.
struct Manager {
    dir: tempfile::TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { dir, socket }
    }

    fn dske(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dske"));
        command.args(arguments).arg("--dir").arg(self.dir.path().join("alice"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.env_remove("DSKE_DIR").env_remove("DSKE_CONFIG");
        command
    }

    fn start(&self) -> Child {
        self.start_on("/ip4/127.0.0.1/tcp/0")
    }

    fn start_on(&self, address: &str) -> Child {
        let made = self.dske(&["init", "--role", "client", "--name", "alice", "--listen", address]);
        assert!({ made }.status().unwrap().success());
        let mut run = self.dske(&["run"]);
        run.env("NOTIFY_SOCKET", self.dir.path().join("notify")).env("WATCHDOG_USEC", "1000000");
        run.spawn().unwrap()
    }

    /// Waits for a word; gives all that were said on the way.
    #[track_caller]
    fn until(&self, word: &str) -> Vec<String> {
        let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let length =
                self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{word}: {error}: {said:?}"));
            said.extend(String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned));
            if said.iter().any(|line| line == word) {
                return said;
            }
        }
    }
}

#[test]
fn a_node_says_that_it_is_up_how_it_is_that_it_lives_and_that_it_stops() {
    let manager = Manager::new();
    let mut node = manager.start();
    let pid = Pid::from_child(&node);
    assert_eq!(manager.until("READY=1"), ["READY=1"], "nothing before");
    let said = manager.until("WATCHDOG=1");
    let said = [said, manager.until("WATCHDOG=1")].concat();
    let status = said.iter().find(|line| line.starts_with("STATUS=")).expect("a status");
    assert!(status.contains("0 of 0 hubs usable, 3 are needed"), "{status}");
    // One that hangs feeds no watchdog.
    kill_process(pid, Signal::STOP).unwrap();
    let stopped = || {
        std::fs::read_to_string(format!("/proc/{}/stat", node.id())).is_ok_and(|stat| stat.contains(") T"))
    };
    common::eventually("it is stopped", stopped);
    manager.socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    while manager.socket.recv(&mut [0; 4096]).is_ok() {}
    manager.socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    assert!(manager.socket.recv(&mut [0; 4096]).is_err(), "a stopped process says nothing");
    manager.socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    kill_process(pid, Signal::CONT).unwrap();
    manager.until("WATCHDOG=1");
    kill_process(pid, Signal::TERM).unwrap();
    manager.until("STOPPING=1");
    let began = Instant::now();
    while node.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(30), "it does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_node_whose_disk_fails_is_dead_to_watchdog_and_health_and_says_why() {
    let manager = Manager::new();
    let init = ["init", "--role", "client", "--name", "alice", "--listen", "/ip4/127.0.0.1/tcp/0"];
    assert!(manager.dske(&init).status().unwrap().success());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // A limit on the size of files makes writes fail; that a signal tells of it as well is ignored, and so by what is
    // started from here.
    let program = env!("CARGO_BIN_EXE_dske");
    let script = format!("trap '' XFSZ; exec {program} run --metrics 127.0.0.1:{port} --dir \"$NODE\"");
    let mut run = Command::new("bash");
    run.args(["-c", &script]).env("NODE", manager.dir.path().join("alice"));
    run.env("NOTIFY_SOCKET", manager.dir.path().join("notify")).env("WATCHDOG_USEC", "1000000");
    run.env_remove("DSKE_DIR").env_remove("DSKE_CONFIG").stdin(Stdio::null());
    let mut node = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    manager.until("WATCHDOG=1");
    assert_eq!(http::get(port, "/healthz"), (200, "alive\n".into()));

    let nothing = Rlimit { current: Some(0), maximum: Some(0) };
    prlimit(Some(Pid::from_child(&node)), Resource::Fsize, nothing).unwrap();
    common::eventually("the store has stopped", || http::get(port, "/healthz").0 == 503);
    let (_, reasons) = http::get(port, "/healthz");
    assert!(reasons.starts_with("not alive\nthe store has stopped: "), "{reasons}");
    assert_eq!(http::get(port, "/readyz").0, 503);
    let (status, metrics) = http::get(port, "/metrics");
    assert_eq!(status, 200, "what it has to tell is told");
    assert!(metrics.contains("\ndske_store_up 0\n") && metrics.contains("\ndske_ready 0\n"), "{metrics}");
    // What was said before is out of the way; from now on the watchdog hears nothing.
    manager.socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut buffer = [0; 4096];
    let mut said = Vec::new();
    while let Ok(length) = manager.socket.recv(&mut buffer) {
        said.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        assert!(said.len() < 1000, "{said:?}");
    }
    let told = said.iter().any(|words| words.starts_with("STATUS=the store has stopped"));
    assert!(told && said.last().is_some_and(|words| !words.contains("WATCHDOG")), "{said:?}");
    node.kill().unwrap();
    node.wait().unwrap();
}

#[test]
fn logs_are_json_or_lines_with_priorities_where_that_is_wanted() {
    let manager = Manager::new();
    let init = ["init", "--role", "client", "--name", "alice", "--listen", "/ip4/127.0.0.1/tcp/0"];
    assert!(manager.dske(&init).status().unwrap().success());
    let log = |form: &str| {
        let mut run = manager.dske(&["run", "--quiet", "--log-format", form]);
        run.env("RUST_LOG", "info").env("NOTIFY_SOCKET", manager.dir.path().join("notify"));
        let node = run.stderr(Stdio::piped()).spawn().unwrap();
        manager.until("READY=1");
        kill_process(Pid::from_child(&node), Signal::TERM).unwrap();
        String::from_utf8(node.wait_with_output().unwrap().stderr).unwrap()
    };
    let json = log("json");
    let lines: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let up = lines.iter().find(|line| line["message"] == "up").expect("it says that it is up");
    assert!(up["level"] == "INFO" && up["node"].is_string() && up["timestamp"].is_string(), "{up}");
    let journal = log("journald");
    assert!(journal.lines().any(|line| line.starts_with("<6>up node=")), "{journal}");
    assert!(journal.lines().all(|line| line.starts_with('<')), "{journal}");
}

#[test]
fn systemd_rates_the_unit_as_well_confined() {
    let mut analyze = Command::new("systemd-analyze");
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd/dske@.service");
    // Fails where the exposure is above the threshold, in tenths.
    analyze.args(["security", "--offline=true", "--threshold=24", "--no-pager"]).arg(unit);
    let Ok(output) = analyze.output() else {
        eprintln!("skipped: systemd-analyze is not installed");
        return;
    };
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if said.contains("unrecognized option") {
        eprintln!("skipped: systemd-analyze is older than version 250");
        return;
    }
    assert!(output.status.success() && said.contains("Overall exposure level"), "{said}");
}

#[test]
fn a_node_that_listens_everywhere_says_where_that_is() {
    let manager = Manager::new();
    let mut node = manager.start_on("/ip4/0.0.0.0/tcp/0");
    manager.until("READY=1");
    let output = manager.dske(&["status", "--json"]).stdout(Stdio::piped()).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let listen = status["node"]["listen"].to_string();
    assert!(listen.contains("/ip4/127.0.0.1/tcp/"), "{listen}");
    // The address that this machine would call others from, where it has one. Nothing is sent.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    if socket.connect("192.0.2.200:9").is_ok() {
        let own = socket.local_addr().unwrap().ip();
        assert!(listen.contains(&format!("/ip4/{own}/tcp/")), "{own}: {listen}");
    }
    kill_process(Pid::from_child(&node), Signal::TERM).unwrap();
    assert!(node.wait().unwrap().success());
}
