//! What a node does by itself all the time: looks after its pads, tables and keys, and records its clocks.

use std::sync::{Arc, Mutex, PoisonError};

use dske_storage::{Store, StoreError, Transaction};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    client::ClientOrder,
    clock::Clock,
    config::{KeysConfig, PadsConfig},
    events::Events,
    pad_watch::{LOOK, PadWatch},
    retention::{self, Retention},
    status::{Event, KeysStatus, Level, PadForecast},
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
    /// Where keys are kept: at a client.
    retention: Option<Retention>,
    events: Arc<Mutex<Events>>,
}

impl Upkeep {
    /// `keys` where the node is a client.
    pub(crate) fn new(store: Store, clock: Clock, config: PadsConfig, keys: Option<KeysConfig>) -> Self {
        let (watch, tables) = (PadWatch::default(), TableWatch::default());
        let retention = keys.map(Retention::new);
        Self { store, clock, config, watch, tables, retention, events: Arc::default() }
    }

    /// Runs until it is aborted. `client` hears of keys that were given up.
    pub(crate) async fn run(self, client: Option<mpsc::Sender<ClientOrder>>) {
        tokio::join!(self.look_at_pads(), self.look_at_keys(client));
    }

    async fn look_at_keys(&self, client: Option<mpsc::Sender<ClientOrder>>) {
        let Some(retention) = &self.retention else { return };
        let mut ticks = tokio::time::interval(retention::LOOK);
        for look in 0_u32.. {
            ticks.tick().await;
            let (retention, store, age_ms) = (retention.clone(), self.store.clone(), self.clock.age_ms());
            let work = move || {
                let mut looked = retention.look_at_keys(&store, age_ms)?;
                if look % retention::LOOKS_FOR_RECORDS == 0 {
                    looked.news.extend(retention.look_at_records(&store, age_ms)?.news);
                }
                Ok::<_, StoreError>(looked)
            };
            match tokio::task::spawn_blocking(work).await {
                Ok(Ok(looked)) => {
                    self.tell(looked.news);
                    if let Some(client) = client.as_ref().filter(|_| looked.keys) {
                        // Fails only when the client has ended.
                        let _ = client.send(ClientOrder::KeysGivenUp).await;
                    }
                }
                Ok(Err(error)) => tracing::error!(%error, "old keys and records could not be given up"),
                Err(error) => tracing::error!(%error, "looking for old keys did not end"),
            }
        }
    }

    fn tell(&self, news: impl IntoIterator<Item = (Level, String)>) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        news.into_iter().for_each(|(level, text)| events.add(level, text));
    }

    async fn look_at_pads(&self) {
        let mut ticks = tokio::time::interval(LOOK);
        let mut last = Instant::now();
        loop {
            ticks.tick().await;
            let since = std::mem::replace(&mut last, Instant::now()).elapsed();
            let tables = self.store.tables();
            let news =
                self.watch.look(&tables, since, &self.config).into_iter().chain(self.tables.look(&tables));
            self.tell(news);
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

    /// Keys that wait, where this is a client.
    pub(crate) fn keys(&self) -> Option<KeysStatus> {
        self.retention.as_ref().map(Retention::status)
    }

    pub(crate) fn forecasts(&self) -> Vec<PadForecast> {
        self.watch.forecasts()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).newest_first()
    }
}
