//! Ctrl-C, SIGTERM and the end of a screen's terminal as a value that work can look at, so that it stops at a place where
//! it can clean up.

use std::future::Future;

use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

use crate::cli::error::{CliError, Result, exit};

/// Whether the user wants the program to stop. Cheap to clone; may be asked from any thread.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Starts to listen, on a runtime that has threads of its own.
    pub(crate) fn listen(runtime: &Runtime) -> Result<Self> {
        Self::listen_to(runtime, &[SignalKind::interrupt(), SignalKind::terminate()])
    }

    /// The same for a screen, which is to be left in order when its terminal is closed. Elsewhere that ends the program
    /// as it is, or does nothing to it where `nohup` says so.
    pub(crate) fn listen_on_screen(runtime: &Runtime) -> Result<Self> {
        Self::listen_to(runtime, &[SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()])
    }

    fn listen_to(runtime: &Runtime, kinds: &[SignalKind]) -> Result<Self> {
        let _inside = runtime.enter();
        let (raise, raised) = watch::channel(false);
        let (caught, next) = mpsc::channel(1);
        for kind in kinds {
            let mut signal = signal(*kind)
                .map_err(|error| CliError::new("dske::signal", 1, "cannot catch signals").because(error))?;
            let caught = caught.clone();
            runtime.spawn(
                async move { while signal.recv().await.is_some() && caught.send(()).await.is_ok() {} },
            );
        }
        runtime.spawn(pass_on(next, raise, || {
            dske_tui::terminal::give_back();
            std::process::exit(i32::from(exit::INTERRUPTED));
        }));
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

/// Raises at the first signal, and ends the program at the second: whoever asks twice does not want to wait for the cleaning
/// up. When the runtime ends, the channel may be closed before this is dropped; that is no signal.
async fn pass_on(mut next: mpsc::Receiver<()>, raise: watch::Sender<bool>, end: impl FnOnce()) {
    if next.recv().await.is_none() {
        return;
    }
    // Nobody listens any more when the program is about to end anyway.
    let _ = raise.send(true);
    if next.recv().await.is_some() {
        end();
    }
}

/// A runtime for commands: two threads, one of which listens for signals while the other works.
pub(crate) fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(|error| {
        CliError::new("dske::runtime", 1, "cannot start the program's threads").because(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is raised and the program ended after so many signals and the end of the runtime's other tasks.
    fn after(signals: usize) -> (bool, bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let (raise, raised) = watch::channel(false);
            let (caught, next) = mpsc::channel(2);
            for _ in 0..signals {
                caught.send(()).await.expect("somebody listens");
            }
            drop(caught);
            let mut ended = false;
            pass_on(next, raise, || ended = true).await;
            (*raised.borrow(), ended)
        })
    }

    #[test]
    fn the_end_of_the_program_is_no_signal() {
        assert_eq!(after(0), (false, false));
        assert_eq!(after(1), (true, false));
        assert_eq!(after(2), (true, true));
    }
}
