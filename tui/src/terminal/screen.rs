//! The whole terminal as a screen, and giving it back: at the end, after an error, a panic or a signal.

use std::{
    io::{self, BufWriter, Stdout, Write},
    panic,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    buffer::Buffer,
    crossterm::{
        clipboard::CopyToClipboard,
        cursor::Show,
        event::{
            self, DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture, Event,
        },
        execute, queue,
        terminal::{
            BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
            disable_raw_mode, enable_raw_mode,
        },
    },
};

use crate::App;

/// A whole screen of a large terminal is written at once.
const OUT_BYTES: usize = 256 << 10;

/// Whether the terminal is ours at the moment.
static OURS: AtomicBool = AtomicBool::new(false);

/// The terminal as a screen; given back when dropped.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    last: Buffer,
}

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn open(mouse: bool) -> io::Result<Self> {
        restore_on_panic();
        enable_raw_mode()?;
        OURS.store(true, Ordering::SeqCst);
        // From here on, whatever happens gives it back.
        let out = BufWriter::with_capacity(OUT_BYTES, io::stdout());
        // What is pasted is text, not keys.
        let opened = execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste)
            .and_then(|()| if mouse { execute!(io::stdout(), EnableMouseCapture) } else { Ok(()) })
            .and_then(|()| Terminal::new(CrosstermBackend::new(out)));
        match opened {
            Ok(terminal) => Ok(Self { terminal, last: Buffer::default() }),
            Err(error) => {
                give_back();
                Err(error)
            }
        }
    }

    /// Paints what the app shows; in one piece where the terminal can.
    ///
    /// # Errors
    /// If the terminal is gone, or was given back after a panic elsewhere.
    pub fn draw(&mut self, app: &mut App, now_ms: u64) -> io::Result<()> {
        if !OURS.load(Ordering::SeqCst) {
            return Err(io::Error::other("the terminal was given back"));
        }
        queue!(self.terminal.backend_mut(), BeginSynchronizedUpdate)?;
        self.last = self.terminal.draw(|frame| app.draw(frame, now_ms))?.buffer.clone();
        execute!(self.terminal.backend_mut(), EndSynchronizedUpdate)
    }

    /// What was painted last.
    pub fn last(&self) -> &Buffer {
        &self.last
    }

    /// Asks the terminal to put a text into its clipboard; some do.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn copy(&mut self, text: &str) -> io::Result<()> {
        execute!(self.terminal.backend_mut(), CopyToClipboard::to_clipboard_from(text))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// The next key, click or size, if one comes in time.
///
/// # Errors
/// If the terminal is gone.
pub fn next_event(wait: Duration) -> io::Result<Option<Event>> {
    if event::poll(wait)? { event::read().map(Some) } else { Ok(None) }
}

/// Gives the terminal back, if it is ours: for an end that drops no [`Screen`].
pub fn give_back() {
    if !OURS.swap(false, Ordering::SeqCst) {
        return;
    }
    // There is nothing better to do where it fails: the terminal is gone.
    let mut out = io::stdout();
    let _ = execute!(
        out,
        EndSynchronizedUpdate,
        DisableMouseCapture,
        DisableBracketedPaste,
        LeaveAlternateScreen,
        Show
    );
    let _ = out.flush();
    let _ = disable_raw_mode();
}

/// The message of a panic, on whichever thread, is to be read on the terminal as it was.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            give_back();
            before(info);
        }));
    });
}
