//! Colours. What they say is said in words as well.

use std::str::FromStr;

use ratatui::style::{Color, Modifier, Style};

/// Which colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Palette {
    /// The terminal's own green, yellow and red.
    #[default]
    Default,
    /// None: bold, dim and reversed text only.
    Mono,
    /// Blue, orange and violet, which people who cannot tell red from green can tell apart.
    Deuteranopia,
}

/// A palette that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no palette: there are default, mono and deuteranopia")]
pub struct UnknownPalette(String);

impl FromStr for Palette {
    type Err = UnknownPalette;

    fn from_str(text: &str) -> Result<Self, UnknownPalette> {
        match text {
            "default" => Ok(Self::Default),
            "mono" => Ok(Self::Mono),
            "deuteranopia" => Ok(Self::Deuteranopia),
            other => Err(UnknownPalette(other.chars().take(40).collect())),
        }
    }
}

impl Palette {
    /// The one after this.
    pub(crate) fn next(self) -> Self {
        match self {
            Self::Default => Self::Deuteranopia,
            Self::Deuteranopia => Self::Mono,
            Self::Mono => Self::Default,
        }
    }

    /// What it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Mono => "mono",
            Self::Deuteranopia => "deuteranopia",
        }
    }
}

/// What a piece of text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Tone {
    /// Nothing in particular.
    #[default]
    Plain,
    /// Of less interest.
    Dim,
    /// A heading.
    Head,
    /// A name, or what can be chosen.
    Accent,
    /// As it should be.
    Good,
    /// Look at it when there is time.
    Warn,
    /// Look at it now.
    Crit,
}

impl Palette {
    /// How a tone looks.
    pub(crate) fn style(self, tone: Tone) -> Style {
        let plain = Style::new();
        let bold = plain.add_modifier(Modifier::BOLD);
        match (self, tone) {
            (_, Tone::Plain) => plain,
            (Self::Mono, Tone::Dim) => plain.add_modifier(Modifier::DIM),
            (_, Tone::Dim) => plain.fg(Color::DarkGray),
            (_, Tone::Head) => bold,
            (Self::Mono, Tone::Good) => plain,
            (Self::Mono, Tone::Accent | Tone::Warn) => bold,
            (Self::Mono, Tone::Crit) => bold.add_modifier(Modifier::UNDERLINED),
            (Self::Default, Tone::Accent) => plain.fg(Color::Cyan),
            (Self::Default, Tone::Good) => plain.fg(Color::Green),
            (Self::Default, Tone::Warn) => plain.fg(Color::Yellow),
            (Self::Default, Tone::Crit) => bold.fg(Color::Red),
            (Self::Deuteranopia, Tone::Accent) => plain.fg(Color::Indexed(87)),
            (Self::Deuteranopia, Tone::Good) => plain.fg(Color::Indexed(75)),
            (Self::Deuteranopia, Tone::Warn) => plain.fg(Color::Indexed(214)),
            (Self::Deuteranopia, Tone::Crit) => bold.fg(Color::Indexed(207)),
        }
    }

    /// How the chosen row looks.
    pub(crate) fn chosen(self) -> Style {
        match self {
            Self::Mono => Style::new().add_modifier(Modifier::REVERSED),
            Self::Default | Self::Deuteranopia => {
                Style::new().bg(Color::Indexed(237)).add_modifier(Modifier::BOLD)
            }
        }
    }
}
