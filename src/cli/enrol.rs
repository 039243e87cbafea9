//! `dske enrol`: a client's request for service, and its acceptance by a hub's operator.

use std::path::PathBuf;

use clap::Subcommand;
use dske_node::{
    control::{Reply, Request},
    enrol::{EnrolmentRequest, FORMAT},
};
use serde::Serialize;

use crate::cli::{
    config_error, context::Context, control, error::Result, progress::Progress, settings::NodeFlags,
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
    },
}

/// Runs `dske enrol …`.
pub(crate) fn run(command: &EnrolCommand, context: &Context) -> Result<()> {
    match command {
        EnrolCommand::Request { out } => request(out.as_deref(), context),
        EnrolCommand::Accept { file } => accept(file, context),
    }
}

fn request(out: Option<&std::path::Path>, context: &Context) -> Result<()> {
    let dir = context.dir()?;
    let config = context.config(&dir, &NodeFlags::default())?.config;
    let me = dske_node::identity(&dir)?;
    let request = EnrolmentRequest {
        format: FORMAT,
        name: config.node.name.clone(),
        node: me.node,
        peer_id: me.peer_id,
        addresses: config.network.announce.iter().map(ToString::to_string).collect(),
        applications: config.node.applications,
    };
    if let Some(path) = out {
        request.save(path).map_err(|error| config_error::plain(&error))?;
        context.out.note(format_args!(
            "{} {}: take it to each hub's operator",
            context.out.good(),
            path.display()
        ));
        return Ok(());
    }
    if context.out.json {
        return context.out.document(&request);
    }
    let text = toml::to_string_pretty(&request).map_err(std::io::Error::other)?;
    context.out.text(&text)
}

fn accept(file: &std::path::Path, context: &Context) -> Result<()> {
    #[derive(Serialize)]
    struct Accepted {
        client: String,
        node: String,
    }
    let dir = context.dir()?;
    let request = EnrolmentRequest::load(file).map_err(|error| config_error::plain(&error))?;
    let accepted = Accepted { client: request.name.to_string(), node: request.node.to_string() };
    match control::either_way(context, &dir, Request::EnrolAccept(request), &Progress::hidden())? {
        Reply::Done => {}
        _ => return Err(crate::cli::error::CliError::strange_reply()),
    }
    if context.out.json {
        return context.out.document(&accepted);
    }
    context.out.line(format_args!(
        "{} {} is enrolled ({}…)",
        context.out.good(),
        accepted.client,
        accepted.node.get(..8).unwrap_or_default()
    ))?;
    context
        .out
        .note(format_args!("next: `dske pskm make --for {} --size 64MiB -o {0}.pskm`", accepted.client));
    Ok(())
}
