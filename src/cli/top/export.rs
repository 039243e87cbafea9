//! Writes the screen, or everything that is known, to a new file.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use dske_node::status::Status;
use dske_storage::files;
use dske_tui::{screen_text, svg, terminal::Screen};

use super::source::now_ms;

/// Writes by the ending of the path; gives what to tell.
pub(super) fn write<'a>(
    path: Option<String>,
    screen: &Screen,
    statuses: impl Iterator<Item = &'a Status>,
) -> (bool, String) {
    let path =
        path.map_or_else(|| PathBuf::from(format!("dske-top-{}.txt", now_ms() / 1_000)), PathBuf::from);
    let text = match path.extension().and_then(|ending| ending.to_str()) {
        Some("svg") => Ok(svg(screen.last())),
        Some("json") => serde_json::to_string_pretty(&statuses.collect::<Vec<_>>()).map_err(io::Error::other),
        _ => Ok(screen_text(screen.last())),
    };
    match text.and_then(|text| fill(&path, &text)) {
        Ok(()) => (true, format!("written to {}", path.display())),
        Err(error) => (false, format!("cannot write {}: {error}", path.display())),
    }
}

/// Never replaces a file.
fn fill(path: &Path, text: &str) -> io::Result<()> {
    files::create_new(path)?.write_all(text.as_bytes())
}
