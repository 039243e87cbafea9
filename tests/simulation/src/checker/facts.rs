//! What a node has said, and must therefore still know after any crash.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use dske_protocol::{
    effect::{BlockKey, Record},
    ids::{BlockId, KeyId, NodeId, PadRange, TableId},
    limits::{Limits, LimitsRecord},
};
use dske_storage::{BlockState, OutboxId, SecretBytes, TableState, simulation::SimStore};

use super::{Checker, Invariant};
use crate::rng::digest;

/// Facts about one node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// Runs of its own lanes that left in messages.
    pub(crate) spent: BTreeSet<PadRange>,
    /// Runs of its peers' lanes whose claim was acknowledged.
    pub(crate) claimed: BTreeSet<PadRange>,
    /// Messages that it said it took in.
    pub(crate) taken_in: BTreeMap<PadRange, u64>,
    pub(crate) blocks: BTreeMap<BlockId, BlockFact>,
    /// Blocks whose key was handed out, also of those whose record was never acknowledged.
    pub(crate) handed_out: BTreeSet<BlockId>,
    /// Blocks whose key somebody asked for; the answer may have been lost.
    pub(crate) asked_for: BTreeSet<BlockId>,
    /// A part of the directory was put back, and the rest not.
    pub(crate) partly_old: bool,
    /// Tables of which a lane was lost.
    pub(crate) lost: BTreeSet<TableId>,
    pub(crate) outbox: BTreeMap<OutboxId, u64>,
    pub(crate) outbox_newest: Option<OutboxId>,
    /// Limits that receivers have set here, with their versions.
    pub(crate) limits: BTreeMap<NodeId, (u64, Limits)>,
    pub(crate) identities: BTreeSet<NodeId>,
    pub(crate) exclusions: BTreeSet<NodeId>,
    /// How far the peer's lane of a table has come, as it told.
    pub(crate) told: BTreeMap<TableId, u64>,
    /// What this node has told of a table: its own mark, and what it has seen.
    pub(crate) said: BTreeMap<TableId, (u64, u64)>,
}

/// What a node has recorded of an agreement.
#[derive(Debug, Clone)]
pub(crate) struct BlockFact {
    /// The key, where it keeps one.
    pub(crate) key: Option<Vec<u8>>,
    /// It waited in a copy that was put back: it may be void, and is once enough hubs have said so.
    pub(crate) voidable: bool,
    /// Its process ended while fewer than k_B hubs had told of a restore: one that tells only after the next start may mean
    /// a second restore, in whose copy it waited. So it may be void, and stays where nobody says so.
    pub(crate) told_late: bool,
    /// The key was handed out.
    pub(crate) handed_out: bool,
    /// When its end was recorded, by the node's clock, and from there on when its machine learned of that: a part of a
    /// process that is behind learns late, and what came meanwhile waits with it.
    pub(crate) ended: Duration,
}

/// What a record will make true.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    claims: Vec<PadRange>,
    block: Option<(BlockId, Option<Vec<u8>>)>,
    identity: Option<NodeId>,
    exclusions: Vec<NodeId>,
    limits: Option<Box<LimitsRecord>>,
    /// A table, and how far the peer's lane of it has come.
    told: Option<(TableId, u64)>,
}

impl Facts {
    /// These are the facts of a copy that is put back.
    pub(crate) fn put_back(&mut self) {
        self.blocks.values_mut().for_each(|fact| fact.voidable = true);
    }
}

impl Pending {
    /// The agreement whose end it records.
    pub(crate) fn block(&self) -> Option<BlockId> {
        self.block.as_ref().map(|(block, _)| *block)
    }

    pub(crate) fn of(record: &Record) -> Self {
        let key = |block: &dske_protocol::effect::EndedBlock| match &block.result {
            Ok(BlockKey::Keep(key)) => Some(key.0.to_vec()),
            Ok(BlockKey::Taken) | Err(_) => None,
        };
        Self {
            claims: record.claims.iter().map(|(range, _)| *range).collect(),
            block: record.block.as_ref().map(|block| (block.agreement.block(), key(block))),
            identity: record.identity.as_ref().map(|identity| identity.identity.node),
            exclusions: record.exclusions.iter().map(|(hub, _)| *hub).collect(),
            limits: record.limits.clone().map(Box::new),
            told: record.sync.map(|sync| (sync.table, sync.peer_mark)),
        }
    }
}

impl Checker {
    /// A record is acknowledged.
    pub(crate) fn acknowledged(&mut self, node: usize, now: Duration, pending: Pending) {
        let facts = &mut self.facts[node];
        facts.claimed.extend(pending.claims);
        facts.identities.extend(pending.identity);
        facts.exclusions.extend(pending.exclusions);
        if let Some((table, mark)) = pending.told {
            let told = facts.told.entry(table).or_default();
            *told = (*told).max(mark);
        }
        if let Some(record) = pending.limits.filter(|record| record.hub == self.ids[node]) {
            self.limits_recorded(node, *record);
        }
        let facts = &mut self.facts[node];
        if let Some((block, key)) = pending.block {
            let fact = BlockFact {
                key: key.clone(),
                voidable: false,
                told_late: false,
                handed_out: false,
                ended: now,
            };
            if facts.blocks.insert(block, fact).is_some() {
                self.fail(Invariant::KeyOnce, format!("node {node} recorded block {block} twice"));
            }
            if let Some(key) = key {
                self.holds(node, block, key);
            }
        }
    }

    /// The machine has been told that its agreement's end is on record.
    pub(crate) fn learned(&mut self, node: usize, now: Duration, block: BlockId) {
        if let Some(fact) = self.facts[node].blocks.get_mut(&block) {
            fact.ended = now;
        }
    }

    /// A message stands in the outbox.
    pub(crate) fn queued(&mut self, node: usize, id: OutboxId, bytes: &[u8]) {
        let facts = &mut self.facts[node];
        let newest = facts.outbox_newest.replace(id);
        facts.outbox.insert(id, digest(bytes));
        self.burns(node, bytes);
        if newest.is_some_and(|newest| newest >= id) {
            self.fail(Invariant::NothingLost, format!("node {node} gave a second message the id {id:?}"));
        }
    }

    /// What the device of a node holds must bear out all that the node ever said.
    pub(crate) fn remembers(&mut self, node: usize, store: &SimStore, when: &str) {
        if let Err((invariant, text)) = check(&self.facts[node], self.bounds.safe, store) {
            self.fail(invariant, format!("node {node} {when}: {text}"));
        }
    }
}

/// `safe`: fewer than k_B hubs are bad, and so none can void a key.
fn check(facts: &Facts, safe: bool, store: &SimStore) -> Result<(), (Invariant, String)> {
    if facts.partly_old {
        // What of the directory is new and what is old may disagree: that quarantines tables.
        return Ok(());
    }
    for table in store.tables() {
        let quarantined = matches!(table.state, TableState::Quarantined { .. });
        if quarantined != facts.lost.contains(&table.table) {
            return Err((Invariant::NothingLost, format!("table {} is {}", table.table, table.state)));
        }
        if quarantined && (table.open || table.comparable) {
            let text = format!("table {}, of which a lane is lost, may be used again", table.table);
            return Err((Invariant::LaneByteOnce, text));
        }
    }
    if let Some(range) = facts.spent.iter().find(|range| !store.is_spent(range)) {
        return Err((Invariant::DurableFirst, format!("{range:?} was sent, and may be handed out again")));
    }
    let taken = facts.claimed.iter().chain(facts.taken_in.keys()).find(|range| !store.is_spent(range));
    if let Some(range) = taken {
        return Err((Invariant::NothingLost, format!("the acknowledged claim of {range:?} is gone")));
    }
    let broken = |error: dske_storage::StoreError| (Invariant::NothingLost, error.to_string());
    for (id, fact) in &facts.blocks {
        let gone = |what: String| (Invariant::NothingLost, format!("block {id}, recorded before, {what}"));
        let Some(record) = store.block(id).map_err(broken)? else { return Err(gone("is unknown".into())) };
        let as_said = match (&record.state, fact.key.is_some()) {
            (BlockState::Ready, true) => !fact.handed_out,
            (BlockState::Taken, true) => facts.asked_for.contains(id),
            (BlockState::Aborted { .. }, true) => fact.voidable || fact.told_late || !safe,
            (BlockState::Taken | BlockState::Aborted { .. }, false) => true,
            _ => false,
        };
        if record.state == BlockState::Ready {
            let kept = store.peek_key(KeyId { block: *id, index: 0 });
            if kept.as_ref().map(SecretBytes::expose) != fact.key.as_deref() {
                return Err(gone("has lost its key".into()));
            }
        }
        if !as_said {
            return Err(gone(format!("is {:?} now", record.state)));
        }
    }
    for table in store.tables() {
        let Some((own, seen)) = facts.said.get(&table.table) else { continue };
        let marks = store.marks(table.peer, table.side, table.table, false).ok();
        let table = table.table;
        if marks.is_some_and(|marks| marks.own < *own || marks.seen < *seen) {
            let text = format!("it told {own} and {seen} of table {table}, and has {marks:?} on record");
            return Err((Invariant::DurableFirst, text));
        }
    }
    let waiting: BTreeSet<OutboxId> = store.outbox().iter().map(|entry| entry.id).collect();
    for (id, expected) in &facts.outbox {
        let gone = |what: &str| (Invariant::NothingLost, format!("the message {id:?} in the outbox {what}"));
        if !waiting.contains(id) {
            return Err(gone("is gone"));
        }
        match store.outbox_read(*id).map_err(broken)? {
            Some(bytes) if digest(&bytes) == *expected => {}
            _ => return Err(gone("is not what was written")),
        }
    }
    let limits = store.limits().map_err(broken)?;
    for (receiver, (version, limit)) in &facts.limits {
        let kept = limits.iter().any(|record| {
            record.receiver == *receiver
                && (record.version > *version || record.version == *version && record.limits == *limit)
        });
        if !kept {
            let text = format!("limits {version} of {}, in force before, are gone", receiver.short());
            return Err((Invariant::NothingLost, text));
        }
    }
    let identities = store.identities().map_err(broken)?;
    let known: BTreeSet<NodeId> = identities.iter().map(|record| record.node).collect();
    let exclusions = store.exclusions().map_err(broken)?;
    let excluded: BTreeSet<NodeId> = exclusions.iter().map(|record| record.hub).collect();
    if !facts.identities.is_subset(&known) || !facts.exclusions.is_subset(&excluded) {
        return Err((Invariant::NothingLost, "an identity or an exclusion is gone".to_owned()));
    }
    Ok(())
}

/// The sums of every lane.
pub(crate) fn status_adds_up(store: &SimStore) -> Option<String> {
    let tables = store.tables();
    let mut lanes = tables.iter().flat_map(|table| table.lanes.iter().map(move |lane| (table, lane)));
    lanes.find_map(|(table, lane)| {
        let sum =
            lane.used_key + lane.used_identity + lane.used_sync + lane.skipped + lane.reserved + lane.left;
        (sum != lane.bytes).then(|| format!("lane {} of table {}: {lane:?}", lane.lane, table.table))
    })
}
