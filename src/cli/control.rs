//! Asking a node: through its control socket when it runs, on its store when it does not.

use std::{path::PathBuf, time::Duration};

use dske_node::{
    DataDir, NodeError, admin,
    control::{Client, NotRunning, Reply, Request},
};
use dske_storage::{ModuleRecord, Options, Store, TableStatus, files, pskm};
use tokio::runtime::Runtime;

use crate::cli::{
    context::Context,
    error::{CliError, Result, exit},
    interrupt::{self, Interrupt},
    progress::Progress,
    settings::NodeFlags,
};

/// Asks a node that must be running.
pub(crate) fn online(context: &Context, dir: &DataDir, request: Request, wait: Duration) -> Result<Reply> {
    Caller::new()?.ask(context, dir, request, wait)
}

/// Asks a node that must be running, and gives up when the user asks to stop: also where that was before the question, as
/// long as the caller was there. So what was prepared for an answer is cleaned up.
pub(crate) struct Caller {
    runtime: Runtime,
    interrupt: Interrupt,
}

impl Caller {
    /// From here on the user can ask to stop.
    pub(crate) fn new() -> Result<Self> {
        let runtime = interrupt::runtime()?;
        let interrupt = Interrupt::listen(&runtime)?;
        Ok(Self { runtime, interrupt })
    }

    /// Asks.
    pub(crate) fn ask(
        &self,
        context: &Context,
        dir: &DataDir,
        request: Request,
        wait: Duration,
    ) -> Result<Reply> {
        self.runtime
            .block_on(self.interrupt.or(async {
                let mut client = Client::connect(dir).await.map_err(|error| unreachable(dir, error))?;
                call(&mut client, request, &Progress::hidden(), wait).await
            }))
            .inspect_err(|error| {
                tracing::debug!(code = error.code(), quiet = context.out.quiet, "the node refused")
            })
    }
}

/// Asks a node, running or not. Only for requests that [`admin::execute`] knows.
pub(crate) fn either_way(
    context: &Context,
    dir: &DataDir,
    request: Request,
    progress: &Progress,
) -> Result<Reply> {
    let runtime = interrupt::runtime()?;
    let interrupt = Interrupt::listen(&runtime)?;
    if let Some(mut client) = runtime.block_on(connect(dir))? {
        // An import of a terabyte takes as long as it takes.
        let answer = call(&mut client, request, progress, Duration::MAX);
        let gives_up = async {
            interrupt.raised().await;
            Err(CliError::interrupted().help("the node goes on with it: see there what becomes of it"))
        };
        return runtime.block_on(async {
            tokio::select! {
                biased;
                answer = answer => answer,
                given_up = gives_up => given_up,
            }
        });
    }
    runtime.spawn(leave(interrupt, dir.store(), made_by(&request)));
    offline(context, dir, request, progress)
}

/// The file that is being made.
fn made_by(request: &Request) -> Option<PathBuf> {
    match request {
        Request::PskmMake { out, .. } => Some(out.clone()),
        _ => None,
    }
}

/// Ends the program when the user asks it to stop while it works on a store. That is as safe as any crash; of a module that
/// was being made nothing is left.
async fn leave(interrupt: Interrupt, store: PathBuf, out: Option<PathBuf>) {
    interrupt.raised().await;
    if let Some(out) = out {
        let cleared = pskm::abandon(&store).and_then(|()| files::remove_drafts(&out));
        match cleared {
            Ok(()) => eprintln!("\ninterrupted: what was made of {} is removed", out.display()),
            Err(error) => eprintln!(
                "\ninterrupted: what was made of {} is left in part ({error}); the next `dske pskm make` removes it",
                out.display()
            ),
        }
    }
    std::process::exit(i32::from(exit::INTERRUPTED));
}

/// The modules that a node made or imported, and its tables, whether it runs or not.
pub(crate) fn modules(context: &Context, dir: &DataDir) -> Result<(Vec<ModuleRecord>, Vec<TableStatus>)> {
    let runtime = interrupt::runtime()?;
    if let Some(mut client) = runtime.block_on(connect(dir))? {
        let wait = context.globals.timeout;
        return match runtime.block_on(call(&mut client, Request::Status, &Progress::hidden(), wait))? {
            Reply::Status(status) => Ok((status.modules, status.tables)),
            _ => Err(CliError::strange_reply()),
        };
    }
    on_store(dir, |store| Ok((store.modules().map_err(NodeError::from)?, store.tables())))
}

/// A connection to the node, if it runs. One of another user's has a store that is not ours to open either.
async fn connect(dir: &DataDir) -> Result<Option<Client>> {
    match Client::connect(dir).await {
        Ok(client) => Ok(Some(client)),
        Err(error) if error.source.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(unreachable(dir, error))
        }
        Err(_) => Ok(None),
    }
}

fn offline(context: &Context, dir: &DataDir, request: Request, progress: &Progress) -> Result<Reply> {
    let config = context.config(dir, &NodeFlags::default())?.config;
    let me = dske_node::identity(dir)?;
    let show = |done, total| progress.set(done, total);
    on_store(dir, |store| checked(admin::execute(store, &me, &config, request, &show)))
}

/// Opens the store of a node that does not run, works on it, and closes it in any case.
pub(crate) fn on_store<T>(dir: &DataDir, work: impl FnOnce(&Store) -> Result<T>) -> Result<T> {
    let store = Store::open(&dir.store(), Options::default()).map_err(NodeError::from)?;
    let result = work(&store);
    let closed = store.close().map_err(NodeError::from);
    let value = result?;
    closed?;
    Ok(value)
}

/// One request over an open connection.
pub(crate) async fn call(
    client: &mut Client,
    request: Request,
    progress: &Progress,
    wait: Duration,
) -> Result<Reply> {
    let mut update = |done, total| progress.set(done, total);
    let answer = client.call(request, &mut update);
    let reply = tokio::time::timeout(wait, answer).await.map_err(|_| {
        CliError::new("dske::control::timeout", exit::UNREACHABLE, "the node did not answer in time")
            .help("wait longer with --timeout, or look into the node's log")
    })?;
    checked(reply.map_err(|error| {
        CliError::new("dske::control::lost", exit::UNREACHABLE, "the connection to the node broke")
            .because(error)
            .help("look into the node's log: it may have stopped")
    })?)
}

/// A refusal becomes an error.
fn checked(reply: Reply) -> Result<Reply> {
    match reply {
        Reply::Failed(failure) => Err(failure.into()),
        reply => Ok(reply),
    }
}

/// The error for a node that does not answer: there is none, or it is not ours to ask.
pub(crate) fn unreachable(dir: &DataDir, error: NotRunning) -> CliError {
    if error.source.kind() != std::io::ErrorKind::PermissionDenied {
        return not_running(dir).because(error);
    }
    let message = format!("the node in {} belongs to another user", dir.path().display());
    CliError::new("dske::control::denied", exit::UNREACHABLE, message)
        .because(error)
        .help("give the command as that user: `sudo -u USER dske …`")
}

fn not_running(dir: &DataDir) -> CliError {
    let message = format!("no node is running in {}", dir.path().display());
    CliError::new("dske::control::not-running", exit::UNREACHABLE, message)
        .help("start it with `dske run`, or name another directory with --dir")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_node_of_somebody_else_is_not_called_stopped() {
        let dir = DataDir::new("/somewhere");
        let told = |kind: io::ErrorKind| {
            let error = unreachable(&dir, NotRunning { socket: dir.control_socket(), source: kind.into() });
            (error.code().to_owned(), error.to_string(), error.exit())
        };
        let (code, said, status) = told(io::ErrorKind::PermissionDenied);
        assert_eq!((code.as_str(), status), ("dske::control::denied", 3));
        assert!(said.contains("another user") && !said.contains("no node is running"), "{said}");
        for kind in [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused] {
            assert_eq!(told(kind).0, "dske::control::not-running");
        }
    }
}
