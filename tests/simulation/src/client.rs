//! A simulated client's process: sender, receiver and identity desk, its hubs, and the wishes of its
//! applications. What it decides is what the node's client decides.

mod effects;
mod identities;
mod wishes;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use dske_protocol::{
    hub::RequestId,
    identity::{IdentityDesk, IdentityInput},
    ids::{KeyId, NodeId, TableId},
    limits::{LimitsDesk, LimitsInput},
    message::Subject,
    params::{AcceptancePolicy, Time},
    planted::{Fault, planted},
    quota::Spending,
    receiver::{CollectLimits, Receiver, ReceiverInput},
    refusal::Refusal,
    sender::{Sender, SenderInput},
    sync::{ClientEnd, Pace},
};
use dske_storage::{BlockState, BudgetRecord, TableSide, TakeError};

use crate::{
    checker::Invariant,
    core::{About, Core, Done, Exchange, Machine},
    lies,
    packet::{Link, Packet, Wire},
    shared::{MILLI, Micros, SECOND, Shared},
    sync::{Held, News, Sync},
};

/// Between two looks at wishes and inquiries.
const HOUSEKEEPING: Micros = 100 * MILLI;
/// Between two questions for active tables while one of ours is not among them.
const HELLO_PAUSE: Micros = SECOND;
/// And otherwise: a table that the hub does not use any more is left.
const HELLO_PAUSE_COMPLETE: Micros = 4 * SECOND;

/// A receiver with few places.
const CRAMPED: CollectLimits =
    CollectLimits { messages: 400, lone: 96, backed: 96, bytes: 512 << 10, late: 32 };

/// See the head of the file.
pub(crate) struct ClientRole {
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
    pub(crate) desk: IdentityDesk,
    pub(crate) limits: LimitsDesk,
    sync: Sync<ClientEnd>,
    /// When tables may be compared again.
    pace: Pace,
    hubs: BTreeMap<usize, HubView>,
    identities: BTreeMap<NodeId, BTreeSet<NodeId>>,
    inquiries: Vec<(Subject, Time)>,
    asked: BTreeMap<(NodeId, NodeId), Time>,
    wishes: Vec<(usize, Time)>,
    under_way: BTreeMap<RequestId, usize>,
    /// Wishes whose negotiation key is being agreed, and when they began.
    negotiations: BTreeMap<RequestId, Time>,
    served: BTreeMap<u64, Served>,
    /// Whose turn it is to pass messages on.
    relay_turn: usize,
    next: u64,
    look_at: Option<Micros>,
    started: Duration,
}

#[derive(Default)]
struct HubView {
    connected: bool,
    excluded: bool,
    /// When it was, for the checks.
    excluded_at: Option<Micros>,
    active: BTreeSet<TableId>,
    hello_at: Option<Micros>,
}

struct Served {
    from: usize,
    wire: Wire,
    bytes: Vec<u8>,
    arrived: Micros,
}

impl ClientRole {
    /// A client as it starts: what its store holds, and no more.
    pub(crate) fn start(core: &Core, shared: &mut Shared) -> Self {
        let plan = &shared.plan;
        let mut hubs: BTreeMap<usize, HubView> = BTreeMap::new();
        for record in core.store.hubs().unwrap_or_default() {
            if let Some(hub) = plan.index(&record.node) {
                hubs.insert(hub, HubView::default());
            }
        }
        for exclusion in core.store.exclusions().unwrap_or_default() {
            if let Some(view) = plan.index(&exclusion.hub).and_then(|hub| hubs.get_mut(&hub)) {
                view.excluded = true;
                view.excluded_at = Some(0);
            }
        }
        let identities: BTreeMap<NodeId, BTreeSet<NodeId>> = core
            .store
            .identities()
            .unwrap_or_default()
            .into_iter()
            .map(|record| (record.node, record.known_as.into_iter().map(|(hub, _)| hub).collect()))
            .collect();
        let accepted = hubs.iter().filter(|(_, view)| !view.excluded).map(|(&hub, _)| plan.ids[hub]);
        let policy = AcceptancePolicy {
            k_min: plan.k_min,
            hubs: accepted.collect(),
            key_bytes_max: plan.key_bytes_max,
            deadline: Duration::from_micros(plan.deadline),
            validate: plan.validate,
        };
        let me = plan.ids[core.me];
        let mut receiver = Receiver::new(me, policy, identities.keys().copied());
        if plan.cramped {
            receiver.set_limits(CRAMPED);
        }
        let records = core.store.limits().unwrap_or_default();
        for record in core.store.budgets().unwrap_or_default() {
            let BudgetRecord { account, full_at_ms, quota } = record;
            receiver.restore(
                core.now(shared),
                Spending { account, full_at: Time::from_millis(full_at_ms), quota },
            );
        }
        let mut client = Self {
            limits: LimitsDesk::new(me, records),
            sender: Sender::new(me, plan.k_min),
            negotiations: BTreeMap::new(),
            receiver,
            desk: IdentityDesk::new(plan.k_min),
            sync: Sync::new(plan.k_min),
            pace: Pace::default(),
            hubs,
            identities,
            inquiries: Vec::new(),
            asked: BTreeMap::new(),
            wishes: Vec::new(),
            under_way: BTreeMap::new(),
            served: BTreeMap::new(),
            relay_turn: 0,
            next: 0,
            look_at: None,
            started: core.now(shared),
        };
        client.want_limits(core, shared);
        client
    }

    /// What is to be in force at every hub, from now on.
    pub(crate) fn want_limits(&mut self, core: &Core, shared: &Shared) {
        for &hub in self.hubs.keys() {
            let (hub, limits) = (shared.plan.ids[hub], shared.limits[core.me].clone());
            self.limits.handle(core.now(shared), LimitsInput::Want { hub, limits });
        }
    }

    /// A client that opens agreements in numbers, through one hub or all of them.
    pub(crate) fn flood(&mut self, core: &mut Core, shared: &mut Shared) {
        let hubs: Vec<usize> = self.usable(core, shared).into_iter().collect();
        for (to, block, bytes) in lies::opens_many(shared, core.me, &core.store, &hubs) {
            self.sync.send(core, shared, Held::Ask { to, about: About::Key(block), bytes });
        }
        self.execute(core, shared);
    }

    /// The operator sets other limits.
    pub(crate) fn set_limits(&mut self, core: &mut Core, shared: &mut Shared) {
        self.want_limits(core, shared);
        self.execute(core, shared);
    }

    /// See [`Sync::stuck`].
    pub(crate) fn stuck(&self, core: &Core) -> Vec<TableId> {
        self.sync.stuck(core)
    }

    /// What is still under way, in words.
    pub(crate) fn under_way(&self) -> Option<String> {
        let counts = [
            ("agreements sent", self.sender.under_way()),
            ("shares collected", self.receiver.under_way()),
            ("inquiries", self.desk.under_way() + self.inquiries.len()),
            ("wishes", self.wishes.len() + self.under_way.len()),
            ("answers owed", self.served.len()),
            ("marks", self.sync.under_way()),
            ("orders about limits", self.limits.under_way()),
        ];
        let left: Vec<String> = counts
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(what, count)| format!("{count} {what}"))
            .collect();
        if left.is_empty() { None } else { Some(left.join(", ")) }
    }

    // -- input

    pub(crate) fn packet(&mut self, core: &mut Core, shared: &mut Shared, from: usize, packet: Packet) {
        let now = core.now(shared);
        let peer = shared.plan.ids[from];
        let Some(packet) = self.sync.packet(core, shared, from, packet) else {
            return self.execute(core, shared);
        };
        match packet {
            Packet::Instruction(wire, bytes) => {
                self.next += 1;
                let served = Served { from, wire, bytes: bytes.clone(), arrived: shared.now };
                self.served.insert(self.next, served);
                let id = RequestId(self.next);
                self.receiver.handle(now, ReceiverInput::KeyInstruction { id, from: peer, bytes });
            }
            Packet::Notice(_) | Packet::Link(_) => self.said(now, shared, peer, None, packet),
            // Only hubs that are used pass messages on.
            Packet::Relayed(author, said)
                if self.hubs.get(&from).is_some_and(|view| !view.excluded)
                    || planted(Fault::AnybodyHasAVoice) =>
            {
                self.said(now, shared, author, Some(peer), *said);
            }
            Packet::KeyAnswer(wire, result) => {
                self.answered(core, shared, from, wire, Some(Answer::Key(result)));
            }
            Packet::IdentityAnswer(wire, result) => {
                self.answered(core, shared, from, wire, Some(Answer::Identity(result.ok())));
            }
            Packet::HelloAnswer(wire, active) => {
                self.answered(core, shared, from, wire, Some(Answer::Hello(active)));
            }
            _ => {}
        }
        self.execute(core, shared);
    }

    /// Another client says something, or a hub says that it does.
    fn said(&mut self, now: Time, shared: &mut Shared, from: NodeId, via: Option<NodeId>, packet: Packet) {
        let rng = &mut shared.rng.0;
        match packet {
            Packet::Notice(notice) => self.sender.handle(now, SenderInput::Notice { from, via, notice }, rng),
            Packet::Link(Link::Offer(bytes)) => {
                self.sender.handle(now, SenderInput::Offer { from, bytes }, rng);
            }
            Packet::Link(Link::Choice(bytes)) => {
                self.receiver.handle(now, ReceiverInput::Choice { from, bytes });
            }
            Packet::Link(Link::Confirmation(bytes)) => {
                self.sender.handle(now, SenderInput::Confirmation { from, bytes }, rng);
            }
            Packet::Link(Link::SessionLost(session)) => {
                let Some(via) = via else { return };
                let known = self.sender.session(&session).is_some();
                self.sender.handle(now, SenderInput::SessionLost { from, via, session }, rng);
                if known && self.sender.session(&session).is_none() {
                    shared.checker.believed_lost(from, session);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn answered(
        &mut self,
        core: &mut Core,
        shared: &mut Shared,
        from: usize,
        wire: Wire,
        answer: Option<Answer>,
    ) {
        let Some(&Exchange { to, about }) = core.exchanges.get(&wire) else { return };
        if to != from {
            return;
        }
        let (now, hub) = (core.now(shared), shared.plan.ids[to]);
        match (about, answer) {
            (About::Key(block), answer @ (None | Some(Answer::Key(_)))) => {
                let answer = match answer {
                    Some(Answer::Key(result)) => Some(result),
                    _ => None,
                };
                let input = SenderInput::HubAnswer { block, hub, answer };
                self.sender.handle(now, input, &mut shared.rng.0);
            }
            (About::Identity(inquiry), answer @ (None | Some(Answer::Identity(_)))) => {
                let bytes = match answer {
                    Some(Answer::Identity(bytes)) => bytes,
                    _ => None,
                };
                self.desk.handle(now, IdentityInput::Answer { inquiry, hub, bytes });
            }
            (About::Limits, answer @ (None | Some(Answer::Identity(_)))) => {
                let bytes = match answer {
                    Some(Answer::Identity(bytes)) => bytes,
                    _ => None,
                };
                self.limits.handle(now, LimitsInput::Answer { hub, bytes });
            }
            (About::Hello, answer @ (None | Some(Answer::Hello(_)))) => {
                self.hello_answered(core, shared, to, answer);
            }
            (about @ (About::SyncHello(_) | About::Mark(..)), None) => {
                self.sync.unanswered(core, shared, to, about);
            }
            // Not the answer to what was asked.
            _ => return,
        }
        core.exchanges.remove(&wire);
        self.execute(core, shared);
    }

    fn hello_answered(&mut self, core: &mut Core, shared: &mut Shared, hub: usize, answer: Option<Answer>) {
        let Some(view) = self.hubs.get_mut(&hub) else { return };
        let peer = shared.plan.ids[hub];
        let tables = core.store.tables();
        let ours = tables.iter().filter(|table| table.peer == peer && table.side == TableSide::Client);
        let ours: Vec<_> = ours.collect();
        if let Some(Answer::Hello(active)) = answer {
            view.active = active.into_iter().collect();
            // What the hub does not list any more is not used until it does.
            let left = ours.iter().filter(|table| table.open && !view.active.contains(&table.table));
            let left: Vec<TableId> = left.map(|table| table.table).collect();
            left.into_iter().for_each(|table| self.sync.left(core, shared, table));
        }
        let Some(view) = self.hubs.get_mut(&hub) else { return };
        let complete = ours.iter().all(|table| view.active.contains(&table.table));
        if view.connected {
            view.hello_at = Some(shared.now + if complete { HELLO_PAUSE_COMPLETE } else { HELLO_PAUSE });
        }
        self.compare(core, shared);
        self.look_soon(shared);
    }

    /// Tables whose marks may be compared and have not been.
    fn apart(&self, core: &Core, shared: &Shared) -> Vec<(usize, NodeId, TableId)> {
        let apart = core.store.tables_apart(TableSide::Client).into_iter();
        apart
            .filter_map(|(peer, table)| {
                let hub = shared.plan.index(&peer)?;
                let view = self.hubs.get(&hub)?;
                let ready = view.connected && !view.excluded && view.active.contains(&table);
                ready.then_some((hub, peer, table))
            })
            .collect()
    }

    fn compare(&mut self, core: &mut Core, shared: &mut Shared) {
        for (_, peer, table) in self.apart(core, shared) {
            if self.pace.is_due(core.now(shared), &table) {
                self.sync.begin(core, shared, peer, table);
            }
        }
    }

    fn sync_news(&mut self, core: &mut Core, shared: &mut Shared, news: News) {
        let now = core.now(shared);
        match news {
            News::Dropped(Held::Ask { to, about: About::Key(block), .. }) => {
                let hub = shared.plan.ids[to];
                let input = SenderInput::HubAnswer { block, hub, answer: None };
                self.sender.handle(now, input, &mut shared.rng.0);
            }
            News::Dropped(Held::Ask { to, about: About::Identity(inquiry), .. }) => {
                let hub = shared.plan.ids[to];
                self.desk.handle(now, IdentityInput::Answer { inquiry, hub, bytes: None });
            }
            News::Dropped(Held::Ask { to, about: About::Limits, .. }) => {
                let hub = shared.plan.ids[to];
                self.limits.handle(now, LimitsInput::Answer { hub, bytes: None });
            }
            News::Dropped(_) => {}
            News::Synced { peer, table, notable } => {
                self.pace.forget(&table);
                let hub = shared.plan.ids[peer];
                self.limits.handle(now, LimitsInput::Ready { hub, put_back: notable });
                self.advance(core, shared);
            }
            News::Lapsed { table } => self.pace.lapsed(now, table),
        }
    }

    pub(crate) fn connection(&mut self, core: &mut Core, shared: &mut Shared, peer: usize, up: bool) {
        let now = core.now(shared);
        if let Some(view) = self.hubs.get_mut(&peer) {
            view.connected = up;
            view.active.clear();
            view.hello_at = None;
            if up {
                core.ask(shared, peer, About::Hello, Packet::Hello);
            }
        }
        let gone = shared.plan.ids[peer];
        if shared.plan.is_hub(peer) && !up {
            self.limits.handle(now, LimitsInput::Away(gone));
            self.sync.disconnected(core, shared, gone);
        }
        if shared.plan.is_client(peer) && !up {
            self.sender.handle(now, SenderInput::Unlinked(gone), &mut shared.rng.0);
        }
        self.execute(core, shared);
    }

    pub(crate) fn done(&mut self, core: &mut Core, shared: &mut Shared, done: Done) {
        let now = core.now(shared);
        match done {
            Done::Pad(Machine::Sender, outcome) => {
                self.sender.handle(now, SenderInput::Pad(outcome), &mut shared.rng.0);
            }
            Done::Pad(Machine::Receiver, outcome) => self.receiver.handle(now, ReceiverInput::Pad(outcome)),
            Done::Pad(Machine::Sync(_), outcome) => self.sync.pad(core, shared, outcome),
            Done::Pad(Machine::Limits, outcome) => self.limits.handle(now, LimitsInput::Pad(outcome)),
            Done::Pad(_, outcome) => self.desk.handle(now, IdentityInput::Pad(outcome)),
            Done::Ended(block) => shared.checker.learned(core.me, now, block),
            Done::Taken(id, kept, result) => self.taken(core, shared, id, kept, result),
            Done::Queued(_) | Done::Read(..) => {}
        }
        self.execute(core, shared);
    }

    fn taken(
        &mut self,
        core: &Core,
        shared: &mut Shared,
        id: KeyId,
        kept: bool,
        result: Result<dske_storage::SecretBytes, TakeError>,
    ) {
        match result {
            Ok(key) => {
                let recorded = core.store.block(&id.block).ok().flatten();
                if recorded.is_none_or(|record| record.state != BlockState::Taken) {
                    let text = format!("node {} handed out {id} before that was recorded", core.me);
                    shared.checker.fail(Invariant::DurableFirst, text);
                }
                shared.checker.handed_out(core.me, id.block, key.expose());
            }
            Err(TakeError::Unknown(_)) if kept => {
                let text = format!("node {} lost the key {id}", core.me);
                shared.checker.fail(Invariant::NothingLost, text);
            }
            Err(_) => shared.count("keys asked for again or in vain"),
        }
    }

    pub(crate) fn reconstructed(&mut self, core: &mut Core, shared: &mut Shared, input: ReceiverInput) {
        self.receiver.handle(core.now(shared), input);
        self.execute(core, shared);
    }

    // -- time

    fn look_soon(&mut self, shared: &Shared) {
        self.look_at = Some(self.look_at.unwrap_or(Micros::MAX).min(shared.now + HOUSEKEEPING));
    }

    /// When the next tick is due.
    pub(crate) fn due(&mut self, core: &Core, shared: &Shared) -> Option<Micros> {
        if !self.wishes.is_empty() || !self.inquiries.is_empty() {
            self.look_soon(shared);
        }
        let apart = self.apart(core, shared);
        let now = core.now(shared);
        let waiting = |(_, _, table): &(usize, NodeId, TableId)| {
            let until = self.pace.until(table).filter(|until| *until > now)?;
            Some((until.as_micros() as Micros).saturating_sub(core.clock_ahead))
        };
        let compare = apart.iter().filter_map(waiting).min();
        let hello = self.hubs.values().filter_map(|view| view.hello_at).min();
        let machines = [
            self.sender.poll_timeout(),
            self.receiver.poll_timeout(),
            self.desk.poll_timeout(),
            self.limits.poll_timeout(),
        ];
        let machines = machines.into_iter().flatten().min();
        let machines = machines.map(|at| (at.as_micros() as Micros).saturating_sub(core.clock_ahead));
        [self.look_at, hello, compare, machines].into_iter().flatten().min()
    }

    pub(crate) fn tick(&mut self, core: &mut Core, shared: &mut Shared) {
        let now = core.now(shared);
        self.sender.handle(now, SenderInput::Tick, &mut shared.rng.0);
        self.receiver.handle(now, ReceiverInput::Tick);
        self.desk.handle(now, IdentityInput::Tick);
        self.limits.handle(now, LimitsInput::Tick);
        let machines = [
            ("sender", self.sender.poll_timeout()),
            ("receiver", self.receiver.poll_timeout()),
            ("identity desk", self.desk.poll_timeout()),
            ("desk for limits", self.limits.poll_timeout()),
        ];
        for (machine, timeout) in machines {
            if timeout.is_some_and(|timeout| timeout <= now) {
                let text = format!("the {machine} of node {} has a deadline that never fires", core.me);
                shared.checker.fail(Invariant::NoHang, text);
            }
        }
        let due: Vec<usize> = self
            .hubs
            .iter()
            .filter(|(_, view)| view.hello_at.is_some_and(|at| at <= shared.now))
            .map(|(&hub, _)| hub)
            .collect();
        for hub in due {
            if let Some(view) = self.hubs.get_mut(&hub) {
                view.hello_at = None;
            }
            core.ask(shared, hub, About::Hello, Packet::Hello);
        }
        self.compare(core, shared);
        if self.look_at.is_some_and(|at| at <= shared.now) {
            self.look_at = None;
            self.advance(core, shared);
        }
        self.execute(core, shared);
    }
}

/// The answer to an exchange.
pub(crate) enum Answer {
    Key(Result<(), Refusal>),
    Identity(Option<Vec<u8>>),
    Hello(Vec<TableId>),
}
