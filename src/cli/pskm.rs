//! `dske pskm`: modules from the hub that makes them to the client that imports them, and the receipt back.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use comfy_table::{Table, presets};
use dske_node::control::{Reply, Request};
use dske_protocol::{
    ids::NodeId,
    naming::{NodeRef, Roll},
};
use dske_storage::{ModuleRecord, ModuleState, TableState, TableStatus};
use serde::Serialize;

use crate::cli::{
    context::{Context, absolute},
    control,
    error::{CliError, Result},
    inspect,
    lane_sizes::LaneSizes,
    output::printable,
    progress::Progress,
    seal::SealArgs,
    units,
};

/// `dske pskm …`
#[derive(Debug, Subcommand)]
pub(crate) enum PskmCommand {
    /// Hub: make a module for a client
    Make {
        /// The client, by name or id; it must be enrolled
        #[arg(long = "for", value_name = "CLIENT")]
        client: NodeRef,
        #[command(flatten)]
        sizes: LaneSizes,
        /// The file to write
        #[arg(short, long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        seal: SealArgs,
    },
    /// Client: import a module, and print the receipt for the hub's operator
    Import {
        /// The module
        file: PathBuf,
        /// Overwrite and remove the file afterwards
        #[arg(long)]
        wipe: bool,
        #[command(flatten)]
        seal: SealArgs,
    },
    /// Hub: take a module into use, given the receipt that the client's operator read out
    Ack {
        /// The module's serial, such as p1-0007
        serial: String,
        /// The receipt: two words and four digits, in one argument or several
        #[arg(required = true, num_args = 1..)]
        receipt: Vec<String>,
    },
    /// Take a module's table out of use for good, at this end, and destroy the pads that are left
    Retire {
        /// The module's serial, such as p1-0007, or its table's id
        serial: String,
        /// Do not ask: this cannot be undone
        #[arg(long)]
        yes: bool,
    },
    /// The modules that this node made or imported
    Ls,
    /// What a module file says about itself; with its key, everything but the pads
    Inspect {
        /// The module
        file: PathBuf,
        #[command(flatten)]
        seal: SealArgs,
        /// Open it with the passphrase, from DSKE_PASSPHRASE or the terminal
        #[arg(long, conflicts_with = "key_file")]
        passphrase: bool,
    },
}

/// Runs `dske pskm …`.
pub(crate) fn run(command: PskmCommand, context: &Context) -> Result<()> {
    match command {
        PskmCommand::Make { client, sizes, out, seal } => make(client, sizes, &out, &seal, context),
        PskmCommand::Import { file, wipe, seal } => import(&file, wipe, &seal, context),
        PskmCommand::Ack { serial, receipt } => acknowledge(serial, &receipt, context),
        PskmCommand::Retire { serial, yes } => retire(serial, yes, context),
        PskmCommand::Ls => list(context),
        PskmCommand::Inspect { file, seal, passphrase } => {
            let seal = if passphrase || seal.key_file.is_some() { Some(seal.for_opening()?) } else { None };
            inspect::run(&file, seal.as_ref(), context)
        }
    }
}

fn make(client: NodeRef, sizes: LaneSizes, out: &Path, seal: &SealArgs, context: &Context) -> Result<()> {
    let dir = context.dir()?;
    let out = absolute(out)?;
    if out.exists() {
        return Err(
            CliError::usage(format!("{} exists already", out.display())).help("choose another file with -o")
        );
    }
    let seal = seal.for_making(context)?;
    let progress = Progress::new("generating", &context.out);
    let reply = control::either_way(
        context,
        &dir,
        Request::PskmMake { client, lane_bytes: sizes.lane_bytes(), out: out.clone(), seal },
        &progress,
    );
    progress.clear();
    let Reply::Module(module) = reply? else { return Err(CliError::strange_reply()) };
    if context.out.json {
        return context.out.document(&Document { module: &module, receipt: None });
    }
    let (good, serial, size) = (context.out.good(), printable(&module.serial), units::size(module.bytes));
    context.out.line(format_args!(
        "{good} {serial} for {}: {size} in {}",
        module.client_name,
        out.display()
    ))?;
    context.out.note(format_args!(
        "next: bring file and key to {} by different ways; then `dske pskm ack {serial} RECEIPT`",
        module.client_name
    ));
    Ok(())
}

fn import(file: &Path, wipe: bool, seal: &SealArgs, context: &Context) -> Result<()> {
    let dir = context.dir()?;
    let path = absolute(file)?;
    if !path.exists() {
        return Err(CliError::file("read", &path, std::io::ErrorKind::NotFound.into()));
    }
    let seal = seal.for_opening()?;
    let progress = Progress::new("importing", &context.out);
    let reply = control::either_way(context, &dir, Request::PskmImport { path, seal, wipe }, &progress);
    progress.clear();
    let Reply::Imported { module, receipt, wipe_problem } = reply? else {
        return Err(CliError::strange_reply());
    };
    if let Some(problem) = wipe_problem {
        // Said even to those who asked for quiet: pads lie about in the open.
        eprintln!("warning: {}; destroy the file by hand", printable(&problem));
    }
    if context.out.json {
        return context.out.document(&Document { module: &module, receipt: Some(&receipt) });
    }
    let (serial, hub, receipt) = (printable(&module.serial), &module.hub_name, printable(&receipt));
    context.out.line(format_args!("imported {serial}; read to {hub}'s operator: \"{receipt}\""))?;
    context.out.note(format_args!(
        "{hub} is what it is called here; its id is {}: compare it with its operator, and name it in policy.hubs",
        module.hub
    ));
    Ok(())
}

fn acknowledge(serial: String, receipt: &[String], context: &Context) -> Result<()> {
    let dir = context.dir()?;
    let request = Request::PskmAck { serial, receipt: receipt_phrase(receipt) };
    let reply = control::either_way(context, &dir, request, &Progress::hidden())?;
    let Reply::Module(module) = reply else { return Err(CliError::strange_reply()) };
    if context.out.json {
        return context.out.document(&Document { module: &module, receipt: None });
    }
    context.out.line(format_args!("{} active", printable(&module.serial)))
}

fn retire(serial: String, yes: bool, context: &Context) -> Result<()> {
    let dir = context.dir()?;
    let serial_shown = printable(&serial);
    if !yes {
        if !std::io::stdin().is_terminal() {
            return Err(CliError::usage(format!("retiring {serial_shown} cannot be undone"))
                .help("say --yes where nobody can be asked"));
        }
        eprint!(
            "Retire {serial_shown}? Its pads are destroyed; this cannot be undone. Type its serial to go on: "
        );
        let mut answer = String::new();
        std::io::stdin()
            .read_line(&mut answer)
            .map_err(|cause| CliError::usage("no answer was given").because(cause))?;
        if answer.trim() != serial {
            return Err(CliError::usage(format!("{serial_shown} was not retired")));
        }
    }
    let request = Request::PskmRetire { serial };
    let reply = control::either_way(context, &dir, request, &Progress::hidden())?;
    let Reply::Module(module) = reply else { return Err(CliError::strange_reply()) };
    if context.out.json {
        return context.out.document(&Document { module: &module, receipt: None });
    }
    context.out.line(format_args!("{} retired; its pads are destroyed", printable(&module.serial)))?;
    context.out.note("the other end's operator should retire it too: its pads are of no use any more");
    Ok(())
}

fn list(context: &Context) -> Result<()> {
    #[derive(Serialize)]
    struct Modules {
        modules: Vec<ModuleRecord>,
    }
    let dir = context.dir()?;
    let (modules, tables) = control::modules(context, &dir)?;
    if context.out.json {
        return context.out.document(&Modules { modules });
    }
    if modules.is_empty() {
        context.out.note("no modules yet");
        return Ok(());
    }
    context.out.line(table(&modules, &tables).trim_fmt())
}

#[derive(Serialize)]
struct Document<'a> {
    module: &'a ModuleRecord,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<&'a str>,
}

fn table(modules: &[ModuleRecord], tables: &[TableStatus]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["SERIAL", "HUB", "CLIENT", "SIZE", "STATE"]);
    let mut roll = Roll::default();
    for module in modules {
        roll.add(module.hub, module.hub_name.clone(), module.made_ms);
        roll.add(module.client, module.client_name.clone(), module.made_ms);
    }
    // Where two nodes have had one name, its id stands beside it.
    let label = |node: &NodeId| roll.label(node);
    for module in modules {
        table.add_row([
            printable(&module.serial),
            label(&module.hub),
            label(&module.client),
            units::size(module.bytes),
            state(module, tables.iter().find(|table| table.table == module.table)),
        ]);
    }
    table
}

/// How far a module has come, and what its table is at this end.
fn state(module: &ModuleRecord, table: Option<&TableStatus>) -> String {
    let kept = match module.state {
        ModuleState::Made => "made, waits for receipt",
        ModuleState::Imported => "imported",
        ModuleState::Acknowledged => "active",
        ModuleState::Retired => "retired",
        ModuleState::Locked => "locked by wrong receipts: retire it",
    };
    match (module.state, table.map(|table| &table.state)) {
        (ModuleState::Imported, Some(TableState::Pending)) => {
            format!("imported, waits for {}", module.hub_name)
        }
        (ModuleState::Imported | ModuleState::Acknowledged, Some(state)) => match state {
            TableState::Pending => "pending".to_owned(),
            TableState::Active => "active".to_owned(),
            TableState::Spent => "spent".to_owned(),
            TableState::Suspended { reason } => format!("suspended: {}", printable(reason)),
            TableState::Quarantined { reason } => format!("quarantined: {}", printable(reason)),
            TableState::Retired => "retired".to_owned(),
        },
        _ => kept.to_owned(),
    }
}

/// The phrase from however many arguments the shell made of it.
fn receipt_phrase(words: &[String]) -> String {
    let words: Vec<&str> =
        words.iter().flat_map(|word| word.split(['-', ' ', '\t'])).filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_the_same_however_it_is_typed() {
        let split =
            |words: &[&str]| receipt_phrase(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
        for words in [
            &["olive tango 4417"][..],
            &["olive-tango-4417"],
            &["olive", "tango", "4417"],
            &[" olive  tango-4417 "],
        ] {
            assert_eq!(split(words), "olive tango 4417");
        }
    }
}
