//! The hub's actor: feeds the hub's state machine, executes its effects, delivers its messages.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use dske_protocol::{
    codec::Blob,
    effect::{PadOutcome, Ticket},
    hub::{Hub, HubClient, HubCounters, HubEffect, HubFault, HubInput, RequestId},
    ids::NodeId,
    message::Identity,
    refusal::Refusal,
    sync::{HubEnd, SyncCounters, SyncInput},
};
use dske_storage::{ClientRecord, OutboxId, Store, StoreError, TableSide, TableState, Transaction};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::{mpsc, oneshot};

use crate::{
    batches::Batches,
    config::Role,
    events::Events,
    mailbox::{Fate, Mailbox},
    network::{Command, Commands, HubEvent},
    pads::{Pads, Queued},
    status::{Event, PeerStatus},
    sync::{Sync, SyncNews, findings},
};

/// Between two looks at what waits.
const HOUSEKEEPING: Duration = Duration::from_millis(200);

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
    pub(crate) events: Vec<Event>,
}

pub(crate) struct HubActor {
    hub: Hub,
    store: Store,
    pads: Pads,
    sync: Sync<HubEnd>,
    commands: Commands,
    clients: BTreeMap<NodeId, ClientRecord>,
    mailboxes: BTreeMap<NodeId, Mailbox>,
    batches: Batches,
    /// The exchange that an identity request came in, and who asked.
    inquiries: BTreeMap<RequestId, (RequestId, NodeId)>,
    reading: FuturesUnordered<BoxFuture<'static, Read>>,
    delivered: Vec<OutboxId>,
    next_ticket: u64,
    events: Events,
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
        store: Store,
        commands: Commands,
    ) -> Result<Self, StoreError> {
        let mut actor = Self {
            hub: Hub::new(me, key_bytes_max),
            pads: Pads::new(store.clone()),
            sync: Sync::new(store.clone(), commands.clone()),
            commands,
            clients: BTreeMap::new(),
            mailboxes: BTreeMap::new(),
            batches: Batches::default(),
            inquiries: BTreeMap::new(),
            reading: FuturesUnordered::new(),
            delivered: Vec::new(),
            next_ticket: 0,
            events: Events::default(),
            store,
        };
        for client in actor.store.clients()? {
            actor.set_client(client);
        }
        for entry in actor.store.outbox() {
            actor.mailboxes.entry(entry.receiver).or_default().add(entry.id);
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
            known_as: client.local_id,
            enabled: client.enabled,
        });
        self.send(Command::Acquaint { node: client.node, known: client.enabled });
        self.clients.insert(client.node, client);
    }

    fn event(&mut self, event: HubEvent) {
        match event {
            HubEvent::Shares { id, messages, .. } if messages.is_empty() => {
                self.send(Command::AnswerBatch { id, results: Vec::new() });
            }
            HubEvent::Shares { id, from, messages } => {
                for (id, Blob(bytes)) in self.batches.open(id, messages.len()).into_iter().zip(messages) {
                    self.hub.handle(HubInput::KeyRequest { id, from, bytes });
                }
            }
            HubEvent::Identity { id: exchange, from, message: Blob(bytes) } => {
                let id = self.batches.fresh_id();
                self.inquiries.insert(id, (exchange, from));
                self.hub.handle(HubInput::IdentityRequest { id, from, bytes });
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
                }
                self.instruction_answered(receiver, ticket, answer);
                self.deliver(receiver);
            }
            HubEvent::Connection { peer, up } => {
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
            self.delivered.push(id);
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    fn pad_done(&mut self, outcome: PadOutcome, outgoing: Vec<Queued>) {
        for message in outgoing {
            let ticket = self.ticket();
            let mailbox = self.mailboxes.entry(message.receiver).or_default();
            if mailbox.may_send_directly() {
                mailbox.sent(ticket, message.id);
                self.instruct(message.receiver, ticket, message.bytes);
            } else {
                mailbox.add(message.id);
            }
        }
        self.hub.handle(HubInput::Pad(outcome));
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
                if let Some(mailbox) = self.mailboxes.get_mut(&receiver) {
                    mailbox.lost(ticket);
                }
            }
        }
    }

    fn housekeeping(&mut self) {
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
            HubOrder::Client(client) => self.set_client(client),
            HubOrder::Fault(fault) => self.hub.set_fault(fault),
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
                waiting: mailbox.map_or(0, |mailbox| mailbox.pending() as u64),
            }
        });
        HubView {
            peers: peers.collect(),
            counters: self.hub.counters(),
            sync_counters: self.sync.counters(),
            events: self.events.newest_first(),
        }
    }

    fn send(&self, command: Command) {
        // Fails only when the network task has ended, and then the process is ending.
        let _ = self.commands.send(command);
    }
}
