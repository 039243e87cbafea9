//! Seeds of every scenario: nothing that must not be happens, everything that may happen does, and the same seed
//! gives the same run.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use dske_simulation::{Run, Scenario, Telling, kinds_of_faults, run};

/// Seeds of each of the scenarios.
const SEEDS: u64 = 260;

fn scenarios() -> Vec<Scenario> {
    Scenario::all().expect("every file of faults/ is understood")
}

fn fail(run: &Run, scenario: &Scenario) -> ! {
    let (violation, last) = run.violation.as_ref().expect("it failed");
    panic!(
        "{:?} in step {} of seed {}, scenario {}: {}\n{}\nreplay: cargo run --release -p dske-simulation -- --seed {} --scenario {} --trace",
        violation.invariant,
        run.steps,
        run.seed,
        scenario.name,
        violation.text,
        last.join("\n"),
        run.seed,
        scenario.name
    );
}

#[test]
fn nothing_that_must_not_be_happens_and_every_kind_of_fault_does() {
    let scenarios = scenarios();
    let runs = SEEDS * scenarios.len() as u64;
    assert!(runs >= 2000, "{runs} seeds");
    let next = AtomicU64::new(0);
    let counts: Mutex<BTreeMap<&str, u64>> = Mutex::default();
    std::thread::scope(|scope| {
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= runs {
                    return;
                }
                let at = usize::try_from(number).expect("few") % scenarios.len();
                let done = run(number / scenarios.len() as u64, &scenarios[at], Telling::Numbers);
                if done.violation.is_some() {
                    fail(&run(done.seed, &scenarios[at], Telling::Words), &scenarios[at]);
                }
                let mut counts = counts.lock().expect("no thread has failed");
                done.counts.into_iter().for_each(|(what, count)| *counts.entry(what).or_default() += count);
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    let counts = counts.into_inner().expect("no thread has failed");
    for kind in kinds_of_faults() {
        assert!(counts.get(kind).is_some_and(|count| *count > 0), "{kind} never happened: {counts:?}");
    }
}

#[test]
fn a_seed_replays_to_the_very_same_events() {
    for scenario in scenarios() {
        for seed in 500..503 {
            let first = run(seed, &scenario, Telling::Numbers);
            // Telling it in words must not change what happens.
            let second = run(seed, &scenario, Telling::Words);
            assert_eq!(
                (first.digest, first.steps),
                (second.digest, second.steps),
                "seed {seed} of {}",
                scenario.name
            );
            assert_ne!(first.digest, run(seed + 1, &scenario, Telling::Numbers).digest);
        }
    }
}
