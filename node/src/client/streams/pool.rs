//! What a stream has ahead, and those who wait for it.

use std::{collections::BTreeSet, time::Duration};

use dske_protocol::{
    ids::{BlockId, NodeId},
    params::Time,
    pool::KeySpan,
};
use dske_storage::{SecretBytes, Store, StreamRecord, TakeRefusal};
use futures::future::BoxFuture;
use tokio::sync::oneshot;

use super::{ClientActor, unknown_stream};
use crate::{
    client::failures,
    control::{Failure, KeyBatch, KeyRun, StreamSpec, failure, stopping},
    status::Level,
};

/// Bytes of keys that one request may take: a reply must fit its frame.
pub(super) const BATCH_BYTES_MAX: u64 = 8 << 20;

/// Requests that wait for keys of one stream.
const WAITING_MAX: usize = 4096;

/// How a batch is answered.
pub(crate) type BatchReply = oneshot::Sender<Result<KeyBatch, Failure>>;

/// Somebody who waits for keys.
pub(super) struct Waiting {
    count: u32,
    until: Time,
    reply: BatchReply,
}

impl Waiting {
    pub(super) fn count(&self) -> u64 {
        u64::from(self.count)
    }

    pub(super) fn fail(self, why: Failure) {
        let _ = self.reply.send(Err(why));
    }
}

impl ClientActor {
    /// The next keys of a stream, for its owner.
    pub(crate) fn stream_next(&mut self, spec: &StreamSpec, count: u32, wait: Duration, reply: BatchReply) {
        let now = self.clock.now();
        let receivers: Result<Vec<NodeId>, Failure> =
            spec.with.iter().map(|meant| self.receiver_meant(meant)).collect();
        let key_bytes = u32::try_from(spec.bits / 8).unwrap_or(u32::MAX);
        let found = receivers.and_then(|receivers| {
            let at = self.streams.find(&super::sorted(&receivers), &spec.purpose, key_bytes);
            at.ok_or_else(|| unknown_stream(spec))
        });
        let stream = match found.map(|at| self.streams.streams.get_mut(at)) {
            Ok(Some(stream)) => stream,
            Ok(None) => return,
            Err(why) => {
                let _ = reply.send(Err(why));
                return;
            }
        };
        let bytes = u64::from(count) * u64::from(key_bytes);
        let why = if count == 0 || bytes > BATCH_BYTES_MAX {
            let most = BATCH_BYTES_MAX / u64::from(key_bytes.max(1));
            Some(failure("dske::stream::parameters", 2, format!("ask for 1 to {most} keys at once"), ""))
        } else if stream.waiting.len() >= WAITING_MAX {
            Some(failure("dske::busy", 1, "too many wait for keys of this stream".into(), "try again later"))
        } else {
            None
        };
        if let Some(why) = why {
            let _ = reply.send(Err(why));
            return;
        }
        stream.waiting.push_back(Waiting { count, until: now + wait, reply });
        self.serve_streams(now);
        self.pump_streams(now);
    }

    /// Serves those who wait, in order, as far as there are keys; those whose time is over hear why.
    pub(in crate::client) fn serve_streams(&mut self, now: Time) {
        let mut late = Vec::new();
        for (at, stream) in self.streams.streams.iter_mut().enumerate() {
            while let Some(first) = stream.waiting.front() {
                if first.reply.is_closed() {
                    stream.waiting.pop_front();
                    continue;
                }
                let Some(spans) = stream.pool.take(first.count) else { break };
                if let Some(waiting) = stream.waiting.pop_front() {
                    let batch = Batch::ask(&self.store, stream.record.clone(), spans, waiting);
                    self.streams.batches.push(batch);
                }
            }
            let all = std::mem::take(&mut stream.waiting);
            let (expired, waiting): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|waiting| waiting.until <= now);
            stream.waiting = waiting.into();
            if !expired.is_empty() {
                late.push((at, expired));
            }
        }
        for (at, expired) in late {
            let Some(stream) = self.streams.streams.get(at) else { continue };
            let why = failures::empty_pool(stream.pool.keys(), self.trouble(now, stream).as_deref());
            expired.into_iter().for_each(|waiting| waiting.fail(why.clone()));
        }
    }
}

/// Takes a run of keys of one block out of the store and gives it away.
pub(super) fn hand_out(store: &Store, key_bytes: u32, (first, count): KeySpan, reply: BatchReply) {
    let taken = store.take_keys(first, count);
    tokio::spawn(async move {
        let result = match taken.await {
            Ok(Ok(keys)) => Ok(KeyBatch { key_bytes, runs: vec![KeyRun { first, count, keys }] }),
            Ok(Err(error)) => Err(failures::take(&error)),
            Err(_) => Err(stopping()),
        };
        // A caller that has gone does not get the keys; their records say that they were handed out.
        let _ = reply.send(result);
    });
}

/// Keys of a pool that are asked of the store.
pub(in crate::client) struct Batch {
    stream: StreamRecord,
    spans: Vec<KeySpan>,
    waiting: Waiting,
    /// `None` where the store is gone.
    taken: Option<Result<Vec<SecretBytes>, TakeRefusal>>,
}

impl Batch {
    /// Asks the store at once, before anybody can ask for one of the keys by its id.
    fn ask(
        store: &Store,
        stream: StreamRecord,
        spans: Vec<KeySpan>,
        waiting: Waiting,
    ) -> BoxFuture<'static, Self> {
        let taken = store.take_runs(&spans);
        Box::pin(async move { Self { stream, spans, waiting, taken: taken.await.ok() } })
    }
}

impl ClientActor {
    /// Keys of a pool were asked of the store: either all of them were taken, and go to who waits for them, or none.
    /// Then those of a block that has none any more are left out, and the others serve.
    pub(in crate::client) fn batch_taken(&mut self, now: Time, batch: Batch) {
        let Batch { stream: record, spans, waiting, taken } = batch;
        let at = self.streams.find(&record.receivers, &record.purpose, record.key_bytes);
        let mut stream = at.and_then(|at| self.streams.streams.get_mut(at));
        let refusal = match taken {
            Some(Ok(taken)) => {
                stream.into_iter().for_each(|stream| stream.handed_out += waiting.count());
                let run = |((first, count), keys)| KeyRun { first, count, keys };
                let runs = spans.into_iter().zip(taken).map(run).collect();
                // A caller that has gone does not get the keys; their records say that they were handed out.
                let _ = waiting.reply.send(Ok(KeyBatch { key_bytes: record.key_bytes, runs }));
                return;
            }
            Some(Err(refusal)) => refusal,
            None => return waiting.fail(stopping()),
        };
        let Some(stream) = &mut stream else { return waiting.fail(failures::take(&refusal.error)) };
        let rest: Vec<KeySpan> =
            spans.into_iter().filter(|(first, _)| Some(first.block) != refusal.block).collect();
        stream.pool.give_back(&rest);
        let Some(block) = refusal.block else { return waiting.fail(failures::take(&refusal.error)) };
        stream.pool.retain(|pooled| *pooled != block);
        stream.waiting.push_front(waiting);
        let why = refusal.error.to_string();
        self.sessions.event(Level::Warn, format!("a pool gives up the keys of block {block}: {why}"));
        self.serve_streams(now);
        self.pump_streams(now);
    }

    /// Blocks may have been voided or given up: pools keep those alone whose keys wait.
    pub(in crate::client) fn refresh_pools(&mut self, now: Time) {
        if self.streams.streams.is_empty() {
            return;
        }
        let waiting: BTreeSet<BlockId> = match self.store.waiting_blocks() {
            Ok(waiting) => waiting.iter().map(|block| block.record.block).collect(),
            Err(error) => {
                tracing::error!(%error, "which keys wait cannot be told");
                return;
            }
        };
        let streams = self.streams.streams.iter_mut();
        let gone: u64 = streams.map(|stream| stream.pool.retain(|block| waiting.contains(block))).sum();
        if gone > 0 {
            self.sessions.event(Level::Warn, format!("{gone} keys in pools were voided or given up"));
            self.pump_streams(now);
        }
    }
}
