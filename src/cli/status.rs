//! `dske status`: what the running node is and has.

use std::process::ExitCode;

use clap::Args;
use dske_node::{
    config::Role,
    control::{Reply, Request},
    status::Status,
};
use dske_storage::{LaneStatus, TableSide};

use crate::cli::{
    check,
    context::Context,
    control,
    error::{CliError, Result, exit},
    output::printable,
    units,
};

/// Arguments of `dske status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// One line and an exit status as monitoring systems expect them: 0 ok, 1 warning, 2 critical, 3 unknown
    #[arg(long, conflicts_with = "json")]
    check: bool,
    #[command(flatten)]
    limits: check::Limits,
}

/// Runs `dske status`.
pub(crate) fn run(args: &StatusArgs, context: &Context) -> Result<ExitCode> {
    let snapshot = fetch(context);
    if args.check {
        let verdict = match &snapshot {
            Ok(status) => check::judge(status, &args.limits),
            Err(error) if error.exit() == exit::UNREACHABLE => check::Verdict::critical(error.to_string()),
            Err(error) => check::Verdict::unknown(error.to_string()),
        };
        context.out.line(&verdict)?;
        return Ok(ExitCode::from(verdict.exit()));
    }
    let status = snapshot?;
    if context.out.json {
        context.out.json(&status)?;
    } else {
        context.out.text(&summary(&status))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A snapshot of the running node.
fn fetch(context: &Context) -> Result<Status> {
    let dir = context.dir()?;
    match control::online(context, &dir, Request::Status, context.globals.timeout)? {
        Reply::Status(status) => Ok(*status),
        _ => Err(CliError::strange_reply()),
    }
}

/// What is left and used of the tables of one side, which is told where there may be two.
fn pads(status: &Status, side: TableSide, both: bool) -> String {
    let tables = || status.tables.iter().filter(move |table| table.side == side);
    let bytes = |select: fn(&LaneStatus) -> u64| -> u64 {
        tables().flat_map(|table| &table.lanes).map(select).fold(0, u64::saturating_add)
    };
    format!(
        "  pads{}: {} tables, {} left of {}; used {} for keys, {} for identity, {} for sync",
        if both { format!(" as {side}") } else { String::new() },
        tables().count(),
        units::size(bytes(|lane| lane.left.saturating_add(lane.reserved))),
        units::size(bytes(|lane| lane.bytes)),
        units::size(bytes(|lane| lane.used_key)),
        units::size(bytes(|lane| lane.used_identity)),
        units::size(bytes(|lane| lane.used_sync)),
    )
}

/// A few lines for a person; the whole is in `--json`, the picture in `top`.
fn summary(status: &Status) -> String {
    let node = &status.node;
    let roles: Vec<String> = node.roles.iter().map(ToString::to_string).collect();
    let mut lines = vec![format!(
        "{} ({}), {} for {}, process {}",
        node.name,
        roles.join(", "),
        printable(&node.version),
        units::micros(node.uptime_ms.saturating_mul(1_000)),
        node.pid
    )];
    let listen: Vec<String> = node.listen.iter().map(|address| printable(address)).collect();
    lines.push(format!("  listens on {}", listen.join(", ")));
    if let Some(policy) = status.policy {
        lines.push(format!(
            "  n {} k {} k_min {}: {} of {} hubs usable, {} more may fail or lie",
            policy.n,
            policy.k,
            policy.k_min,
            policy.usable,
            policy.n,
            dske_tui::margin(&policy)
                .map_or_else(|| "no key can be agreed; none".to_owned(), |margin| margin.to_string()),
        ));
    }
    for role in [Role::Hub, Role::Client] {
        let peers = || status.peers.iter().filter(move |peer| peer.role == role);
        if peers().next().is_some() {
            let connected = peers().filter(|peer| peer.connected).count();
            lines.push(format!("  {connected} of {} {role}s connected", peers().count()));
        }
    }
    let both = node.roles.len() > 1;
    for side in [TableSide::Client, TableSide::Hub] {
        let role = match side {
            TableSide::Client => Role::Client,
            TableSide::Hub => Role::Hub,
        };
        if node.roles.contains(&role) || status.tables.iter().any(|table| table.side == side) {
            lines.push(pads(status, side, both));
        }
    }
    let counters = status.counters;
    lines.push(format!(
        "  keys: {} sent, {} received, {} aborted; shares forwarded {}, forged messages {}, false shares {}",
        counters.sent,
        counters.validated,
        counters.aborted,
        counters.forwarded,
        counters.forged,
        counters.false_shares
    ));
    if let Some(keys) = status.keys {
        lines.push(format!(
            "  keys that wait: {} of {} blocks, at most {}; blocks given up: {}; records of agreements: {}, at most {}",
            units::size(keys.bytes),
            keys.blocks,
            units::size(keys.bytes_max),
            keys.given_up,
            keys.records,
            keys.records_max
        ));
    }
    for peer in status.peers.iter().filter(|peer| peer.excluded.is_some()) {
        lines.push(format!(
            "  {} is excluded: {}",
            peer.name,
            printable(peer.excluded.as_deref().unwrap_or_default())
        ));
    }
    for (peer, versions) in status.peers.iter().filter_map(|peer| Some((peer, peer.incompatible.as_ref()?))) {
        lines.push(format!("  {} {}", peer.name, printable(versions)));
    }
    if !node.memory_locked {
        lines.push("  memory is not locked: secrets may reach the swap space (its log says why)".to_owned());
    }
    if let Some(fault) = &node.store_fault {
        lines.push(format!("  the store has stopped: {}", printable(fault)));
    }
    lines.push(String::new());
    lines.join("\n")
}
