//! The log, on standard error. `RUST_LOG` overrides the flags.

use std::{fs::File, io::IsTerminal, sync::Arc};

use dske_storage::files;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        self, FmtContext,
        format::{FormatEvent, FormatFields, Writer},
        writer::BoxMakeWriter,
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::cli::{
    args::{Cli, Command, LogFormat},
    context::Context,
    output::printable,
};

/// Starts the log: a node tells what it does, other commands only what goes wrong.
pub(crate) fn start(cli: &Cli) {
    let globals = &cli.globals;
    let level = match (globals.quiet, globals.verbose) {
        (true, _) => "error",
        (false, 0) if matches!(cli.command, Command::Run(_)) => {
            // libp2p tells of each stream that a peer opens beyond its limits, and of each odd message of gossip, also as an
            // error: a log that peers can fill.
            "warn,libp2p_request_response=error,libp2p_yamux=error,yamux=error,libp2p_gossipsub=off,dske=info,\
             dske_node=info,dske_storage=info"
        }
        (false, 0) => "warn",
        (false, 1) => "info,dske=debug,dske_node=debug,dske_storage=debug",
        (false, _) => "debug,dske=trace,dske_node=trace,dske_storage=trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let file = if shows_screen(cli) { log_file(cli) } else { None };
    let color = crate::cli::output::Output::new(false, false, globals.color).color_stderr;
    let ansi = color && file.is_none() && std::io::stderr().is_terminal();
    // With `log_internal_errors` a closed standard error would panic.
    let lines = fmt::layer().with_ansi(ansi).log_internal_errors(false).with_writer(match file {
        Some(file) => BoxMakeWriter::new(Arc::new(file)),
        None => BoxMakeWriter::new(std::io::stderr),
    });
    let log = tracing_subscriber::registry().with(filter);
    match globals.log_format {
        LogFormat::Text => log.with(lines.with_target(false)).init(),
        LogFormat::Json => log.with(lines.json().flatten_event(true)).init(),
        LogFormat::Journald => {
            let form = Journal(fmt::format().without_time().with_level(false).with_target(false));
            log.with(lines.with_ansi(false).event_format(form)).init();
        }
    }
}

/// A line with its priority in front; the journal has the time itself.
struct Journal<F>(F);

impl<S, N, F> FormatEvent<S, N> for Journal<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        // A second line could bring a priority of its own.
        writeln!(out, "<{}>{}", priority(*event.metadata().level()), printable(line.trim_end()))
    }
}

/// As syslog counts: 3 is an error, 7 is for debugging.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// Whether the terminal belongs to the dashboard, and not to the log.
fn shows_screen(cli: &Cli) -> bool {
    matches!(&cli.command, Command::Run(args) if args.tui)
}

/// `node.log` in the data directory. Where it cannot be written, the command itself finds out why.
fn log_file(cli: &Cli) -> Option<File> {
    let dir = Context::new(cli.globals.clone()).dir().ok()?;
    files::append(&dir.path().join("node.log")).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_journal_gets_one_line_with_priority_and_fields() {
        let kept = Kept::default();
        let form = Journal(fmt::format().without_time().with_level(false).with_target(false));
        let writer = kept.clone();
        let layer = fmt::layer().with_writer(move || writer.clone()).with_ansi(false).event_format(form);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!(peer = %"p1\n<0>all is lost", "a tag is wrong");
            tracing::error!("the store stops");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "<4>a tag is wrong peer=p1\\n<0>all is lost\n<3>the store stops\n");
    }
}
