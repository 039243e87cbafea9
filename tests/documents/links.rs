//! Links in a document, and whether they lead anywhere.

use std::path::{Component, Path, PathBuf};

/// What a link leads to.
pub(crate) enum Found {
    /// A document, by its text.
    Document(String),
    /// Anything else.
    File,
}

/// Links of a document that lead nowhere, each in words. `find` is asked for paths from the top of all documents.
pub(crate) fn broken(name: &Path, text: &str, find: &dyn Fn(&Path) -> Option<Found>) -> Vec<String> {
    let at = |link: &str| {
        let (path, heading) = link.split_once('#').unwrap_or((link, ""));
        let found = match path {
            "" => Some(Found::Document(text.to_owned())),
            path => find(&beside(name, path)?),
        };
        match found? {
            Found::Document(text) if !heading.is_empty() => {
                headings(&text).find(|known| known == heading).map(drop)
            }
            Found::Document(_) | Found::File => Some(()),
        }
    };
    let prose = prose(text);
    let lost = links(&prose).filter(|link| at(link).is_none());
    lost.map(|link| format!("{} names {link}", name.display())).collect()
}

/// Links that stay here, pictures among them.
pub(crate) fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://"))
}

/// A path beside a document; nothing where it leads above the top.
fn beside(name: &Path, path: &str) -> Option<PathBuf> {
    let mut whole = name.parent()?.to_owned();
    for part in Path::new(path).components() {
        match part {
            Component::ParentDir => whole.pop().then_some(())?,
            Component::Normal(part) => whole.push(part),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(whole)
}

/// A text without its code.
fn prose(text: &str) -> String {
    let outside: Vec<&str> = text.split("\n```").step_by(2).collect();
    outside.join("\n").split('`').step_by(2).collect()
}

/// The names under which headings can be linked to, made from their words.
fn headings(text: &str) -> impl Iterator<Item = String> {
    let lines = text.split("\n```").step_by(2).flat_map(str::lines).filter(|line| line.starts_with('#'));
    lines.map(|line| {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

#[test]
fn what_leads_nowhere_is_named() {
    let text = "# A b: `c`\n[one](x.md#far-off) [two](../y.svg) `[code](z.md)` [three](#a-b-c)\n```\n[four](z.md)\n```\n\
        [five](#a) [six](../../up.md) [seven](https://z.md)";
    let find = |path: &Path| match path.to_str()? {
        "docs/x.md" => Some(Found::Document("## Far off\n".to_owned())),
        "y.svg" => Some(Found::File),
        _ => None,
    };
    let found = broken(Path::new("docs/a.md"), text, &find);
    assert_eq!(found, ["docs/a.md names #a", "docs/a.md names ../../up.md"]);
}
