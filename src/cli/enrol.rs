//! `dske enrol`: a client's request for service, and its acceptance by a hub's operator.

use std::path::PathBuf;

use clap::Subcommand;
use dske_node::{
    config::{ConfigError, Role},
    control::{Enrolment, Reply, Request},
    enrol::EnrolmentRequest,
};
use dske_storage::Consent;
use serde::Serialize;

use crate::cli::{
    config_error,
    context::Context,
    control,
    error::{CliError, Result, exit},
    output::printable,
    progress::Progress,
    settings::NodeFlags,
};

/// `dske enrol …`
#[derive(Debug, Subcommand)]
pub(crate) enum EnrolCommand {
    /// Client: write the request that each hub's operator needs
    Request {
        /// The file to write; standard output otherwise
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Hub: take the client on that wrote this request
    Accept {
        /// The client's request
        file: PathBuf,
        /// Its key is known here by another name, and gets this one
        #[arg(long)]
        rename: bool,
        /// Its name is another key's here: that one is not served any more
        #[arg(long)]
        replace: bool,
    },
}

/// Runs `dske enrol …`.
pub(crate) fn run(command: &EnrolCommand, context: &Context) -> Result<()> {
    match command {
        EnrolCommand::Request { out } => request(out.as_deref(), context),
        EnrolCommand::Accept { file, rename, replace } => {
            accept(file, Consent { rename: *rename, replace: *replace }, context)
        }
    }
}

fn request(out: Option<&std::path::Path>, context: &Context) -> Result<()> {
    let dir = context.dir()?;
    let config = context.config(&dir, &NodeFlags::default())?.config;
    if !config.node.roles.contains(&Role::Client) {
        let message = format!("{} is a hub alone: clients ask to be enrolled", config.node.name);
        return Err(CliError::new("dske::node::role", exit::USAGE, message)
            .help("write the request in the directory of a client, or make this node one too: node.roles"));
    }
    let request = EnrolmentRequest::new(&dir, &config)?;
    let words = request.words();
    if let Some(path) = out {
        request.save(path).map_err(|error| config_error::plain(&error))?;
        context.out.note(format_args!(
            "{} {}: take it to each hub's operator",
            context.out.good(),
            path.display()
        ));
        context.out.note(format_args!("the words of this request, for each of them to compare: {words}"));
        return Ok(());
    }
    if context.out.json {
        return context.out.document(&Written { request: &request, words });
    }
    let text = request.to_toml().map_err(|error| config_error::plain(&error))?;
    context.out.text(&text)?;
    context.out.note(format_args!("the words of this request, for each hub's operator to compare: {words}"));
    Ok(())
}

#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    request: &'a EnrolmentRequest,
    words: String,
}

fn accept(file: &std::path::Path, consent: Consent, context: &Context) -> Result<()> {
    #[derive(Serialize)]
    struct Accepted {
        client: String,
        node: String,
        words: String,
        changes: Vec<String>,
    }
    let dir = context.dir()?;
    let request = EnrolmentRequest::load(file).map_err(|error| not_a_request(&error))?;
    let words = request.words();
    let asked = Request::EnrolAccept { request, consent };
    let enrolment = match control::either_way(context, &dir, asked, &Progress::hidden())? {
        Reply::Enrolled(enrolment) => enrolment,
        _ => return Err(crate::cli::error::CliError::strange_reply()),
    };
    let client = &enrolment.client;
    let (name, node, changes) = (client.name.to_string(), client.node.to_string(), changes(&enrolment));
    if context.out.json {
        return context.out.document(&Accepted { client: name, node, words, changes });
    }
    let short = client.node.short();
    context.out.line(format_args!("{} {name} is enrolled ({short}…)", context.out.good()))?;
    for change in changes {
        context.out.line(format_args!("  {change}"))?;
    }
    context.out.line(format_args!("compare with {name}'s operator, by voice: {words}"))?;
    context.out.note(format_args!(
        "next, if the words are the same: `dske pskm make --for {name} --size 64MiB -o {name}.pskm`"
    ));
    Ok(())
}

/// A file that is no request of this version, with what to do about that: it is no configuration.
fn not_a_request(error: &ConfigError) -> CliError {
    config_error::plain(error).help(match error {
        ConfigError::File { .. } => {
            "name the file that the client's operator wrote with `dske enrol request -o FILE`"
        }
        _ => "have the client make a new request with `dske enrol request -o FILE`",
    })
}

/// What is not as it was before, for the operator to see.
fn changes(enrolment: &Enrolment) -> Vec<String> {
    let Enrolment { client, before, replaced } = enrolment;
    let mut changes = Vec::new();
    if let Some(before) = before {
        if before.name != client.name {
            changes.push(format!("it was {} before", before.name));
        }
        if before.applications != client.applications {
            let list = |applications: &[String]| match applications.len() {
                0 => "none".to_owned(),
                _ => applications.iter().map(|text| printable(text)).collect::<Vec<_>>().join(", "),
            };
            let (old, new) = (list(&before.applications), list(&client.applications));
            changes.push(format!("its applications were {old}, and are {new}"));
        }
        if !before.enabled {
            changes.push("it is served again".to_owned());
        }
    }
    if let Some(old) = replaced {
        changes.push(format!("{} had that name, and is not served any more", old.node));
    }
    changes
}
