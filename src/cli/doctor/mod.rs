//! `dske doctor`: looks at everything around a node that can keep it from its work, and says what to do.
//!
//! Changes nothing. A store is opened only where no node runs and the directory is the user's own.

mod clock;
mod disk;
mod files;
mod finding;
mod limits;
mod network;
mod pads;

use std::process::ExitCode;

use clap::Args;
use dske_node::{
    DataDir,
    config::Config,
    control::{Reply, Request},
    status::Status,
};
use serde::Serialize;

use crate::cli::{
    context::{Context, UNFINISHED},
    control,
    error::{Result, exit},
    output::printable,
    settings::NodeFlags,
    wrap,
};
use finding::{Finding, Level};

/// Arguments of `dske doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 if nothing failed, 1 if something did. Warnings do not count.")]
pub(crate) struct DoctorArgs {}

/// What is looked at.
struct Patient<'a> {
    context: &'a Context,
    dir: &'a DataDir,
    config: &'a Config,
    /// Of the node, if it runs and answers.
    running: Option<&'a Status>,
}

/// Runs `dske doctor`.
pub(crate) fn run(_: &DoctorArgs, context: &Context) -> Result<ExitCode> {
    let dir = context.dir()?;
    let mut findings = vec![clock::clock()];
    match context.config(&dir, &NodeFlags::default()) {
        Ok(resolved) => {
            findings.push(Finding::good("configuration", "valid"));
            let running = ask(context, &dir, &mut findings);
            let patient = Patient { context, dir: &dir, config: &resolved.config, running: running.as_ref() };
            findings.extend(disk::disk(&patient));
            findings.extend(files::permissions(&patient));
            findings.extend(files::start(&patient));
            findings.extend(limits::all(&patient));
            findings.extend(network::ports(&patient));
            findings.extend(pads::store(&patient));
        }
        Err(error) => {
            let help = match dir.identity().try_exists() {
                _ if dske_node::lacks_configuration(&dir) => UNFINISHED,
                Ok(true) => {
                    "mend the file: `dske config check` shows the place, `dske config template` every key"
                }
                Err(_) => "the directory cannot be looked into: give this command as its owner or root",
                Ok(false) => {
                    "there is no node here: make one with `dske init`, or name its directory with --dir"
                }
            };
            findings.push(Finding::fail("configuration", error.to_string(), help));
        }
    }
    show(&findings, context)?;
    let failed = findings.iter().any(|finding| finding.level == Level::Fail);
    Ok(if failed { ExitCode::from(exit::OTHER) } else { ExitCode::SUCCESS })
}

/// The snapshot of the node, if one runs.
fn ask(context: &Context, dir: &DataDir, findings: &mut Vec<Finding>) -> Option<Status> {
    match control::online(context, dir, Request::Status, context.globals.timeout) {
        Ok(Reply::Status(status)) => {
            let finding = match &status.node.store_fault {
                None => Finding::good("node", format!("runs as process {}", status.node.pid)),
                Some(fault) => Finding::fail(
                    "node",
                    format!("its store has stopped: {fault}"),
                    "see its log, mend the cause, and start it again",
                ),
            };
            findings.push(finding);
            Some(*status)
        }
        Ok(_) => {
            let help = "it is of another version than this program: restart it";
            findings.push(Finding::fail("node", "gives a strange answer", help));
            None
        }
        Err(error) if error.code() == "dske::control::not-running" => {
            // What an end without warning leaves; the next start takes its place.
            let left =
                if dir.control_socket().exists() { ": its socket is left of one that was ended" } else { "" };
            let help = "start it with `dske run`, or its unit";
            findings.push(Finding::warn("node", format!("does not run{left}"), help));
            None
        }
        Err(error) if error.code() == "dske::control::denied" => {
            let help = "give this command as the node's user or root";
            findings.push(Finding::warn("node", format!("cannot be asked: {error}"), help));
            None
        }
        Err(error) => {
            let help = "see its log, and wait longer with --timeout";
            findings.push(Finding::warn("node", format!("does not answer: {error}"), help));
            None
        }
    }
}

fn show(findings: &[Finding], context: &Context) -> Result<()> {
    #[derive(Serialize)]
    struct Report<'a> {
        verdict: Level,
        checks: &'a [Finding],
    }
    let verdict = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    if context.out.json {
        return context.out.document(&Report { verdict, checks: findings });
    }
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    for finding in findings.iter().filter(|finding| finding.level != Level::Ok || !context.out.quiet) {
        let Finding { check, level, found, remedy } = finding;
        let mark = match level {
            Level::Ok => context.out.good(),
            Level::Warn => "!",
            Level::Fail => context.out.bad(),
        };
        let word = format!("{level:<4}");
        let head = format!("{mark} {word} {check:width$}  ");
        context.out.line(wrap::behind(&head, width + 9, &printable(found)))?;
        if let Some(remedy) = remedy {
            let head = format!("{:1$}  → ", "", width + 7);
            context.out.line(wrap::behind(&head, width + 11, &printable(remedy)))?;
        }
    }
    let count = |wanted| findings.iter().filter(|finding| finding.level == wanted).count();
    let (failed, warned) = (count(Level::Fail), count(Level::Warn));
    context.out.line(format_args!("{} checks: {failed} failed, {warned} warned", findings.len()))
}
