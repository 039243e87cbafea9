//! `dske bench session`: how fast keys are agreed, with everything that a user's key goes through: real
//! processes, real sockets, durable records, and the key taken at both ends.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use clap::Args;
use dske_protocol::ids::Name;

use crate::{
    bench::{
        network::{Network, Size, two_clients},
        percentile::Percentiles,
        report::{self, Run},
    },
    cli::{
        context::Context,
        error::{CliError, Result},
        units,
    },
    demo::agree::{Order, agree, cost_bytes},
    testnet::{Descriptor, NodeEntry, await_node},
};

/// How long a node gets to answer at the start.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// Smallest lane: identity, synchronisation and reserves need some of it.
const LANE_BYTES_MIN: u64 = 8 << 20;
/// Largest: more is a mistake.
const LANE_BYTES_MAX: u64 = 1 << 39;

/// Arguments of `dske bench session`.
#[derive(Debug, Args)]
pub(crate) struct SessionArgs {
    /// Number of hubs
    #[arg(long, default_value_t = 5)]
    hubs: u8,
    /// Shares needed for a key
    #[arg(short, default_value_t = 3)]
    k: u8,
    /// Length of each key
    #[arg(long, default_value = "256", value_parser = units::parse_bits)]
    bits: u64,
    /// Keys measured for each number at once
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    count: u64,
    /// Agreements at once; several numbers with commas are measured one after the other
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16], value_parser = clap::value_parser!(u64).range(1..=256))]
    parallel: Vec<u64>,
}

impl SessionArgs {
    /// Keys agreed before the measurement begins.
    fn warm_up(&self, parallel: u64) -> u64 {
        (self.count / 10).clamp(parallel, 100.max(parallel))
    }

    /// Enough pad for all runs in one direction, with half as much again in reserve.
    fn lane_bytes(&self) -> Result<u64> {
        let keys: u64 =
            self.parallel.iter().map(|parallel| self.count.saturating_add(self.warm_up(*parallel))).sum();
        let lane = keys
            .checked_mul(cost_bytes(self.bits, 1))
            .and_then(|bytes| bytes.checked_mul(3))
            .map(|bytes| bytes / 2);
        lane.filter(|bytes| *bytes <= LANE_BYTES_MAX).map(|bytes| bytes.max(LANE_BYTES_MIN)).ok_or_else(
            || {
                CliError::usage("so many keys of that length need more than 512 GiB of pad")
                    .help("choose a smaller --count or --bits")
            },
        )
    }
}

/// Runs `dske bench session`.
pub(crate) fn run(args: &SessionArgs, context: &Context) -> Result<()> {
    let size = || Ok(Size { hubs: args.hubs, k: args.k, lane_bytes: args.lane_bytes()? });
    let (runs, descriptor) = Network::measured(context, size, async |net| measure_all(net, args).await)?;
    report::print(&descriptor, args.bits, &runs, context)
}

async fn measure_all(net: &Descriptor, args: &SessionArgs) -> Result<Vec<Run>> {
    let [alice, bob] = two_clients(net)?;
    let mut runs = Vec::new();
    for parallel in &args.parallel {
        many(alice, bob, args.bits, args.warm_up(*parallel), *parallel).await?;
        runs.push(measure(alice, bob, args, *parallel).await?);
    }
    Ok(runs)
}

async fn measure(alice: &NodeEntry, bob: &NodeEntry, args: &SessionArgs, parallel: u64) -> Result<Run> {
    let (samples, took) = many(alice, bob, args.bits, args.count, parallel).await?;
    let good: Vec<&Sample> = samples.iter().flatten().collect();
    let end_to_end: Vec<Duration> = good.iter().map(|sample| sample.took).collect();
    let sender: Vec<Duration> = good.iter().map(|sample| sample.sender_took).collect();
    let keys = u64::try_from(good.len()).unwrap_or(u64::MAX);
    let (Some(end_to_end), Some(sender)) = (Percentiles::of(&end_to_end), Percentiles::of(&sender)) else {
        return Err(CliError::new("dske::bench::session", 1, "no key was agreed").help("see the nodes' logs"));
    };
    Ok(Run {
        parallel,
        keys,
        failed: args.count.saturating_sub(keys),
        took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        keys_per_second: per_second(keys, took),
        end_to_end,
        sender,
    })
}

/// Times of one key that both sides hold alike.
#[derive(Debug, Clone, Copy)]
struct Sample {
    took: Duration,
    sender_took: Duration,
}

/// Agrees `count` keys over `parallel` pairs of connections, and tells how long all of it took. A key that
/// fails counts as `None`; keys that differ end the measurement.
async fn many(
    alice: &NodeEntry,
    bob: &NodeEntry,
    bits: u64,
    count: u64,
    parallel: u64,
) -> Result<(Vec<Option<Sample>>, Duration)> {
    let deadline = tokio::time::Instant::now() + CONNECT_WAIT;
    let mut pairs = Vec::new();
    for _ in 0..parallel {
        pairs.push((await_node(alice, deadline).await?, await_node(bob, deadline).await?));
    }
    let begun = AtomicU64::new(0);
    let order = Order { with: vec![bob.name.clone()], bits };
    let (begun, order) = (&begun, &order);
    let worker = |(mut sender, mut receiver)| async move {
        let mut samples = Vec::new();
        while begun.fetch_add(1, Ordering::Relaxed) < count {
            samples.push(match agree(&mut sender, &mut [&mut receiver], order).await {
                Ok(agreed) if !agreed.equal => return Err(differ(&alice.name, &bob.name)),
                Ok(agreed) => Some(Sample { took: agreed.took, sender_took: agreed.sender_took }),
                Err(error) => {
                    tracing::warn!(code = error.code(), "a key failed: {error}");
                    None
                }
            });
        }
        Ok(samples)
    };
    let began = Instant::now();
    let samples = futures::future::try_join_all(pairs.into_iter().map(worker)).await?;
    Ok((samples.into_iter().flatten().collect(), began.elapsed()))
}

fn differ(one: &Name, other: &Name) -> CliError {
    CliError::new("dske::bench::differ", 5, format!("{one} and {other} hold different keys under one id"))
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people; counts stay far below 2^53")]
fn per_second(keys: u64, took: Duration) -> f64 {
    let rate = keys as f64 / took.as_secs_f64().max(f64::MIN_POSITIVE);
    (rate * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(bits: u64, count: u64) -> SessionArgs {
        SessionArgs { hubs: 5, k: 3, bits, count, parallel: vec![1, 16] }
    }

    #[test]
    fn the_pads_suffice_for_all_runs() {
        let args = args(8_000_000, 50);
        let keys = 50 * 2 + args.warm_up(1) + args.warm_up(16);
        assert!(args.lane_bytes().is_ok_and(|bytes| bytes > keys * cost_bytes(8_000_000, 1)));
        assert!(super::tests::args(256, 10).lane_bytes().is_ok_and(|bytes| bytes == LANE_BYTES_MIN));
        assert!(super::tests::args(8_000_000, 1_000_000).lane_bytes().is_err());
    }
}
