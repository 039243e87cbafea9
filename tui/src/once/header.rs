//! The header: who the node is, its parameters, the four thresholds (§4.2) and the live fault margin.

use dske_node::status::{PolicyStatus, Status};

use crate::text;

/// The header, over as many lines as the width asks for.
pub(crate) fn lines(status: &Status, width: usize) -> Vec<String> {
    let node = &status.node;
    let roles: Vec<String> = node.roles.iter().map(ToString::to_string).collect();
    let mut parts = vec![format!("dske {} ({})", node.name, roles.join("+"))];
    match &status.policy {
        Some(policy) => parts.extend(policy_parts(status, policy)),
        None => parts.push(format!("{} forwarded", status.counters.forwarded)),
    }
    if node.roles.len() > 1 {
        parts.push(format!("{} forwarded", status.counters.forwarded));
    }
    parts.push(format!("up {}", text::short_time(node.uptime_ms.saturating_mul(1_000))));
    let mut lines = flow(&parts, width);
    if let Some(fault) = &node.store_fault {
        lines.push(text::clip(&format!("CRIT store stopped: {}", text::printable(fault)), width));
    }
    lines
}

fn policy_parts(status: &Status, policy: &PolicyStatus) -> Vec<String> {
    let PolicyStatus { n, k, k_min, leakage, malleability, injection, disruption, usable } = policy;
    let liars = status.liars().len();
    let margin = match status.margin() {
        None if policy.margin().is_some() => "margin none: too many lie !".to_owned(),
        None => "margin none: no key !".to_owned(),
        Some(margin) if *usable < *n || liars > 0 => format!("margin {margin} !"),
        Some(margin) => format!("margin {margin}"),
    };
    vec![
        format!("n{n} k{k} kB{k_min}"),
        format!("leak {leakage} mall {malleability} inj {injection} disr {disruption}"),
        format!("hubs {usable}/{n}"),
        margin,
    ]
}

/// Parts with bars between, broken into lines where they do not fit.
fn flow(parts: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if text::width(line) + 3 + text::width(part) <= width => {
                line.push_str(" │ ");
                line.push_str(part);
            }
            _ => lines.push(text::clip(&format!(" {part}"), width)),
        }
    }
    lines
}
