//! What `dske top` tells without a screen: one picture as text, or lines as things happen.

use std::collections::BTreeMap;

use dske_node::status::Status;
use dske_tui::{Change, Changes, Update, ascii};

use super::{
    Watched, fetch,
    source::{Source, now_ms},
};
use crate::cli::{
    context::Context,
    error::{CliError, Result, exit},
    interrupt::{self, Interrupt},
};

/// Prints one picture: of a net, one of each node.
pub(super) fn once(watched: &Watched, width: Option<u16>, plain: bool, context: &Context) -> Result<()> {
    let width = width.or_else(dske_tui::terminal::width).unwrap_or(80);
    let statuses: Vec<Result<Status>> =
        watched.targets.iter().map(|target| fetch(context, &target.dir)).collect();
    if context.out.json {
        if watched.net.is_none() {
            return statuses.into_iter().try_for_each(|status| context.out.json(&status?));
        }
        let answered: Vec<Status> = statuses.into_iter().filter_map(Result::ok).collect();
        return context.out.json(&answered);
    }
    for (target, status) in watched.targets.iter().zip(statuses) {
        let text = match status {
            Ok(status) => dske_tui::once(&status, width) + if watched.net.is_some() { "\n" } else { "" },
            Err(error) if watched.net.is_some() => format!(" dske {}: DOWN, {error}\n\n", target.name),
            Err(error) => return Err(error),
        };
        context.out.text(&if plain { ascii(&text) } else { text })?;
    }
    Ok(())
}

/// Prints what happens until the user has enough.
pub(super) fn stream(watched: &Watched, plain: bool, context: &Context) -> Result<()> {
    let runtime = interrupt::runtime()?;
    let interrupt = Interrupt::listen(&runtime)?;
    let done = runtime.block_on(async {
        tokio::select! {
            // Being told to stop is how this ends.
            () = interrupt.raised() => Ok(()),
            done = follow(watched, plain, context) => done,
        }
    });
    runtime.shutdown_background();
    done
}

async fn follow(watched: &Watched, plain: bool, context: &Context) -> Result<()> {
    let mut source = Source::new(&watched.targets);
    let mut changes: BTreeMap<String, Changes> = BTreeMap::new();
    while let Some(update) = source.updates.recv().await {
        let news = match &update {
            Update::Status { node, at_ms, status } => {
                changes.entry(node.to_string()).or_default().since(*at_ms, status)
            }
            Update::Away { node, why, .. } => {
                let known = changes.entry(node.to_string()).or_default();
                known.away(now_ms(), node.as_str(), why).into_iter().collect()
            }
        };
        for change in news {
            print(&change, plain, context)?;
        }
    }
    Err(CliError::new("dske::top::source", exit::OTHER, "watching the nodes has come to an end"))
}

fn print(change: &Change, plain: bool, context: &Context) -> Result<()> {
    if context.out.json {
        return context.out.line(serde_json::to_string(change).map_err(std::io::Error::other)?);
    }
    let line = change.to_string();
    context.out.line(if plain { ascii(&line) } else { line })
}
