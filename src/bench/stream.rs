//! `dske bench stream`: how fast keys are agreed ahead and taken, at both ends: real processes, real sockets, durable
//! records, pads on the disk.

use std::time::{Duration, Instant};

use clap::Args;
use dske_node::{
    config::Role,
    control::{Client, KeyRun, Reply, Request, StreamSpec},
    status::Status,
};
use dske_protocol::ids::KeyId;
use serde::Serialize;

use crate::{
    bench::network::{Network, Size, two_clients},
    cli::{
        context::Context,
        control,
        error::{CliError, Result},
        progress::Progress,
        units,
    },
    demo::agree::cost_bytes,
    testnet::{Descriptor, await_node},
};

/// How long a node gets to answer at the start.
pub(super) const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// How long keys are awaited before the measurement is given up.
pub(super) const KEY_WAIT: Duration = Duration::from_secs(60);
/// Bytes of key that are taken at once.
const BATCH_BYTES: u64 = 1 << 20;
/// Bytes of key that the pool holds.
const POOL_BYTES: u64 = 16 << 20;
/// The rate is shown for so many parts of the whole.
const SLICES: usize = 8;
/// Room for the pool, for blocks under way, for negotiation and for what reserving ahead wastes.
const SPARE_BYTES: u64 = 64 << 20;

/// What the figures are, said with them.
const MEASURED: &str = "key bytes taken at the sender and, by their ids, at the receiver, and compared; sender, receiver \
    and hubs are separate processes on this machine; pads on the disk, records durable; the first pool is left out";

/// Arguments of `dske bench stream`.
#[derive(Debug, Args)]
pub(crate) struct StreamArgs {
    /// Number of hubs
    #[arg(long, default_value_t = 5)]
    hubs: u8,
    /// Shares needed for a key
    #[arg(short, default_value_t = 3)]
    k: u8,
    /// Length of each key
    #[arg(long, default_value = "64Kibit", value_parser = units::parse_bits)]
    bits: u64,
    /// Bytes of key to take
    #[arg(long, default_value = "128MiB", value_parser = units::parse_size)]
    bytes: u64,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    measured: &'static str,
    profile: &'static str,
    hubs: usize,
    k: u8,
    bits: u64,
    protocol: String,
    key_bytes: u64,
    took_us: u64,
    mbit_per_s: f64,
    /// For equal parts of the whole, one after the other.
    slices_mbit_per_s: Vec<f64>,
    /// Bytes that the sender sent to all others, as a part of the key bytes.
    sent_per_key_byte: f64,
    /// Most memory of each node, in bytes, as the system counts it.
    memory_bytes: Vec<(String, u64)>,
}

/// Runs `dske bench stream`.
pub(crate) fn run(args: &StreamArgs, context: &Context) -> Result<()> {
    if args.bits / 8 > BATCH_BYTES {
        return Err(CliError::usage("a key of a stream has at most 8 Mibit"));
    }
    let size = || {
        let lane_bytes = args.bytes + cost_bytes(0, 1) * (args.bytes / BATCH_BYTES + 1) + SPARE_BYTES;
        Ok(Size { hubs: args.hubs, k: args.k, lane_bytes })
    };
    let (report, _) = Network::measured(context, size, async |net| measure(net, args).await)?;
    print(&report, context)
}

async fn measure(net: &Descriptor, args: &StreamArgs) -> Result<Report> {
    let [alice, bob] = two_clients(net)?;
    let deadline = tokio::time::Instant::now() + CONNECT_WAIT;
    let (mut sender, mut receiver) = (await_node(alice, deadline).await?, await_node(bob, deadline).await?);
    let each = args.bits / 8;
    let high = u32::try_from(POOL_BYTES / each.max(1)).unwrap_or(u32::MAX);
    let spec = StreamSpec {
        with: vec![bob.name.clone().into()],
        purpose: "bench".into(),
        bits: args.bits,
        low: high,
        high,
    };
    order(&mut sender, Request::StreamOpen(spec.clone())).await?;
    let count = u32::try_from((BATCH_BYTES / each.max(1)).max(1)).unwrap_or(u32::MAX);
    // The first pool, and whatever is agreed only once.
    for _ in 0..POOL_BYTES / BATCH_BYTES {
        take(&mut sender, &mut receiver, &spec, count).await?;
    }
    let before = status(&mut sender).await?;
    let began = Instant::now();
    let (mut taken, mut slices, mut slice_began) = (0_u64, Vec::new(), (Instant::now(), 0));
    let batches = args.bytes.div_ceil(u64::from(count) * each).max(1);
    let mut memory = Memory::default();
    for batch in 1..=batches {
        taken += take(&mut sender, &mut receiver, &spec, count).await?;
        memory.look(net);
        let due = batch * SLICES as u64 / batches > (batch - 1) * SLICES as u64 / batches;
        if due {
            slices.push(mbit_per_s(taken - slice_began.1, slice_began.0.elapsed()));
            slice_began = (Instant::now(), taken);
        }
    }
    let took = began.elapsed();
    let after = status(&mut sender).await?;
    order(&mut sender, Request::StreamClose(spec)).await?;
    let sent = after.counters.sent_bytes.saturating_sub(before.counters.sent_bytes);
    // What was agreed meanwhile: the pool may be fuller or emptier than at the beginning.
    let agreed = |status: &Status| status.streams.iter().map(|stream| stream.agreed).sum::<u64>() * each;
    let agreed = agreed(&after).saturating_sub(agreed(&before)).max(1);
    Ok(Report {
        measured: MEASURED,
        profile: if cfg!(debug_assertions) { "debug" } else { "release" },
        hubs: net.with_role(Role::Hub).count(),
        k: net.k,
        bits: args.bits,
        protocol: after.streams.first().map(|stream| stream.protocol.clone()).unwrap_or_default(),
        key_bytes: taken,
        took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        mbit_per_s: mbit_per_s(taken, took),
        slices_mbit_per_s: slices,
        sent_per_key_byte: ratio(sent, agreed),
        memory_bytes: memory.most,
    })
}

/// Takes keys at both ends and compares them; gives how many bytes they were.
async fn take(sender: &mut Client, receiver: &mut Client, spec: &StreamSpec, count: u32) -> Result<u64> {
    let mut bytes = 0;
    for KeyRun { first, count, keys } in next_keys(sender, spec, count).await? {
        let request = Request::KeyFetchRun { first, count };
        let Reply::Batch(received) = control::call(receiver, request, &Progress::hidden(), KEY_WAIT).await?
        else {
            return Err(CliError::strange_reply());
        };
        let equal = received.runs.iter().all(|run| equal_bytes(run.keys.expose(), keys.expose()));
        if received.runs.len() != 1 || !equal {
            return Err(differ(first));
        }
        bytes += u64::try_from(keys.len()).unwrap_or(0);
    }
    Ok(bytes)
}

/// Whether two runs of bytes are equal. All of them are looked at, whatever they are, but many in one step:
/// comparing must not take a part of what is measured.
fn equal_bytes(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// The next keys of a stream, taken at the sender.
pub(super) async fn next_keys(sender: &mut Client, spec: &StreamSpec, count: u32) -> Result<Vec<KeyRun>> {
    let request = Request::StreamNext { spec: spec.clone(), count, wait_ms: units::millis(KEY_WAIT) };
    match control::call(sender, request, &Progress::hidden(), KEY_WAIT * 2).await? {
        Reply::Batch(batch) => Ok(batch.runs),
        _ => Err(CliError::strange_reply()),
    }
}

/// Has a node do something that it answers with nothing but that it is done.
pub(super) async fn order(client: &mut Client, request: Request) -> Result<()> {
    match control::call(client, request, &Progress::hidden(), KEY_WAIT).await? {
        Reply::Done => Ok(()),
        _ => Err(CliError::strange_reply()),
    }
}

pub(super) fn differ(first: KeyId) -> CliError {
    let text = format!("the two sides hold different keys from {first} on");
    CliError::new("dske::bench::differ", 5, text)
}

pub(super) async fn status(client: &mut Client) -> Result<Box<Status>> {
    match control::call(client, Request::Status, &Progress::hidden(), CONNECT_WAIT).await? {
        Reply::Status(status) => Ok(status),
        _ => Err(CliError::strange_reply()),
    }
}

/// The most memory that was seen of each node.
#[derive(Default)]
struct Memory {
    most: Vec<(String, u64)>,
}

impl Memory {
    fn look(&mut self, net: &Descriptor) {
        for node in &net.nodes {
            let Some(bytes) = node.pid.and_then(resident_bytes) else { continue };
            let name = node.name.to_string();
            match self.most.iter_mut().find(|(known, _)| *known == name) {
                Some((_, most)) => *most = bytes.max(*most),
                None => self.most.push((name, bytes)),
            }
        }
    }
}

/// Memory that a process holds; `None` where the system does not tell.
fn resident_bytes(pid: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn mbit_per_s(bytes: u64, took: Duration) -> f64 {
    let rate = bytes as f64 * 8.0 / 1e6 / took.as_secs_f64().max(f64::MIN_POSITIVE);
    (rate * 10.0).round() / 10.0
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn ratio(part: u64, whole: u64) -> f64 {
    (part as f64 / whole as f64 * 1e6).round() / 1e6
}

fn print(report: &Report, context: &Context) -> Result<()> {
    if context.out.json {
        return context.out.document(report);
    }
    let Report { hubs, k, profile, protocol, .. } = report;
    context.out.line(format_args!(
        "keys of {}, n = {hubs}, k = {k}, {protocol} protocol, {profile} build",
        units::bits(report.bits)
    ))?;
    context.out.line(format_args!("measured {MEASURED}\n"))?;
    context.out.line(format_args!(
        "{} of key in {}: {:.0} Mbit/s",
        units::size(report.key_bytes),
        units::micros(report.took_us),
        report.mbit_per_s
    ))?;
    let slices: Vec<String> = report.slices_mbit_per_s.iter().map(|rate| format!("{rate:.0}")).collect();
    context.out.line(format_args!("one part after the other: {} Mbit/s", slices.join(" ")))?;
    context.out.line(format_args!(
        "sent by the sender: {:.3} % of the key bytes",
        report.sent_per_key_byte * 100.0
    ))?;
    for (node, bytes) in &report.memory_bytes {
        context.out.line(format_args!("memory of {node}: {}", units::size(*bytes)))?;
    }
    if *profile == "debug" {
        context.out.note("this is not a release build: the figures say little");
    }
    Ok(())
}
