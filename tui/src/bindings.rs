//! What the keys do, and how a user gives them other meanings.

use std::{collections::BTreeMap, fmt, str::FromStr};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::screens::Screen;

/// What a key can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    Show(Screen),
    NextScreen,
    PreviousScreen,
    Down,
    Up,
    PageDown,
    PageUp,
    First,
    Last,
    Detail,
    DetailDown,
    DetailUp,
    Filter,
    Command,
    Sort,
    Reverse,
    Pause,
    NextNode,
    Palette,
    Export,
    Copy,
    Key,
    Readmit,
    Retire,
    Stop,
    Restart,
    Lie,
    Cancel,
    Quit,
}

/// Name in the settings, keys, and what it is for.
type Entry = (Action, &'static str, &'static [&'static str], &'static str);

/// Every action.
const ACTIONS: [Entry; 35] = [
    (Action::Show(Screen::Pads), "pads", &["1"], "pads, their use and when they are empty"),
    (Action::Show(Screen::Sessions), "sessions", &["2"], "agreements as they happen; streams"),
    (Action::Show(Screen::Hubs), "hubs", &["3"], "nodes and peers, and who lies"),
    (Action::Show(Screen::Identity), "identity", &["4"], "who the hubs say that clients are"),
    (Action::Show(Screen::Modules), "modules", &["5"], "modules from made to spent"),
    (Action::Show(Screen::Events), "events", &["6"], "what has happened"),
    (Action::Show(Screen::Help), "help", &["?", "7", "f1"], "this"),
    (Action::NextScreen, "next-screen", &["tab", "right", "l"], "next screen"),
    (Action::PreviousScreen, "previous-screen", &["shift-tab", "left", "h"], "previous screen"),
    (Action::Down, "down", &["down", "j"], "one row down"),
    (Action::Up, "up", &["up", "k"], "one row up"),
    (Action::PageDown, "page-down", &["pagedown", "ctrl-f", "space"], "one page down"),
    (Action::PageUp, "page-up", &["pageup", "ctrl-b"], "one page up"),
    (Action::First, "first", &["home", "g"], "first row"),
    (Action::Last, "last", &["end", "G"], "last row"),
    (Action::Detail, "detail", &["enter", "d"], "show or hide the details of the row"),
    (Action::DetailDown, "detail-down", &["]", "ctrl-d"], "further down in the details"),
    (Action::DetailUp, "detail-up", &["[", "ctrl-u"], "back up in the details"),
    (Action::Filter, "filter", &["/"], "show only rows with these words"),
    (Action::Command, "command", &[":"], "command line"),
    (Action::Sort, "sort", &["s"], "sort by the next column"),
    (Action::Reverse, "reverse", &["r"], "sort the other way"),
    (Action::Pause, "pause", &["p"], "hold the picture, or let it go on"),
    (Action::NextNode, "next-node", &["n"], "all nodes, or one after the other"),
    (Action::Palette, "palette", &["c"], "next palette"),
    (Action::Export, "export", &["e"], "write the screen to a file"),
    (Action::Copy, "copy", &["y"], "copy the row's id to the clipboard"),
    (Action::Key, "key", &["K"], "agree a key"),
    (Action::Readmit, "readmit", &["A"], "re-admit the hub"),
    (Action::Retire, "retire", &["X"], "retire the module"),
    (Action::Stop, "stop", &["S"], "stop the node (local net)"),
    (Action::Restart, "restart", &["R"], "restart the node (local net)"),
    (Action::Lie, "lie", &["L"], "make the hub lie, or behave (local net)"),
    (Action::Cancel, "cancel", &["esc"], "close, or clear the filter"),
    (Action::Quit, "quit", &["q", "ctrl-c"], "leave"),
];

/// A key with what is held down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    code: KeyCode,
    ctrl: bool,
    alt: bool,
}

/// Something that names no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BindingError {
    /// See the text.
    #[error(
        "{0:?} is no key: a character, or one of enter, esc, tab, space, up, down, f1 and the like, after ctrl- or alt-"
    )]
    Key(String),
    /// See the text.
    #[error("{0:?} is no action: `dske top` shows them all on its help screen")]
    Action(String),
    /// See the text.
    #[error("{0} stands for both {1} and {2}")]
    Twice(String, String, String),
}

impl Key {
    /// The key of an event. Shift is in the character itself.
    pub(crate) fn of(event: &KeyEvent) -> Self {
        let held = |modifier| event.modifiers.contains(modifier);
        Self { code: event.code, ctrl: held(KeyModifiers::CONTROL), alt: held(KeyModifiers::ALT) }
    }

    /// Whether Ctrl is held.
    pub(crate) fn is_ctrl(self) -> bool {
        self.ctrl
    }

    /// Ctrl-C, which always leaves.
    pub(crate) fn is_ctrl_c(self) -> bool {
        self.ctrl && self.code == KeyCode::Char('c')
    }
}

/// Keys that have names.
const NAMED: [(&str, KeyCode); 16] = [
    ("enter", KeyCode::Enter),
    ("esc", KeyCode::Esc),
    ("shift-tab", KeyCode::BackTab),
    ("tab", KeyCode::Tab),
    ("space", KeyCode::Char(' ')),
    ("up", KeyCode::Up),
    ("down", KeyCode::Down),
    ("left", KeyCode::Left),
    ("right", KeyCode::Right),
    ("home", KeyCode::Home),
    ("end", KeyCode::End),
    ("pageup", KeyCode::PageUp),
    ("pagedown", KeyCode::PageDown),
    ("insert", KeyCode::Insert),
    ("delete", KeyCode::Delete),
    ("backspace", KeyCode::Backspace),
];

impl FromStr for Key {
    type Err = BindingError;

    fn from_str(text: &str) -> Result<Self, BindingError> {
        let (mut rest, mut ctrl, mut alt) = (text, false, false);
        loop {
            if let Some(after) = rest.strip_prefix("ctrl-").filter(|after| !after.is_empty()) {
                (ctrl, rest) = (true, after);
            } else if let Some(after) = rest.strip_prefix("alt-").filter(|after| !after.is_empty()) {
                (alt, rest) = (true, after);
            } else {
                break;
            }
        }
        let mut characters = rest.chars();
        let code = match (characters.next(), characters.next()) {
            (Some(only), None) => KeyCode::Char(only),
            _ => {
                let named = NAMED.iter().find(|(name, _)| *name == rest).map(|(_, code)| *code);
                let number = || rest.strip_prefix('f').and_then(|number| number.parse().ok());
                let function = || number().filter(|number| (1..=12).contains(number)).map(KeyCode::F);
                let unknown = || BindingError::Key(text.chars().take(40).collect());
                named.or_else(function).ok_or_else(unknown)?
            }
        };
        Ok(Self { code, ctrl, alt })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ctrl {
            f.write_str("ctrl-")?;
        }
        if self.alt {
            f.write_str("alt-")?;
        }
        match (NAMED.iter().find(|(_, code)| *code == self.code), self.code) {
            (Some((name, _)), _) => f.write_str(name),
            (None, KeyCode::Char(c)) => write!(f, "{c}"),
            (None, KeyCode::F(number)) => write!(f, "f{number}"),
            (None, code) => write!(f, "{code}"),
        }
    }
}

/// Keys and their actions.
#[derive(Debug, Clone)]
pub(crate) struct Bindings(Vec<(Key, Action)>);

impl Default for Bindings {
    fn default() -> Self {
        let keys = |(action, _, keys, _): &Entry| {
            let action = *action;
            keys.iter().filter_map(move |key| Some((key.parse().ok()?, action))).collect::<Vec<_>>()
        };
        Self(ACTIONS.iter().flat_map(keys).collect())
    }
}

impl Bindings {
    /// The usual keys, with those of some actions replaced.
    pub(crate) fn new(changes: &BTreeMap<String, Vec<String>>) -> Result<Self, BindingError> {
        let mut bindings = Self::default();
        let mut changed: Vec<(Key, Action)> = Vec::new();
        for (name, keys) in changes {
            let entry = ACTIONS.iter().find(|(_, known, ..)| known == name);
            let action = entry.ok_or_else(|| BindingError::Action(name.chars().take(40).collect()))?.0;
            bindings.0.retain(|(_, bound)| *bound != action);
            for key in keys {
                let key: Key = key.parse()?;
                if let Some((_, other)) =
                    changed.iter().find(|(bound, other)| *bound == key && *other != action)
                {
                    return Err(BindingError::Twice(key.to_string(), name_of(*other).into(), name.clone()));
                }
                changed.push((key, action));
            }
        }
        // A key that was given a new meaning has lost its old one.
        bindings.0.retain(|(key, _)| !changed.iter().any(|(bound, _)| bound == key));
        bindings.0.extend(changed);
        Ok(bindings)
    }

    /// What a key does.
    pub(crate) fn action(&self, key: Key) -> Option<Action> {
        self.0.iter().find(|(bound, _)| *bound == key).map(|(_, action)| *action)
    }

    /// The first key of an action.
    pub(crate) fn key(&self, action: Action) -> Option<String> {
        self.0.iter().find(|(_, bound)| *bound == action).map(|(key, _)| key.to_string())
    }

    /// Every action with its keys and what it is for.
    pub(crate) fn help(&self) -> impl Iterator<Item = (String, &'static str)> {
        ACTIONS.iter().map(|(action, _, _, help)| {
            let keys = self.0.iter().filter(|(_, bound)| bound == action).map(|(key, _)| key.to_string());
            (keys.collect::<Vec<_>>().join(" "), *help)
        })
    }
}

fn name_of(action: Action) -> &'static str {
    ACTIONS.iter().find(|(known, ..)| *known == action).map_or("", |(_, name, ..)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        text.parse().unwrap()
    }

    #[test]
    fn keys_are_written_as_they_are_read() {
        for text in
            ["q", "G", "?", "ctrl-c", "alt-x", "shift-tab", "space", "f1", "pagedown", "ctrl-alt-up", "-"]
        {
            assert_eq!(key(text).to_string(), text);
        }
        for text in ["", "f13", "hyper-x", "ctrl-", "two"] {
            assert!(text.parse::<Key>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_default_key_is_valid_and_means_one_thing() {
        let bindings = Bindings::default();
        let given: usize = ACTIONS.iter().map(|(_, _, keys, _)| keys.len()).sum();
        assert_eq!(bindings.0.len(), given);
        for (key, action) in &bindings.0 {
            assert_eq!(bindings.action(*key), Some(*action), "{key}");
        }
    }

    #[test]
    fn keys_can_be_given_other_meanings() {
        let change = |name: &str, keys: &[&str]| {
            (name.to_owned(), keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>())
        };
        let bindings = Bindings::new(&[change("quit", &["Q", "p"])].into()).unwrap();
        assert_eq!(bindings.action(key("Q")), Some(Action::Quit));
        assert_eq!(bindings.action(key("p")), Some(Action::Quit));
        assert_eq!(bindings.action(key("q")), None);
        assert!(bindings.key(Action::Pause).is_none());
        assert!(Bindings::new(&[change("fly", &["x"])].into()).is_err());
        assert!(Bindings::new(&[change("quit", &["hyper-q"])].into()).is_err());
        assert!(Bindings::new(&[change("quit", &["x"]), change("sort", &["x"])].into()).is_err());
    }
}
