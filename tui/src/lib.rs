//! The dashboard of DSKE nodes, drawn from their [`Status`](dske_node::status::Status) alone.
//!
//! [`App`] is a state machine without sockets, files or clocks: snapshots, keys and the time go in, [`Effect`]s come out,
//! and [`App::draw`] paints what it knows. Whoever runs it fetches the snapshots and executes the effects. Without a
//! screen, [`once`] gives one as text and [`Changes`] tells what has happened between two snapshots.
//!
//! Whatever came from a peer is escaped and cut before it reaches a terminal.

mod app;
mod bindings;
mod command;
mod deed;
mod export;
mod forecast;
mod glyphs;
mod history;
mod merged;
mod model;
mod once;
mod screens;
mod settings;
mod stream;
pub mod terminal;
mod text;
mod theme;
mod view;

pub use app::{App, Effect, Kind, Setup};
pub use deed::{Deed, Order};
pub use export::{svg, text as screen_text};
pub use model::Update;
pub use once::once;
pub use settings::{Settings, SettingsError};
pub use stream::{Change, Changes};
pub use text::ascii;
pub use theme::Palette;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod snapshots;
