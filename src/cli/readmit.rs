//! `dske readmit`: the operator has found out why a hub was excluded, and trusts it again (§2.2).

use clap::Args;
use dske_node::control::{Reply, Request};
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
    let request = Request::Readmit { hub: args.hub.clone() };
    match control::online(context, &dir, request, context.globals.timeout)? {
        Reply::Done => {
            context.out.note(format_args!("{} {} is used again", context.out.good(), args.hub));
            Ok(())
        }
        _ => Err(CliError::strange_reply()),
    }
}
