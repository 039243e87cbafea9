//! `dske key next`: the next key of a stream's pool.

use std::time::Duration;

use clap::Args;
use dske_node::control::{KeyRun, Reply, Request};
use dske_protocol::naming::NodeRef;
use serde::Serialize;

use crate::cli::{
    context::Context,
    control::Caller,
    error::{CliError, Result},
    key::Place,
    key_out,
    key_report::{Placed, print_with_key},
    stream::Which,
    units,
};

/// Arguments of `dske key next`.
#[derive(Debug, Args)]
pub(crate) struct NextArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    place: Place,
}

/// What is told about a key out of a pool: every receiver has confirmed it.
#[derive(Debug, Serialize)]
struct Report {
    id: String,
    bits: u64,
    confirmed: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

/// Runs `dske key next`.
pub(crate) fn run(args: &NextArgs, context: &Context) -> Result<()> {
    args.place.check()?;
    let caller = Caller::new()?;
    let place = args.place.open(args.which.bits / 8)?;
    let spec = args.which.spec(0, 1);
    let request = Request::StreamNext { spec, count: 1, wait_ms: units::millis(context.globals.timeout) };
    let wait = context.globals.timeout.saturating_add(Duration::from_secs(5));
    match caller.ask(context, &context.dir()?, request, wait)? {
        Reply::Batch(batch) => {
            let key = batch.into_single().ok_or_else(CliError::strange_reply)?;
            deliver(&key, &args.which.with, place, context)
        }
        _ => Err(CliError::strange_reply()),
    }
}

fn deliver(key: &KeyRun, with: &[NodeRef], place: Placed, context: &Context) -> Result<()> {
    let out = &context.out;
    let names: Vec<String> = with.iter().map(ToString::to_string).collect();
    let bytes = u64::try_from(key.keys.len()).unwrap_or(u64::MAX);
    let mut report =
        Report { id: key.first.to_string(), bits: bytes.saturating_mul(8), confirmed: names, file: None };
    let line = format!(
        "key {}  {} of the pool with {}",
        report.id,
        units::bits(report.bits),
        report.confirmed.join(", ")
    );
    match place {
        Placed::File(file, path) => {
            file.fill(key.keys.expose())?;
            report.file = Some(path.display().to_string());
        }
        Placed::Print(encoding) if !out.json => {
            out.note(&line);
            return key_out::print(key.keys.expose(), encoding);
        }
        Placed::Print(_) => return print_with_key(&report, key.keys.expose()),
    }
    if out.json {
        return out.document(&report);
    }
    out.line(line)?;
    if let Some(file) = &report.file {
        out.note(format_args!("  in {file}"));
    }
    for receiver in &report.confirmed {
        let command = context.fetch_command(receiver, &report.id);
        out.note(out.dim(format_args!("  at {receiver}: {command}")));
    }
    Ok(())
}
