//! `dske experiment fig5`: processing time of sender and receiver against n and k (§5.1, Fig. 5).

mod figure;
mod measure;
mod report;

use std::path::PathBuf;

use clap::Args;
use dske_protocol::params::KEY_BYTES_MAX;

use self::{
    figure::Fig5Figure,
    measure::Sample,
    report::{Document, Point},
};
use crate::{
    cli::{
        context::Context,
        error::{CliError, Result},
        interrupt::{self, Interrupt},
        progress::Progress,
        units,
    },
    experiment::files::{self, Results},
};

/// Arguments of `dske experiment fig5`.
#[derive(Debug, Args)]
pub(crate) struct Fig5Args {
    /// Every n up to this one, with every k up to n; fewer are quicker
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u8).range(1..=20))]
    n_max: u8,
    /// Length of the key; the paper's 8 Mbit are 2^20 bytes
    #[arg(long, default_value = "8Mibit", value_parser = units::parse_bits)]
    bits: u64,
    /// Agreements for each n and k; their median counts
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// Directory for the results
    #[arg(long, default_value = "dske-experiments/fig5", value_name = "DIR")]
    out: PathBuf,
}

/// Runs `dske experiment fig5`.
pub(crate) fn run(args: &Fig5Args, context: &Context) -> Result<()> {
    let key_bytes = u32::try_from(args.bits / 8).ok().filter(|bytes| u64::from(*bytes) <= KEY_BYTES_MAX);
    let key_bytes = key_bytes.ok_or_else(|| {
        CliError::usage(format!("a key of one agreement has at most {KEY_BYTES_MAX} bytes"))
            .help("choose --bits 8Mibit or less")
    })?;
    let runtime = interrupt::runtime()?;
    let interrupt = Interrupt::listen(&runtime)?;
    let directory = files::directory(&args.out)?;
    let points = measure_all(args, key_bytes, &interrupt, context)?;
    let document = Document::new(args.bits, args.runs, points);
    let figure = Fig5Figure::new(&document);
    Results { name: "fig5", document: &document, csv: document.csv(), figure: &figure }.publish(
        &directory,
        &document.text(),
        context,
    )
}

/// One agreement after the other for all n and k, then all of that again: what disturbs the machine for a while
/// then disturbs one run of many points, not all runs of a few.
fn measure_all(
    args: &Fig5Args,
    key_bytes: u32,
    interrupt: &Interrupt,
    context: &Context,
) -> Result<Vec<Point>> {
    let grid: Vec<(u8, u8)> = (1..=args.n_max).flat_map(|n| (1..=n).map(move |k| (n, k))).collect();
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); grid.len()];
    let progress = Progress::steps("agreements", &context.out);
    let steps = u64::from(args.runs) * grid.len() as u64;
    let mut done = 0;
    // The first agreement finds everything cold, and is left out.
    measure::sample(args.n_max, 1, key_bytes, 0)?;
    for run in 0..args.runs {
        for ((n, k), samples) in grid.iter().zip(&mut samples) {
            interrupt.check()?;
            samples.push(measure::sample(*n, *k, key_bytes, run.into())?);
            done += 1;
            progress.set(done, steps);
        }
    }
    progress.clear();
    let points = grid.into_iter().zip(samples);
    Ok(points.filter_map(|((n, k), samples)| Point::of(n, k, args.bits, &samples)).collect())
}
