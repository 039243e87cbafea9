//! Every number of bad hubs, up to the threshold and past it, on real processes: killed, stopped, lying, and all
//! of that together. Up to min(n − k + 1, k_B) − 1 of them the key arrives; past it there is none, and the sender
//! is told why.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::{Net, error, eventually};
use rustix::process::Signal;

/// What is wrong with a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bad {
    Killed,
    /// Its process stands still: connected, but without an answer.
    Stopped,
    Lying,
}

impl Bad {
    fn begin(self, net: &Net, hub: &str) {
        match self {
            Self::Killed => net.testnet(&["kill", hub]),
            Self::Stopped => drop(net.signal(hub, Signal::STOP).expect("it runs")),
            Self::Lying => net.testnet(&["chaos", hub, "false-shares"]),
        }
    }

    fn end(self, net: &Net, hub: &str) {
        match self {
            Self::Killed => net.testnet(&["restart", hub]),
            Self::Stopped => drop(net.signal(hub, Signal::CONT).expect("it is there")),
            Self::Lying => net.testnet(&["chaos", hub, "off"]),
        }
    }
}

fn agree(net: &Net) {
    let sent = net.get("alice", "bob", "256");
    assert_eq!(net.fetch("bob", &sent.id).bytes, sent.bytes);
}

/// Asks until the answer is the final one: right after a hub has gone, the sender may still have counted on it.
fn refused(net: &Net, status: i32, reason: &str, timeout: &str) {
    let mut said = Vec::new();
    while said.len() < 6 {
        let output = match net.try_get("alice", "bob", &["--bits", "256", "--timeout", timeout]) {
            Ok(sent) => panic!("a key past the threshold: {}", sent.report),
            Err(output) => output,
        };
        assert!(matches!(output.status.code(), Some(4 | 5)), "{:?}: {}", output.status, error(&output));
        said.push(error(&output));
        if output.status.code() == Some(status) && said.iter().any(|text| text.contains(reason)) {
            break;
        }
    }
    let said = said.pop().unwrap_or_default();
    assert!(said.contains(reason), "{said}");
    println!("  told: {}", said.lines().map(str::trim).collect::<Vec<_>>().join(" "));
}

/// Makes one hub after the other bad, in every way that is asked for.
fn every_number_of_bad_hubs(n: u8, k: u8, ways: &[&[Bad]]) {
    // In a testnet k_B is k.
    let threshold = usize::from((n - k + 1).min(k)) - 1;
    let net = Net::up(n, 2, k, "1MiB");
    net.acquaint("alice", "bob");
    for way in ways {
        let hubs: Vec<String> = (1..=n).rev().map(|number| format!("p{number}")).collect();
        let bad: Vec<(Bad, &String)> = way.iter().cycle().copied().zip(&hubs).take(threshold + 1).collect();
        agree(&net);
        for (number, (how, hub)) in bad.iter().enumerate() {
            how.begin(&net, hub);
            let number = number + 1;
            println!("({n}, {k}): {number} of {n} hubs bad, {:?}", &bad[..number]);
            if number <= threshold {
                agree(&net);
            } else if bad.iter().any(|(how, _)| *how == Bad::Lying) {
                // Liars sent right tags: a receiver that heard enough shares refuses them.
                // Where some may still come it waits for them, until its deadline.
                refused(&net, 5, "aborted", "20s");
            } else {
                refused(&net, 4, "are needed", "4s");
            }
        }
        for (how, hub) in &bad {
            how.end(&net, hub);
        }
        eventually("all hubs take part again, at both ends", || {
            let Ok(sent) = net.try_get("alice", "bob", &["--bits", "256"]) else { return false };
            let held = net.try_fetch("bob", &sent.id, Some("10s"));
            sent.report["burned_hubs"] == n && held.is_ok_and(|held| held.report["shares"] == n)
        });
    }
}

const KILLED: &[Bad] = &[Bad::Killed];
const STOPPED: &[Bad] = &[Bad::Stopped];
const LYING: &[Bad] = &[Bad::Lying];
const MIXED: &[Bad] = &[Bad::Lying, Bad::Stopped, Bad::Killed];

#[test]
fn one_of_three_hubs_may_be_bad_and_not_two() {
    every_number_of_bad_hubs(3, 2, &[KILLED, STOPPED, LYING, MIXED]);
}

#[test]
fn two_of_five_hubs_may_be_bad_and_not_three() {
    every_number_of_bad_hubs(5, 3, &[KILLED, STOPPED, LYING, MIXED]);
}
