//! The header: who the node is, its parameters, the four thresholds (§4.2) and the live fault margin.

use dske_node::status::{PolicyStatus, Status};

use crate::text;

/// The live fault margin: see [`PolicyStatus::margin`].
pub fn margin(policy: &PolicyStatus) -> Option<u8> {
    policy.margin()
}

/// The header, over as many lines as the width asks for.
pub(crate) fn lines(status: &Status, width: usize) -> Vec<String> {
    let node = &status.node;
    let roles: Vec<String> = node.roles.iter().map(ToString::to_string).collect();
    let mut parts = vec![format!("dske {} ({})", node.name, roles.join("+"))];
    match &status.policy {
        Some(policy) => parts.extend(policy_parts(policy)),
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

fn policy_parts(policy: &PolicyStatus) -> Vec<String> {
    let PolicyStatus { n, k, k_min, leakage, malleability, injection, disruption, usable } = policy;
    let margin = match margin(policy) {
        None => "margin none: no key !".to_owned(),
        Some(margin) if *usable < *n => format!("margin {margin} !"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_margin_is_the_papers_disruption_bound_with_the_usable_hubs() {
        let policy = |usable, k, k_min| PolicyStatus {
            n: 5,
            k,
            k_min,
            leakage: k,
            malleability: k_min,
            injection: k_min,
            disruption: (5 - k + 1).min(k_min),
            usable,
        };
        assert_eq!(margin(&policy(5, 3, 3)), Some(2));
        assert_eq!(margin(&policy(4, 3, 3)), Some(1));
        assert_eq!(margin(&policy(3, 3, 3)), Some(0));
        assert_eq!(margin(&policy(2, 3, 3)), None);
        assert_eq!(margin(&policy(5, 2, 1)), Some(0));
        assert_eq!(margin(&policy(9, 3, 3)), Some(2));
    }
}
