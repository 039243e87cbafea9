//! `dske status --check`: one line and an exit status, as monitoring plugins give them.

use std::{collections::BTreeMap, fmt, fmt::Write};

use clap::{Args, value_parser};
use dske_node::{
    config::Role,
    status::{Level, PadForecast, Status},
};
use dske_storage::{TableSide, TableState};

use crate::cli::{
    error::{CliError, Result},
    output::printable,
    units,
};

/// Where keys that wait fill so much of what may, they are worth a warning.
const KEYS_WARN_PERCENT: u64 = 90;

/// When to raise the alarm.
#[derive(Debug, Clone, Args)]
pub(crate) struct Limits {
    /// With --check: warn when a lane has less than this many percent left
    #[arg(long, value_name = "PERCENT", default_value_t = PadForecast::WARN_PERCENT, value_parser = value_parser!(u8).range(..=100))]
    warn_left: u8,
    /// With --check: critical below this many percent
    #[arg(long, value_name = "PERCENT", default_value_t = PadForecast::CRIT_PERCENT, value_parser = value_parser!(u8).range(..=100))]
    crit_left: u8,
}

impl Limits {
    /// Refuses limits of which one hides the other.
    pub(crate) fn check(&self) -> Result<()> {
        let Self { warn_left, crit_left } = self;
        if warn_left >= crit_left {
            return Ok(());
        }
        Err(CliError::usage(format!("--warn-left {warn_left} is below --crit-left {crit_left}"))
            .help("a warning comes before it is critical: give the larger number with --warn-left"))
    }
}

/// How bad it is; the order counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    Ok,
    Warning,
    Critical,
    Unknown,
}

/// What the check found.
#[derive(Debug)]
pub(crate) struct Verdict {
    severity: Severity,
    findings: Vec<String>,
    figures: String,
}

impl Verdict {
    /// The node is in trouble.
    pub(crate) fn critical(finding: String) -> Self {
        Self { severity: Severity::Critical, findings: vec![finding], figures: String::new() }
    }

    /// Nobody can tell.
    pub(crate) fn unknown(finding: String) -> Self {
        Self { severity: Severity::Unknown, findings: vec![finding], figures: String::new() }
    }

    /// 0, 1, 2 or 3.
    pub(crate) fn exit(&self) -> u8 {
        self.severity as u8
    }

    fn add(&mut self, severity: Severity, finding: String) {
        self.severity = self.severity.max(severity);
        self.findings.push(finding);
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Ok => "OK",
            Severity::Warning => "WARNING",
            Severity::Critical => "CRITICAL",
            Severity::Unknown => "UNKNOWN",
        };
        write!(f, "DSKE {word} - {}", printable(&self.findings.join("; ")))?;
        if self.figures.is_empty() { Ok(()) } else { write!(f, " | {}", self.figures) }
    }
}

/// Looks at a snapshot.
pub(crate) fn judge(status: &Status, limits: &Limits) -> Verdict {
    let mut verdict = Verdict { severity: Severity::Ok, findings: Vec::new(), figures: String::new() };
    if let Some(fault) = &status.node.store_fault {
        verdict.add(Severity::Critical, format!("the store has stopped: {fault}"));
    }
    if let Some(disk) = status.node.disk {
        let told = |what| format!("{what}: {} free on the disk of the store", units::size(disk.free_bytes));
        match disk.level {
            Level::Crit => verdict.add(Severity::Critical, told("soon nothing can be recorded any more")),
            Level::Warn => verdict.add(Severity::Warning, told("room runs out")),
            Level::Info => {}
        }
    }
    if let Some(policy) = status.policy {
        let mut usable = format!("{} of {} hubs usable, k {}", policy.usable, policy.n, policy.k);
        let gone = status.peers.iter().filter(|peer| peer.role == Role::Hub);
        let gone = gone.filter_map(|hub| match &hub.shut {
            Some(why) => Some(format!("{}: {why}", hub.name)),
            None => (!hub.connected || hub.excluded.is_some()).then(|| hub.name.to_string()),
        });
        let gone: Vec<String> = gone.collect();
        if !gone.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(usable, " (without {})", gone.join(", "));
        }
        let severity = match policy.usable {
            usable if usable < policy.k => Severity::Critical,
            usable if usable < policy.n => Severity::Warning,
            _ => Severity::Ok,
        };
        verdict.add(severity, usable);
        if let Some(told) = status.of_liars() {
            let severity = if status.is_margin_used_up() { Severity::Critical } else { Severity::Warning };
            verdict.add(severity, told);
        }
        for client in status.too_few_hubs() {
            let text = format!(
                "{} is served by {} of the usable hubs, k {}: no key with it",
                client.name, client.usable, policy.k
            );
            verdict.add(Severity::Warning, text);
        }
        verdict.figures = format!("usable={};{}:;{}:;0;{} ", policy.usable, policy.n, policy.k, policy.n);
    }
    if let Some(keys) = status.keys {
        let full = percent(keys.bytes, keys.bytes_max);
        if full >= KEYS_WARN_PERCENT {
            let finding =
                format!("keys that wait fill {full}% of keys.bytes_max: take them, or they are given up");
            verdict.add(Severity::Warning, finding);
        }
    }
    let least = judge_pads(status, limits, &mut verdict);
    // Writing to a string cannot fail.
    let _ =
        write!(verdict.figures, "pad_left_min={least}%;{}:;{}:;0;100", limits.warn_left, limits.crit_left);
    verdict.findings.insert(0, status.node.name.to_string());
    verdict
}

/// Looks at what is left with each peer, lane by lane, all usable tables together: a spent table is no
/// trouble where the next one is already there. Gives the least percentage.
fn judge_pads(status: &Status, limits: &Limits, verdict: &mut Verdict) -> u64 {
    let mut pads: BTreeMap<_, (u64, u64)> = BTreeMap::new();
    for table in &status.tables {
        let serial = &table.serial;
        match &table.state {
            TableState::Suspended { .. } | TableState::Quarantined { .. } => {
                verdict.add(Severity::Critical, format!("table {serial} is {}", table.state));
            }
            TableState::Pending => {
                verdict.add(Severity::Warning, format!("table {serial} waits for its receipt"))
            }
            TableState::Active | TableState::Spent => {
                for lane in &table.lanes {
                    let pad = pads.entry((&table.peer_name, table.side, lane.lane)).or_default();
                    if table.state == TableState::Active {
                        pad.0 = pad.0.saturating_add(lane.for_keys);
                        pad.1 = pad.1.saturating_add(lane.of_keys());
                    }
                }
            }
            TableState::Retired => {}
        }
    }
    let mut least = 100;
    let both = status.node.roles.len() > 1;
    let as_end = |side: TableSide| if both { format!(" as {side}") } else { String::new() };
    for ((peer, side, lane), (left_bytes, bytes)) in pads {
        let left = percent(left_bytes, bytes);
        least = least.min(left);
        let severity = match left {
            left if left < u64::from(limits.crit_left) => Severity::Critical,
            left if left < u64::from(limits.warn_left) => Severity::Warning,
            _ => continue,
        };
        verdict.add(severity, format!("pad {lane}{} with {peer} has {left}% left", as_end(side)));
    }
    for pad in &status.pads {
        let severity = match pad.level {
            Level::Crit => Severity::Critical,
            Level::Warn => Severity::Warning,
            Level::Info => continue,
        };
        if let Some(end) = pad.end() {
            verdict.add(severity, format!("pad {}{} with {} is {end}", pad.lane, as_end(pad.side), pad.peer));
        }
    }
    least
}

fn percent(part: u64, whole: u64) -> u64 {
    part.saturating_mul(100).checked_div(whole).unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_connected_hub_that_is_not_used_and_a_client_that_too_few_serve_are_named() {
        let nothing: [u8; 0] = [];
        let hub = |name: &str, connected: bool, shut: Option<&str>| {
            json!({ "node": "02".repeat(32), "name": name, "role": "hub", "connected": connected,
                    "excluded": null, "incompatible": null, "shut": shut, "waiting": 0 })
        };
        let status = |usable: u8, served_by: u8| -> Status {
            let counters = serde_json::to_value(dske_node::status::Counters::default()).unwrap();
            serde_json::from_value(json!({
                "schema_version": 1, "tables": nothing, "modules": nothing, "sessions": nothing,
                "wishes": nothing, "inquiries": nothing, "events": nothing, "streams": nothing,
                "quotas": nothing, "pads": nothing, "refusals": {}, "counters": counters,
                "peers": [hub("p1", true, None), hub("p2", true, Some("its table is quarantined")),
                          hub("p3", false, None)],
                "policy": { "n": 3, "k": 2, "k_min": 2, "leakage": 2, "malleability": 2, "injection": 2,
                            "disruption": 2, "usable": usable },
                "identities": [{ "node": "04".repeat(32), "name": "bob", "claims": 2, "hubs": ["p1"],
                                 "usable": served_by }],
                "node": { "name": "alice", "id": "03".repeat(32), "peer_id": "x", "roles": ["client"],
                          "version": "0", "pid": 1, "listen": nothing, "uptime_ms": 1, "store_fault": null,
                          "memory_locked": true, "fault": null },
            }))
            .unwrap()
        };
        let limits = Limits { warn_left: 20, crit_left: 5 };
        let judged = |usable, served_by| judge(&status(usable, served_by), &limits);
        let told = judged(2, 2).to_string();
        assert!(told.contains("(without p2: its table is quarantined, p3)"), "{told}");
        assert!(!told.contains("bob"), "{told}");
        let few = judged(2, 1);
        assert!(
            few.to_string().contains("bob is served by 1 of the usable hubs, k 2: no key with it"),
            "{few}"
        );
        assert_eq!(few.severity, Severity::Warning);
        // Where no key can be agreed with anybody that is what counts.
        let none = judged(1, 1);
        assert_eq!((none.severity, none.to_string().contains("bob")), (Severity::Critical, false));
    }

    #[test]
    fn hubs_that_lie_are_named_and_critical_where_no_other_may() {
        let nothing: [u8; 0] = [];
        let status = |n: u8, k: u8, liars: &[&str]| -> Status {
            let hub = |id: u8| {
                json!({ "node": format!("{id:02}").repeat(32), "name": format!("p{id}"), "role": "hub", "connected": true,
                        "excluded": null, "incompatible": null, "shut": null, "waiting": 0 })
            };
            let session = json!({ "block": "05".repeat(16), "sender": "bob", "receivers": ["alice"], "sent": false,
                "purpose": "", "key_bytes": 32, "n": n, "k": k, "shares": n, "hubs": nothing, "step": "validation",
                "steps_us": nothing, "phase": "validated", "liars": liars, "reason": null, "took_us": 1,
                "began_ms": 1 });
            let counters = serde_json::to_value(dske_node::status::Counters::default()).unwrap();
            serde_json::from_value(json!({
                "schema_version": 1, "tables": nothing, "modules": nothing, "sessions": [session],
                "wishes": nothing, "inquiries": nothing, "events": nothing, "streams": nothing,
                "quotas": nothing, "pads": nothing, "refusals": {}, "counters": counters,
                "peers": (1..=n).map(hub).collect::<Vec<_>>(), "identities": nothing,
                "policy": { "n": n, "k": k, "k_min": k, "leakage": k, "malleability": k, "injection": k,
                            "disruption": k.min(n - k + 1), "usable": n },
                "node": { "name": "alice", "id": "03".repeat(32), "peer_id": "x", "roles": ["client"],
                          "version": "0", "pid": 1, "listen": nothing, "uptime_ms": 1, "store_fault": null,
                          "memory_locked": true, "fault": null },
            }))
            .unwrap()
        };
        let limits = Limits { warn_left: 20, crit_left: 5 };
        let judged = |n, k, liars: &[&str]| judge(&status(n, k, liars), &limits);
        assert_eq!(judged(5, 3, &[]).severity, Severity::Ok);
        let one = judged(5, 3, &["p2"]);
        assert!(one.to_string().contains("false shares of p2 in the latest agreements: 1 more may"), "{one}");
        assert_eq!(one.severity, Severity::Warning);
        let last = judged(3, 2, &["p1"]);
        assert!(
            last.to_string().contains("p1 in the latest agreements: none may fail or lie besides"),
            "{last}"
        );
        assert_eq!(last.severity, Severity::Critical);
        assert_eq!(judged(3, 2, &["p1", "p2"]).severity, Severity::Critical);
    }

    #[test]
    fn verdicts_speak_the_plugin_language() {
        let verdict = Verdict::critical("no node\nis running".into());
        assert_eq!(
            (verdict.to_string().as_str(), verdict.exit()),
            ("DSKE CRITICAL - no node\\nis running", 2)
        );
        assert_eq!(Verdict::unknown("x".into()).exit(), 3);
    }

    #[test]
    fn the_worst_finding_decides() {
        let mut verdict = Verdict { severity: Severity::Ok, findings: Vec::new(), figures: "a=1".into() };
        verdict.add(Severity::Critical, "bad".into());
        verdict.add(Severity::Warning, "odd".into());
        assert_eq!(verdict.to_string(), "DSKE CRITICAL - bad; odd | a=1");
    }

    #[test]
    fn an_empty_lane_has_nothing_left() {
        assert_eq!((percent(1, 0), percent(1, 4), percent(u64::MAX, 1)), (0, 25, u64::MAX));
    }
}
