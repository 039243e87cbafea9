//! What a stream has ahead, and those who wait for it.

use std::{collections::VecDeque, time::Duration};

use dske_protocol::{
    ids::{BlockId, KeyId, NodeId},
    params::Time,
};
use tokio::sync::oneshot;

use super::{ClientActor, Stream, unknown_stream};
use crate::{
    client::failures,
    control::{Failure, KeyBatch, KeyRun, StreamSpec, failure, stopping},
};

/// Bytes of keys that one request may take: a reply must fit its frame.
pub(super) const BATCH_BYTES_MAX: u64 = 8 << 20;

/// Requests that wait for keys of one stream.
const WAITING_MAX: usize = 4096;

/// Keys that every receiver has, oldest block first.
#[derive(Debug, Default)]
pub(super) struct Pool {
    blocks: VecDeque<Pooled>,
    keys: u64,
}

#[derive(Debug)]
struct Pooled {
    block: BlockId,
    next: u32,
    end: u32,
}

impl Pool {
    /// Adds the keys of a block from `next` on.
    pub(super) fn add(&mut self, block: BlockId, next: u32, end: u32) {
        if next < end {
            self.keys += u64::from(end - next);
            self.blocks.push_back(Pooled { block, next, end });
        }
    }

    /// Whether one of so many keys is among those that are still to be handed out.
    pub(super) fn holds(&self, first: KeyId, count: u32) -> bool {
        let end = first.index.saturating_add(count);
        let overlap = |block: &Pooled| first.index < block.end && block.next < end;
        self.blocks.iter().any(|block| block.block == first.block && overlap(block))
    }

    /// Number of keys.
    pub(super) fn keys(&self) -> u64 {
        self.keys
    }

    /// Takes so many keys, in order: where each run begins, and how many it has. `None` where there are not as many.
    fn take(&mut self, count: u32) -> Option<Vec<(KeyId, u32)>> {
        if self.keys < u64::from(count) {
            return None;
        }
        let mut runs = Vec::new();
        let mut left = count;
        while left > 0 {
            let first = self.blocks.front_mut()?;
            let taken = left.min(first.end - first.next);
            runs.push((KeyId { block: first.block, index: first.next }, taken));
            first.next += taken;
            left -= taken;
            self.keys -= u64::from(taken);
            if first.next == first.end {
                self.blocks.pop_front();
            }
        }
        Some(runs)
    }
}

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
            spec.with.iter().map(|name| self.client_named(name)).collect();
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
        for stream in &mut self.streams.streams {
            while let Some(first) = stream.waiting.front() {
                if first.reply.is_closed() {
                    stream.waiting.pop_front();
                    continue;
                }
                match stream.pool.take(first.count) {
                    Some(runs) => {
                        if let Some(Waiting { count, reply, .. }) = stream.waiting.pop_front() {
                            stream.handed_out += u64::from(count);
                            hand_out(&self.store, stream.record.key_bytes, runs, reply);
                        }
                    }
                    None => break,
                }
            }
            let all = std::mem::take(&mut stream.waiting);
            let (expired, waiting): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|waiting| waiting.until <= now);
            stream.waiting = waiting.into();
            expired.into_iter().for_each(|waiting| waiting.fail(empty(stream)));
        }
    }
}

fn empty(stream: &Stream) -> Failure {
    let problem = stream.last_failure.as_deref().unwrap_or("keys are taken faster than they are agreed");
    failure(
        "dske::pool::empty",
        1,
        format!("the pool has {} keys, and no more came in time: {problem}", stream.pool.keys()),
        "wait longer with --timeout, or raise the stream's marks",
    )
}

/// Takes runs of keys out of the store and gives them away together.
pub(super) fn hand_out(
    store: &dske_storage::Store,
    key_bytes: u32,
    runs: Vec<(KeyId, u32)>,
    reply: BatchReply,
) {
    let taken: Vec<_> =
        runs.into_iter().map(|(first, count)| (first, count, store.take_keys(first, count))).collect();
    tokio::spawn(async move {
        let mut batch = KeyBatch { key_bytes, runs: Vec::with_capacity(taken.len()) };
        for (first, count, taken) in taken {
            let result = match taken.await {
                Ok(Ok(keys)) => Ok(KeyRun { first, count, keys }),
                Ok(Err(error)) => Err(failures::take(&error)),
                Err(_) => Err(stopping()),
            };
            match result {
                Ok(run) => batch.runs.push(run),
                Err(why) => {
                    let _ = reply.send(Err(why));
                    return;
                }
            }
        }
        // A caller that has gone does not get the keys; their records say that they were handed out.
        let _ = reply.send(Ok(batch));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_in_order_across_blocks_and_never_in_part() {
        let (a, b) = (BlockId::new([1; 16]), BlockId::new([2; 16]));
        let mut pool = Pool::default();
        pool.add(a, 2, 4);
        pool.add(b, 0, 3);
        pool.add(b, 3, 3);
        assert_eq!(pool.keys(), 5);
        assert_eq!(pool.take(6), None);
        let id = |block, index| KeyId { block, index };
        assert!(
            pool.holds(id(a, 2), 1)
                && pool.holds(id(a, 0), 3)
                && !pool.holds(id(a, 0), 2)
                && !pool.holds(id(a, 4), 9)
        );
        assert_eq!(pool.take(1), Some(vec![(id(a, 2), 1)]));
        assert!(!pool.holds(id(a, 2), 1), "it has been handed out");
        assert_eq!(pool.take(3), Some(vec![(id(a, 3), 1), (id(b, 0), 2)]));
        assert_eq!(pool.take(1), Some(vec![(id(b, 2), 1)]));
        assert_eq!((pool.keys(), pool.take(1)), (0, None));
    }
}
