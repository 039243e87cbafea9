//! `dske doctor` on real nodes: well, ill, and not running.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt};

use common::{Net, eventually};
use serde_json::Value;

/// The exit status and the report.
fn doctor(net: &Net, node: &str) -> (i32, Value) {
    let output = net.at(node, &["doctor", "--json"]).output().unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap();
    (output.status.code().unwrap(), report)
}

/// The level and the words of every finding of a check.
fn found(report: &Value, check: &str) -> Vec<(String, String)> {
    let checks = report["checks"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    checks.filter(|one| one["check"] == check).map(|one| (text(&one["level"]), text(&one["found"]))).collect()
}

#[track_caller]
fn is(report: &Value, check: &str, level: &str, words: &str) {
    let found = found(report, check);
    let there = found.iter().any(|(is, says)| is == level && says.contains(words));
    assert!(there, "{check} {level} {words:?}: {report:#}");
}

#[test]
fn a_running_client_is_well_until_its_hubs_are_gone() {
    let net = Net::up_with_metrics(2, 1, 2, "1MiB");
    eventually("its hubs are usable", || net.status("alice")["policy"]["usable"] == 2);
    let (_, report) = doctor(&net, "alice");
    is(&report, "node", "ok", "runs as process");
    is(&report, "configuration", "ok", "valid");
    is(&report, "permissions", "ok", "nobody but the owner");
    is(&report, "listening", "ok", "/ip4/127.0.0.1/tcp/");
    is(&report, "metrics", "ok", "answers");
    is(&report, "hubs", "ok", "2 of 2 usable");
    is(&report, "core dumps", "ok", "forbidden");
    is(&report, "pads", "ok", "2 tables are active");
    let clock = found(&report, "clock");
    assert!(clock.len() == 1 && clock[0].1.contains("synchronised"), "{clock:?}");
    for check in report["checks"].as_array().unwrap() {
        assert_eq!(
            check["level"] == "ok",
            check["remedy"].is_null(),
            "what is not well has a remedy: {check}"
        );
    }
    net.testnet(&["kill", "p1"]);
    eventually("the loss is noticed", || net.status("alice")["policy"]["usable"] == 1);
    let (status, report) = doctor(&net, "alice");
    assert_eq!((status, &report["verdict"]), (1, &Value::from("fail")));
    is(&report, "hubs", "fail", "1 of 2 usable, 2 are needed");
    is(&report, "hub", "warn", "p1 is not connected");
}

#[test]
fn a_node_that_does_not_run_is_looked_at_as_well() {
    let net = Net::up_with_metrics(1, 1, 1, "1MiB");
    let dir = net.node_dir("alice");
    let port: u16 = net.status("alice")["node"]["listen"][0]
        .as_str()
        .unwrap()
        .rsplit('/')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    net.stop("alice");
    let (_, report) = doctor(&net, "alice");
    is(&report, "node", "warn", "does not run");
    is(&report, "store", "ok", "opens");
    is(&report, "listening", "ok", "is free");
    is(&report, "hub", "ok", "p1 takes connections");
    is(&report, "pads", "ok", "one table is active");

    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let key = dir.join("identity.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    net.stop("p1");
    let (status, report) = doctor(&net, "alice");
    assert_eq!(status, 1);
    is(&report, "listening", "fail", "used by another program");
    is(&report, "permissions", "fail", "identity.key");
    is(&report, "hub", "warn", "p1 takes no connection");
    drop(taken);

    fs::write(dir.join("config.toml"), "[node]\nname = \"alice\"\nroles = [\"client\"]\n[policy]\nq = 3\n")
        .unwrap();
    let (status, report) = doctor(&net, "alice");
    assert_eq!(status, 1);
    is(&report, "configuration", "fail", "q");
    let text = net.at("alice", &["doctor"]).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.contains("✗ fail configuration") && text.contains("→ ") && text.contains("1 failed"),
        "{text}"
    );
}

#[test]
fn where_there_is_no_node_it_says_how_to_make_one() {
    let net = Net::empty();
    let output = net.dske(&["doctor", "--dir", "nowhere"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("dske init"), "{text}");
}

/// Whether a start is refused, and doctor says that it would be.
fn refused_by_both(net: &Net, node: &str, check: &str, words: &str) {
    let run = net.at(node, &["run"]).output().unwrap();
    assert!(!run.status.success(), "{check}: it ran");
    let (status, report) = doctor(net, node);
    assert_eq!(status, 1, "{check}: {report:#}");
    is(&report, check, "fail", words);
}

#[test]
fn what_a_start_refuses_doctor_refuses() {
    let net = Net::up_with_metrics(1, 1, 1, "1MiB");
    let key = net.node_dir("alice").join("identity.key");
    let right = fs::read(&key).unwrap();
    let wrong: Vec<u8> = right.iter().map(|byte| byte ^ 1).collect();

    // While it runs it has the right one in memory.
    fs::write(&key, &wrong).unwrap();
    let (status, report) = doctor(&net, "alice");
    assert_eq!(status, 1, "{report:#}");
    is(&report, "identity", "fail", "identity.key");
    fs::write(&key, &right).unwrap();
    is(&doctor(&net, "alice").1, "identity", "ok", "the node's own");

    net.stop("alice");
    fs::write(&key, &wrong).unwrap();
    refused_by_both(&net, "alice", "identity", "identity.key");
    fs::write(&key, &right[..31]).unwrap();
    refused_by_both(&net, "alice", "identity", "identity.key");
    fs::remove_file(&key).unwrap();
    refused_by_both(&net, "alice", "identity", "identity.key");
    fs::write(&key, &right).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    is(&doctor(&net, "alice").1, "identity", "ok", "the node's own");

    let above = net.node_dir("alice").parent().unwrap().to_owned();
    let mode = fs::metadata(&above).unwrap().permissions();
    fs::set_permissions(&above, fs::Permissions::from_mode(0o777)).unwrap();
    refused_by_both(&net, "alice", "access", "can be written by others");
    fs::set_permissions(&above, mode).unwrap();
    is(&doctor(&net, "alice").1, "access", "ok", "a node would start on it");
}
