//! Who may hold a place on the control socket: those that ask. A connection that asks nothing gives its place up when
//! another one wants it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// The places of one socket.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    idle: Arc<Mutex<Idle>>,
}

#[derive(Debug, Default)]
struct Idle {
    /// Those that ask nothing, the longest silent first. Dropping one tells it to go.
    connections: BTreeMap<u64, oneshot::Sender<()>>,
    next: u64,
    /// Somebody waits for a place.
    is_wanted: bool,
}

/// The right to be served; ends with the connection.
#[derive(Debug)]
pub(crate) struct Place(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

/// While a connection asks nothing.
#[derive(Debug)]
pub(crate) struct Silence {
    number: u64,
    places: Places,
    told_to_go: oneshot::Receiver<()>,
}

impl Places {
    /// So many connections at once.
    pub(crate) fn new(connections_max: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(connections_max)), idle: Arc::default() }
    }

    /// A place, at the cost of the connection that has been silent longest where all are taken. Waits where all are
    /// being served.
    pub(crate) async fn take(&self) -> Option<Place> {
        if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
            return Some(Place(place));
        }
        self.idle().is_wanted = true;
        self.idle().connections.pop_first();
        let place = Arc::clone(&self.free).acquire_owned().await;
        self.idle().is_wanted = false;
        place.ok().map(Place)
    }

    /// A connection asks nothing from now on.
    pub(crate) fn silent(&self) -> Silence {
        let (go, told_to_go) = oneshot::channel();
        let mut idle = self.idle();
        let number = idle.next;
        idle.next += 1;
        if idle.is_wanted {
            drop(go);
        } else {
            idle.connections.insert(number, go);
        }
        Silence { number, places: self.clone(), told_to_go }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Silence {
    /// Waits until the connection has to go.
    pub(crate) async fn told_to_go(&mut self) {
        // Nothing is ever sent: whoever drops the other end says it.
        let _ = (&mut self.told_to_go).await;
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        self.places.idle().connections.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn the_longest_silent_makes_room_and_the_served_stay() {
        let places = Places::new(2);
        let (served, first) = (places.take().await.unwrap(), places.take().await.unwrap());
        let mut silence = places.silent();
        assert!(silence.told_to_go().now_or_never().is_none(), "nobody wants its place");
        let waits = places.clone();
        let third = tokio::spawn(async move { waits.take().await });
        silence.told_to_go().await;
        drop((silence, first));
        let third = third.await.unwrap().unwrap();
        // All are served: the next waits, and whoever falls silent goes.
        let waits = places.clone();
        let fourth = tokio::spawn(async move { waits.take().await });
        tokio::task::yield_now().await;
        assert!(!fourth.is_finished());
        places.silent().told_to_go().await;
        drop(served);
        assert!(fourth.await.unwrap().is_some());
        drop(third);
    }
}
