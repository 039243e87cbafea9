//! The program from outside, without a running node: what it prints, what it refuses and with which exit
//! status, and a module's way from hub to client and back.

#[path = "cli/experiment.rs"]
mod experiment;

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// The program with nothing of the developer's own settings.
fn dske(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dske"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DSKE_")) {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG").env("NO_COLOR", "1").stdin(Stdio::null()).args(arguments);
    command
}

fn run(command: &mut Command) -> Output {
    command.output().expect("the program starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a command that must succeed, and gives what it printed.
#[track_caller]
fn good(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}", stderr(&output));
    stdout(&output)
}

/// Runs a command that must fail with this exit status, and gives its error.
#[track_caller]
fn bad(command: &mut Command, exit: i32) -> String {
    let output = run(command);
    assert_eq!(output.status.code(), Some(exit), "{command:?}: {}", stderr(&output));
    assert_eq!(stdout(&output), "", "an error leaves standard output empty");
    stderr(&output)
}

/// A directory for nodes and files, with commands that act on them.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A command on the data directory of a node.
    fn on(&self, node: &str, arguments: &[&str]) -> Command {
        let mut command = dske(arguments);
        command.current_dir(self.0.path()).env("DSKE_DIR", self.path(node));
        command
    }

    /// Hub p1 and client alice, enrolled, and a module of 256 KiB from one to the other.
    fn with_module() -> Self {
        let place = Self::new();
        good(
            &mut place
                .on("p1", &["init", "--role", "hub", "--name", "p1", "--listen", "/ip4/127.0.0.1/tcp/7001"]),
        );
        // She is started: on whatever port is free.
        let client = ["init", "--role", "client", "--name", "alice", "--listen", "/ip4/127.0.0.1/tcp/0"];
        good(&mut place.on("alice", &client));
        good(&mut place.on("alice", &["enrol", "request", "-o", "alice.enrol"]));
        good(&mut place.on("p1", &["enrol", "accept", "alice.enrol"]));
        let made = good(&mut place.on("p1", &MAKE));
        assert!(made.contains("p1-0001 for alice: 256 KiB"), "{made}");
        place
    }
}

const MAKE: [&str; 10] =
    ["pskm", "make", "--for", "alice", "--size", "256KiB", "-o", "a.pskm", "--key-file", "a.key"];
const IMPORT: [&str; 5] = ["pskm", "import", "a.pskm", "--key-file", "a.key"];

/// The receipt in `imported p1-0001; read to p1's operator: "olive tango 4417"`.
fn receipt(imported: &str) -> String {
    imported.split('"').nth(1).expect("a receipt in quotes").to_owned()
}

#[test]
fn help_and_version_are_there() {
    let help = good(&mut dske(&["--help"]));
    for command in
        ["demo", "init", "run", "enrol", "pskm", "key", "status", "top", "testnet", "bench", "config"]
    {
        assert!(help.contains(&format!("\n  {command} ")), "{command} in {help}");
    }
    for command in ["init", "pskm", "key", "testnet", "demo"] {
        assert!(good(&mut dske(&[command, "--help"])).contains("Usage: dske"));
    }
    assert_eq!(good(&mut dske(&["--version"])), format!("dske {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_has_exit_status_2() {
    let place = Place::new();
    for arguments in [
        &["frobnicate"][..],
        &["init"],
        &["init", "--role", "king", "--name", "a"],
        &["init", "--role", "hub"],
        &["init", "--role", "hub", "--name", "Not A Name"],
        &["key", "get", "--with", "bob", "--bits", "255"],
        &["key", "get", "--with", "bob", "--bits", "many"],
        &["key", "get", "--bits", "256"],
        &["key", "get", "--with", "bob", "--reveal", "-n", "0"],
        &["key", "get", "--with", "bob", "--reveal", "-k", "0"],
        &["key", "ls", "--limit", "0"],
        &["key", "get", "--with", "bob", "--reveal", "--out", "x"],
        &["key", "get", "--with", "bob", "--format", "hex"],
        &["key", "get", "--with", "bob"],
        &["key", "get", "--with", "bob", "--json"],
        &["key", "next", "--with", "bob"],
        &["key", "fetch", "00112233445566778899aabbccddeeff"],
        &["key", "fetch", "xyz"],
        &["status", "--check", "--warn-left", "101"],
        &["status", "--check", "--crit-left", "101"],
        &["status", "--check", "--warn-left", "5", "--crit-left", "20"],
        &["pskm", "make", "--for", "alice", "--size", "64XiB", "-o", "a"],
        &["pskm", "make", "--for", "alice", "--up", "64MiB", "-o", "a"],
        &["status", "--as", "alice"],
        &["status", "--testnet", "nowhere", "--as", "alice"],
        &["demo", "-n", "3", "-k", "3"],
        &["testnet", "up", "--hubs", "2", "-k", "3"],
        &["bench", "session", "--parallel", "0"],
    ] {
        let error = bad(&mut place.on("none", arguments), 2);
        assert!(!error.contains("panicked") && !error.is_empty(), "{arguments:?}: {error}");
    }
    assert!(fs::read_dir(place.0.path()).expect("listed").next().is_none(), "nothing is left behind");
}

#[test]
fn a_node_that_does_not_run_is_unreachable() {
    let place = Place::new();
    good(&mut place.on("alice", &["init", "--role", "client", "--name", "alice"]));
    let out = place.path("k.key");
    for arguments in [
        &["status"][..],
        &["top", "--once"],
        &["key", "get", "--with", "bob", "--out", "k.key"],
        &["key", "fetch", "00112233445566778899aabbccddeeff", "--reveal"],
    ] {
        let error = bad(&mut place.on("alice", arguments), 3);
        assert!(error.contains("no node is running in") && error.contains("dske run"), "{error}");
    }
    assert!(!out.exists(), "no empty key file stays behind");
    let check = run(&mut place.on("alice", &["status", "--check"]));
    assert_eq!(check.status.code(), Some(2));
    assert!(stdout(&check).starts_with("DSKE CRITICAL - "));
    let json = bad(&mut place.on("alice", &["status", "--json"]), 3);
    assert!(json.contains("\"schema_version\":1") && json.contains("\"exit\":3"), "{json}");
}

#[test]
fn a_directory_holds_one_node_and_is_private() {
    let place = Place::new();
    let init = ["init", "--role", "hub", "--name", "p1"];
    good(&mut place.on("p1", &init));
    let error = bad(&mut place.on("p1", &init), 1);
    assert!(error.contains("already holds a node"), "{error}");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&place.path("p1")), 0o700);
    assert_eq!(mode(&place.path("p1/identity.key")), 0o600);
}

#[test]
fn an_init_that_was_cut_off_leads_to_an_init_that_finishes() {
    let place = Place::new();
    let init = ["init", "--role", "hub", "--name", "p1"];
    good(&mut place.on("p1", &init));
    let secret = fs::read(place.path("p1/identity.key")).expect("there");
    fs::remove_file(place.path("p1/config.toml")).expect("removed");
    let error = bad(&mut place.on("p1", &["run"]), 7);
    assert!(error.contains("`dske init` was cut off here, give it again"), "{error}");
    good(&mut place.on("p1", &init));
    assert!(place.path("p1/config.toml").is_file());
    assert_eq!(fs::read(place.path("p1/identity.key")).expect("there"), secret);
    bad(&mut place.on("p1", &init), 1);
}

#[test]
fn a_damaged_file_of_a_node_is_named_before_it_starts() {
    let place = Place::with_module();
    good(&mut place.on("alice", &IMPORT));
    let damage = |name: &str, change: &dyn Fn(&mut Vec<u8>), exit: i32, named: &str| {
        let path = place.path("alice").join(name);
        let right = fs::read(&path).expect("a file");
        let mut wrong = right.clone();
        change(&mut wrong);
        fs::write(&path, wrong).expect("written");
        let error = bad(&mut place.on("alice", &["run"]), exit);
        assert!(error.contains(named), "{name}: {error}");
        fs::write(&path, right).expect("written");
    };
    for bit in [0, 100, 255] {
        let flip = |bytes: &mut Vec<u8>| bytes[bit / 8] ^= 1 << (bit % 8);
        damage("identity.key", &flip, 8, "dske::node::identity");
    }
    damage("identity.key", &|bytes| bytes.truncate(31), 8, "the identity of this node is damaged");
    damage("store/store", &|bytes| bytes.truncate(20), 8, "dske::store::damaged");
    damage("store/store", &|bytes| bytes[11] = b'4', 8, "dske::store::format");
    damage("store/ledger/journal", &|bytes| bytes.truncate(1 << 20), 8, "journal");
    damage("store/ledger/db", &|bytes| bytes.truncate(1000), 8, "ledger");
    damage("config.toml", &|bytes| bytes.truncate(bytes.len() / 2), 7, "config");
    let mut node =
        place.on("alice", &["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(node.try_wait().expect("looked at").is_none(), "with all put back it runs");
    node.kill().expect("stopped");
    node.wait().expect("ended");
}

#[test]
fn a_module_goes_from_hub_to_client_once_and_its_receipt_back() {
    let place = Place::with_module();
    let public = good(&mut place.on("alice", &["pskm", "inspect", "a.pskm"]));
    assert!(public.contains("256 KiB") && !public.contains("p1-0001"), "{public}");
    let all = good(&mut place.on("alice", &["pskm", "inspect", "a.pskm", "--key-file", "a.key"]));
    for part in ["p1-0001", "alice", "/ip4/127.0.0.1/tcp/7001"] {
        assert!(all.contains(part), "{part} in {all}");
    }
    let receipt = receipt(&good(&mut place.on("alice", &IMPORT)));
    let again = bad(&mut place.on("alice", &IMPORT), 1);
    assert!(again.contains("import"), "{again}");
    let wrong = bad(&mut place.on("p1", &["pskm", "ack", "p1-0001", "wrong-words-0000"]), 1);
    assert!(wrong.contains("receipt"), "{wrong}");
    assert!(good(&mut place.on("p1", &["pskm", "ls"])).contains("made, waits for receipt"));
    let dashed = receipt.replace(' ', "-");
    assert_eq!(good(&mut place.on("p1", &["pskm", "ack", "p1-0001", &dashed])), "p1-0001 active\n");
    let listed = good(&mut place.on("p1", &["pskm", "ls", "--json"]));
    assert!(listed.contains("\"schema_version\": 1") && listed.contains("\"acknowledged\""), "{listed}");
    assert!(good(&mut place.on("alice", &["pskm", "ls"])).contains("imported"));
}

#[test]
fn a_node_that_is_a_hub_alone_asks_no_hub_to_enrol_it() {
    let place = Place::new();
    good(&mut place.on("p1", &["init", "--role", "hub", "--name", "p1"]));
    let error = bad(&mut place.on("p1", &["enrol", "request", "-o", "p1.enrol"]), 2);
    assert!(error.contains("dske::node::role") && error.contains("p1 is a hub alone"), "{error}");
    assert!(!place.path("p1.enrol").exists());
}

#[test]
fn modules_are_listed_with_what_their_tables_are_and_two_of_a_name_apart() {
    let place = Place::with_module();
    good(&mut place.on("alice", &IMPORT));
    let listed = good(&mut place.on("alice", &["pskm", "ls"]));
    assert!(listed.contains("imported, waits for p1"), "{listed}");
    assert!(!listed.contains("alice/"), "one alone needs no id: {listed}");
    good(&mut place.on("new", &["init", "--role", "client", "--name", "alice"]));
    good(&mut place.on("new", &["enrol", "request", "-o", "new.enrol"]));
    good(&mut place.on("p1", &["enrol", "accept", "new.enrol", "--replace"]));
    let make = ["pskm", "make", "--for", "alice", "--size", "256KiB", "-o", "n.pskm", "--key-file", "a.key"];
    good(&mut place.on("p1", &make));
    let listed = good(&mut place.on("p1", &["pskm", "ls", "--json"]));
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let ids: Vec<&str> = listed["modules"]
        .as_array()
        .expect("modules")
        .iter()
        .map(|module| &module["client"].as_str().expect("an id")[..8])
        .collect();
    assert!(ids.len() == 2 && ids[0] != ids[1], "{ids:?}");
    let listed = good(&mut place.on("p1", &["pskm", "ls"]));
    for id in ids {
        assert!(listed.contains(&format!("alice/{id}")), "{id} in {listed}");
    }
}

#[test]
fn mistyped_receipts_are_not_counted_and_the_fifth_wrong_one_says_what_to_do() {
    let place = Place::with_module();
    good(&mut place.on("alice", &IMPORT));
    let acknowledge = |words: &str| {
        let said = bad(&mut place.on("p1", &["pskm", "ack", "p1-0001", words]), 1);
        said.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
    };
    for _ in 0..6 {
        let said = acknowledge("acron actor 1234");
        assert!(said.contains("not counted") && said.contains("5 tries left"), "{said}");
    }
    for left in ["4 tries", "3 tries", "2 tries", "1 try"] {
        let said = acknowledge("acorn actor 1234");
        assert!(said.contains("wrong receipt") && said.contains(&format!("{left} left")), "{said}");
    }
    assert!(good(&mut place.on("p1", &["pskm", "ls"])).contains("waits for receipt"));
    for _ in 0..2 {
        let said = acknowledge("acorn actor 1234");
        assert!(said.contains("dske pskm retire p1-0001") && said.contains("new module"), "{said}");
        let listed = good(&mut place.on("p1", &["pskm", "ls"]));
        assert!(
            listed.contains("locked") && listed.contains("retire") && !listed.contains("waits"),
            "{listed}"
        );
    }
    good(&mut place.on("p1", &["pskm", "retire", "p1-0001", "--yes"]));
    assert!(good(&mut place.on("p1", &["pskm", "ls"])).contains("retired"));
}

#[test]
fn a_module_is_not_made_over_a_file_nor_for_a_stranger() {
    let place = Place::with_module();
    let error = bad(&mut place.on("p1", &MAKE), 2);
    assert!(error.contains("exists already"), "{error}");
    let stranger =
        ["pskm", "make", "--for", "mallory", "--size", "64KiB", "-o", "m.pskm", "--key-file", "a.key"];
    let error = bad(&mut place.on("p1", &stranger), 1);
    assert!(error.contains("no client mallory is enrolled here"), "{error}");
    assert!(!place.path("m.pskm").exists());
}

#[test]
fn a_bad_module_or_key_makes_no_table() {
    let place = Place::with_module();
    let import =
        |file: &str, key: &str| bad(&mut place.on("alice", &["pskm", "import", file, "--key-file", key]), 1);
    import("missing.pskm", "a.key");
    fs::write(place.path("b.key"), [7; 32]).expect("written");
    assert!(import("a.pskm", "b.key").contains("0644"));
    fs::set_permissions(place.path("b.key"), fs::Permissions::from_mode(0o600)).expect("set");
    assert!(import("a.pskm", "b.key").contains("does not open"));
    let module = fs::read(place.path("a.pskm")).expect("read");
    fs::write(place.path("short.pskm"), &module[..module.len() / 2]).expect("written");
    import("short.pskm", "a.key");
    let mut altered = module.clone();
    altered[module.len() / 2] ^= 1;
    fs::write(place.path("altered.pskm"), &altered).expect("written");
    import("altered.pskm", "a.key");
    fs::write(place.path("text.pskm"), "not a module").expect("written");
    import("text.pskm", "a.key");
    good(&mut place.on("bob", &["init", "--role", "client", "--name", "bob"]));
    bad(&mut place.on("bob", &IMPORT), 1);
    for node in ["alice", "bob"] {
        assert_eq!(good(&mut place.on(node, &["pskm", "ls", "-q"])), "", "no module came of it");
    }
    good(&mut place.on("alice", &["pskm", "import", "a.pskm", "--key-file", "a.key", "--wipe"]));
    assert!(!place.path("a.pskm").exists());
}

#[test]
fn a_passphrase_works_and_a_short_or_missing_one_is_refused() {
    let place = Place::with_module();
    let make = ["pskm", "make", "--for", "alice", "--size", "64KiB", "-o", "b.pskm"];
    let error = bad(&mut place.on("p1", &make), 2);
    assert!(error.contains("DSKE_PASSPHRASE"), "{error}");
    bad(place.on("p1", &make).env("DSKE_PASSPHRASE", "short"), 2);
    good(place.on("p1", &make).env("DSKE_PASSPHRASE", "correct horse battery"));
    let import = ["pskm", "import", "b.pskm"];
    bad(place.on("alice", &import).env("DSKE_PASSPHRASE", "correct horse batterie"), 1);
    good(place.on("alice", &import).env("DSKE_PASSPHRASE", "correct horse battery"));
}

#[test]
fn an_enrolment_request_is_checked() {
    let place = Place::new();
    good(&mut place.on("p1", &["init", "--role", "hub", "--name", "p1"]));
    good(&mut place.on("alice", &["init", "--role", "client", "--name", "alice"]));
    let request = good(&mut place.on("alice", &["enrol", "request"]));
    fs::write(place.path("garbage"), "no = [").expect("written");
    for file in ["garbage", "nowhere"] {
        let refused = bad(&mut place.on("p1", &["enrol", "accept", file]), 7);
        assert!(refused.contains("dske enrol request") && !refused.contains("dske init"), "{refused}");
    }
    fs::write(place.path("altered"), request.replace("peer_id = \"", "peer_id = \"x")).expect("written");
    bad(&mut place.on("p1", &["enrol", "accept", "altered"]), 1);
    for (field, other) in
        [("name = \"alice\"", "name = \"alicia\""), ("applications = []", "applications = [\"vpn\"]")]
    {
        assert!(request.contains(field), "{field} in {request}");
        fs::write(place.path("altered"), request.replace(field, other)).expect("written");
        let refused = bad(&mut place.on("p1", &["enrol", "accept", "altered"]), 1);
        assert!(refused.contains("not signed by the key that it names"), "{refused}");
    }
    fs::write(place.path("old"), "format = 1\nname = \"alice\"\naddresses = []\n").expect("written");
    let refused = bad(&mut place.on("p1", &["enrol", "accept", "old"]), 7);
    assert!(refused.contains("dske enrol request"), "{refused}");
    fs::write(place.path("request"), request).expect("written");
    bad(&mut place.on("alice", &["enrol", "accept", "request"]), 2);

    // Both operators see the same words.
    let shown = run(&mut place.on("alice", &["enrol", "request", "-o", "request"]));
    let shown = stderr(&shown);
    let words = |text: &str| {
        let line = text.lines().find(|line| line.contains("compare")).expect("words to compare");
        line.rsplit(": ").next().expect("words").trim().to_owned()
    };
    let accepted = good(&mut place.on("p1", &["enrol", "accept", "request"]));
    assert_eq!(words(&accepted), words(&shown));
    assert_eq!(words(&accepted).split(' ').count(), 10);
}

#[test]
fn a_clients_key_and_name_stay_together_unless_the_operator_says_otherwise() {
    let place = Place::new();
    good(&mut place.on("p1", &["init", "--role", "hub", "--name", "p1"]));
    let enrol = |node: &str, name: &str| {
        let config = place.path(node).join("config.toml");
        let text = fs::read_to_string(&config).expect("a configuration");
        let old = text.lines().find(|line| line.starts_with("name = ")).expect("a name").to_owned();
        fs::write(&config, text.replace(&old, &format!("name = \"{name}\""))).expect("written");
        good(&mut place.on(node, &["enrol", "request", "-o", "request"]));
    };
    let accept = |flags: &[&str]| place.on("p1", &[&["enrol", "accept", "request"], flags].concat());
    for node in ["one", "two"] {
        good(&mut place.on(node, &["init", "--role", "client", "--name", "carol"]));
    }
    enrol("one", "carol");
    good(&mut accept(&[]));
    enrol("one", "dave");
    let refused = bad(&mut accept(&["--replace"]), 1);
    assert!(refused.contains("known here as carol") && refused.contains("--rename"), "{refused}");
    enrol("two", "carol");
    let refused = bad(&mut accept(&["--rename"]), 1);
    assert!(refused.contains("name of another client") && refused.contains("--replace"), "{refused}");
    let replaced = good(&mut accept(&["--replace"]));
    assert!(replaced.contains("is not served any more"), "{replaced}");
    enrol("one", "dave");
    let renamed = good(&mut accept(&["--rename"]));
    assert!(renamed.contains("it was carol before") && renamed.contains("it is served again"), "{renamed}");
    good(
        &mut place.on(
            "p1",
            &["pskm", "make", "--for", "dave", "--size", "256KiB", "-o", "d.pskm", "--key-file", "k"],
        ),
    );
    bad(
        &mut place.on(
            "p1",
            &[
                "pskm",
                "make",
                "--for",
                "dave/00000000",
                "--size",
                "256KiB",
                "-o",
                "e.pskm",
                "--key-file",
                "l",
            ],
        ),
        1,
    );
}

#[test]
fn the_template_passes_the_check_and_a_misspelt_key_is_shown_in_its_line() {
    let place = Place::new();
    let template = good(&mut dske(&["config", "template"]));
    fs::write(place.path("good.toml"), &template).expect("written");
    good(&mut place.on("none", &["config", "check", "good.toml"]));
    fs::write(place.path("bad.toml"), template.replace("k_min =", "kmin =")).expect("written");
    let error = bad(&mut place.on("none", &["config", "check", "bad.toml"]), 7);
    assert!(error.contains("bad.toml, line") && error.contains("kmin"), "{error}");
    bad(&mut place.on("none", &["config", "check", "missing.toml"]), 7);
    bad(&mut place.on("none", &["run"]), 7);
}

#[test]
fn flags_win_over_variables_over_the_file() {
    let place = Place::new();
    good(&mut place.on("alice", &["init", "--role", "client", "--name", "alice", "-k", "4"]));
    let show = ["config", "show", "--origin", "-n", "7"];
    let text = good(place.on("alice", &show).env("DSKE_K", "5"));
    let line = |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
    for (key, value, origin) in
        [("policy.n ", "= 7", "# -n"), ("policy.k ", "= 5", "# DSKE_K"), ("node.name", "alice", "# file")]
    {
        assert!(line(key).contains(value) && line(key).ends_with(origin), "{key} in {text}");
    }
    bad(place.on("alice", &show).env("DSKE_K", "9"), 7);
}

#[test]
fn a_node_keeps_its_role() {
    let place = Place::new();
    good(&mut place.on("alice", &["init", "--role", "client", "--name", "alice"]));
    let error = bad(&mut place.on("alice", &["run", "--role", "hub"]), 7);
    assert!(error.contains("not a hub"), "{error}");
}

#[test]
fn completions_and_manual_pages_come_from_the_program() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(good(&mut dske(&["completions", shell])).contains("testnet"));
    }
    assert!(good(&mut dske(&["man"])).contains(".TH dske 1"));
    let place = Place::new();
    good(&mut place.on("none", &["man", "pages"]));
    assert!(place.path("pages/dske-key-get.1").exists());
}

#[test]
fn manual_pages_go_through_no_link_and_everybody_may_read_them() {
    let place = Place::new();
    let (victim, pages) = (place.path("victim"), place.path("pages"));
    fs::write(&victim, "theirs").expect("written");
    fs::create_dir(&pages).expect("made");
    std::os::unix::fs::symlink(&victim, pages.join("dske-key-get.1")).expect("a link");
    fs::hard_link(&victim, pages.join("dske.1")).expect("a second name");
    for _ in 0..2 {
        good(&mut place.on("none", &["man", "pages"]));
    }
    assert_eq!(fs::read_to_string(&victim).expect("read"), "theirs");
    for page in ["dske.1", "dske-key-get.1"] {
        let about = fs::symlink_metadata(pages.join(page)).expect("there");
        assert!(about.is_file(), "{page} is a file now");
        assert_eq!(about.permissions().mode() & 0o777, 0o644, "{page}");
    }
}

#[test]
fn an_identity_that_others_can_read_is_not_used() {
    let place = Place::new();
    good(&mut place.on("alice", &["init", "--role", "client", "--name", "alice"]));
    fs::set_permissions(place.path("alice/identity.key"), fs::Permissions::from_mode(0o644)).expect("set");
    let error = run(&mut place.on("alice", &["enrol", "request"]));
    assert!(!error.status.success());
    let said: String = stderr(&error).split_whitespace().collect();
    assert!(said.contains("mode0644") && said.contains("chmod"), "{said}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child =
        dske(&["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut first = String::new();
    let mut reader = BufReader::with_capacity(16, child.stdout.take().expect("piped"));
    reader.read_line(&mut first).expect("read");
    drop(reader);
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{:?}: {}", output.status, stderr(&output));
    assert_eq!(stderr(&output), "");
}

#[test]
fn testnets_that_are_not_there_are_said_so() {
    let place = Place::new();
    assert_eq!(good(&mut place.on("none", &["testnet", "ls", "-q"])), "");
    for command in ["down", "ls"] {
        let output = run(&mut place.on("none", &["testnet", command, "--name", "x"]));
        assert_eq!(output.status.code(), Some(2));
    }
    fs::create_dir_all(place.path(".dske/dev")).expect("made");
    fs::write(place.path(".dske/dev/mine"), "keep").expect("written");
    let error = bad(&mut place.on("none", &["testnet", "up", "--hubs", "1", "--clients", "1", "-k", "1"]), 1);
    assert!(error.contains(".dske/dev exists already"), "{error}");
    assert!(place.path(".dske/dev/mine").exists(), "what was there stays");
}
