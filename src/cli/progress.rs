//! A progress bar with rate and time left; silent when nobody is there to watch it.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::output::Output;

/// Progress of work that is counted in bytes.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar on standard error where that is a terminal, hidden otherwise.
    pub(crate) fn new(label: &'static str, out: &Output) -> Self {
        if out.quiet || out.json {
            return Self::hidden();
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let template = "{msg} {bar:10} {percent:>3}%  {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  ETA {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("█▓░"));
        }
        bar.set_message(label);
        Self(bar)
    }

    /// None.
    pub(crate) fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    /// How far the work is.
    pub(crate) fn set(&self, done: u64, total: u64) {
        if self.0.length() != Some(total) {
            self.0.set_length(total);
        }
        self.0.set_position(done);
    }

    /// Takes the bar off the screen.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}
