//! Keys and the mouse.

use dske_protocol::ids::Name;
use ratatui::{
    crossterm::event::{KeyCode, KeyEvent, MouseButton, MouseEvent, MouseEventKind},
    layout::Position,
};

use super::{App, Effect, Kind, Mode, Question};
use crate::{
    bindings::{Action, Key},
    screens::{Entry, Screen, Subject},
    theme::Tone,
};

/// Longest line that can be typed.
const LINE_MAX: usize = 300;
/// Commands remembered.
const TYPED_MAX: usize = 50;
/// Rows or lines that the wheel moves by.
const WHEEL: usize = 3;

impl App {
    pub(super) fn key(&mut self, now_ms: u64, event: &KeyEvent) {
        self.dirty = true;
        let key = Key::of(event);
        if key.is_ctrl_c() {
            return self.effects.push(Effect::Quit);
        }
        match &self.mode {
            Mode::Normal => {
                if let Some(action) = self.settings.bindings.action(key) {
                    self.action(now_ms, action);
                }
            }
            Mode::Filter { .. } => self.type_filter(event),
            Mode::Command { .. } => self.type_command(now_ms, event),
            Mode::Confirm(question) => {
                let question = question.clone();
                match event.code {
                    KeyCode::Char('y' | 'Y') => self.confirmed(now_ms, question),
                    KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc | KeyCode::Enter => {
                        self.mode = Mode::Normal
                    }
                    _ => {}
                }
            }
        }
    }

    fn confirmed(&mut self, now_ms: u64, question: Question) {
        self.mode = Mode::Normal;
        match question {
            Question::Quit => self.effects.push(Effect::Quit),
            Question::Do(order) => {
                self.toast(now_ms, Tone::Accent, format!("{order} …"));
                self.effects.push(Effect::Do(order));
            }
        }
    }

    pub(super) fn quit(&mut self) {
        if self.kind == Kind::Inside {
            self.mode = Mode::Confirm(Question::Quit);
        } else {
            self.effects.push(Effect::Quit);
        }
    }

    pub(super) fn pause(&mut self) {
        self.held = match self.held.take() {
            None => Some(Box::new(self.model.clone())),
            Some(_) => None,
        };
    }

    /// Looks at one node, or at all.
    pub(super) fn look_at(&mut self, now_ms: u64, node: Option<Name>) {
        match node {
            Some(node) if !self.model.nodes.contains_key(&node) => {
                self.toast(now_ms, Tone::Crit, format!("{node} is not watched here"));
            }
            node => self.focus = node,
        }
    }

    fn action(&mut self, now_ms: u64, action: Action) {
        let page = self.areas.page.max(1);
        match action {
            Action::Show(screen) => self.screen = screen,
            Action::NextScreen => self.turn(1),
            Action::PreviousScreen => self.turn(Screen::ALL.len() - 1),
            Action::Down => self.step(now_ms, |at| at.saturating_add(1)),
            Action::Up => self.step(now_ms, |at| at.saturating_sub(1)),
            Action::PageDown => self.step(now_ms, |at| at.saturating_add(page)),
            Action::PageUp => self.step(now_ms, |at| at.saturating_sub(page)),
            Action::First => self.step(now_ms, |_| 0),
            Action::Last => self.step(now_ms, |_| usize::MAX),
            Action::Detail if self.areas.small => self.zoomed = !self.zoomed,
            Action::Detail => self.detail = !self.detail,
            Action::DetailDown => self.read_on(|at, half| at.saturating_add(half)),
            Action::DetailUp => self.read_on(|at, half| at.saturating_sub(half)),
            Action::Filter => self.mode = Mode::Filter { before: self.filter.clone() },
            Action::Command => self.mode = Mode::Command { line: String::new() },
            Action::Sort => self.list_mut().sort_next(),
            Action::Reverse => {
                let list = self.list_mut();
                list.downwards = !list.downwards;
            }
            Action::Pause => self.pause(),
            Action::NextNode => self.next_node(),
            Action::Palette => {
                self.settings.palette = self.settings.palette.next();
                self.toast(now_ms, Tone::Accent, format!("palette {}", self.settings.palette.name()));
            }
            Action::Export => self.effects.push(Effect::Export(None)),
            Action::Copy => self.copy(now_ms),
            Action::Cancel => {
                self.zoomed = false;
                self.filter.clear();
                self.toast = None;
            }
            Action::Quit => self.quit(),
            Action::Key | Action::Readmit | Action::Retire | Action::Stop | Action::Restart | Action::Lie => {
                self.act(now_ms, action)
            }
        }
    }

    /// Moves the details; told half of what their pane has room for, so that a part of what was read stays in sight.
    fn read_on(&mut self, to: impl Fn(usize, usize) -> usize) {
        let half = (self.areas.details.page() / 2).max(1);
        self.areas.details.turn(|at| to(at, half));
    }

    fn turn(&mut self, by: usize) {
        let at = (self.screen as usize + by) % Screen::ALL.len();
        self.screen = Screen::ALL[at];
    }

    fn next_node(&mut self) {
        let names: Vec<Name> = self.model.nodes.keys().cloned().collect();
        let after = match &self.focus {
            None => 0,
            Some(focus) => names.iter().position(|name| name == focus).map_or(0, |at| at + 1),
        };
        self.focus = names.get(after).cloned().filter(|_| names.len() > 1);
    }

    /// The rows as they are shown.
    pub(crate) fn rows(&self, now_ms: u64) -> Vec<Entry> {
        let words: Vec<String> = self.filter.to_lowercase().split_whitespace().map(str::to_owned).collect();
        self.list().arrange(self.screen.entries(&self.context(now_ms)), &words)
    }

    /// The row that is chosen.
    pub(super) fn chosen(&self, now_ms: u64) -> Option<Entry> {
        let mut rows = self.rows(now_ms);
        let at = self.list().place(&rows);
        (at < rows.len()).then(|| rows.swap_remove(at))
    }

    fn step(&mut self, now_ms: u64, to: impl Fn(usize) -> usize) {
        if self.screen == Screen::Help {
            let last = self.areas.help_lines.saturating_sub(self.areas.page);
            let list = self.list_mut();
            list.scroll = to(list.scroll).min(last);
            return;
        }
        let rows = self.rows(now_ms);
        let at = to(self.list().place(&rows));
        self.list_mut().choose(&rows, at);
    }

    fn copy(&mut self, now_ms: u64) {
        let id = self.chosen(now_ms).and_then(|entry| match entry.subject {
            Subject::Block(id) | Subject::Module(id) | Subject::Hub(id) => Some(id),
            Subject::Node(name) => Some(name.to_string()),
            Subject::Nothing => None,
        });
        match id {
            Some(id) => {
                self.toast(
                    now_ms,
                    Tone::Good,
                    format!("{id} is in the clipboard, where the terminal allows it"),
                );
                self.effects.push(Effect::Copy(id));
            }
            None => self.toast(now_ms, Tone::Warn, "this row has no id".to_owned()),
        }
    }

    fn type_filter(&mut self, event: &KeyEvent) {
        let Mode::Filter { before } = &self.mode else { return };
        match event.code {
            KeyCode::Enter => self.mode = Mode::Normal,
            KeyCode::Esc => {
                self.filter.clone_from(before);
                self.mode = Mode::Normal;
            }
            _ => edit(&mut self.filter, event),
        }
    }

    fn type_command(&mut self, now_ms: u64, event: &KeyEvent) {
        let Mode::Command { line } = &mut self.mode else { return };
        match event.code {
            KeyCode::Enter => {
                let line = std::mem::take(line);
                self.mode = Mode::Normal;
                if !line.trim().is_empty() {
                    self.typed.retain(|typed| *typed != line);
                    self.typed.push(line.clone());
                    let surplus = self.typed.len().saturating_sub(TYPED_MAX);
                    self.typed.drain(..surplus);
                    self.command(now_ms, &line);
                }
            }
            KeyCode::Esc => self.mode = Mode::Normal,
            KeyCode::Backspace if line.is_empty() => self.mode = Mode::Normal,
            KeyCode::Up | KeyCode::Down => {
                let at = self.typed.iter().position(|typed| typed == line);
                let to = match (event.code, at) {
                    (KeyCode::Up, None) => self.typed.len().checked_sub(1),
                    (KeyCode::Up, Some(at)) => Some(at.saturating_sub(1)),
                    (_, at) => at.map(|at| at + 1),
                };
                *line = to.and_then(|to| self.typed.get(to)).cloned().unwrap_or_default();
            }
            _ => edit(line, event),
        }
    }

    pub(super) fn pasted(&mut self, text: &str) {
        let line = match &mut self.mode {
            Mode::Filter { .. } => &mut self.filter,
            Mode::Command { line } => line,
            Mode::Normal | Mode::Confirm(_) => return,
        };
        let room = LINE_MAX.saturating_sub(line.len());
        line.extend(text.chars().filter(|c| !c.is_control()).take(room));
        self.dirty = true;
    }

    pub(super) fn mouse(&mut self, event: &MouseEvent) {
        let at = Position::new(event.column, event.row);
        // Ages do not matter for which row is where.
        let now_ms = self.drawn_s.saturating_mul(1_000);
        match event.kind {
            MouseEventKind::ScrollDown => self.wheel(now_ms, at, |at| at.saturating_add(WHEEL)),
            MouseEventKind::ScrollUp => self.wheel(now_ms, at, |at| at.saturating_sub(WHEEL)),
            MouseEventKind::Down(MouseButton::Left) if self.mode == Mode::Normal => {
                if let Some((_, screen)) = self.areas.tabs.iter().find(|(area, _)| area.contains(at)) {
                    self.screen = *screen;
                } else if let Some((_, column)) =
                    self.areas.columns.iter().find(|(area, _)| area.contains(at))
                {
                    let column = *column;
                    self.list_mut().sort_by(column);
                } else if self.areas.rows.contains(at) {
                    let row = usize::from(event.row - self.areas.rows.y) + self.areas.first;
                    let rows = self.rows(now_ms);
                    if row < rows.len() {
                        self.list_mut().choose(&rows, row);
                    }
                }
                self.dirty = true;
            }
            _ => {}
        }
    }

    /// Moves what is under the mouse: the details, else the rows.
    fn wheel(&mut self, now_ms: u64, at: Position, to: impl Fn(usize) -> usize) {
        if self.areas.details.area.contains(at) {
            self.areas.details.turn(to);
            self.dirty = true;
        } else {
            self.step(now_ms, to);
        }
    }
}

/// Types into a line.
fn edit(line: &mut String, event: &KeyEvent) {
    let key = Key::of(event);
    match event.code {
        KeyCode::Backspace => {
            line.pop();
        }
        KeyCode::Char('u') if key.is_ctrl() => line.clear(),
        KeyCode::Char('w') if key.is_ctrl() => {
            let kept = line.trim_end().rfind(' ').map_or(0, |at| at + 1);
            line.truncate(kept);
        }
        KeyCode::Char(c) if !key.is_ctrl() && line.len() < LINE_MAX => line.push(c),
        _ => {}
    }
}
