//! `dske readmit`: the operator has found out why a hub was excluded, and trusts it again (§2.2).

use clap::Args;
use dske_node::{
    DataDir,
    control::{Reply, Request},
};
use dske_protocol::naming::NodeRef;

use crate::cli::{
    context::Context,
    control,
    error::{CliError, Result},
};

/// Arguments of `dske readmit`.
#[derive(Debug, Args)]
pub(crate) struct ReadmitArgs {
    /// The hub, by name, NAME/ID or id
    hub: NodeRef,
}

/// Runs `dske readmit`.
pub(crate) fn run(args: &ReadmitArgs, context: &Context) -> Result<()> {
    let dir = context.dir()?;
    let was_excluded = was_excluded(args, context, &dir)?;
    let request = Request::Readmit { hub: args.hub.clone() };
    match control::online(context, &dir, request, context.globals.timeout)? {
        Reply::Done if !was_excluded => {
            context.out.note(format_args!("{} was not excluded: nothing has changed", args.hub));
            Ok(())
        }
        Reply::Done => {
            context.out.note(format_args!("{} {} is used again", context.out.good(), args.hub));
            Ok(())
        }
        _ => Err(CliError::strange_reply()),
    }
}

/// Whether the hub that is meant is excluded now. Which hub that is, and whether there is one, is for the node to say.
fn was_excluded(args: &ReadmitArgs, context: &Context, dir: &DataDir) -> Result<bool> {
    match control::online(context, dir, Request::Status, context.globals.timeout)? {
        Reply::Status(status) => Ok(status
            .peers
            .iter()
            .any(|peer| peer.excluded.is_some() && args.hub.fits(&peer.node, &peer.name))),
        _ => Err(CliError::strange_reply()),
    }
}
