//! `dske demo`: the whole story in one command. Separate processes on loopback, real modules, real keys, one
//! hub down and one lying, then one too many down. The nodes are hubs and clients, or peers that are both. The exit status tells whether all went as it must.

pub(crate) mod agree;
mod cast;
mod expected;
mod report;
mod story;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use dske_protocol::ids::Name;

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

/// Shares needed for a key, where nothing else is said.
const K: u8 = 3;
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
    /// Instead of hubs and clients: so many nodes that are hub and client for each other
    #[arg(long, value_name = "N", conflicts_with = "n")]
    peers: Option<u8>,
    /// Shares needed for a key; 3, or as many as leave room for the story
    #[arg(short)]
    k: Option<u8>,
    /// Pad bytes of each hub and client, both directions together
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = units::parse_size)]
    pads: u64,
}

impl DemoArgs {
    /// The story has one hub down and one lying, and keys are agreed all the same: min(n − k + 1, k) − 1 ≥ 1
    /// liars, and k honest hubs left.
    fn check(&self) -> Result<()> {
        let (n, k) = (self.hubs_of_a_key(), self.k());
        if k < 2 || n > HUBS_MAX || n < k.saturating_add(2) {
            let message = format!("n = {n}, k = {k} leaves no room for one hub down and one lying");
            let help = match self.peers {
                None => format!("choose k from 2 on, and n from k + 2 to {HUBS_MAX}"),
                Some(_) => format!(
                    "of N peers N - 2 are hubs of a key: choose k from 2 on, and N from k + 4 to {}",
                    HUBS_MAX + 2
                ),
            };
            return Err(CliError::usage(message).help(help));
        }
        Ok(())
    }

    /// Hubs of a key between two clients: among peers all but these two.
    fn hubs_of_a_key(&self) -> u8 {
        self.peers.map_or(self.n, |peers| peers.saturating_sub(2))
    }

    fn k(&self) -> u8 {
        self.k.unwrap_or_else(|| match self.peers {
            None => K,
            Some(peers) => peers.saturating_sub(4).min(K),
        })
    }

    fn plan(&self, name: Name, root: PathBuf) -> Plan {
        let (hubs, clients, peers) = match self.peers {
            None => (self.n, CLIENTS, 0),
            Some(peers) => (0, 0, peers),
        };
        Plan {
            name,
            root,
            hubs,
            clients,
            peers,
            k: self.k(),
            pads: Pads::BothWays(self.pads),
            deadline: Some(DEADLINE),
            port: None,
            metrics: false,
        }
    }
}

/// Runs `dske demo`.
pub(crate) fn run(args: &DemoArgs, context: &Context) -> Result<ExitCode> {
    args.check()?;
    let runtime = interrupt::runtime()?;
    let interrupt = Interrupt::listen(&runtime)?;
    let (name, root) = private_root("demo")?;
    let plan = args.plan(name, root);
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
        let check = |n, k| DemoArgs { n, peers: None, k: Some(k), pads: 1 << 20 }.check();
        for (n, k) in [(5, 3), (4, 2), (15, 8)] {
            assert!(check(n, k).is_ok(), "{n}, {k}");
        }
        for (n, k) in [(4, 3), (3, 1), (2, 2), (16, 3), (0, 0), (255, 254)] {
            assert!(check(n, k).is_err_and(|error| error.exit() == 2), "{n}, {k}");
        }
        let peers = |peers| DemoArgs { n: 5, peers: Some(peers), k: None, pads: 1 << 20 };
        assert_eq!([6, 7, 17].map(|count| peers(count).k()), [2, 3, 3]);
        assert!([6, 7, 17].iter().all(|&count| peers(count).check().is_ok()));
        assert!([0, 4, 5, 18].iter().all(|&count| peers(count).check().is_err()));
    }
}
