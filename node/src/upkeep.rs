//! What a node does by itself all the time: looks after its pads and tables, and records its clocks.

use std::sync::{Arc, Mutex, PoisonError};

use dske_storage::{Store, Transaction};
use tokio::time::Instant;

use crate::{
    clock::Clock,
    config::PadsConfig,
    events::Events,
    pad_watch::{LOOK, PadWatch},
    status::{Event, PadForecast},
    table_watch::TableWatch,
};

/// See the head of the file.
#[derive(Clone)]
pub(crate) struct Upkeep {
    store: Store,
    clock: Clock,
    config: PadsConfig,
    watch: PadWatch,
    tables: TableWatch,
    events: Arc<Mutex<Events>>,
}

impl Upkeep {
    pub(crate) fn new(store: Store, clock: Clock, config: PadsConfig) -> Self {
        let (watch, tables) = (PadWatch::default(), TableWatch::default());
        Self { store, clock, config, watch, tables, events: Arc::default() }
    }

    /// Runs until it is aborted.
    pub(crate) async fn run(self) {
        let mut ticks = tokio::time::interval(LOOK);
        let mut last = Instant::now();
        loop {
            ticks.tick().await;
            let since = std::mem::replace(&mut last, Instant::now()).elapsed();
            let tables = self.store.tables();
            let news =
                self.watch.look(&tables, since, &self.config).into_iter().chain(self.tables.look(&tables));
            for (level, text) in news {
                self.events.lock().unwrap_or_else(PoisonError::into_inner).add(level, text);
            }
            let recorded = self.store.commit(self.clocks()).await;
            if let Ok(Err(error)) = recorded {
                tracing::error!(%error, "the node's clocks could not be recorded");
            }
        }
    }

    /// What is to be recorded of the clocks.
    pub(crate) fn clocks(&self) -> Transaction {
        Transaction { clock: Some(self.clock.record()), ..Transaction::default() }
    }

    pub(crate) fn forecasts(&self) -> Vec<PadForecast> {
        self.watch.forecasts()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).newest_first()
    }
}
