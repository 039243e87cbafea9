//! `dske bench shares`: how fast secrets are split and put together again, among false shares too.

use std::{hint::black_box, time::Duration};

use clap::Args;
use dske_protocol::{
    key_check::KeyCheck,
    params::{KEY_BYTES_MAX, share_bytes},
    reconstruct::{Reconstruction, WorkBound, reconstruct},
    sharing::{Scheme, SharingError},
    tag::KeyTag,
};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

use super::arithmetic::{Measured, Row, filler, time};
use crate::cli::{
    context::Context,
    error::{CliError, Result},
    interrupt::{self, Interrupt},
    progress::Progress,
    units,
};

/// What the figures are, said with them.
const MEASURED: &str = "on buffers in memory, per byte of key; the secret is the key and 40 bytes before it. split: n - k \
    derived shares and the secret from k random ones. first k: exclusive-or. any k: k shares of random positions through \
    their coefficients. false: all n shares of which so many are false, or none, among them as many of the first k as can be, \
    until the key tag validates the key, the other shares are compared and the false ones named; no encryption, no message tags";

/// The paper's example (§5.1): n, k, and what it says of it.
const PAPER: (u8, u8, &str) =
    (9, 5, "the paper gives about 1 ms/Mbit for share processing at n = 9, k = 5 (§5.1)");

/// Arguments of `dske bench shares`.
#[derive(Debug, Args)]
pub(crate) struct SharesArgs {
    /// Numbers of hubs, with commas
    #[arg(short, long, value_delimiter = ',', default_values_t = [9])]
    n: Vec<u8>,
    /// Shares needed for a key, with commas; each is measured with each n that is not less
    #[arg(short, long, value_delimiter = ',', default_values_t = [5])]
    k: Vec<u8>,
    /// Lengths of a key, with commas
    #[arg(long, value_delimiter = ',', default_values = ["32", "16KiB", "1MiB"], value_parser = units::parse_size)]
    bytes: Vec<u64>,
    /// How long each operation is repeated
    #[arg(long, default_value = "300ms", value_parser = units::parse_duration)]
    time: Duration,
}

/// Runs `dske bench shares`.
pub(crate) fn run(args: &SharesArgs, context: &Context) -> Result<()> {
    let runtime = interrupt::runtime()?;
    let interrupt = Interrupt::listen(&runtime)?;
    let schemes = schemes(args)?;
    let bytes_max = args.bytes.iter().max().copied().unwrap_or_default();
    if bytes_max > KEY_BYTES_MAX {
        return Err(CliError::usage(format!("a key of one agreement has at most {KEY_BYTES_MAX} bytes")));
    }
    let operations = |scheme: &Scheme| 4 + u64::from(scheme.n() - scheme.k());
    let steps = schemes.iter().map(operations).sum::<u64>() * args.bytes.len() as u64;
    let progress = Progress::steps("operations", &context.out);
    let mut rows = Vec::new();
    for scheme in &schemes {
        for &bytes in &args.bytes {
            let mut bench = Bench::new(scheme, bytes).map_err(impossible)?;
            bench.all(args.time, &interrupt, |row| {
                rows.push(row);
                progress.set(rows.len() as u64, steps);
            })?;
        }
    }
    progress.clear();
    let paper = compare(&rows, bytes_max);
    Measured { paper, ..Measured::new(MEASURED, &rows) }.print(context)
}

/// All pairs that make sense.
fn schemes(args: &SharesArgs) -> Result<Vec<Scheme>> {
    let pairs = args.n.iter().flat_map(|n| args.k.iter().map(move |k| (*n, *k)));
    let schemes: Vec<Scheme> = pairs.filter_map(|(n, k)| Scheme::new(n, k).ok()).collect();
    if schemes.is_empty() {
        return Err(CliError::usage("no pair of --n and --k has 1 ≤ k ≤ n"));
    }
    Ok(schemes)
}

/// Lengths and positions are right by construction.
fn impossible(error: SharingError) -> CliError {
    CliError::new("dske::bench::shares", 1, "the arithmetic refused its own shares").because(error)
}

/// The paper's example beside what was measured, where it was.
fn compare(rows: &[Row], bytes: u64) -> Option<String> {
    let (n, k, says) = PAPER;
    let of = |operation: &str| {
        let mut rows = rows.iter().filter(|row| (row.n, row.k, row.bytes) == (Some(n), Some(k), bytes));
        rows.find(|row| row.operation == operation).map(|row| row.ms_per_mbit)
    };
    Some(format!(
        "{says}; here, with {}: split {:.3}, reconstruct {:.3} from the first k, {:.3} from any k",
        units::size(bytes),
        of(SPLIT)?,
        of(FIRST)?,
        of(ANY)?
    ))
}

const SPLIT: &str = "split";
const FIRST: &str = "reconstruct, first k";
const ANY: &str = "reconstruct, any k";

/// Shares of one secret, and buffers to work in.
struct Bench<'a> {
    scheme: &'a Scheme,
    /// Bytes of key.
    bytes: u64,
    shares: Vec<Vec<u8>>,
    secret: Vec<u8>,
    /// For what the operations write.
    scratch: Vec<u8>,
    rng: StdRng,
}

impl<'a> Bench<'a> {
    fn new(scheme: &'a Scheme, bytes: u64) -> std::result::Result<Self, SharingError> {
        let len = usize::try_from(share_bytes(bytes, 1)).unwrap_or(usize::MAX);
        let (k, n) = (usize::from(scheme.k()), usize::from(scheme.n()));
        let mut shares: Vec<Vec<u8>> = (0..k).map(|seed| filler(len, seed)).collect();
        shares.resize(n, vec![0; len]);
        let mut secret = vec![0; len];
        split(scheme, &mut shares, &mut secret)?;
        Ok(Self { scheme, bytes, shares, secret, scratch: vec![0; len], rng: StdRng::seed_from_u64(1) })
    }

    fn all(&mut self, budget: Duration, interrupt: &Interrupt, mut found: impl FnMut(Row)) -> Result<()> {
        let (n, k, bytes) = (self.scheme.n(), self.scheme.k(), self.bytes);
        let mut row = |operation: &str, timing| {
            found(Row { n: Some(n), k: Some(k), ..Row::new(operation, bytes, timing) });
        };
        let scheme = self.scheme;
        let mut targets = self.shares.clone();
        row(
            SPLIT,
            time(budget, interrupt, &mut || {
                // The derived shares change each time, since they are added onto; how long it takes does not.
                let _ = split(scheme, &mut targets, &mut self.scratch);
                black_box(&targets);
            })?,
        );
        drop(targets);

        let first: Vec<u8> = (0..k).collect();
        let mut any: Vec<u8> = (0..n).collect();
        any.shuffle(&mut self.rng);
        any.truncate(k.into());
        for (operation, positions) in [(FIRST, first), (ANY, any)] {
            let given: Vec<&[u8]> =
                positions.iter().map(|at| self.shares[usize::from(*at)].as_slice()).collect();
            let timing = time(budget, interrupt, &mut || {
                self.scratch.fill(0);
                let _ = scheme.reconstruct_onto(&positions, black_box(&given), &mut self.scratch);
            })?;
            if self.scratch != self.secret {
                return Err(CliError::new("dske::bench::shares", 1, "a wrong secret was reconstructed"));
            }
            row(operation, timing);
        }
        for liars in 0..=n - k {
            found(self.among_false(liars, budget, interrupt)?);
        }
        Ok(())
    }

    /// Reconstruction from all shares, the first ones of which are false, each in its own way.
    fn among_false(&mut self, liars: u8, budget: Duration, interrupt: &Interrupt) -> Result<Row> {
        let Some((u, key)) = self.secret.split_first_chunk() else {
            return Err(CliError::new("dske::bench::shares", 1, "a secret is shorter than its tag's key"));
        };
        let check = KeyCheck::new(b"bench".to_vec(), KeyTag::of(u, b"bench", key));
        let mut shares = self.shares.clone();
        for (liar, share) in shares.iter_mut().enumerate().take(liars.into()) {
            let lie = filler(share.len(), 100 + 7 * liar);
            share.iter_mut().zip(lie).for_each(|(byte, lie)| *byte ^= lie);
        }
        let given: Vec<(u8, &[u8])> = (0..).zip(shares.iter().map(Vec::as_slice)).collect();
        let (scheme, bound) = (self.scheme, WorkBound::default());
        let mut last = None;
        let timing = time(budget, interrupt, &mut || {
            let found = reconstruct(scheme, &given, &check, &bound, &mut self.rng, &|| false);
            last = Some(found);
        })?;
        let remark = match last {
            Some(Ok(Reconstruction::Found(found))) if *found.secret == self.secret => None,
            Some(Ok(Reconstruction::None { exhausted: false, .. })) => {
                Some("given up: the bound on work was reached")
            }
            _ => return Err(CliError::new("dske::bench::shares", 1, "a wrong secret was reconstructed")),
        };
        let (n, k) = (Some(scheme.n()), Some(scheme.k()));
        Ok(Row { n, k, remark, ..Row::new(format!("reconstruct, {liars} false"), self.bytes, timing) })
    }
}

/// Adds the derived shares onto the last n − k buffers, and the secret onto its own.
fn split(
    scheme: &Scheme,
    shares: &mut [Vec<u8>],
    secret: &mut [u8],
) -> std::result::Result<(), SharingError> {
    let (first, rest) = shares.split_at_mut(scheme.k().into());
    let first: Vec<&[u8]> = first.iter().map(Vec::as_slice).collect();
    let mut rest: Vec<&mut [u8]> = rest.iter_mut().map(Vec::as_mut_slice).collect();
    scheme.derive_onto(&first, &mut rest)?;
    scheme.secret_onto(&first, secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_measured_and_right() {
        let runtime = interrupt::runtime().unwrap();
        let interrupt = Interrupt::listen(&runtime).unwrap();
        for (n, k) in [(1, 1), (4, 4), (9, 5), (5, 1)] {
            let scheme = Scheme::new(n, k).unwrap();
            let mut rows = Vec::new();
            let mut bench = Bench::new(&scheme, 100).unwrap();
            bench.all(Duration::ZERO, &interrupt, |row| rows.push(row)).unwrap();
            assert_eq!(rows.len(), usize::from(4 + n - k));
            assert!(rows.iter().all(|row| row.mbit_per_second > 0.0 && row.remark.is_none()));
            assert_eq!(compare(&rows, 100).is_some(), (n, k) == (9, 5));
        }
    }

    #[test]
    fn pairs_without_sense_are_left_out() {
        let args = |n: &[u8], k: &[u8]| SharesArgs {
            n: n.to_vec(),
            k: k.to_vec(),
            bytes: vec![32],
            time: Duration::ZERO,
        };
        assert_eq!(schemes(&args(&[3, 9], &[2, 5])).unwrap().len(), 3);
        assert!(schemes(&args(&[3], &[4])).is_err());
    }
}
