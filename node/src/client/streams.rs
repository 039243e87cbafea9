//! Streams of keys: blocks that are agreed ahead of demand with a set of receivers, kept in a pool, and cut into keys.
//!
//! A stream fills from its low to its high mark, a few blocks at a time, each as long as what is missing asks for. With
//! one receiver and n > k its blocks are rounds of the Adapted protocol under a negotiation key that is agreed when it is
//! needed; otherwise, and whenever rounds fail, they are General agreements. Only what every receiver has confirmed
//! enters the pool: a key that is handed out here is there as well.

mod fill;
mod length;
mod pool;
mod window;

use std::{collections::BTreeMap, time::Duration};

use dske_protocol::{
    hub::RequestId,
    ids::{KeyId, NodeId},
    naming::NodeRef,
    params::{KEY_BYTES_MAX, KEYS_PER_BLOCK_MAX, PURPOSE_BYTES_MAX, RECEIVERS_MAX, Time},
    pool::Pool,
    stream::{ahead::Ahead, path::Path},
};
use dske_storage::{Side, Store, StoreError, StreamRecord, Transaction, WaitingBlock};
use futures::{future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::oneshot;

pub(super) use self::pool::Batch;
pub(crate) use self::pool::BatchReply;
use self::{
    fill::Filling,
    length::Length,
    pool::{BATCH_BYTES_MAX, Waiting, hand_out},
    window::Window,
};
use super::{ClientActor, Names, failures, inquiries::Occasion, whom::Whom};
use crate::{
    control::{Failure, StreamSpec, failure, stopping, store_failure},
    status::{PeerStatus, StreamStatus},
};

/// How long the identities of a new stream's receivers are awaited.
const IDENTITY_PATIENCE: Duration = Duration::from_secs(15);

/// Streams of one node.
const STREAMS_MAX: usize = 256;

/// Most keys that a stream keeps.
const HIGH_MAX: u32 = 1 << 24;

/// See the head of the file.
#[derive(Default)]
pub(super) struct Streams {
    streams: Vec<Stream>,
    /// Those whose receivers' identities are being established.
    opening: Vec<Opening>,
    under_way: BTreeMap<RequestId, Filling>,
    /// How blocks are agreed with each receiver.
    paths: BTreeMap<NodeId, Path>,
    /// Keys that are asked of the store.
    pub(super) batches: FuturesUnordered<BoxFuture<'static, Batch>>,
    /// What each set of receivers has not confirmed.
    ahead: BTreeMap<Vec<NodeId>, Ahead>,
}

struct Stream {
    record: StreamRecord,
    pool: Pool,
    /// Between the low mark, where filling begins, and the high one.
    filling: bool,
    window: Window,
    length: Length,
    /// Blocks that are being agreed, and their keys.
    blocks_out: usize,
    keys_out: u64,
    /// Further blocks under way that are not counted on any more.
    blocks_late: usize,
    /// After a failure nothing is tried before this, longer each time.
    pause_until: Time,
    failures: u32,
    /// Since the start.
    agreed: u64,
    handed_out: u64,
    last_failure: Option<String>,
    waiting: std::collections::VecDeque<Waiting>,
}

struct Opening {
    spec: StreamSpec,
    until: Time,
    reply: oneshot::Sender<Result<(), Failure>>,
}

impl Stream {
    /// A stream with what is left of its blocks, of those that wait: a pool's keys are taken in order.
    fn new(record: StreamRecord, waiting: &[WaitingBlock]) -> Self {
        let mut pool = Pool::default();
        for block in waiting.iter().filter(|block| block.record.side == Side::Sender) {
            let of = &block.record;
            let same = sorted(&of.receivers) == record.receivers && of.purpose == record.purpose;
            if same && of.key_bytes == record.key_bytes {
                pool.add(of.block, block.next, block.keys);
            }
        }
        Self {
            record,
            pool,
            filling: true,
            window: Window::default(),
            length: Length::default(),
            blocks_out: 0,
            keys_out: 0,
            blocks_late: 0,
            pause_until: Time::ZERO,
            failures: 0,
            agreed: 0,
            handed_out: 0,
            last_failure: None,
            waiting: std::collections::VecDeque::new(),
        }
    }
}

impl Streams {
    /// The streams on record, with what is left in their pools.
    pub(super) fn load(store: &Store) -> Result<Self, StoreError> {
        let waiting = store.waiting_blocks()?;
        let streams = store.streams()?.into_iter().map(|record| Stream::new(record, &waiting)).collect();
        Ok(Self { streams, ..Self::default() })
    }

    /// Whether one of so many keys lies in the pool of a stream: it is handed out in its turn, not by its id.
    pub(super) fn holds(&self, first: KeyId, count: u32) -> bool {
        self.streams.iter().any(|stream| stream.pool.holds(first, count))
    }

    /// What is unconfirmed with a set of receivers.
    fn ahead(&mut self, receivers: &[NodeId]) -> &mut Ahead {
        self.ahead.entry(receivers.to_vec()).or_default()
    }

    /// That the receivers of a stream confirm nothing, for people.
    fn doubt(&self, now: Time, stream: &Stream) -> Option<String> {
        let ahead = self.ahead.get(&stream.record.receivers).filter(|ahead| ahead.is_doubtful())?;
        let pause = ahead.next_try(now)?.saturating_sub(now).as_secs();
        Some(format!("not all receivers confirm; one key is tried in {pause} s, or when they are seen"))
    }

    fn find(&self, receivers: &[NodeId], purpose: &str, key_bytes: u32) -> Option<usize> {
        self.streams.iter().position(|stream| stream.record.is_of(receivers, purpose, key_bytes))
    }
}

fn sorted(nodes: &[NodeId]) -> Vec<NodeId> {
    let mut nodes = nodes.to_vec();
    nodes.sort_unstable();
    nodes
}

impl ClientActor {
    /// Opens a stream, or gives one that is there new marks; durable before it is answered.
    pub(super) fn stream_open(
        &mut self,
        now: Time,
        spec: StreamSpec,
        reply: oneshot::Sender<Result<(), Failure>>,
    ) {
        let opening = Opening { spec, until: now + IDENTITY_PATIENCE, reply };
        self.open_stream(now, opening, Occasion::Order);
    }

    /// Opens the streams whose receivers have become known; those whose time is over hear why not.
    pub(super) fn open_streams(&mut self, now: Time) {
        for opening in std::mem::take(&mut self.streams.opening) {
            self.open_stream(now, opening, Occasion::Timer);
        }
    }

    fn open_stream(&mut self, now: Time, opening: Opening, occasion: Occasion) {
        let unknown = opening.spec.with.iter().filter_map(|meant| match self.whom(meant) {
            Whom::Ask(subject) => Some(subject),
            Whom::Known(_) | Whom::Refused(_) => None,
        });
        let unknown: Vec<_> = unknown.collect();
        let few = opening.spec.with.len() <= RECEIVERS_MAX && self.streams.opening.len() < STREAMS_MAX;
        if !unknown.is_empty() && few && now < opening.until && !opening.reply.is_closed() {
            self.establish_all(now, unknown, occasion);
            self.streams.opening.push(opening);
            return;
        }
        let Opening { spec, until, reply } = opening;
        if let Some(why) =
            unknown.iter().find_map(|subject| self.in_vain.why(subject)).filter(|_| now >= until)
        {
            let _ = reply.send(Err(why.clone()));
            return;
        }
        let opened = self.stream_record(&spec).and_then(|record| {
            let known = self.streams.find(&record.receivers, &record.purpose, record.key_bytes);
            if known.is_none() && self.streams.streams.len() >= STREAMS_MAX {
                return Err(failure(
                    "dske::stream::many",
                    1,
                    format!("{STREAMS_MAX} streams are open"),
                    "close one",
                ));
            }
            Ok((record, known))
        });
        let (record, known) = match opened {
            Ok(opened) => opened,
            Err(why) => {
                let _ = reply.send(Err(why));
                return;
            }
        };
        match known.and_then(|at| self.streams.streams.get_mut(at)) {
            Some(stream) => stream.record = record.clone(),
            None => match self.store.waiting_blocks() {
                Ok(waiting) => self.streams.streams.push(Stream::new(record.clone(), &waiting)),
                Err(error) => {
                    let _ = reply.send(Err(store_failure(&error)));
                    return;
                }
            },
        }
        self.commit_stream(Transaction { streams: vec![record], ..Transaction::default() }, reply);
        self.pump_streams(now);
    }

    /// Ends a stream. The keys in its pool stay where they are, and can be fetched by their ids.
    pub(super) fn stream_close(&mut self, spec: &StreamSpec, reply: oneshot::Sender<Result<(), Failure>>) {
        let found = self.stream_record(spec).and_then(|record| {
            let at = self.streams.find(&record.receivers, &record.purpose, record.key_bytes);
            Ok((at.ok_or_else(|| unknown_stream(spec))?, record))
        });
        let (at, record) = match found {
            Ok(found) => found,
            Err(why) => {
                let _ = reply.send(Err(why));
                return;
            }
        };
        let stream = self.streams.streams.remove(at);
        // What is under way for it is kept when it comes, and belongs to nobody.
        self.streams.under_way.retain(|_, filling| !filling.is_for(&stream.record));
        for waiting in stream.waiting {
            waiting.fail(unknown_stream(spec));
        }
        match record.id() {
            Ok(id) => {
                self.commit_stream(Transaction { streams_closed: vec![id], ..Transaction::default() }, reply);
            }
            Err(error) => {
                let _ = reply.send(Err(store_failure(&error)));
            }
        }
    }

    fn commit_stream(&self, transaction: Transaction, reply: oneshot::Sender<Result<(), Failure>>) {
        let committed = self.store.commit(transaction);
        tokio::spawn(async move {
            let result = match committed.await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(store_failure(&error)),
                Err(_) => Err(stopping()),
            };
            let _ = reply.send(result);
        });
    }

    /// The record of a stream as its owner describes it; its receivers must be known already.
    fn stream_record(&self, spec: &StreamSpec) -> Result<StreamRecord, Failure> {
        let bad = |message: String| Err(failure("dske::stream::parameters", 2, message, ""));
        if spec.with.is_empty() || spec.with.len() > RECEIVERS_MAX {
            return bad(format!("give 1 to {RECEIVERS_MAX} receivers"));
        }
        if spec.purpose.len() > PURPOSE_BYTES_MAX {
            return bad(format!("a purpose has at most {PURPOSE_BYTES_MAX} bytes"));
        }
        let most = KEY_BYTES_MAX.min(self.policy.key_bits_max / 8);
        if spec.bits == 0 || !spec.bits.is_multiple_of(8) || spec.bits / 8 > most {
            return bad(format!("{} bits: a key has a multiple of 8 bits, {} at most", spec.bits, most * 8));
        }
        if spec.high == 0 || spec.low > spec.high || spec.high > HIGH_MAX {
            return bad(format!(
                "a pool is filled from {} to {} keys: the first must not be greater, and the second from 1 to {HIGH_MAX}",
                spec.low, spec.high
            ));
        }
        let mut receivers = Vec::with_capacity(spec.with.len());
        for meant in &spec.with {
            receivers.push(self.receiver_meant(meant)?);
        }
        let receivers = sorted(&receivers);
        if !receivers.is_sorted_by(|a, b| a < b) {
            return bad("a receiver is named twice".into());
        }
        let key_bytes = u32::try_from(spec.bits / 8).unwrap_or(u32::MAX);
        Ok(StreamRecord {
            receivers,
            purpose: spec.purpose.clone(),
            key_bytes,
            low: spec.low,
            high: spec.high,
        })
    }

    pub(super) fn receiver_meant(&self, meant: &NodeRef) -> Result<NodeId, Failure> {
        match self.whom(meant) {
            Whom::Known(node) => Ok(node),
            Whom::Refused(why) => Err(why),
            Whom::Ask(_) => Err(failure(
                "dske::identity::unknown",
                3,
                format!("the identity of {meant} is not established yet"),
                "it is asked for: try again in a moment; if that does not help, check the name, and see `dske status` for hubs that \
                 are not connected",
            )),
        }
    }

    /// What keeps a stream from being filled now, for people: what holds at this moment before what failed last.
    fn trouble(&self, now: Time, stream: &Stream) -> Option<String> {
        let (usable, k) = (self.hubs.usable(&self.store), self.policy.k);
        let serving = self.hubs_serving(&stream.record.receivers);
        let number = usable.intersection(&serving).count();
        if number >= usize::from(k) {
            return self.streams.doubt(now, stream).or_else(|| stream.last_failure.clone());
        }
        let why = |hub: &PeerStatus| {
            let why = match &hub.shut {
                _ if hub.excluded.is_some() => "it is excluded",
                _ if !hub.connected => "it is not connected",
                Some(why) => why,
                None if !usable.contains(&hub.node) => "it cannot be used",
                None if !serving.contains(&hub.node) => "it has not said who the receivers are",
                None => return None,
            };
            Some(format!("{}: {why}", self.hubs.roll().label(&hub.node)))
        };
        let hubs = self.hubs.peers(&self.store.tables(), |_| None);
        Some(failures::few_hubs(number, k, hubs.iter().filter_map(why).collect()))
    }

    /// The streams as they stand.
    pub(super) fn stream_status(&self) -> Vec<StreamStatus> {
        let now = self.clock.now();
        let names = Names { hubs: &self.hubs, clients: &self.roll, me: &self.me };
        let status = |stream: &Stream| StreamStatus {
            with: stream.record.receivers.iter().map(|node| names.of(node)).collect(),
            purpose: stream.record.purpose.clone(),
            bits: u64::from(stream.record.key_bytes) * 8,
            low: stream.record.low,
            high: stream.record.high,
            keys: stream.pool.keys(),
            keys_out: stream.keys_out,
            agreed: stream.agreed,
            handed_out: stream.handed_out,
            protocol: self.protocol_of(stream).into(),
            problem: self.trouble(now, stream),
        };
        self.streams.streams.iter().map(status).collect()
    }
}

impl ClientActor {
    /// Takes consecutive keys of one block: those that a sender has taken of its stream.
    pub(super) fn fetch_run(&mut self, first: KeyId, count: u32, reply: BatchReply) {
        if reply.is_closed() {
            return;
        }
        if self.streams.holds(first, count) {
            let _ = reply.send(Err(failures::in_a_pool(&first)));
            return;
        }
        match self.store.block(&first.block) {
            Ok(Some(record))
                if count > 0 && u64::from(count) * u64::from(record.key_bytes) <= BATCH_BYTES_MAX =>
            {
                hand_out(&self.store, record.key_bytes, (first, count), reply);
            }
            Ok(Some(record)) => {
                let most = BATCH_BYTES_MAX / u64::from(record.key_bytes.max(1));
                let text = format!("ask for 1 to {most} keys at once");
                let _ = reply.send(Err(failure("dske::stream::parameters", 2, text, "")));
            }
            // Its record may not be kept any longer: the store knows.
            Ok(None) => hand_out(&self.store, 0, (first, count), reply),
            Err(error) => {
                let _ = reply.send(Err(store_failure(&error)));
            }
        }
    }
}

fn unknown_stream(spec: &StreamSpec) -> Failure {
    let with: Vec<_> = spec.with.iter().map(ToString::to_string).collect();
    failure(
        "dske::stream::unknown",
        1,
        format!("there is no stream of {} bits with {} for {:?}", spec.bits, with.join(", "), spec.purpose),
        "open it with `dske stream open`; `dske stream ls` shows those that are open",
    )
}

/// Keys in a block of a stream that lacks so many: enough for a few blocks at once, and no more than one can hold.
fn keys_in_block(missing: u64, key_bytes: u32, blocks_at_once: u64, bytes_max: u64) -> u32 {
    let most = (bytes_max / u64::from(key_bytes.max(1))).clamp(1, u64::from(KEYS_PER_BLOCK_MAX));
    u32::try_from(missing.div_ceil(blocks_at_once).clamp(1, most)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_as_long_as_demand_asks_and_never_longer_than_an_agreement() {
        let most = KEY_BYTES_MAX;
        assert_eq!(keys_in_block(4, 32, 4, most), 1);
        assert_eq!(keys_in_block(4096, 32, 4, most), 1024);
        assert_eq!(keys_in_block(u64::MAX, 32, 4, most), 32_768);
        assert_eq!(keys_in_block(u64::MAX, 32, 4, 4096), 128);
        assert_eq!(keys_in_block(u64::MAX, 1, 4, most), KEYS_PER_BLOCK_MAX);
        assert_eq!(keys_in_block(9, 1 << 20, 4, most), 1);
    }
}
