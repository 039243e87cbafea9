//! All kinds of floods at once on a running network: honest clients go on agreeing keys, no pad is burned but theirs,
//! memory stays within a bound, and the nodes count what they turned away. The long form, with figures, is the
//! program `flood` of `tests/hostile`.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{path::Path, time::Duration};

use dske_hostile::flood::{Kind, Lengths, Net, run};

/// No node holds more, whatever comes. An idle one holds some 20 MiB; the rest is room for a debug build's
/// allocator on a slow machine.
const RSS_BYTES_MAX: u64 = 256 << 20;

#[test]
fn honest_clients_are_served_and_no_pad_is_burned_while_others_flood() {
    let net = Net::up(Path::new(env!("CARGO_BIN_EXE_dske")), "8MiB").unwrap();
    let lengths = Lengths { calm: Duration::from_secs(1), flood: Duration::from_secs(8) };
    // Among all the others few of the forged ones get as far as their tags.
    let alone = Net::up(Path::new(env!("CARGO_BIN_EXE_dske")), "8MiB").unwrap();
    let short = Lengths { calm: Duration::from_secs(1), flood: Duration::from_secs(2) };
    let forged = run(&alone, &[Kind::Forged], short).unwrap();
    assert!(forged.is_clean() && forged.counters.forged > 0, "{forged}");
    drop(alone);
    let report = run(&net, &Kind::ALL, lengths).unwrap();
    println!("{report}");
    assert!(report.is_clean(), "pad was burned: {report}");
    assert!(report.during.keys > 0 && report.after.keys > 0, "{report}");
    assert!(report.sent.values().all(|sent| *sent > 0), "each kind was really there: {report}");
    let most = report.during.rss_bytes.max(report.after.rss_bytes);
    assert!(most < RSS_BYTES_MAX, "a node held {most} bytes: {report}");
    let counters = &report.counters;
    assert!(counters.requests_refused > 0, "{report}");
    assert!(counters.connections_refused > 0 && counters.connections_closed > 0, "{report}");
}

#[test]
fn a_client_that_opens_agreements_in_number_through_one_hub_leaves_the_others_their_keys() {
    let net = Net::up(Path::new(env!("CARGO_BIN_EXE_dske")), "8MiB").unwrap();
    let lengths = Lengths { calm: Duration::from_secs(1), flood: Duration::from_secs(8) };
    let report = run(&net, &[Kind::Opening], lengths).unwrap();
    println!("{report}");
    assert!(report.burned.victim > 0, "its agreements were really opened: {report}");
    assert!(report.during.keys > 0 && report.during.failed == 0, "{report}");
    assert_eq!(report.during.confirmed, report.during.keys, "{report}");
    let most = report.during.rss_bytes.max(report.after.rss_bytes);
    assert!(most < RSS_BYTES_MAX, "a node held {most} bytes: {report}");
}
