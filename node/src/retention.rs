//! Gives up keys that nobody takes and records of agreements long over, as [`dske_protocol::retention`] decides, and tells
//! the operator.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dske_protocol::{
    ids::{BlockId, NodeId},
    retention::{GivenUp, Kept, KeyLimits, RecordLimits, to_forget, to_give_up},
};
use dske_storage::{Side, Store, StoreError, Transaction, WaitingBlock, wait};

use crate::{
    config::KeysConfig,
    status::{KeysStatus, Level},
};

/// Between two looks at what waits.
pub(crate) const LOOK: Duration = Duration::from_secs(30);

/// Records are looked at with the first look and then with each so-many-th.
pub(crate) const LOOKS_FOR_RECORDS: u32 = 20;

/// Blocks that one commit gives up or forgets: a batch of records goes through the journal as a whole.
const BLOCKS_AT_ONCE: usize = 500;

/// Shared between the task that looks and those who ask.
#[derive(Debug, Clone)]
pub(crate) struct Retention {
    config: KeysConfig,
    /// As of the last look.
    status: Arc<Mutex<KeysStatus>>,
}

/// What a look has changed.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    /// What the operator is to know.
    pub(crate) news: Vec<(Level, String)>,
    /// Whether keys were given up: pools must not offer them.
    pub(crate) keys: bool,
}

impl Retention {
    pub(crate) fn new(config: KeysConfig) -> Self {
        let status = KeysStatus {
            blocks: 0,
            bytes: 0,
            bytes_max: config.bytes_max.0.0,
            lifetime_s: config.lifetime.0.0.as_secs(),
            given_up: 0,
            records: 0,
            records_max: config.records_max,
            forgotten: 0,
        };
        Self { config, status: Arc::new(Mutex::new(status)) }
    }

    /// What waits and is kept, as of the last look.
    pub(crate) fn status(&self) -> KeysStatus {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at what waits at `age_ms` on the node's clock of age, and gives up what is too old or too much. Blocks while the
    /// store works.
    ///
    /// # Errors
    /// Of the store.
    pub(crate) fn look_at_keys(&self, store: &Store, age_ms: u64) -> Result<Looked, StoreError> {
        let waiting = store.waiting_blocks()?;
        let limits = KeyLimits { lifetime: self.config.lifetime.0.0, bytes_max: self.config.bytes_max.0.0 };
        let kept: Vec<Kept> = waiting.iter().map(|block| kept(block, age_ms)).collect();
        let gone = to_give_up(&kept, limits);
        for part in gone.chunks(BLOCKS_AT_ONCE) {
            let give_up = part.iter().map(|(block, why)| (*block, self.reason(*why))).collect();
            commit(store, Transaction { give_up, ..Transaction::default() })?;
        }
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.given_up += gone.len() as u64;
        status.blocks = (kept.len() - gone.len()) as u64;
        let list: BTreeMap<BlockId, GivenUp> = gone.into_iter().collect();
        status.bytes =
            kept.iter().filter(|kept| !list.contains_key(&kept.block)).map(|kept| kept.bytes).sum();
        Ok(Looked { keys: !list.is_empty(), news: self.told(&waiting, &list) })
    }

    /// The same for records of agreements of which no key waits. Reads all of them.
    ///
    /// # Errors
    /// Of the store.
    pub(crate) fn look_at_records(&self, store: &Store, age_ms: u64) -> Result<Looked, StoreError> {
        let ended = store.ended_blocks()?;
        let age = |at_ms: u64| Duration::from_millis(age_ms.saturating_sub(at_ms));
        let ages: Vec<(BlockId, Duration)> =
            ended.iter().map(|(block, at_ms)| (*block, age(*at_ms))).collect();
        let count_max = usize::try_from(self.config.records_max).unwrap_or(usize::MAX);
        let old = to_forget(&ages, RecordLimits { lifetime: self.config.records_lifetime.0.0, count_max });
        for part in old.chunks(BLOCKS_AT_ONCE) {
            commit(store, Transaction { forget: part.to_vec(), ..Transaction::default() })?;
        }
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.forgotten += old.len() as u64;
        status.records = (ages.len() - old.len()) as u64;
        let text = format!(
            "{} records of agreements were dropped: they are kept for {}, {} at most",
            old.len(),
            self.config.records_lifetime.0,
            self.config.records_max
        );
        let news = (!old.is_empty()).then_some((Level::Info, text)).into_iter().collect();
        Ok(Looked { keys: false, news })
    }

    fn reason(&self, why: GivenUp) -> String {
        match why {
            GivenUp::Lifetime => {
                format!("nobody took it in time (keys.lifetime = {})", self.config.lifetime.0)
            }
            GivenUp::Room => {
                format!(
                    "too many keys waited, most of them from its sender (keys.bytes_max = {})",
                    self.config.bytes_max.0
                )
            }
        }
    }

    /// One line for each sender and reason.
    fn told(&self, waiting: &[WaitingBlock], gone: &BTreeMap<BlockId, GivenUp>) -> Vec<(Level, String)> {
        let mut sums: BTreeMap<(NodeId, GivenUp), (u64, u64)> = BTreeMap::new();
        for block in waiting {
            if let Some(why) = gone.get(&block.record.block) {
                let sum = sums.entry((block.record.sender, *why)).or_default();
                *sum = (sum.0 + 1, sum.1.saturating_add(block.bytes));
            }
        }
        let line = |((sender, why), (blocks, bytes)): ((NodeId, GivenUp), (u64, u64))| {
            let text = format!(
                "keys of {blocks} blocks of sender {}, {bytes} bytes, were given up: {}",
                sender.short(),
                self.reason(why)
            );
            (Level::Warn, text)
        };
        sums.into_iter().map(line).collect()
    }
}

fn kept(block: &WaitingBlock, age_ms: u64) -> Kept {
    Kept {
        block: block.record.block,
        sender: block.record.sender,
        own: block.record.side == Side::Sender,
        age: Duration::from_millis(age_ms.saturating_sub(block.record.aged_ms)),
        bytes: block.bytes,
    }
}

fn commit(store: &Store, transaction: Transaction) -> Result<(), StoreError> {
    wait(store.commit(transaction)).unwrap_or(Err(StoreError::Closed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Size, Span, Text};
    use dske_protocol::ids::KeyId;
    use dske_storage::{BlockRecord, BlockState, NewBlock, Options, SecretBytes, TakeError};

    const DAY_MS: u64 = 86_400_000;

    fn put(store: &Store, id: u8, side: Side, aged_days: u64) {
        let record = BlockRecord {
            block: BlockId::new([id; 16]),
            side,
            sender: NodeId::new([if side == Side::Sender { 1 } else { 2 }; 32]),
            receivers: vec![],
            purpose: String::new(),
            key_bytes: 32,
            n: 3,
            k: 2,
            state: BlockState::Ready,
            at_ms: 1,
            aged_ms: aged_days * DAY_MS,
            round: false,
        };
        let new = NewBlock { record, key: Some(SecretBytes::new(vec![id; 64])) };
        commit(store, Transaction { block: vec![new], ..Transaction::default() }).unwrap();
    }

    fn take(store: &Store, id: u8, index: u32) -> Result<(), TakeError> {
        wait(store.take_key(KeyId { block: BlockId::new([id; 16]), index })).unwrap().map(drop)
    }

    #[test]
    fn keys_that_nobody_takes_and_old_records_go_and_the_operator_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        Store::create(&path).unwrap();
        let store = Store::open(&path, Options::default()).unwrap();
        let days = |days: u64| Text(Span(Duration::from_secs(days * 86_400)));
        let config = KeysConfig {
            lifetime: days(30),
            bytes_max: Text(Size(128)),
            records_lifetime: days(90),
            records_max: 2,
        };
        let retention = Retention::new(config);
        put(&store, 1, Side::Receiver, 0);
        put(&store, 2, Side::Receiver, 10);
        put(&store, 3, Side::Sender, 10);
        let look = |day: u64| {
            let keys = retention.look_at_keys(&store, day * DAY_MS).unwrap();
            let records = retention.look_at_records(&store, day * DAY_MS).unwrap();
            Looked { keys: keys.keys, news: [keys.news, records.news].concat() }
        };
        let first = look(20);
        assert_eq!(first.news.len(), 1, "192 bytes wait: {:?}", first.news);
        assert!(first.keys && first.news[0].0 == Level::Warn && first.news[0].1.contains("keys.bytes_max"));
        assert!(
            matches!(take(&store, 1, 0), Err(TakeError::Aborted { reason, .. }) if reason.contains("bytes_max"))
        );
        let now = retention.status();
        assert_eq!((now.blocks, now.bytes, now.given_up, now.records), (2, 128, 1, 1));
        let second = look(26);
        assert!(second.keys, "half the lifetime of one's own is over");
        assert!(
            matches!(take(&store, 3, 0), Err(TakeError::Aborted { reason, .. }) if reason.contains("lifetime"))
        );
        let quiet = look(40);
        assert!(!quiet.keys && quiet.news.is_empty(), "{:?}", quiet.news);
        take(&store, 2, 0).unwrap();
        take(&store, 2, 1).unwrap();
        let third = look(41);
        assert_eq!((third.keys, third.news.len()), (false, 1), "three have ended, two are kept");
        assert!(third.news[0].0 == Level::Info && third.news[0].1.contains("1 records"), "{:?}", third.news);
        assert_eq!(store.block(&BlockId::new([1; 16])), Ok(None), "the oldest");
        assert!(matches!(take(&store, 1, 0), Err(TakeError::Aborted { .. })), "its id is known for ever");
        let now = retention.status();
        assert_eq!((now.blocks, now.bytes, now.given_up, now.records, now.forgotten), (0, 0, 2, 2, 1));
        assert_eq!(look(101).news.len(), 1);
        assert!(store.blocks(9).unwrap().is_empty());
    }
}
