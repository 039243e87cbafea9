//! The command line: parses, dispatches, and turns errors into reports and exit statuses.

pub(crate) mod args;
pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod config_error;
pub(crate) mod context;
pub(crate) mod control;
pub(crate) mod doctor;
pub(crate) mod enrol;
pub(crate) mod error;
pub(crate) mod explain;
pub(crate) mod init;
pub(crate) mod inspect;
pub(crate) mod interrupt;
pub(crate) mod key;
pub(crate) mod key_list;
pub(crate) mod key_next;
pub(crate) mod key_out;
pub(crate) mod key_report;
pub(crate) mod lane_sizes;
pub(crate) mod logging;
pub(crate) mod logs;
pub(crate) mod output;
pub(crate) mod progress;
pub(crate) mod pskm;
pub(crate) mod readmit;
pub(crate) mod run;
pub(crate) mod seal;
pub(crate) mod settings;
pub(crate) mod shell;
pub(crate) mod status;
pub(crate) mod stream;
pub(crate) mod testnet;
pub(crate) mod top;
pub(crate) mod units;
pub(crate) mod wrap;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;

use crate::{
    bench,
    cli::{
        args::{Cli, Command},
        context::Context,
        error::{CliError, Result},
    },
    demo, experiment,
};

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    // Before anything secret is in memory. What could not be had is told by `dske run`.
    dske_node::harden();
    // Prints help, version and usage errors itself, and exits with 0 or 2.
    let cli = Cli::parse();
    // Nothing that this program makes is for others to read, sled's files included.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    logging::start(&cli);
    let context = Context::new(cli.globals);
    match dispatch(cli.command, &context) {
        Ok(status) => status,
        Err(error) => report(&error, &context),
    }
}

fn dispatch(command: Command, context: &Context) -> Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match command {
        Command::Demo(args) => demo::run(&args, context),
        Command::Init(args) => init::run(&args, context).map(done),
        Command::Run(args) => run::run(&args, context).map(done),
        Command::Enrol(command) => enrol::run(&command, context).map(done),
        Command::Pskm(command) => pskm::run(command, context).map(done),
        Command::Key(command) => key::run(&command, context).map(done),
        Command::Stream(command) => stream::run(&command, context).map(done),
        Command::Status(args) => status::run(&args, context),
        Command::Top(args) => top::run(&args, context).map(done),
        Command::Readmit(args) => readmit::run(&args, context).map(done),
        Command::Testnet(command) => testnet::run(&command, context).map(done),
        Command::Bench(command) => bench::run(&command, context).map(done),
        Command::Experiment(command) => experiment::run(&command, context).map(done),
        Command::Doctor(args) => doctor::run(&args, context),
        Command::Explain(args) => explain::run(&args, context).map(done),
        Command::Config(command) => config::run(&command, context).map(done),
        Command::Completions(args) => shell::completions(&args, context).map(done),
        Command::Man(args) => shell::man(&args, context).map(done),
    }
}

/// Prints the error and gives its exit status. A reader that went away is not an error.
fn report(error: &CliError, context: &Context) -> ExitCode {
    if error.is_pipe_closed() {
        return ExitCode::SUCCESS;
    }
    let text = if context.out.json {
        error.render_json()
    } else {
        error.render(context.out.color_stderr, usize::from(dske_tui::terminal::width().unwrap_or(100)))
    };
    let _ = writeln!(io::stderr().lock(), "{text}");
    ExitCode::from(error.exit())
}
