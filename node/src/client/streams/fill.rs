//! How a stream is filled: which blocks are agreed, when, and by which protocol.

use std::time::Duration;

use dske_protocol::{
    hub::RequestId,
    ids::{BlockId, NodeId},
    message::Content,
    negotiation::negotiation_bytes,
    params::{KEY_BYTES_MAX, Time},
    refusal::SendFailure,
    sender::{AgreedKey, KeyWish, RoundWish, SenderInput},
    stream::{
        ahead::{Ended, Room},
        path::{GENERAL_FOR, Path, Way},
    },
};

use dske_storage::StreamRecord;

use super::{ClientActor, Names, Stream, Streams, keys_in_block};
use crate::{client::failures, status::Level};

/// Bytes of key under way at once, over all streams: each is held as a share per hub at both ends.
const BYTES_AT_ONCE: u64 = 8 << 20;

/// How long a block may take.
const BLOCK_PATIENCE: Duration = Duration::from_secs(20);

/// A block that takes longer is not counted on: others are agreed in its place, and it serves when it comes. Without
/// this a receiver that was killed would hold the stream up for the patience of all that were under way.
const BLOCK_LATE: Duration = Duration::from_secs(1);

/// Late blocks of one stream; with more of them nothing new is begun, for then everything is slow.
const LATE_AT_ONCE: usize = 12;

/// After a failed block nothing is tried for so long, twice as long each time.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// See [`PAUSE_MIN`].
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A block or a session that is being agreed.
pub(super) enum Filling {
    Block {
        receivers: Vec<NodeId>,
        purpose: String,
        key_bytes: u32,
        keys: u32,
        /// The receiver with whom it is a round.
        round_with: Option<NodeId>,
        begun: Time,
        /// Whether it was begun to see how long one takes that goes alone; see [`super::window`].
        alone: bool,
        /// Whether it is one key, to see whether the receivers are there.
        tries: bool,
        late: bool,
    },
    Session {
        with: NodeId,
        bytes: u64,
        begun: Time,
    },
}

/// What can be done for a stream now.
enum Step {
    Round(BlockId),
    General,
    Negotiate { rounds: u32, rounds_left: u32 },
    Wait,
}

impl ClientActor {
    /// Agrees what streams lack, as far as may be under way at once.
    pub(in crate::client) fn pump_streams(&mut self, now: Time) {
        for at in 0..self.streams.streams.len() {
            while self.pump_stream(now, at) {}
        }
    }

    /// Counts no longer on blocks that take too long.
    pub(in crate::client) fn note_late_blocks(&mut self, now: Time) {
        let Streams { streams, under_way, ahead, .. } = &mut self.streams;
        for filling in under_way.values_mut() {
            let (bytes, begun) = (filling.bytes(), filling.begun());
            if now < begun + BLOCK_LATE {
                continue;
            }
            if let Some(ahead) = ahead.get_mut(filling.receivers()) {
                ahead.late(begun);
            }
            let Filling::Block {
                receivers, purpose, key_bytes, keys, alone, tries, late: late @ false, ..
            } = filling
            else {
                continue;
            };
            *late = true;
            let stream =
                streams.iter_mut().find(|stream| stream.record.is_of(receivers, purpose, *key_bytes));
            if let Some(stream) = stream {
                stream.blocks_out -= 1;
                stream.keys_out -= u64::from(*keys);
                stream.blocks_late += 1;
                if *tries {
                    continue;
                }
                stream.window.ended(*alone, None);
                if stream.length.late(bytes) {
                    stream.window.again();
                }
            }
        }
    }

    /// Starts one block or session for a stream; `false` where nothing is to be done now.
    fn pump_stream(&mut self, now: Time, at: usize) -> bool {
        let blocks = self.streams.under_way.values().filter(|filling| filling.is_block());
        let under_way: u64 = blocks.map(Filling::bytes).sum();
        let Streams { streams, ahead, .. } = &mut self.streams;
        let Some(stream) = streams.get_mut(at) else { return false };
        let asked: u64 = stream.waiting_keys();
        let have = stream.pool.keys();
        if have < u64::from(stream.record.low).max(asked.min(1)) || have < asked {
            stream.filling = true;
        }
        let wanted = u64::from(stream.record.high).max(asked);
        if have >= wanted {
            stream.filling = false;
        }
        let missing = wanted.saturating_sub(have + stream.keys_out);
        if !stream.filling || missing == 0 {
            return false;
        }
        let ahead = ahead.entry(stream.record.receivers.clone()).or_default();
        if asked > 0 && ahead.sign(now) {
            stream.pause_until = now;
        }
        let room = ahead.room(now);
        let tries = room == Room::Try;
        let enough = !stream.window.has_room(stream.blocks_out) || stream.blocks_late >= LATE_AT_ONCE;
        if room == Room::None || (enough && !tries) || now < stream.pause_until {
            return false;
        }
        let most = stream.length.bytes().min(self.policy.key_bits_max / 8);
        let keys = keys_in_block(missing, stream.record.key_bytes, stream.window.size() as u64, most);
        let keys = keys.min(u32::try_from(ahead.keys(now, stream.record.key_bytes)).unwrap_or(u32::MAX));
        if keys == 0 {
            return false;
        }
        let bytes = u64::from(keys) * u64::from(stream.record.key_bytes);
        if under_way > 0 && under_way + bytes > BYTES_AT_ONCE {
            return false;
        }
        let (receivers, purpose, key_bytes) =
            (stream.record.receivers.clone(), stream.record.purpose.clone(), stream.record.key_bytes);
        match self.step(now, &receivers, room) {
            Step::Wait => false,
            Step::Negotiate { rounds, rounds_left } => {
                self.negotiate(now, receivers, rounds, rounds_left);
                true
            }
            step => {
                let id = self.wishes.next_id();
                let input = match step {
                    Step::Round(session) => SenderInput::Round {
                        id,
                        wish: RoundWish {
                            session,
                            key_bytes: keys * key_bytes,
                            keys,
                            purpose: purpose.clone(),
                            reachable: self.hubs.usable(&self.store),
                            deadline: now + BLOCK_PATIENCE,
                        },
                    },
                    _ => {
                        let content = Content::Keys(keys);
                        let wish = self.block_wish(now, &receivers, &purpose, content, keys * key_bytes);
                        SenderInput::Start { id, wish }
                    }
                };
                let round_with = match (&input, receivers.first()) {
                    (SenderInput::Round { .. }, Some(with)) => Some(*with),
                    _ => None,
                };
                let Some(stream) = self.streams.streams.get_mut(at) else { return false };
                let alone = !tries && stream.window.begin(stream.blocks_out);
                stream.blocks_out += 1;
                stream.keys_out += u64::from(keys);
                let filling = Filling::Block {
                    receivers,
                    purpose,
                    key_bytes,
                    keys,
                    round_with,
                    begun: now,
                    alone,
                    tries,
                    late: false,
                };
                self.streams.ahead(filling.receivers()).begin(now, bytes);
                self.streams.under_way.insert(id, filling);
                self.sender.handle(now, input, &mut self.rng);
                true
            }
        }
    }

    /// By which protocol the next block is agreed, with this room for it.
    fn step(&self, now: Time, receivers: &[NodeId], room: Room) -> Step {
        let usable = self.hubs.usable(&self.store);
        if usable.len() < usize::from(self.policy.k) {
            return Step::Wait;
        }
        let [with] = receivers else { return Step::General };
        // With n = k General is the Simple scheme: it sends indices only, too.
        let n = self.most_hubs(receivers);
        if n <= usize::from(self.policy.k) {
            return Step::General;
        }
        let sessions: Vec<_> = self.sender.sessions().filter(|(_, receiver, _)| receiver == with).collect();
        let rounds_left: u32 = sessions.iter().map(|(_, _, rounds)| rounds).sum();
        let fresh = Path::default();
        let path = self.streams.paths.get(with).unwrap_or(&fresh);
        let session = sessions.into_iter().find(|(_, _, rounds)| *rounds > 0);
        match (path.way(now, rounds_left, room == Room::Try), session) {
            (Way::Negotiate(rounds), session) => {
                let left = match room {
                    Room::Bytes(left) => left,
                    Room::Try | Room::None => 0,
                };
                let n = u8::try_from(n).unwrap_or(u8::MAX);
                let most = left.min(KEY_BYTES_MAX).min(self.policy.key_bits_max / 8)
                    / u64::from(negotiation_bytes(n, self.policy.k, 1));
                match (rounds.min(u32::try_from(most).unwrap_or(u32::MAX)), session) {
                    (0, Some((session, ..))) => Step::Round(session),
                    (0, None) => Step::General,
                    (rounds, _) => Step::Negotiate { rounds, rounds_left },
                }
            }
            (Way::Round, Some((session, ..))) => Step::Round(session),
            (Way::Round | Way::General, _) => Step::General,
            (Way::Wait, _) => Step::Wait,
        }
    }

    /// The protocol that serves a stream now, for people.
    pub(super) fn protocol_of(&self, stream: &Stream) -> &'static str {
        let room = Room::Bytes(KEY_BYTES_MAX);
        match self.step(self.clock.now(), &stream.record.receivers, room) {
            Step::Round(_) | Step::Negotiate { .. } => "adapted",
            Step::General => "general",
            Step::Wait => "waiting",
        }
    }

    fn negotiate(&mut self, now: Time, receivers: Vec<NodeId>, rounds: u32, rounds_left: u32) {
        let Some(&with) = receivers.first() else { return };
        self.streams.paths.entry(with).or_default().negotiate(now, rounds_left);
        let n = self.most_hubs(&receivers);
        let n = u8::try_from(n).unwrap_or(u8::MAX);
        let key_bytes = negotiation_bytes(n, self.policy.k, rounds);
        let wish = self.block_wish(now, &receivers, "", Content::Negotiation, key_bytes);
        let id = self.wishes.next_id();
        let bytes = u64::from(key_bytes);
        self.streams.ahead(&receivers).begin(now, bytes);
        self.streams.under_way.insert(id, Filling::Session { with, bytes, begun: now });
        self.sender.handle(now, SenderInput::Start { id, wish }, &mut self.rng);
    }

    /// How many hubs the roster of a key for these receivers has.
    fn most_hubs(&self, receivers: &[NodeId]) -> usize {
        let hubs = self.hubs_serving(receivers).len();
        hubs.min(if self.policy.n == 0 { usize::from(u8::MAX) } else { usize::from(self.policy.n) })
    }

    fn block_wish(
        &self,
        now: Time,
        receivers: &[NodeId],
        purpose: &str,
        content: Content,
        key_bytes: u32,
    ) -> KeyWish {
        let usable = self.hubs.usable(&self.store);
        let hubs = self.hubs.choices(&self.store, &usable, &self.hubs_serving(receivers), &[]);
        KeyWish {
            receivers: receivers.to_vec(),
            key_bytes,
            content,
            keep: true,
            confirm: true,
            purpose: purpose.to_owned(),
            k: self.policy.k,
            n: self.policy.n,
            hubs,
            linked: receivers.iter().filter(|node| self.linked.contains(node)).copied().collect(),
            deadline: now + BLOCK_PATIENCE,
            notice_deadline: now + BLOCK_PATIENCE,
        }
    }

    /// An agreement of a stream has ended; gives the result back where it is none of a stream.
    pub(in crate::client) fn stream_ended(
        &mut self,
        now: Time,
        id: RequestId,
        burned: bool,
        result: Result<AgreedKey, SendFailure>,
    ) -> Option<Result<AgreedKey, SendFailure>> {
        let Some(filling) = self.streams.under_way.remove(&id) else { return Some(result) };
        let (bytes, begun) = (filling.bytes(), filling.begun());
        let how = match (&result, burned) {
            (Ok(_), _) => Ended::Confirmed,
            (Err(_), true) => Ended::Failed,
            (Err(_), false) => Ended::Unburned,
        };
        self.streams.ahead(filling.receivers()).ended(now, begun, bytes, how);
        match filling {
            Filling::Session { with, .. } => self.session_ended(now, with, result.err()),
            Filling::Block {
                receivers, purpose, key_bytes, keys, round_with, alone, tries, late, ..
            } => {
                if let Some(with) = round_with {
                    self.round_ended(now, with, result.as_ref().err());
                }
                let at = self.streams.find(&receivers, &purpose, key_bytes);
                let stream = at.and_then(|at| self.streams.streams.get_mut(at));
                if let Some(stream) = stream {
                    if late {
                        stream.blocks_late -= 1;
                    } else {
                        stream.blocks_out -= 1;
                        stream.keys_out -= u64::from(keys);
                        let took = (result.is_ok() && !tries).then(|| now.saturating_sub(begun));
                        if !tries {
                            stream.window.ended(alone, took);
                        }
                        if took.is_some_and(|took| stream.length.took(bytes, took)) {
                            stream.window.again();
                        }
                    }
                    match result {
                        Ok(agreed) => {
                            stream.failures = 0;
                            stream.last_failure = None;
                            stream.agreed += u64::from(keys);
                            stream.pool.add(agreed.agreement.block(), 0, keys);
                        }
                        Err(error) => {
                            let names = Names { hubs: &self.hubs, clients: &self.roll, me: &self.me };
                            let why = failures::send(&error, |node| names.of(node)).message;
                            stream.failed(now, why);
                            if let SendFailure::Quota { rest, .. } = error {
                                stream.pause_until = stream.pause_until.max(now + rest);
                            }
                        }
                    }
                }
                self.serve_streams(now);
            }
        }
        self.pump_streams(now);
        None
    }

    fn session_ended(&mut self, now: Time, with: NodeId, failure: Option<SendFailure>) {
        self.streams.paths.entry(with).or_default().negotiated(now, failure.is_none());
        if let Some(failure) = failure {
            let names = Names { hubs: &self.hubs, clients: &self.roll, me: &self.me };
            let (who, why) = (names.of(&with), failures::send(&failure, |node| names.of(node)).message);
            self.sessions.event(Level::Warn, format!("no key to negotiate rounds with {who}: {why}"));
        }
    }

    fn round_ended(&mut self, now: Time, with: NodeId, failure: Option<&SendFailure>) {
        let path = self.streams.paths.entry(with).or_default();
        match failure {
            None => path.succeeded(),
            // All rounds under one negotiation key ended with it: that was one failure, and has been noted. And a quota
            // refuses whatever is agreed, in whichever way.
            Some(SendFailure::NoSession | SendFailure::Quota { .. }) => {}
            Some(_) => {
                if path.failed(now) {
                    self.rounds_fail(with);
                }
            }
        }
    }

    /// A receiver has lost a negotiation key, as many hubs say as must be honest in part.
    pub(in crate::client) fn session_lost(&mut self, now: Time, with: NodeId) {
        if self.streams.paths.entry(with).or_default().lost(now) {
            self.rounds_fail(with);
        }
        self.receiver_seen(now, &with);
    }

    /// Rounds with a receiver do not succeed, and that goes on: General agreements serve for a while.
    fn rounds_fail(&mut self, with: NodeId) {
        let names = Names { hubs: &self.hubs, clients: &self.roll, me: &self.me };
        let text =
            format!("rounds with {} fail: General agreements serve for {GENERAL_FOR:?}", names.of(&with));
        self.sessions.event(Level::Warn, text);
    }

    /// Receivers have confirmed a key that is none of a stream: the way is open again, so their streams try it.
    pub(in crate::client) fn receivers_confirmed(&mut self, now: Time, receivers: &[NodeId]) {
        let Streams { streams, ahead, .. } = &mut self.streams;
        let Some(ahead) = ahead.get_mut(receivers).filter(|ahead| ahead.is_doubtful()) else { return };
        ahead.confirmed_otherwise(now);
        let theirs = streams.iter_mut().filter(|stream| stream.record.receivers == receivers);
        theirs.for_each(|stream| stream.pause_until = now);
    }

    /// Something says that a receiver is there. It proves nothing, and brings the next try forward.
    pub(in crate::client) fn receiver_seen(&mut self, now: Time, receiver: &NodeId) {
        let Streams { streams, ahead, .. } = &mut self.streams;
        for (receivers, ahead) in ahead.iter_mut().filter(|(receivers, _)| receivers.contains(receiver)) {
            if !ahead.sign(now) {
                continue;
            }
            let theirs = streams.iter_mut().filter(|stream| stream.record.receivers == *receivers);
            theirs.for_each(|stream| stream.pause_until = now);
        }
    }
}

impl Stream {
    /// Keys that those who wait have asked for.
    fn waiting_keys(&self) -> u64 {
        self.waiting.iter().map(super::Waiting::count).sum()
    }

    /// Notes that a block failed. Those that were under way together fail together, and count as one.
    fn failed(&mut self, now: Time, why: String) {
        self.last_failure = Some(why);
        if now < self.pause_until {
            return;
        }
        let pause = PAUSE_MIN.saturating_mul(1 << self.failures.min(10)).min(PAUSE_MAX);
        self.failures += 1;
        self.pause_until = now + pause;
    }
}

impl Filling {
    /// Whether it is a block of this stream.
    pub(super) fn is_for(&self, stream: &StreamRecord) -> bool {
        match self {
            Self::Block { receivers, purpose, key_bytes, .. } => stream.is_of(receivers, purpose, *key_bytes),
            Self::Session { .. } => false,
        }
    }

    fn is_block(&self) -> bool {
        matches!(self, Self::Block { .. })
    }

    fn receivers(&self) -> &[NodeId] {
        match self {
            Self::Block { receivers, .. } => receivers,
            Self::Session { with, .. } => std::slice::from_ref(with),
        }
    }

    fn begun(&self) -> Time {
        match self {
            Self::Block { begun, .. } | Self::Session { begun, .. } => *begun,
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Block { key_bytes, keys, .. } => u64::from(*key_bytes) * u64::from(*keys),
            Self::Session { bytes, .. } => *bytes,
        }
    }
}
