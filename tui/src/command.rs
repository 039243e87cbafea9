//! The command line of the dashboard.

use dske_protocol::ids::Name;

use crate::{deed::Deed, screens::Screen, theme::Palette};

/// Bits of a key where none are given.
pub(crate) const KEY_BITS: u64 = 256;

/// What can be typed, for the help screen.
pub(crate) const COMMANDS: [(&str, &str); 13] = [
    ("key WITH[,WITH] [BITS] [as NODE] [to FILE]", "agree a key; without FILE this side's copy is erased"),
    ("readmit HUB [as NODE]", "use a hub again that was excluded"),
    ("retire SERIAL [as NODE]", "take a module out of use for good"),
    ("stop | restart NODE", "a node's process, on a local net"),
    ("lie | behave HUB", "false shares, on a local net"),
    ("node NAME | all", "look at one node, or at all"),
    ("sort COLUMN", "sort; again for the other way"),
    ("filter WORDS", "show only rows with all these words"),
    ("bits N", "length of the keys that pads are counted in"),
    ("palette NAME", "default, mono or deuteranopia"),
    ("export [FILE]", "the screen as .txt or .svg, everything as .json"),
    ("pads, sessions, …", "a screen"),
    ("pause, quit", "hold the picture; leave"),
];

/// What was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// At a node; `None` where it was not named.
    Do(Option<Name>, Deed),
    Show(Screen),
    Node(Option<Name>),
    Sort(String),
    Filter(String),
    Bits(u64),
    Palette(Palette),
    Export(Option<String>),
    Pause,
    Quit,
}

/// Reads a line.
pub(crate) fn parse(line: &str) -> Result<Command, String> {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    if words.is_empty() {
        return Err("nothing was typed".to_owned());
    }
    let verb = words.remove(0);
    let command = match verb {
        "q" | "quit" => Command::Quit,
        "pause" => Command::Pause,
        "key" => return key(words),
        "readmit" | "retire" => {
            let node = option(&mut words, "as")?.map(name).transpose()?;
            let what = one(verb, &mut words)?;
            let deed = match verb {
                "readmit" => Deed::Readmit { hub: what.parse().map_err(|error| format!("{error}"))? },
                _ => Deed::Retire { serial: what.to_owned() },
            };
            Command::Do(node, deed)
        }
        "stop" | "restart" | "lie" | "behave" => {
            let node = name(one(verb, &mut words)?)?;
            let deed = match verb {
                "stop" => Deed::Stop,
                "restart" => Deed::Restart,
                _ => Deed::Lie(verb == "lie"),
            };
            Command::Do(Some(node), deed)
        }
        "node" => match one(verb, &mut words)? {
            "all" => Command::Node(None),
            node => Command::Node(Some(name(node)?)),
        },
        "sort" => Command::Sort(one(verb, &mut words)?.to_owned()),
        "filter" => Command::Filter(std::mem::take(&mut words).join(" ")),
        "bits" => Command::Bits(bits(one(verb, &mut words)?)?),
        "palette" => Command::Palette(one(verb, &mut words)?.parse().map_err(|error| format!("{error}"))?),
        "export" => Command::Export((!words.is_empty()).then(|| std::mem::take(&mut words).join(" "))),
        other => match Screen::ALL.into_iter().find(|screen| screen.title().eq_ignore_ascii_case(other)) {
            Some(screen) => Command::Show(screen),
            None => return Err(format!("{other:?} is no command; the help screen has them all")),
        },
    };
    match words.first() {
        Some(word) => Err(format!("{word:?} is one word too many for `{verb}`")),
        None => Ok(command),
    }
}

fn key(mut words: Vec<&str>) -> Result<Command, String> {
    let node = option(&mut words, "as")?.map(name).transpose()?;
    let out = option(&mut words, "to")?.map(str::to_owned);
    let length = if words.len() > 1 { bits(words.remove(1))? } else { KEY_BITS };
    let with = one("key", &mut words)?.split(',').map(name).collect::<Result<_, _>>()?;
    match words.first() {
        Some(word) => Err(format!("{word:?} is one word too many for `key`")),
        None => Ok(Command::Do(node, Deed::Key { with, bits: length, out })),
    }
}

fn one<'a>(verb: &str, words: &mut Vec<&'a str>) -> Result<&'a str, String> {
    if words.is_empty() {
        let known = COMMANDS.iter().find(|(usage, _)| usage.contains(verb));
        let usage = known.map_or(verb, |(usage, _)| *usage);
        return Err(format!("`{verb}` needs more: {usage}"));
    }
    Ok(words.remove(0))
}

/// Takes `word VALUE` out of the words.
fn option<'a>(words: &mut Vec<&'a str>, word: &str) -> Result<Option<&'a str>, String> {
    let Some(at) = words.iter().position(|other| *other == word) else { return Ok(None) };
    if at + 1 >= words.len() {
        return Err(format!("`{word}` needs a word after it"));
    }
    words.remove(at);
    Ok(Some(words.remove(at)))
}

fn name(text: &str) -> Result<Name, String> {
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

fn bits(text: &str) -> Result<u64, String> {
    let bits = text.parse::<u64>().ok().filter(|bits| *bits > 0 && bits.is_multiple_of(8));
    bits.ok_or_else(|| format!("{text:?} is no length of a key: a multiple of 8 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn commands_are_understood() {
        let with = vec![node("bob"), node("carol")];
        let key = Deed::Key { with, bits: 512, out: Some("k".into()) };
        assert_eq!(parse("key bob,carol 512 as alice to k"), Ok(Command::Do(Some(node("alice")), key)));
        assert_eq!(parse("behave p4"), Ok(Command::Do(Some(node("p4")), Deed::Lie(false))));
        assert_eq!(parse(" Sessions "), Ok(Command::Show(Screen::Sessions)));
        assert_eq!(parse("filter bob p1"), Ok(Command::Filter("bob p1".into())));
        assert_eq!(parse("filter"), Ok(Command::Filter(String::new())));
        assert_eq!(parse("node all"), Ok(Command::Node(None)));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, named) in [
            ("", "nothing"),
            ("fly", "fly"),
            ("key", "WITH"),
            ("key Bob", "Bob"),
            ("key bob 7", "7"),
            ("key bob 256 now", "now"),
            ("key bob as", "as"),
            ("stop", "NODE"),
            ("stop p1 p2", "p2"),
            ("bits 9", "9"),
            ("palette pink", "pink"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(named), "{line}: {error}");
        }
    }
}
