//! A node of another version: it has a node's identity and its address, and speaks one other version of the protocol
//! alone. It counts what comes of its own exchanges, and what comes to it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    request_response::{Event, Message, OutboundFailure},
    swarm::SwarmEvent,
};

use crate::bare::{Behaviour, BehaviourEvent, keypair, swarm};

/// Between two tries to say something to each node that is connected.
const TRY_INTERVAL: Duration = Duration::from_millis(200);

/// A running one; it ends when dropped.
pub struct OtherVersion {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    ends: AtomicBool,
    heard: AtomicU64,
    answered: AtomicU64,
    refused: AtomicU64,
}

impl OtherVersion {
    /// Takes the place of a node that does not run: with the identity in its directory, at its address, speaking
    /// `protocol` alone. It calls the nodes at these addresses, and tries to talk to all with whom it is connected.
    ///
    /// # Errors
    /// If the identity cannot be read, or the address cannot be listened on.
    pub fn run(
        dir: &Path,
        protocol: &'static str,
        listen: &str,
        call: &[(PeerId, String)],
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let keypair = keypair(dir)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let mut swarm = swarm(keypair, protocol)?;
        swarm.listen_on(listen.parse()?)?;
        for (peer, address) in call {
            let address: Multiaddr = address.parse()?;
            swarm.dial(address.with_p2p(*peer).map_err(|address| format!("{address} is of another"))?)?;
        }
        drop(entered);
        let shared = Arc::new(Shared::default());
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || runtime.block_on(live(swarm, &shared))
        });
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Requests that came under its protocol.
    pub fn heard(&self) -> u64 {
        self.shared.heard.load(Ordering::Relaxed)
    }

    /// Its own requests that were answered.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Its own requests for which the other end had no such protocol.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }
}

impl Drop for OtherVersion {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn live(mut swarm: Swarm<Behaviour>, shared: &Shared) {
    let mut tries = tokio::time::interval(TRY_INTERVAL);
    let count = |counter: &AtomicU64| {
        counter.fetch_add(1, Ordering::Relaxed);
    };
    while !shared.ends.load(Ordering::Relaxed) {
        tokio::select! {
            _ = tries.tick() => {
                let peers: Vec<PeerId> = swarm.connected_peers().copied().collect();
                for peer in peers {
                    swarm.behaviour_mut().exchange.send_request(&peer, vec![0; 8]);
                }
            }
            event = swarm.select_next_some() => match event {
                SwarmEvent::Behaviour(BehaviourEvent::Exchange(Event::Message { message, .. })) => {
                    count(match message {
                        Message::Request { .. } => &shared.heard,
                        Message::Response { .. } => &shared.answered,
                    });
                }
                SwarmEvent::Behaviour(BehaviourEvent::Exchange(Event::OutboundFailure {
                    error: OutboundFailure::UnsupportedProtocols,
                    ..
                })) => count(&shared.refused),
                _ => {}
            },
        }
    }
}
