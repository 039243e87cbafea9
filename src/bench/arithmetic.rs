//! What `dske bench shares` and `dske bench tags` have in common: timing one operation on one core, and telling it.

use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::cli::{context::Context, error::Result, interrupt::Interrupt, units};

/// A sample takes this long at least: the clock's steps must not matter.
const SAMPLE_MIN: Duration = Duration::from_millis(2);
/// Samples of an operation at least, however long it takes.
const SAMPLES_MIN: usize = 3;

/// Times an operation: repeated until it has taken `time`, a few times at least, after one that does not count.
pub(super) fn time(time: Duration, interrupt: &Interrupt, operation: &mut dyn FnMut()) -> Result<Timing> {
    interrupt.check()?;
    operation();
    let once = measure(1, operation);
    let repeats = u32::try_from(SAMPLE_MIN.as_nanos() / once.as_nanos().max(1) + 1).unwrap_or(u32::MAX);
    let mut samples = Vec::new();
    let began = Instant::now();
    while samples.len() < SAMPLES_MIN || began.elapsed() < time {
        interrupt.check()?;
        samples.push(measure(repeats, operation).as_secs_f64() / f64::from(repeats));
    }
    samples.sort_by(f64::total_cmp);
    let [least, median] = [0, samples.len() / 2].map(|at| samples[at]);
    Ok(Timing { median_us: median * 1e6, least_us: least * 1e6, samples: samples.len() })
}

fn measure(repeats: u32, operation: &mut dyn FnMut()) -> Duration {
    let began = Instant::now();
    (0..repeats).for_each(|_| operation());
    began.elapsed()
}

/// How long an operation takes.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Timing {
    pub(super) median_us: f64,
    pub(super) least_us: f64,
    pub(super) samples: usize,
}

/// One operation on so many bytes.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// What was done.
    pub(super) operation: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) n: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) k: Option<u8>,
    /// Bytes of key, or of message.
    pub(super) bytes: u64,
    /// Anything that a reader must know of the figure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remark: Option<&'static str>,
    #[serde(flatten)]
    pub(super) timing: Timing,
    pub(super) mbit_per_second: f64,
    pub(super) ms_per_mbit: f64,
}

impl Row {
    /// Rates from the median time.
    pub(super) fn new(operation: impl Into<String>, bytes: u64, timing: Timing) -> Self {
        // Keys and messages are far shorter than 2^32 bits.
        let mbit = f64::from(u32::try_from(bytes * 8).unwrap_or(u32::MAX)) / 1e6;
        let seconds = (timing.median_us / 1e6).max(f64::MIN_POSITIVE);
        Self {
            operation: operation.into(),
            n: None,
            k: None,
            bytes,
            remark: None,
            timing,
            mbit_per_second: mbit / seconds,
            ms_per_mbit: seconds * 1e3 / mbit,
        }
    }
}

/// What a command found.
#[derive(Debug, Serialize)]
pub(super) struct Measured<'a> {
    pub(super) measured: &'a str,
    pub(super) profile: &'a str,
    pub(super) rows: &'a [Row],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) paper: Option<String>,
}

impl<'a> Measured<'a> {
    pub(super) fn new(measured: &'a str, rows: &'a [Row]) -> Self {
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        Self { measured, profile, rows, paper: None }
    }

    /// Prints it as the user wants it.
    pub(super) fn print(&self, context: &Context) -> Result<()> {
        if context.out.json {
            return context.out.document(self);
        }
        context.out.line(format_args!("one core, {} build", self.profile))?;
        context.out.line(format_args!("measured {}\n", self.measured))?;
        context.out.line(table(self.rows).trim_fmt())?;
        if let Some(paper) = &self.paper {
            context.out.line(format_args!("\n{paper}"))?;
        }
        if self.profile == "debug" {
            context.out.note("this is not a release build: the figures say little");
        }
        Ok(())
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    let schemes = rows.iter().any(|row| row.n.is_some());
    let remarks = rows.iter().any(|row| row.remark.is_some());
    let mut head = vec!["BYTES", "OPERATION", "MEDIAN", "LEAST", "MBIT/S", "MS/MBIT"];
    if schemes {
        head.splice(0..0, ["N", "K"]);
    }
    if remarks {
        head.push("");
    }
    table.load_style(presets::NOTHING).set_header(head.clone());
    for row in rows {
        let mut cells = Vec::new();
        if schemes {
            cells.extend([row.n, row.k].map(|number| number.map(|n| n.to_string()).unwrap_or_default()));
        }
        cells.extend([
            units::size(row.bytes),
            row.operation.clone(),
            micros(row.timing.median_us),
            micros(row.timing.least_us),
            format!("{:.0}", row.mbit_per_second),
            format!("{:.3}", row.ms_per_mbit),
        ]);
        if remarks {
            cells.push(row.remark.unwrap_or_default().to_owned());
        }
        table.add_row(cells);
    }
    for (name, column) in head.iter().zip(table.column_iter_mut()) {
        if !["OPERATION", ""].contains(name) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// As [`units::micros`], and nanoseconds below.
fn micros(us: f64) -> String {
    if us < 10.0 {
        return format!("{:.0} ns", us * 1e3);
    }
    units::duration(Duration::from_secs_f64(us / 1e6))
}

/// Bytes without meaning, none of them special to the arithmetic.
pub(super) fn filler(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| ((at * 167 + seed * 59) % 251).to_le_bytes()[0]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_follow_from_the_median() {
        let timing = Timing { median_us: 500.0, least_us: 400.0, samples: 9 };
        let row = Row { n: Some(9), k: Some(5), ..Row::new("split", 125_000, timing) };
        assert!((row.mbit_per_second - 2000.0).abs() < 1e-6 && (row.ms_per_mbit - 0.5).abs() < 1e-9);
        let text = table(&[row]).to_string();
        for part in ["N", "OPERATION", "split", "500 µs", "2000", "0.500"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!((micros(0.25), micros(4200.0)), ("250 ns".to_owned(), "4.2 ms".to_owned()));
    }

    #[test]
    fn an_operation_is_repeated_often_enough() {
        let runtime = crate::cli::interrupt::runtime().unwrap();
        let interrupt = Interrupt::listen(&runtime).unwrap();
        let mut done = 0;
        let timing = time(Duration::ZERO, &interrupt, &mut || done += 1).unwrap();
        assert!(timing.samples == SAMPLES_MIN && done > SAMPLES_MIN);
        assert!(timing.least_us <= timing.median_us);
    }
}
