//! Lanes: which bytes every message used, and that nothing but genuine messages is taken in.

use std::collections::BTreeMap;

use dske_protocol::{
    codec,
    effect::Record,
    ids::{BlockId, Lane, PadRange, TableId},
    message::{ClientMark, HubMark, KeyInstruction, KeyRequest, Mark, Tagged, claimed_range},
    pad::{TAG_BYTES, TAG_KEY_BYTES, TagKey},
    params::U_BYTES,
    planted::{Fault, planted},
    sync::{Found, keys_from},
    tag::{KeyTag, Tag},
};
use dske_storage::{BlockState, simulation::SimStore};

use super::{Checker, Invariant, Moment, Restored};
use crate::rng::{Rng, digest};

/// The truth about all tables.
#[derive(Default)]
pub(crate) struct Lanes {
    tables: BTreeMap<TableId, Truth>,
}

/// One table.
pub(crate) struct Truth {
    pub(crate) hub: usize,
    pub(crate) client: usize,
    up: LaneTruth,
    down: LaneTruth,
}

#[derive(Default)]
struct LaneTruth {
    bytes: Vec<u8>,
    /// Of an honest allocator: what its messages used, by start.
    sent: BTreeMap<u64, Sent>,
    /// Digests of messages under a right tag, by their run.
    genuine: BTreeMap<(u64, u64), Vec<u64>>,
}

#[derive(Clone, Copy)]
struct Sent {
    end: u64,
    digest: u64,
    /// It is a mark; these are not bound by a lease.
    mark: bool,
}

fn is_mark(sealed: &[u8]) -> bool {
    sealed.first().is_some_and(|kind| [ClientMark::KIND, HubMark::KIND].contains(kind))
}

/// A key request that an honest hub was given.
pub(crate) struct Given {
    pub(crate) from: usize,
    pub(crate) request: KeyRequest,
    pub(crate) digest: u64,
    pub(crate) arrived: Moment,
    /// When the hub last answered it.
    pub(crate) answered: Option<Moment>,
}

/// The body of a sealed message, whatever its tag.
pub(crate) fn body<T: Tagged>(sealed: &[u8]) -> Option<T> {
    let end = sealed.len().checked_sub(TAG_BYTES)?;
    let (&kind, encoded) = sealed.get(..end)?.split_first()?;
    if kind == T::KIND { codec::decode(encoded, encoded.len()).ok() } else { None }
}

impl Lanes {
    pub(crate) fn add(&mut self, table: TableId, hub: usize, client: usize, up: Vec<u8>, down: Vec<u8>) {
        let lane = |bytes| LaneTruth { bytes, ..LaneTruth::default() };
        self.tables.insert(table, Truth { hub, client, up: lane(up), down: lane(down) });
    }

    pub(crate) fn table(&self, table: &TableId) -> Option<&Truth> {
        self.tables.get(table)
    }

    /// The tables of a client, each with its hub.
    pub(crate) fn of_client(&self, client: usize) -> impl Iterator<Item = (TableId, usize)> {
        let tables = self.tables.iter().filter(move |(_, truth)| truth.client == client);
        tables.map(|(table, truth)| (*table, truth.hub))
    }

    /// Any table: its client, its hub, its id.
    pub(crate) fn some_table(&self, rng: &mut Rng) -> Option<(usize, usize, TableId)> {
        let (table, truth) = self.tables.iter().nth(rng.index(self.tables.len()))?;
        Some((truth.client, truth.hub, *table))
    }

    /// Bytes of the down lanes between a hub and a client.
    pub(crate) fn down_bytes(&self, hub: usize, client: usize) -> u64 {
        let tables = self.tables.values().filter(|truth| (truth.hub, truth.client) == (hub, client));
        tables.map(|truth| truth.down.bytes.len() as u64).sum()
    }

    /// The bytes of a run.
    pub(crate) fn run(&self, range: &PadRange) -> Option<&[u8]> {
        let truth = self.tables.get(&range.table)?;
        let (from, to) = (usize::try_from(range.offset).ok()?, usize::try_from(range.end()?).ok()?);
        truth.lane(range.lane).bytes.get(from..to)
    }

    /// Whether the tag of a sealed message is right under the run that it names.
    fn tag_is_right(&self, range: &PadRange, sealed: &[u8]) -> bool {
        let Some(run) = self.run(range) else { return false };
        let Some(key) = run.len().checked_sub(TAG_KEY_BYTES).map(|at| &run[at..]) else { return false };
        let (body, tag) = sealed.split_at(sealed.len() - TAG_BYTES);
        let mut claimed = [0; TAG_BYTES];
        claimed.copy_from_slice(tag);
        let mut bytes = [0; TAG_KEY_BYTES];
        bytes.copy_from_slice(key);
        TagKey::new(bytes).verify(&[], body, &Tag::new(claimed))
    }

    /// Whether exactly this message left its author under a right tag.
    pub(crate) fn is_genuine(&self, range: &PadRange, digest: u64) -> bool {
        let genuine = self.tables.get(&range.table).map(|truth| &truth.lane(range.lane).genuine);
        genuine
            .and_then(|genuine| genuine.get(&(range.offset, range.len)))
            .is_some_and(|digests| digests.contains(&digest))
    }

    fn has_genuine(&self, range: &PadRange) -> bool {
        let genuine = self.tables.get(&range.table).map(|truth| &truth.lane(range.lane).genuine);
        genuine.is_some_and(|genuine| genuine.contains_key(&(range.offset, range.len)))
    }
}

impl Truth {
    fn lane(&self, lane: Lane) -> &LaneTruth {
        match lane {
            Lane::Up => &self.up,
            Lane::Down => &self.down,
        }
    }

    fn lane_mut(&mut self, lane: Lane) -> &mut LaneTruth {
        match lane {
            Lane::Up => &mut self.up,
            Lane::Down => &mut self.down,
        }
    }

    pub(crate) fn allocator(&self, lane: Lane) -> usize {
        match lane {
            Lane::Up => self.client,
            Lane::Down => self.hub,
        }
    }
}

impl Checker {
    /// A sealed message leaves a node.
    pub(crate) fn leaves(&mut self, node: usize, honest: bool, sealed: &[u8], store: &SimStore) {
        let Some(range) = claimed_range(sealed) else {
            if honest {
                self.fail(Invariant::GenuineOnly, format!("node {node} sent what names no run"));
            }
            return;
        };
        let right = self.lanes.tag_is_right(&range, sealed);
        let digest = digest(sealed);
        let Some(truth) = self.lanes.tables.get_mut(&range.table) else {
            if honest {
                self.fail(Invariant::GenuineOnly, format!("node {node} sent under an unknown table"));
            }
            return;
        };
        let allocator = truth.allocator(range.lane);
        if right && allocator == node {
            let seen = truth.lane_mut(range.lane).genuine.entry((range.offset, range.len)).or_default();
            if !seen.contains(&digest) {
                seen.push(digest);
            }
        }
        if !honest {
            return;
        }
        if allocator != node || !right {
            let what = if right { "a lane that is not its own" } else { "another key than the lane's bytes" };
            return self.fail(Invariant::LaneByteOnce, format!("node {node} sent under {what}: {range:?}"));
        }
        let (start, end) = (range.offset, range.offset + range.len);
        let (put_back, mark) = (self.was_put_back[node], is_mark(sealed));
        let lane = truth.lane_mut(range.lane);
        let keys = keys_from(lane.bytes.len() as u64);
        if if mark { start < keys } else { end > keys } {
            let text = format!("node {node} sent under {range:?}, and tag keys of marks begin at {keys}");
            return self.fail(Invariant::LaneByteOnce, text);
        }
        let sent = &mut lane.sent;
        let before = sent.range(..end).next_back().filter(|(_, sent)| sent.end > start);
        match before {
            Some((&first, other)) if first == start && other.end == end && other.digest == digest => {}
            // Marks are the one thing that comparing marks does not protect: of a node that was put back one may stand where
            // another did that never arrived, or where an untagged hello has sent it. Never where a message did.
            Some((&first, other)) if other.mark && mark && put_back => {
                sent.remove(&first);
                sent.insert(start, Sent { end, digest, mark });
                self.count("tag keys of marks used again");
            }
            Some((first, other)) => {
                let text = format!(
                    "node {node} used {start}..{end} of lane {} of table {} for one message, and {first}..{} for another",
                    range.lane, range.table, other.end
                );
                return self.fail(Invariant::LaneByteOnce, text);
            }
            None => {
                sent.insert(start, Sent { end, digest, mark });
            }
        }
        self.facts[node].spent.insert(range);
        self.within_lease(node, &range, sealed);
        let durable = store.device().durable_mark(&range.table, range.lane).is_some_and(|mark| mark >= end);
        if !(durable || store.is_spent(&range) && store.used_above_mark(&range)) {
            let text = format!("node {node} sent a message under {range:?} before its mark was durable");
            self.fail(Invariant::DurableFirst, text);
        }
    }

    /// A message leaves only when its peer has its run on record; a mark tells only what is on record here.
    fn within_lease(&mut self, node: usize, range: &PadRange, sealed: &[u8]) {
        let Some(truth) = self.lanes.tables.get(&range.table) else { return };
        let peer = if truth.hub == node { truth.client } else { truth.hub };
        let peer_id = self.ids[peer];
        let mark: Option<Mark> =
            body::<ClientMark>(sealed).map(Mark::from).or_else(|| body::<HubMark>(sealed).map(Mark::from));
        if let Some(mark) = mark {
            let said = self.facts[node].said.entry(range.table).or_default();
            *said = (said.0.max(mark.own), said.1.max(mark.seen));
            // Whatever untagged words say, each comparison costs the places that it takes and no more.
            let bytes = if range.lane == Lane::Up { &truth.up.bytes } else { &truth.down.bytes };
            let used = (mark.keys - keys_from(bytes.len() as u64)) / TAG_KEY_BYTES as u64;
            let taken = self.keys_taken.get(&(node, range.table)).copied().unwrap_or(0);
            let put_back = self.was_put_back[node] || self.was_put_back[peer];
            if used > taken && !put_back && !self.is_bad(&peer_id) {
                let text = format!(
                    "node {node} has used {used} places for tag keys of table {}, and took {taken}",
                    range.table
                );
                self.fail(Invariant::StatusAdds, text);
            }
            return;
        }
        if self.is_bad(&peer_id) {
            return;
        }
        let facts = &self.facts[peer];
        let told = facts.told.get(&range.table).copied().unwrap_or(0);
        if range.end().is_some_and(|end| end <= told) {
            return;
        }
        let claimed = facts.claimed.iter().filter(|run| run.table == range.table && run.lane == range.lane);
        let recorded = claimed.filter_map(PadRange::end).max().unwrap_or(0).max(told);
        if range.end().is_none_or(|end| end > recorded) {
            let text = format!("node {node} sent under {range:?}, and its peer has {recorded} on record");
            self.fail(Invariant::DurableFirst, text);
        }
    }

    /// A node takes a tag key for a mark.
    pub(crate) fn takes_key(&mut self, node: usize, table: TableId) {
        *self.keys_taken.entry((node, table)).or_default() += 1;
    }

    /// A comparison of marks has brought something to light.
    pub(crate) fn found(&mut self, node: usize, table: &TableId, found: &Found, store: &SimStore) {
        let Some(truth) = self.lanes.tables.get(table) else { return };
        let peer = if truth.hub == node { truth.client } else { truth.hub };
        let is_client = truth.client == node;
        let liar = self.is_bad(&self.ids[peer]) || self.is_bad(&self.ids[node]);
        if !liar
            && ((found.put_back && !self.was_put_back[node])
                || (found.peer_put_back && !self.was_put_back[peer]))
        {
            let text = format!("node {node} believes in a roll-back that never was: {found:?}");
            self.fail(Invariant::NothingLost, text);
        }
        if is_client {
            self.restores[node].open.remove(table);
        }
        if found.put_back && is_client && !liar {
            self.restores[node].told.insert(peer);
            // Of a second one a table says nothing new that was not compared between the two.
            let Restored { times, told, .. } = &self.restores[node];
            if *times == 1 && told.len() >= usize::from(self.bounds.k_min) {
                self.voided(node, store);
            }
        }
    }

    /// k_B hubs have said that a node was put back: nothing that waited in the copy waits any more.
    fn voided(&mut self, node: usize, store: &SimStore) {
        let facts = &self.facts[node];
        let waits = |id: &BlockId| {
            store.block(id).ok().flatten().is_some_and(|record| record.state == BlockState::Ready)
        };
        let old = facts.blocks.iter().find(|(id, fact)| fact.voidable && waits(id)).map(|(id, _)| *id);
        let partly_old = facts.partly_old;
        self.count("restores that k_B hubs have told of");
        if let Some(id) = old.filter(|_| !partly_old) {
            let text = format!("the key of block {id} waits at node {node}, which k_B hubs say was put back");
            self.fail(Invariant::KeyOnce, text);
        }
    }

    /// An honest node claims runs of its peers' lanes: each must be that of a genuine message.
    pub(crate) fn claims(&mut self, node: usize, record: &Record) {
        for (range, _) in &record.claims {
            if !self.lanes.has_genuine(range) {
                let text = format!("node {node} burns {range:?}, under which nothing was ever sent");
                self.fail(Invariant::GenuineOnly, text);
            }
        }
    }

    /// An honest node says that it took a message in.
    pub(crate) fn took_in(&mut self, node: usize, sealed: &[u8], store: &SimStore) {
        let Some(range) = claimed_range(sealed) else {
            return self.fail(Invariant::GenuineOnly, format!("node {node} took in what names no run"));
        };
        let digest = digest(sealed);
        if !self.lanes.is_genuine(&range, digest) {
            let text = format!("node {node} took in what nobody sent so, under {range:?}");
            return self.fail(Invariant::GenuineOnly, text);
        }
        if !store.is_spent(&range) {
            let text = format!("node {node} took a message in before {range:?} counted as used");
            return self.fail(Invariant::DurableFirst, text);
        }
        if self.facts[node].taken_in.insert(range, digest).is_some() {
            let text = format!("node {node} took {range:?} in a second time");
            self.fail(Invariant::LaneByteOnce, text);
        }
    }

    /// A key request has come to an honest hub.
    pub(crate) fn given(&mut self, hub: usize, from: usize, sealed: &[u8]) {
        if let Some(request) = body::<KeyRequest>(sealed) {
            let (digest, arrived) = (digest(sealed), self.moment);
            if self.lanes.is_genuine(&request.range, digest) {
                let given = self.blocks.given.entry((hub, request.agreement.block())).or_default();
                if given.iter().all(|known| known.digest != digest) {
                    given.push(Given { from, request, digest, arrived, answered: None });
                }
            }
        }
    }

    /// An honest hub answers what may be a key request.
    pub(crate) fn answers(&mut self, hub: usize, sealed: &[u8]) {
        let Some(request) = body::<KeyRequest>(sealed) else { return };
        let (digest, moment) = (digest(sealed), self.moment);
        let given = self.blocks.given.get_mut(&(hub, request.agreement.block()));
        for given in given.into_iter().flatten().filter(|given| given.digest == digest) {
            given.answered = Some(moment);
        }
    }

    /// An honest hub forwards a share: exactly the one that it was given, by its author, as policy allows.
    pub(crate) fn forwards(&mut self, hub: usize, to: usize, sealed: &[u8], store: &SimStore) {
        let Some(instruction) = body::<KeyInstruction>(sealed) else {
            return self.fail(Invariant::GenuineOnly, format!("hub {hub} sent a malformed instruction"));
        };
        let block: BlockId = instruction.agreement.block();
        let share = self.plain(&instruction.range, &instruction.share.0);
        let given = self.blocks.given.get(&(hub, block)).map_or(&[][..], Vec::as_slice);
        let same = |given: &&Given| {
            given.request.agreement == instruction.agreement
                && self.part(&given.request, &instruction.range.table)
                    == Some((share.clone(), instruction.key_tag))
        };
        let Some(source) = given.iter().find(same) else {
            let text = format!("hub {hub} forwarded a share of block {block} that it was never given");
            return self.fail(Invariant::GenuineOnly, text);
        };
        let (range, agreement) = (source.request.range, &source.request.agreement);
        let position = agreement.position(&self.ids[hub]);
        let allowed = position.is_some_and(|at| agreement.takes_pad(at) != source.request.share.is_some())
            && self.ids[source.from] == agreement.sender
            && agreement.receivers.contains(&self.ids[to])
            && agreement.receivers.iter().all(|receiver| self.ids.contains(receiver));
        if !allowed {
            let text = format!("hub {hub} forwarded a share of block {block} against its policy");
            return self.fail(Invariant::GenuineOnly, text);
        }
        if !store.is_spent(&range) && !self.facts[hub].partly_old {
            let text = format!("hub {hub} forwarded block {block} before {range:?} counted as used");
            self.fail(Invariant::DurableFirst, text);
        }
    }

    /// What of a hub's share is for the receiver at the other end of a table, and the key tag of that receiver.
    pub(crate) fn part(&self, request: &KeyRequest, table: &TableId) -> Option<(Vec<u8>, KeyTag)> {
        const U: usize = U_BYTES as usize;
        let share = match &request.share {
            None => self
                .lanes
                .run(&request.range)?
                .get(..request.agreement.share_bytes(Lane::Up) as usize)?
                .to_vec(),
            Some(blob) => self.plain(&request.range, &blob.0),
        };
        let receivers = &request.agreement.receivers;
        let to = self.ids[self.lanes.table(table)?.client];
        let at = receivers.iter().position(|receiver| *receiver == to)?;
        // This fault is left to the lie that it invites.
        let part = if planted(Fault::OneKeyTagKeyForAll) { 0 } else { at };
        let (us, key) = share.split_at_checked(U * receivers.len())?;
        Some(([&us[U * part..U * (part + 1)], key].concat(), *request.key_tags.get(at)?))
    }

    /// What a share says under its pad.
    pub(crate) fn plain(&self, range: &PadRange, share: &[u8]) -> Vec<u8> {
        let pad = self.lanes.run(range).unwrap_or_default();
        share.iter().zip(pad).map(|(byte, pad)| byte ^ pad).collect()
    }
}
