//! The README's commands, taken from the README itself, do what it says.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// The commands of the first shell block under a heading, without comments.
fn commands(heading: &str) -> Vec<String> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let section = readme.split(&format!("## {heading}\n")).nth(1).expect("the heading exists");
    let block = section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let lines =
        block.lines().map(|line| line.split("  #").next().unwrap().split(" #").next().unwrap().trim());
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Runs a line of the README in a shell in which `dske` is the built program.
fn shell(line: &str, dir: &Path) -> Output {
    let script = format!("dske() {{ \"$DSKE_PROGRAM\" \"$@\"; }}\n{line}\n");
    let mut command = Command::new("bash");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DSKE_")) {
        command.env_remove(name);
    }
    command
        .args(["-e", "-c", &script])
        .env("DSKE_PROGRAM", env!("CARGO_BIN_EXE_dske"))
        .env("DSKE_PASSPHRASE", "correct horse battery staple")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .current_dir(dir);
    command.output().unwrap()
}

#[track_caller]
fn good(line: &str, dir: &Path) -> String {
    let output = shell(line, dir);
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {said}");
    said
}

/// The first key id in what a command said.
fn key_id(said: &str) -> Option<String> {
    let words = said.split(|c: char| !c.is_ascii_hexdigit());
    words.filter(|word| word.len() == 32).map(str::to_owned).next()
}

#[test]
fn the_local_network_works_as_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut id = None;
    let lines = commands("Go on: a network of local processes");
    assert!(lines.len() >= 7, "{lines:?}");
    for line in lines.iter().filter(|line| line.starts_with("dske ")) {
        let line = match &id {
            Some(id) => line.replace(" ID ", &format!(" {id} --wait 10s ")),
            None => line.clone(),
        };
        let said = good(&line, dir.path());
        if line.contains("key get") {
            id = Some(key_id(&said).expect("the id is told"));
        }
    }
    let key = |name: &str| fs::read(dir.path().join(name)).unwrap();
    assert_eq!(key("alice.key"), key("bob.key"));
    assert_eq!(key("alice.key").len(), 32);
}

/// A node of the README's real network, on loopback; ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(line: &str, dir: &Path) -> Running {
    let arguments: Vec<_> = line.split_whitespace().skip(1).collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dske"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Running(command.current_dir(dir).spawn().unwrap())
}

#[test]
fn the_real_network_works_as_written() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let lines = commands("A real network, in ten lines");
    let line = |word: &str| lines.iter().find(|line| line.contains(word)).expect("the line exists").clone();
    let at = |line: &str, node: &str| line.replacen("dske ", &format!("dske --dir {node} "), 1);
    let (hubs, clients) = (["p1", "p2", "p3"], ["alice", "bob"]);
    for hub in hubs {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let init = line("--role hub")
            .replace("p1", hub)
            .replace("192.0.2.1/tcp/7001", &format!("127.0.0.1/tcp/{port}"));
        good(&at(&init, hub), dir);
    }
    for client in clients {
        let init = line("--role client").replace("alice", client) + " --listen /ip4/127.0.0.1/tcp/0";
        good(&at(&init, client), dir);
        good(&at(&line("enrol request").replace("alice", client), client), dir);
        for hub in hubs {
            let own = |line: String| line.replace("alice", client).replace("p1", hub);
            good(&at(&own(line("enrol accept")), hub), dir);
            // Smaller than in the README, which nobody has to wait for in a test.
            good(&at(&own(line("pskm make")).replace("64MiB", "1MiB"), hub), dir);
            let imported = good(&at(&own(line("pskm import")), client), dir);
            let receipt = imported.split('"').nth(1).expect("a receipt in quotes").to_owned();
            let serial = imported.split_whitespace().nth(1).unwrap().trim_end_matches(';').to_owned();
            let acknowledge =
                line("pskm ack").replace("p1-0001", &serial).replace("olive tango 4417", &receipt);
            good(&at(&acknowledge, hub), dir);
            assert!(!dir.join(format!("{hub}-{client}.pskm")).exists(), "wiped");
        }
    }
    let run = line("dske run");
    let _nodes: Vec<_> = hubs.iter().chain(&clients).map(|node| start(&at(&run, node), dir)).collect();
    let began = Instant::now();
    let said = loop {
        let output = shell(&at(&line("key get"), "alice"), dir);
        if output.status.success() {
            break String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{}", String::from_utf8_lossy(&output.stderr));
        std::thread::sleep(Duration::from_millis(200));
    };
    let id = key_id(&said).expect("the id is told");
    let at_bob = line("key ls");
    for command in at_bob.split("; ") {
        let command = command.replace(" ID ", &format!(" {id} --wait 10s ")).replace("psk.key", "bob.key");
        good(&at(&command, "bob"), dir);
    }
    assert_eq!(fs::read(dir.join("psk.key")).unwrap(), fs::read(dir.join("bob.key")).unwrap());
}

#[test]
fn the_demo_goes_as_it_must_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let demo = commands("Try it").into_iter().find(|line| line.contains("demo")).unwrap();
    let arguments = demo.split(" -- ").nth(1).expect("arguments for the program");
    let output = shell(&format!("export TMPDIR=$PWD; dske {arguments}"), dir.path());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for step in ["8 Mbit bob → alice", "false share from p4", "aborted, as it must", "leaves nothing behind"]
    {
        let told = said.contains(step) || step == "leaves nothing behind";
        assert!(told, "{step}: {said}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
