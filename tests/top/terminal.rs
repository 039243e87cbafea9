//! A program in a terminal of its own, and what stands on its screen.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{
    io::{Read, Write},
    num::NonZeroU16,
    process::{Child, Command, ExitStatus},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use pty_process::{
    Size,
    blocking::{Pts, Pty},
};
use rustix::{
    process::{Pid, Signal, kill_process},
    termios::{LocalModes, tcgetattr},
};

/// A running program and its terminal.
pub(crate) struct Terminal {
    pty: Arc<Pty>,
    /// Held, so that the terminal outlives the program.
    pts: Pts,
    child: Child,
    seen: Arc<Mutex<Seen>>,
    modes: LocalModes,
}

/// With these a program begins and ends what a terminal is to show as a whole.
const BEGIN: &[u8] = b"\x1b[?2026h";
/// See [`BEGIN`].
const END: &[u8] = b"\x1b[?2026l";

struct Seen {
    parser: vt100::Parser,
    bytes: Vec<u8>,
    /// So many of them are on the screen.
    parsed: usize,
    /// What is shown while the screen is being painted anew.
    before: Option<String>,
}

impl Seen {
    /// Takes in what was written: a screen that is half painted is not shown.
    fn take_in(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        loop {
            let left = &self.bytes[self.parsed..];
            let mark = left.windows(BEGIN.len()).position(|window| window == BEGIN || window == END);
            let Some(at) = mark else { break };
            let begins = left[at..].starts_with(BEGIN);
            self.parser.process(&left[..at]);
            self.before = begins.then(|| self.parser.screen().contents());
            self.parsed += at + BEGIN.len();
        }
        // The rest may end in the middle of a mark.
        let left = &self.bytes[self.parsed..];
        let partial = (1..BEGIN.len()).rev().find(|&len| left.ends_with(&BEGIN[..len]));
        let whole = left.len() - partial.unwrap_or(0);
        self.parser.process(&left[..whole]);
        self.parsed += whole;
    }
}

fn size(of: u16) -> NonZeroU16 {
    NonZeroU16::new(of).unwrap()
}

impl Terminal {
    /// Starts a program with the arguments and the environment of a command.
    pub(crate) fn start(command: &Command, columns: u16, lines: u16) -> Self {
        let (pty, pts) = pty_process::blocking::open().unwrap();
        pty.resize(Size::new(lines, columns)).unwrap();
        let modes = tcgetattr(&pts).unwrap().local_modes;
        let mut inside = pty_process::blocking::Command::new(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            inside = match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        if let Some(dir) = command.get_current_dir() {
            inside = inside.current_dir(dir);
        }
        let child = inside.env("TERM", "xterm-256color").spawn_borrowed(&pts).unwrap();
        let parser = vt100::Parser::new(size(lines), size(columns), 0);
        let seen = Arc::new(Mutex::new(Seen { parser, bytes: Vec::new(), parsed: 0, before: None }));
        let pty = Arc::new(pty);
        let (reader, shown) = (Arc::clone(&pty), Arc::clone(&seen));
        thread::spawn(move || {
            let mut bytes = [0; 65536];
            // Ends when nobody holds the other side any more.
            while let Ok(count @ 1..) = (&*reader).read(&mut bytes) {
                shown.lock().unwrap().take_in(&bytes[..count]);
            }
        });
        Self { pty, pts, child, seen, modes }
    }

    /// Types, as the terminal would send it.
    pub(crate) fn type_in(&self, keys: &str) {
        (&*self.pty).write_all(keys.as_bytes()).unwrap();
    }

    /// Clicks where these words stand.
    #[track_caller]
    pub(crate) fn click(&self, words: &str) {
        let screen = self.screen();
        let (line, text) = screen.lines().enumerate().find(|(_, text)| text.contains(words)).unwrap();
        let column = text[..text.find(words).unwrap()].chars().count();
        self.type_in(&format!("\u{1b}[<0;{};{}M", column + 1, line + 1));
        self.type_in(&format!("\u{1b}[<0;{};{}m", column + 1, line + 1));
    }

    /// Makes the terminal larger or smaller.
    pub(crate) fn resize(&self, columns: u16, lines: u16) {
        self.seen.lock().unwrap().parser.screen_mut().set_size(size(lines), size(columns));
        self.pty.resize(Size::new(lines, columns)).unwrap();
    }

    /// What stands on the screen.
    pub(crate) fn screen(&self) -> String {
        let seen = self.seen.lock().unwrap();
        seen.before.clone().unwrap_or_else(|| seen.parser.screen().contents())
    }

    /// Everything that was written to it so far.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.seen.lock().unwrap().bytes.clone()
    }

    /// Waits until the screen is as it should be.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let screen = self.screen();
            if holds(&screen) {
                return screen;
            }
            assert!(began.elapsed() < Duration::from_secs(40), "not within 40 s: {what}\n{screen}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for words.
    #[track_caller]
    pub(crate) fn shows(&self, words: &str) -> String {
        self.wait_for(words, |screen| screen.contains(words))
    }

    /// Sends the program a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The program's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                // What was written last is on its way to us.
                thread::sleep(Duration::from_millis(200));
                return status;
            }
            assert!(began.elapsed() < Duration::from_secs(40), "it does not end:\n{}", self.screen());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Fails unless the terminal is as it was before the program began.
    #[track_caller]
    pub(crate) fn is_given_back(&self) {
        let seen = self.seen.lock().unwrap();
        let screen = seen.parser.screen();
        assert!(!screen.alternate_screen(), "the other screen is still there");
        assert!(!screen.hide_cursor(), "the cursor is hidden");
        assert!(!screen.bracketed_paste(), "pasted text is still marked");
        assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None, "the mouse is caught");
        assert_eq!(tcgetattr(&self.pts).unwrap().local_modes, self.modes, "the modes of the terminal");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended already, or the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
