//! Requests and answers, over each connection by itself.
//!
//! libp2p's request-response spreads the requests to a peer over all connections that bear its peer id. A peer id proves
//! nothing to DSKE: whoever has stolen one opens silent connections beside its owner's, and a part of all that the owner is
//! sent is lost in them. So every connection has an instance of its own here, and the caller says over which a request goes.
//!
//! An instance is asked for its events whenever something was given to it, for nothing else makes it have any.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::PoisonError,
    task::{Context, Poll, Waker},
};

use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    core::{Endpoint, transport::PortUse},
    request_response::{self, OutboundRequestId, ProtocolSupport, ResponseChannel},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
    },
};

use super::{
    gate::Arriving,
    wire::{Request, Response, WireCodec},
};

type OneConnection = request_response::Behaviour<WireCodec>;
type Event = request_response::Event<Request, Response>;

/// Names a request of ours that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ExchangeId {
    /// The connection that it went over.
    pub(super) connection: ConnectionId,
    /// Its number on that connection.
    request: OutboundRequestId,
}

impl ExchangeId {
    pub(super) fn new(connection: ConnectionId, request: OutboundRequestId) -> Self {
        Self { connection, request }
    }
}

/// See the head of the file.
pub(super) struct Exchanges {
    arriving: Arriving,
    protocols: Vec<StreamProtocol>,
    config: request_response::Config,
    connections: BTreeMap<ConnectionId, (PeerId, OneConnection)>,
    events: VecDeque<ToSwarm<Event, THandlerInEvent<OneConnection>>>,
}

impl Exchanges {
    /// Speaks these protocols, the best first. `arriving` has the gate of the connection that is being set up.
    pub(super) fn new(
        arriving: Arriving,
        protocols: Vec<StreamProtocol>,
        config: request_response::Config,
    ) -> Self {
        Self { arriving, protocols, config, connections: BTreeMap::new(), events: VecDeque::new() }
    }

    /// Sends a request over a connection; `None` where that is gone.
    pub(super) fn send_request(&mut self, connection: ConnectionId, request: Request) -> Option<ExchangeId> {
        let (peer, one) = self.connections.get_mut(&connection)?;
        let peer = *peer;
        let request = one.send_request(&peer, request);
        self.collect(connection);
        Some(ExchangeId { connection, request })
    }

    /// Answers a request that came over a connection. An asker that has gone needs no answer.
    pub(super) fn send_response(
        &mut self,
        connection: ConnectionId,
        channel: ResponseChannel<Response>,
        response: Response,
    ) {
        if let Some((_, one)) = self.connections.get_mut(&connection) {
            // Fails only where the asker has gone.
            let _ = one.send_response(channel, response);
        }
    }

    fn add(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
    ) -> Result<&mut OneConnection, ConnectionDenied> {
        let gate = self.arriving.lock().unwrap_or_else(PoisonError::into_inner).take();
        let gate = gate.ok_or_else(|| ConnectionDenied::new("the guard has let no connection in"))?;
        let protocols = self.protocols.iter().map(|protocol| (protocol.clone(), ProtocolSupport::Full));
        let one = OneConnection::with_codec(WireCodec::new(gate), protocols, self.config.clone());
        Ok(&mut self.connections.entry(connection).or_insert((peer, one)).1)
    }

    fn collect(&mut self, connection: ConnectionId) {
        let Some((_, one)) = self.connections.get_mut(&connection) else { return };
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(event) = one.poll(&mut context) {
            self.events.push_back(event);
        }
    }

    /// A connection that a behaviour after this one has refused was never there.
    fn forget(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
    }
}

impl NetworkBehaviour for Exchanges {
    type ConnectionHandler = <OneConnection as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.add(connection, peer)?.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let one = self.add(connection, peer)?;
        one.handle_established_outbound_connection(connection, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(mut closed) => {
                let connection = closed.connection_id;
                // For the instance this connection is the only one.
                closed.remaining_established = 0;
                if let Some((_, one)) = self.connections.get_mut(&connection) {
                    one.on_swarm_event(FromSwarm::ConnectionClosed(closed));
                }
                self.collect(connection);
                self.forget(connection);
            }
            FromSwarm::AddressChange(change) => {
                if let Some((_, one)) = self.connections.get_mut(&change.connection_id) {
                    one.on_swarm_event(FromSwarm::AddressChange(change));
                }
            }
            FromSwarm::ListenFailure(failure) => self.forget(failure.connection_id),
            FromSwarm::DialFailure(failure) => self.forget(failure.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        if let Some((_, one)) = self.connections.get_mut(&connection) {
            one.on_connection_handler_event(peer, connection, event);
        }
        self.collect(connection);
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // Whatever adds an event is called by the swarm, or by the task that owns it, which polls it next.
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
