//! Every planted fault is caught. Only with the feature `planted-faults`, and in a process of its own, because a fault is
//! made by the whole process.

#![cfg(feature = "planted-faults")]

use dske_simulation::{
    Scenario,
    mutants::{Fault, hunt},
};

/// Seeds, over all scenarios, within which each fault has to be caught.
const SEEDS_MAX: u64 = 20_000;

#[test]
fn every_planted_fault_is_caught() {
    std::panic::set_hook(Box::new(|_| {}));
    let scenarios = Scenario::all().expect("every file of faults/ is understood");
    let missed: Vec<Fault> =
        Fault::ALL.into_iter().filter(|fault| hunt(*fault, &scenarios, SEEDS_MAX).is_none()).collect();
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
