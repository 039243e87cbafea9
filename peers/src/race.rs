//! Two pieces of code timed in turns, so that whatever slows the machine down hits both.

use std::time::{Duration, Instant};

/// Turns of each side.
const ROUNDS: u32 = 150;

/// How long one turn takes, about.
const TURN: Duration = Duration::from_millis(1);

/// Seconds for one call of each side: the best of all turns.
pub(crate) fn race(mut one: impl FnMut(), mut other: impl FnMut()) -> (f64, f64) {
    let (calls_one, calls_other) = (calls(&mut one), calls(&mut other));
    let (mut best_one, mut best_other) = (f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        best_one = best_one.min(turn(&mut one, calls_one));
        best_other = best_other.min(turn(&mut other, calls_other));
    }
    (best_one, best_other)
}

/// How many calls a turn has.
fn calls(run: &mut impl FnMut()) -> u32 {
    let mut calls = 1;
    while turn(run, calls) * f64::from(calls) < TURN.as_secs_f64() / 2.0 {
        calls *= 2;
    }
    calls
}

/// Seconds for one call.
fn turn(run: &mut impl FnMut(), calls: u32) -> f64 {
    let began = Instant::now();
    for _ in 0..calls {
        run();
    }
    began.elapsed().as_secs_f64() / f64::from(calls)
}
