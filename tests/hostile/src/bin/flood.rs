//! Floods a network of real processes and reports what that costs:
//! `cargo build --release && cargo run --release -p dske-hostile --bin flood -- --minutes 10 forged strangers`.
//!
//! Without kinds each is run by itself, one after the other, on a network of its own. Ends with 1 where pad was burned beyond
//! what the honest keys cost.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use dske_hostile::flood::{FloodError, Kind, Lengths, Net, run};

/// Size of each table: a key every 15 ms for an hour takes some 12 MiB of each lane.
const PADS: &str = "64MiB";

struct Arguments {
    dske: PathBuf,
    calm: Duration,
    flood: Duration,
    kinds: Vec<Kind>,
}

fn main() -> ExitCode {
    match arguments().map(|arguments| floods(&arguments)) {
        Err(usage) => {
            eprintln!("{usage}\nflood [--dske PATH] [--minutes M | --seconds S] [--calm SECONDS] [KIND …]");
            ExitCode::from(2)
        }
        Ok(Err(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        Ok(Ok(clean)) => {
            if clean {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn arguments() -> Result<Arguments, String> {
    let beside = std::env::current_exe().map_err(|error| error.to_string())?.with_file_name("dske");
    let seconds = Duration::from_secs;
    let mut arguments = Arguments { dske: beside, calm: seconds(20), flood: seconds(30), kinds: Vec::new() };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        let mut number = || {
            let value = given.next().ok_or_else(|| format!("{argument} needs a value"))?;
            value.parse::<u64>().map_err(|error| format!("{value}: {error}"))
        };
        match argument.as_str() {
            "--minutes" => arguments.flood = seconds(number()? * 60),
            "--seconds" => arguments.flood = seconds(number()?),
            "--calm" => arguments.calm = seconds(number()?),
            "--dske" => arguments.dske = given.next().ok_or("--dske needs a path")?.into(),
            kind => arguments.kinds.push(kind.parse()?),
        }
    }
    if !arguments.dske.is_file() {
        return Err(format!("{} is not there: build it, or name it with --dske", arguments.dske.display()));
    }
    Ok(arguments)
}

/// Whether no pad was burned beyond what the honest keys cost.
fn floods(arguments: &Arguments) -> Result<bool, FloodError> {
    let lengths = Lengths { calm: arguments.calm, flood: arguments.flood };
    let runs: Vec<Vec<Kind>> = if arguments.kinds.is_empty() {
        Kind::ALL.into_iter().map(|kind| vec![kind]).collect()
    } else {
        vec![arguments.kinds.clone()]
    };
    let mut clean = true;
    for kinds in runs {
        // A network each: who was shut out in one flood must not be missing in the next.
        let net = Net::up(&arguments.dske, PADS)?;
        let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
        println!("\n=== {} for {:?}", names.join(" + "), arguments.flood);
        let report = run(&net, &kinds, lengths)?;
        println!("{report}");
        clean &= report.is_clean();
    }
    Ok(clean)
}
