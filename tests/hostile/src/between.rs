//! Somebody between a hub and its clients who has the transport keys of all of them, and none of their pads unless the
//! test gives them to him: to the clients he is the hub, to the hub each of its clients. All that they say goes through
//! his hands, and he may change, hold back or drop it.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use futures::{StreamExt, channel::oneshot, stream::FuturesUnordered};
use libp2p::{
    Multiaddr, PeerId,
    identity::Keypair,
    request_response::{Event, Message, OutboundRequestId},
    swarm::{
        SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::sync::mpsc;

use crate::bare::{Behaviour, BehaviourEvent, keypair, swarm};

/// Between two looks at what is held back, and between two calls of the hub.
const PAUSE: Duration = Duration::from_millis(20);

/// One half of an exchange on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// The client that says it, or that it is said to.
    pub client: PeerId,
    /// Whether it goes to the hub.
    pub to_hub: bool,
    /// Whether it answers the other end's question.
    pub is_answer: bool,
}

/// What becomes of what is said.
#[derive(Debug)]
pub enum Fate {
    /// It goes on, changed or not.
    Passed(Vec<u8>),
    /// It is held back, and shown again soon.
    Held(Vec<u8>),
    /// Nobody hears of it; who has asked gets no answer.
    Dropped,
}

/// What somebody in between does with each half of an exchange: a length, and a value as docs/PROTOCOL.md has it.
pub type Meddle = dyn Fn(Said, Vec<u8>) -> Fate + Send + Sync;

/// Somebody in between at work; ends when dropped.
pub struct Between {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What came in at one of his two sides.
enum Came {
    Connected(PeerId),
    Gone(PeerId),
    Asked { by: PeerId, bytes: Vec<u8>, answer: oneshot::Sender<Vec<u8>> },
}

/// What one of his two sides is to do.
enum Order {
    Call,
    HangUp,
    Ask { whom: PeerId, bytes: Vec<u8>, answer: oneshot::Sender<Vec<u8>> },
}

struct Place {
    hub: PeerId,
    orders: mpsc::UnboundedSender<Order>,
    clients: BTreeMap<PeerId, mpsc::UnboundedSender<Order>>,
    meddle: Arc<Meddle>,
}

impl Between {
    /// Stands at the address where the clients look for the hub; the hub itself listens at another one. Directories
    /// are those of nodes.
    ///
    /// # Errors
    /// If an identity cannot be read, or the address cannot be listened on.
    pub fn stand(
        hub: &Path,
        clients: &[&Path],
        protocol: &'static str,
        (address, true_address): (&str, &str),
        meddle: Arc<Meddle>,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let hub_key = keypair(hub)?;
        let keys = clients.iter().map(|dir| keypair(dir)).collect::<Result<Vec<_>, _>>()?;
        let true_address: Multiaddr = true_address.parse()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let mut front = swarm(hub_key.clone(), protocol)?;
        front.listen_on(address.parse()?)?;
        let backs = keys
            .into_iter()
            .map(|key| Ok((PeerId::from(key.public()), swarm(key, protocol)?)))
            .collect::<Result<Vec<_>, Box<dyn Error + Send + Sync>>>()?;
        drop(entered);
        let ends = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let work = live(&hub_key, front, backs, true_address, meddle);
                let end = async {
                    while !ended.load(Ordering::Relaxed) {
                        tokio::time::sleep(PAUSE).await;
                    }
                };
                tokio::select! { () = work => {}, () = end => {} }
            });
        });
        Ok(Self { ends, thread: Some(thread) })
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

type Swarm = libp2p::Swarm<Behaviour>;

async fn live(
    hub_key: &Keypair,
    front: Swarm,
    backs: Vec<(PeerId, Swarm)>,
    true_address: Multiaddr,
    meddle: Arc<Meddle>,
) {
    let hub = PeerId::from(hub_key.public());
    let (orders, to_front) = mpsc::unbounded_channel();
    let (from_front, mut came) = mpsc::unbounded_channel();
    tokio::spawn(side(front, None, to_front, from_front));
    let mut clients = BTreeMap::new();
    let (tell, mut said) = mpsc::unbounded_channel();
    for (client, back) in backs {
        let (orders, to_back) = mpsc::unbounded_channel();
        let (from_back, mut came) = mpsc::unbounded_channel();
        tokio::spawn(side(back, Some((hub, true_address.clone())), to_back, from_back));
        let tell = tell.clone();
        tokio::spawn(async move {
            while let Some(came) = came.recv().await {
                let _ = tell.send((client, came));
            }
        });
        clients.insert(client, orders);
    }
    let place = Place { hub, orders, clients, meddle };
    loop {
        tokio::select! {
            Some(came) = came.recv() => match came {
                Came::Connected(client) => place.order(&client, Order::Call),
                Came::Gone(client) => place.order(&client, Order::HangUp),
                Came::Asked { by, bytes, answer } => place.pass(by, true, bytes, answer),
            },
            Some((client, came)) = said.recv() => {
                if let Came::Asked { bytes, answer, .. } = came {
                    place.pass(client, false, bytes, answer);
                }
            }
            else => return,
        }
    }
}

impl Place {
    fn order(&self, client: &PeerId, order: Order) {
        if let Some(orders) = self.clients.get(client) {
            let _ = orders.send(order);
        }
    }

    /// Passes a question on, and its answer back.
    fn pass(&self, client: PeerId, to_hub: bool, bytes: Vec<u8>, back: oneshot::Sender<Vec<u8>>) {
        let (orders, whom) = if to_hub {
            let Some(orders) = self.clients.get(&client) else { return };
            (orders.clone(), self.hub)
        } else {
            (self.orders.clone(), client)
        };
        let meddle = Arc::clone(&self.meddle);
        tokio::spawn(async move {
            let said = Said { client, to_hub, is_answer: false };
            let Some(bytes) = settle(&*meddle, said, bytes).await else { return };
            let (answer, answered) = oneshot::channel();
            let _ = orders.send(Order::Ask { whom, bytes, answer });
            let Ok(bytes) = answered.await else { return };
            let said = Said { client, to_hub: !to_hub, is_answer: true };
            if let Some(bytes) = settle(&*meddle, said, bytes).await {
                let _ = back.send(bytes);
            }
        });
    }
}

async fn settle(meddle: &Meddle, said: Said, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    loop {
        match meddle(said, bytes) {
            Fate::Passed(bytes) => return Some(bytes),
            Fate::Held(held) => bytes = held,
            Fate::Dropped => return None,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// One of his sides: a node's identity, and those that are connected with it. It calls whom it is told to, as long as
/// it is.
async fn side(
    mut swarm: Swarm,
    calls: Option<(PeerId, Multiaddr)>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    came: mpsc::UnboundedSender<Came>,
) {
    let mut asked: HashMap<OutboundRequestId, oneshot::Sender<Vec<u8>>> = HashMap::new();
    let mut answers = FuturesUnordered::new();
    let mut is_calling = false;
    let mut tries = tokio::time::interval(PAUSE);
    loop {
        tokio::select! {
            _ = tries.tick(), if is_calling => {
                if let Some((peer, address)) = calls.as_ref().filter(|(peer, _)| !swarm.is_connected(peer)) {
                    let call = DialOpts::peer_id(*peer).condition(PeerCondition::DisconnectedAndNotDialing);
                    let _ = swarm.dial(call.addresses(vec![address.clone()]).build());
                }
            }
            order = orders.recv() => match order {
                None => return,
                Some(Order::Call) => is_calling = true,
                Some(Order::HangUp) => {
                    is_calling = false;
                    if let Some((peer, _)) = &calls {
                        let _ = swarm.disconnect_peer_id(*peer);
                    }
                }
                Some(Order::Ask { whom, bytes, answer }) => {
                    if swarm.is_connected(&whom) {
                        asked.insert(swarm.behaviour_mut().exchange.send_request(&whom, bytes), answer);
                    }
                }
            },
            Some((channel, bytes)) = answers.next() => {
                if let Ok(bytes) = bytes {
                    let _ = swarm.behaviour_mut().exchange.send_response(channel, bytes);
                }
            }
            event = swarm.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { peer_id, num_established, .. } if num_established.get() == 1 => {
                    let _ = came.send(Came::Connected(peer_id));
                }
                SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
                    let _ = came.send(Came::Gone(peer_id));
                }
                SwarmEvent::Behaviour(BehaviourEvent::Exchange(event)) => match event {
                    Event::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                        let (answer, answered) = oneshot::channel();
                        answers.push(async move { (channel, answered.await) });
                        let _ = came.send(Came::Asked { by: peer, bytes: request, answer });
                    }
                    Event::Message { message: Message::Response { request_id, response }, .. } => {
                        if let Some(answer) = asked.remove(&request_id) {
                            let _ = answer.send(response);
                        }
                    }
                    Event::OutboundFailure { request_id, .. } => drop(asked.remove(&request_id)),
                    _ => {}
                },
                _ => {}
            },
        }
    }
}
