//! Pads of a network in memory. A run comes into being at both ends when its allocator mints it, and is gone when
//! the other end claims it; so nothing is kept that nobody will use.
//!
//! Must never: hand out a run twice at one end. (The bytes come from a seeded generator: for experiments alone.)

use std::collections::{BTreeMap, BTreeSet};

use dske_protocol::{
    effect::{BlockKey, MintRefusal, Minted, Outgoing, PadEffect, PadOutcome, Record, SecretKey, Usage},
    ids::{BlockId, Lane, NodeId, PadRange, TableId},
    pad::PadBytes,
    refusal::Refusal,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// The pads of all tables, and what each node has on record.
pub(super) struct Pads {
    tables: BTreeMap<(NodeId, NodeId), Table>,
    /// Keys by holder and block.
    pub(super) keys: BTreeMap<(NodeId, BlockId), SecretKey>,
    ended: BTreeSet<(NodeId, BlockId)>,
    rng: StdRng,
}

/// What one client and one hub share.
struct Table {
    id: TableId,
    /// Bytes minted so far, of the client's lane and of the hub's.
    marks: [u64; 2],
    /// Runs that the other end has not claimed yet, by lane and offset.
    waiting: BTreeMap<(Lane, u64), Run>,
}

struct Run {
    bytes: Vec<u8>,
    held: bool,
}

impl Pads {
    /// Tables between each of these clients and each of these hubs.
    pub(super) fn new(clients: &[NodeId], hubs: &[NodeId], seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut tables = BTreeMap::new();
        for (&client, &hub) in clients.iter().flat_map(|client| hubs.iter().map(move |hub| (client, hub))) {
            let table = Table { id: TableId::random(&mut rng), marks: [0; 2], waiting: BTreeMap::new() };
            tables.insert((client, hub), table);
        }
        Self { tables, keys: BTreeMap::new(), ended: BTreeSet::new(), rng }
    }

    /// Does as a machine of `me` asks. Beside the outcome, the messages that it has now on record to be sent.
    pub(super) fn execute(&mut self, me: NodeId, effect: PadEffect) -> (Option<PadOutcome>, Vec<Outgoing>) {
        match effect {
            PadEffect::Hold { ticket, from, range, block, .. } => {
                let block_ended = block.is_some_and(|block| self.ended.contains(&(me, block)));
                let result = self.hold(me, from, range);
                (Some(PadOutcome::Held { ticket, result, block_ended }), Vec::new())
            }
            PadEffect::Release { range, .. } => {
                self.release(range);
                (None, Vec::new())
            }
            PadEffect::Mint { ticket, wants } => {
                let result =
                    wants.iter().map(|want| self.mint(me, want.peer, want.lane, want.bytes)).collect();
                (Some(PadOutcome::Minted { ticket, result }), Vec::new())
            }
            PadEffect::Commit { ticket, record } => {
                let Record { claims, outgoing, block, .. } = *record;
                claims.into_iter().for_each(|(range, _): (_, Usage)| self.claim(range));
                let ok = block.is_none_or(|ended| {
                    let place = (me, ended.agreement.block());
                    if let Ok(BlockKey::Keep(key)) = ended.result {
                        self.keys.insert(place, key);
                    }
                    self.ended.insert(place)
                });
                (Some(PadOutcome::Committed { ticket, ok }), outgoing)
            }
            // Marks are not compared here: no machine of an experiment asks for it.
            _ => (None, Vec::new()),
        }
    }

    /// A fresh run of the lane that `me` allocates towards `peer`, as its client (up) or its hub (down).
    pub(super) fn mint(
        &mut self,
        me: NodeId,
        peer: NodeId,
        lane: Lane,
        bytes: u64,
    ) -> Result<Minted, MintRefusal> {
        let (place, mark) = match lane {
            Lane::Up => ((me, peer), 0),
            Lane::Down => ((peer, me), 1),
        };
        let table = self.tables.get_mut(&place).ok_or(MintRefusal::NoTable { peer })?;
        let mut fresh = vec![0; usize::try_from(bytes).map_err(|_| MintRefusal::Internal)?];
        self.rng.fill_bytes(&mut fresh);
        let range = PadRange { table: table.id, lane, offset: table.marks[mark], len: bytes };
        table.marks[mark] += bytes;
        table.waiting.insert((lane, range.offset), Run { bytes: fresh.clone(), held: false });
        Ok(Minted { range, pad: PadBytes::mint(fresh) })
    }

    /// The bytes of a run that `from` minted, exclusively.
    pub(super) fn hold(&mut self, me: NodeId, from: NodeId, range: PadRange) -> Result<PadBytes, Refusal> {
        let place = match range.lane {
            Lane::Up => (from, me),
            Lane::Down => (me, from),
        };
        let table = self.tables.get_mut(&place).filter(|table| table.id == range.table);
        let table = table.ok_or(Refusal::UnknownTable)?;
        match table.waiting.get_mut(&(range.lane, range.offset)) {
            Some(run) if run.held || run.bytes.len() as u64 != range.len => Err(Refusal::PadUsed),
            Some(run) => {
                run.held = true;
                Ok(PadBytes::mint(run.bytes.clone()))
            }
            None => Err(Refusal::PadUsed),
        }
    }

    /// A held run is used, for ever.
    pub(super) fn claim(&mut self, range: PadRange) {
        if let Some(table) = self.tables.values_mut().find(|table| table.id == range.table) {
            table.waiting.remove(&(range.lane, range.offset));
        }
    }

    fn release(&mut self, range: PadRange) {
        let table = self.tables.values_mut().find(|table| table.id == range.table);
        if let Some(run) = table.and_then(|table| table.waiting.get_mut(&(range.lane, range.offset))) {
            run.held = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_read_once_at_the_other_end() {
        let (client, hub) = (NodeId::new([1; 32]), NodeId::new([2; 32]));
        let mut pads = Pads::new(&[client], &[hub], 1);
        for (me, peer, lane) in [(client, hub, Lane::Up), (hub, client, Lane::Down)] {
            let minted = pads.mint(me, peer, lane, 40).unwrap();
            let mine = minted.pad.split().unwrap().0.into_bytes();
            let theirs = pads.hold(peer, me, minted.range).unwrap().split().unwrap().0.into_bytes();
            assert_eq!(*mine, *theirs);
            assert_eq!(pads.hold(peer, me, minted.range).err(), Some(Refusal::PadUsed));
            pads.release(minted.range);
            assert!(pads.hold(me, peer, minted.range).is_err(), "its allocator cannot read it again");
            assert!(pads.hold(peer, me, minted.range).is_ok());
            pads.claim(minted.range);
            assert_eq!(pads.hold(peer, me, minted.range).err(), Some(Refusal::PadUsed));
            assert_eq!(pads.mint(me, peer, lane, 40).unwrap().range.offset, 40);
        }
        assert!(pads.mint(hub, hub, Lane::Down, 1).is_err());
    }
}
