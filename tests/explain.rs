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

/// Codes that stand in string literals of the program's crates.
fn used() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    for entry in fs::read_dir(root).unwrap().map(Result::unwrap) {
        let crate_sources = entry.path().join("src");
        if crate_sources.is_dir() {
            sources(&crate_sources, &mut files);
        }
    }
    let mut codes = BTreeSet::new();
    for text in files.iter().map(|path| fs::read_to_string(path).unwrap()) {
        for rest in text.split("\"dske::").skip(1) {
            let code = rest.split('"').next().unwrap();
            let is_code = |c: char| c.is_ascii_lowercase() || c == ':' || c == '-';
            if !code.is_empty() && !code.ends_with(':') && code.chars().all(is_code) {
                codes.insert(format!("dske::{code}"));
            }
        }
    }
    codes
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
    let used = used();
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
