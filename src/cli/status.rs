//! `dske status`: what the running node is and has.

use std::{collections::BTreeMap, process::ExitCode};

use clap::Args;
use dske_node::{
    config::Role,
    control::{Reply, Request},
    status::{Level, Status},
};
use dske_storage::{LaneStatus, TableSide, TableState, TableStatus};

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
    args.limits.check()?;
    let snapshot = fetch(context);
    if args.check {
        let verdict = match &snapshot {
            Ok(status) => check::judge(status, &args.limits),
            // Whether another user's node is in trouble nobody can tell who may not ask it.
            Err(error) if error.exit() == exit::UNREACHABLE && error.code() != "dske::control::denied" => {
                check::Verdict::critical(error.to_string())
            }
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

/// What is left and used of the tables of one side that are not retired; which side is told where there are two.
fn pads(status: &Status, side: TableSide, both: bool) -> String {
    let counts = move |table: &&TableStatus| table.side == side && table.state != TableState::Retired;
    let tables = || status.tables.iter().filter(counts);
    let bytes = |select: fn(&LaneStatus) -> u64| -> u64 {
        tables().flat_map(|table| &table.lanes).map(select).fold(0, u64::saturating_add)
    };
    format!(
        "  pads{}: {} tables, {} left of {}; used {} for keys, {} for identity, {} for sync",
        if both { format!(" as {side}") } else { String::new() },
        tables().count(),
        units::size(bytes(|lane| lane.for_keys)),
        units::size(bytes(LaneStatus::of_keys)),
        units::size(bytes(|lane| lane.used_key)),
        units::size(bytes(|lane| lane.used_identity)),
        units::size(bytes(|lane| lane.used_sync)),
    )
}

/// Whose shares were false, of the agreements that are still remembered.
fn liars(status: &Status) -> Option<String> {
    let mut counts = BTreeMap::<&str, u64>::new();
    for hub in status.sessions.iter().flat_map(|session| &session.liars) {
        *counts.entry(hub).or_default() += 1;
    }
    let told: Vec<String> =
        counts.iter().map(|(hub, count)| format!("{} in {count}", printable(hub))).collect();
    let all = status.sessions.len();
    (!told.is_empty()).then(|| format!("  false shares, of the latest {all} agreements: {}", told.join(", ")))
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
            match status.margin() {
                Some(margin) => margin.to_string(),
                None if policy.margin().is_some() => "too many lie already; none".to_owned(),
                None => "no key can be agreed; none".to_owned(),
            },
        ));
        lines.extend(status.of_liars().map(|told| format!("  {}", printable(&told))));
    }
    for role in [Role::Hub, Role::Client] {
        let peers = || status.peers.iter().filter(move |peer| peer.role == role);
        if peers().next().is_some() {
            let connected = peers().filter(|peer| peer.connected).count();
            lines.push(format!("  {connected} of {} {role}s connected", peers().count()));
        }
    }
    let has = |side| status.tables.iter().any(|table| table.side == side);
    let both = node.roles.len() > 1 || has(TableSide::Client) && has(TableSide::Hub);
    for side in [TableSide::Client, TableSide::Hub] {
        let role = match side {
            TableSide::Client => Role::Client,
            TableSide::Hub => Role::Hub,
        };
        if node.roles.contains(&role) || has(side) {
            lines.push(pads(status, side, both));
        }
    }
    for table in &status.tables {
        if let TableState::Suspended { .. } | TableState::Quarantined { .. } = table.state {
            lines.push(format!(
                "  table {} with {} is {}",
                printable(&table.serial),
                table.peer_name,
                printable(&table.state.to_string())
            ));
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
    lines.extend(liars(status));
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
    for (peer, why) in status.peers.iter().filter_map(|peer| Some((peer, peer.shut.as_ref()?))) {
        lines.push(format!("  {} is connected, but {}", peer.name, printable(why)));
    }
    for client in status.too_few_hubs() {
        lines.push(format!(
            "  {} is served by {} of the usable hubs: too few for a key with it",
            client.name, client.usable
        ));
    }
    for (peer, versions) in status.peers.iter().filter_map(|peer| Some((peer, peer.incompatible.as_ref()?))) {
        lines.push(format!("  {} {}", peer.name, printable(versions)));
    }
    if !node.memory_locked {
        lines.push("  memory is not locked: secrets may reach the swap space (its log says why)".to_owned());
    }
    if let Some(disk) = node.disk.filter(|disk| disk.level != Level::Info) {
        lines.push(format!("  the disk of the store has {} free", units::size(disk.free_bytes)));
    }
    if let Some(fault) = &node.store_fault {
        lines.push(format!("  the store has stopped: {}", printable(fault)));
    }
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn table(serial: &str, side: TableSide, state: Value, left: u64) -> Value {
        let lane = |lane: &str| {
            json!({ "lane": lane, "allocator": true, "bytes": 1024, "used_key": 1, "used_identity": 0,
                    "used_sync": 0, "skipped": 0, "reserved": 0, "left": left, "for_keys": left / 4 * 3 })
        };
        json!({ "table": "01".repeat(16), "serial": serial, "peer": "02".repeat(32), "peer_name": "p1",
                "side": side, "state": state, "lanes": [lane("up"), lane("down")], "forged_blocks": 0,
                "open": true, "comparable": true })
    }

    fn told(roles: &[Role], tables: Vec<Value>) -> String {
        let nothing: [u8; 0] = [];
        let counters = serde_json::to_value(dske_node::status::Counters::default()).unwrap();
        let status = json!({
            "schema_version": 1, "policy": null, "tables": tables, "peers": nothing, "modules": nothing,
            "sessions": nothing, "wishes": nothing, "identities": nothing, "inquiries": nothing,
            "events": nothing, "streams": nothing, "quotas": nothing, "pads": nothing, "refusals": {},
            "counters": counters,
            "node": { "name": "alice", "id": "03".repeat(32), "peer_id": "x", "roles": roles, "version": "0",
                      "pid": 1, "listen": nothing, "uptime_ms": 1, "store_fault": null, "memory_locked": true,
                      "fault": null },
        });
        summary(&serde_json::from_value(status).unwrap())
    }

    #[test]
    fn what_is_retired_is_not_counted_and_what_is_out_of_use_is_named() {
        let quarantined = json!({ "quarantined": { "reason": "zeroed" } });
        let tables = vec![
            table("p1-0001", TableSide::Client, json!("retired"), 700),
            table("p1-0002", TableSide::Client, json!("active"), 512),
            table("p1-0003", TableSide::Client, quarantined, 512),
        ];
        let told = told(&[Role::Client], tables);
        assert!(told.contains("pads: 2 tables, 1.5 KiB left of 3 KiB"), "{told}");
        assert!(told.contains("table p1-0003 with p1 is quarantined (zeroed)"), "{told}");
    }

    #[test]
    fn the_pads_of_two_sides_are_told_apart_whichever_role_runs() {
        let of = |side| table("p1-0001", side, json!("active"), 512);
        let told = told(&[Role::Hub], vec![of(TableSide::Client), of(TableSide::Hub)]);
        assert!(told.contains("pads as client: ") && told.contains("pads as hub: "), "{told}");
    }
}
