//! `dske run`: the node, in the foreground, until Ctrl-C or SIGTERM; with a screen, until its terminal is closed as well.

use std::collections::BTreeSet;

use clap::Args;
use dske_node::{
    DataDir, NodeReady,
    config::{Config, Role},
};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal, setsid};
use tokio::sync::watch;

use crate::cli::{
    context::Context,
    error::{CliError, Result, exit},
    init::RoleChoice,
    interrupt::Interrupt,
    settings::NodeFlags,
    top,
};

/// Arguments of `dske run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Start in this role alone, where the node has both; refuse where it does not have it
    #[arg(long, value_enum)]
    role: Option<RoleChoice>,
    /// Show the dashboard; the log goes to node.log in the data directory
    #[arg(long)]
    pub(crate) tui: bool,
    #[command(flatten)]
    look: top::Look,
    #[command(flatten)]
    node: NodeFlags,
    /// Leave the terminal's session: for nodes that `dske testnet` starts
    #[arg(long, hide = true)]
    detach: bool,
    /// End together with this parent process: for nodes that `dske demo` starts
    #[arg(long, hide = true, value_name = "PID")]
    bound_to: Option<u32>,
}

/// Runs `dske run`.
pub(crate) fn run(args: &RunArgs, context: &Context) -> Result<()> {
    if args.detach {
        setsid().map_err(|error| {
            CliError::new("dske::run", exit::OTHER, "cannot leave the session").because(error)
        })?;
    }
    if let Some(parent) = args.bound_to {
        bind_to(parent)?;
    }
    let dir = context.dir()?;
    let mut config = context.config(&dir, &args.node)?.config;
    dske_node::check_access(&dir, context.globals.config.as_deref())?;
    if let Some(role) = args.role.map(Role::from) {
        if !config.node.roles.contains(&role) {
            let message = format!("{} is not a {role}", config.node.name);
            return Err(CliError::new("dske::config::role", exit::CONFIG, message)
                .help("a data directory keeps its roles; make another one with `dske init`"));
        }
        config.node.roles = BTreeSet::from([role]);
    }
    if args.tui {
        top::check_terminal()?;
    }
    let look = args.tui.then_some(&args.look);
    serve(dir, config, look, context)
}

fn serve(dir: DataDir, config: Config, look: Option<&top::Look>, context: &Context) -> Result<()> {
    let mut builder = match config.node.threads {
        // Handing work between threads costs more than a second one brings where cores are few.
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let threads = usize::from(config.node.threads.max(1));
    let runtime = builder.worker_threads(threads).enable_all().build().map_err(|error| {
        CliError::new("dske::runtime", exit::OTHER, "cannot start the node's threads").because(error)
    })?;
    let interrupt = match look {
        Some(_) => Interrupt::listen_on_screen(&runtime)?,
        None => Interrupt::listen(&runtime)?,
    };
    let name = config.node.name.clone();
    let out = context.out;
    let told = |ready: &NodeReady| {
        let listen: Vec<String> = ready.listen.iter().map(ToString::to_string).collect();
        out.note(format_args!("{name} {} is ready on {}", ready.node.short(), listen.join(", ")));
        if let Some(metrics) = ready.metrics {
            out.note(format_args!("metrics on http://{metrics}/metrics"));
        }
    };
    let Some(look) = look else {
        let shutdown = async { interrupt.raised().await };
        return Ok(runtime.block_on(dske_node::run(dir, config, told, shutdown))?);
    };
    // What is wrong with the settings is said before the node is started.
    let screen = top::Inside::new(name.clone(), dir.clone(), look, context)?;
    let (stop, stopped) = watch::channel(false);
    let (left, mut leave) = watch::channel(false);
    let mut shown = None;
    let ready = |_: &NodeReady| shown = Some(screen.show(left, stopped));
    let shutdown = async {
        tokio::select! {
            () = interrupt.raised() => {}
            // It is told when the screen has ended, or has gone in any other way.
            _ = leave.changed() => {}
        }
        // The screen goes first, so that what is said from now on can be read.
        stop.send_replace(true);
    };
    let served = runtime.block_on(dske_node::run(dir, config, ready, shutdown));
    stop.send_replace(true);
    let shown = shown.map_or(Ok(()), top::Shown::join);
    served?;
    shown
}

/// Asks the system to end this process when its parent does, and makes sure that the parent still lives: it
/// may have gone before the system was asked.
fn bind_to(parent: u32) -> Result<()> {
    let fail = |cause| {
        CliError::new("dske::run", exit::OTHER, "cannot tie this process to its parent").because(cause)
    };
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(fail)?;
    let expected = i32::try_from(parent).ok().and_then(Pid::from_raw);
    if getppid() == expected { Ok(()) } else { Err(CliError::interrupted()) }
}
