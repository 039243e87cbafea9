//! What a measurement of agreements found, for people and as JSON, with what exactly was measured.

use comfy_table::{CellAlignment, Table, presets};
use dske_node::config::Role;
use serde::Serialize;

use crate::{
    bench::percentile::Percentiles,
    cli::{context::Context, error::Result, units},
    testnet::Descriptor,
};

/// What the figures are, said with them.
const MEASURED: &str = "from `key get` sent until the key is taken at the receiver too; sender, receiver and hubs are \
    separate processes on this machine; records are durable; keys compared; warm-up left out";
/// What one run found.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    pub(super) parallel: u64,
    pub(super) keys: u64,
    pub(super) failed: u64,
    pub(super) took_us: u64,
    pub(super) keys_per_second: f64,
    pub(super) end_to_end: Percentiles,
    pub(super) sender: Percentiles,
}

/// Prints what was found.
pub(super) fn print(net: &Descriptor, bits: u64, runs: &[Run], context: &Context) -> Result<()> {
    #[derive(Serialize)]
    struct Document<'a> {
        measured: &'a str,
        profile: &'a str,
        hubs: usize,
        k: u8,
        bits: u64,
        runs: &'a [Run],
    }
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let (hubs, k) = (net.with_role(Role::Hub).count(), net.k);
    if context.out.json {
        return context.out.document(&Document { measured: MEASURED, profile, hubs, k, bits, runs });
    }
    context.out.line(format_args!("{} keys, n = {hubs}, k = {k}, {profile} build", units::bits(bits)))?;
    context.out.line(format_args!("measured {MEASURED}\n"))?;
    context.out.line(table(runs).trim_fmt())?;
    if profile == "debug" {
        context.out.note("this is not a release build: the figures say little");
    }
    Ok(())
}

fn table(runs: &[Run]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "AT ONCE",
        "KEYS",
        "FAILED",
        "P50",
        "P95",
        "P99",
        "MAX",
        "SENDER P50",
        "KEYS/S",
    ]);
    for run in runs {
        table.add_row([
            run.parallel.to_string(),
            run.keys.to_string(),
            run.failed.to_string(),
            units::micros(run.end_to_end.p50_us),
            units::micros(run.end_to_end.p95_us),
            units::micros(run.end_to_end.p99_us),
            units::micros(run.end_to_end.max_us),
            units::micros(run.sender.p50_us),
            format!("{:.0}", run.keys_per_second),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_its_columns() {
        let times = Percentiles { p50_us: 4_100, p95_us: 8_000, p99_us: 9_000, max_us: 20_000 };
        let run = Run {
            parallel: 16,
            keys: 500,
            failed: 0,
            took_us: 1,
            keys_per_second: 625.0,
            end_to_end: times,
            sender: times,
        };
        let text = table(&[run]).to_string();
        for part in ["AT ONCE", "P99", "KEYS/S", "4.1 ms", "625"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
