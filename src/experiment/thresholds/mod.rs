//! `dske experiment thresholds`: is the disruption threshold where §4.2 puts it, and is it as sharp as §5.1 says?
//! Every number of bad hubs, for every kind of attack, on the machines of sender, hubs and receiver.

mod attack;
mod figure;
mod report;
mod trial;

use std::{path::PathBuf, str::FromStr};

use clap::{Args, ValueEnum};
use dske_protocol::params::disruption_threshold;
use serde::Serialize;

pub(crate) use self::attack::Attack;
use self::{
    figure::ThresholdsFigure,
    report::{Document, Row},
    trial::Counts,
};
use crate::{
    cli::{
        context::Context,
        error::Result,
        interrupt::{self, Interrupt},
        progress::Progress,
    },
    experiment::files::{self, Results},
};

/// Most hubs of a scheme here: as many as the paper's evaluation has (§5.1). Also what the search among false
/// shares decides in a second or less.
const HUBS_MAX: u8 = 20;

/// Arguments of `dske experiment thresholds`.
#[derive(Debug, Args)]
pub(crate) struct ThresholdsArgs {
    /// Hubs, shares needed, and the least k that the receiver accepts: N,K,KB. May be given several times
    #[arg(long = "scheme", value_name = "N,K,KB", default_values = ["3,2,2", "5,3,3", "9,3,3", "9,5,5", "9,5,3", "9,7,7"])]
    schemes: Vec<Scheme>,
    /// Kinds of attack [default: all]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND")]
    attacks: Vec<Attack>,
    /// Agreements for each kind of attack and number of bad hubs
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// Where everything that is drawn begins; the same number gives the same results
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Directory for the results
    #[arg(long, default_value = "dske-experiments/thresholds", value_name = "DIR")]
    out: PathBuf,
}

/// n, k and the paper's k_B.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Scheme {
    /// Hubs.
    pub(super) n: u8,
    /// Shares needed.
    pub(super) k: u8,
    /// The least k that the receiver accepts.
    pub(super) k_min: u8,
}

impl Scheme {
    /// Bad hubs that it takes to stop an agreement: min(n − k + 1, k_B).
    fn disruption(self) -> u8 {
        disruption_threshold(self.n, self.k, self.k_min)
    }
}

impl FromStr for Scheme {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let numbers: Vec<u8> = text.split(',').filter_map(|part| part.trim().parse().ok()).collect();
        let (n, k, k_min) = match numbers.as_slice() {
            [n, k] => (*n, *k, *k),
            [n, k, k_min] => (*n, *k, *k_min),
            _ => return Err("expected N,K,KB such as 5,3,3".into()),
        };
        if !(1 <= k_min && k_min <= k && k <= n && n <= HUBS_MAX) {
            return Err(format!("expected 1 ≤ KB ≤ K ≤ N ≤ {HUBS_MAX}"));
        }
        Ok(Self { n, k, k_min })
    }
}

/// Runs `dske experiment thresholds`.
pub(crate) fn run(args: &ThresholdsArgs, context: &Context) -> Result<()> {
    let runtime = interrupt::runtime()?;
    let interrupt = Interrupt::listen(&runtime)?;
    let directory = files::directory(&args.out)?;
    let attacks = if args.attacks.is_empty() { Attack::value_variants() } else { &args.attacks };
    let progress = Progress::steps("agreements", &context.out);
    let steps = args.schemes.iter().map(|scheme| u64::from(scheme.n) + 1).sum::<u64>() * attacks.len() as u64;
    let mut rows = Vec::new();
    for &scheme in &args.schemes {
        for &attack in attacks {
            for bad in 0..=scheme.n {
                rows.push(Row::new(scheme, attack, bad, count(args, scheme, attack, bad, &interrupt)?));
                progress.set(rows.len() as u64, steps);
            }
        }
    }
    progress.clear();
    let document = Document::new(args.runs, args.seed, rows);
    let figure = ThresholdsFigure::new(&document.rows);
    Results { name: "thresholds", document: &document, csv: document.csv(), figure: &figure }.publish(
        &directory,
        &document.text(),
        context,
    )
}

fn count(
    args: &ThresholdsArgs,
    scheme: Scheme,
    attack: Attack,
    bad: u8,
    interrupt: &Interrupt,
) -> Result<Counts> {
    let mut counts = Counts::default();
    for run in 0..args.runs {
        interrupt.check()?;
        // Any mixture does that gives each agreement of a command another seed.
        let place = [scheme.n, scheme.k, scheme.k_min, attack as u8, bad].map(u64::from);
        let seed = place.iter().fold(args.seed, |seed, part| seed.wrapping_mul(257).wrapping_add(*part));
        counts.add(trial::run(scheme, attack, bad, seed.wrapping_mul(1 << 20).wrapping_add(run.into())));
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_read_and_checked() {
        assert_eq!("9,5,3".parse(), Ok(Scheme { n: 9, k: 5, k_min: 3 }));
        assert_eq!("9,5".parse(), Ok(Scheme { n: 9, k: 5, k_min: 5 }));
        for bad in ["", "9", "9,10", "9,5,6", "9,5,0", "21,5,5", "9,5,3,1", "a,b,c"] {
            assert!(bad.parse::<Scheme>().is_err(), "{bad}");
        }
        assert_eq!(Scheme { n: 9, k: 5, k_min: 3 }.disruption(), 3);
    }
}
