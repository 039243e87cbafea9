//! The log, on standard error or in the journal. `RUST_LOG` overrides the flags.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::cli::{
    args::{Cli, Command, LogFormat},
    error::{CliError, Result, exit},
};

/// Starts the log: a node tells what it does, other commands only what goes wrong.
pub(crate) fn start(cli: &Cli) -> Result<()> {
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
    let color = crate::cli::output::Output::new(false, false, globals.color).color_stderr;
    let ansi = color && std::io::stderr().is_terminal();
    // With `log_internal_errors` a closed standard error would panic.
    let lines = || fmt::layer().with_writer(std::io::stderr).with_ansi(ansi).log_internal_errors(false);
    let log = tracing_subscriber::registry().with(filter);
    match globals.log_format {
        LogFormat::Text => log.with(lines().with_target(false)).init(),
        LogFormat::Json => log.with(lines().json().flatten_event(true)).init(),
        LogFormat::Journald => {
            let journal = tracing_journald::layer().map_err(|error| {
                CliError::new("dske::log::journald", exit::OTHER, "there is no journal to log to")
                    .because(error)
                    .help("choose another --log-format; `text` on standard error does everywhere")
            })?;
            log.with(journal.with_field_prefix(Some("DSKE".into()))).init();
        }
    }
    Ok(())
}
