//! No secret leaves a node but where the owner asks for it: everything is done once, with every log at its most
//! talkative, and then all logs, all output and all files that must not hold secrets are searched for every
//! secret of the run, in every form, and for plain hashes of the keys.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use common::{Net, http, needles::Needles};
use sha2::Digest;

/// Everything that commands print.
#[derive(Default)]
struct Said(Vec<(String, Vec<u8>)>);

impl Said {
    /// Runs a command at trace level; gives its standard output.
    fn run(&mut self, command: &mut Command) -> Vec<u8> {
        command.env("RUST_LOG", "trace");
        let output = command.output().unwrap();
        let name = format!("{:?}", command.get_args().collect::<Vec<_>>());
        self.0.push((format!("standard output of {name}"), output.stdout.clone()));
        self.0.push((format!("standard error of {name}"), output.stderr));
        output.stdout
    }
}

/// All files below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    let found = |path: PathBuf| if path.is_dir() { files(&path) } else { vec![path] };
    // The socket of a node that was killed is still there.
    entries.into_iter().flat_map(found).filter(|path| path.is_file()).collect()
}

/// The pads of all tables. What the allocating end has reserved is erased there, and still stands at the other.
fn pads(net: &Net, needles: &mut Needles) {
    for node in net.nodes() {
        for path in files(&net.node_dir(&node).join("store/lanes")) {
            let name = format!("{node}: {}", path.strip_prefix(net.dir()).unwrap().display());
            needles.add(&name, fs::read(&path).unwrap().get(8192..).unwrap());
        }
    }
}

/// These files hold what they are for: pads, and the secret half of the identity. Not among them are the files of
/// keys: every key of this run is taken, hence erased.
fn may_hold_secrets(path: &Path) -> bool {
    let within = |name: &str| path.components().any(|part| part.as_os_str() == name);
    within("lanes") || within("imports") || path.ends_with("identity.key")
}

/// Agrees a key, which both sides take.
fn agree(net: &Net, from: &str, with: &str) -> Vec<u8> {
    let sent = net.get(from, with, "256");
    assert_eq!(net.fetch(with, &sent.id).bytes, sent.bytes);
    sent.bytes
}

#[test]
fn nothing_that_is_logged_printed_or_kept_in_the_open_holds_a_secret() {
    let net = Net::up_with(3, 2, 2, "128KiB", "trace", &["--metrics"]);
    let mut needles = Needles::new();
    pads(&net, &mut needles);
    assert!(needles.len() > 3 * 2 * 2 * 8192 / 2, "pads are known: {} pieces", needles.len());
    for node in net.nodes() {
        needles.add(
            &format!("identity of {node}"),
            &fs::read(net.node_dir(&node).join("identity.key")).unwrap(),
        );
    }

    let mut said = Said::default();
    let mut keys = Vec::new();
    net.acquaint("alice", "bob");

    // Keys of several lengths, taken in every way.
    for bits in ["256", "64", "100000"] {
        let sent = net.get("alice", "bob", bits);
        keys.push(sent.bytes);
        let out = net.dir().join(format!("fetched-{bits}"));
        let fetch = ["key", "fetch", &sent.id, "--wait", "15s", "--json", "--out", out.to_str().unwrap()];
        said.run(&mut net.at("bob", &fetch));
        assert_eq!(&fs::read(&out).unwrap(), keys.last().unwrap());
        said.run(&mut net.at("bob", &fetch));
        fs::remove_file(out).unwrap();
    }
    // A liar, and a hub that dies of a signal that usually leaves a core.
    net.testnet(&["chaos", "p1", "false-shares"]);
    keys.push(agree(&net, "alice", "bob"));
    net.testnet(&["chaos", "p1", "off"]);
    let pid = net.status("p3")["node"]["pid"].to_string();
    assert!(Command::new("kill").args(["-ABRT", &pid]).status().unwrap().success());
    keys.push(agree(&net, "bob", "alice"));

    // Errors of every kind, and everything that shows something.
    let passphrase = "correct horse battery staple 7261";
    needles.add("the passphrase", passphrase.as_bytes());
    let at = |node: &str, arguments: &[&str]| {
        let mut command = net.at(node, arguments);
        command.env("DSKE_PASSPHRASE", passphrase);
        command
    };
    let show: [(&str, &[&str]); 22] = [
        ("alice", &["key", "get", "--with", "nobody"]),
        ("alice", &["key", "get", "--with", "bob", "-k", "9"]),
        ("alice", &["key", "get", "--with", "bob", "--bits", "8Mbit"]),
        ("alice", &["key", "get", "--with", "bob", "--json"]),
        ("alice", &["key", "get", "--with", "bob", "--json", "--out", "out.key"]),
        ("bob", &["key", "fetch", "00000000000000000000000000000000-0"]),
        ("bob", &["key", "ls", "--json"]),
        ("alice", &["status", "--json"]),
        ("alice", &["status"]),
        ("bob", &["status", "--check"]),
        ("p1", &["status", "--json"]),
        ("alice", &["top", "--once"]),
        ("alice", &["config", "show"]),
        ("alice", &["doctor", "--json"]),
        ("p1", &["doctor"]),
        ("p1", &["pskm", "make", "--for", "alice", "--size", "64KiB", "-o", "more.pskm"]),
        ("alice", &["pskm", "import", "more.pskm", "--key-file", "no.key"]),
        ("alice", &["pskm", "inspect", "more.pskm"]),
        ("alice", &["pskm", "import", "more.pskm"]),
        ("alice", &["pskm", "import", "more.pskm"]),
        ("p1", &["pskm", "ack", "p1-0003", "wrong-words-0000"]),
        ("p1", &["pskm", "ls", "--json"]),
    ];
    for (node, arguments) in show {
        let stdout = said.run(&mut at(node, arguments));
        if arguments.contains(&"make") {
            assert!(!stdout.is_empty(), "the module was made");
            pads(&net, &mut needles);
        }
        if arguments.contains(&"out.key") {
            let report: serde_json::Value = serde_json::from_slice(&stdout).unwrap();
            keys.push(net.fetch("bob", report["id"].as_str().unwrap()).bytes);
        }
    }
    let make = ["pskm", "make", "--for", "bob", "--size", "64KiB", "-o", "b.pskm", "--key-file", "seal.key"];
    said.run(&mut at("p1", &make));
    pads(&net, &mut needles);
    needles.add("the key file", &fs::read(net.dir().join("seal.key")).unwrap());
    let import = ["pskm", "import", "b.pskm", "--key-file", "seal.key", "--wipe", "--json"];
    assert!(!said.run(&mut at("bob", &import)).is_empty(), "the module was imported");

    for key in &keys {
        needles.add("a key", key);
        needles.add("SHA-256 of a key", &sha2::Sha256::digest(key));
        needles.add("BLAKE3 of a key", blake3::hash(key).as_bytes());
    }

    // That the search finds what is there: the owner asks for a key, in every form that there is.
    let shown: [&[&str]; 4] =
        [&["--raw"], &["--reveal"], &["--reveal", "--format", "hex"], &["--reveal", "--json"]];
    for how in shown {
        let sent = net.get("alice", "bob", "256");
        let mut this = Needles::new();
        this.add("the key", &sent.bytes);
        let output = net.at("bob", &["key", "fetch", &sent.id, "--wait", "15s"]).args(how).output().unwrap();
        assert!(this.find(&output.stdout).is_some(), "{how:?} was not found");
        said.0.push((format!("standard error of key fetch {how:?}"), output.stderr));
        needles.add("a key", &sent.bytes);
    }

    for node in ["alice", "bob", "p1", "p2"] {
        let (status, text) = http::get(net.metrics_port(node), "/metrics");
        assert!(status == 200 && text.contains("dske_table_burnt_bytes_total"), "{text}");
        said.0.push((format!("metrics of {node}"), text.into()));
    }
    // The nodes end, so that everything that they would write is written.
    net.nodes().iter().filter(|node| *node != "p3").for_each(|node| net.stop(node));
    let mut searched = 0;
    for (name, text) in &said.0 {
        searched += text.len();
        assert_eq!(needles.find(text), None, "{name}");
    }
    let mut of_nodes = 0;
    for path in files(&net.dir().join("nets")).into_iter().filter(|path| !may_hold_secrets(path)) {
        let text = fs::read(&path).unwrap();
        searched += text.len();
        of_nodes += 1;
        assert_eq!(needles.find(&text), None, "{}", path.display());
        assert_ne!(path.file_name().unwrap(), "core", "a core was dumped");
    }
    for node in net.nodes() {
        let log = net.log(&node);
        assert!(log.contains("TRACE"), "{node} logged at its most talkative");
        // Four bytes are found by chance in files; in a log they would stand as a word.
        let crcs = keys.iter().map(|key| crc32fast::hash(key));
        for word in
            crcs.flat_map(|crc| [crc.to_string(), format!("{crc:08x}"), format!("{:08x}", crc.swap_bytes())])
        {
            let mut words = log.split(|c: char| !c.is_ascii_alphanumeric());
            assert!(
                !words.any(|found| found.eq_ignore_ascii_case(&word)),
                "{node} logged the CRC-32 of a key"
            );
        }
    }
    println!(
        "{} pieces of secrets looked for in {searched} bytes of {of_nodes} files and {} outputs",
        needles.len(),
        said.0.len()
    );
    assert!(of_nodes > 5 * 4 && searched > 1_000_000, "{of_nodes} files and {searched} bytes were searched");
}

#[test]
fn a_secret_is_found_in_every_form() {
    let secret: Vec<u8> = (0..32_u8).map(|i| i.wrapping_mul(151).wrapping_add(7)).collect();
    let mut needles = Needles::new();
    needles.add("planted", &secret);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let base64 = |bytes: &[u8]| {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let group = |three: &[u8]| {
            let bits = three.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte));
            [18, 12, 6, 0].map(|shift| char::from(DIGITS[bits >> shift & 63]))
        };
        bytes.chunks_exact(3).flat_map(group).collect::<String>()
    };
    let plain = [b"a log line with ", secret.as_slice(), b" in it"].concat();
    let shifted = [b"x".as_slice(), &secret, b"yyy"].concat();
    let forms = [
        ("plain", plain),
        ("the middle of it", secret[5..20].to_vec()),
        ("hexadecimal", format!("key={} ", hex(&secret)).into()),
        ("upper case", format!("key=a{} ", hex(&secret).to_uppercase()).into()),
        ("base 64", format!("key={}", base64(&secret)).into()),
        ("base 64 of more", format!("key={}", base64(&shifted)).into()),
        ("a list", format!("Vec {secret:?}").into()),
        ("a list over lines", format!("{secret:#?}").into()),
        ("escaped", format!("b\"{}\"", secret.escape_ascii()).into()),
    ];
    for (form, text) in forms {
        assert!(needles.find(&text).is_some(), "{form}: {}", String::from_utf8_lossy(&text));
    }
    assert_eq!(
        needles.find(&b"nothing at all 0123456789abcdef, [1, 2, 3, 4, 5, 6, 7, 8, 9]".repeat(99)),
        None
    );
}
