//! The hub's actor: feeds the hub's state machine, executes its effects, delivers its messages.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use dske_protocol::{
    codec::Blob,
    effect::{PadOutcome, Ticket},
    hub::{Hub, HubClient, HubCounters, HubEffect, HubFault, HubInput, RequestId},
    ids::{Name, NodeId, TableId},
    message::Identity,
    naming::NodeRef,
    params::Time,
    refusal::Refusal,
    room::OutboxLimits,
    sync::{HubEnd, SyncCounters, SyncInput},
};
use dske_storage::{
    ClientRecord, OutboxEntry, OutboxId, Store, StoreError, TableSide, TableState, Transaction,
};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::{mpsc, oneshot};

use crate::{
    batches::Batches,
    clock::Clock,
    config::{OutboxConfig, PolicyConfig, Role},
    events::Events,
    mailbox::{Fate, Mailbox},
    network::{Command, Commands, Foreigners, HubEvent},
    pads::{Pads, Queued},
    quotas::{quotas, shown, spending},
    status::{Event, Level, PeerStatus, QuotaStatus},
    sync::{Sync, SyncNews, findings},
};

/// Between two looks at what waits.
const HOUSEKEEPING: Duration = Duration::from_millis(200);

/// Between two looks for messages that have waited too long.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(5);

/// Delivered messages are struck from the outbox together, this often: until then they would only be
/// sent once more.
const STRIKE_INTERVAL: Duration = Duration::from_millis(100);

/// Events taken in before effects are executed, so that their pads are read and recorded together.
const EVENTS_AT_ONCE: usize = 64;

/// What others in this process ask of the hub.
#[derive(Debug)]
pub(crate) enum HubOrder {
    /// A client was taken on or changed.
    Client(ClientRecord),
    /// Misbehave; the caller has checked that this is a test network.
    Fault(HubFault),
    /// What is going on.
    Status(oneshot::Sender<HubView>),
}

/// A hub's part of the status.
#[derive(Debug, Default)]
pub(crate) struct HubView {
    pub(crate) peers: Vec<PeerStatus>,
    pub(crate) counters: HubCounters,
    pub(crate) sync_counters: SyncCounters,
    pub(crate) quotas: Vec<QuotaStatus>,
    pub(crate) expired: u64,
    pub(crate) events: Vec<Event>,
    pub(crate) fault: Option<String>,
}

pub(crate) struct HubActor {
    hub: Hub,
    store: Store,
    pads: Pads,
    sync: Sync<HubEnd>,
    commands: Commands,
    clients: BTreeMap<NodeId, ClientRecord>,
    /// Clients that are served, by name.
    names: BTreeMap<Name, NodeId>,
    mailboxes: BTreeMap<NodeId, Mailbox>,
    /// Connected clients that speak no version of the protocol that this node speaks.
    foreign: Foreigners,
    batches: Batches,
    /// The exchange that an identity request came in, and who asked.
    inquiries: BTreeMap<RequestId, (RequestId, NodeId)>,
    reading: FuturesUnordered<BoxFuture<'static, Read>>,
    delivered: Vec<OutboxId>,
    /// What is known of the messages in the outbox.
    waiting: BTreeMap<OutboxId, Waits>,
    expired: u64,
    config: HubConfig,
    clock: Clock,
    expiry_due: Time,
    next_ticket: u64,
    events: Events,
    /// What it was told to do wrong, for people.
    fault: Option<String>,
}

/// A message in the outbox.
#[derive(Debug, Clone, Copy)]
struct Waits {
    receiver: NodeId,
    table: TableId,
    bytes: u64,
}

/// What the operator has set.
#[derive(Debug, Clone)]
pub(crate) struct HubConfig {
    pub(crate) policy: PolicyConfig,
    pub(crate) outbox: OutboxConfig,
}

/// A message read back from the outbox.
struct Read {
    receiver: NodeId,
    ticket: Ticket,
    bytes: Option<Vec<u8>>,
}

impl HubActor {
    pub(crate) fn new(
        me: NodeId,
        key_bytes_max: u64,
        config: HubConfig,
        store: Store,
        clock: Clock,
        commands: Commands,
    ) -> Result<Self, StoreError> {
        let mut actor = Self {
            hub: Hub::new(me, key_bytes_max),
            pads: Pads::new(store.clone(), clock),
            // Its peers are clients, and no client's word voids a key.
            sync: Sync::new(store.clone(), clock, commands.clone(), 0),
            commands,
            clients: BTreeMap::new(),
            names: BTreeMap::new(),
            mailboxes: BTreeMap::new(),
            foreign: Foreigners::default(),
            batches: Batches::default(),
            inquiries: BTreeMap::new(),
            reading: FuturesUnordered::new(),
            delivered: Vec::new(),
            waiting: BTreeMap::new(),
            expired: 0,
            config,
            clock,
            expiry_due: Time::ZERO,
            next_ticket: 0,
            events: Events::default(),
            fault: None,
            store,
        };
        for client in actor.store.clients()? {
            actor.set_client(client);
        }
        actor.set_limits();
        for record in actor.store.budgets()? {
            actor.hub.restore(clock.now(), spending(&record));
        }
        for OutboxEntry { id, receiver, table, bytes, .. } in actor.store.outbox() {
            actor.mailboxes.entry(receiver).or_default().add(id);
            actor.hub.waits(receiver, bytes);
            actor.waiting.insert(id, Waits { receiver, table, bytes });
        }
        Ok(actor)
    }

    /// Runs until the network is gone.
    pub(crate) async fn run(
        mut self,
        mut events: mpsc::UnboundedReceiver<HubEvent>,
        mut orders: mpsc::Receiver<HubOrder>,
    ) {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        let mut strike = tokio::time::interval(STRIKE_INTERVAL);
        loop {
            tokio::select! {
                event = events.recv() => {
                    let Some(event) = event else { break };
                    self.event(event);
                    for _ in 1..EVENTS_AT_ONCE {
                        let Ok(event) = events.try_recv() else { break };
                        self.event(event);
                    }
                }
                done = self.pads.next() => self.pad_done(done.outcome, done.outgoing),
                outcome = self.sync.next() => self.sync.handle(SyncInput::Pad(outcome)),
                Some(read) = self.reading.next(), if !self.reading.is_empty() => self.read(read),
                Some(order) = orders.recv() => self.order(order),
                _ = housekeeping.tick() => self.housekeeping(),
                _ = strike.tick() => self.strike(),
            }
            self.execute();
        }
        self.strike();
    }

    fn set_client(&mut self, client: ClientRecord) {
        self.hub.set_client(HubClient {
            identity: Identity {
                node: client.node,
                name: client.name.clone(),
                applications: client.applications.clone(),
            },
            signature: client.signature,
            known_as: client.local_id,
            enabled: client.enabled,
        });
        self.send(Command::Acquaint { node: client.node, known: client.enabled });
        let (node, name, enabled) = (client.node, client.name.clone(), client.enabled);
        if let Some(before) = self.clients.insert(node, client)
            && self.names.get(&before.name) == Some(&node)
        {
            self.names.remove(&before.name);
        }
        if enabled {
            self.names.insert(name, node);
        }
    }

    /// Gives the hub its limits, for the clients that are known by now.
    fn set_limits(&mut self) {
        let OutboxConfig { client_bytes_max, bytes_max, .. } = self.config.outbox;
        let limits = OutboxLimits { receiver_bytes_max: client_bytes_max.0.0, bytes_max: bytes_max.0.0 };
        let client = |meant: &NodeRef| match meant {
            NodeRef::Id(node) => Some(*node),
            NodeRef::Name(name) | NodeRef::Told(name, _) => {
                self.names.get(name).filter(|node| meant.fits(node, name)).copied()
            }
        };
        self.hub.set_limits(quotas(&self.config.policy, client), limits);
    }

    fn event(&mut self, event: HubEvent) {
        match event {
            HubEvent::Shares { id, messages, .. } if messages.is_empty() => {
                self.send(Command::AnswerBatch { id, results: Vec::new() });
            }
            HubEvent::Shares { id, from, messages } => {
                for (id, Blob(bytes)) in self.batches.open(id, messages.len()).into_iter().zip(messages) {
                    self.hub.handle(self.clock.now(), HubInput::KeyRequest { id, from, bytes });
                }
            }
            HubEvent::Identity { id: exchange, from, message: Blob(bytes) } => {
                let id = self.batches.fresh_id();
                self.inquiries.insert(id, (exchange, from));
                self.hub.handle(self.clock.now(), HubInput::IdentityRequest { id, from, bytes });
            }
            HubEvent::Hello { id, from } => {
                let tables = self.store.tables().into_iter();
                let ours = tables.filter(|table| table.peer == from && table.side == TableSide::Hub);
                // What is quarantined may be settled by what the client has on record of it.
                let usable = |state: &TableState| {
                    matches!(state, TableState::Active | TableState::Spent | TableState::Quarantined { .. })
                };
                let active = ours.filter(|table| usable(&table.state));
                self.send(Command::AnswerHello { id, active: active.map(|table| table.table).collect() });
            }
            HubEvent::SyncHello { id, from, hello } => {
                self.sync.handle(SyncInput::Hello { id, from, hello });
            }
            HubEvent::Mark { id, from, message: Blob(bytes) } => {
                self.sync.handle(SyncInput::Mark { id, from, bytes });
            }
            HubEvent::MarkAnswer { peer, table, bytes } => {
                self.sync.handle(SyncInput::MarkAnswer { peer, table, bytes });
            }
            HubEvent::InstructionAnswer { receiver, ticket, answer } => {
                if let Some(Err(refusal)) = answer {
                    tracing::debug!(receiver = %receiver.short(), %refusal, "an instruction was refused");
                    self.table_refused(receiver, ticket, refusal);
                }
                self.instruction_answered(receiver, ticket, answer);
                self.deliver(receiver);
            }
            HubEvent::Versions { peer, foreign } => {
                if let Some(client) = self.clients.get(&peer)
                    && let Some(foreign) = self.foreign.said(self.clock.now(), peer, foreign)
                {
                    self.events.add(Level::Warn, format!("{} {}", client.name, foreign.advice()));
                }
            }
            HubEvent::Connection { peer, up } => {
                self.foreign.gone(&peer);
                let mailbox = self.mailboxes.entry(peer).or_default();
                mailbox.connected = up;
                mailbox.ready &= up;
                mailbox.resume();
                if !up && mailbox.pending() == 0 {
                    self.mailboxes.remove(&peer);
                }
                if !up {
                    self.sync.handle(SyncInput::Disconnected(peer));
                }
            }
        }
    }

    fn instruction_answered(
        &mut self,
        receiver: NodeId,
        ticket: Ticket,
        answer: Option<Result<(), Refusal>>,
    ) {
        let mailbox = self.mailboxes.entry(receiver).or_default();
        if let Some(Fate::Settled(id)) = mailbox.answered(ticket, answer) {
            self.gone(id);
            self.delivered.push(id);
        }
    }

    /// A receiver that does not use a table any more gets nothing under it until it is compared again.
    fn table_refused(&mut self, receiver: NodeId, ticket: Ticket, refusal: Refusal) {
        if !matches!(refusal, Refusal::TableInactive | Refusal::UnknownTable) {
            return;
        }
        let id = self.mailboxes.get(&receiver).and_then(|mailbox| mailbox.sent_under(ticket));
        if let Some(waits) = id.and_then(|id| self.waiting.get(&id)) {
            let table = waits.table;
            self.sync.handle(SyncInput::Left(table));
        }
    }

    /// A message is not in the outbox any more, or about to be struck.
    fn gone(&mut self, id: OutboxId) {
        if let Some(Waits { receiver, bytes, .. }) = self.waiting.remove(&id) {
            self.hub.handle(self.clock.now(), HubInput::OutboxGone { receiver, bytes });
        }
    }

    /// Drops what has waited too long for its receiver; its pads stay burned.
    fn expire(&mut self) {
        let lifetime_ms = u64::try_from(self.config.outbox.lifetime.0.0.as_millis()).unwrap_or(u64::MAX);
        let age_ms = self.clock.age_ms();
        let is_old = |entry: &OutboxEntry| age_ms.saturating_sub(entry.at_ms) > lifetime_ms;
        let mut dropped: BTreeMap<NodeId, u64> = BTreeMap::new();
        for entry in self.store.outbox().into_iter().filter(is_old) {
            let waits =
                self.mailboxes.get_mut(&entry.receiver).is_some_and(|mailbox| mailbox.forget(entry.id));
            // What is on its way is settled by its answer.
            if waits {
                self.gone(entry.id);
                self.delivered.push(entry.id);
                *dropped.entry(entry.receiver).or_default() += 1;
            }
        }
        let tables = self.store.tables();
        self.sync.out_of_use(&tables);
        // What went with a table that was retired, for a receiver that is away.
        let there: BTreeSet<OutboxId> = self.store.outbox().iter().map(|entry| entry.id).collect();
        let known: Vec<OutboxId> = self.waiting.keys().copied().collect();
        known.into_iter().filter(|id| !there.contains(id)).for_each(|id| self.gone(id));
        for (receiver, count) in dropped {
            self.expired += count;
            let name = self.clients.get(&receiver).map_or_else(|| receiver.short(), |c| c.name.to_string());
            let lifetime = self.config.outbox.lifetime.0;
            let text =
                format!("{count} messages for {name} have waited longer than {lifetime} and were dropped");
            self.events.add(Level::Warn, text);
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    fn pad_done(&mut self, outcome: PadOutcome, outgoing: Vec<Queued>) {
        for message in outgoing {
            let ticket = self.ticket();
            let Queued { id, receiver, table, ref bytes } = message;
            self.waiting.insert(id, Waits { receiver, table, bytes: bytes.len() as u64 });
            let mailbox = self.mailboxes.entry(message.receiver).or_default();
            if mailbox.may_send_directly() {
                mailbox.sent(ticket, message.id);
                self.instruct(message.receiver, ticket, message.bytes);
            } else {
                mailbox.add(message.id);
            }
        }
        self.hub.handle(self.clock.now(), HubInput::Pad(outcome));
    }

    fn execute(&mut self) {
        let mut pad_effects = Vec::new();
        while let Some(effect) = self.hub.poll_effect() {
            match effect {
                HubEffect::Pad(effect) => pad_effects.push(effect),
                HubEffect::KeyAnswer { id, result } => {
                    if let Some((id, results)) = self.batches.answer(id, result) {
                        self.send(Command::AnswerBatch { id, results });
                    }
                }
                HubEffect::IdentityAnswer { id, result } => {
                    if let Some((id, to)) = self.inquiries.remove(&id) {
                        self.answer_identity(id, to, result);
                    }
                }
            }
        }
        self.pads.execute(pad_effects);
        self.execute_sync();
    }

    fn execute_sync(&mut self) {
        loop {
            let news = self.sync.execute();
            if news.is_empty() {
                return;
            }
            news.into_iter().for_each(|news| self.sync_news(news));
        }
    }

    fn sync_news(&mut self, news: SyncNews) {
        match news {
            SyncNews::Dropped(Command::Instruction { receiver, ticket, .. }) => {
                self.instruction_answered(receiver, ticket, None);
            }
            SyncNews::Dropped(Command::AnswerIdentity { id, to, .. }) => {
                self.send(Command::AnswerIdentity { id, to, result: Err(Refusal::Busy) });
            }
            SyncNews::Dropped(command) => debug_assert!(false, "a hub does not seal {command:?}"),
            SyncNews::Synced { peer, table, found } => {
                let serial = self.store.tables().into_iter().find(|status| status.table == table);
                if let Some(status) = serial {
                    for (level, text) in findings(&status.serial, status.peer_name.as_str(), &found) {
                        self.events.add(level, text);
                    }
                }
                let mailbox = self.mailboxes.entry(peer).or_default();
                mailbox.ready = mailbox.connected;
                mailbox.resume();
                self.deliver(peer);
            }
            SyncNews::Lapsed { .. } => {}
        }
    }

    fn instruct(&mut self, receiver: NodeId, ticket: Ticket, bytes: Vec<u8>) {
        self.sync.send(receiver, bytes, |bytes| Command::Instruction { receiver, ticket, bytes });
    }

    fn answer_identity(&mut self, id: RequestId, to: NodeId, result: Result<Vec<u8>, Refusal>) {
        match result {
            Ok(bytes) => {
                self.sync.send(to, bytes, |bytes| {
                    let result = Ok(Blob(bytes));
                    Command::AnswerIdentity { id, to, result }
                });
            }
            Err(refusal) => self.send(Command::AnswerIdentity { id, to, result: Err(refusal) }),
        }
    }

    /// Sends what waits for a receiver, as far as it may go now.
    fn deliver(&mut self, receiver: NodeId) {
        loop {
            let ticket = self.ticket();
            let next = self.mailboxes.get_mut(&receiver).and_then(|mailbox| mailbox.next(ticket));
            let Some(id) = next else { return };
            let reply = self.store.outbox_read(id);
            self.reading.push(Box::pin(async move {
                let bytes = match reply.await {
                    Ok(Ok(bytes)) => bytes,
                    Ok(Err(error)) => {
                        tracing::error!(%error, "a message could not be read back");
                        None
                    }
                    Err(_) => None,
                };
                Read { receiver, ticket, bytes }
            }));
        }
    }

    fn read(&mut self, read: Read) {
        let Read { receiver, ticket, bytes } = read;
        match bytes {
            Some(bytes) => self.instruct(receiver, ticket, bytes),
            None => {
                let lost = self.mailboxes.get_mut(&receiver).and_then(|mailbox| mailbox.lost(ticket));
                lost.into_iter().for_each(|id| self.gone(id));
            }
        }
    }

    fn housekeeping(&mut self) {
        let now = self.clock.now();
        if now >= self.expiry_due {
            self.expiry_due = now + EXPIRY_INTERVAL;
            self.expire();
        }
        let receivers: Vec<_> = self.mailboxes.keys().copied().collect();
        for receiver in receivers {
            if let Some(mailbox) = self.mailboxes.get_mut(&receiver) {
                mailbox.resume();
            }
            self.deliver(receiver);
        }
    }

    fn strike(&mut self) {
        if self.delivered.is_empty() {
            return;
        }
        let delivered = std::mem::take(&mut self.delivered);
        let reply = self.store.commit(Transaction { delivered, ..Transaction::default() });
        let began = Instant::now();
        tokio::spawn(async move {
            if let Ok(Err(error)) = reply.await {
                tracing::error!(%error, took = ?began.elapsed(), "delivered messages could not be struck");
            }
        });
    }

    fn order(&mut self, order: HubOrder) {
        match order {
            HubOrder::Client(client) => {
                self.set_client(client);
                self.set_limits();
            }
            HubOrder::Fault(fault) => {
                self.fault = (fault != HubFault::None).then(|| "sends false shares".to_owned());
                self.hub.set_fault(fault);
            }
            HubOrder::Status(reply) => {
                // An asker that has gone needs no answer.
                let _ = reply.send(self.view());
            }
        }
    }

    fn view(&self) -> HubView {
        let peers = self.clients.values().map(|client| {
            let mailbox = self.mailboxes.get(&client.node);
            PeerStatus {
                node: client.node,
                name: client.name.clone(),
                role: Role::Client,
                connected: mailbox.is_some_and(|mailbox| mailbox.connected),
                excluded: (!client.enabled).then(|| "disabled by the operator".to_owned()),
                incompatible: self.foreign.advice(&client.node),
                waiting: mailbox.map_or(0, |mailbox| mailbox.pending() as u64),
            }
        });
        HubView {
            peers: peers.collect(),
            counters: self.hub.counters(),
            sync_counters: self.sync.counters(),
            quotas: shown(self.hub.uses(self.clock.now()), |node| {
                self.clients.get(node).map_or_else(|| node.short(), |client| client.name.to_string())
            }),
            expired: self.expired,
            events: self.events.newest_first(),
            fault: self.fault.clone(),
        }
    }

    fn send(&self, command: Command) {
        // Fails only when the network task has ended, and then the process is ending.
        let _ = self.commands.send(command);
    }
}
