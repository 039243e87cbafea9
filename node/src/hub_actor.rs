//! The hub's actor: feeds the hub's state machine, executes its effects, delivers its messages.

use std::{
    collections::{BTreeMap, VecDeque},
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
    post::{Letter, Post},
    quota::DefaultQuota,
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

/// Messages that are dropped or struck in one step, each by one removal in one record: so no step keeps what else is to
/// be done waiting for long, however much waits.
const DROPPED_AT_ONCE: usize = 1024;

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
    post: Post<OutboxId>,
    /// Connected clients that speak no version of the protocol that this node speaks.
    foreign: Foreigners,
    batches: Batches,
    /// The exchange that an identity request came in, and who asked.
    inquiries: BTreeMap<RequestId, (RequestId, NodeId)>,
    reading: FuturesUnordered<BoxFuture<'static, Read>>,
    delivered: VecDeque<OutboxId>,
    /// Messages that were dropped since the operator was told, by receiver.
    dropped: BTreeMap<NodeId, u64>,
    expired: u64,
    config: HubConfig,
    clock: Clock,
    expiry_due: Time,
    next_ticket: u64,
    events: Events,
    /// What it was told to do wrong, for people.
    fault: Option<String>,
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
            post: Post::default(),
            foreign: Foreigners::default(),
            batches: Batches::default(),
            inquiries: BTreeMap::new(),
            reading: FuturesUnordered::new(),
            delivered: VecDeque::new(),
            dropped: BTreeMap::new(),
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
        actor.hub.set_limits_of_receivers(actor.store.limits()?);
        for record in actor.store.budgets()? {
            actor.hub.restore(clock.now(), spending(&record));
        }
        for OutboxEntry { id, receiver, sender, table, bytes, at_ms, .. } in actor.store.outbox() {
            actor.post.add(id, Letter { receiver, sender, table, bytes, at_ms });
            actor.hub.waits(receiver, sender, bytes);
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
                _ = strike.tick() => drop(self.strike()),
            }
            self.execute();
        }
        while self.strike() {}
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
        self.send(Command::Acquaint { node: client.node, by: Role::Hub, known: client.enabled });
        self.measure_lanes(client.node);
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
        let default = self.config.policy.max_peer_use_default.map_or(DefaultQuota::OF_HUBS, |text| text.0);
        self.hub.set_limits(quotas(&self.config.policy, default, client), limits);
    }

    /// How much the down lanes with a client hold in all, of which a default quota is a part.
    fn measure_lanes(&mut self, client: NodeId) {
        let tables = self.store.tables_of(&client).into_iter().filter(|table| table.side == TableSide::Hub);
        let lanes = tables.flat_map(|table| table.lanes).filter(|lane| lane.allocator);
        self.hub.set_lanes(client, lanes.map(|lane| lane.bytes).sum());
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
                self.hub.handle(self.clock.now(), HubInput::Question { id, from, bytes });
            }
            HubEvent::Hello { id, from } => {
                let tables = self.store.tables_of(&from).into_iter();
                let ours = tables.filter(|table| table.side == TableSide::Hub);
                // What is quarantined may be settled by what the client has on record of it, unless its pads are damaged:
                // then the client must not count on this hub.
                let usable = |state: &TableState| {
                    matches!(state, TableState::Active | TableState::Spent | TableState::Quarantined { .. })
                };
                let active = ours.filter(|table| usable(&table.state) && table.comparable);
                self.send(Command::AnswerHello { id, active: active.map(|table| table.table).collect() });
            }
            HubEvent::SyncHello { id, from, over, hello } => {
                self.sync.handle(SyncInput::Hello { id, from, over, hello });
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
                self.post.connection(peer, up);
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
        if let Some((id, letter)) = self.post.answered(receiver, ticket, answer) {
            self.gone(&letter);
            self.delivered.push_back(id);
        }
    }

    /// A receiver that does not use a table any more gets nothing under it until it is compared again.
    fn table_refused(&mut self, receiver: NodeId, ticket: Ticket, refusal: Refusal) {
        if !matches!(refusal, Refusal::TableInactive | Refusal::UnknownTable) {
            return;
        }
        if let Some(letter) = self.post.sent_under(&receiver, ticket) {
            let table = letter.table;
            self.sync.handle(SyncInput::Left(table));
        }
    }

    /// A message is not in the outbox any more, or about to be struck.
    fn gone(&mut self, letter: &Letter) {
        let Letter { receiver, sender, bytes, .. } = *letter;
        self.hub.handle(self.clock.now(), HubInput::OutboxGone { receiver, sender, bytes });
    }

    /// Drops some of what has waited too long for its receiver; its pads stay burned. Whether there may be more.
    fn expire(&mut self) -> bool {
        let lifetime_ms = u64::try_from(self.config.outbox.lifetime.0.0.as_millis()).unwrap_or(u64::MAX);
        let before_ms = self.clock.age_ms().saturating_sub(lifetime_ms);
        let old = self.post.expire(before_ms, DROPPED_AT_ONCE);
        let more = old.len() == DROPPED_AT_ONCE;
        for (id, letter) in old {
            self.gone(&letter);
            self.delivered.push_back(id);
            *self.dropped.entry(letter.receiver).or_default() += 1;
        }
        if !more {
            self.tell_of_dropped();
        }
        more
    }

    fn tell_of_dropped(&mut self) {
        for (receiver, count) in std::mem::take(&mut self.dropped) {
            self.expired += count;
            let name = self.clients.get(&receiver).map_or_else(|| receiver.short(), |c| c.name.to_string());
            let lifetime = self.config.outbox.lifetime.0;
            let text =
                format!("{count} messages for {name} have waited longer than {lifetime} and were dropped");
            self.events.add(Level::Warn, text);
        }
    }

    /// Drops some of what went from the outbox with tables that were retired. Whether there may be more.
    fn leave_retired(&mut self) -> bool {
        let retired: Vec<TableId> =
            self.post.tables().filter(|table| self.store.is_retired(table)).copied().collect();
        let mut left = DROPPED_AT_ONCE;
        for table in retired {
            let gone = self.post.leave_table(&table, left);
            left -= gone.len();
            gone.iter().for_each(|(_, letter)| self.gone(letter));
        }
        left == 0
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    fn pad_done(&mut self, outcome: PadOutcome, outgoing: Vec<Queued>) {
        for message in outgoing {
            let ticket = self.ticket();
            let Queued { id, letter, bytes } = message;
            if self.post.send_or_add(id, letter, ticket) {
                self.instruct(letter.receiver, ticket, bytes);
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
                HubEffect::Answer { id, result } => {
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
                self.measure_lanes(peer);
                self.post.ready(peer);
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
            let Some(id) = self.post.next(receiver, ticket) else { return };
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
                if let Some((_, letter)) = self.post.lost(receiver, ticket) {
                    self.gone(&letter);
                }
            }
        }
    }

    fn housekeeping(&mut self) {
        let now = self.clock.now();
        // What is left of a step goes with the next look.
        if now >= self.expiry_due {
            let more = self.expire() | self.leave_retired();
            self.expiry_due = if more { now } else { now + EXPIRY_INTERVAL };
            if !more {
                self.sync.out_of_use(&self.store.tables());
            }
        }
        for receiver in self.post.resume() {
            self.deliver(receiver);
        }
    }

    /// Strikes some of what was delivered or dropped. Whether there was any.
    fn strike(&mut self) -> bool {
        if self.delivered.is_empty() {
            return false;
        }
        let some = self.delivered.len().min(DROPPED_AT_ONCE);
        let delivered: Vec<OutboxId> = self.delivered.drain(..some).collect();
        let reply = self.store.commit(Transaction { delivered, ..Transaction::default() });
        let began = Instant::now();
        tokio::spawn(async move {
            if let Ok(Err(error)) = reply.await {
                tracing::error!(%error, took = ?began.elapsed(), "delivered messages could not be struck");
            }
        });
        true
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
        let peers = self.clients.values().map(|client| PeerStatus {
            node: client.node,
            name: client.name.clone(),
            role: Role::Client,
            connected: self.post.is_connected(&client.node),
            excluded: (!client.enabled).then(|| "disabled by the operator".to_owned()),
            incompatible: self.foreign.advice(&client.node),
            shut: None,
            waiting: self.post.pending(&client.node) as u64,
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
