//! Progress bars with the time left; silent when nobody is there to watch them.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::output::Output;

/// Progress of work that is counted in bytes, or in steps.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

/// With the rate, in bytes.
const BYTES: &str =
    "{msg} {bar:10} {percent:>3}%  {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  ETA {eta}";
/// Steps that take different times have no rate worth showing.
const STEPS: &str = "{msg} {bar:10} {percent:>3}%  {pos}/{len}  ETA {eta}";

impl Progress {
    /// A bar on standard error where that is a terminal, hidden otherwise. Counts bytes.
    pub(crate) fn new(label: &'static str, out: &Output) -> Self {
        Self::with_template(BYTES, label, out)
    }

    /// The same for work that is counted in steps.
    pub(crate) fn steps(label: &'static str, out: &Output) -> Self {
        Self::with_template(STEPS, label, out)
    }

    fn with_template(template: &str, label: &'static str, out: &Output) -> Self {
        if out.quiet || out.json {
            return Self::hidden();
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
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
