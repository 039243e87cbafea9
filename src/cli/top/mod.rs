//! `dske top`: the dashboard of a running node or of a whole local net, and what it tells without a screen.

mod export;
mod inside;
mod orders;
mod plain;
mod screen;
mod settings;
mod source;

use std::{io::IsTerminal, path::PathBuf};

use clap::Args;
use dske_node::{
    DataDir,
    config::Role,
    control::{Reply, Request},
    status::Status,
};
use dske_protocol::ids::Name;
use dske_tui::{App, Kind, Palette, Setup};

pub(crate) use self::inside::{Inside, Shown};
use self::screen::Running;
use crate::{
    cli::{
        context::Context,
        control,
        error::{CliError, Result, exit},
        interrupt::{self, Interrupt},
    },
    testnet::Descriptor,
};

/// Arguments of `dske top`.
#[derive(Debug, Args)]
#[command(
    after_help = "With --testnet NAME alone it shows all nodes of that local net. `?` shows the keys; [tui.keys] of the \
    settings changes them, such as quit = [\"Q\", \"ctrl-q\"]."
)]
pub(crate) struct TopArgs {
    /// Print one screen as text; with --json, everything as JSON
    #[arg(long)]
    once: bool,
    /// Print a line for each thing that happens, until Ctrl-C; with --json, a JSON object
    #[arg(long, conflicts_with = "once")]
    stream: bool,
    /// Columns to use instead of the terminal's
    #[arg(long, value_name = "COLUMNS", requires = "once", value_parser = clap::value_parser!(u16).range(20..=500))]
    width: Option<u16>,
    #[command(flatten)]
    look: Look,
}

/// How the screen looks.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Look (over [tui] in top.toml)")]
pub(crate) struct Look {
    /// Only ASCII characters
    #[arg(long)]
    ascii: bool,
    /// default, mono or deuteranopia
    #[arg(long, value_name = "NAME")]
    palette: Option<Palette>,
    /// Settings of the screen [default: $XDG_CONFIG_HOME/dske/top.toml or ~/.config/dske/top.toml]
    #[arg(long, env = "DSKE_TOP_CONFIG", value_name = "FILE", hide_env_values = true)]
    settings: Option<PathBuf>,
}

/// A node to watch.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) name: Name,
    pub(crate) roles: Vec<Role>,
    pub(crate) dir: DataDir,
}

/// What is watched.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    title: String,
    kind: Kind,
    targets: Vec<Target>,
    /// The local net, where it is one.
    net: Option<Name>,
}

impl Watched {
    /// From the global options: a net, or one node.
    fn new(context: &Context) -> Result<Self> {
        match (&context.globals.testnet, &context.globals.as_node) {
            (Some(net), None) => {
                let descriptor = Descriptor::load(net)?;
                let target = |node: &crate::testnet::NodeEntry| Target {
                    name: node.name.clone(),
                    roles: node.roles.clone(),
                    dir: node.data_dir(),
                };
                Ok(Self {
                    title: net.to_string(),
                    kind: Kind::Net,
                    targets: descriptor.nodes.iter().map(target).collect(),
                    net: Some(net.clone()),
                })
            }
            _ => {
                let dir = context.dir()?;
                // Who it is, and whether it runs at all.
                let status = fetch(context, &dir)?;
                let name = status.node.name.clone();
                let net = context.globals.testnet.as_ref();
                let title = net.map_or_else(|| name.to_string(), |net| format!("{name}@{net}"));
                Ok(Self::node(name, title, dir, Kind::Node))
            }
        }
    }

    /// One node.
    fn node(name: Name, title: String, dir: DataDir, kind: Kind) -> Self {
        Self { title, kind, targets: vec![Target { name, roles: Vec::new(), dir }], net: None }
    }

    fn setup(&self, look: &Look, context: &Context) -> Result<Setup> {
        let settings = settings::load(look, context)?;
        Ok(Setup { title: self.title.clone(), kind: self.kind, settings })
    }
}

/// Runs `dske top`.
pub(crate) fn run(args: &TopArgs, context: &Context) -> Result<()> {
    if args.look.settings.is_some() {
        // Named, it is to be right, also where text has no use for it.
        settings::load(&args.look, context)?;
    }
    if args.once {
        return plain::once(&Watched::new(context)?, args.width, args.look.ascii, context);
    }
    if args.stream {
        return plain::stream(&Watched::new(context)?, args.look.ascii, context);
    }
    check_terminal()?;
    let watched = Watched::new(context)?;
    let app = App::new(watched.setup(&args.look, context)?);
    let runtime = interrupt::runtime()?;
    let interrupt = Interrupt::listen_on_screen(&runtime)?;
    let running = Running { watched, timeout: context.globals.timeout };
    let done = runtime.block_on(screen::run(app, running, async { interrupt.raised().await }));
    // A node that does not answer must not keep the program.
    runtime.shutdown_background();
    done
}

/// Fails where a screen has nowhere to go.
pub(crate) fn check_terminal() -> Result<()> {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() && !dumb {
        return Ok(());
    }
    let what =
        if dumb { "this terminal is a dumb one" } else { "standard input or output is not a terminal" };
    Err(CliError::new("dske::top::terminal", exit::USAGE, format!("the dashboard needs a screen: {what}"))
        .help("`dske top --once` prints one screen as text, `dske top --stream` lines as things happen"))
}

/// A snapshot of a running node.
fn fetch(context: &Context, dir: &DataDir) -> Result<Status> {
    match control::online(context, dir, Request::Status, context.globals.timeout)? {
        Reply::Status(status) => Ok(*status),
        _ => Err(CliError::strange_reply()),
    }
}
