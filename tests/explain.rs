//! Every error code that the sources know is explained, and nothing else is.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The Rust files below a directory.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every string literal that is a code in the program's crates, with the exit status that stands behind it, if one does.
fn used() -> Vec<(String, Option<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    for entry in fs::read_dir(root).unwrap().map(Result::unwrap) {
        let crate_sources = entry.path().join("src");
        if crate_sources.is_dir() {
            sources(&crate_sources, &mut files);
        }
    }
    let mut codes = Vec::new();
    for text in files.iter().map(|path| fs::read_to_string(path).unwrap()) {
        for rest in text.split("\"dske::").skip(1) {
            let (code, rest) = rest.split_once('"').unwrap();
            let is_code = |c: char| c.is_ascii_lowercase() || c == ':' || c == '-';
            if !code.is_empty() && !code.ends_with(':') && code.chars().all(is_code) {
                let next = rest.strip_prefix(',').map_or("", str::trim_start);
                codes.push((format!("dske::{code}"), status(next)));
            }
        }
    }
    codes
}

/// The exit status with which a text begins.
fn status(text: &str) -> Option<u8> {
    let word = text.split(|c: char| !c.is_ascii_alphanumeric() && c != ':').next()?;
    let named = [
        ("exit::OTHER", 1),
        ("exit::USAGE", 2),
        ("exit::UNREACHABLE", 3),
        ("exit::CONFIG", 7),
        ("exit::INTERRUPTED", 130),
    ];
    word.parse().ok().or_else(|| named.iter().find(|(name, _)| *name == word).map(|(_, status)| *status))
}

fn explain(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_dske")).arg("explain").args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn every_code_is_explained_and_every_explanation_is_of_a_code() {
    let (status, list, _) = explain(&[]);
    assert_eq!(status, Some(0));
    let explained: BTreeSet<String> =
        list.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    let used: BTreeSet<String> = used().into_iter().map(|(code, _)| code).collect();
    assert!(used.len() > 50 && used.contains("dske::pad::low"), "{used:?}");
    let missing: Vec<_> = used.difference(&explained).collect();
    let needless: Vec<_> = explained.difference(&used).collect();
    assert!(missing.is_empty(), "not in docs/ERRORS.md: {missing:?}");
    assert!(needless.is_empty(), "in docs/ERRORS.md, and nowhere else: {needless:?}");
}

#[test]
fn a_code_is_explained_with_or_without_its_prefix() {
    let (status, full, _) = explain(&["dske::pad::low"]);
    assert_eq!(status, Some(0));
    assert!(
        full.starts_with("dske::pad::low\n\nExit status 6.") && full.contains("dske pskm make"),
        "{full}"
    );
    assert_eq!(explain(&["PAD::low"]).1, full);
    let json: serde_json::Value = serde_json::from_str(&explain(&["pad::low", "--json"]).1).unwrap();
    assert_eq!((&json["code"], &json["schema_version"]), (&"dske::pad::low".into(), &1.into()));
    let (status, _, error) = explain(&["dske::pad::lo"]);
    assert_eq!(status, Some(2));
    assert!(error.contains("dske::explain::unknown") && error.contains("dske::pad::low"), "{error}");
}

#[test]
fn an_explanation_tells_the_exit_status_that_the_program_has() {
    let report: serde_json::Value = serde_json::from_str(&explain(&["--json"]).1).unwrap();
    let told = |code: &str| {
        let errors = report["errors"].as_array().unwrap();
        let summary = errors.iter().find(|error| error["code"] == code)?["summary"].as_str()?;
        summary.strip_prefix("Exit status ")?.split('.').next()?.parse::<u8>().ok()
    };
    let mut compared = 0;
    for (code, status) in used().into_iter().filter(|(_, status)| status.is_some()) {
        assert_eq!(told(&code), status, "{code}");
        compared += 1;
    }
    assert!(compared > 50, "{compared}");
}
