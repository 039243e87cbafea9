//! `dske bench pool`: how fast an application gets keys that were agreed ahead, over the control socket.

use std::time::{Duration, Instant};

use clap::Args;
use dske_node::control::{Client, KeyRun, Reply, Request, StreamSpec};
use dske_protocol::ids::Name;
use serde::Serialize;
use subtle::ConstantTimeEq;

use crate::{
    bench::{
        network::{Network, Size, two_clients},
        percentile::Percentiles,
        stream::{self, CONNECT_WAIT, KEY_WAIT, next_keys},
    },
    cli::{
        context::Context,
        control,
        error::{CliError, Result},
        progress::Progress,
        units,
    },
    demo::agree::cost_bytes,
    testnet::{Descriptor, NodeEntry, await_node},
};

/// How long the pool may take to fill before the measurement is given up, and the pause between two looks.
const FILL_WAIT: Duration = Duration::from_secs(300);
/// See [`FILL_WAIT`].
const FILL_PAUSE: Duration = Duration::from_millis(50);
/// Room for negotiation, for blocks under way and for what reserving ahead wastes.
const SPARE_BYTES: u64 = 64 << 20;
/// Keys that the receiver takes in one request when they are compared.
const COMPARED_AT_ONCE: u32 = 4096;

/// What the figures are, said with them.
const MEASURED: &str = "a request over the control socket until its keys are there, each handed out once and on record before; \
    all keys were agreed ahead, and are compared with the receiver's afterwards";

/// Arguments of `dske bench pool`.
#[derive(Debug, Args)]
pub(crate) struct PoolArgs {
    /// Number of hubs
    #[arg(long, default_value_t = 5)]
    hubs: u8,
    /// Shares needed for a key
    #[arg(short, default_value_t = 3)]
    k: u8,
    /// Length of each key
    #[arg(long, default_value = "256", value_parser = units::parse_bits)]
    bits: u64,
    /// Keys to take
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    keys: u32,
    /// Keys of one request
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Connections that ask at once
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=64))]
    parallel: u32,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    measured: &'static str,
    profile: &'static str,
    bits: u64,
    keys: u64,
    batch: u32,
    parallel: u32,
    took_us: u64,
    keys_per_second: u64,
    /// Of one request.
    request: Percentiles,
}

/// Runs `dske bench pool`.
pub(crate) fn run(args: &PoolArgs, context: &Context) -> Result<()> {
    let size = || {
        let lane_bytes = u64::from(args.keys) * args.bits / 8 + cost_bytes(0, 1) * 4096 + SPARE_BYTES;
        Ok(Size { hubs: args.hubs, k: args.k, lane_bytes })
    };
    let (report, _) = Network::measured(context, size, async |net| measure(net, args).await)?;
    print(&report, context)
}

async fn measure(net: &Descriptor, args: &PoolArgs) -> Result<Report> {
    let [alice, bob] = two_clients(net)?;
    // Filled once: what is measured is the taking.
    let spec = spec(&bob.name, args);
    let deadline = tokio::time::Instant::now() + CONNECT_WAIT;
    let mut sender = await_node(alice, deadline).await?;
    stream::order(&mut sender, Request::StreamOpen(spec.clone())).await?;
    fill(&mut sender, args.keys).await?;

    let requests = args.keys / args.batch / args.parallel;
    let began = Instant::now();
    let mut takers = Vec::new();
    for _ in 0..args.parallel {
        let connection = await_node(alice, deadline.max(tokio::time::Instant::now())).await?;
        takers.push(tokio::spawn(take(connection, spec.clone(), args.batch, requests)));
    }
    let (mut times, mut runs) = (Vec::new(), Vec::new());
    for taker in takers {
        let taken =
            taker.await.map_err(|error| CliError::new("dske::bench::pool", 1, error.to_string()))??;
        for (time, taken) in taken {
            times.push(time);
            runs.extend(taken);
        }
    }
    let took = began.elapsed();
    stream::order(&mut sender, Request::StreamClose(spec)).await?;
    let keys = runs.iter().map(|run| u64::from(run.count)).sum();
    compare(bob, runs).await?;
    let request = Percentiles::of(&times)
        .ok_or_else(|| CliError::usage("fewer keys than connections: choose a greater --keys"))?;
    let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    Ok(Report {
        measured: MEASURED,
        profile: if cfg!(debug_assertions) { "debug" } else { "release" },
        bits: args.bits,
        keys,
        batch: args.batch,
        parallel: args.parallel,
        took_us,
        keys_per_second: keys * 1_000_000 / took_us,
        request,
    })
}

fn spec(with: &Name, args: &PoolArgs) -> StreamSpec {
    StreamSpec {
        with: vec![with.clone().into()],
        purpose: "pool".into(),
        bits: args.bits,
        low: 1,
        high: args.keys,
    }
}

/// Waits until all keys lie in the pool.
async fn fill(sender: &mut Client, keys: u32) -> Result<()> {
    let deadline = Instant::now() + FILL_WAIT;
    loop {
        let status = stream::status(sender).await?;
        let there =
            status.streams.iter().filter(|stream| stream.purpose == "pool").map(|stream| stream.keys).sum();
        if u64::from(keys) <= there {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let text = format!("only {there} of {keys} keys were agreed in {FILL_WAIT:?}");
            return Err(CliError::new("dske::bench::pool", 1, text)
                .help("see `dske status` for the stream's problem"));
        }
        tokio::time::sleep(FILL_PAUSE).await;
    }
}

/// One application: asks, waits, and asks again.
async fn take(
    mut connection: Client,
    spec: StreamSpec,
    batch: u32,
    requests: u32,
) -> Result<Vec<(Duration, Vec<KeyRun>)>> {
    let mut taken = Vec::with_capacity(usize::try_from(requests).unwrap_or(0));
    for _ in 0..requests {
        let began = Instant::now();
        let keys = next_keys(&mut connection, &spec, batch).await?;
        taken.push((began.elapsed(), keys));
    }
    Ok(taken)
}

/// Takes the same keys at the receiver, many at once, and compares them.
async fn compare(receiver: &NodeEntry, mut runs: Vec<KeyRun>) -> Result<()> {
    let deadline = tokio::time::Instant::now() + CONNECT_WAIT;
    let mut receiver = await_node(receiver, deadline).await?;
    runs.sort_by_key(|run| run.first);
    let mut rest = runs.as_slice();
    while let Some(run) = rest.first() {
        let (mut together, mut count) = (1, run.count);
        while let Some(next) = rest.get(together) {
            let follows = next.first.block == run.first.block && next.first.index == run.first.index + count;
            if !follows || count + next.count > COMPARED_AT_ONCE {
                break;
            }
            (together, count) = (together + 1, count + next.count);
        }
        let (these, others) = rest.split_at(together);
        rest = others;
        let request = Request::KeyFetchRun { first: run.first, count };
        let Reply::Batch(batch) =
            control::call(&mut receiver, request, &Progress::hidden(), KEY_WAIT).await?
        else {
            return Err(CliError::strange_reply());
        };
        let theirs = batch.runs.iter().flat_map(|run| run.keys.expose().iter().copied());
        let ours = these.iter().flat_map(|run| run.keys.expose().iter().copied());
        let (ours, theirs): (Vec<u8>, Vec<u8>) = (ours.collect(), theirs.collect());
        if !bool::from(ours.ct_eq(&theirs)) {
            return Err(stream::differ(run.first));
        }
    }
    Ok(())
}

fn print(report: &Report, context: &Context) -> Result<()> {
    if context.out.json {
        return context.out.document(report);
    }
    let Report { keys, batch, parallel, keys_per_second, profile, request, .. } = report;
    context.out.line(format_args!("keys of {}, {profile} build", units::bits(report.bits)))?;
    context.out.line(format_args!("measured {MEASURED}\n"))?;
    context.out.line(format_args!(
        "{keys} keys, {batch} a request, {parallel} connections: {keys_per_second} keys/s"
    ))?;
    context.out.line(format_args!(
        "a request: p50 {}, p95 {}, p99 {}, at most {}",
        units::micros(request.p50_us),
        units::micros(request.p95_us),
        units::micros(request.p99_us),
        units::micros(request.max_us)
    ))?;
    if *profile == "debug" {
        context.out.note("this is not a release build: the figures say little");
    }
    Ok(())
}
