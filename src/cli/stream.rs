//! `dske stream`: keys that are agreed ahead, so that they are there when they are asked for.

use clap::{Args, Subcommand};
use comfy_table::{CellAlignment, Table, presets};
use dske_node::{
    control::{Reply, Request, StreamSpec},
    status::StreamStatus,
};
use dske_protocol::naming::NodeRef;

use crate::cli::{
    context::Context,
    control,
    error::{CliError, Result},
    output::printable,
    units,
};

/// `dske stream …`
#[derive(Debug, Subcommand)]
pub(crate) enum StreamCommand {
    /// Agree keys ahead with other clients from now on, also after restarts; or change the marks of a stream
    Open(OpenArgs),
    /// The streams of this client
    Ls,
    /// Agree no more ahead; keys that are there already can still be fetched by their ids
    Close(Which),
}

/// Which stream.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The receivers, by name, NAME/ID or id, with commas between
    #[arg(long, value_name = "PEER", value_delimiter = ',', required = true)]
    pub(crate) with: Vec<NodeRef>,
    /// What the keys are for; both sides see it, and so does the network
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    pub(crate) purpose: String,
    /// Length of each key
    #[arg(long, default_value = "256", value_parser = units::parse_bits)]
    pub(crate) bits: u64,
}

impl Which {
    /// The stream with these marks, which only opening looks at.
    pub(crate) fn spec(&self, low: u32, high: u32) -> StreamSpec {
        StreamSpec { with: self.with.clone(), purpose: self.purpose.clone(), bits: self.bits, low, high }
    }
}

/// Arguments of `dske stream open`.
#[derive(Debug, Args)]
pub(crate) struct OpenArgs {
    #[command(flatten)]
    which: Which,
    /// With fewer keys than this in the pool, more are agreed
    #[arg(long, default_value_t = 256, value_name = "KEYS")]
    low: u32,
    /// Until there are so many
    #[arg(long, default_value_t = 1024, value_name = "KEYS")]
    high: u32,
}

/// Runs `dske stream …`.
pub(crate) fn run(command: &StreamCommand, context: &Context) -> Result<()> {
    match command {
        StreamCommand::Open(OpenArgs { which, low, high }) => {
            ask(Request::StreamOpen(which.spec(*low, *high)), context)?;
            context.out.note(format_args!("{} the pool fills up to {high} keys", context.out.good()));
            Ok(())
        }
        StreamCommand::Close(which) => {
            ask(Request::StreamClose(which.spec(0, 1)), context)?;
            context.out.note(format_args!("{} no more keys are agreed ahead", context.out.good()));
            Ok(())
        }
        StreamCommand::Ls => list(context),
    }
}

fn ask(request: Request, context: &Context) -> Result<()> {
    match control::online(context, &context.dir()?, request, context.globals.timeout)? {
        Reply::Done => Ok(()),
        _ => Err(CliError::strange_reply()),
    }
}

fn list(context: &Context) -> Result<()> {
    let reply = control::online(context, &context.dir()?, Request::Status, context.globals.timeout)?;
    let Reply::Status(status) = reply else { return Err(CliError::strange_reply()) };
    if context.out.json {
        return context.out.json(&status.streams);
    }
    if status.streams.is_empty() {
        context.out.note("no streams: open one with `dske stream open`");
        return Ok(());
    }
    context.out.line(table(&status.streams).trim_fmt())?;
    for problem in status.streams.iter().filter_map(|stream| stream.problem.as_deref()) {
        context.out.note(format_args!("{} {}", context.out.bad(), printable(problem)));
    }
    Ok(())
}

fn table(streams: &[StreamStatus]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["WITH", "PURPOSE", "BITS", "KEYS", "LOW", "HIGH", "AGREED", "TAKEN", "PROTOCOL"]);
    for stream in streams {
        let with: Vec<String> = stream.with.iter().map(|name| printable(name)).collect();
        table.add_row([
            with.join(", "),
            printable(&stream.purpose),
            stream.bits.to_string(),
            stream.keys.to_string(),
            stream.low.to_string(),
            stream.high.to_string(),
            stream.agreed.to_string(),
            stream.handed_out.to_string(),
            stream.protocol.clone(),
        ]);
    }
    for column in table.column_iter_mut().skip(2).take(6) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
