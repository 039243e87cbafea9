//! What is left by commands that were interrupted: of a module nothing, at once or from the next one on; of a key that nobody
//! was there to take, all of it.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::{
    fs,
    process::{Child, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{Net, error};
use rustix::process::{Pid, Signal, kill_process};

/// Entries of a directory below the test's, hidden ones too.
fn entries(net: &Net, dir: &str) -> Vec<String> {
    let entries = fs::read_dir(net.dir().join(dir)).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn make(net: &Net, size: &str) -> std::process::Command {
    let mut make = net.dske(&["pskm", "make", "--dir", "hub", "--for", "alice", "--key-file", "key"]);
    make.args(["--size", size, "-o", "out/alice.pskm"]);
    make
}

/// Begins to make a large module, and gives it back when its pads are being written.
fn begun(net: &Net) -> Child {
    let mut child = make(net, "512MiB").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while entries(net, "hub/store/imports").is_empty() {
        assert!(child.try_wait().unwrap().is_none() && began.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(1));
    }
    child
}

fn run(net: &Net, arguments: &[&str]) -> Output {
    let output = net.dske(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", error(&output));
    output
}

#[test]
fn an_interrupted_make_leaves_nothing() {
    let net = Net::empty();
    run(&net, &["init", "--dir", "hub", "--role", "hub", "--name", "p1"]);
    run(&net, &["init", "--dir", "alice", "--role", "client", "--name", "alice"]);
    run(&net, &["enrol", "request", "--dir", "alice", "-o", "alice.enrol"]);
    run(&net, &["enrol", "accept", "--dir", "hub", "alice.enrol"]);
    fs::create_dir(net.dir().join("out")).unwrap();

    let child = begun(&net);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let interrupted = child.wait_with_output().unwrap();
    assert_eq!(interrupted.status.code(), Some(130), "{}", error(&interrupted));
    assert!(error(&interrupted).contains("is removed"), "{}", error(&interrupted));
    assert_eq!(entries(&net, "out"), [""; 0]);
    assert_eq!(entries(&net, "hub/store/imports"), [""; 0]);

    let mut child = begun(&net);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(entries(&net, "out"), [""; 0]);
    assert!(make(&net, "1MiB").output().unwrap().status.success());
    assert_eq!(entries(&net, "out"), ["alice.pskm"]);
    assert_eq!(entries(&net, "hub/store/imports"), [""; 0]);
}

#[test]
fn a_key_is_not_given_to_a_command_that_has_gone_away() {
    let net = Net::up(3, 2, 2, "256KiB");
    net.acquaint("alice", "bob");
    for _ in 0..3 {
        let sent = net.get("alice", "bob", "256");
        net.signal("bob", Signal::STOP).unwrap();
        let mut fetch = net.at("bob", &["--timeout", "1s", "key", "fetch", &sent.id, "--reveal"]);
        assert_ne!(fetch.output().unwrap().status.code(), Some(0), "nobody answers");
        net.signal("bob", Signal::CONT).unwrap();
        assert_eq!(net.fetch("bob", &sent.id).bytes, sent.bytes, "it waited");
    }
}
