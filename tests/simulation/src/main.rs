//! `dske-sim`: runs seeds, and replays one.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use dske_simulation::{Invariant, Run, Scenario, Telling, run};

/// Runs simulated DSKE networks under crash, fault and attack.
#[derive(Debug, Parser)]
#[command(name = "dske-sim")]
struct Args {
    /// Number of seeds, for each scenario.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// One seed alone.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// A file of `faults/`, by name; all of them otherwise.
    #[arg(long, default_value = "all")]
    scenario: String,
    /// Print everything that happens.
    #[arg(long)]
    trace: bool,
    /// Threads; 0 for one per core.
    #[arg(long, default_value_t = 0)]
    jobs: usize,
    /// Stop after so many seconds.
    #[arg(long)]
    time_limit: Option<u64>,
    /// Go on after a violation, and tell them all at the end.
    #[arg(long)]
    keep_going: bool,
    /// Makes one mistake at a time in the code itself, and reports after how many seeds it is caught.
    #[cfg(feature = "planted-faults")]
    #[arg(long)]
    mutants: bool,
    /// With `--mutants`: only the mistakes whose names contain this. Otherwise the one of this name is made in all runs
    #[cfg(feature = "planted-faults")]
    #[arg(long, default_value = "", hide_default_value = true)]
    fault: String,
    /// Print what occurred how often.
    #[arg(long)]
    counts: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let scenarios = match scenarios(&args.scenario) {
        Ok(scenarios) => scenarios,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    #[cfg(feature = "planted-faults")]
    if args.mutants {
        std::panic::set_hook(Box::new(|_| {}));
        return mutants(&scenarios, &args.fault, args.seeds);
    }
    #[cfg(feature = "planted-faults")]
    if !args.fault.is_empty() {
        use dske_simulation::mutants::{Fault, select};
        let Some(fault) = Fault::ALL.into_iter().find(|fault| format!("{fault:?}") == args.fault) else {
            eprintln!("there is no mistake of the name {}", args.fault);
            return ExitCode::FAILURE;
        };
        select(Some(fault));
    }
    // A panic of the code under test is a violation, and is reported as one.
    std::panic::set_hook(Box::new(|_| {}));
    let (from, seeds) = args.seed.map_or((args.from, args.seeds), |seed| (seed, 1));
    let telling = if args.trace { Telling::Aloud } else { Telling::Numbers };
    let jobs = match args.jobs {
        _ if args.trace => 1,
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        jobs => jobs,
    };
    let work = seeds * scenarios.len() as u64;
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let totals = Mutex::new(Totals::default());
    let began = Instant::now();
    let limit = args.time_limit.map(Duration::from_secs);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let over = limit.is_some_and(|limit| began.elapsed() >= limit);
                    if number >= work || over || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let at = usize::try_from(number % scenarios.len() as u64).unwrap_or(0);
                    let scenario = &scenarios[at];
                    let seed = from + number / scenarios.len() as u64;
                    let done = run(seed, scenario, telling);
                    if done.violation.is_some() && !args.keep_going {
                        stop.store(true, Ordering::Relaxed);
                    }
                    totals.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(scenario, done);
                }
            });
        }
    });
    let totals = totals.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    totals.print(&args, began.elapsed());
    for found in &totals.violations {
        println!("{:?} in seed {} of {}: {}", found.invariant, found.seed, found.scenario.name, found.text);
    }
    let Some(first) = totals.violations.first() else { return ExitCode::SUCCESS };
    report(&first.scenario, first.seed);
    ExitCode::FAILURE
}

#[cfg(feature = "planted-faults")]
fn mutants(scenarios: &[Scenario], wanted: &str, seeds_max: u64) -> ExitCode {
    println!(
        "{:<28} {:>6}  {:<12} {:<16} first violation",
        "planted fault", "seeds", "scenario", "invariant"
    );
    let mut missed = 0;
    for fault in dske_simulation::mutants::Fault::ALL {
        let name = format!("{fault:?}");
        if !name.contains(wanted) {
            continue;
        }
        match dske_simulation::mutants::hunt(fault, scenarios, seeds_max) {
            Some(caught) => println!(
                "{name:<28} {:>6}  {:<12} {:<16} {}",
                caught.seeds,
                caught.scenario,
                format!("{:?}", caught.violation.invariant),
                caught.violation.text.chars().take(90).collect::<String>()
            ),
            None => {
                missed += 1;
                println!("{name:<28} {seeds_max:>6}  not caught");
            }
        }
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn scenarios(name: &str) -> Result<Vec<Scenario>, String> {
    let all = Scenario::all()?;
    if name == "all" {
        return Ok(all);
    }
    let names: Vec<String> = all.iter().map(|scenario| scenario.name.clone()).collect();
    let one: Vec<Scenario> = all.into_iter().filter(|scenario| scenario.name == name).collect();
    if one.is_empty() { Err(format!("no scenario {name}: there are {}", names.join(", "))) } else { Ok(one) }
}

/// A violation, and where it was found.
struct Found {
    scenario: Scenario,
    seed: u64,
    invariant: Invariant,
    text: String,
}

#[derive(Default)]
struct Totals {
    runs: u64,
    steps: u64,
    counts: BTreeMap<&'static str, u64>,
    violations: Vec<Found>,
}

impl Totals {
    fn add(&mut self, scenario: &Scenario, run: Run) {
        self.runs += 1;
        self.steps += run.steps;
        for (what, count) in run.counts {
            *self.counts.entry(what).or_default() += count;
        }
        if let Some((violation, _)) = run.violation {
            let (invariant, text) = (violation.invariant, violation.text);
            self.violations.push(Found { scenario: scenario.clone(), seed: run.seed, invariant, text });
        }
    }

    fn print(&self, args: &Args, took: Duration) {
        let seconds = took.as_secs_f64();
        let count = |what| self.counts.get(what).copied().unwrap_or(0);
        println!(
            "{} seeds, {} events in {seconds:.1} s ({:.0} seeds/s): {} agreements, {} keys held, {} handed out, {} \
             crashes and power cuts, {} messages lost",
            self.runs,
            self.steps,
            self.runs as f64 / seconds.max(1e-9),
            count("agreements begun"),
            count("keys held"),
            count("keys handed out"),
            count("crashes") + count("power cuts") + count("power cuts at a start"),
            count("messages lost"),
        );
        if args.counts {
            self.counts.iter().for_each(|(what, count)| println!("{count:>12}  {what}"));
        }
    }
}

/// Runs a seed that failed once more, now in words.
fn report(scenario: &Scenario, seed: u64) {
    let again = run(seed, scenario, Telling::Words);
    let name = &scenario.name;
    match again.violation {
        None => println!("seed {seed} of {name} failed, and did not when it was repeated: not deterministic"),
        Some((violation, last)) => {
            println!(
                "\nVIOLATION of {:?} in step {} of seed {seed}, scenario {name}:",
                violation.invariant, again.steps
            );
            println!("  {}\n\nThe last events:", violation.text);
            last.iter().for_each(|line| println!("{line}"));
        }
    }
    println!("\nReplay: cargo run --release -p dske-simulation -- --seed {seed} --scenario {name} --trace");
}
