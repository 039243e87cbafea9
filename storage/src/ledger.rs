//! Typed records over the log: which key holds what. Values are small, public facts; no pad and no key may
//! ever pass through here, because what sled removes stays readable in its files.

use std::sync::Arc;

use dske_protocol::ids::{BlockId, Lane, NodeId, TableId};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    codec::{decode, encode},
    error::StoreError,
    log::{Batch, Log},
};

/// Kinds of records; the first byte of a key.
pub(crate) mod kind {
    /// Declares the kinds, which must differ: a record under another's kind would be read as one of those.
    macro_rules! kinds {
        ($($name:ident = $byte:literal,)*) => {
            $(pub(crate) const $name: &[u8] = &[$byte];)*

            const _: () = {
                let all = [$($byte),*];
                let mut seen = [false; 256];
                let mut at = 0;
                while at < all.len() {
                    assert!(!seen[all[at] as usize], "two kinds of record are one");
                    seen[all[at] as usize] = true;
                    at += 1;
                }
            };
        };
    }

    kinds! {
        META = b'M',
        TABLE = b't',
        LANE = b'l',
        USED = b'u',
        TOLD = b's',
        CLIENT = b'c',
        CLIENT_NAME = b'C',
        HUB = b'h',
        IDENTITY = b'i',
        EXCLUSION = b'x',
        MODULE = b'm',
        RECEIPT = b'r',
        BLOCK = b'b',
        BLOCK_BY_TIME = b'n',
        BLOCK_ENDED = b'e',
        KEY_RUN = b'K',
        KEY_TAKEN = b'k',
        STREAM = b'S',
        OUTBOX = b'o',
        BUDGET = b'q',
        COMPARED = b'v',
        PUT_BACK = b'p',
        LIMITS = b'L',
    }
}

/// Key of a record: its kind, then its parts.
pub(crate) fn key(kind: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut key = kind.to_vec();
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

/// Key of a table's record.
pub(crate) fn table_key(table: &TableId) -> Vec<u8> {
    key(kind::TABLE, &[table.as_bytes()])
}

/// Key of a lane's record.
pub(crate) fn lane_key(table: &TableId, lane: Lane) -> Vec<u8> {
    key(kind::LANE, &[table.as_bytes(), &[lane_byte(lane)]])
}

/// Key of what the peer has told about a lane.
pub(crate) fn told_key(table: &TableId, lane: Lane) -> Vec<u8> {
    key(kind::TOLD, &[table.as_bytes(), &[lane_byte(lane)]])
}

/// Prefix of the used runs of a lane.
pub(crate) fn used_prefix(table: &TableId, lane: Lane) -> Vec<u8> {
    key(kind::USED, &[table.as_bytes(), &[lane_byte(lane)]])
}

/// Key of one used run.
pub(crate) fn used_key(table: &TableId, lane: Lane, start: u64) -> Vec<u8> {
    key(kind::USED, &[table.as_bytes(), &[lane_byte(lane)], &start.to_be_bytes()])
}

/// Key of a record about a node.
pub(crate) fn node_key(kind: &[u8], node: &NodeId) -> Vec<u8> {
    key(kind, &[node.as_bytes()])
}

/// Key of a record about a block.
pub(crate) fn block_key(kind: &[u8], block: &BlockId) -> Vec<u8> {
    key(kind, &[block.as_bytes()])
}

/// Key of the largest number by which this hub knows a client.
pub(crate) fn last_client_key() -> Vec<u8> {
    key(kind::META, &[b"last client"])
}

/// Key of the node's own clocks.
pub(crate) fn clock_key() -> Vec<u8> {
    key(kind::META, &[b"clock"])
}

/// Key of when a table was compared.
pub(crate) fn compared_key(table: &TableId) -> Vec<u8> {
    key(kind::COMPARED, &[table.as_bytes()])
}

/// Key of the count of turns.
pub(crate) fn turn_key() -> Vec<u8> {
    key(kind::META, &[b"turn"])
}

/// Key of the last turn in which the directory is known to have been put back.
pub(crate) fn dealt_with_key() -> Vec<u8> {
    key(kind::META, &[b"put back"])
}

/// Place of a lane in pairs, and its byte in keys and headers.
pub(crate) fn lane_byte(lane: Lane) -> u8 {
    match lane {
        Lane::Up => 0,
        Lane::Down => 1,
    }
}

/// The ledger.
#[derive(Clone)]
pub(crate) struct Ledger {
    log: Arc<dyn Log>,
}

impl Ledger {
    pub(crate) fn new(log: Arc<dyn Log>) -> Self {
        Self { log }
    }

    /// One record.
    pub(crate) fn get<T: DeserializeOwned>(
        &self,
        what: &'static str,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        self.log.get(key)?.map(|bytes| decode(what, &bytes)).transpose()
    }

    /// All records of a kind, in order of key.
    pub(crate) fn all<T: DeserializeOwned>(
        &self,
        what: &'static str,
        prefix: &[u8],
    ) -> Result<Vec<T>, StoreError> {
        self.log.scan(prefix)?.iter().map(|(_, bytes)| decode(what, bytes)).collect()
    }

    /// All records of a kind with the rest of their key.
    pub(crate) fn pairs<T: DeserializeOwned>(
        &self,
        what: &'static str,
        prefix: &[u8],
    ) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
        let pairs = self.log.scan(prefix)?;
        pairs
            .into_iter()
            .map(|(key, bytes)| {
                Ok((key.get(prefix.len()..).unwrap_or_default().to_vec(), decode(what, &bytes)?))
            })
            .collect()
    }

    /// The last records of a kind, last first.
    pub(crate) fn last<T: DeserializeOwned>(
        &self,
        what: &'static str,
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<T>, StoreError> {
        self.log.scan_last(prefix, limit)?.iter().map(|(_, bytes)| decode(what, bytes)).collect()
    }

    /// Applies a batch and returns when it is on the device, in the journal at least.
    pub(crate) fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.log.apply(batch)?;
        self.log.sync()
    }

    /// Number of records that only the journal holds.
    pub(crate) fn unsettled(&self) -> usize {
        self.log.unsettled()
    }

    /// Empties the journal.
    pub(crate) fn settle(&self) -> Result<(), StoreError> {
        self.log.settle()
    }
}

/// A batch that is being put together, and the view of the ledger that it will leave.
pub(crate) struct Draft<'a> {
    ledger: &'a Ledger,
    pub(crate) batch: Batch,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(ledger: &'a Ledger) -> Self {
        Self { ledger, batch: Batch::new() }
    }

    /// The ledger without what the batch will change.
    pub(crate) fn ledger(&self) -> &Ledger {
        self.ledger
    }

    /// One record as it will be.
    pub(crate) fn get<T: DeserializeOwned>(
        &self,
        what: &'static str,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        match self.batch.get(key) {
            Some(Some(bytes)) => decode(what, bytes).map(Some),
            Some(None) => Ok(None),
            None => self.ledger.get(what, key),
        }
    }

    /// Encodes and puts one record.
    pub(crate) fn put<T: Serialize>(
        &mut self,
        what: &'static str,
        key: Vec<u8>,
        value: &T,
    ) -> Result<(), StoreError> {
        let bytes = encode(what, value)?;
        self.batch.insert(key, Some(bytes));
        Ok(())
    }

    /// Removes one record.
    pub(crate) fn remove(&mut self, key: Vec<u8>) {
        self.batch.insert(key, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Faults, Keep, SimLog};

    const TABLE: TableId = TableId::new([7; 16]);

    #[test]
    fn keys_tell_kinds_tables_lanes_and_places_apart_and_keep_their_order() {
        assert_eq!(key(b"x", &[b"ab", b"c"]), b"xabc");
        let table = |kind: &[u8]| [kind, &[7; 16]].concat();
        assert_eq!(table_key(&TABLE), table(kind::TABLE));
        assert_eq!(lane_key(&TABLE, Lane::Up), [table(kind::LANE), vec![0]].concat());
        assert_eq!(told_key(&TABLE, Lane::Down), [table(kind::TOLD), vec![1]].concat());
        assert_eq!(used_prefix(&TABLE, Lane::Down), [table(kind::USED), vec![1]].concat());
        let used = used_key(&TABLE, Lane::Down, 0x0102);
        assert_eq!(used, [used_prefix(&TABLE, Lane::Down), vec![0, 0, 0, 0, 0, 0, 1, 2]].concat());
        assert!(used < used_key(&TABLE, Lane::Down, 0x0200), "runs are listed in their order");
        assert_eq!(node_key(kind::HUB, &NodeId::new([9; 32])), [kind::HUB, &[9; 32]].concat());
        assert_eq!(block_key(kind::BLOCK, &BlockId::new([8; 16])), [kind::BLOCK, &[8; 16]].concat());
        assert_eq!(clock_key(), [kind::META, b"clock"].concat());
    }

    #[test]
    fn a_draft_shows_what_will_be_and_a_commit_is_on_the_device() {
        let log = SimLog::new(Arc::new(Faults::default()));
        let ledger = Ledger::new(Arc::new(log.clone()));
        let mut draft = Draft::new(&ledger);
        for (name, value) in [("a1", 1_u64), ("a2", 2), ("b1", 3)] {
            draft.put("test", name.into(), &value).expect("short");
        }
        assert_eq!(draft.get::<u64>("test", b"a1"), Ok(Some(1)));
        assert_eq!(ledger.get::<u64>("test", b"a1"), Ok(None), "not yet");
        ledger.commit(&draft.batch).expect("committed");
        let device = Ledger::new(Arc::new(log.crashed(Keep::Nothing, Arc::new(Faults::default()))));
        assert_eq!(device.all::<u64>("test", b"a"), Ok(vec![1, 2]));
        assert_eq!(ledger.last::<u64>("test", b"a", 1), Ok(vec![2]));
        assert_eq!(ledger.pairs::<u64>("test", b"a"), Ok(vec![(b"1".to_vec(), 1), (b"2".to_vec(), 2)]));

        let mut next = Draft::new(&ledger);
        next.remove(b"a1".to_vec());
        assert_eq!((next.get::<u64>("test", b"a1"), next.get::<u64>("test", b"a2")), (Ok(None), Ok(Some(2))));
        assert_eq!(next.ledger().get::<u64>("test", b"a1"), Ok(Some(1)));
        ledger.commit(&next.batch).expect("committed");
        assert_eq!(ledger.get::<u64>("test", b"a1"), Ok(None));

        let syncs = || log.faults.syncs.load(std::sync::atomic::Ordering::Relaxed);
        let before = syncs();
        ledger.commit(&Batch::new()).expect("nothing to do");
        assert_eq!(syncs(), before, "nothing costs no sync");
    }
}
