//! What the documents say about tests is so: each file that docs/SECURITY.md names is there, and each test that it
//! names stands in the file named last before it.

use std::path::Path;

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
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("docs/SECURITY.md")).expect("the document");
    let (mut file, mut code, mut tests) = ("", String::new(), 0);
    for name in quoted(&document) {
        if name.contains('/') && name.ends_with(".rs") {
            file = name;
            code = std::fs::read_to_string(root.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        } else if is_test(name) {
            assert!(code.contains(&format!("fn {name}(")), "{file} has no {name}");
            tests += 1;
        }
    }
    assert!(tests > 30, "{tests} tests were looked for");
}
