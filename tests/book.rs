//! The book's commands do what it says: every `sh` block is run, chapter by chapter, in one shell.
//!
//! What a reader has and a test has not is stood in for: `sudo` and `systemctl`, addresses of other machines, the receipts and
//! ids that a reader copies. A command that fails ends the test, as it would end the reader's patience.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Stands in for what the test machine does not have. `ID` and receipts are taken from what was said before.
const PRELUDE: &str = r#"
set -euo pipefail
sudo() { [[ $1 == -u ]] && shift 2; "$@"; }
dske() {
    local words=() word serial
    for word in "$@"; do [[ $word == ID ]] && word=$(<"$WORK/id"); words+=("$word"); done
    case " $* " in
        *' pskm ack '*)
            serial=$(grep -oE '[a-z0-9]+-[0-9]{4}' <<<"$*" | tail -n 1)
            words=("${words[@]:0:$#-3}")
            # shellcheck disable=SC2207
            words+=($(<"$WORK/receipt-$serial")) ;;
    esac
    "$DSKE_PROGRAM" "${words[@]}" 2>&1 | tee "$WORK/said" || return 1
    case " $* " in
        *' pskm import '*)
            serial=$(grep -oE '[a-z0-9]+-[0-9]{4}' "$WORK/said" | head -n 1)
            cut -d '"' -s -f 2 "$WORK/said" >"$WORK/receipt-$serial" ;;
        *' key get '*) grep -oE '[0-9a-f]{32}(:[0-9]+)?' "$WORK/said" | head -n 1 >"$WORK/id" ;;
    esac
}
answers() { "$DSKE_PROGRAM" --dir "$LIB/$1" status >/dev/null 2>&1; }
start() {
    "$DSKE_PROGRAM" --dir "$LIB/$1" run >"$WORK/$1.log" 2>&1 &
    echo $! >"$WORK/$1.pid"
    for _ in {1..300}; do answers "$1" && return; sleep 0.1; done
    cat "$WORK/$1.log"; return 1
}
stop() { kill "$(<"$WORK/$1.pid")"; wait "$(<"$WORK/$1.pid")" || true; }
systemctl() {
    local node=${!#}
    node=${node#dske@}
    case $1 in
        enable) start "$node" ;;
        stop) stop "$node" ;;
        restart) stop "$node"; start "$node"; settled "$node" ;;
        *) return 1 ;;
    esac
}
# A client has found its hubs before the next command asks for a key.
settled() {
    for _ in {1..300}; do
        "$DSKE_PROGRAM" --dir "$LIB/$1" status --check >/dev/null 2>&1 && return
        sleep 0.1
    done
    return 1
}
curl() {
    local rest=${!#} answer
    rest=${rest#http://}
    exec 3<>"/dev/tcp/${rest%%:*}/$(cut -d : -f 2 <<<"${rest%%/*}")"
    printf 'GET /%s HTTP/1.0\r\n\r\n' "${rest#*/}" >&3
    answer=$(cat <&3)
    [[ ${answer%%$'\r'*} == *' 200 '* ]] || { echo "$answer"; return 1; }
    echo "${answer#*$'\r\n\r\n'}"
}
"#;

fn chapter(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/book/src").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The chapter's blocks that are run.
fn blocks(name: &str) -> Vec<String> {
    let text = chapter(name);
    let blocks: Vec<String> =
        text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect();
    assert!(!blocks.is_empty(), "{name} has no command to run");
    blocks
}

/// A shell with a directory of its own, and everything that it starts.
struct Shell {
    dir: tempfile::TempDir,
    script: String,
}

impl Shell {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), script: PRELUDE.to_owned() }
    }

    fn lib(&self) -> PathBuf {
        self.dir.path().join("lib")
    }

    /// Adds a chapter's blocks; each is shown before it is run.
    fn read(&mut self, name: &str) -> &mut Self {
        for block in blocks(name) {
            self.script.push_str(&format!("echo '--- {name}'\n{block}\n"));
        }
        self
    }

    /// Adds commands of the test's own.
    fn say(&mut self, line: &str) -> &mut Self {
        self.script.push_str(line);
        self.script.push('\n');
        self
    }

    /// Runs all of it; gives what was said.
    #[track_caller]
    fn run(&self) -> String {
        fs::create_dir_all(self.lib().join("modules")).unwrap();
        let mut script = self.script.replace("/var/lib/dske", self.lib().to_str().unwrap());
        // Each address of the book is a port on loopback.
        for host in [1, 2, 3, 11, 12, 21, 22, 23, 24] {
            let (address, port) = (format!("192.0.2.{host}/tcp/7001"), free_port());
            script = script.replace(&address, &format!("127.0.0.1/tcp/{port}"));
        }
        script = script.replace("127.0.0.1:9464", &format!("127.0.0.1:{}", free_port()));
        // Nobody has to wait for so much in a test.
        script = script.replace("64MiB", "1MiB");
        let file = self.dir.path().join("script");
        fs::write(&file, script).unwrap();
        let mut command = Command::new("bash");
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DSKE_")) {
            command.env_remove(name);
        }
        let output = command
            .arg(&file)
            .env("DSKE_PROGRAM", env!("CARGO_BIN_EXE_dske"))
            .env("WORK", self.dir.path())
            .env("LIB", self.lib())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .current_dir(self.dir.path())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "{said}");
        said
    }
}

impl Drop for Shell {
    /// Ends what the shell has left behind.
    fn drop(&mut self) {
        let nets = Command::new(env!("CARGO_BIN_EXE_dske"))
            .args(["testnet", "down"])
            .current_dir(self.dir.path())
            .output();
        drop(nets);
        for entry in fs::read_dir(self.dir.path()).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "pid") {
                let pid = fs::read_to_string(entry.path()).unwrap_or_default();
                let line = fs::read(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
                // A number that was used again is not the node.
                if String::from_utf8_lossy(&line).contains(self.dir.path().to_str().unwrap_or("-")) {
                    let _ = Command::new("kill").arg(pid.trim()).status();
                }
            }
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn the_quick_start_works_as_written() {
    let said = Shell::new().read("quick-start.md").run();
    for words in ["share of p4 is false", "is not connected", "Exit status 6"] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn the_concepts_can_be_tried() {
    Shell::new().read("concepts.md").run();
}

#[test]
fn a_consortium_works_as_written() {
    let blocks = blocks("consortium.md");
    let (last, before) = blocks.split_last().unwrap();
    assert!(last.contains("key get"), "the chapter ends with keys");
    let mut shell = Shell::new();
    before.iter().for_each(|block| {
        shell.say(block);
    });
    let said = shell.say("for node in alice bob carol dave; do settled $node; done").say(last).run();
    for words in
        ["n 2 k 2 k_min 2: 2 of 2 hubs usable, 0 more", "pads as client: 3 tables", "pads as hub: 3 tables"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn hubs_clients_modules_monitoring_and_recovery_work_as_written() {
    let mut shell = Shell::new();
    shell.read("hubs.md").read("clients.md");
    let modules = blocks("modules.md");
    let (last, before) = modules.split_last().unwrap();
    assert!(last.contains("key get"), "the chapter ends with a key");
    before.iter().for_each(|block| {
        shell.say(block);
    });
    shell
        .say("settled alice; settled bob")
        .say(last)
        .read("monitoring.md")
        .say("settled alice")
        .read("recovery.md");
    let said = shell.run();
    for words in ["DSKE OK - alice", "dske_hubs_usable 3", "\nalive", "\nready", "retired", "2 of 3 usable"] {
        assert!(said.contains(words), "{words}: {said}");
    }
}
