//! Ctrl-C and SIGTERM as a value that work can look at, so that it stops at a place where it can clean up.

use std::future::Future;

use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::cli::error::{CliError, Result, exit};

/// Whether the user wants the program to stop. Cheap to clone; may be asked from any thread.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Starts to listen, on a runtime that has threads of its own.
    pub(crate) fn listen(runtime: &Runtime) -> Result<Self> {
        let _inside = runtime.enter();
        let (raise, raised) = watch::channel(false);
        let catch = |kind| {
            signal(kind)
                .map_err(|error| CliError::new("dske::signal", 1, "cannot catch signals").because(error))
        };
        let (mut interrupt, mut terminate) =
            (catch(SignalKind::interrupt())?, catch(SignalKind::terminate())?);
        runtime.spawn(async move {
            let mut next = async || {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            };
            next().await;
            // Nobody listens any more when the program is about to end anyway.
            let _ = raise.send(true);
            // Whoever asks twice does not want to wait for the cleaning up.
            next().await;
            std::process::exit(i32::from(exit::INTERRUPTED));
        });
        Ok(Self(raised))
    }

    /// Fails once the user has asked to stop.
    pub(crate) fn check(&self) -> Result<()> {
        if *self.0.borrow() { Err(CliError::interrupted()) } else { Ok(()) }
    }

    /// Returns when the user asks to stop.
    pub(crate) async fn raised(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|raised| *raised).await.is_err() {
            // The listener is gone without having raised: it never will.
            std::future::pending::<()>().await;
        }
    }

    /// Runs work until it ends or the user asks to stop.
    pub(crate) async fn or<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.raised() => Err(CliError::interrupted()),
            result = work => result,
        }
    }
}

/// A runtime for commands: two threads, one of which listens for signals while the other works.
pub(crate) fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(|error| {
        CliError::new("dske::runtime", 1, "cannot start the program's threads").because(error)
    })
}
