//! What real nodes tell monitoring over HTTP, and what they bear from those who ask.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    time::Duration,
};

use common::{Net, eventually, http};

/// The figure of a series, as it is written.
fn figure(text: &str, series: &str) -> Option<f64> {
    let line =
        text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn a_client_and_a_hub_tell_what_happened() {
    let net = Net::up_with_metrics(3, 2, 2, "2MiB");
    let (alice, p1) = (net.metrics_port("alice"), net.metrics_port("p1"));
    let key = net.get("alice", "bob", "256");
    net.fetch("bob", &key.id);
    let at = |port, series: &str| figure(&http::get(port, "/metrics").1, series);
    eventually("the key is counted", || {
        at(alice, "dske_sessions_validated_total{side=\"sender\"}") == Some(1.0)
            && at(p1, "dske_shares_forwarded_total") == Some(1.0)
    });
    let text = http::get(alice, "/metrics").1;
    let told = |series: &str| figure(&text, series).unwrap_or_else(|| panic!("{series} is not in {text}"));
    assert_eq!(told("dske_sessions_started_total{side=\"sender\"}"), 1.0);
    assert_eq!(told("dske_session_duration_seconds_count{side=\"sender\"}"), 1.0);
    assert!(told("dske_session_duration_seconds_sum{side=\"sender\"}") > 0.0);
    assert_eq!(told("dske_sessions_aborted_total{reason=\"pad-low\",side=\"sender\"}"), 0.0);
    assert_eq!(told("dske_hubs_usable"), 3.0);
    assert_eq!(told("dske_margin_hubs"), 1.0);
    assert_eq!(told("dske_ready"), 1.0);
    assert_eq!(told("dske_pad_empty_seconds{lane=\"down\",peer=\"p2\",side=\"client\"}"), f64::INFINITY);
    assert!(told("dske_store_syncs_total") > 0.0 && told("process_resident_memory_bytes") > 1e6);
    // What is burnt for the key: m + 2l + 64 bits, and what the status says.
    let status = net.status("alice");
    let table = status["tables"][0]["serial"].as_str().unwrap();
    let peer = status["tables"][0]["peer_name"].as_str().unwrap();
    let lane = |kind| {
        format!(
            "dske_table_burnt_bytes_total{{kind=\"{kind}\",lane=\"up\",peer=\"{peer}\",side=\"client\",table=\"{table}\"}}"
        )
    };
    assert_eq!(told(&lane("key")), status["tables"][0]["lanes"][0]["used_key"].as_f64().unwrap());
    assert_eq!(told(&lane("key")), 104.0);
    assert!(told(&lane("identity")) > 0.0);
    assert_eq!(http::get(alice, "/readyz"), (200, "ready\n".into()));
    assert_eq!(http::get(p1, "/readyz"), (200, "ready\n".into()));
}

#[test]
fn a_client_without_hubs_is_alive_and_not_ready_and_says_why() {
    let net = Net::up_with_metrics(2, 1, 2, "1MiB");
    let alice = net.metrics_port("alice");
    eventually("it is ready", || http::get(alice, "/readyz").0 == 200);
    net.testnet(&["kill", "p1"]);
    eventually("it is not ready", || http::get(alice, "/readyz").0 == 503);
    let (_, reasons) = http::get(alice, "/readyz");
    assert_eq!(reasons, "not ready\n1 of 2 hubs usable, 2 are needed for a key\n");
    assert_eq!(http::get(alice, "/healthz"), (200, "alive\n".into()));
    let check = net.at("alice", &["status", "--check"]).output().unwrap();
    let said = String::from_utf8(check.stdout).unwrap();
    assert_eq!(check.status.code(), Some(2), "{said}");
    assert!(
        said.starts_with("DSKE CRITICAL - alice; 1 of 2 hubs usable, k 2 (without p1) | usable=1;"),
        "{said}"
    );
    let (status, text) = http::get(alice, "/metrics");
    assert_eq!((status, figure(&text, "dske_ready")), (200, Some(0.0)));
    assert_eq!(figure(&text, "dske_margin_hubs"), Some(-1.0));
}

#[test]
fn strangers_can_neither_change_nor_hold_anything() {
    let net = Net::up_with_metrics(1, 1, 1, "1MiB");
    let port = net.metrics_port("p1");
    let status = |request: &[u8]| {
        let answer = http::raw(port, request);
        answer.split(' ').nth(1).map(str::to_owned)
    };
    assert_eq!(status(b"POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n").as_deref(), Some("405"));
    assert_eq!(status(b"GET /../identity.key HTTP/1.1\r\nHost: x\r\n\r\n").as_deref(), Some("404"));
    assert_eq!(status(b"no request at all\r\n\r\n").as_deref(), Some("400"));
    let many = "X: y\r\n".repeat(200);
    let refused = status(format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes());
    assert_eq!(refused.as_deref(), Some("431"));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20));
    assert!(matches!(status(long.as_bytes()).as_deref(), None | Some("414" | "431")));
    // More than it takes at once, each with half a request: they are sent away, and others are served again.
    let mut slow: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ").unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            stream
        })
        .collect();
    assert_eq!(http::get(port, "/healthz").0, 200);
    for stream in &mut slow {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!String::from_utf8_lossy(&answer).contains(" 200 "), "half a request has no answer");
    }
}

#[test]
fn promtool_takes_the_metrics() {
    if Command::new("promtool").arg("--version").output().is_err() {
        eprintln!("skipped: promtool is not installed (apt-get install prometheus)");
        return;
    }
    let net = Net::up_with_metrics(2, 2, 2, "1MiB");
    net.acquaint("alice", "bob");
    for node in ["alice", "p1"] {
        let (status, text) = http::get(net.metrics_port(node), "/metrics");
        assert_eq!(status, 200);
        let mut check = Command::new("promtool");
        check.args(["check", "metrics"]).stdin(std::process::Stdio::piped());
        let mut check =
            check.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = check.wait_with_output().unwrap();
        let said =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.trim().is_empty(), "{node}: {said}");
    }
}
