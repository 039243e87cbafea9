//! The screen of `dske run --tui`: the node of this process, through its own control socket, on a thread of its own, so that
//! the node never waits for the terminal.

use std::thread;

use dske_node::DataDir;
use dske_protocol::ids::Name;
use dske_tui::{App, Kind};
use tokio::sync::watch;

use super::{
    Look, Watched,
    screen::{self, Running},
};
use crate::cli::{
    context::Context,
    error::{CliError, Result, exit},
};

/// A screen that is ready to be shown.
#[derive(Debug)]
pub(crate) struct Inside {
    app: App,
    running: Running,
}

/// A screen that is shown.
#[derive(Debug)]
pub(crate) struct Shown(thread::JoinHandle<Result<()>>);

impl Inside {
    /// Reads its settings.
    pub(crate) fn new(name: Name, dir: DataDir, look: &Look, context: &Context) -> Result<Self> {
        let title = name.to_string();
        let watched = Watched::node(name, title, dir, Kind::Inside);
        let app = App::new(watched.setup(look, context)?);
        Ok(Self { app, running: Running { watched, timeout: context.globals.timeout } })
    }

    /// Shows it until the user leaves or `stopped` becomes true; then `left` is told.
    pub(crate) fn show(self, left: watch::Sender<bool>, mut stopped: watch::Receiver<bool>) -> Shown {
        let Self { app, running } = self;
        Shown(thread::spawn(move || {
            // Dropped in any case at the end, which tells it as well.
            let _left = left;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| {
                CliError::new("dske::runtime", exit::OTHER, "cannot start the screen's thread").because(error)
            })?;
            // Ends with an error where the node has gone: that is a stop as well.
            let stop = async move { drop(stopped.wait_for(|stopped| *stopped).await) };
            let done = runtime.block_on(screen::run(app, running, stop));
            runtime.shutdown_background();
            done
        }))
    }
}

impl Shown {
    /// Waits for its end.
    pub(crate) fn join(self) -> Result<()> {
        let broken = |_| CliError::new("dske::top::screen", exit::OTHER, "the screen has broken down");
        self.0.join().map_err(broken)?
    }
}
