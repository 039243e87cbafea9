//! A node on files that others than its owner can get at, from outside.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

fn dske(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dske"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DSKE_")) {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG").env("NO_COLOR", "1").stdin(Stdio::null());
    command.arg("--dir").arg(dir).args(arguments).output().expect("the program starts")
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

#[test]
fn a_node_does_not_start_on_what_others_can_write_or_read() {
    let place = tempfile::tempdir().expect("a directory");
    let above = place.path().join("above");
    fs::create_dir(&above).expect("made");
    set(&above, 0o755);
    let dir = above.join("alice");
    let listen = ["--listen", "/ip4/127.0.0.1/tcp/0"];
    let init = dske(&dir, &[&["init", "--role", "client", "--name", "alice"][..], &listen].concat());
    assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
    // What may be known to all: the configuration, and that there is a directory.
    set(&dir.join("config.toml"), 0o644);
    set(&dir, 0o755);
    for (path, bad) in [
        (dir.clone(), 0o775),
        (dir.clone(), 0o777),
        (above.clone(), 0o777),
        (dir.join("config.toml"), 0o664),
        (dir.join("identity.key"), 0o640),
        (dir.join("identity.key"), 0o602),
        (dir.join("store"), 0o770),
        (dir.join("store/store"), 0o644),
        (dir.join("store/lanes"), 0o773),
        (dir.join("store/ledger"), 0o772),
        (dir.join("store/ledger/journal"), 0o604),
    ] {
        let good = mode(&path);
        set(&path, bad);
        let ran = dske(&dir, &["run"]);
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(8), "{} {bad:o}: {said}", path.display());
        let said: String = said.split_whitespace().collect();
        assert!(said.contains("dske::node::exposed"), "{said}");
        assert!(said.contains(&format!("mode{bad:04o}")) && said.contains("chmod"), "{said}");
        set(&path, good);
    }
    // A configuration elsewhere counts as well.
    let elsewhere = place.path().join("other.toml");
    fs::copy(dir.join("config.toml"), &elsewhere).expect("copied");
    set(&elsewhere, 0o666);
    let ran = dske(&dir, &["--config", elsewhere.to_str().expect("a path"), "run"]);
    assert_eq!(ran.status.code(), Some(8), "{}", String::from_utf8_lossy(&ran.stderr));
    // And commands that open the store of a node that does not run.
    set(&dir.join("store/lanes"), 0o777);
    let listed = dske(&dir, &["pskm", "ls"]);
    assert_eq!(listed.status.code(), Some(8), "{}", String::from_utf8_lossy(&listed.stderr));
    set(&dir.join("store/lanes"), 0o700);
    let listed = dske(&dir, &["pskm", "ls"]);
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
}
