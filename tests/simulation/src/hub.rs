//! A simulated hub's process: the hub's machine, and what waits for its clients.

use std::collections::BTreeMap;

use dske_protocol::{
    effect::Ticket,
    hub::{Hub, HubClient, HubEffect, HubInput, RequestId},
    ids::{NodeId, TableId},
    limits::Limits,
    message::{Identity, claimed_range},
    params::Time,
    post::{Letter, Post},
    quota::{DefaultQuota, Quota, Quotas, Spending},
    refusal::Refusal,
    sync::HubEnd,
};
use dske_storage::{BudgetRecord, OutboxEntry, OutboxId, TableSide, TableState};

use crate::{
    checker::Invariant,
    core::{About, Core, Done, Machine, Queued},
    lies::{self, Lie},
    packet::{Packet, Wire},
    shared::{MILLI, Micros, Shared},
    sync::{Held, News, Sync},
};

/// Between two looks at what waits.
const HOUSEKEEPING: Micros = 200 * MILLI;

/// Messages on their way to one receiver at once.
const ON_THEIR_WAY_MAX: u64 = 8;

/// What inquiries and orders of a client may burn of its own down lanes: as the node's default.
const IDENTITY_USE: Quota = Quota::per_hour(64 << 10);

/// See the head of the file.
pub(crate) struct HubRole {
    pub(crate) hub: Hub,
    served: BTreeMap<u64, Served>,
    next: u64,
    post: Post<OutboxId>,
    /// Messages that are being read, and for whom.
    reading: BTreeMap<OutboxId, usize>,
    delivered: Vec<OutboxId>,
    look_at: Option<Micros>,
    sync: Sync<HubEnd>,
}

struct Served {
    from: usize,
    wire: Wire,
    bytes: Vec<u8>,
}

/// A message goes under its own number: it is on its way once at a time.
fn ticket(id: OutboxId) -> Ticket {
    Ticket(id.0)
}

impl HubRole {
    /// A hub as it starts: what its store holds, and no more.
    pub(crate) fn start(core: &Core, shared: &mut Shared) -> Self {
        let mut hub = Hub::new(shared.plan.ids[core.me], shared.plan.key_bytes_max);
        for client in core.store.clients().unwrap_or_default() {
            hub.set_client(HubClient {
                identity: Identity {
                    node: client.node,
                    name: client.name,
                    applications: client.applications,
                },
                signature: client.signature,
                known_as: client.local_id,
                enabled: client.enabled,
            });
        }
        set_quotas(&mut hub, core, shared);
        let mut post = Post::new(ON_THEIR_WAY_MAX);
        for OutboxEntry { id, receiver, sender, table, bytes, at_ms, .. } in core.store.outbox() {
            post.add(id, Letter { receiver, sender, table, bytes, at_ms });
            hub.waits(receiver, sender, bytes);
        }
        let (served, delivered, sync) = (BTreeMap::new(), Vec::new(), Sync::new(0));
        Self { hub, served, next: 0, post, reading: BTreeMap::new(), delivered, look_at: None, sync }
    }

    /// What a receiver has set here.
    pub(crate) fn limits_of(&self, receiver: &NodeId) -> Limits {
        self.hub.limits_of(receiver).map(|record| record.limits.clone()).unwrap_or_default()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.under_way() == 0 && self.delivered.is_empty()
    }

    pub(crate) fn under_way(&self) -> usize {
        self.hub.under_way() + self.served.len() + self.sync.under_way()
    }

    /// See [`Sync::stuck`].
    pub(crate) fn stuck(&self, core: &Core) -> Vec<TableId> {
        self.sync.stuck(core)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.post.len()
    }

    pub(crate) fn packet(&mut self, core: &mut Core, shared: &mut Shared, from: usize, packet: Packet) {
        let peer = shared.plan.ids[from];
        let Some(packet) = self.sync.packet(core, shared, from, packet) else {
            return self.execute(core, shared);
        };
        match packet {
            Packet::Key(wire, bytes) => {
                shared.checker.given(core.me, from, &bytes);
                if !core.honest {
                    for (author, said) in lies::hearsay(shared, core.me, &bytes) {
                        core.send(shared, from, Packet::Relayed(author, Box::new(said)));
                    }
                }
                let id = self.serve(from, wire, &bytes);
                self.hub.handle(core.now(shared), HubInput::KeyRequest { id, from: peer, bytes });
            }
            Packet::Identity(wire, bytes) => {
                let bytes = if core.honest { bytes } else { lies::forgets_limits(shared, core.me, bytes) };
                let id = self.serve(from, wire, &bytes);
                self.hub.handle(core.now(shared), HubInput::Question { id, from: peer, bytes });
            }
            Packet::Hello(wire) => {
                let tables = core.store.tables().into_iter();
                let ours = tables.filter(|table| table.peer == peer && table.side == TableSide::Hub);
                let active = ours.filter(|table| table.state == TableState::Active);
                let active = active.map(|table| table.table).collect();
                core.send(shared, from, Packet::HelloAnswer(wire, active));
            }
            Packet::Relay(to, said) => {
                if let Some(to) = shared.plan.index(&to).filter(|to| shared.plan.is_client(*to)) {
                    self.pass_on(core, shared, peer, to, *said);
                }
            }
            Packet::InstructionAnswer(wire, result) => {
                self.answered(core, shared, from, wire, Some(result));
            }
            _ => {}
        }
        self.execute(core, shared);
    }

    /// Passes on what one client sends another. A liar may do something else.
    fn pass_on(&self, core: &mut Core, shared: &mut Shared, from: NodeId, to: usize, said: Packet) {
        if core.honest || !lies::keeps_back(shared, core.me) {
            core.send(shared, to, Packet::Relayed(from, Box::new(said)));
        }
    }

    fn serve(&mut self, from: usize, wire: Wire, bytes: &[u8]) -> RequestId {
        self.next += 1;
        self.served.insert(self.next, Served { from, wire, bytes: bytes.to_vec() });
        RequestId(self.next)
    }

    pub(crate) fn answered(
        &mut self,
        core: &mut Core,
        shared: &mut Shared,
        from: usize,
        wire: Wire,
        answer: Option<Result<(), Refusal>>,
    ) {
        let to = from;
        let about = core.close_exchange(from, wire);
        let Some(About::Instruction(id)) = about else {
            if let (Some(about), None) = (about, answer) {
                self.sync.unanswered(core, shared, from, about);
                self.execute(core, shared);
            }
            return;
        };
        self.instruction_answered(core, shared, to, id, answer);
    }

    fn instruction_answered(
        &mut self,
        core: &mut Core,
        shared: &mut Shared,
        to: usize,
        id: OutboxId,
        answer: Option<Result<(), Refusal>>,
    ) {
        if let Some((id, letter)) = self.post.answered(shared.plan.ids[to], ticket(id), answer) {
            self.gone(core, shared, &letter);
            self.delivered.push(id);
        }
        self.deliver(core, shared, to);
    }

    /// A message is not in the outbox any more. What a liar has put there beside its machine takes no room of it.
    fn gone(&mut self, core: &Core, shared: &Shared, letter: &Letter) {
        if core.honest {
            let Letter { receiver, sender, bytes, .. } = *letter;
            self.hub.handle(core.now(shared), HubInput::OutboxGone { receiver, sender, bytes });
        }
    }

    pub(crate) fn connection(&mut self, core: &mut Core, shared: &mut Shared, peer: usize, up: bool) {
        self.post.connection(shared.plan.ids[peer], up);
        if up {
            self.deliver(core, shared, peer);
        } else {
            let gone = shared.plan.ids[peer];
            self.sync.disconnected(core, shared, gone);
        }
        self.execute(core, shared);
    }

    pub(crate) fn done(&mut self, core: &mut Core, shared: &mut Shared, done: Done) {
        match done {
            Done::Pad(Machine::Sync(_), outcome) => self.sync.pad(core, shared, outcome),
            Done::Pad(_, outcome) => self.hub.handle(core.now(shared), HubInput::Pad(outcome)),
            Done::Queued(messages) => {
                for Queued { id, letter, bytes } in messages {
                    let goes = self.post.send_or_add(id, letter, ticket(id));
                    if let Some(to) = shared.plan.index(&letter.receiver).filter(|_| goes) {
                        self.instruct(core, shared, to, id, bytes);
                    }
                }
            }
            Done::Read(id, bytes) => {
                let Some(to) = self.reading.remove(&id) else { return };
                match bytes {
                    Some(bytes) => self.instruct(core, shared, to, id, bytes),
                    None => {
                        if let Some((_, letter)) = self.post.lost(shared.plan.ids[to], ticket(id)) {
                            self.gone(core, shared, &letter);
                        }
                    }
                }
            }
            Done::Taken(..) | Done::Ended(_) => {}
        }
        self.execute(core, shared);
    }

    fn instruct(&mut self, core: &mut Core, shared: &mut Shared, to: usize, id: OutboxId, bytes: Vec<u8>) {
        self.sync.send(core, shared, Held::Ask { to, about: About::Instruction(id), bytes });
    }

    fn deliver(&mut self, core: &mut Core, shared: &mut Shared, to: usize) {
        // The next message is not known before it is taken, and its ticket is its number.
        while let Some(id) = self.post.peek(shared.plan.ids[to]) {
            self.post.next(shared.plan.ids[to], ticket(id));
            self.reading.insert(id, to);
            core.read_outbox(shared, id);
        }
    }

    pub(crate) fn execute(&mut self, core: &mut Core, shared: &mut Shared) {
        loop {
            self.execute_hub(core, shared);
            let news = self.sync.execute(core, shared);
            if news.is_empty() {
                return;
            }
            news.into_iter().for_each(|news| self.sync_news(core, shared, news));
        }
    }

    fn sync_news(&mut self, core: &mut Core, shared: &mut Shared, news: News) {
        match news {
            News::Dropped(Held::Ask { to, about: About::Instruction(id), .. }) => {
                self.instruction_answered(core, shared, to, id, None);
            }
            News::Dropped(Held::Claim { to, wire, .. }) => {
                core.send(shared, to, Packet::IdentityAnswer(wire, Err(Refusal::Busy)));
            }
            News::Synced { peer, .. } => {
                self.post.ready(shared.plan.ids[peer]);
                self.deliver(core, shared, peer);
            }
            News::Dropped(_) | News::Lapsed { .. } => {}
        }
    }

    fn execute_hub(&mut self, core: &mut Core, shared: &mut Shared) {
        while let Some(effect) = self.hub.poll_effect() {
            match effect {
                HubEffect::Pad(effect) => core.effect(shared, Machine::Hub, effect),
                HubEffect::KeyAnswer { id, result } => {
                    let Some(served) = self.served.remove(&id.0) else { continue };
                    self.answered_as(core, shared, &served, result.err());
                    let result = match lies::false_refusal(shared, core.me) {
                        Some(refusal) => Err(refusal),
                        None => result,
                    };
                    core.send(shared, served.from, Packet::KeyAnswer(served.wire, result));
                }
                HubEffect::Answer { id, result } => {
                    let Some(served) = self.served.remove(&id.0) else { continue };
                    self.answered_as(core, shared, &served, result.as_ref().err().copied());
                    match result {
                        Ok(claim) => {
                            let bytes = match core.honest {
                                true => claim,
                                false => lies::hub_claim(shared, core.me, claim),
                            };
                            let Served { from: to, wire, .. } = served;
                            self.sync.send(core, shared, Held::Claim { to, wire, bytes });
                        }
                        Err(refusal) => {
                            let answer = Packet::IdentityAnswer(served.wire, Err(refusal));
                            core.send(shared, served.from, answer);
                        }
                    }
                }
            }
        }
    }

    /// Checks what an honest hub is about to answer.
    fn answered_as(&self, core: &Core, shared: &mut Shared, served: &Served, refusal: Option<Refusal>) {
        if !core.honest || core.dead {
            return;
        }
        if let Some(refusal) = refusal {
            self.check_refusal(core, shared, served, refusal);
        }
        shared.checker.answers(core.me, &served.bytes);
        match refusal {
            None => shared.checker.took_in(core.me, &served.bytes, &core.store),
            Some(Refusal::BadTag) => {
                shared.count("tags refused");
                let burned = claimed_range(&served.bytes).is_some_and(|range| core.store.is_spent(&range));
                if burned {
                    let text = format!("hub {} burned pad for a wrong tag", core.me);
                    shared.checker.fail(Invariant::GenuineOnly, text);
                }
            }
            Some(refusal) => shared.count(refusal_name(refusal)),
        }
    }

    /// Who keeps to what he may is not refused for what others do.
    fn check_refusal(&self, core: &Core, shared: &mut Shared, served: &Served, refusal: Refusal) {
        if refusal.is_of_quota() {
            shared.checker.refused_by_quota(core.me, served.from, &served.bytes);
        }
        let no_room = matches!(refusal, Refusal::Busy | Refusal::OutboxFull);
        if no_room && shared.checker.bounds.sharp && shared.plan.kits[served.from].is_none() {
            let text = format!("hub {} had no room for node {}, which sends little", core.me, served.from);
            shared.checker.fail(Invariant::Fair, text);
        }
    }

    /// When there is something to look at.
    pub(crate) fn due(&mut self, shared: &Shared) -> Option<Micros> {
        if !self.delivered.is_empty() || self.post.has_work() {
            self.look_at = self.look_at.or(Some(shared.now + HOUSEKEEPING));
        }
        self.look_at
    }

    pub(crate) fn tick(&mut self, core: &mut Core, shared: &mut Shared) {
        if self.look_at.is_none_or(|at| at > shared.now) {
            return;
        }
        self.look_at = None;
        if !self.delivered.is_empty() {
            core.strike(shared, std::mem::take(&mut self.delivered));
        }
        for receiver in self.post.resume() {
            if let Some(to) = shared.plan.index(&receiver) {
                self.deliver(core, shared, to);
            }
        }
    }
}

/// Quotas, limits that receivers have set, and what was spent before: as the node's hub takes them up.
fn set_quotas(hub: &mut Hub, core: &Core, shared: &mut Shared) {
    let plan = &shared.plan;
    let ignored = plan.kits[core.me].as_ref().is_some_and(|kit| kit.has(Lie::IgnoredQuotas));
    let default = if ignored { DefaultQuota::None } else { plan.default_quota };
    let quotas = Quotas { default, identity: Some(IDENTITY_USE), ..Quotas::default() };
    hub.set_limits(quotas, plan.outbox);
    let mut lanes: BTreeMap<NodeId, u64> = BTreeMap::new();
    for table in core.store.tables().iter().filter(|table| table.side == TableSide::Hub) {
        let ours = table.lanes.iter().filter(|lane| lane.allocator);
        *lanes.entry(table.peer).or_default() += ours.map(|lane| lane.bytes).sum::<u64>();
    }
    lanes.into_iter().for_each(|(client, bytes)| hub.set_lanes(client, bytes));
    hub.set_limits_of_receivers(core.store.limits().unwrap_or_default());
    for BudgetRecord { account, full_at_ms, quota } in core.store.budgets().unwrap_or_default() {
        hub.restore(core.now(shared), Spending { account, full_at: Time::from_millis(full_at_ms), quota });
    }
    if core.honest {
        shared.checker.takes_up_quotas(core.me, core.store.limits().unwrap_or_default());
    }
}

pub(crate) fn refusal_name(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Malformed => "refused: malformed",
        Refusal::UnknownTable => "refused: unknown table",
        Refusal::TablePending => "refused: table pending",
        Refusal::TableInactive => "refused: table inactive",
        Refusal::OutOfRange => "refused: out of range",
        Refusal::PadUsed => "refused: pad used",
        Refusal::BadTag => "refused: bad tag",
        Refusal::NotInRoster => "refused: not in roster",
        Refusal::UnknownSender => "refused: unknown sender",
        Refusal::UnknownReceiver => "refused: unknown receiver",
        Refusal::NotForMe => "refused: not for me",
        Refusal::KTooSmall => "refused: k too small",
        Refusal::HubNotAccepted => "refused: hub not accepted",
        Refusal::SenderNotEstablished => "refused: sender not established",
        Refusal::BlockKnown => "refused: block known",
        Refusal::TooLarge => "refused: too large",
        Refusal::PadLow => "refused: pad low",
        Refusal::ReceiverTableInactive => "refused: table with the receiver out of use",
        Refusal::Busy => "refused: busy",
        Refusal::Internal => "refused: internal",
        Refusal::NotSynced => "refused: not synced",
        Refusal::ReceiverAway => "refused: receiver away",
        Refusal::QuotaExceeded => "refused: quota exceeded",
        Refusal::OutboxFull => "refused: outbox full",
        Refusal::UnknownRound => "refused: unknown round",
        Refusal::ReceiverLimit => "refused: receiver's limit",
        Refusal::DefaultQuota => "refused: default quota",
    }
}
