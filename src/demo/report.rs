//! What the demo tells: each step as it happens, and a table of all at the end.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::{
    cli::{error::Result, output::Output, units},
    testnet::Plan,
};

/// Width of the table where there is no terminal.
const TABLE_COLUMNS: u16 = 110;
/// Narrower than this no table can be read.
const TABLE_COLUMNS_MIN: u16 = 60;

/// One step of the story.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Step {
    /// What is done.
    pub(crate) step: String,
    /// What came of it.
    pub(crate) result: String,
    /// Whether it was as it must be.
    pub(crate) ok: bool,
    /// How long it took.
    pub(crate) took_us: u64,
    /// Pad bytes burned at each hub of the roster, on the sender's side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) burned_bytes_per_hub: Option<u64>,
}

/// What a step came to, before it is told.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// For people.
    pub(crate) result: String,
    /// Whether it was as it must be.
    pub(crate) ok: bool,
    /// Instead of the whole step's time.
    pub(crate) took: Option<Duration>,
    /// See [`Step`].
    pub(crate) burned_bytes: Option<u64>,
}

impl Outcome {
    /// Something that either went as it must or not.
    pub(crate) fn of(ok: bool, result: impl Into<String>) -> Self {
        Self { result: result.into(), ok, took: None, burned_bytes: None }
    }
}

/// All steps so far.
#[derive(Debug)]
pub(crate) struct Report {
    out: Output,
    began: Instant,
    steps: Vec<Step>,
}

impl Report {
    /// An empty one.
    pub(crate) fn new(out: Output) -> Self {
        Self { out, began: Instant::now(), steps: Vec::new() }
    }

    /// Says what is going to happen.
    pub(crate) fn opening(&self, plan: &Plan) -> Result<()> {
        if self.out.json {
            return Ok(());
        }
        let Plan { hubs, clients, peers, k, .. } = plan;
        let pads = units::size(plan.pads.table_bytes());
        let nodes = match peers {
            0 => format!("{hubs} hubs, {clients} clients"),
            peers => format!("{peers} nodes, each hub and client of each other"),
        };
        self.out.line(format_args!("{nodes}, k = {k}, pads of {pads}: separate processes on loopback"))
    }

    /// Adds a step and tells it.
    pub(crate) fn add(&mut self, step: &str, began: Instant, outcome: Outcome) -> Result<()> {
        let took = outcome.took.unwrap_or_else(|| began.elapsed());
        let Outcome { result, ok, burned_bytes, .. } = outcome;
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if !self.out.json {
            let mark = if ok { self.out.good() } else { self.out.bad() };
            let time = self.out.dim(units::micros(took_us));
            self.out.line(format_args!("{mark} {step}: {result}  {time}"))?;
        }
        let step = step.to_owned();
        self.steps.push(Step { step, result, ok, took_us, burned_bytes_per_hub: burned_bytes });
        Ok(())
    }

    /// Prints the table, and gives the exit status.
    pub(crate) fn close(self) -> Result<ExitCode> {
        #[derive(Serialize)]
        struct Document {
            ok: bool,
            took_us: u64,
            steps: Vec<Step>,
        }
        let ok = !self.steps.is_empty() && self.steps.iter().all(|step| step.ok);
        let took = self.began.elapsed();
        if self.out.json {
            let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            self.out.document(&Document { ok, took_us, steps: self.steps })?;
        } else {
            self.out.line(format_args!("\n{}\n", table(&self.steps).trim_fmt()))?;
            let (mark, word) = match ok {
                true => (self.out.good(), "everything went as it must"),
                false => (self.out.bad(), "not everything went as it must"),
            };
            self.out
                .line(format_args!("{mark} {word}, in {}; nothing is left behind", units::duration(took)))?;
        }
        Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn table(steps: &[Step]) -> Table {
    let mut table = Table::new();
    let width = dske_tui::terminal::width().unwrap_or(TABLE_COLUMNS).max(TABLE_COLUMNS_MIN);
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width)
        .set_header(["", "STEP", "RESULT", "TIME", "PAD BURNED PER HUB"]);
    for step in steps {
        table.add_row([
            if step.ok { "✓" } else { "✗" }.to_owned(),
            step.step.clone(),
            step.result.clone(),
            units::micros(step.took_us),
            step.burned_bytes_per_hub.map_or_else(String::new, |bytes| format!("{bytes} B")),
        ]);
    }
    for column in [3, 4] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report::new(Output { json: false, quiet: true, color: false, color_stderr: false })
    }

    #[test]
    fn the_table_has_a_row_for_each_step() {
        let step = |ok, burned| Step {
            step: "256 bit alice → bob".into(),
            result: "same key".into(),
            ok,
            took_us: 4_100,
            burned_bytes_per_hub: burned,
        };
        let text = table(&[step(true, Some(96)), step(false, None)]).to_string();
        for part in ["PAD BURNED PER HUB", "✓", "✗", "96 B", "4.1 ms", "alice → bob"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn the_exit_status_tells_the_truth() {
        let close = |outcomes: &[bool]| {
            let mut report = report();
            for ok in outcomes {
                report.add("step", Instant::now(), Outcome::of(*ok, "done")).expect("told");
            }
            format!("{:?}", report.close().expect("closed"))
        };
        let (good, bad) = (format!("{:?}", ExitCode::SUCCESS), format!("{:?}", ExitCode::FAILURE));
        assert_eq!((close(&[true, true]), close(&[true, false]), close(&[])), (good, bad.clone(), bad));
    }
}
