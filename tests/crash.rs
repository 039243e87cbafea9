//! Processes killed in mid-agreement: the other keys go on, what restarts works again, and no byte of any
//! lane ever serves twice, as the logs of all messages and the ledgers of all nodes show.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use common::{
    Net, eventually,
    ledgers::{assert_ledgers_agree, assert_no_byte_serves_twice},
};

#[test]
fn any_process_may_die_in_mid_agreement() {
    let net = Net::up(5, 3, 3, "8MiB");
    net.get("alice", "bob", "256");
    net.get("carol", "bob", "256");
    let stop = AtomicBool::new(false);
    let (agreed, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for sender in ["alice", "carol", "alice", "carol"] {
            let (net, stop, agreed, failed) = (&net, &stop, &agreed, &failed);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    match net.try_get(sender, "bob", &["--bits", "2048", "--timeout", "5s"]) {
                        Err(_) => failed.fetch_add(1, Ordering::Relaxed),
                        Ok(sent) => {
                            // Equal or absent: bob may have died with the shares in memory.
                            if let Ok(held) = net.try_fetch("bob", &sent.id, Some("2s")) {
                                assert_eq!(held.bytes, sent.bytes, "the sides hold different keys");
                                agreed.fetch_add(1, Ordering::Relaxed);
                            }
                            0
                        }
                    };
                }
            });
        }
        for victim in ["p2", "bob", "p4", "carol", "bob", "p1", "alice"] {
            thread::sleep(Duration::from_millis(400));
            let before = agreed.load(Ordering::Relaxed);
            net.testnet(&["kill", victim]);
            if victim.starts_with('p') {
                eventually("the others go on without a hub", || agreed.load(Ordering::Relaxed) > before + 2);
            } else if victim != "bob" {
                eventually("the other sender goes on", || agreed.load(Ordering::Relaxed) > before + 2);
            }
            net.testnet(&["restart", victim]);
            let before = agreed.load(Ordering::Relaxed);
            eventually("keys are agreed after the restart", || agreed.load(Ordering::Relaxed) > before + 2);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(agreed.load(Ordering::Relaxed) > 20);
    for sender in ["alice", "carol"] {
        let sent = net.get(sender, "bob", "256");
        assert_eq!(net.fetch("bob", &sent.id).bytes, sent.bytes);
        assert_eq!(sent.report["n"], 5);
    }
    let messages = assert_no_byte_serves_twice(&net);
    assert!(messages > 200, "only {messages} messages were logged");
    assert_ledgers_agree(&net);
}
