//! Planted faults: each is switched on for the whole process, and seeds run until the checker catches it.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

pub use dske_protocol::planted::{Fault, select};

use crate::{Scenario, Telling, Violation, run};

/// How a planted fault was caught.
#[derive(Debug)]
pub struct Caught {
    /// Seeds that it took, over all scenarios.
    pub seeds: u64,
    /// The scenario that caught it.
    pub scenario: String,
    /// What it violated.
    pub violation: Violation,
}

/// Runs seeds of all scenarios in turn with a planted fault; `None` where none of `seeds_max` catches it.
pub fn hunt(fault: Fault, scenarios: &[Scenario], seeds_max: u64) -> Option<Caught> {
    select(Some(fault));
    let (next, found) = (AtomicU64::new(0), AtomicBool::new(false));
    let first: Mutex<Option<(u64, Caught)>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= seeds_max || found.load(Ordering::SeqCst) {
                        return;
                    }
                    let scenario = &scenarios[number as usize % scenarios.len()];
                    let done = run(number / scenarios.len() as u64, scenario, Telling::Numbers);
                    let Some((violation, _)) = done.violation else { continue };
                    found.store(true, Ordering::SeqCst);
                    let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                    // Others may still be at work on earlier seeds.
                    if first.as_ref().is_none_or(|(earlier, _)| number < *earlier) {
                        let caught = Caught { seeds: number + 1, scenario: scenario.name.clone(), violation };
                        *first = Some((number, caught));
                    }
                }
            });
        }
    });
    select(None);
    first.into_inner().unwrap_or_else(PoisonError::into_inner).map(|(_, caught)| caught)
}
