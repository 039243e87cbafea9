//! What the system lets the node have: files, locked memory; and whether its secrets can reach a disk.

use std::fs;

use dske_storage::Store;

use super::{Patient, finding::Finding};

/// Files that the program itself keeps open, with ledger, journal and segments, roughly.
const OWN_FILES: u64 = 256;
/// Both lanes of a table, each in two ways: zeros go past the page cache.
const FILES_PER_TABLE: u64 = 4;

/// Looks at them for the running node, or for one that this user would start here.
pub(super) fn all(patient: &Patient<'_>) -> Vec<Finding> {
    let pid = patient.running.map(|status| status.node.pid.to_string());
    let whose = pid.as_deref().unwrap_or("self");
    let limits = fs::read_to_string(format!("/proc/{whose}/limits")).unwrap_or_default();
    let tables = Store::count_tables(&patient.dir.store());
    let mut findings = vec![files(&limits, patient.config.network.connections_max, tables), dumps(&limits)];
    findings.push(memory(patient));
    findings
}

/// The soft limit in a table of `/proc/PID/limits`; `None` where there is none.
fn soft(limits: &str, name: &str) -> Option<Option<u64>> {
    let text = limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?;
    if text == "unlimited" { Some(None) } else { Some(Some(text.parse().ok()?)) }
}

fn files(limits: &str, connections_max: u32, tables: u64) -> Finding {
    let needed = u64::from(connections_max) + FILES_PER_TABLE * tables + OWN_FILES;
    match soft(limits, "Max open files") {
        Some(Some(most)) if most < needed => Finding::warn(
            "open files",
            format!("{most} at most; {connections_max} connections and {tables} tables may need {needed}"),
            "raise the limit (LimitNOFILE= in the unit, `ulimit -n`), or lower network.connections_max",
        ),
        Some(Some(most)) => Finding::good("open files", format!("{most} at most")),
        Some(None) => Finding::good("open files", "no limit"),
        None => Finding::warn("open files", "the limit cannot be read", "give this command as root"),
    }
}

/// The node forbids them for itself; this tells whether it could.
fn dumps(limits: &str) -> Finding {
    match soft(limits, "Max core file size") {
        Some(Some(0)) => Finding::good("core dumps", "forbidden"),
        _ => Finding::warn(
            "core dumps",
            "not known to be forbidden: a crash could write secrets to the disk",
            "set LimitCORE=0 in the unit, or `ulimit -c 0`",
        ),
    }
}

fn memory(patient: &Patient<'_>) -> Finding {
    let locked = match patient.running {
        Some(status) => status.node.memory_locked,
        // What this process got is what a node that it starts would get.
        None => dske_node::harden().memory_lock.is_ok(),
    };
    // The first line is a heading.
    let swap = fs::read_to_string("/proc/swaps").map_or(0, |text| text.lines().skip(1).count());
    match (locked, swap) {
        (true, _) => Finding::good("memory", "locked: no secret reaches the swap space"),
        (false, 0) => Finding::good("memory", "not locked, but there is no swap space"),
        (false, _) => Finding::warn(
            "memory",
            "not locked: secrets may reach the swap space",
            "LimitMEMLOCK=infinity in the unit (`ulimit -l unlimited`), or encrypt the swap",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Level, *};

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
        Max core file size        0                    unlimited            bytes     \n\
        Max open files            1024                 524288               files     \n\
        Max locked memory         unlimited            unlimited            bytes     \n";

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        assert_eq!(soft(LIMITS, "Max open files"), Some(Some(1024)));
        assert_eq!(soft(LIMITS, "Max locked memory"), Some(None));
        assert_eq!(soft(LIMITS, "Max cpu time"), None);
        assert_eq!(files(LIMITS, 1024, 0).level, Level::Warn);
        assert_eq!(files(LIMITS, 64, 100).level, Level::Ok);
        // A hub with so many clients has their tables open, however few of them may be connected at once.
        assert_eq!(files(LIMITS, 64, 200).level, Level::Warn);
        assert_eq!((dumps(LIMITS).level, dumps("").level), (Level::Ok, Level::Warn));
    }
}
