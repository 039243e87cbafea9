//! Floods of a running network: real processes, an attacker that speaks libp2p, honest clients that go on agreeing
//! keys, and the figures: memory of the nodes, latency of the honest, pad that was burned.
//!
//! The attacker is one thread at the lowest priority: what is measured is what a flood costs the nodes, not that
//! the attacker shares their machine.

mod attack;
mod attacker;
mod forge;
mod net;
mod report;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

pub use attack::Kind;
pub use net::{Agreed, FloodError, Net};
pub use report::{Latency, Phase, Report};

use attack::Target;
use report::{Meter, Pads};

/// Between two honest keys.
const KEY_PAUSE: Duration = Duration::from_millis(20);

/// How long each part of a run takes.
#[derive(Debug, Clone, Copy)]
pub struct Lengths {
    /// Without a flood, before and after it.
    pub calm: Duration,
    /// With it, once it is there.
    pub flood: Duration,
}

/// So long it is given to be there, with something of each kind: on a busy machine the attacker gets little of it.
const BEGIN_MAX: Duration = Duration::from_secs(120);

/// Runs the floods of these kinds, all at once, against a network, while keys are agreed.
///
/// # Errors
/// If the network cannot be used, or two sides hold different keys.
pub fn run(net: &Net, kinds: &[Kind], lengths: Lengths) -> Result<Report, FloodError> {
    let target = Target::of(net, kinds)?;
    net.agree()?;
    let pads_before = Pads::settled(net)?;
    let counters_before = net.counters()?;
    let mut keys = 0;
    let mut phase = |length, is_there: &dyn Fn() -> bool| -> Result<Phase, FloodError> {
        let phase = measure(net, length, is_there)?;
        keys += phase.keys;
        Ok(phase)
    };
    let before = phase(lengths.calm, &|| true)?;
    let stop = Arc::new(AtomicBool::new(false));
    let lives = attack::lives(kinds, &stop);
    let attack = {
        let lives = lives.clone();
        thread::spawn(move || attack::run(&target, &lives))
    };
    let is_there = || attack::sent(&lives).values().all(|sent| *sent > 0);
    let during = phase(lengths.flood, &is_there);
    stop.store(true, Ordering::Relaxed);
    attack.join().map_err(|_| FloodError::new("the attacker stopped"))?;
    let sent = attack::sent(&lives);
    let during = during?;
    let after = phase(lengths.calm, &|| true)?;
    let burned = Pads::settled(net)?.since(&pads_before, net, keys);
    let counters = net.counters()?.since(&counters_before);
    Ok(Report { before, during, after, sent, burned, counters })
}

/// Agrees keys one after the other, and watches memory, for so long once that is there which is awaited.
fn measure(net: &Net, length: Duration, is_there: &dyn Fn() -> bool) -> Result<Phase, FloodError> {
    let (mut began, mut meter) = (Instant::now(), Meter::default());
    let waits_until = began + BEGIN_MAX;
    let mut awaits = true;
    while began.elapsed() < length || awaits {
        if awaits && (is_there() || Instant::now() > waits_until) {
            (awaits, began) = (false, Instant::now());
        }
        meter.memory(net);
        match net.agree() {
            Ok(agreed) => meter.key(agreed),
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => meter.failed(&error),
        }
        thread::sleep(KEY_PAUSE);
    }
    Ok(meter.phase())
}
