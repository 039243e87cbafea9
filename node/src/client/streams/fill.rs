//! How a stream is filled: which blocks are agreed, when, and by which protocol.

use std::{collections::BTreeSet, time::Duration};

use dske_protocol::{
    hub::RequestId,
    ids::{BlockId, NodeId},
    message::Content,
    negotiation::negotiation_bytes,
    params::{KEY_BYTES_MAX, Time},
    refusal::SendFailure,
    sender::{AgreedKey, KeyWish, RoundWish, SenderInput},
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

/// Rounds of a first session with a receiver, and of later ones: a session that is lost early should cost little.
const ROUNDS_FIRST: u32 = 64;
/// See [`ROUNDS_FIRST`].
const ROUNDS_MOST: u32 = 512;

/// A new session is agreed when no more rounds than this are left.
const ROUNDS_LOW: u32 = 16;

/// Between two sessions with one receiver: whoever makes them useless must not have pad burned without end.
const SESSION_INTERVAL: Duration = Duration::from_millis(500);

/// Rounds that may fail one after the other, and how long General agreements serve after that.
const FAILURES_MAX: u32 = 3;
/// See [`FAILURES_MAX`].
const GENERAL_FOR: Duration = Duration::from_secs(30);

/// After a failed block nothing is tried for so long, twice as long each time.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// See [`PAUSE_MIN`].
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// How blocks are agreed with one receiver.
#[derive(Debug, Default)]
pub(super) struct Path {
    /// Since when a session is being agreed.
    negotiating: Option<Time>,
    /// Not before this is another session agreed.
    session_from: Time,
    /// Rounds that the last session had.
    rounds: u32,
    /// Rounds that failed since one succeeded.
    failures: u32,
    /// Until then General agreements serve.
    general_until: Time,
}

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
        late: bool,
    },
    Session {
        with: NodeId,
    },
}

/// What can be done for a stream now.
enum Step {
    Round(BlockId),
    General,
    Negotiate,
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
        let Streams { streams, under_way, .. } = &mut self.streams;
        for filling in under_way.values_mut() {
            let bytes = filling.bytes();
            let Filling::Block { receivers, purpose, key_bytes, keys, begun, alone, late, .. } = filling
            else {
                continue;
            };
            if *late || now < *begun + BLOCK_LATE {
                continue;
            }
            *late = true;
            let stream =
                streams.iter_mut().find(|stream| stream.record.is_of(receivers, purpose, *key_bytes));
            if let Some(stream) = stream {
                stream.blocks_out -= 1;
                stream.keys_out -= u64::from(*keys);
                stream.blocks_late += 1;
                stream.window.ended(*alone, None);
                if stream.length.late(bytes) {
                    stream.window.again();
                }
            }
        }
    }

    /// Starts one block or session for a stream; `false` where nothing is to be done now.
    fn pump_stream(&mut self, now: Time, at: usize) -> bool {
        let under_way: u64 = self.streams.under_way.values().map(Filling::bytes).sum();
        let Some(stream) = self.streams.streams.get_mut(at) else { return false };
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
        let enough = !stream.window.has_room(stream.blocks_out) || stream.blocks_late >= LATE_AT_ONCE;
        if !stream.filling || missing == 0 || enough || now < stream.pause_until {
            return false;
        }
        let most = stream.length.bytes().min(self.policy.key_bits_max / 8);
        let keys = keys_in_block(missing, stream.record.key_bytes, stream.window.size() as u64, most);
        let bytes = u64::from(keys) * u64::from(stream.record.key_bytes);
        if under_way > 0 && under_way + bytes > BYTES_AT_ONCE {
            return false;
        }
        let (receivers, purpose, key_bytes) =
            (stream.record.receivers.clone(), stream.record.purpose.clone(), stream.record.key_bytes);
        match self.step(now, &receivers) {
            Step::Wait => false,
            Step::Negotiate => {
                self.negotiate(now, receivers);
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
                let alone = stream.window.begin(stream.blocks_out);
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
                    late: false,
                };
                self.streams.under_way.insert(id, filling);
                self.sender.handle(now, input, &mut self.rng);
                true
            }
        }
    }

    /// By which protocol the next block is agreed.
    fn step(&self, now: Time, receivers: &[NodeId]) -> Step {
        let usable = self.hubs.usable(&self.store);
        if usable.len() < usize::from(self.policy.k) {
            return Step::Wait;
        }
        let [with] = receivers else { return Step::General };
        let path = self.streams.paths.get(with);
        // With n = k General is the Simple scheme: it sends indices only, too.
        let serving = self.serving(receivers);
        let n = self.hubs.choices(&usable, &serving, &[], self.policy.n).len();
        if n <= usize::from(self.policy.k) || path.is_some_and(|path| now < path.general_until) {
            return Step::General;
        }
        let sessions: Vec<_> = self.sender.sessions().filter(|(_, receiver, _)| receiver == with).collect();
        let rounds: u32 = sessions.iter().map(|(_, _, rounds)| rounds).sum();
        let negotiating = path.and_then(|path| path.negotiating);
        if rounds <= ROUNDS_LOW && negotiating.is_none() && path.is_none_or(|path| now >= path.session_from) {
            return Step::Negotiate;
        }
        match sessions.into_iter().find(|(_, _, rounds)| *rounds > 0) {
            Some((session, ..)) => Step::Round(session),
            None if negotiating.is_some_and(|since| now >= since + BLOCK_LATE) => Step::General,
            None => Step::Wait,
        }
    }

    /// The protocol that serves a stream now, for people.
    pub(super) fn protocol_of(&self, stream: &Stream) -> &'static str {
        match self.step(self.clock.now(), &stream.record.receivers) {
            Step::Round(_) | Step::Negotiate => "adapted",
            Step::General => "general",
            Step::Wait => "waiting",
        }
    }

    fn serving(&self, receivers: &[NodeId]) -> BTreeSet<NodeId> {
        let mut serving = self.hubs.accepted();
        for known in receivers.iter().filter_map(|receiver| self.identities.get(receiver)) {
            serving.retain(|hub| known.hubs.contains(hub));
        }
        serving
    }

    fn negotiate(&mut self, now: Time, receivers: Vec<NodeId>) {
        let Some(&with) = receivers.first() else { return };
        let path = self.streams.paths.entry(with).or_default();
        let usable = self.hubs.usable(&self.store);
        path.negotiating = Some(now);
        path.session_from = now + SESSION_INTERVAL;
        path.rounds = (path.rounds * 2).clamp(ROUNDS_FIRST, ROUNDS_MOST);
        let wanted = path.rounds;
        let serving = self.serving(&receivers);
        let n = self.hubs.choices(&usable, &serving, &[], self.policy.n).len();
        let n = u8::try_from(n).unwrap_or(u8::MAX);
        let longest = KEY_BYTES_MAX.min(self.policy.key_bits_max / 8) / u64::from(negotiation_bytes(n, 1));
        let rounds = wanted.min(u32::try_from(longest).unwrap_or(u32::MAX)).max(1);
        let wish = self.block_wish(now, &receivers, "", Content::Negotiation, negotiation_bytes(n, rounds));
        let id = self.wishes.next_id();
        self.streams.under_way.insert(id, Filling::Session { with });
        self.sender.handle(now, SenderInput::Start { id, wish }, &mut self.rng);
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
        let hubs = self.hubs.choices(&usable, &self.serving(receivers), &[], self.policy.n);
        KeyWish {
            receivers: receivers.to_vec(),
            key_bytes,
            content,
            keep: true,
            confirm: true,
            purpose: purpose.to_owned(),
            k: self.policy.k,
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
        result: Result<AgreedKey, SendFailure>,
    ) -> Option<Result<AgreedKey, SendFailure>> {
        let Some(filling) = self.streams.under_way.remove(&id) else { return Some(result) };
        let bytes = filling.bytes();
        match filling {
            Filling::Session { with } => self.session_ended(now, with, result.err()),
            Filling::Block { receivers, purpose, key_bytes, keys, round_with, begun, alone, late } => {
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
                        let took = result.is_ok().then(|| now.saturating_sub(begun));
                        stream.window.ended(alone, took);
                        if took.is_some_and(|took| stream.length.took(bytes, took)) {
                            stream.window.again();
                        }
                    }
                    match result {
                        Ok(agreed) => {
                            stream.failures = 0;
                            stream.last_failure = None;
                            stream.agreed += u64::from(keys);
                            stream.pool.add(agreed.agreement.block, 0, keys);
                        }
                        Err(error) => {
                            let names = Names { hubs: &self.hubs, clients: &self.roll, me: &self.me };
                            let why = failures::send(&error, |node| names.of(node)).message;
                            stream.failed(now, why);
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
        let path = self.streams.paths.entry(with).or_default();
        path.negotiating = None;
        if let Some(failure) = failure {
            path.general_until = now + GENERAL_FOR;
            let names = Names { hubs: &self.hubs, clients: &self.roll, me: &self.me };
            let (who, why) = (names.of(&with), failures::send(&failure, |node| names.of(node)).message);
            self.sessions.event(Level::Warn, format!("no key to negotiate rounds with {who}: {why}"));
        }
    }

    fn round_ended(&mut self, now: Time, with: NodeId, failure: Option<&SendFailure>) {
        match failure {
            None => self.streams.paths.entry(with).or_default().failures = 0,
            // All rounds under one negotiation key ended with it: that was one failure, and has been noted.
            Some(SendFailure::NoSession) => {}
            Some(_) => self.path_failed(now, with),
        }
    }

    /// Rounds with a receiver do not succeed; where that goes on, General agreements serve for a while.
    pub(in crate::client) fn path_failed(&mut self, now: Time, with: NodeId) {
        let path = self.streams.paths.entry(with).or_default();
        path.failures += 1;
        path.rounds = 0;
        if path.failures >= FAILURES_MAX {
            path.failures = 0;
            path.general_until = now + GENERAL_FOR;
            let names = Names { hubs: &self.hubs, clients: &self.roll, me: &self.me };
            let who = names.of(&with);
            let text = format!("rounds with {who} fail: General agreements serve for {GENERAL_FOR:?}");
            self.sessions.event(Level::Warn, text);
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

    fn bytes(&self) -> u64 {
        match self {
            Self::Block { key_bytes, keys, .. } => u64::from(*key_bytes) * u64::from(*keys),
            Self::Session { .. } => 0,
        }
    }
}
