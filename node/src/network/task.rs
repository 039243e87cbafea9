//! The task that owns the swarm: turns commands into exchanges and what libp2p reports into events.
//!
//! It decides nothing about the protocol. What it cannot deliver it says so; nothing waits for ever.

mod gossip;
mod inbound;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use dske_protocol::{
    codec::Blob,
    hub::RequestId,
    ids::{Name, NodeId, TableId},
};
use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    gossipsub::IdentTopic,
    identify,
    identity::Keypair,
    ping,
    request_response::{self, InboundFailure, ResponseChannel},
    swarm::{
        ConnectionId, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::sync::mpsc;

use super::{
    ClientEvent, Command, Directory, Dropped, HubEvent, Question,
    acquaintances::Acquaintances,
    addresses,
    behaviour::{self, Behaviour, BehaviourEvent, GOSSIP_SCORE_MIN},
    exchanges::ExchangeId,
    gate::add,
    limits::{AUTHOR_AT_ONCE, AUTHOR_INTERVAL, FAULT_POINTS},
    messages,
    outbound::{Outbound, Sent},
    ports,
    rate::Rate,
    versions::Foreign,
    wire::{ANNOUNCE_TOPIC, Request, Response},
};
use crate::{
    config::{NetworkConfig, Role},
    me::{node_of, peer_of},
};

/// An announcement is repeated this often even if nothing changed, for those who missed it.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(60);

/// How long messages to one peer gather where the last ones came together; see [`super::outbound`].
const GATHER: Duration = Duration::from_micros(1500);

/// Between two looks at who is connected and how much memory there is.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// What the task needs to begin.
pub(crate) struct Setup {
    pub(crate) keypair: Keypair,
    pub(crate) name: Name,
    pub(crate) roles: Vec<Role>,
    pub(crate) config: NetworkConfig,
    pub(crate) directory: Directory,
    pub(crate) dropped: Arc<Dropped>,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    pub(crate) hub: Option<mpsc::UnboundedSender<HubEvent>>,
    pub(crate) client: Option<mpsc::UnboundedSender<ClientEvent>>,
}

/// Why the network could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkConfigError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Listen { address: Multiaddr, reason: String },
    /// libp2p refused the set-up.
    #[error("cannot set the network up: {0}")]
    Setup(String),
}

/// See the head of the file.
pub(crate) struct NetworkTask {
    swarm: Swarm<Behaviour>,
    /// What happened before it ran.
    early: Vec<SwarmEvent<BehaviourEvent>>,
    topic: IdentTopic,
    me: NodeId,
    name: Name,
    roles: Vec<Role>,
    /// Addresses that others are told; none: where it listens.
    announce: Vec<Multiaddr>,
    announce_due: Option<Instant>,
    /// Not before this, whoever comes.
    announce_from: Instant,
    announce_rate: Rate,
    directory: Directory,
    dropped: Arc<Dropped>,
    commands: mpsc::UnboundedReceiver<Command>,
    hub: Option<mpsc::UnboundedSender<HubEvent>>,
    client: Option<mpsc::UnboundedSender<ClientEvent>>,
    acquaintances: Acquaintances,
    peers: BTreeMap<NodeId, Outbound>,
    /// When the messages that gather have had their moment.
    gathered_at: Option<Instant>,
    exchanges: BTreeMap<ExchangeId, (NodeId, Exchange)>,
    /// Over which connection the answer to the last mark of ours about a table came.
    marks_answered: BTreeMap<TableId, ConnectionId>,
    /// Messages on their way to each client that were passed on to it.
    relayed: BTreeMap<NodeId, usize>,
    inbound: BTreeMap<RequestId, Inbound>,
    inbound_bytes: usize,
    next_inbound: u64,
}

/// A request that an actor works on.
#[derive(Debug)]
struct Inbound {
    connection: ConnectionId,
    channel: ResponseChannel<Response>,
    bytes: usize,
}

/// What an exchange of ours is for.
#[derive(Debug)]
enum Exchange {
    Batch(Sent),
    Identity(Question),
    Hello,
    /// Of clients: what is lost is said again by those who need it.
    Link,
    /// Passed on for another client.
    Relayed,
    SyncHello(TableId),
    /// A mark, and which end of the table sent it.
    Mark(TableId, Role),
}

impl NetworkTask {
    /// Sets the swarm up and waits until it listens on every address.
    pub(crate) async fn new(setup: Setup) -> Result<(Self, Vec<Multiaddr>), NetworkConfigError> {
        let peer = setup.keypair.public().to_peer_id();
        let me = node_of(&peer).ok_or_else(|| NetworkConfigError::Setup("not an Ed25519 identity".into()))?;
        let mut swarm =
            behaviour::swarm(setup.keypair, setup.config.connections_max, Arc::clone(&setup.dropped))
                .map_err(NetworkConfigError::Setup)?;
        let topic = IdentTopic::new(ANNOUNCE_TOPIC);
        let subscribed = swarm.behaviour_mut().gossip.subscribe(&topic);
        subscribed.map_err(|error| NetworkConfigError::Setup(error.to_string()))?;
        ports::check(&setup.config.listen)?;
        let (mut listening, mut early) = (Vec::new(), Vec::new());
        for address in &setup.config.listen {
            listening.extend(addresses::listen(&mut swarm, address, &mut early).await?);
        }
        for address in &setup.config.bootstrap {
            let call = DialOpts::unknown_peer_id().address(address.clone()).allocate_new_port().build();
            if let Err(error) = swarm.dial(call) {
                tracing::warn!(%address, %error, "cannot call a bootstrap node");
            }
        }
        let task = Self {
            swarm,
            early,
            topic,
            me,
            name: setup.name,
            roles: setup.roles,
            announce: setup.config.announce,
            announce_due: Some(Instant::now()),
            announce_from: Instant::now(),
            announce_rate: Rate::every(AUTHOR_INTERVAL, AUTHOR_AT_ONCE / 2),
            directory: setup.directory,
            dropped: setup.dropped,
            commands: setup.commands,
            hub: setup.hub,
            client: setup.client,
            acquaintances: Acquaintances::default(),
            peers: BTreeMap::new(),
            gathered_at: None,
            exchanges: BTreeMap::new(),
            marks_answered: BTreeMap::new(),
            relayed: BTreeMap::new(),
            inbound: BTreeMap::new(),
            inbound_bytes: 0,
            next_inbound: 0,
        };
        Ok((task, listening))
    }

    /// Runs until the last sender of commands is gone.
    pub(crate) async fn run(mut self) {
        // Whom the actors know, before anybody is heard.
        while let Ok(command) = self.commands.try_recv() {
            self.command(command);
        }
        for event in std::mem::take(&mut self.early) {
            self.swarm_event(event);
        }
        let mut look_around = tokio::time::interval(LOOK_AROUND);
        loop {
            let idle = Instant::now() + ANNOUNCE_INTERVAL;
            let announce_due = self.announce_due.unwrap_or(idle);
            let gathered_at = self.gathered_at.unwrap_or(idle);
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                event = self.swarm.select_next_some() => self.swarm_event(event),
                () = tokio::time::sleep_until(gathered_at.into()), if self.gathered_at.is_some() => self.gathered(),
                () = tokio::time::sleep_until(announce_due.into()) => self.publish(),
                _ = look_around.tick() => self.look_around(),
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Share { hub, block, bytes } => {
                messages::note(true, &hub, &bytes);
                self.queue(hub, |out| out.push_share(block, bytes));
            }
            Command::Instruction { receiver, ticket, bytes } => {
                messages::note(true, &receiver, &bytes);
                self.queue(receiver, |out| out.push_instruction(ticket, bytes));
            }
            Command::Link { to, via: None, message } => {
                self.request(to, Exchange::Link, Request::Link(message))
            }
            Command::Link { to, via: Some(hub), message } => {
                self.request(hub, Exchange::Link, Request::Relay { to, message });
            }
            Command::Notice { sender, notice } => self.queue(sender, |out| out.push_notice(notice)),
            Command::Identity { hub, about, bytes } => {
                messages::note(true, &hub, &bytes);
                self.request(hub, Exchange::Identity(about), Request::Identity(Blob(bytes)));
            }
            Command::Hello { hub } => self.request(hub, Exchange::Hello, Request::Hello),
            Command::SyncHello { hub, hello } => {
                self.request(hub, Exchange::SyncHello(hello.table), Request::SyncHello(hello));
            }
            Command::Mark { peer, table, bytes } => {
                messages::note(true, &peer, &bytes);
                let author = if inbound::is_of_client(&bytes) { Role::Client } else { Role::Hub };
                self.request(peer, Exchange::Mark(table, author), Request::Mark(Blob(bytes)));
            }
            Command::AnswerSyncHello { id, result } => self.answer(id, Response::SyncHello(result)),
            Command::AnswerMark { id, to, result } => {
                if let Ok(Blob(bytes)) = &result {
                    messages::note(true, &to, bytes);
                    // One of ours in answer: theirs had a right tag, over this connection.
                    let connection = self.inbound.get(&id).map(|inbound| inbound.connection);
                    connection.into_iter().for_each(|connection| self.proved(connection));
                }
                self.answer(id, Response::Mark(result));
            }
            Command::AnswerBatch { id, results } => self.answer(id, Response::Results(results)),
            Command::AnswerIdentity { id, to, result } => {
                if let Ok(Blob(bytes)) = &result {
                    messages::note(true, &to, bytes);
                }
                self.answer(id, Response::Identity(result));
            }
            Command::AnswerHello { id, active } => self.answer(id, Response::Hello(active)),
            Command::AnswerLink { id, forged } => {
                if forged {
                    self.charge_forged(id);
                }
                self.answer(id, Response::Done);
            }
            Command::Dial { node, addresses, is_hub } => self.dial(node, addresses, is_hub),
            Command::Proved { table } => {
                let connection = self.marks_answered.remove(&table);
                connection.into_iter().for_each(|connection| self.proved(connection));
            }
            Command::Acquaint { node, by, known } => {
                let known = self.acquaintances.set(node, by, known);
                self.acquaint(node, known);
            }
            // An asker that has gone needs no answer.
            Command::Ping(reply) => drop(reply.send(())),
        }
    }

    fn acquaint(&mut self, node: NodeId, known: bool) {
        if let Some(peer) = peer_of(&node) {
            self.swarm.behaviour_mut().guard.set_known(peer, known);
            self.directory.keep(node, known);
        }
    }

    fn look_around(&mut self) {
        let behaviour = self.swarm.behaviour_mut();
        let gossip = &behaviour.gossip;
        let low = |peer: &&PeerId| gossip.peer_score(peer).is_some_and(|score| score < GOSSIP_SCORE_MIN);
        let noisy: Vec<PeerId> = behaviour.guard.connected().filter(low).copied().collect();
        noisy.iter().for_each(|peer| behaviour.guard.shut_peer(peer));
        behaviour.guard.look_around(Instant::now(), resident_bytes());
    }

    /// Each call takes a port of its own. From the port that it listens on a node has only one call to each address, and none
    /// for a minute after the last one ended.
    fn dial(&mut self, node: NodeId, addresses: Vec<Multiaddr>, is_hub: bool) {
        let Some(peer) = peer_of(&node) else { return };
        if is_hub && self.swarm.behaviour().guard.is_reached(&peer) {
            return;
        }
        let condition =
            if is_hub { PeerCondition::NotDialing } else { PeerCondition::DisconnectedAndNotDialing };
        let options =
            DialOpts::peer_id(peer).condition(condition).addresses(addresses).allocate_new_port().build();
        if let Err(error) = self.swarm.dial(options) {
            tracing::trace!(node = %node.short(), %error, "not calling");
        }
    }

    /// Over this connection the peer has shown that it holds a table.
    fn proved(&mut self, connection: ConnectionId) {
        let guard = &mut self.swarm.behaviour_mut().guard;
        if guard.prove(connection, Instant::now()) {
            self.steer(connection);
        }
    }

    /// What is under way to the same peer over connections that are not proved is given up, to be said again over this one:
    /// nobody knows who is at their other end.
    fn steer(&mut self, connection: ConnectionId) {
        let guard = &self.swarm.behaviour().guard;
        let Some(node) = guard.peer(connection).and_then(node_of) else { return };
        let is_lost = |id: &ExchangeId, (to, _): &(NodeId, Exchange)| {
            *to == node && id.connection != connection && !guard.is_proved(id.connection)
        };
        let lost: Vec<_> =
            self.exchanges.iter().filter(|(id, exchange)| is_lost(id, exchange)).map(|(&id, _)| id).collect();
        for id in lost {
            if let Some((node, exchange)) = self.exchanges.remove(&id) {
                self.exchange_ended(node, &exchange);
                self.failed(node, exchange);
            }
        }
        self.pump_if_any(node);
    }

    /// Sends a request over the best connection; gives it back where there is none.
    fn send(&mut self, node: NodeId, exchange: Exchange, request: Request) -> Result<(), Exchange> {
        let bytes = request.bytes();
        let behaviour = self.swarm.behaviour_mut();
        let best = peer_of(&node).and_then(|peer| behaviour.guard.best(&peer));
        match best.and_then(|connection| behaviour.exchange.send_request(connection, request)) {
            Some(id) => {
                add(&self.dropped.sent_bytes, bytes);
                self.exchanges.insert(id, (node, exchange));
                Ok(())
            }
            None => Err(exchange),
        }
    }

    fn queue(&mut self, node: NodeId, push: impl FnOnce(&mut Outbound)) {
        push(self.peers.entry(node).or_default());
        self.pump(node, false);
    }

    /// Messages have gathered long enough.
    fn gathered(&mut self) {
        self.gathered_at = None;
        let nodes: Vec<_> =
            self.peers.iter().filter(|(_, outbound)| outbound.gathers()).map(|(&node, _)| node).collect();
        nodes.into_iter().for_each(|node| self.pump(node, true));
    }

    /// Starts what may start towards a peer; gives up everything for one that is not connected.
    fn pump(&mut self, node: NodeId, gathered: bool) {
        if !self.is_connected(&node) {
            return self.give_up(node);
        }
        while let Some((sent, request)) =
            self.peers.get_mut(&node).and_then(|outbound| outbound.next_exchange(gathered))
        {
            if let Err(exchange) = self.send(node, Exchange::Batch(sent), request) {
                self.exchange_ended(node, &exchange);
                self.failed(node, exchange);
            }
        }
        if self.peers.get(&node).is_some_and(Outbound::gathers) {
            self.gathered_at.get_or_insert_with(|| Instant::now() + GATHER);
        }
    }

    fn is_connected(&self, node: &NodeId) -> bool {
        peer_of(node).is_some_and(|peer| self.swarm.behaviour().guard.best(&peer).is_some())
    }

    fn request(&mut self, node: NodeId, exchange: Exchange, request: Request) {
        if let Err(exchange) = self.send(node, exchange, request) {
            self.failed(node, exchange);
        }
    }

    fn give_up(&mut self, node: NodeId) {
        if let Some(mut outbound) = self.peers.remove(&node) {
            let (blocks, tickets) = outbound.drain();
            self.failed(node, Exchange::Batch(Sent::Shares(blocks)));
            self.failed(node, Exchange::Batch(Sent::Instructions(tickets)));
        }
    }

    fn failed(&mut self, node: NodeId, exchange: Exchange) {
        match exchange {
            Exchange::Batch(Sent::Shares(blocks)) => {
                for block in blocks {
                    self.tell_client(ClientEvent::ShareAnswer { hub: node, block, answer: None });
                }
            }
            Exchange::Batch(Sent::Instructions(tickets)) => {
                for ticket in tickets {
                    self.tell_hub(HubEvent::InstructionAnswer { receiver: node, ticket, answer: None });
                }
            }
            Exchange::Batch(Sent::Notices) | Exchange::Link => {}
            Exchange::Relayed => self.relay_ended(node),
            Exchange::Identity(about) => {
                self.tell_client(ClientEvent::IdentityAnswer { hub: node, about, bytes: None });
            }
            Exchange::Hello => {
                self.tell_client(ClientEvent::HelloAnswer { hub: node, active: None });
            }
            Exchange::SyncHello(table) => {
                self.tell_client(ClientEvent::SyncHelloAnswer { hub: node, table, answer: None });
            }
            Exchange::Mark(table, author) => self.mark_answered(node, table, author, None),
        }
    }

    fn answered(&mut self, node: NodeId, exchange: Exchange, response: Response) {
        match (exchange, response) {
            (Exchange::Batch(Sent::Shares(blocks)), Response::Results(results))
                if blocks.len() == results.len() =>
            {
                for (block, result) in blocks.into_iter().zip(results) {
                    let answer = Some(result);
                    self.tell_client(ClientEvent::ShareAnswer { hub: node, block, answer });
                }
            }
            (Exchange::Batch(Sent::Instructions(tickets)), Response::Results(results))
                if tickets.len() == results.len() =>
            {
                for (ticket, result) in tickets.into_iter().zip(results) {
                    let answer = Some(result);
                    self.tell_hub(HubEvent::InstructionAnswer { receiver: node, ticket, answer });
                }
            }
            (Exchange::Link, _) => {}
            (Exchange::Relayed, _) => self.relay_ended(node),
            (Exchange::Identity(about), Response::Identity(result)) => {
                let bytes = result.ok().map(|blob| blob.0);
                bytes.iter().for_each(|bytes| messages::note(false, &node, bytes));
                self.tell_client(ClientEvent::IdentityAnswer { hub: node, about, bytes });
            }
            (Exchange::Hello, Response::Hello(active)) => {
                self.tell_client(ClientEvent::HelloAnswer { hub: node, active: Some(active) });
            }
            (Exchange::SyncHello(table), Response::SyncHello(result)) => {
                let answer = Some(result);
                self.tell_client(ClientEvent::SyncHelloAnswer { hub: node, table, answer });
            }
            (Exchange::Mark(table, author), Response::Mark(result)) => {
                let bytes = result.ok().map(|blob| blob.0);
                bytes.iter().for_each(|bytes| messages::note(false, &node, bytes));
                self.mark_answered(node, table, author, bytes);
            }
            (exchange, _) => self.failed(node, exchange),
        }
    }

    fn mark_answered(&self, peer: NodeId, table: TableId, author: Role, bytes: Option<Vec<u8>>) {
        match author {
            Role::Client => self.tell_client(ClientEvent::MarkAnswer { peer, table, bytes }),
            Role::Hub => self.tell_hub(HubEvent::MarkAnswer { peer, table, bytes }),
        };
    }

    /// Queues to the actors have no bound of their own: what stands in them is bounded by what the actors
    /// have asked for, by [`INBOUND_MAX`] and [`INBOUND_BYTES_MAX`], and by the connection limits.
    fn tell_client(&self, event: ClientEvent) -> bool {
        self.client.as_ref().is_some_and(|client| client.send(event).is_ok())
    }

    fn tell_hub(&self, event: HubEvent) -> bool {
        self.hub.as_ref().is_some_and(|hub| hub.send(event).is_ok())
    }

    fn swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Exchange(event)) => self.exchange_event(event),
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(event)) => self.gossip_event(event),
            // Who does not speak it says so on a connection that works.
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event {
                peer,
                connection,
                result: Err(failure),
            })) if !matches!(failure, ping::Failure::Unsupported) => {
                tracing::debug!(%peer, %failure, "closing a connection without a sign of life");
                self.swarm.close_connection(connection);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Error {
                peer_id,
                error,
                ..
            })) => {
                tracing::debug!(%peer_id, %error, "identify failed");
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                peer_id,
                info,
                ..
            })) => self.identified(&peer_id, &info),
            SwarmEvent::ConnectionEstablished {
                peer_id, connection_id, num_established, endpoint, ..
            } => {
                if num_established.get() == 1 {
                    self.connection(peer_id, true, endpoint.is_dialer());
                } else if endpoint.is_dialer()
                    && self.swarm.behaviour().guard.best(&peer_id) == Some(connection_id)
                {
                    self.steer(connection_id);
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established, .. } => {
                let lost = self.swarm.behaviour_mut().guard.take_lost(&peer_id);
                if num_established == 0 || lost {
                    self.connection(peer_id, false, false);
                }
                // Who is at the end of those that are left is to be seen.
                if num_established > 0 && lost {
                    self.connection(peer_id, true, false);
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => {
                tracing::debug!(?peer_id, %error, "cannot call");
            }
            SwarmEvent::IncomingConnectionError { error, .. } => {
                tracing::debug!(%error, "an incoming connection failed");
            }
            SwarmEvent::ListenerClosed { reason, addresses, .. } => {
                tracing::error!(?addresses, ?reason, "no longer listening");
            }
            _ => {}
        }
    }

    fn connection(&mut self, peer: PeerId, up: bool, called: bool) {
        let Some(node) = node_of(&peer) else { return };
        tracing::debug!(node = %node.short(), up, "connection");
        if !up {
            self.give_up(node);
        }
        self.tell_hub(HubEvent::Connection { peer: node, up });
        self.tell_client(ClientEvent::Connection { peer: node, up, called });
    }

    /// A peer says which protocols it speaks. Only what is said of a known one is kept.
    fn identified(&self, peer: &PeerId, info: &identify::Info) {
        let Some(node) = node_of(peer).filter(|_| self.swarm.behaviour().guard.is_known(peer)) else {
            return;
        };
        let foreign = Foreign::of(info.protocols.iter().map(AsRef::as_ref));
        self.tell_hub(HubEvent::Versions { peer: node, foreign: foreign.clone() });
        self.tell_client(ClientEvent::Versions { peer: node, foreign });
    }

    fn exchange_event(&mut self, event: request_response::Event<Request, Response>) {
        use request_response::{Event, Message};
        match event {
            Event::Message { peer, connection_id, message: Message::Request { request, channel, .. } } => {
                if let Some(node) = node_of(&peer) {
                    self.inbound_request(node, connection_id, request, channel);
                }
            }
            Event::Message { connection_id, message: Message::Response { request_id, response }, .. } => {
                let id = ExchangeId::new(connection_id, request_id);
                if let Some((node, exchange)) = self.exchanges.remove(&id) {
                    self.exchange_ended(node, &exchange);
                    if let Exchange::Mark(table, Role::Client) = exchange {
                        self.marks_answered.insert(table, connection_id);
                    }
                    self.answered(node, exchange, response);
                    self.pump_if_any(node);
                }
            }
            Event::OutboundFailure { connection_id, request_id, error, .. } => {
                let id = ExchangeId::new(connection_id, request_id);
                if let Some((node, exchange)) = self.exchanges.remove(&id) {
                    tracing::debug!(node = %node.short(), %error, "an exchange failed");
                    self.exchange_ended(node, &exchange);
                    self.failed(node, exchange);
                    self.pump_if_any(node);
                }
            }
            Event::InboundFailure { peer, connection_id, error, .. } => {
                if let InboundFailure::Io(_) = error {
                    self.swarm.behaviour_mut().guard.charge(connection_id, FAULT_POINTS);
                }
                tracing::debug!(%peer, %error, "an incoming exchange failed");
            }
            Event::ResponseSent { .. } => {}
        }
    }

    fn exchange_ended(&mut self, node: NodeId, exchange: &Exchange) {
        if let (Exchange::Batch(sent), Some(outbound)) = (exchange, self.peers.get_mut(&node)) {
            outbound.ended(sent);
        }
    }

    fn pump_if_any(&mut self, node: NodeId) {
        if self.peers.contains_key(&node) {
            self.pump(node, false);
        }
    }
}

/// Memory that this process holds; 0 where the system does not tell.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0).saturating_mul(rustix::param::page_size())
}
