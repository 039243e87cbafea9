//! The command line: global options and the commands. Each group of commands has its own file, with its
//! arguments beside what they do.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use dske_protocol::ids::Name;

use crate::{
    bench::BenchCommand,
    cli::{
        config::ConfigCommand,
        doctor::DoctorArgs,
        enrol::EnrolCommand,
        explain::ExplainArgs,
        init::InitArgs,
        key::KeyCommand,
        output::ColorChoice,
        pskm::PskmCommand,
        readmit::ReadmitArgs,
        run::RunArgs,
        shell::{CompletionsArgs, ManArgs},
        status::StatusArgs,
        stream::StreamCommand,
        testnet::TestnetCommand,
        top::TopArgs,
        units,
    },
    demo::DemoArgs,
    experiment::ExperimentCommand,
};

/// Distributed Symmetric Key Exchange: agree secret keys through several hubs, none of which learns them.
#[derive(Debug, Parser)]
#[command(name = "dske", version, max_term_width = 100, arg_required_else_help = true)]
#[command(
    after_help = "Start with `dske demo`; `dske explain CODE` says more about an error. Exit status: 0 ok, 1 other, 2 usage, 3 unreachable, \
    4 fewer than k shares, 5 validation abort (a security event), 6 pad low, 7 configuration, 8 unsafe pad state."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// Data directory of the node [default: $XDG_DATA_HOME/dske or ~/.local/share/dske]
    #[arg(long, global = true, env = "DSKE_DIR", value_name = "DIR", hide_env_values = true)]
    pub(crate) dir: Option<PathBuf>,
    /// Act on a node of this local testnet
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) testnet: Option<Name>,
    /// Which node of the testnet
    #[arg(long = "as", global = true, value_name = "NODE")]
    pub(crate) as_node: Option<Name>,
    /// Configuration file [default: config.toml in the data directory]
    #[arg(long, global = true, env = "DSKE_CONFIG", value_name = "FILE", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON with a schema version
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print data and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Log more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: ColorChoice,
    /// Form of the log on standard error
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORM")]
    pub(crate) log_format: LogFormat,
    /// Give up waiting for the node after this long
    #[arg(long, global = true, value_name = "TIME", value_parser = units::parse_duration, default_value = "30s")]
    pub(crate) timeout: Duration,
}

/// `--log-format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LogFormat {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
    /// Lines that begin with a priority, as systemd takes them from a service for its journal.
    Journald,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The whole story in one command: hubs, clients, pads, keys, one hub lying
    Demo(DemoArgs),
    /// Make a data directory: identity, configuration, empty store
    Init(InitArgs),
    /// Run the node until Ctrl-C or SIGTERM
    Run(RunArgs),
    /// A client asks a hub for service; the hub's operator accepts
    #[command(subcommand)]
    Enrol(EnrolCommand),
    /// Pre-shared key modules: the sealed files in which hubs deliver pads
    #[command(subcommand)]
    Pskm(PskmCommand),
    /// Agree keys with other clients, and take them
    #[command(subcommand)]
    Key(KeyCommand),
    /// Keys agreed ahead, so that they are there when they are asked for
    #[command(subcommand)]
    Stream(StreamCommand),
    /// What the running node is and has
    Status(StatusArgs),
    /// The dashboard of the running node, or of all nodes of a local net
    Top(TopArgs),
    /// Use a hub again that was excluded
    Readmit(ReadmitArgs),
    /// A network of local processes to try things on
    #[command(subcommand)]
    Testnet(TestnetCommand),
    /// Measure
    #[command(subcommand)]
    Bench(BenchCommand),
    /// The paper's results, measured again: CSV, JSON and figures
    #[command(subcommand)]
    Experiment(ExperimentCommand),
    /// Look at what a node needs, and say what to do
    Doctor(DoctorArgs),
    /// What an error means and what to do about it
    Explain(ExplainArgs),
    /// The configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Print the manual page, or write all of them into a directory
    Man(ManArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_has_an_argument_by_the_id_of_a_global_one() {
        let whole = Cli::command();
        let globals: Vec<_> =
            whole.get_arguments().filter(|of| of.is_global_set()).map(|of| of.get_id().clone()).collect();
        assert!(globals.iter().any(|id| id == "dir"));
        let mut commands: Vec<_> = whole.get_subcommands().collect();
        while let Some(command) = commands.pop() {
            for own in command.get_arguments() {
                assert!(!globals.contains(own.get_id()), "{} of {}", own.get_id(), command.get_name());
            }
            commands.extend(command.get_subcommands());
        }
    }

    #[test]
    fn global_options_may_follow_the_command() {
        let cli = Cli::try_parse_from(["dske", "status", "--json", "--testnet", "dev", "--as", "alice"]);
        let globals = cli.map(|cli| cli.globals).map_err(|error| error.to_string());
        assert!(globals.is_ok_and(|globals| globals.json && globals.as_node.is_some()));
    }
}
