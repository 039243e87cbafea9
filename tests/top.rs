//! The dashboard on a running local net, in a real terminal and without one.

mod common;
#[path = "top/terminal.rs"]
mod terminal;

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use common::{Net, error, eventually};
use dske_storage::{Options, Store, Transaction};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use terminal::Terminal;

fn top(net: &Net, arguments: &[&str], columns: u16, lines: u16) -> Terminal {
    let mut command = net.dske(&["top"]);
    command.args(arguments).env("XDG_CONFIG_HOME", net.dir());
    Terminal::start(&command, columns, lines)
}

fn has_line(screen: &str, words: &[&str]) -> bool {
    screen.lines().any(|line| words.iter().all(|word| line.contains(word)))
}

#[test]
fn keys_mouse_and_size_work_and_the_terminal_is_given_back() {
    let net = Net::up(4, 2, 3, "1MiB");
    let mut top = top(&net, &["--testnet", "dev"], 120, 40);
    top.wait_for("all nodes are there", |screen| screen.contains("6 nodes") && screen.contains("hubs 4/4"));
    net.acquaint("alice", "bob");
    top.type_in("2");
    top.wait_for("the agreement", |screen| has_line(screen, &["alice→bob", "dist■■■■", "validated"]));
    top.shows("Steps at bob (receiver)");
    top.type_in("3/p2\r");
    top.wait_for("one hub alone", |screen| screen.contains("─ /p2") && !has_line(screen, &["│p1 "]));
    top.type_in("\u{1b}");
    top.wait_for("all of them", |screen| !screen.contains("─ /p2") && has_line(screen, &["│p1 "]));
    top.click("6 Events");
    top.shows("[6 Events]");
    top.click("4 Identity");
    top.wait_for("identities", |screen| has_line(screen, &["alice", "bob", "established"]));
    top.resize(80, 24);
    top.wait_for("a smaller screen", |screen| {
        screen.lines().count() == 24 && screen.lines().nth(3).is_some_and(|line| line.ends_with('┐'))
    });
    top.resize(40, 12);
    top.wait_for("a small screen", |screen| screen.lines().count() == 12 && screen.contains("[4 Identity]"));
    top.resize(1, 1);
    top.resize(120, 40);
    top.type_in("p");
    top.shows("PAUSED");
    top.type_in("p:export\r");
    let written = top.shows("written to dske-top-");
    let name = written.split("written to ").nth(1).unwrap().split_whitespace().next().unwrap();
    let text = std::fs::read_to_string(net.dir().join(name)).unwrap();
    assert!(text.contains("dske dev") && text.contains("[4 Identity]"), "{text}");
    top.type_in("q");
    assert!(top.wait().success());
    top.is_given_back();
}

#[test]
fn nodes_are_stopped_started_and_made_to_lie_from_the_screen() {
    let net = Net::up(5, 2, 3, "1MiB");
    net.acquaint("alice", "bob");
    let mut top = top(&net, &["--testnet", "dev"], 140, 45);
    top.shows("hubs 5/5");
    top.type_in("3:lie p4\r");
    top.shows("Make p4 lie?");
    top.type_in("n");
    top.wait_for("the question is gone", |screen| !screen.contains("Make p4 lie?"));
    assert!(net.status("p4")["node"]["fault"].is_null(), "nothing was done");
    top.type_in(":lie p4\ry");
    top.wait_for("it lies", |screen| has_line(screen, &["p4", "up, LIES"]));
    top.type_in(":key bob 512 as alice\ry");
    top.shows("erased here");
    top.wait_for("it was caught", |screen| screen.contains("margin 1 of 2 ! (p4 lied)"));
    top.wait_for("and counted", |screen| has_line(screen, &["│p4 ", "1     -"]));
    top.type_in(":behave p4\ry");
    top.wait_for("it behaves", |screen| !screen.contains("LIES"));
    top.type_in(":stop p2\ry");
    top.wait_for("it is down", |screen| has_line(screen, &["│p2 ", "DOWN"]) && screen.contains("hubs 4/5"));
    assert!(net.pid("p2").is_none());
    top.type_in(":restart p2\ry");
    top.shows("p2 runs again");
    top.wait_for("it is up", |screen| has_line(screen, &["│p2 ", "up"]) && screen.contains("hubs 5/5"));
    top.type_in("5:retire p1-0001\r");
    top.shows("Retire p1-0001 at alice?");
    top.type_in("y");
    top.wait_for("it is retired", |screen| has_line(screen, &["p1-0001", "retired"]));
    top.type_in(":readmit p9\r");
    top.shows("say where");
    top.type_in("6");
    top.wait_for("what was done is told", |screen| has_line(screen, &["(you)", "p2 runs again"]));
    top.type_in("\u{3}");
    assert!(top.wait().success());
    top.is_given_back();
}

#[test]
fn the_terminal_is_given_back_after_a_signal_and_a_panic() {
    let net = Net::up(3, 2, 3, "64KiB");
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut top = top(&net, &["--testnet", "dev", "--as", "alice"], 80, 24);
        top.shows("alice@dev");
        assert!(top.bytes().windows(8).any(|bytes| bytes == b"\x1b[?1049h"), "it has the other screen");
        top.signal(signal);
        assert!(top.wait().success());
        top.is_given_back();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "panics_on_its_screen", "--nocapture", "--test-threads", "1"]);
    let mut panicking = Terminal::start(&command, 80, 24);
    assert!(!panicking.wait().success());
    panicking.is_given_back();
    assert!(panicking.screen().contains("the ceiling comes down"), "{}", panicking.screen());
    assert!(panicking.bytes().windows(8).any(|bytes| bytes == b"\x1b[?1049h"), "it had the other screen");
}

#[test]
#[ignore = "run in a terminal by the test above"]
fn panics_on_its_screen() {
    let _screen = dske_tui::terminal::Screen::open(true).unwrap();
    let elsewhere = std::thread::spawn(|| panic!("the ceiling comes down"));
    assert!(elsewhere.join().is_err());
    // The screen is not dropped in order: the process goes as it is.
    std::process::exit(101);
}

#[test]
fn a_node_shows_itself_and_its_log_goes_to_a_file() {
    let net = Net::up(3, 2, 3, "64KiB");
    net.stop("alice");
    let command = net.at("alice", &["run", "--tui"]);
    let mut node = Terminal::start(&command, 100, 30);
    node.wait_for("it is up", |screen| screen.contains("dske alice") && screen.contains("hubs 3/3"));
    net.acquaint("bob", "alice");
    node.type_in("2");
    node.wait_for("the agreement", |screen| has_line(screen, &["bob→alice", "validated"]));
    node.type_in("q");
    node.shows("Stop the node?");
    node.type_in("n");
    assert!(net.status("alice")["node"]["pid"] == node.pid());
    node.type_in("qy");
    assert!(node.wait().success());
    node.is_given_back();
    let log = std::fs::read_to_string(net.node_dir("alice").join("node.log")).unwrap();
    assert!(log.contains("stopping") && !log.contains('\u{1b}'), "{log}");
    for signal in [Signal::TERM, Signal::HUP] {
        let mut node = Terminal::start(&command, 100, 30);
        node.shows("dske alice");
        node.signal(signal);
        assert!(node.wait().success());
        node.is_given_back();
    }
}

#[test]
fn settings_are_read_and_mistakes_are_told_before_the_screen() {
    let net = Net::up(3, 1, 3, "64KiB");
    let file = net.dir().join("top.toml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "[tui]\nascii = true\npalette = \"mono\"\n[tui.keys]\nquit = [\"Z\"]\n").unwrap();
    let mut top = top(&net, &["--testnet", "dev", "--settings", path], 80, 24);
    let screen = top.shows("4 nodes");
    assert!(screen.is_ascii(), "{screen}");
    top.type_in("qZ");
    assert!(top.wait().success());
    let colours = String::from_utf8_lossy(&top.bytes()).contains("38;5;");
    assert!(!colours, "a palette without colours");
    std::fs::write(&file, "[tui.keys]\nfly = [\"x\"]\n").unwrap();
    let mut broken = self::top(&net, &["--testnet", "dev", "--settings", path], 80, 24);
    assert_eq!(broken.wait().code(), Some(7));
    assert!(broken.screen().contains("fly"), "{}", broken.screen());
}

#[test]
fn without_a_terminal_it_says_what_to_do_instead() {
    let net = Net::up(3, 2, 3, "64KiB");
    let output = net.dske(&["top", "--testnet", "dev"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(error(&output).contains("--once") && error(&output).contains("--stream"), "{}", error(&output));
    let output = net.dske(&["top", "--once", "--testnet", "dev", "--ascii"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.is_ascii());
    for node in net.nodes() {
        assert!(text.contains(&format!("dske {node} (")), "{node}: {text}");
    }
    let output = net.dske(&["top", "--once", "--testnet", "dev", "--json"]).output().unwrap();
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(all.as_array().unwrap().len(), net.nodes().len());
    assert!(all[0]["schema_version"] == 1);
}

#[test]
fn a_stream_tells_what_happens_line_by_line() {
    let net = Net::up(4, 2, 3, "64KiB");
    let mut stream =
        net.dske(&["top", "--stream", "--json", "--testnet", "dev"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(stream.stdout.take().unwrap()).lines();
    let mut next = move |kind: &str, words: &str| loop {
        let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        if line["kind"] == kind && line["text"].as_str().unwrap().contains(words) {
            return line["node"].as_str().unwrap().to_owned();
        }
    };
    next("node", "up");
    net.acquaint("alice", "bob");
    let told = next("session", "validated");
    assert!(told == "alice" || told == "bob", "{told}");
    let key = net.get("alice", "bob", "512");
    let block = key.id[..8].to_owned();
    next("session", &block);
    net.testnet(&["kill", "p1"]);
    next("node", "down");
    assert!(stream.try_wait().unwrap().is_none());
    kill_process(Pid::from_child(&stream), Signal::TERM).unwrap();
    assert!(stream.wait().unwrap().success());
    // Who reads no more is no error.
    let mut stream =
        net.dske(&["top", "--stream", "--testnet", "dev"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(stream.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains(" node "));
    drop(lines);
    eventually("something is told", || {
        net.get("alice", "bob", "256");
        stream.try_wait().unwrap().is_some_and(|status| status.success())
    });
}

#[test]
fn a_hub_that_contradicts_the_others_is_shown_and_re_admitted() {
    let net = Net::up(5, 2, 3, "256KiB");
    let claims_of_bob = |applications: &[&str]| {
        net.testnet(&["kill", "p5"]);
        let store = Store::open(&net.node_dir("p5").join("store"), Options::default()).unwrap();
        let mut clients = store.clients().unwrap();
        clients.retain_mut(|client| {
            client.applications = applications.iter().map(|name| (*name).to_owned()).collect();
            client.name.as_str() == "bob"
        });
        assert_eq!(clients.len(), 1);
        dske_storage::wait(store.commit(Transaction { clients, ..Transaction::default() })).unwrap().unwrap();
        store.close().unwrap();
        net.testnet(&["restart", "p5"]);
    };
    // p5 claims that bob may speak for what bob never signed.
    claims_of_bob(&["payroll"]);
    net.get("alice", "bob", "256");
    let mut top = top(&net, &["--testnet", "dev", "--as", "alice"], 120, 30);
    top.shows("p5 EXCLUDED");
    top.type_in("4");
    let screen = top.wait_for("the claims", |screen| has_line(screen, &["bob", "alice", "CONFLICT", "p5"]));
    assert!(has_line(&screen, &["! p5", "bob is"]) && screen.contains("for payroll"), "{screen}");
    assert!(has_line(&screen, &["■ p1", "bob is"]), "{screen}");
    top.type_in("j");
    top.wait_for("why", |screen| has_line(screen, &["p5 is not used by alice"]));
    // Its operator has put that right: otherwise it would be excluded again as soon as it is asked.
    claims_of_bob(&[]);
    top.type_in("A");
    top.shows("Re-admit p5 at alice?");
    top.type_in("y");
    top.shows("p5 is used again by alice");
    top.wait_for("it is used again", |screen| !screen.contains("EXCLUDED"));
    top.type_in("q");
    assert!(top.wait().success());
}

#[test]
fn a_client_that_enrols_otherwise_with_one_hub_has_that_hub_shown_and_not_excluded() {
    let net = Net::up(5, 2, 3, "256KiB");
    let config = net.node_dir("bob").join("config.toml");
    let text = std::fs::read_to_string(config).unwrap();
    let other = net.dir().join("other.toml");
    std::fs::write(&other, text.replacen("[node]", "[node]\napplications = [\"payroll\"]", 1)).unwrap();
    let request = net.dir().join("bob.enrol");
    let (other, request) = (other.to_str().unwrap(), request.to_str().unwrap());
    for (node, arguments) in [
        ("bob", ["enrol", "request", "-o", request, "--config", other].as_slice()),
        ("p5", ["enrol", "accept", request].as_slice()),
    ] {
        let output = net.at(node, arguments).output().unwrap();
        assert!(output.status.success(), "{}", error(&output));
    }
    net.get("alice", "bob", "256");
    let mut top = top(&net, &["--testnet", "dev", "--as", "alice"], 120, 30);
    top.shows("hubs 5/5");
    top.type_in("4");
    let screen = top.wait_for("the claims", |screen| has_line(screen, &["bob", "alice", "CONFLICT", "p5"]));
    assert!(has_line(&screen, &["! p5", "bob is"]) && screen.contains("for payroll"), "{screen}");
    assert!(!screen.contains("EXCLUDED"), "{screen}");
    top.type_in("q");
    assert!(top.wait().success());
}

#[test]
fn a_screen_that_does_not_move_keeps_no_node_waiting() {
    let net = Net::up(3, 2, 3, "256KiB");
    net.acquaint("alice", "bob");
    let mut top = top(&net, &["--testnet", "dev"], 120, 40);
    top.shows("hubs 3/3");
    top.signal(Signal::STOP);
    for _ in 0..20 {
        let sent = net.get("alice", "bob", "256");
        net.fetch("bob", &sent.id);
    }
    top.signal(Signal::CONT);
    top.type_in("\u{1b}[200~q:stop p1\ry\u{1b}[201~2");
    let sessions = |screen: &str| {
        let count = screen.split("Sessions ─ 1/").nth(1).and_then(|rest| rest.split(' ').next());
        count.and_then(|count| count.parse::<u32>().ok()).unwrap_or(0)
    };
    top.wait_for("it goes on", |screen| sessions(screen) > 20);
    assert!(net.pid("p1").is_some(), "what is pasted is no key");
    top.type_in("q");
    assert!(top.wait().success());
    top.is_given_back();
}

/// `cargo test --release --test top -- --ignored --nocapture what_it_costs`: ten nodes, hundreds of sessions.
#[test]
#[ignore = "measures"]
fn what_it_costs() {
    let net = Net::up_with_log(7, 3, 3, "4MiB", "warn");
    net.acquaint("alice", "bob");
    for _ in 0..common::setting("DSKE_TOP_KEYS", 300) {
        net.get("alice", "bob", "256");
    }
    let top = top(&net, &["--testnet", "dev"], 120, 40);
    top.shows("10 nodes");
    let ticks = |pid: i64| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let nodes: Vec<i64> =
        net.nodes().iter().map(|node| net.status(node)["node"]["pid"].as_i64().unwrap()).collect();
    for screen in ["1", "2", "3", "6"] {
        top.type_in(screen);
        std::thread::sleep(Duration::from_secs(5));
        let watched = || nodes.iter().map(|pid| ticks(*pid)).sum::<u64>();
        let (before, nodes_before, written) = (ticks(i64::from(top.pid())), watched(), top.bytes().len());
        std::thread::sleep(Duration::from_secs(20));
        let percent = |ticks: u64| ticks as f64 / 20.0;
        println!(
            "idle, screen {screen}: dske top {:.2} %, all nodes {:.2} % of a core, {} bytes/s to the terminal",
            percent(ticks(i64::from(top.pid())) - before),
            percent(watched() - nodes_before),
            (top.bytes().len() - written) / 20
        );
    }
}
