//! `dske demo`: the whole story in one command. Separate processes on loopback, real modules, real keys, one
//! hub down and one lying, then one too many down. The exit status tells whether all went as it must.

pub(crate) mod agree;
mod cast;
mod expected;
mod report;
mod story;

use std::{process::ExitCode, time::Duration};

use clap::Args;

use crate::{
    cli::{
        context::Context,
        error::{CliError, Result},
        interrupt::{self, Interrupt},
        units,
    },
    testnet::{Pads, Plan, private_root},
};

use self::{report::Report, story::Story};

/// Clients in the story: alice, bob and carol.
const CLIENTS: u8 = 3;
/// Most hubs; more would not show more, and two cores have to carry them all.
const HUBS_MAX: u8 = 15;
/// How long receivers wait for shares: all nodes are near, and the abort at the end takes this long.
const DEADLINE: Duration = Duration::from_secs(2);
/// The whole demo must end within this time.
const TIME_MAX: Duration = Duration::from_secs(120);

/// Arguments of `dske demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Number of hubs
    #[arg(short, default_value_t = 5)]
    n: u8,
    /// Shares needed for a key
    #[arg(short, default_value_t = 3)]
    k: u8,
    /// Pad bytes of each hub and client, both directions together
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = units::parse_size)]
    pads: u64,
}

impl DemoArgs {
    /// The story has one hub down and one lying, and keys are agreed all the same: min(n − k + 1, k) − 1 ≥ 1
    /// liars, and k honest hubs left.
    fn check(&self) -> Result<()> {
        let Self { n, k, .. } = *self;
        if k < 2 || n > HUBS_MAX || n < k.saturating_add(2) {
            let message = format!("n = {n}, k = {k} leaves no room for one hub down and one lying");
            let help = format!("choose k from 2 on, and n from k + 2 to {HUBS_MAX}");
            return Err(CliError::usage(message).help(help));
        }
        Ok(())
    }
}

/// Runs `dske demo`.
pub(crate) fn run(args: &DemoArgs, context: &Context) -> Result<ExitCode> {
    args.check()?;
    let runtime = interrupt::runtime()?;
    let interrupt = Interrupt::listen(&runtime)?;
    let (name, root) = private_root("demo")?;
    let plan = Plan {
        name,
        root,
        hubs: args.n,
        clients: CLIENTS,
        k: args.k,
        pads: Pads::BothWays(args.pads),
        deadline: Some(DEADLINE),
        port: None,
        metrics: false,
    };
    let mut report = Report::new(context.out);
    report.opening(&plan)?;
    let mut story = Story::begin(plan, &runtime, &interrupt, &mut report)?;
    let played = runtime.block_on(interrupt.or(async {
        let play = story.play(&mut report);
        tokio::time::timeout(TIME_MAX, play)
            .await
            .map_err(|_| CliError::new("dske::demo::time", 1, "the demo hangs"))?
    }));
    let ended = story.end(&mut report);
    played.and(ended)?;
    report.close()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_story_needs_room_for_its_faults() {
        let check = |n, k| DemoArgs { n, k, pads: 1 << 20 }.check();
        for (n, k) in [(5, 3), (4, 2), (15, 8)] {
            assert!(check(n, k).is_ok(), "{n}, {k}");
        }
        for (n, k) in [(4, 3), (3, 1), (2, 2), (16, 3), (0, 0), (255, 254)] {
            assert!(check(n, k).is_err_and(|error| error.exit() == 2), "{n}, {k}");
        }
    }
}
