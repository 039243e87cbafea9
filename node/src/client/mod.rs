//! The client's actor: feeds the state machines of sender, receiver and identity, executes their effects
//! and serves its owner.

mod answers;
mod calls;
mod effects;
mod errands;
mod failures;
mod fetch;
mod foreign;
mod hubs;
mod in_vain;
mod inquiries;
mod limits;
mod links;
mod sessions;
mod streams;
mod whom;
mod wishes;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use dske_protocol::{
    Reconstructed,
    codec::Blob,
    identity::{IdentityDesk, IdentityInput},
    ids::{BlockId, KeyId, Name, NodeId},
    limits::{LimitsDesk, LimitsInput},
    message::{Notice, NoticeOutcome},
    naming::{NodeRef, Roll},
    params::{AcceptancePolicy, Time},
    quota::DefaultQuota,
    receiver::{Receiver, ReceiverCounters, ReceiverInput},
    refusal::Refusal,
    sender::{Sender, SenderInput},
    sync::{ClientEnd, SyncCounters, SyncInput},
};
use dske_storage::{HubRecord, Store, StoreError, Transaction};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use getrandom::SysRng;
use rand_core::UnwrapErr;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use self::{
    answers::Answers,
    calls::Calls,
    fetch::Waiters,
    hubs::{Hubs, with_any_receiver},
    in_vain::InVain,
    inquiries::{Asked, PendingInquiry},
    sessions::{Sessions, micros},
    streams::{BatchReply, Streams},
    whom::Names,
    wishes::Wishes,
};
use crate::{
    batches::Batches,
    clock::Clock,
    config::{PolicyConfig, Role},
    control::{Failure, KeyDelivery, KeyGet, StreamSpec},
    metrics::Measures,
    network::{ClientEvent, Command, Commands, Directory, Foreigners, Question},
    pads::Pads,
    quotas::{quotas, shown, spending},
    status::{
        Event, IdentityStatus, InquiryStatus, Level, PeerStatus, PolicyStatus, QuotaStatus, SessionStatus,
        ShareState, StreamStatus, WishStatus,
    },
    sync::Sync,
};

/// Between two looks at hubs, wishes and waiters.
const HOUSEKEEPING: Duration = Duration::from_millis(100);

/// Events taken in before effects are executed, so that their pads are read and recorded together.
const EVENTS_AT_ONCE: usize = 64;

/// How an owner is answered.
pub(crate) type KeyReply = oneshot::Sender<Result<KeyDelivery, Failure>>;

/// What others in this process ask of the client.
#[derive(Debug)]
pub(crate) enum ClientOrder {
    /// Agree a key.
    Get(KeyGet, KeyReply),
    /// Take a key that a sender agreed with us.
    Fetch { id: KeyId, wait: Duration, reply: KeyReply },
    /// Take consecutive keys of one block.
    FetchRun { first: KeyId, count: u32, reply: BatchReply },
    /// Agree keys ahead.
    StreamOpen(StreamSpec, oneshot::Sender<Result<(), Failure>>),
    /// Do not any more.
    StreamClose(StreamSpec, oneshot::Sender<Result<(), Failure>>),
    /// Take the next keys that were.
    StreamNext { spec: StreamSpec, count: u32, wait: Duration, reply: BatchReply },
    /// Keys that waited were given up.
    KeysGivenUp,
    /// A module was imported.
    Hub(HubRecord),
    /// A hub is to be used again.
    Readmit(NodeRef, oneshot::Sender<Result<(), Failure>>),
    /// What is going on.
    Status(oneshot::Sender<ClientView>),
}

/// A client's part of the status.
#[derive(Debug)]
pub(crate) struct ClientView {
    pub(crate) policy: PolicyStatus,
    pub(crate) peers: Vec<PeerStatus>,
    pub(crate) sessions: Vec<SessionStatus>,
    pub(crate) wishes: Vec<WishStatus>,
    pub(crate) identities: Vec<IdentityStatus>,
    pub(crate) inquiries: Vec<InquiryStatus>,
    pub(crate) events: Vec<Event>,
    pub(crate) validated: u64,
    pub(crate) sent: u64,
    pub(crate) aborted: u64,
    pub(crate) counters: ReceiverCounters,
    pub(crate) measures: Measures,
    pub(crate) sync_counters: SyncCounters,
    pub(crate) quotas: Vec<QuotaStatus>,
    pub(crate) streams: Vec<StreamStatus>,
}

/// See the head of the file.
pub(crate) struct ClientActor {
    me: (NodeId, Name),
    policy: PolicyConfig,
    store: Store,
    commands: Commands,
    directory: Directory,
    clock: Clock,
    rng: UnwrapErr<SysRng>,
    hubs: Hubs,
    sender: Sender,
    sender_pads: Pads,
    receiver: Receiver,
    receiver_pads: Pads,
    desk: IdentityDesk,
    desk_pads: Pads,
    limits: LimitsDesk,
    limits_pads: Pads,
    sync: Sync<ClientEnd>,
    identities: BTreeMap<NodeId, Known>,
    /// The names of those whose identity is established.
    roll: Roll,
    inquiries: Vec<PendingInquiry>,
    in_vain: InVain,
    answers: Answers,
    widen_due: Time,
    wishes: Wishes,
    streams: Streams,
    /// Whose turn it is to pass messages on.
    relay_turn: usize,
    waiters: Waiters,
    linked: BTreeSet<NodeId>,
    /// Connected peers that speak no version of the protocol that this node speaks.
    foreign: Foreigners,
    calls: Calls,
    batches: Batches,
    work: FuturesUnordered<BoxFuture<'static, (BlockId, usize, Reconstructed)>>,
    stopping: Arc<AtomicBool>,
    sessions: Sessions,
}

/// A client whose identity the hubs agree on.
struct Known {
    name: Name,
    /// Hubs that claimed it: these can take part in keys with it.
    hubs: BTreeSet<NodeId>,
    asked: Asked,
}

impl ClientActor {
    pub(crate) fn new(
        me: (NodeId, Name),
        policy: PolicyConfig,
        store: Store,
        clock: Clock,
        commands: Commands,
        directory: Directory,
        measures: Measures,
    ) -> Result<Self, StoreError> {
        let mut hubs = Hubs::new(policy.hubs.clone(), store.hubs()?);
        for exclusion in store.exclusions()? {
            hubs.exclude(&exclusion.hub, Some(exclusion.reason));
        }
        let (mut identities, mut roll) = (BTreeMap::new(), Roll::default());
        for record in store.identities()? {
            roll.add(record.node, record.name.clone(), record.established_ms);
            let hubs = record.known_as.iter().map(|(hub, _)| *hub).collect();
            identities.insert(record.node, Known { name: record.name, hubs, asked: Asked::default() });
        }
        let acceptance = AcceptancePolicy {
            k_min: policy.k_min,
            hubs: hubs.accepted(),
            key_bytes_max: policy.key_bits_max / 8,
            deadline: policy.deadline(),
            validate: policy.validate.into(),
        };
        // An excluded hub is no stranger: it may be re-admitted, and what it says is refused by the receiver.
        let acquainted = store.hubs()?.into_iter().map(|hub| hub.node).chain(identities.keys().copied());
        for node in acquainted {
            // Fails only when the network task has ended, and then the process is ending.
            let _ = commands.send(Command::Acquaint { node, by: Role::Client, known: true });
        }
        let mut actor = Self {
            clock,
            rng: UnwrapErr(SysRng),
            sender: Sender::new(me.0, policy.k_min),
            sender_pads: Pads::new(store.clone(), clock),
            receiver: Receiver::new(me.0, acceptance, identities.keys().copied()),
            receiver_pads: Pads::new(store.clone(), clock),
            desk: IdentityDesk::new(policy.k_min),
            desk_pads: Pads::new(store.clone(), clock),
            limits: LimitsDesk::new(me.0, store.limits()?),
            limits_pads: Pads::new(store.clone(), clock),
            sync: Sync::new(store.clone(), clock, commands.clone(), policy.k_min),
            inquiries: Vec::new(),
            in_vain: InVain::default(),
            answers: Answers::default(),
            widen_due: Time::ZERO,
            wishes: Wishes::default(),
            streams: Streams::load(&store)?,
            relay_turn: 0,
            waiters: Waiters::default(),
            linked: BTreeSet::new(),
            foreign: Foreigners::default(),
            calls: Calls::default(),
            batches: Batches::default(),
            work: FuturesUnordered::new(),
            stopping: Arc::new(AtomicBool::new(false)),
            sessions: Sessions::new(measures),
            me,
            hubs,
            identities,
            roll,
            policy,
            store,
            commands,
            directory,
        };
        actor.set_quotas();
        for record in actor.store.budgets()? {
            actor.receiver.restore(clock.now(), spending(&record));
        }
        Ok(actor)
    }

    /// Gives the receiver the quotas of those whose names are known by now.
    fn set_quotas(&mut self) {
        let default = self.policy.max_peer_use_default.map_or(DefaultQuota::None, |text| text.0);
        self.receiver.set_quotas(quotas(&self.policy, default, |meant| self.roll.first(meant)));
        self.set_limits(self.clock.now());
    }

    /// Runs until the network is gone.
    pub(crate) async fn run(
        mut self,
        mut events: mpsc::UnboundedReceiver<ClientEvent>,
        mut orders: mpsc::Receiver<ClientOrder>,
    ) {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        loop {
            let timeout = [
                self.sender.poll_timeout(),
                self.receiver.poll_timeout(),
                self.desk.poll_timeout(),
                self.limits.poll_timeout(),
            ]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(self.clock.now() + HOUSEKEEPING);
            let timeout = Instant::from_std(self.clock.instant(timeout));
            tokio::select! {
                event = events.recv() => {
                    let Some(event) = event else { break };
                    self.event(event);
                    for _ in 1..EVENTS_AT_ONCE {
                        let Ok(event) = events.try_recv() else { break };
                        self.event(event);
                    }
                }
                done = self.sender_pads.next() => {
                    let now = self.clock.now();
                    self.sender.handle(now, SenderInput::Pad(done.outcome), &mut self.rng);
                }
                done = self.receiver_pads.next() => {
                    self.receiver.handle(self.clock.now(), ReceiverInput::Pad(done.outcome));
                }
                done = self.desk_pads.next() => {
                    self.desk.handle(self.clock.now(), IdentityInput::Pad(done.outcome));
                }
                Some(batch) = self.streams.batches.next(), if !self.streams.batches.is_empty() => {
                    self.batch_taken(self.clock.now(), batch);
                }
                done = self.limits_pads.next() => {
                    self.limits.handle(self.clock.now(), LimitsInput::Pad(done.outcome));
                }
                outcome = self.sync.next() => self.sync.handle(SyncInput::Pad(outcome)),
                Some((block, group, result)) = self.work.next(), if !self.work.is_empty() => {
                    self.reconstructed(block, group, result);
                }
                Some(order) = orders.recv() => {
                    self.order(order);
                    for _ in 1..EVENTS_AT_ONCE {
                        let Ok(order) = orders.try_recv() else { break };
                        self.order(order);
                    }
                }
                () = tokio::time::sleep_until(timeout) => self.tick(),
                _ = housekeeping.tick() => self.housekeeping(),
            }
            self.execute();
        }
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn event(&mut self, event: ClientEvent) {
        let now = self.clock.now();
        match event {
            ClientEvent::Instructions { id, messages, .. } if messages.is_empty() => {
                self.send(Command::AnswerBatch { id, results: Vec::new() });
            }
            ClientEvent::Instructions { id, from, messages } => {
                for (id, Blob(bytes)) in self.batches.open(id, messages.len()).into_iter().zip(messages) {
                    self.receiver.handle(now, ReceiverInput::KeyInstruction { id, from, bytes });
                }
            }
            ClientEvent::Notices { id, from, notices } => {
                for notice in notices {
                    self.shares_noticed(&notice);
                    self.noticed(now, from, None, notice);
                }
                self.send(Command::AnswerLink { id, forged: false });
            }
            ClientEvent::Link { id, from, via, message } => self.link_message(id, from, via, message),
            ClientEvent::ShareAnswer { hub, block, answer } => {
                let state = match &answer {
                    None => ShareState::Silent,
                    Some(Ok(())) => ShareState::Accepted,
                    Some(Err(_)) => ShareState::Refused,
                };
                self.sessions.share(now, &block, &hub, state);
                if let Some(Err(refusal)) = answer {
                    tracing::debug!(hub = %hub.short(), %refusal, "a share was refused");
                    if matches!(refusal, Refusal::TableInactive | Refusal::UnknownTable) {
                        // Which tables has it, then?
                        self.send(Command::Hello { hub });
                    }
                }
                self.sender.handle(now, SenderInput::HubAnswer { block, hub, answer }, &mut self.rng);
            }
            ClientEvent::IdentityAnswer { hub, about: Question::Inquiry(inquiry), bytes } => {
                self.desk.handle(now, IdentityInput::Answer { inquiry, hub, bytes });
            }
            ClientEvent::IdentityAnswer { hub, about: Question::Limits, bytes } => {
                self.limits.handle(now, LimitsInput::Answer { hub, bytes });
            }
            ClientEvent::HelloAnswer { hub, active } => {
                if let Some(active) = active {
                    self.tables_left(&hub, &active);
                    self.hubs.hello_answered(&hub, active);
                    self.hub_errands(now);
                }
            }
            ClientEvent::SyncHelloAnswer { hub, table, answer } => {
                self.sync.handle(SyncInput::HelloAnswer { peer: hub, table, answer });
            }
            ClientEvent::Mark { id, from, message: Blob(bytes) } => {
                self.sync.handle(SyncInput::Mark { id, from, bytes });
            }
            ClientEvent::MarkAnswer { peer, table, bytes } => {
                self.sync.handle(SyncInput::MarkAnswer { peer, table, bytes });
            }
            ClientEvent::Versions { peer, foreign } => self.versions(now, peer, foreign),
            ClientEvent::Connection { peer, up, called } => {
                self.foreign.gone(&peer);
                if called {
                    self.calls.reached(&peer);
                }
                self.hubs.connection(now, &peer, up);
                if up {
                    self.linked.insert(peer);
                    self.receiver_seen(now, &peer);
                    self.identities.values_mut().for_each(|known| known.asked.is_back(now, &peer));
                    self.advance_wishes(now);
                } else {
                    self.linked.remove(&peer);
                    self.limits.handle(now, LimitsInput::Away(peer));
                    self.sync.handle(SyncInput::Disconnected(peer));
                    self.sender.handle(now, SenderInput::Unlinked(peer), &mut self.rng);
                }
                self.hub_errands(now);
            }
        }
    }

    /// A receiver tells how many shares it has, for people to see.
    fn shares_noticed(&mut self, notice: &Notice) {
        if let NoticeOutcome::Validated { shares, .. } = &notice.outcome {
            self.sessions.update(&notice.block, |session, _| session.shares = session.shares.max(*shares));
        }
    }

    fn order(&mut self, order: ClientOrder) {
        let now = self.clock.now();
        match order {
            ClientOrder::Get(get, reply) => self.key_get(now, get, reply),
            ClientOrder::Fetch { id, wait, reply } => self.fetch(now, id, wait, reply),
            ClientOrder::FetchRun { first, count, reply } => self.fetch_run(first, count, reply),
            ClientOrder::StreamOpen(spec, reply) => self.stream_open(now, spec, reply),
            ClientOrder::StreamClose(spec, reply) => self.stream_close(&spec, reply),
            ClientOrder::StreamNext { spec, count, wait, reply } => {
                self.stream_next(&spec, count, wait, reply);
            }
            ClientOrder::KeysGivenUp => self.refresh_pools(now),
            ClientOrder::Hub(record) => {
                let node = record.node;
                self.send(Command::Acquaint { node, by: Role::Client, known: true });
                if self.hubs.insert(now, record) {
                    self.receiver.accept_hub(node);
                } else {
                    let label = self.hubs.roll().label(&node);
                    let text =
                        format!("{label} is not used: policy.hubs does not name it (its id is {node})");
                    self.sessions.event(Level::Warn, text);
                }
                let connected = self.linked.contains(&node);
                self.hubs.connection(now, &node, connected);
                self.hub_errands(now);
            }
            ClientOrder::Readmit(meant, reply) => self.readmit(&meant, reply),
            ClientOrder::Status(reply) => {
                // An asker that has gone needs no answer.
                let _ = reply.send(self.view(now));
            }
        }
    }

    fn readmit(&mut self, meant: &NodeRef, reply: oneshot::Sender<Result<(), Failure>>) {
        let hub = match self.hub_meant(meant) {
            Ok(hub) => hub,
            Err(why) => {
                let _ = reply.send(Err(why));
                return;
            }
        };
        if !self.hubs.is_excluded(&hub) {
            // Nothing changes, so there is nothing to tell.
            let _ = reply.send(Ok(()));
            return;
        }
        self.hubs.exclude(&hub, None);
        self.receiver.accept_hub(hub);
        let label = self.hubs.roll().label(&hub);
        self.sessions.event(Level::Info, format!("{label} is used again, by order of the operator"));
        let committed = self.store.commit(Transaction { readmit: vec![hub], ..Transaction::default() });
        tokio::spawn(async move {
            let result = match committed.await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(crate::control::store_failure(&error)),
                Err(_) => Err(crate::control::stopping()),
            };
            let _ = reply.send(result);
        });
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        self.sender.handle(now, SenderInput::Tick, &mut self.rng);
        self.receiver.handle(now, ReceiverInput::Tick);
        self.desk.handle(now, IdentityInput::Tick);
        self.limits.handle(now, LimitsInput::Tick);
    }

    fn housekeeping(&mut self) {
        let now = self.clock.now();
        self.hub_errands(now);
        self.inquire(now);
        self.widen(now);
        self.advance_wishes(now);
        self.waiters.expire(now);
        self.open_streams(now);
        self.serve_streams(now);
        self.note_late_blocks(now);
        self.pump_streams(now);
    }

    fn view(&self, now: Time) -> ClientView {
        // Of a node that is a hub itself, its own clients too. What cannot be read now is counted in the next picture.
        let enrolled = self.store.clients().unwrap_or_default().into_iter().map(|client| client.node);
        let clients: BTreeSet<NodeId> = self.identities.keys().copied().chain(enrolled).collect();
        let open = self.hubs.usable(&self.store);
        let usable = with_any_receiver(&open, &clients);
        let accepted = with_any_receiver(&self.hubs.accepted(), &clients);
        let count = |hubs: usize| u8::try_from(hubs).unwrap_or(u8::MAX);
        let n = if self.policy.n == 0 { count(accepted) } else { self.policy.n };
        let (k, k_min) = (self.policy.k, self.policy.k_min);
        let identity = |(node, known): (&NodeId, &Known)| IdentityStatus {
            node: *node,
            name: known.name.clone(),
            claims: u32::try_from(known.hubs.len()).unwrap_or(u32::MAX),
            hubs: known.hubs.iter().map(|hub| self.hubs.roll().label(hub)).collect(),
            usable: count(open.intersection(&self.hubs_serving(&[*node])).count()),
        };
        ClientView {
            policy: PolicyStatus {
                n,
                k,
                k_min,
                leakage: k,
                malleability: k_min,
                injection: k_min,
                disruption: dske_protocol::params::disruption_threshold(n, k, k_min),
                usable: count(usable),
            },
            peers: self.hubs.peers(&self.store.tables(), |node| self.foreign.advice(node)),
            sessions: self.sessions.sessions(now),
            wishes: self.wishes.status(now),
            identities: self.identities.iter().map(identity).collect(),
            inquiries: self.answers.newest_first(),
            events: self.sessions.events(),
            validated: self.sessions.validated,
            sent: self.sessions.sent,
            aborted: self.sessions.aborted,
            counters: self.receiver.counters(),
            sync_counters: self.sync.counters(),
            measures: self.sessions.measures.clone(),
            streams: self.stream_status(),
            quotas: {
                let names = self.names();
                let mut quotas = shown(self.receiver.uses(now), |node| names.of(node));
                quotas.extend(self.limits_status());
                quotas
            },
        }
    }

    fn names(&self) -> Names<'_> {
        Names { hubs: &self.hubs, clients: &self.roll, me: &self.me }
    }

    fn send(&self, command: Command) {
        // Fails only when the network task has ended, and then the process is ending.
        let _ = self.commands.send(command);
    }
}
