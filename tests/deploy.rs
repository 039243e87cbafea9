//! What is deployed fits together: the package's files, its scripts, the unit and the program.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use toml::{Table, Value};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn manifest() -> Table {
    fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap()
}

fn package() -> Table {
    manifest()["package"]["metadata"]["deb"].as_table().unwrap().clone()
}

/// Source and place of each file of the package.
fn assets() -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let assets = package()["assets"].as_array().unwrap().clone();
    assets.iter().map(|asset| (text(&asset[0]), text(&asset[1]))).collect()
}

#[test]
fn every_file_of_the_package_is_there_and_nothing_for_it_is_forgotten() {
    let sources: BTreeSet<String> = assets().into_iter().map(|(source, _)| source).collect();
    for source in sources.iter().filter(|source| !source.starts_with("target/")) {
        assert!(root().join(source).is_file(), "{source}");
    }
    for entry in fs::read_dir(root().join("deploy/systemd")).unwrap().map(Result::unwrap) {
        let source = format!("deploy/systemd/{}", entry.file_name().to_str().unwrap());
        assert!(sources.contains(&source), "{source} is not in the package");
    }
    // What is below /etc is the user's to change.
    let settings: Vec<String> = assets()
        .into_iter()
        .filter(|(_, place)| place.starts_with("etc/"))
        .map(|(_, place)| format!("/{place}"))
        .collect();
    let declared: Vec<String> = package()["conf-files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|path| path.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(settings, declared);
}

#[test]
fn the_package_has_the_programs_version_and_scripts_that_a_shell_reads() {
    let version = manifest()["workspace"]["package"]["version"].as_str().unwrap().to_owned();
    let revision = package()["revision"].as_str().unwrap().to_owned();
    let changelog = fs::read_to_string(root().join("deploy/debian/changelog")).unwrap();
    assert!(changelog.starts_with(&format!("dske ({version}-{revision}) ")), "{changelog}");
    let scripts = |dir: &str| -> Vec<PathBuf> {
        fs::read_dir(root().join(dir)).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let bash = ["build", "try", "try-inside"].map(|name| root().join("deploy/debian").join(name));
    let posix = scripts("deploy/debian/scripts");
    assert_eq!(posix.len(), 3);
    for (shell, script) in posix.iter().map(|path| ("sh", path)).chain(bash.iter().map(|path| ("bash", path)))
    {
        let output = Command::new(shell).arg("-n").arg(script).output().unwrap();
        assert!(output.status.success(), "{}: {}", script.display(), String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_unit_starts_the_program_as_it_is() {
    let unit = fs::read_to_string(root().join("deploy/systemd/dske@.service")).unwrap();
    let start =
        unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/dske ")).expect("it starts dske");
    let dir = tempfile::tempdir().unwrap();
    // It takes the command line, and then misses the node.
    let start = start.replace("/var/lib/dske/%i", dir.path().to_str().unwrap());
    let output = Command::new(env!("CARGO_BIN_EXE_dske")).args(start.split(' ')).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(7) && said.contains("dske::config::file"), "{said}");
    assert!(unit.contains("RestartPreventExitStatus=2 7 8\n"), "such an end is final");
    // Variables that the comments of the defaults name are those that the program reads.
    let defaults = fs::read_to_string(root().join("deploy/systemd/dske.default")).unwrap();
    assert!(defaults.contains("#DSKE_METRICS="));
    let template = Command::new(env!("CARGO_BIN_EXE_dske")).args(["config", "template"]).output().unwrap();
    assert!(String::from_utf8_lossy(&template.stdout).contains("(DSKE_METRICS)"));
}

#[test]
fn the_containers_commands_and_toolchain_are_the_programs() {
    let file = fs::read_to_string(root().join("deploy/Containerfile")).unwrap();
    let toolchain: Table = fs::read_to_string(root().join("rust-toolchain.toml")).unwrap().parse().unwrap();
    let channel = toolchain["toolchain"]["channel"].as_str().unwrap();
    let (version, _) = channel.rsplit_once('.').unwrap();
    assert!(file.contains(&format!("FROM docker.io/library/rust:{version}-")), "{channel}: {file}");
    let words = |start: &str| -> Vec<String> {
        let line = file.split_once(start).expect(start).1.lines().next().unwrap();
        serde_json::from_str(&format!("[{line}")).unwrap()
    };
    let (entry, run, health) = (words("ENTRYPOINT ["), words("\nCMD ["), words(" CMD ["));
    assert_eq!((entry, &health[0]), (vec!["dske".to_owned()], &"dske".to_owned()));
    // They are understood, and then miss the node.
    for (arguments, says) in [(&run[..], "dske::config::file"), (&health[1..], "dske::control::")] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dske"));
        let output = command.args(arguments).env("DSKE_DIR", dir.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(says), "{arguments:?}: {said}");
    }
}
