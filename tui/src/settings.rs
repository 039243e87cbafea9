//! What a user sets: palette, marks, mouse and keys, from the `[tui]` table of a TOML file.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{bindings::Bindings, theme::Palette};

/// Why a file of settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(String);

/// See the head of the file.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Colours.
    pub palette: Palette,
    /// No box or block characters.
    pub ascii: bool,
    /// Whether the mouse is listened to; where it is, the terminal's own selection needs Shift.
    pub mouse: bool,
    pub(crate) bindings: Bindings,
}

impl Default for Settings {
    fn default() -> Self {
        Self { palette: Palette::default(), ascii: false, mouse: true, bindings: Bindings::default() }
    }
}

/// The file. Other tables belong to others.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    tui: Table,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Table {
    palette: Option<String>,
    ascii: Option<bool>,
    mouse: Option<bool>,
    keys: BTreeMap<String, Vec<String>>,
}

impl Settings {
    /// Reads the `[tui]` table of a text.
    ///
    /// # Errors
    /// Where the text is not TOML, or names a palette, key or action that there is not.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let failed = |error: &dyn std::fmt::Display| SettingsError(error.to_string());
        let File { tui } = toml::from_str(text).map_err(|error| failed(&error.message()))?;
        let palette = match tui.palette {
            Some(name) => name.parse().map_err(|error| failed(&error))?,
            None => Palette::default(),
        };
        let bindings = Bindings::new(&tui.keys).map_err(|error| failed(&error))?;
        Ok(Self { palette, ascii: tui.ascii.unwrap_or(false), mouse: tui.mouse.unwrap_or(true), bindings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_and_mistakes_are_named() {
        let text = "[tui]\npalette = \"mono\"\nmouse = false\n[tui.keys]\nquit = [\"Q\"]\n";
        let settings = Settings::parse(text).unwrap();
        assert_eq!((settings.palette, settings.mouse, settings.ascii), (Palette::Mono, false, false));
        assert!(Settings::parse("").is_ok());
        for (text, named) in [
            ("[tui]\npalette = \"pink\"", "pink"),
            ("[tui]\ncolour = 1", "colour"),
            ("[tui.keys]\nfly = [\"x\"]", "fly"),
            ("[tui.keys]\nquit = [\"hyper-x\"]", "hyper-x"),
            ("[tui", "expected"),
        ] {
            let error = Settings::parse(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
