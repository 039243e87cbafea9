//! What the documents name is there: links lead somewhere, on the forge and in the book; each file that docs/SECURITY.md
//! names exists, and each test that it names stands in the file named last before it.

#[path = "documents/links.rs"]
mod links;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use links::{Found, broken, links};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every document below a directory, by its path from there, with what it includes.
fn documents(top: &Path) -> BTreeMap<PathBuf, String> {
    let (mut found, mut dirs) = (BTreeMap::new(), vec![top.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("a directory").map(|entry| entry.expect("an entry")) {
            let (path, name) = (entry.path(), entry.file_name());
            let kind = entry.file_type().expect("a kind");
            let ours = !name.as_encoded_bytes().starts_with(b".") && name != "target";
            if kind.is_dir() && ours {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let from_top = path.strip_prefix(top).expect("below it").to_owned();
                found.insert(from_top, included(&path));
            }
        }
    }
    found
}

/// A document; where it is another one's page in the book, that one.
fn included(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    match text.strip_prefix("{{#include ").and_then(|rest| rest.split_once('}')) {
        Some((other, _)) => included(&path.with_file_name(other)),
        None => text,
    }
}

/// What stands between backquotes, in order.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Tests are sentences, in words joined by underscores.
fn is_test(name: &str) -> bool {
    name.matches('_').count() >= 3
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[test]
fn every_test_that_the_security_document_names_is_where_it_says() {
    let document = fs::read_to_string(root().join("docs/SECURITY.md")).expect("the document");
    let (mut file, mut code, mut tests) = ("", String::new(), 0);
    for name in quoted(&document) {
        if name.contains('/') && name.ends_with(".rs") {
            file = name;
            code = fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        } else if is_test(name) {
            assert!(code.contains(&format!("fn {name}(")), "{file} has no {name}");
            tests += 1;
        }
    }
    assert!(tests > 30, "{tests} tests were looked for");
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let documents = documents(root());
    assert!(documents.len() > 20, "{:?}", documents.keys());
    let find = |path: &Path| match documents.get(path) {
        Some(text) => Some(Found::Document(text.clone())),
        None => root().join(path).exists().then_some(Found::File),
    };
    // A page of the book that includes a document has that one's links, which count from the book's top; see below.
    let own = |path: &Path| !fs::read_to_string(root().join(path)).expect("it").starts_with("{{#include ");
    let broken: Vec<String> = documents
        .iter()
        .filter(|(path, _)| own(path))
        .flat_map(|(path, text)| broken(path, text, &find))
        .collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_chapter_of_the_book_is_listed_and_every_link_leads_to_a_page_or_picture_of_it() {
    let source = root().join("docs/book/src");
    let mut pages = documents(&source);
    let summary = pages.remove(Path::new("SUMMARY.md")).expect("the list of chapters");
    let mut listed: Vec<PathBuf> = links(&summary).map(PathBuf::from).collect();
    listed.sort();
    assert_eq!(listed, pages.keys().cloned().collect::<Vec<_>>());
    let find = |path: &Path| match pages.get(path) {
        Some(text) => Some(Found::Document(text.clone())),
        // Nothing but pages and what lies beside them is copied; a program's source is not.
        None => source.join(path).is_file().then_some(Found::File),
    };
    let broken: Vec<String> = pages.iter().flat_map(|(path, text)| broken(path, text, &find)).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}
