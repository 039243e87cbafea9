//! The log, on standard error. `RUST_LOG` overrides the flags.

use std::{
    fs::{File, OpenOptions},
    io::IsTerminal,
    os::unix::fs::OpenOptionsExt,
    sync::Arc,
};

use tracing_subscriber::{EnvFilter, fmt::writer::BoxMakeWriter};

use crate::cli::{
    args::{Cli, Command, LogFormat},
    context::Context,
};

/// Starts the log: a node tells what it does, other commands only what goes wrong.
pub(crate) fn start(cli: &Cli) {
    let globals = &cli.globals;
    let level = match (globals.quiet, globals.verbose) {
        (true, _) => "error",
        (false, 0) if matches!(cli.command, Command::Run(_)) => {
            // libp2p warns of each stream that a peer opens beyond its limits: a log that peers can fill.
            "warn,libp2p_request_response=error,libp2p_yamux=error,yamux=error,libp2p_gossipsub=error,dske=info,\
             dske_node=info,dske_storage=info"
        }
        (false, 0) => "warn",
        (false, 1) => "info,dske=debug,dske_node=debug,dske_storage=debug",
        (false, _) => "debug,dske=trace,dske_node=trace,dske_storage=trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let file = if shows_screen(cli) { log_file(cli) } else { None };
    let color = crate::cli::output::Output::new(false, false, globals.color).color_stderr;
    // With `log_internal_errors` a closed standard error would panic.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(color && file.is_none() && std::io::stderr().is_terminal())
        .log_internal_errors(false);
    let writer = match file {
        Some(file) => BoxMakeWriter::new(Arc::new(file)),
        None => BoxMakeWriter::new(std::io::stderr),
    };
    let builder = builder.with_writer(writer);
    match globals.log_format {
        LogFormat::Text => builder.with_target(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}

/// Whether the terminal belongs to the dashboard, and not to the log.
fn shows_screen(cli: &Cli) -> bool {
    matches!(&cli.command, Command::Run(args) if args.tui)
}

/// `node.log` in the data directory. Where it cannot be written, the command itself finds out why.
fn log_file(cli: &Cli) -> Option<File> {
    let dir = Context::new(cli.globals.clone()).dir().ok()?;
    OpenOptions::new().create(true).append(true).mode(0o600).open(dir.path().join("node.log")).ok()
}
