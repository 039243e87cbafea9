//! The dashboard as a state machine: what is shown, what the keys have done, and what is to be executed.

mod details;
mod input;
mod list;
mod orders;

use dske_node::{
    config::Role,
    status::{Level, Status},
};
use dske_protocol::ids::Name;
use ratatui::{Frame, crossterm::event::Event, layout::Rect};

pub(crate) use self::{details::Details, list::List};
use crate::{
    command::KEY_BITS,
    deed::Order,
    glyphs::{ASCII, Glyphs, UNICODE},
    model::{Model, Update},
    screens::{Context, Screen},
    settings::Settings,
    text,
    theme::{Palette, Tone},
    view,
};

/// How long a message stays at the foot of the screen.
const TOAST_MS: u64 = 8_000;

/// After something has moved, it is taken to go on moving for so long.
const MOVING_MS: u64 = 3_000;

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A running node.
    Node,
    /// The node in this process, which ends with the screen.
    Inside,
    /// All nodes of a local net, whose processes can be stopped and started.
    Net,
}

/// What an [`App`] begins with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// What is watched, in a word or two.
    pub title: String,
    /// See there.
    pub kind: Kind,
    /// Palette, keys and the like.
    pub settings: Settings,
}

/// What is to be executed by whoever runs the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Leave.
    Quit,
    /// Do something at a node; the outcome comes back through [`App::done`].
    Do(Order),
    /// Write the screen, or everything, to a file; by its ending. `None`: a new text file.
    Export(Option<String>),
    /// Put a text into the terminal's clipboard.
    Copy(String),
}

/// What the keys go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The screen.
    Normal,
    /// The filter, as it is typed; with what it was before.
    Filter { before: String },
    /// The command line.
    Command { line: String },
    /// A question.
    Confirm(Question),
}

/// What is asked before it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Question {
    Do(Order),
    Quit,
}

/// A message at the foot of the screen.
#[derive(Debug, Clone)]
pub(crate) struct Toast {
    pub(crate) text: String,
    pub(crate) tone: Tone,
    until_ms: u64,
}

/// Where things were drawn, for the mouse.
#[derive(Debug, Clone, Default)]
pub(crate) struct Areas {
    pub(crate) tabs: Vec<(Rect, Screen)>,
    pub(crate) columns: Vec<(Rect, usize)>,
    /// The rows, and the first of them that is seen.
    pub(crate) rows: Rect,
    pub(crate) first: usize,
    pub(crate) page: usize,
    pub(crate) help_lines: usize,
    pub(crate) details: Details,
    /// There is no room for a list and details at once.
    pub(crate) small: bool,
}

/// See the head of the file.
#[derive(Debug)]
pub struct App {
    title: String,
    kind: Kind,
    settings: Settings,
    model: Model,
    /// What is shown while the picture is held.
    held: Option<Box<Model>>,
    pub(crate) screen: Screen,
    lists: [List; 7],
    pub(crate) filter: String,
    pub(crate) mode: Mode,
    typed: Vec<String>,
    focus: Option<Name>,
    bits: u64,
    /// Details stand beside the list, where there is room.
    pub(crate) detail: bool,
    /// Details stand in place of the list, where there is none.
    pub(crate) zoomed: bool,
    toast: Option<Toast>,
    pub(crate) areas: Areas,
    effects: Vec<Effect>,
    dirty: bool,
    moved_ms: u64,
    drawn_s: u64,
}

impl App {
    /// A screen without any snapshot yet.
    pub fn new(setup: Setup) -> Self {
        let Setup { title, kind, settings } = setup;
        Self {
            title,
            kind,
            settings,
            model: Model::default(),
            held: None,
            screen: Screen::Pads,
            lists: Screen::ALL.map(List::new),
            filter: String::new(),
            mode: Mode::Normal,
            typed: Vec::new(),
            focus: None,
            bits: KEY_BITS,
            detail: true,
            zoomed: false,
            toast: None,
            areas: Areas::default(),
            effects: Vec::new(),
            dirty: true,
            moved_ms: 0,
            drawn_s: 0,
        }
    }

    /// Takes a snapshot in.
    pub fn update(&mut self, now_ms: u64, update: Update) {
        if self.model.update(update) {
            self.moved_ms = now_ms;
            self.dirty |= self.held.is_none();
        }
    }

    /// What came of an [`Effect`].
    pub fn done(&mut self, now_ms: u64, good: bool, text: &str) {
        let text = text::printable(text);
        let (level, tone) = if good { (Level::Info, Tone::Good) } else { (Level::Warn, Tone::Crit) };
        self.model.note(now_ms, level, text.clone());
        self.toast(now_ms, tone, text);
        self.moved_ms = now_ms;
    }

    /// Takes a key, the mouse or a new size in.
    pub fn event(&mut self, now_ms: u64, event: &Event) {
        match event {
            Event::Key(key) if !key.is_release() => self.key(now_ms, key),
            Event::Mouse(mouse) => self.mouse(mouse),
            Event::Resize(..) => self.dirty = true,
            Event::Paste(text) => self.pasted(text),
            _ => {}
        }
    }

    /// Time goes on: ages are shown anew once a second.
    pub fn tick(&mut self, now_ms: u64) {
        if self.toast.as_ref().is_some_and(|toast| toast.until_ms <= now_ms) {
            self.toast = None;
            self.dirty = true;
        }
        self.dirty |= now_ms / 1_000 != self.drawn_s;
    }

    /// What is to be executed.
    pub fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Whether the picture would be another one now.
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Whether something has moved of late, so that it is worth to look more often.
    pub fn is_moving(&self, now_ms: u64) -> bool {
        let status = |status: &Status| {
            !status.wishes.is_empty() || status.sessions.iter().any(|session| session.phase == "agreeing")
        };
        now_ms.saturating_sub(self.moved_ms) < MOVING_MS
            || self.model.nodes.values().filter_map(|node| node.live()).any(status)
    }

    /// Whether the mouse is to be listened to.
    pub fn wants_mouse(&self) -> bool {
        self.settings.mouse
    }

    /// The last status of every node.
    pub fn statuses(&self) -> impl Iterator<Item = &Status> {
        self.model.nodes.values().filter_map(|node| node.status.as_deref())
    }

    /// Paints everything.
    pub fn draw(&mut self, frame: &mut Frame<'_>, now_ms: u64) {
        self.dirty = false;
        self.drawn_s = now_ms / 1_000;
        view::draw(self, frame, now_ms);
    }

    pub(crate) fn shown(&self) -> &Model {
        self.held.as_deref().unwrap_or(&self.model)
    }

    pub(crate) fn context(&self, now_ms: u64) -> Context<'_> {
        Context {
            model: self.shown(),
            focus: self.focus.as_ref(),
            glyphs: self.glyphs(),
            bits: self.bits,
            now_ms,
        }
    }

    pub(crate) fn glyphs(&self) -> &'static Glyphs {
        if self.settings.ascii { &ASCII } else { &UNICODE }
    }

    pub(crate) fn title(&self) -> &str {
        &self.title
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn palette(&self) -> Palette {
        self.settings.palette
    }

    pub(crate) fn focus(&self) -> Option<&Name> {
        self.focus.as_ref()
    }

    pub(crate) fn bits(&self) -> u64 {
        self.bits
    }

    /// Whether one of the nodes in focus is a client, or may be.
    pub(crate) fn has_clients(&self) -> bool {
        let mut known = self.shown().known(self.focus());
        self.shown().nodes.is_empty() || known.any(|(_, node, _)| node.is(Role::Client))
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.held.is_some()
    }

    pub(crate) fn message(&self) -> Option<&Toast> {
        self.toast.as_ref()
    }

    pub(crate) fn list(&self) -> &List {
        &self.lists[self.screen as usize]
    }

    pub(crate) fn list_mut(&mut self) -> &mut List {
        self.dirty = true;
        &mut self.lists[self.screen as usize]
    }

    pub(crate) fn list_of(&self, screen: Screen) -> &List {
        &self.lists[screen as usize]
    }

    fn toast(&mut self, now_ms: u64, tone: Tone, text: String) {
        self.toast = Some(Toast { text, tone, until_ms: now_ms.saturating_add(TOAST_MS) });
        self.dirty = true;
    }
}
