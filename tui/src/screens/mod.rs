//! The screens: each turns the model into rows, and one row into its details. One file per screen.

mod events;
mod help;
mod hubs;
mod identity;
mod modules;
mod pads;
mod sessions;

use dske_node::status::Level;
use dske_protocol::ids::Name;

use crate::{glyphs::Glyphs, model::Model, text, theme::Tone};

pub(crate) use help::lines as help_lines;
pub(crate) use pads::forecasts;
pub(crate) use sessions::streams;

/// The screens in the order of their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Screen {
    Pads,
    Sessions,
    Hubs,
    Identity,
    Modules,
    Events,
    Help,
}

/// What screens are made from.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) model: &'a Model,
    /// The one node that is looked at, or all.
    pub(crate) focus: Option<&'a Name>,
    pub(crate) glyphs: &'a Glyphs,
    /// Length of the keys that pads are counted in.
    pub(crate) bits: u64,
    pub(crate) now_ms: u64,
}

/// A column of a screen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    /// Narrowest and widest.
    pub(crate) width: (u16, u16),
    pub(crate) right: bool,
    /// Where there is too little room, columns of the highest rank go first; those of rank 0 stay.
    pub(crate) rank: u8,
    /// How much wider it may become where nobody else needs the room.
    pub(crate) stretch: u16,
}

const fn column(title: &'static str, width: (u16, u16), right: bool, rank: u8) -> Column {
    Column { title, width, right, rank, stretch: 0 }
}

/// A column that takes what others leave.
const fn stretching(title: &'static str, width: (u16, u16), rank: u8, stretch: u16) -> Column {
    Column { title, width, right: false, rank, stretch }
}

/// Pieces of text in a row.
pub(crate) type Spans = Vec<(String, Tone)>;

/// What stands in a column.
#[derive(Debug, Clone)]
pub(crate) enum Cell {
    /// Text.
    Text(Spans),
    /// Steps with their names, and as marks alone where there is too little room.
    Steps { full: Spans, brief: Spans },
    /// A bar as wide as the column.
    Gauge { part: u64, whole: u64, tone: Tone },
}

fn cell(text: impl Into<String>, tone: Tone) -> Cell {
    Cell::Text(vec![(text.into(), tone)])
}

fn plain(text: impl Into<String>) -> Cell {
    cell(text, Tone::Plain)
}

/// What a row is sorted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    Number(u64),
    Text(String),
}

/// What a row is about, for what can be done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    Nothing,
    /// Its id.
    Block(String),
    /// A hub, by its name.
    Hub(String),
    /// A node that is watched.
    Node(Name),
    /// A serial.
    Module(String),
}

/// A row.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The same for the same thing in every snapshot.
    pub(crate) key: String,
    /// One for each column.
    pub(crate) cells: Vec<Cell>,
    /// The same.
    pub(crate) ranks: Vec<Rank>,
    /// The node that what is done with it is done at.
    pub(crate) node: Option<Name>,
    pub(crate) subject: Subject,
}

impl Entry {
    /// Whether all words stand somewhere in it.
    pub(crate) fn matches(&self, words: &[String]) -> bool {
        let mut shown = String::new();
        for cell in &self.cells {
            if let Cell::Text(spans) | Cell::Steps { full: spans, .. } = cell {
                spans.iter().for_each(|(text, _)| shown.push_str(text));
                shown.push(' ');
            }
        }
        let shown = shown.to_lowercase();
        words.iter().all(|word| shown.contains(word))
    }
}

impl Screen {
    /// All of them.
    pub(crate) const ALL: [Self; 7] =
        [Self::Pads, Self::Sessions, Self::Hubs, Self::Identity, Self::Modules, Self::Events, Self::Help];

    /// Its name.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Pads => "Pads",
            Self::Sessions => "Sessions",
            Self::Hubs => "Hubs",
            Self::Identity => "Identity",
            Self::Modules => "Modules",
            Self::Events => "Events",
            Self::Help => "Help",
        }
    }

    /// Its columns.
    pub(crate) fn columns(self) -> &'static [Column] {
        match self {
            Self::Pads => &pads::COLUMNS,
            Self::Sessions => &sessions::COLUMNS,
            Self::Hubs => &hubs::COLUMNS,
            Self::Identity => &identity::COLUMNS,
            Self::Modules => &modules::COLUMNS,
            Self::Events => &events::COLUMNS,
            Self::Help => &[],
        }
    }

    /// The column that it is sorted by at first, and whether downwards.
    pub(crate) fn sorted(self) -> (usize, bool) {
        match self {
            Self::Pads => (pads::EMPTY, false),
            Self::Sessions => (sessions::BEGAN, true),
            Self::Hubs | Self::Identity | Self::Modules | Self::Help => (0, false),
            Self::Events => (0, true),
        }
    }

    /// Its rows.
    pub(crate) fn entries(self, context: &Context<'_>) -> Vec<Entry> {
        match self {
            Self::Pads => pads::entries(context),
            Self::Sessions => sessions::entries(context),
            Self::Hubs => hubs::entries(context),
            Self::Identity => identity::entries(context),
            Self::Modules => modules::entries(context),
            Self::Events => events::entries(context),
            Self::Help => Vec::new(),
        }
    }

    /// What more there is to say about a row.
    pub(crate) fn detail(self, context: &Context<'_>, key: &str) -> Vec<Spans> {
        match self {
            Self::Pads => pads::detail(context, key),
            Self::Sessions => sessions::detail(context, key),
            Self::Hubs => hubs::detail(context, key),
            Self::Identity => identity::detail(context, key),
            Self::Modules => modules::detail(context, key),
            Self::Events => events::detail(context, key),
            Self::Help => Vec::new(),
        }
    }

    /// What is said where there is no row.
    pub(crate) fn nothing(self, clients: bool) -> &'static str {
        match self {
            Self::Sessions if !clients => "a hub forwards shares and sees no agreement: look at a client",
            Self::Identity if !clients => "a hub is asked who clients are, and asks nobody",
            Self::Pads => "no tables: a hub makes a module, the client imports it",
            Self::Sessions => "no agreement yet",
            Self::Hubs => "no nodes known",
            Self::Identity => "no other client is known yet",
            Self::Modules => "no module was made or imported",
            Self::Events => "nothing has happened",
            Self::Help => "",
        }
    }
}

/// A line of details: what, and its value.
fn fact(what: &str, value: impl Into<String>, tone: Tone) -> Spans {
    vec![(format!("{what:<10} "), Tone::Dim), (value.into(), tone)]
}

/// A heading in details.
fn heading(text: &str) -> Spans {
    vec![(text.to_owned(), Tone::Head)]
}

/// Words for how long ago something was.
fn ago(now_ms: u64, at_ms: u64) -> String {
    text::short_time(now_ms.saturating_sub(at_ms).saturating_mul(1_000).max(1_000_000))
}

fn level_tone(level: Level) -> Tone {
    match level {
        Level::Info => Tone::Plain,
        Level::Warn => Tone::Warn,
        Level::Crit => Tone::Crit,
    }
}
