//! Who may connect, and who must go: the first of the node's behaviours, so that what it refuses costs nothing more.
//!
//! Places are kept for known peers, so strangers, however many, cannot keep them out. What a single address may
//! do is bounded, so that one who has few addresses cannot keep other strangers out. A peer id or an
//! address that is shut out stays so for a while.
//!
//! A peer id can be stolen. A connection over which a mark came under a right tag is *proved*: whoever is at its other
//! end holds the table. What this node sends a peer goes over the connection that was proved last; connections that are not
//! proved get little, make room for newcomers, and end soon after another one was proved. So a thief who holds no pads
//! cannot keep the owner out.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    convert::Infallible,
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use dske_protocol::sync::Connection;
use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    multiaddr::Protocol,
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
    },
};

use super::{
    gate::{Arriving, Dropped, Gate, count},
    limits::{
        BESIDE_NEWLY_PROVED, BESIDE_PROVED, FAMILIAR_FACTOR, GOSSIP_AT_ONCE, GOSSIP_PER_SECOND,
        HANDSHAKES_AT_ONCE, HANDSHAKES_PER_SECOND, PENDING_MAX, PENDING_PER_IP_MAX, PENDING_UNFAMILIAR_MAX,
        PROVED_PER_PEER_MAX, REMEMBERED_MAX, SHUT_OUT, SHUT_OUT_MAX, STRANGER_MEMORY_BYTES_MAX,
        STRANGERS_DIVISOR, STRANGERS_PER_IP_MAX, UNPROVED_PER_PEER_MAX, UNPROVED_PER_PLACE_MAX,
    },
    rate::Rate,
};

/// Where a connection comes from; `None` where it has no address of that kind.
type Place = Option<IpAddr>;

/// See the head of the file.
pub(super) struct Guard {
    connections_max: usize,
    known: BTreeSet<PeerId>,
    arriving: Arriving,
    dropped: Arc<Dropped>,
    /// Incoming connections whose handshake is under way.
    pending: BTreeMap<ConnectionId, Place>,
    open: BTreeMap<ConnectionId, Open>,
    /// The connections of each peer, the oldest first.
    of_peer: BTreeMap<PeerId, Vec<ConnectionId>>,
    /// Connections that opened so far.
    opened: u64,
    /// Proofs so far.
    proofs: u64,
    /// Where peers have proved connections, and when they last did.
    proved_at: BTreeMap<(PeerId, IpAddr), Instant>,
    /// Peers whose last proved connection has ended while others stand.
    lost: BTreeSet<PeerId>,
    places: BTreeMap<IpAddr, Visits>,
    shut_out: BTreeMap<(PeerId, Place), ShutOut>,
    gossip: BTreeMap<PeerId, Rate>,
    closing: VecDeque<(PeerId, ConnectionId)>,
    /// Set while the process holds more memory than strangers are welcome with.
    is_full: bool,
    waker: Option<Waker>,
}

struct Open {
    /// Counts connections in the order in which they opened, from 1.
    number: u64,
    peer: PeerId,
    place: Place,
    gate: Arc<Gate>,
    /// The peer called us.
    incoming: bool,
    /// When the other end last showed that it holds a table, as a number that only grows; 0: never.
    proved: u64,
    /// When it ends unless it is proved before.
    ends: Option<Instant>,
}

impl Open {
    fn is_proved(&self) -> bool {
        self.proved > 0
    }
}

/// What is remembered of an address.
struct Visits {
    rate: Rate,
    /// A known peer has connected from there.
    familiar: bool,
    last: Instant,
}

#[derive(Debug, Clone, Copy)]
struct ShutOut {
    until: Instant,
    pause: Duration,
}

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Too many are being set up.
    Pending,
    /// Too many new ones from that address.
    Handshakes,
    /// All places are taken.
    Full,
    /// The places for strangers are taken.
    Strangers,
    /// That peer has enough.
    Peer,
    /// It was shut out a moment ago.
    ShutOut,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "too many connections are being set up",
            Self::Handshakes => "too many new connections from that address",
            Self::Full => "all connections are taken",
            Self::Strangers => "all connections for strangers are taken",
            Self::Peer => "too many connections of that peer",
            Self::ShutOut => "that peer is shut out for a while",
        })
    }
}

impl std::error::Error for Refused {}

impl Guard {
    pub(super) fn new(connections_max: u32, arriving: Arriving, dropped: Arc<Dropped>) -> Self {
        Self {
            connections_max: usize::try_from(connections_max).unwrap_or(usize::MAX),
            known: BTreeSet::new(),
            arriving,
            dropped,
            pending: BTreeMap::new(),
            open: BTreeMap::new(),
            of_peer: BTreeMap::new(),
            opened: 0,
            proofs: 0,
            proved_at: BTreeMap::new(),
            lost: BTreeSet::new(),
            places: BTreeMap::new(),
            shut_out: BTreeMap::new(),
            gossip: BTreeMap::new(),
            closing: VecDeque::new(),
            is_full: false,
            waker: None,
        }
    }

    /// A peer has become known, or is not any more.
    pub(super) fn set_known(&mut self, peer: PeerId, known: bool) {
        if known {
            self.known.insert(peer);
        } else {
            self.known.remove(&peer);
        }
        for open in self.of_peer.get(&peer).into_iter().flatten().filter_map(|id| self.open.get(id)) {
            open.gate.set_known(known);
        }
    }

    pub(super) fn is_known(&self, peer: &PeerId) -> bool {
        self.known.contains(peer)
    }

    /// The number of a connection; one that is gone has 0.
    pub(super) fn number(&self, connection: ConnectionId) -> Connection {
        Connection(self.open.get(&connection).map_or(0, |open| open.number))
    }

    /// The connection over which a peer is spoken to: the one that was proved last, else one that we called, else the newest.
    pub(super) fn best(&self, peer: &PeerId) -> Option<ConnectionId> {
        let open = self.of(peer).filter(|(connection, _)| !self.is_closing(*connection));
        open.max_by_key(|(connection, open)| (open.proved, !open.incoming, *connection)).map(|(id, _)| id)
    }

    /// Whether we called a peer, or hold a proved connection with it: calling it would bring nothing.
    pub(super) fn is_reached(&self, peer: &PeerId) -> bool {
        self.of(peer).any(|(_, open)| open.is_proved() || !open.incoming)
    }

    /// Whose a connection is.
    pub(super) fn peer(&self, connection: ConnectionId) -> Option<&PeerId> {
        self.open.get(&connection).map(|open| &open.peer)
    }

    /// Whether the other end has shown that it holds a table.
    pub(super) fn is_proved(&self, connection: ConnectionId) -> bool {
        self.open.get(&connection).is_some_and(Open::is_proved)
    }

    /// The other end has shown that it holds a table. Whether it is the first time.
    pub(super) fn prove(&mut self, connection: ConnectionId, now: Instant) -> bool {
        let proofs = self.proofs + 1;
        let Some(open) = self.open.get_mut(&connection) else { return false };
        self.proofs = proofs;
        let first = !open.is_proved();
        (open.proved, open.ends) = (proofs, None);
        open.gate.set_proved();
        let (peer, place) = (open.peer, open.place);
        if let Some(ip) = place {
            self.proved_at.insert((peer, ip), now);
            if self.proved_at.len() > REMEMBERED_MAX {
                let oldest = self.proved_at.iter().min_by_key(|(_, at)| **at).map(|(&key, _)| key);
                oldest.and_then(|key| self.proved_at.remove(&key));
            }
        }
        if first {
            self.displaced_by_proof(&peer, now);
        }
        first
    }

    /// Others of the peer end soon where they are not proved, and at once where too many are.
    fn displaced_by_proof(&mut self, peer: &PeerId, now: Instant) {
        let open = self.of(peer).filter(|(connection, _)| !self.is_closing(*connection));
        let proved: Vec<_> = open.filter(|(_, open)| open.is_proved()).collect();
        let oldest = proved.iter().min_by_key(|(_, open)| open.proved).map(|(id, _)| *id);
        let too_many = proved.len() > PROVED_PER_PEER_MAX;
        let unproved: Vec<_> =
            self.of(peer).filter(|(_, open)| !open.is_proved() && open.incoming).map(|(id, _)| id).collect();
        for connection in unproved {
            if let Some(open) = self.open.get_mut(&connection) {
                let ends = now + BESIDE_NEWLY_PROVED;
                open.ends = Some(open.ends.map_or(ends, |before| before.min(ends)));
            }
        }
        if let Some(connection) = oldest.filter(|_| too_many) {
            self.displace(connection);
        }
    }

    /// Whether the last proved connection of a peer has ended while others stand. Says so once.
    pub(super) fn take_lost(&mut self, peer: &PeerId) -> bool {
        self.lost.remove(peer)
    }

    /// Charges a connection for what came over it; closes it where that is too much.
    pub(super) fn charge(&mut self, connection: ConnectionId, points: u32) {
        if self.open.get(&connection).is_some_and(|open| !open.gate.charge(points)) {
            self.shut(connection);
        }
    }

    /// A peer passes an announcement on; whether it may be heard. A stranger that overdoes it is sent away.
    pub(super) fn hears(&mut self, from: &PeerId) -> bool {
        let fresh = || Rate::new(GOSSIP_PER_SECOND, GOSSIP_AT_ONCE);
        if self.gossip.entry(*from).or_insert_with(fresh).try_take(Instant::now(), 1) {
            return true;
        }
        count(&self.dropped.gossip_refused);
        if !self.is_known(from) {
            self.shut_peer(from);
        }
        false
    }

    /// Closes all connections of a peer and shuts it out.
    pub(super) fn shut_peer(&mut self, peer: &PeerId) {
        let connections: Vec<_> = self.of(peer).map(|(connection, _)| connection).collect();
        connections.into_iter().for_each(|connection| self.shut(connection));
    }

    /// Once a second: forgets what has rested, and makes room where memory is short.
    pub(super) fn look_around(&mut self, now: Instant, memory_bytes: usize) {
        self.shut_out.retain(|_, shut| now < shut.until + shut.pause);
        self.places.retain(|_, visits| visits.familiar || !visits.rate.is_rested(now));
        let connected: BTreeSet<_> = self.open.values().map(|open| open.peer).collect();
        self.gossip.retain(|peer, rate| connected.contains(peer) || !rate.is_rested(now));
        let over: Vec<_> =
            self.open.iter().filter(|(_, open)| open.ends.is_some_and(|ends| ends <= now)).collect();
        let over: Vec<_> = over.into_iter().map(|(&connection, _)| connection).collect();
        over.into_iter().for_each(|connection| self.displace(connection));
        self.is_full = memory_bytes > STRANGER_MEMORY_BYTES_MAX;
        if self.is_full {
            let strangers: Vec<_> =
                self.strangers().map(|(&connection, open)| (open.peer, connection)).collect();
            if !strangers.is_empty() {
                tracing::warn!(
                    memory_bytes,
                    closed = strangers.len(),
                    "memory is short: strangers are sent away"
                );
            }
            strangers.iter().for_each(|_| count(&self.dropped.connections_closed));
            self.close(strangers);
        }
    }

    /// Peers that are connected.
    pub(super) fn connected(&self) -> impl Iterator<Item = &PeerId> {
        self.open.values().map(|open| &open.peer)
    }

    /// Where a peer connects from.
    pub(super) fn place(&self, peer: &PeerId) -> Option<IpAddr> {
        self.best(peer).and_then(|connection| self.open.get(&connection)).and_then(|open| open.place)
    }

    /// The connections of a peer, the oldest first.
    fn of(&self, peer: &PeerId) -> impl Iterator<Item = (ConnectionId, &Open)> {
        let connections = self.of_peer.get(peer).into_iter().flatten();
        connections.filter_map(|connection| Some((*connection, self.open.get(connection)?)))
    }

    fn is_closing(&self, connection: ConnectionId) -> bool {
        self.closing.iter().any(|(_, closing)| *closing == connection)
    }

    /// Closes a connection to make room; nobody is shut out for it.
    fn displace(&mut self, connection: ConnectionId) {
        let Some(open) = self.open.get(&connection) else { return };
        let peer = open.peer;
        if !self.is_closing(connection) {
            tracing::debug!(%peer, "closing a connection that was not proved, or not lately");
            count(&self.dropped.connections_closed);
            self.close([(peer, connection)]);
        }
    }

    fn shut(&mut self, connection: ConnectionId) {
        let Some(open) = self.open.get(&connection) else { return };
        let (peer, place, now) = (open.peer, open.place, Instant::now());
        if self.closing.contains(&(peer, connection)) {
            return;
        }
        count(&self.dropped.connections_closed);
        let pause =
            self.shut_out.get(&(peer, place)).map_or(SHUT_OUT, |shut| (shut.pause * 2).min(SHUT_OUT_MAX));
        tracing::debug!(%peer, ?place, ?pause, "shutting a peer out");
        self.shut_out.insert((peer, place), ShutOut { until: now + pause, pause });
        if self.shut_out.len() > REMEMBERED_MAX {
            let first = self.shut_out.iter().min_by_key(|(_, shut)| shut.until).map(|(&key, _)| key);
            first.and_then(|key| self.shut_out.remove(&key));
        }
        self.close([(peer, connection)]);
    }

    fn close(&mut self, connections: impl IntoIterator<Item = (PeerId, ConnectionId)>) {
        self.closing.extend(connections);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn strangers(&self) -> impl Iterator<Item = (&ConnectionId, &Open)> {
        self.open.iter().filter(|(_, open)| !open.gate.is_known())
    }

    /// Whether a handshake may begin.
    fn admit_pending(&mut self, now: Instant, place: Place) -> Result<(), Refused> {
        let from = |other: &&Place| **other == place;
        let familiar = place.is_some_and(|ip| self.places.get(&ip).is_some_and(|visits| visits.familiar));
        let (all, here) = (self.pending.len(), self.pending.values().filter(from).count());
        let factor = if familiar { FAMILIAR_FACTOR } else { 1 };
        let here_max = PENDING_PER_IP_MAX * usize::try_from(factor).unwrap_or(1);
        if all >= PENDING_MAX || here >= here_max || (!familiar && all >= PENDING_UNFAMILIAR_MAX) {
            return Err(Refused::Pending);
        }
        let Some(ip) = place else { return Ok(()) };
        let visits = self.visits(now, ip);
        // A familiar address pays less for each.
        visits.last = now;
        let within = visits.rate.try_take(now, FAMILIAR_FACTOR / factor);
        if within { Ok(()) } else { Err(Refused::Handshakes) }
    }

    fn visits(&mut self, now: Instant, ip: IpAddr) -> &mut Visits {
        if !self.places.contains_key(&ip) && self.places.len() >= REMEMBERED_MAX {
            let oldest = self.places.iter().min_by_key(|(_, visits)| (visits.familiar, visits.last));
            oldest.map(|(&ip, _)| ip).and_then(|ip| self.places.remove(&ip));
        }
        let fresh = || Visits {
            rate: Rate::new(HANDSHAKES_PER_SECOND * FAMILIAR_FACTOR, HANDSHAKES_AT_ONCE * FAMILIAR_FACTOR),
            familiar: false,
            last: now,
        };
        self.places.entry(ip).or_insert_with(fresh)
    }

    /// Whether a connection may stay once it is known whose it is, and which other makes room for it.
    fn admit(
        &mut self,
        now: Instant,
        peer: &PeerId,
        place: Place,
        incoming: bool,
    ) -> Result<Option<ConnectionId>, Refused> {
        let known = self.is_known(peer);
        let makes_room = if known { self.room_of_known(peer, place, incoming)? } else { None };
        if !known {
            let at_place = self.of(peer).filter(|(_, open)| open.place == place).count();
            if self.of(peer).count() >= UNPROVED_PER_PLACE_MAX || at_place >= UNPROVED_PER_PLACE_MAX {
                return Err(Refused::Peer);
            }
        }
        if self.open.len() >= self.connections_max && makes_room.is_none() {
            return Err(Refused::Full);
        }
        // Whom we call ourselves we do not count among them.
        if incoming && self.shut_out.get(&(*peer, place)).is_some_and(|shut| now < shut.until) {
            return Err(Refused::ShutOut);
        }
        if !known && incoming {
            let strangers = self.strangers().count();
            let here = self.strangers().filter(|(_, open)| open.place == place).count();
            let most = (self.connections_max / STRANGERS_DIVISOR).max(1);
            if self.is_full || strangers >= most || here >= STRANGERS_PER_IP_MAX {
                return Err(Refused::Strangers);
            }
        }
        Ok(makes_room)
    }

    /// Which connection of a known peer makes room for another one of it: one that is not proved, of the same place where
    /// that has its share, else of a place where the peer has never proved one.
    fn room_of_known(
        &self,
        peer: &PeerId,
        place: Place,
        incoming: bool,
    ) -> Result<Option<ConnectionId>, Refused> {
        let unproved = || {
            let open = self.of(peer).filter(|(_, open)| open.incoming && !open.is_proved());
            open.filter(|(connection, _)| !self.is_closing(*connection))
        };
        if !incoming {
            // We called it ourselves: one at a time.
            let ours = self.of(peer).filter(|(_, open)| !open.incoming && !open.is_proved());
            return Ok(ours.map(|(connection, _)| connection).next());
        }
        if unproved().filter(|(_, open)| open.place == place).count() >= UNPROVED_PER_PLACE_MAX {
            return Ok(unproved().find(|(_, open)| open.place == place).map(|(connection, _)| connection));
        }
        if unproved().count() < UNPROVED_PER_PEER_MAX {
            return Ok(None);
        }
        let at_home = |place: Place| place.is_some_and(|ip| self.proved_at.contains_key(&(*peer, ip)));
        let elsewhere = unproved().find(|(_, open)| !at_home(open.place));
        let first = || unproved().next().filter(|_| at_home(place));
        elsewhere.or_else(first).map(|(connection, _)| Some(connection)).ok_or(Refused::Peer)
    }

    /// Admits a connection and leaves its gate to the codec.
    fn established(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        incoming: bool,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending.remove(&connection);
        let (place, now) = (place_of(address), Instant::now());
        match self.admit(now, &peer, place, incoming) {
            Ok(makes_room) => makes_room.into_iter().for_each(|connection| self.displace(connection)),
            Err(refused) => {
                count(&self.dropped.connections_refused);
                return Err(ConnectionDenied::new(refused));
            }
        }
        let known = self.is_known(&peer);
        if let (true, Some(ip)) = (known, place) {
            self.visits(now, ip).familiar = true;
        }
        let gate = Arc::new(Gate::new(known, Arc::clone(&self.dropped)));
        *self.arriving.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&gate));
        let beside_proved = incoming && self.of(&peer).any(|(_, open)| open.is_proved());
        let ends = beside_proved.then(|| now + BESIDE_PROVED);
        self.opened += 1;
        let number = self.opened;
        self.open.insert(connection, Open { number, peer, place, gate, incoming, proved: 0, ends });
        self.of_peer.entry(peer).or_default().push(connection);
        Ok(dummy::ConnectionHandler)
    }

    /// A connection is gone, or was refused by another behaviour after this one.
    fn forget(&mut self, connection: ConnectionId) {
        let Some(open) = self.open.remove(&connection) else { return };
        if let Some(connections) = self.of_peer.get_mut(&open.peer) {
            connections.retain(|other| *other != connection);
            if connections.is_empty() {
                self.of_peer.remove(&open.peer);
                self.lost.remove(&open.peer);
            }
        }
        if open.is_proved() && !self.of(&open.peer).any(|(_, open)| open.is_proved()) {
            // The others may be the owner's new ones: they are given time.
            let left: Vec<_> = self.of(&open.peer).map(|(connection, _)| connection).collect();
            if !left.is_empty() {
                self.lost.insert(open.peer);
            }
            for connection in left {
                if let Some(open) = self.open.get_mut(&connection) {
                    open.ends = None;
                }
            }
        }
    }
}

/// The address that a connection comes from or goes to.
fn place_of(address: &Multiaddr) -> Place {
    address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(ip.into()),
        // Who has one address of these has a whole /64.
        Protocol::Ip6(ip) => Some(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into()),
        _ => None,
    })
}

impl NetworkBehaviour for Guard {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let place = place_of(remote);
        if let Err(refused) = self.admit_pending(Instant::now(), place) {
            count(&self.dropped.connections_refused);
            return Err(ConnectionDenied::new(refused));
        }
        self.pending.insert(connection, place);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.established(connection, peer, remote, true)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.established(connection, peer, address, false)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(closed) => {
                self.forget(closed.connection_id);
            }
            // Another behaviour may have refused it after us.
            FromSwarm::ListenFailure(failure) => {
                self.pending.remove(&failure.connection_id);
                self.forget(failure.connection_id);
            }
            FromSwarm::DialFailure(failure) => {
                self.forget(failure.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.closing.pop_front() {
            Some((peer_id, connection)) => {
                let connection = CloseConnection::One(connection);
                Poll::Ready(ToSwarm::CloseConnection { peer_id, connection })
            }
            None => {
                self.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::identity::Keypair;

    /// A guard of 64 connections, 16 of them for strangers.
    fn guard() -> Guard {
        Guard::new(64, Arriving::default(), Arc::default())
    }

    fn peer() -> PeerId {
        Keypair::generate_ed25519().public().to_peer_id()
    }

    fn address(host: u8) -> Multiaddr {
        format!("/ip4/192.0.2.{host}/tcp/7001").parse().unwrap()
    }

    fn host(number: usize) -> u8 {
        u8::try_from(number).unwrap()
    }

    fn connect(guard: &mut Guard, number: usize, peer: PeerId, host: u8) -> bool {
        let id = ConnectionId::new_unchecked(number);
        let here = address(0);
        guard.handle_pending_inbound_connection(id, &here, &address(host)).is_ok()
            && guard.handle_established_inbound_connection(id, peer, &here, &address(host)).is_ok()
    }

    #[test]
    fn strangers_cannot_take_the_places_of_known_peers() {
        let mut guard = guard();
        let known: Vec<_> = (0..40).map(|_| peer()).collect();
        known.iter().for_each(|peer| guard.set_known(*peer, true));
        let let_in =
            (0..200).filter(|&number| connect(&mut guard, number, peer(), host(number % 50))).count();
        assert_eq!(let_in, 16);
        for (number, &peer) in known.iter().enumerate() {
            assert!(connect(&mut guard, 1000 + number, peer, 100), "known peer {number}");
        }
    }

    #[test]
    fn one_address_takes_a_share_of_the_handshakes_only() {
        let mut guard = guard();
        let begin = |guard: &mut Guard, number, host| {
            let id = ConnectionId::new_unchecked(number);
            guard.handle_pending_inbound_connection(id, &address(0), &address(host)).is_ok()
        };
        assert_eq!((0..100).filter(|&number| begin(&mut guard, number, 1)).count(), PENDING_PER_IP_MAX);
        assert!(begin(&mut guard, 100, 2));
        // Many addresses take all that is not kept for those that are familiar.
        (200..900).for_each(|number| {
            begin(&mut guard, number, host(number % 40 + 3));
        });
        assert_eq!(guard.pending.len(), PENDING_UNFAMILIAR_MAX);
        guard.visits(Instant::now(), "192.0.2.200".parse().unwrap()).familiar = true;
        assert!(begin(&mut guard, 1000, 200) && !begin(&mut guard, 1001, 201));
    }

    #[test]
    fn a_forger_is_closed_and_shut_out_and_others_of_its_name_elsewhere_are_not() {
        let mut guard = guard();
        let alice = peer();
        guard.set_known(alice, true);
        assert!(connect(&mut guard, 1, alice, 1) && connect(&mut guard, 2, alice, 2));
        (0..2000).for_each(|_| guard.charge(ConnectionId::new_unchecked(1), 8));
        assert_eq!(guard.closing, [(alice, ConnectionId::new_unchecked(1))]);
        guard.forget(ConnectionId::new_unchecked(1));
        assert!(!connect(&mut guard, 3, alice, 1), "it is shut out");
        assert!(connect(&mut guard, 4, alice, 2));
        let later = Instant::now() + SHUT_OUT;
        assert_eq!(guard.admit(later, &alice, place_of(&address(1)), true), Ok(None));
    }

    /// The connections that still stand, in the order in which they came.
    fn stand(guard: &mut Guard, peer: &PeerId) -> Vec<ConnectionId> {
        while let Some((_, connection)) = guard.closing.pop_front() {
            guard.forget(connection);
        }
        guard.of(peer).map(|(connection, _)| connection).collect()
    }

    #[test]
    fn silent_connections_of_a_thief_do_not_keep_the_owner_out() {
        let mut guard = guard();
        let alice = peer();
        guard.set_known(alice, true);
        // The thief has as many addresses as there are places, twice over.
        for number in 0..8 {
            assert!(connect(&mut guard, number, alice, host(number + 1)));
        }
        let owner = ConnectionId::new_unchecked(100);
        assert!(connect(&mut guard, 100, alice, 200));
        assert_eq!(guard.best(&alice), Some(owner), "it is the newest");
        assert!(guard.prove(owner, Instant::now()));
        // Whatever the thief opens now gets nothing, and ends.
        for number in 200..240 {
            connect(&mut guard, number, alice, host(number - 190));
            assert_eq!(guard.best(&alice), Some(owner));
        }
        guard.look_around(Instant::now() + BESIDE_PROVED, 0);
        assert_eq!(stand(&mut guard, &alice), [owner]);
    }

    #[test]
    fn a_thief_cannot_push_out_connections_from_where_the_owner_was_proved() {
        let mut guard = guard();
        let alice = peer();
        guard.set_known(alice, true);
        assert!(connect(&mut guard, 0, alice, 200));
        guard.prove(ConnectionId::new_unchecked(0), Instant::now());
        guard.forget(ConnectionId::new_unchecked(0));
        assert!(connect(&mut guard, 1, alice, 200));
        for number in 2..100 {
            connect(&mut guard, number, alice, host(number));
        }
        let stand = stand(&mut guard, &alice);
        assert!(stand.contains(&ConnectionId::new_unchecked(1)), "{stand:?}");
        assert_eq!(stand.len(), UNPROVED_PER_PEER_MAX);
    }

    #[test]
    fn a_node_that_comes_back_is_let_in_beside_its_dead_connections() {
        let mut guard = guard();
        let alice = peer();
        guard.set_known(alice, true);
        for number in 0..20 {
            assert!(connect(&mut guard, number, alice, 1), "the same address, time and again");
            guard.prove(ConnectionId::new_unchecked(number), Instant::now());
            assert_eq!(guard.best(&alice), Some(ConnectionId::new_unchecked(number)));
        }
        assert_eq!(stand(&mut guard, &alice).len(), PROVED_PER_PEER_MAX);
    }

    #[test]
    fn a_peer_whose_last_proved_connection_ends_is_lost_once() {
        let mut guard = guard();
        let alice = peer();
        guard.set_known(alice, true);
        assert!(connect(&mut guard, 0, alice, 1));
        guard.prove(ConnectionId::new_unchecked(0), Instant::now());
        assert!(connect(&mut guard, 1, alice, 2));
        guard.forget(ConnectionId::new_unchecked(0));
        assert!(guard.take_lost(&alice) && !guard.take_lost(&alice));
        guard.look_around(Instant::now() + BESIDE_PROVED, 0);
        assert_eq!(stand(&mut guard, &alice).len(), 1, "what is left is given time");
    }

    #[test]
    fn strangers_go_when_memory_is_short() {
        let mut guard = guard();
        let alice = peer();
        guard.set_known(alice, true);
        assert!(connect(&mut guard, 1, alice, 1) && connect(&mut guard, 2, peer(), 2));
        guard.look_around(Instant::now(), STRANGER_MEMORY_BYTES_MAX + 1);
        assert_eq!(guard.closing.len(), 1);
        assert!(!connect(&mut guard, 3, peer(), 3) && connect(&mut guard, 4, alice, 4));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut guard = guard();
        let now = Instant::now();
        for number in 0..5_000u32 {
            guard.visits(now, IpAddr::from(number.to_be_bytes()));
        }
        assert_eq!(guard.places.len(), REMEMBERED_MAX);
        guard.places.values_mut().for_each(|visits| {
            visits.rate.take(now, 1);
        });
        guard.look_around(now + Duration::from_secs(3600), 0);
        assert!(guard.places.is_empty());
    }
}
