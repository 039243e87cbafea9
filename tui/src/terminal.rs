//! The terminal itself: how wide it is, reading a secret without showing it, and the whole of it as a screen.

mod screen;

use std::io::{self, IsTerminal, Write};

use ratatui::crossterm::{
    event::{self, KeyCode, KeyEventKind, KeyModifiers},
    terminal::{disable_raw_mode, enable_raw_mode, size},
};
use zeroize::Zeroizing;

pub use ratatui::crossterm::event::Event;
pub use screen::{Screen, give_back, next_event};

/// Longest secret that is read, in bytes. It bounds the buffer, which thus never moves and leaves no copy.
const SECRET_BYTES_MAX: usize = 1024;

/// Columns of the terminal that standard output or standard error goes to, or `None` where neither does.
pub fn width() -> Option<u16> {
    if !io::stdout().is_terminal() && !io::stderr().is_terminal() {
        return None;
    }
    size().ok().map(|(columns, _)| columns).filter(|columns| *columns > 0)
}

/// Asks for a secret on the terminal and reads it without showing it. `None` when the user gives up with
/// Ctrl-C, Ctrl-D or Escape.
///
/// # Errors
/// If there is no terminal.
pub fn read_secret(prompt: &str) -> io::Result<Option<Zeroizing<String>>> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "standard input is not a terminal"));
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "{prompt}")?;
    stderr.flush()?;
    enable_raw_mode()?;
    let raw = RawMode;
    let secret = read_line();
    drop(raw);
    writeln!(stderr)?;
    secret
}

/// Restores the terminal whatever happens.
struct RawMode;

impl Drop for RawMode {
    fn drop(&mut self) {
        // There is no better way to restore it than the one that just failed.
        let _ = disable_raw_mode();
    }
}

fn read_line() -> io::Result<Option<Zeroizing<String>>> {
    let mut text = Zeroizing::new(String::with_capacity(SECRET_BYTES_MAX));
    loop {
        let Event::Key(key) = event::read()? else { continue };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        match key.code {
            KeyCode::Enter => return Ok(Some(text)),
            KeyCode::Esc => return Ok(None),
            KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(None),
            KeyCode::Backspace => {
                text.pop();
            }
            KeyCode::Char(c) if text.len() + c.len_utf8() <= SECRET_BYTES_MAX => text.push(c),
            _ => {}
        }
    }
}
