//! What one connection, one peer and one address may make this node do.
//!
//! A peer is *known* where this node has something to do with it: a hub that a module came from, a client that is
//! enrolled here, a client whose identity is established. Everybody else is a *stranger*: it may take part
//! in gossip and say little. A peer id proves nothing to DSKE, so a known peer is bounded as well; only
//! more generously, so that honest load never meets a bound.

use std::time::Duration;

/// Substreams of one connection; yamux closes the whole connection beyond its limit, so requests in flight
/// stay far below it. Each may keep 256 KiB of unread bytes waiting.
pub(super) const STREAMS_MAX: usize = 64;

/// Requests of one connection that are read, worked on or answered at once; further ones are dropped.
pub(super) const REQUESTS_AT_ONCE_MAX: usize = 48;

/// Connections that are being set up. A handshake takes two round trips; one that hangs holds its place for
/// [`HANDSHAKE_TIMEOUT`]. After a start no address is familiar yet, so there must be more places than a stranger with a few
/// dozen addresses can hold.
pub(super) const PENDING_MAX: usize = 512;

/// Of these, from one address: strangers with few addresses must not hold all places.
pub(super) const PENDING_PER_IP_MAX: usize = 16;

/// Of these, from addresses at which no known peer has been seen: the rest is kept for the others.
pub(super) const PENDING_UNFAMILIAR_MAX: usize = 448;

/// A connection that is not set up by then is given up.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// New connections from one address in a second, and at once: a handshake costs some signatures and curve
/// operations.
pub(super) const HANDSHAKES_PER_SECOND: u32 = 32;
/// See [`HANDSHAKES_PER_SECOND`].
pub(super) const HANDSHAKES_AT_ONCE: u32 = 128;

/// A familiar address may do so many times more: there is a known peer behind it, perhaps many.
pub(super) const FAMILIAR_FACTOR: u32 = 4;

/// Connections of one peer over which it has shown that it holds a table. Two nodes that are hub and client for each other
/// may call at the same moment, and both calls are good.
pub(super) const PROVED_PER_PEER_MAX: usize = 2;

/// Connections of one known peer that called us and has not shown that: beyond, the oldest makes room. Whoever has its
/// transport key must not keep it out.
pub(super) const UNPROVED_PER_PEER_MAX: usize = 4;

/// Of these, from one address. A stranger has no more at all.
pub(super) const UNPROVED_PER_PLACE_MAX: usize = 2;

/// A connection that is not proved ends this long after it came, where the peer has a proved one: the peer itself may be
/// calling anew because that one is dead, and a comparison of marks takes a few round trips.
pub(super) const BESIDE_PROVED: Duration = Duration::from_secs(10);

/// How much longer those stand that were there before another one was proved: what was under way over them may end.
pub(super) const BESIDE_NEWLY_PROVED: Duration = Duration::from_secs(2);

/// Strangers may hold one of so many of all connections; the rest is kept for known peers.
pub(super) const STRANGERS_DIVISOR: usize = 4;

/// Connections of strangers from one address.
pub(super) const STRANGERS_PER_IP_MAX: usize = 32;

/// Beyond this much memory of the process strangers are sent away and none is let in. Known peers are few, and
/// each is bounded.
pub(super) const STRANGER_MEMORY_BYTES_MAX: usize = 768 << 20;

/// Longest request of a stranger; nothing that a stranger could ask is longer.
pub(super) const STRANGER_REQUEST_BYTES_MAX: usize = 4 << 10;

/// Requests of a stranger in a second, and at once. None is served; they cost only their reading.
pub(super) const STRANGER_REQUESTS_PER_SECOND: u32 = 4;
/// See [`STRANGER_REQUESTS_PER_SECOND`].
pub(super) const STRANGER_REQUESTS_AT_ONCE: u32 = 16;

/// Messages of a known peer's connection in a second, and at once. Honest load: some 700 keys a second from
/// a client, and as many instructions from a hub.
pub(super) const MESSAGES_PER_SECOND: u32 = 8192;
/// See [`MESSAGES_PER_SECOND`].
pub(super) const MESSAGES_AT_ONCE: u32 = 8192;

/// KiB of requests of a known peer's connection in a second, and at once: more than the longest keys at the
/// speed of loopback.
pub(super) const KIB_PER_SECOND: u32 = 256 << 10;
/// See [`KIB_PER_SECOND`].
pub(super) const KIB_AT_ONCE: u32 = 64 << 10;

/// The same for a known peer's connection that is not proved: what two clients say to each other about rounds and
/// agreements, and what comes before a proof.
pub(super) const UNPROVED_MESSAGES_PER_SECOND: u32 = 1024;
/// See [`UNPROVED_MESSAGES_PER_SECOND`].
pub(super) const UNPROVED_KIB_PER_SECOND: u32 = 8 << 10;

/// KiB of requests of one connection that are being read or handed over at once. Four exchanges of the longest
/// messages are in flight from an honest peer.
pub(super) const READING_KIB_MAX: u32 = 16 << 10;

/// A request that is not there as a whole within this time of its first byte is dropped.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// What a message costs that no honest peer sends: a wrong tag, bytes that are none, a table that is not shared.
pub(super) const FAULT_POINTS: u32 = 8;

/// What a message costs that an honest peer sends when an answer was lost: one whose pad is used.
pub(super) const REPEAT_POINTS: u32 = 1;

/// Points that a known peer's connection may gather at once, and that are forgiven in a second. Beyond, it is
/// closed: 128 forged messages, or all that a hub may have had in flight when a connection broke, several times.
pub(super) const POINTS_AT_ONCE: u32 = 1024;
/// See [`POINTS_AT_ONCE`].
pub(super) const POINTS_PER_SECOND: u32 = 16;

/// The same for a stranger.
pub(super) const STRANGER_POINTS_AT_ONCE: u32 = 128;
/// See [`STRANGER_POINTS_AT_ONCE`].
pub(super) const STRANGER_POINTS_PER_SECOND: u32 = 8;

/// A peer whose connection was closed for its points is not let in again from there for this long; twice as long
/// each time, up to the second figure.
pub(super) const SHUT_OUT: Duration = Duration::from_secs(10);
/// See [`SHUT_OUT`].
pub(super) const SHUT_OUT_MAX: Duration = Duration::from_secs(600);

/// Addresses and shut-out peers that are remembered; the oldest go first.
pub(super) const REMEMBERED_MAX: usize = 4096;

/// Announcements that one peer may pass on in a second, and at once: a new neighbour may bring all it has heard.
pub(super) const GOSSIP_PER_SECOND: u32 = 16;
/// See [`GOSSIP_PER_SECOND`].
pub(super) const GOSSIP_AT_ONCE: u32 = 512;

/// Announcements of one author: so many at once, then one in this time. An honest one comes each minute, and when
/// somebody subscribes.
pub(super) const AUTHOR_AT_ONCE: u32 = 8;
/// See [`AUTHOR_AT_ONCE`].
pub(super) const AUTHOR_INTERVAL: Duration = Duration::from_secs(5);
