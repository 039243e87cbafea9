//! Who may connect, and who must go: the first of the node's behaviours, so that what it refuses costs nothing more.
//!
//! Places are kept for known peers, so strangers, however many, cannot keep them out. What a single address may
//! do is bounded, so that one who has few addresses cannot keep other strangers out. A peer id or an
//! address that is shut out stays so for a while.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    convert::Infallible,
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

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
        CONNECTIONS_PER_KNOWN_MAX, CONNECTIONS_PER_PEER_AND_IP_MAX, FAMILIAR_FACTOR, GOSSIP_AT_ONCE,
        GOSSIP_PER_SECOND, HANDSHAKES_AT_ONCE, HANDSHAKES_PER_SECOND, PENDING_MAX, PENDING_PER_IP_MAX,
        PENDING_UNFAMILIAR_MAX, REMEMBERED_MAX, SHUT_OUT, SHUT_OUT_MAX, STRANGER_MEMORY_BYTES_MAX,
        STRANGERS_DIVISOR, STRANGERS_PER_IP_MAX,
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
    places: BTreeMap<IpAddr, Visits>,
    shut_out: BTreeMap<(PeerId, Place), ShutOut>,
    gossip: BTreeMap<PeerId, Rate>,
    closing: VecDeque<(PeerId, ConnectionId)>,
    /// Set while the process holds more memory than strangers are welcome with.
    is_full: bool,
    waker: Option<Waker>,
}

struct Open {
    peer: PeerId,
    place: Place,
    gate: Arc<Gate>,
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
        for open in self.open.values().filter(|open| open.peer == peer) {
            open.gate.set_known(known);
        }
    }

    pub(super) fn is_known(&self, peer: &PeerId) -> bool {
        self.known.contains(peer)
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
        let open = self.open.iter().filter(|(_, open)| open.peer == *peer);
        let connections: Vec<_> = open.map(|(&connection, _)| connection).collect();
        connections.into_iter().for_each(|connection| self.shut(connection));
    }

    /// Once a second: forgets what has rested, and makes room where memory is short.
    pub(super) fn look_around(&mut self, now: Instant, memory_bytes: usize) {
        self.shut_out.retain(|_, shut| now < shut.until + shut.pause);
        self.places.retain(|_, visits| visits.familiar || !visits.rate.is_rested(now));
        let connected: BTreeSet<_> = self.open.values().map(|open| open.peer).collect();
        self.gossip.retain(|peer, rate| connected.contains(peer) || !rate.is_rested(now));
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
        self.open.values().find(|open| open.peer == *peer).and_then(|open| open.place)
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

    /// Whether a connection may stay once it is known whose it is.
    fn admit(&mut self, now: Instant, peer: &PeerId, place: Place, incoming: bool) -> Result<(), Refused> {
        let known = self.is_known(peer);
        let of_peer = || self.open.values().filter(|open| open.peer == *peer);
        let per_peer = if known { CONNECTIONS_PER_KNOWN_MAX } else { CONNECTIONS_PER_PEER_AND_IP_MAX };
        let at_place = of_peer().filter(|open| open.place == place).count();
        if of_peer().count() >= per_peer || at_place >= CONNECTIONS_PER_PEER_AND_IP_MAX {
            return Err(Refused::Peer);
        }
        if self.open.len() >= self.connections_max {
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
        Ok(())
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
        if let Err(refused) = self.admit(now, &peer, place, incoming) {
            count(&self.dropped.connections_refused);
            return Err(ConnectionDenied::new(refused));
        }
        let known = self.is_known(&peer);
        if let (true, Some(ip)) = (known, place) {
            self.visits(now, ip).familiar = true;
        }
        let gate = Arc::new(Gate::new(known, Arc::clone(&self.dropped)));
        *self.arriving.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&gate));
        self.open.insert(connection, Open { peer, place, gate });
        Ok(dummy::ConnectionHandler)
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
                self.open.remove(&closed.connection_id);
            }
            // Another behaviour may have refused it after us.
            FromSwarm::ListenFailure(failure) => {
                self.pending.remove(&failure.connection_id);
                self.open.remove(&failure.connection_id);
            }
            FromSwarm::DialFailure(failure) => {
                self.open.remove(&failure.connection_id);
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
        (200..400).for_each(|number| {
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
        guard.open.remove(&ConnectionId::new_unchecked(1));
        assert!(!connect(&mut guard, 3, alice, 1), "it is shut out");
        assert!(connect(&mut guard, 4, alice, 2));
        let later = Instant::now() + SHUT_OUT;
        assert_eq!(guard.admit(later, &alice, place_of(&address(1)), true), Ok(()));
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
