//! Comparing marks in a simulated process: what the node's `sync` does, over the real desk.

use std::collections::BTreeMap;

use dske_protocol::{
    effect::{PadOutcome, Ticket},
    hub::RequestId,
    ids::{NodeId, TableId},
    message::claimed_range,
    refusal::Refusal,
    sync::{Connection, Found, HelloBack, SyncDesk, SyncEffect, SyncInput, SyncSide},
};
use dske_storage::TableState;

use crate::{
    core::{About, Core, Machine},
    packet::{Packet, Wire},
    shared::Shared,
};

/// See the head of the file.
pub(crate) struct Sync<S: SyncSide> {
    desk: SyncDesk<S>,
    held: BTreeMap<Ticket, Held>,
    askers: BTreeMap<RequestId, Asker>,
    next: u64,
}

/// A message that waits for the desk's word.
#[derive(Debug)]
pub(crate) enum Held {
    /// A request.
    Ask { to: usize, about: About, bytes: Vec<u8> },
    /// The claim in answer to an identity request.
    Claim { to: usize, wire: Wire, bytes: Vec<u8> },
}

struct Asker {
    from: usize,
    wire: Wire,
    mark: Option<Vec<u8>>,
}

/// What the process has to do about it.
pub(crate) enum News {
    Dropped(Held),
    /// `notable`: something came to light.
    Synced {
        peer: usize,
        table: TableId,
        notable: bool,
    },
    Lapsed {
        table: TableId,
    },
}

impl<S: SyncSide> Sync<S> {
    /// So many hubs must say that this node was put back before keys that wait are void.
    pub(crate) fn new(k_min: u8) -> Self {
        Self { desk: SyncDesk::new(k_min), held: BTreeMap::new(), askers: BTreeMap::new(), next: 0 }
    }

    /// Tables that are open for the desk, and shut in the store: nothing goes through them, and nobody opens them.
    pub(crate) fn stuck(&self, core: &Core) -> Vec<TableId> {
        let tables = core.store.tables().into_iter();
        let shut = tables.filter(|table| {
            table.side.allocates() == S::OWN && table.state == TableState::Active && !table.open
        });
        shut.map(|table| table.table).filter(|table| self.desk.is_open(table)).collect()
    }

    pub(crate) fn under_way(&self) -> usize {
        self.desk.under_way() + self.held.len() + self.askers.len()
    }

    fn handle(&mut self, core: &Core, shared: &mut Shared, input: SyncInput) {
        self.desk.handle(core.now(shared), input, &mut shared.rng.0);
    }

    pub(crate) fn begin(&mut self, core: &Core, shared: &mut Shared, peer: NodeId, table: TableId) {
        self.handle(core, shared, SyncInput::Begin { peer, table });
    }

    pub(crate) fn pad(&mut self, core: &Core, shared: &mut Shared, outcome: PadOutcome) {
        self.handle(core, shared, SyncInput::Pad(outcome));
    }

    pub(crate) fn disconnected(&mut self, core: &Core, shared: &mut Shared, peer: NodeId) {
        self.handle(core, shared, SyncInput::Disconnected(peer));
    }

    /// A table is not used any more.
    pub(crate) fn left(&mut self, core: &Core, shared: &mut Shared, table: TableId) {
        self.handle(core, shared, SyncInput::Left(table));
    }

    /// Sends a sealed message as soon as the peer has its run on record.
    pub(crate) fn send(&mut self, core: &mut Core, shared: &mut Shared, held: Held) {
        let (to, bytes) = match &held {
            Held::Ask { to, bytes, .. } | Held::Claim { to, bytes, .. } => (*to, bytes),
        };
        let range = claimed_range(bytes).filter(|range| range.lane == S::OWN);
        // Only a liar sends what names no run of its own, and it asks nobody.
        let Some(range) = range else { return held.leave(core, shared) };
        self.next += 1;
        let (ticket, peer) = (Ticket(self.next), shared.plan.ids[to]);
        self.held.insert(ticket, held);
        self.handle(core, shared, SyncInput::Outgoing { ticket, peer, range });
    }

    /// Takes in what concerns the desk alone; gives back the rest.
    pub(crate) fn packet(
        &mut self,
        core: &mut Core,
        shared: &mut Shared,
        from: usize,
        packet: Packet,
    ) -> Option<Packet> {
        let peer = shared.plan.ids[from];
        match packet {
            Packet::SyncHello(wire, hello) => {
                let id = self.ask(from, wire, None);
                self.handle(core, shared, SyncInput::Hello { id, from: peer, over: Connection(0), hello });
            }
            Packet::Mark(wire, bytes) => {
                let id = self.ask(from, wire, Some(bytes.clone()));
                self.handle(core, shared, SyncInput::Mark { id, from: peer, bytes });
            }
            Packet::SyncHelloAnswer(wire, answer) => {
                if let Some(About::SyncHello(table)) = core.close_exchange(from, wire) {
                    self.hello_answered(core, shared, peer, table, Some(answer));
                }
            }
            Packet::MarkAnswer(wire, answer) => {
                if let Some(About::Mark(table, _)) = core.close_exchange(from, wire) {
                    self.mark_answered(core, shared, peer, table, answer.ok());
                }
            }
            other => return Some(other),
        }
        None
    }

    fn ask(&mut self, from: usize, wire: Wire, mark: Option<Vec<u8>>) -> RequestId {
        self.next += 1;
        let id = RequestId(self.next);
        self.askers.insert(id, Asker { from, wire, mark });
        id
    }

    fn hello_answered(
        &mut self,
        core: &Core,
        shared: &mut Shared,
        peer: NodeId,
        table: TableId,
        answer: Option<Result<HelloBack, Refusal>>,
    ) {
        self.handle(core, shared, SyncInput::HelloAnswer { peer, table, answer });
    }

    fn mark_answered(
        &mut self,
        core: &Core,
        shared: &mut Shared,
        peer: NodeId,
        table: TableId,
        bytes: Option<Vec<u8>>,
    ) {
        self.handle(core, shared, SyncInput::MarkAnswer { peer, table, bytes });
    }

    /// An exchange of the desk came to nothing.
    pub(crate) fn unanswered(&mut self, core: &Core, shared: &mut Shared, peer: usize, about: About) {
        let peer = shared.plan.ids[peer];
        match about {
            About::SyncHello(table) => self.hello_answered(core, shared, peer, table, None),
            About::Mark(table, _) => self.mark_answered(core, shared, peer, table, None),
            _ => {}
        }
    }

    /// Executes what the desk has put out; gives what the process has to do.
    pub(crate) fn execute(&mut self, core: &mut Core, shared: &mut Shared) -> Vec<News> {
        let mut news = Vec::new();
        while let Some(effect) = self.desk.poll_effect() {
            match effect {
                SyncEffect::Pad(effect) => core.effect(shared, Machine::Sync(S::OWN), effect),
                SyncEffect::Hello { peer, hello } => {
                    if let Some(to) = shared.plan.index(&peer) {
                        let about = About::SyncHello(hello.table);
                        core.ask(shared, to, about, |wire| Packet::SyncHello(wire, hello));
                    }
                }
                SyncEffect::Mark { peer, table, bytes } => {
                    if let Some(to) = shared.plan.index(&peer) {
                        core.ask(shared, to, About::Mark(table, S::OWN), |wire| Packet::Mark(wire, bytes));
                    }
                }
                SyncEffect::AnswerHello { id, result } => {
                    if let Some(asker) = self.askers.remove(&id) {
                        core.send(shared, asker.from, Packet::SyncHelloAnswer(asker.wire, result));
                    }
                }
                SyncEffect::AnswerMark { id, result } => {
                    let Some(asker) = self.askers.remove(&id) else { continue };
                    if let (Ok(_), Some(mark), true) = (&result, &asker.mark, core.honest && !core.dead) {
                        shared.checker.took_in(core.me, mark, &core.store);
                    }
                    core.send(shared, asker.from, Packet::MarkAnswer(asker.wire, result));
                }
                SyncEffect::Pass(ticket) => {
                    if let Some(held) = self.held.remove(&ticket) {
                        held.leave(core, shared);
                    }
                }
                SyncEffect::Drop(ticket) => news.extend(self.held.remove(&ticket).map(News::Dropped)),
                SyncEffect::Synced { peer, table, found } => {
                    tell(core, shared, table, &found);
                    let (peer, notable) = (shared.plan.index(&peer), found.is_notable());
                    news.extend(peer.map(|peer| News::Synced { peer, table, notable }));
                }
                SyncEffect::Lapsed { table, .. } => {
                    shared.count("comparisons lapsed");
                    news.push(News::Lapsed { table });
                }
            }
        }
        news
    }
}

impl Held {
    fn leave(self, core: &mut Core, shared: &mut Shared) {
        match self {
            Self::Ask { to, about, bytes } => {
                core.ask(shared, to, about, |wire| match about {
                    About::Key(_) => Packet::Key(wire, bytes),
                    About::Identity(_) | About::Limits => Packet::Identity(wire, bytes),
                    _ => Packet::Instruction(wire, bytes),
                });
            }
            Self::Claim { to, wire, bytes } => core.send(shared, to, Packet::IdentityAnswer(wire, Ok(bytes))),
        }
    }
}

fn tell(core: &Core, shared: &mut Shared, table: TableId, found: &Found) {
    shared.count("tables compared");
    if found.skipped > 0 {
        shared.count("found: skipped");
    }
    if found.put_back {
        shared.count("found: put back");
    }
    if found.peer_put_back {
        shared.count("found: peer put back");
    }
    if found.is_notable() {
        shared.note("found", [core.me as u64, found.skipped, u64::from(found.put_back)], || {
            format!("{} at table {table}: {found:?}", core.me)
        });
    }
    shared.checker.found(core.me, &table, found, &core.store);
}
