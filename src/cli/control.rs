//! Asking a node: through its control socket when it runs, on its store when it does not.

use std::time::Duration;

use dske_node::{
    DataDir, NodeError, admin,
    control::{Client, Reply, Request},
};
use dske_storage::{ModuleRecord, Options, Store};
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
                let mut client =
                    Client::connect(dir).await.map_err(|error| not_running(dir).because(error))?;
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
    if let Ok(mut client) = runtime.block_on(Client::connect(dir)) {
        // An import of a terabyte takes as long as it takes.
        return runtime.block_on(call(&mut client, request, progress, Duration::MAX));
    }
    offline(context, dir, request, progress)
}

/// The modules that a node made or imported, whether it runs or not.
pub(crate) fn modules(context: &Context, dir: &DataDir) -> Result<Vec<ModuleRecord>> {
    let runtime = interrupt::runtime()?;
    if let Ok(mut client) = runtime.block_on(Client::connect(dir)) {
        let wait = context.globals.timeout;
        return match runtime.block_on(call(&mut client, Request::Status, &Progress::hidden(), wait))? {
            Reply::Status(status) => Ok(status.modules),
            _ => Err(CliError::strange_reply()),
        };
    }
    on_store(dir, |store| Ok(store.modules().map_err(NodeError::from)?))
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

/// The error for a node that is not there.
pub(crate) fn not_running(dir: &DataDir) -> CliError {
    let message = format!("no node is running in {}", dir.path().display());
    CliError::new("dske::control::not-running", exit::UNREACHABLE, message)
        .help("start it with `dske run`, or name another directory with --dir")
}
