//! What one connection may ask: its request is let in, made to wait, or refused before it is read.
//!
//! libp2p hands a codec no peer. But a connection gets its codec in the very call in which the
//! [`super::guard::Guard`], which stands before it, learns whose connection it is and leaves its gate in
//! [`Arriving`]; see [`super::exchanges`].

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use dske_protocol::refusal::Refusal;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    limits::{
        FAULT_POINTS, KIB_AT_ONCE, KIB_PER_SECOND, MESSAGES_AT_ONCE, MESSAGES_PER_SECOND, POINTS_AT_ONCE,
        POINTS_PER_SECOND, READING_KIB_MAX, REPEAT_POINTS, STRANGER_POINTS_AT_ONCE,
        STRANGER_POINTS_PER_SECOND, STRANGER_REQUEST_BYTES_MAX, STRANGER_REQUESTS_AT_ONCE,
        STRANGER_REQUESTS_PER_SECOND, UNPROVED_KIB_PER_SECOND, UNPROVED_MESSAGES_PER_SECOND,
    },
    rate::Rate,
    wire::REQUEST_BYTES_MAX,
};
use crate::status::Counters;

/// What was turned away since the start.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    /// Connections that were not let in.
    pub(crate) connections_refused: AtomicU64,
    /// Connections that were closed for what came over them, or to make room.
    pub(crate) connections_closed: AtomicU64,
    /// Requests that were refused before anybody looked at them.
    pub(crate) requests_refused: AtomicU64,
    /// Requests that had to wait.
    pub(crate) requests_delayed: AtomicU64,
    /// Announcements that were not heard.
    pub(crate) gossip_refused: AtomicU64,
    /// Not dropped but sent: bytes of our own messages.
    pub(crate) sent_bytes: AtomicU64,
}

impl Dropped {
    /// The counters as the status shows them; the others are the actors'.
    pub(crate) fn counters(&self) -> Counters {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            connections_refused: of(&self.connections_refused),
            connections_closed: of(&self.connections_closed),
            requests_refused: of(&self.requests_refused),
            requests_delayed: of(&self.requests_delayed),
            gossip_refused: of(&self.gossip_refused),
            sent_bytes: of(&self.sent_bytes),
            ..Counters::default()
        }
    }
}

/// Adds so many.
pub(super) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

/// Adds one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The gate of the connection that is being set up right now.
pub(super) type Arriving = Arc<Mutex<Option<Arc<Gate>>>>;

/// The gate of one connection.
#[derive(Debug)]
pub(crate) struct Gate {
    known: AtomicBool,
    proved: AtomicBool,
    rates: Mutex<Rates>,
    reading: Arc<Semaphore>,
    dropped: Arc<Dropped>,
}

#[derive(Debug)]
struct Rates {
    messages: Rate,
    kib: Rate,
    points: Rate,
}

impl Rates {
    fn new(known: bool, proved: bool) -> Self {
        match (known, proved) {
            (true, true) => Self {
                messages: Rate::new(MESSAGES_PER_SECOND, MESSAGES_AT_ONCE),
                kib: Rate::new(KIB_PER_SECOND, KIB_AT_ONCE),
                points: Rate::new(POINTS_PER_SECOND, POINTS_AT_ONCE),
            },
            (true, false) => Self {
                messages: Rate::new(UNPROVED_MESSAGES_PER_SECOND, UNPROVED_MESSAGES_PER_SECOND),
                kib: Rate::new(UNPROVED_KIB_PER_SECOND, UNPROVED_KIB_PER_SECOND),
                points: Rate::new(POINTS_PER_SECOND, POINTS_AT_ONCE),
            },
            (false, _) => Self {
                messages: Rate::new(STRANGER_REQUESTS_PER_SECOND, STRANGER_REQUESTS_AT_ONCE),
                kib: Rate::new(KIB_PER_SECOND, KIB_AT_ONCE),
                points: Rate::new(STRANGER_POINTS_PER_SECOND, STRANGER_POINTS_AT_ONCE),
            },
        }
    }
}

/// The right to read one request; given back when it has been handed over.
#[derive(Debug)]
pub(crate) struct Pass(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl Gate {
    pub(super) fn new(known: bool, dropped: Arc<Dropped>) -> Self {
        Self {
            known: AtomicBool::new(known),
            proved: AtomicBool::new(false),
            rates: Mutex::new(Rates::new(known, false)),
            reading: Arc::new(Semaphore::new(READING_KIB_MAX as usize)),
            dropped,
        }
    }

    pub(super) fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    /// The peer has become known, or is not any more.
    pub(super) fn set_known(&self, known: bool) {
        if self.known.swap(known, Ordering::Relaxed) != known {
            *self.rates() = Rates::new(known, self.proved.load(Ordering::Relaxed));
        }
    }

    /// The other end has shown that it holds a table.
    pub(super) fn set_proved(&self) {
        if !self.proved.swap(true, Ordering::Relaxed) {
            *self.rates() = Rates::new(self.is_known(), true);
        }
    }

    /// A request of so many bytes wants in. Waits until it may be read.
    ///
    /// # Errors
    /// It may not be read at all.
    pub(super) async fn enter(&self, bytes: usize) -> io::Result<Pass> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).clamp(1, READING_KIB_MAX);
        let wait = if self.is_known() {
            if bytes > REQUEST_BYTES_MAX {
                return Err(self.refuse("a request is longer than allowed"));
            }
            self.rates().kib.take(Instant::now(), kib)
        } else {
            if bytes > STRANGER_REQUEST_BYTES_MAX {
                return Err(self.refuse("a stranger's request is longer than allowed"));
            }
            if !self.rates().messages.try_take(Instant::now(), 1) {
                return Err(self.refuse("a stranger asks too often"));
            }
            Duration::ZERO
        };
        self.pause(wait).await;
        let permit = Arc::clone(&self.reading).acquire_many_owned(kib).await;
        permit.map(Pass).map_err(|_| io::ErrorKind::ConnectionAborted.into())
    }

    /// A request brought so many messages; waits until they are within the rate.
    pub(super) async fn bring(&self, messages: usize) {
        if self.is_known() {
            let messages = u32::try_from(messages.max(1)).unwrap_or(u32::MAX);
            let wait = self.rates().messages.take(Instant::now(), messages);
            self.pause(wait).await;
        }
    }

    async fn pause(&self, wait: Duration) {
        if !wait.is_zero() {
            count(&self.dropped.requests_delayed);
            tokio::time::sleep(wait).await;
        }
    }

    fn refuse(&self, reason: &'static str) -> io::Error {
        count(&self.dropped.requests_refused);
        io::Error::new(io::ErrorKind::InvalidData, reason)
    }

    /// Charges what came; `false` where that is too much and the connection must go.
    pub(super) fn charge(&self, points: u32) -> bool {
        points == 0 || self.rates().points.try_take(Instant::now(), points)
    }

    fn rates(&self) -> MutexGuard<'_, Rates> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a message costs its author that was answered so.
pub(super) fn points(result: &Result<(), Refusal>) -> u32 {
    match result {
        Err(
            Refusal::BadTag
            | Refusal::Malformed
            | Refusal::UnknownTable
            | Refusal::OutOfRange
            | Refusal::NotForMe,
        ) => FAULT_POINTS,
        Err(Refusal::PadUsed) => REPEAT_POINTS,
        // Policy and want of pad are nobody's fault, or cost the author pad already.
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn gate(known: bool) -> Gate {
        Gate::new(known, Arc::default())
    }

    #[tokio::test]
    async fn a_stranger_may_say_little_and_seldom() {
        let gate = gate(false);
        assert!(gate.enter(STRANGER_REQUEST_BYTES_MAX + 1).await.is_err());
        for _ in 0..STRANGER_REQUESTS_AT_ONCE {
            assert!(gate.enter(100).await.is_ok());
        }
        assert!(gate.enter(100).await.is_err());
        gate.set_known(true);
        assert!(gate.enter(REQUEST_BYTES_MAX).await.is_ok(), "it is known now");
        assert_eq!(gate.dropped.requests_refused.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_proved_peer_has_honest_load_let_in_at_once() {
        let gate = gate(true);
        gate.set_proved();
        // Sixteen of the longest requests at once hold all the room; the next waits for one to be handed over.
        let held: Vec<_> = (0..15).map(|_| gate.enter(REQUEST_BYTES_MAX).now_or_never()).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(gate.enter(REQUEST_BYTES_MAX).now_or_never().is_none());
        drop(held);
        assert!(gate.enter(REQUEST_BYTES_MAX).now_or_never().is_some());
        for _ in 0..100 {
            assert!(gate.bring(64).now_or_never().is_some());
        }
    }

    #[test]
    fn forgers_are_shut_out_long_before_those_who_repeat() {
        let (forger, repeater) = (gate(true), gate(true));
        let forged = points(&Err(Refusal::BadTag));
        let repeated = points(&Err(Refusal::PadUsed));
        assert!((0..120).all(|_| forger.charge(forged)) && !(0..20).all(|_| forger.charge(forged)));
        assert!((0..1000).all(|_| repeater.charge(repeated)));
        assert_eq!(points(&Ok(())), 0);
        assert_eq!(points(&Err(Refusal::Busy)), 0);
    }
}
