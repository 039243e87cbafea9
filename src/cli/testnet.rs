//! `dske testnet`: a network of local processes to try things on.

use std::time::Instant;

use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{Table, presets};
use dske_node::control::{Chaos, Request};
use dske_protocol::ids::Name;
use serde::Serialize;

use crate::{
    cli::{
        context::Context,
        control,
        error::{CliError, Result},
        interrupt::{self, Interrupt},
        logs, units,
    },
    testnet::{self, Descriptor, Lifetime, Net, NodeEntry, Pads, Plan},
};

/// `dske testnet …`
#[derive(Debug, Subcommand)]
pub(crate) enum TestnetCommand {
    /// Make and start one: hubs p1, p2, …, clients alice, bob, …, or with --peers nodes that are both
    Up(UpArgs),
    /// Stop one and remove everything of it
    Down {
        #[command(flatten)]
        net: Which,
    },
    /// The testnets here and their nodes
    Ls,
    /// Print a node's log
    Logs {
        /// The node
        node: Name,
        /// Go on as the log grows, until Ctrl-C
        #[arg(short, long)]
        follow: bool,
        #[command(flatten)]
        net: Which,
    },
    /// End a node at once, as a crash would
    Kill {
        /// The node
        node: Name,
        #[command(flatten)]
        net: Which,
    },
    /// Start a node again, running or not
    Restart {
        /// The node
        node: Name,
        #[command(flatten)]
        net: Which,
    },
    /// Make a hub behave badly, or well again
    Chaos {
        /// The hub
        node: Name,
        /// What it does
        #[arg(value_enum)]
        how: ChaosChoice,
        #[command(flatten)]
        net: Which,
    },
}

/// Which testnet; `--testnet` says it as well.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Name of the testnet
    #[arg(long, default_value = "dev")]
    name: Name,
}

impl Which {
    fn name<'a>(&'a self, context: &'a Context) -> &'a Name {
        context.globals.testnet.as_ref().unwrap_or(&self.name)
    }

    fn load(&self, context: &Context) -> Result<Descriptor> {
        Descriptor::load(self.name(context))
    }
}

/// Arguments of `dske testnet up`.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    net: Which,
    /// Number of hubs
    #[arg(long, default_value_t = 5)]
    hubs: u8,
    /// Number of clients
    #[arg(long, default_value_t = 2)]
    clients: u8,
    /// Instead of hubs and clients: so many nodes that are hub and client, each enrolled with each other
    #[arg(long, value_name = "N", conflicts_with_all = ["hubs", "clients"])]
    peers: Option<u8>,
    /// Shares needed for a key; 3, or with --peers a majority of the N - 2 hubs that a key has
    #[arg(short)]
    k: Option<u8>,
    /// Pad bytes of each hub and client, both directions together
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = units::parse_size)]
    pads: u64,
    /// First of a run of ports; free ones otherwise
    #[arg(long)]
    port: Option<u16>,
    /// Have every node answer monitoring over HTTP, on a port of its own
    #[arg(long)]
    metrics: bool,
}

/// Shares needed for a key of a testnet of hubs and clients.
const K: u8 = 3;

/// The same among peers: more than half of the hubs that a key has, which are all nodes but its sender and its receiver.
pub(crate) fn majority_among_peers(peers: u8) -> u8 {
    peers.saturating_sub(2) / 2 + 1
}

/// `dske testnet chaos NODE …`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ChaosChoice {
    /// Forward false shares under right tags
    FalseShares,
    /// Behave
    Off,
}

/// Runs `dske testnet …`.
pub(crate) fn run(command: &TestnetCommand, context: &Context) -> Result<()> {
    match command {
        TestnetCommand::Up(args) => up(args, context),
        TestnetCommand::Down { net } => down(net.name(context), context),
        TestnetCommand::Ls => list(context),
        TestnetCommand::Logs { node, follow, net } => {
            logs::run(net.load(context)?.node(node)?, *follow, context)
        }
        TestnetCommand::Kill { node, net } => kill(net.load(context)?.node(node)?, context),
        TestnetCommand::Restart { node, net } => restart(net.load(context)?, node, context),
        TestnetCommand::Chaos { node, how, net } => chaos(net.load(context)?.node(node)?, *how, context),
    }
}

fn up(args: &UpArgs, context: &Context) -> Result<()> {
    let began = Instant::now();
    let name = args.net.name(context).clone();
    let root = Descriptor::root_of(&name)?;
    let UpArgs { pads: pad_bytes, port, metrics, .. } = *args;
    let (hubs, clients, peers) = match args.peers {
        Some(peers) => (0, 0, peers),
        None => (args.hubs, args.clients, 0),
    };
    let k = args.k.unwrap_or_else(|| args.peers.map_or(K, majority_among_peers));
    let pads = Pads::BothWays(pad_bytes);
    let plan = Plan { name, root, hubs, clients, peers, k, pads, deadline: None, port, metrics };
    if args.peers == Some(0) {
        return Err(CliError::usage("a testnet of no peers has no nodes"));
    }
    let runtime = interrupt::runtime()?;
    let interrupt = Interrupt::listen(&runtime)?;
    let net = Net::up(&plan, Lifetime::Detached, &runtime, &interrupt)?.keep();
    if context.out.json {
        return context.out.json(&net);
    }
    let names: Vec<&str> = net.nodes.iter().map(|node| node.name.as_str()).collect();
    let (took, pads) = (units::duration(began.elapsed()), units::size(pad_bytes));
    context.out.line(format_args!(
        "{} {} ready ({took}); pads {pads}",
        context.out.good(),
        names.join(", ")
    ))?;
    context.out.line(format_args!("  descriptor {}", net.path().display()))?;
    let mut metrics = net
        .nodes
        .iter()
        .filter_map(|node| Some(format!("http://127.0.0.1:{}/metrics ({})", node.metrics?, node.name)));
    metrics.try_for_each(|place| context.out.line(format_args!("  metrics {place}")))?;
    if let [.., one, other] = net.with_role(dske_node::config::Role::Client).collect::<Vec<_>>().as_slice() {
        let try_it =
            format!("dske key get --testnet {} --as {} --with {} --reveal", net.name, one.name, other.name);
        context.out.note(format_args!("  try: {try_it}"));
    }
    Ok(())
}

fn down(name: &Name, context: &Context) -> Result<()> {
    let root = Descriptor::root_of(name)?;
    // Ended before it wrote anything, `up` leaves an empty directory.
    if Descriptor::is_in(&root) || std::fs::remove_dir(&root).is_err() {
        take_down(Descriptor::load_any(name)?)?;
    }
    // The directory of all testnets goes with the last one.
    if let Some(home) = root.parent() {
        let _ = std::fs::remove_dir(home);
    }
    context.out.note(format_args!("{} testnet {name} is gone", context.out.good()));
    Ok(())
}

fn take_down(mut net: Descriptor) -> Result<()> {
    if net.maker.is_some_and(testnet::is_maker) {
        return Err(CliError::usage(format!("testnet {} is not ready: {}", net.name, net.unfinished()))
            .help("wait for it, or end it with Ctrl-C: then it removes what there is"));
    }
    for node in net.nodes.iter_mut().filter(|node| !testnet::is_running(node)) {
        node.pid = testnet::find(node).or(node.pid);
    }
    testnet::stop(&net.nodes)?;
    testnet::remove(&net)
}

fn list(context: &Context) -> Result<()> {
    #[derive(Serialize)]
    struct Nets {
        testnets: Vec<NetView>,
    }
    #[derive(Serialize)]
    struct NetView {
        #[serde(flatten)]
        net: Descriptor,
        running: Vec<Name>,
    }
    let nets = Descriptor::all()?;
    if context.out.json {
        let running = |net: &Descriptor| {
            let nodes = net.nodes.iter().filter(|node| testnet::is_running(node));
            nodes.map(|node| node.name.clone()).collect()
        };
        let testnets = nets.into_iter().map(|net| NetView { running: running(&net), net }).collect();
        return context.out.document(&Nets { testnets });
    }
    if nets.is_empty() {
        context.out.note("no testnets here; `dske testnet up` makes one");
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["TESTNET", "NODE", "ROLE", "PORT", "METRICS", "PROCESS"]);
    for (net, node) in nets.iter().flat_map(|net| net.nodes.iter().map(move |node| (net, node))) {
        let process = match node.pid {
            Some(pid) if testnet::is_running(node) => pid.to_string(),
            _ => "stopped".to_owned(),
        };
        table.add_row([
            net.name.to_string(),
            node.name.to_string(),
            node.roles(),
            node.port.to_string(),
            node.metrics.map_or_else(|| "-".to_owned(), |port| port.to_string()),
            process,
        ]);
    }
    let unfinished = || nets.iter().filter(|net| net.maker.is_some());
    if nets.iter().any(|net| !net.nodes.is_empty()) {
        context.out.line(table.trim_fmt())?;
    }
    for net in unfinished() {
        context.out.line(format_args!("{} is unfinished: {}", net.name, net.unfinished()))?;
        context.out.note(format_args!("  `dske testnet down --name {}` removes it", net.name));
    }
    Ok(())
}

fn kill(node: &NodeEntry, context: &Context) -> Result<()> {
    if !testnet::is_running(node) {
        context.out.note(format_args!("{} does not run", node.name));
        return Ok(());
    }
    testnet::stop_hard([node])?;
    context.out.note(format_args!("{} {} is dead", context.out.good(), node.name));
    Ok(())
}

fn restart(net: Descriptor, name: &Name, context: &Context) -> Result<()> {
    interrupt::runtime()?.block_on(testnet::restart(net, name))?;
    context.out.note(format_args!("{} {name} runs again", context.out.good()));
    Ok(())
}

fn chaos(node: &NodeEntry, how: ChaosChoice, context: &Context) -> Result<()> {
    if !node.has(dske_node::config::Role::Hub) {
        return Err(CliError::usage(format!(
            "{} is a client alone: only hubs can misbehave so far",
            node.name
        )));
    }
    let chaos = match how {
        ChaosChoice::FalseShares => Chaos::FalseShares,
        ChaosChoice::Off => Chaos::Off,
    };
    control::online(context, &node.data_dir(), Request::Chaos(chaos), context.globals.timeout)?;
    let what = if chaos == Chaos::Off { "behaves" } else { "sends false shares" };
    context.out.note(format_args!("{} {} {what}", context.out.good(), node.name));
    Ok(())
}
