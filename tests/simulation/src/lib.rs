//! Deterministic simulation of a whole DSKE network: the real state machines of `dske-protocol` and the real
//! engine of `dske-storage`, over a simulated network, clock, randomness and disk, all from one seed.
//!
//! | part | where |
//! |---|---|
//! | a world from its seed to its end | `world`, `faults`, `shared` |
//! | processes | `process`, `core` (store and exchanges), `hub`, `client` |
//! | who lies, and how; outsiders | `lies`, `packet` |
//! | what must always hold | `checker` |
//! | files of weights | `scenario`, `../faults/` |

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "worlds are small, and a wrong figure shows at once"
)]

mod checker;
mod client;
mod core;
mod faults;
mod hub;
mod lies;
#[cfg(feature = "planted-faults")]
pub mod mutants;
mod packet;
mod process;
mod rng;
mod scenario;
mod shared;
mod sync;
mod world;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

pub use checker::{Invariant, Violation};
pub use scenario::Scenario;
pub use shared::Telling;

/// What came of one seed.
#[derive(Debug)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// Events.
    pub steps: u64,
    /// Of everything that happened, in order.
    pub digest: u64,
    /// What occurred how often.
    pub counts: BTreeMap<&'static str, u64>,
    /// What must not be, with the last events before it.
    pub violation: Option<(Violation, Vec<String>)>,
}

/// Runs one seed of a scenario.
pub fn run(seed: u64, scenario: &Scenario, telling: Telling) -> Run {
    let mut world = None;
    let ended = catch_unwind(AssertUnwindSafe(|| {
        world.insert(world::World::new(seed, scenario, telling)).run();
    }));
    let Some(mut world) = world else {
        let text = format!("the world could not be made: {}", panic_text(ended.err()));
        let violation = Violation { invariant: Invariant::NoPanic, text };
        let violation = Some((violation, Vec::new()));
        return Run { seed, steps: 0, digest: 0, counts: BTreeMap::new(), violation };
    };
    if let Err(panic) = ended {
        world.shared.checker.fail(Invariant::NoPanic, panic_text(Some(panic)));
    }
    let shared = world.shared;
    let violation = shared.checker.violation.map(|violation| {
        let last = shared.notes.iter().map(ToString::to_string).collect();
        (violation, last)
    });
    Run { seed, steps: shared.step, digest: shared.digest.0, counts: shared.checker.counts, violation }
}

/// Everything that can go wrong, by the names under which runs count it.
pub fn kinds_of_faults() -> Vec<&'static str> {
    let happenings = [
        "messages lost",
        "messages duplicated",
        "messages slow",
        "messages replayed",
        "messages forged",
        "truncated",
        "spliced",
        "extended",
        "flipped",
        "tag flipped",
        "answer changed",
        "partitions",
        "disconnects",
        "crashes",
        "power cuts",
        "power cuts at a start",
        "clean restarts",
        "disk failures",
        "full disks",
        "clock jumps",
        "hubs put back",
        "clients put back",
        "ledgers put back",
        "lanes gone",
        "lanes cut short",
        "lanes without a header",
        "found: skipped",
        "found: put back",
        "found: peer put back",
        "hubs excluded",
        "tags refused",
        "tables left",
        "marks withheld",
        "hellos invented",
        "lie in a hello: nonce",
        "lie in a hello: table",
        "lie in its answer: nonce",
        "lie in its answer: table",
        "lie in its answer: place",
        "lie in its answer: no place",
        "lie in its answer: refusal",
        "tag keys of marks used again",
        "restores that k_B hubs have told of",
        "pads used up or out of reach",
        "aborted: too few shares",
        "aborted: none validates",
        "shares moved with a member's help",
        "limits set anew",
        "limits in force",
        "refused for a quota",
        "rests of senders",
    ];
    let lies = lies::HUB_LIES.iter().chain(&lies::CLIENT_LIES).map(|lie| lie.name());
    happenings.into_iter().chain(lies).collect()
}

fn panic_text(panic: Option<Box<dyn std::any::Any + Send>>) -> String {
    let text = |panic: Box<dyn std::any::Any + Send>| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => {
            panic.downcast::<&str>().map_or_else(|_| "a panic".to_owned(), |text| (*text).to_owned())
        }
    };
    panic.map(text).unwrap_or_default()
}
