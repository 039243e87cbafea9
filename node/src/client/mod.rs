//! The client's actor: feeds the state machines of sender, receiver and identity, executes their effects
//! and serves its owner.

mod failures;
mod hubs;
mod sessions;
mod wishes;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use dske_protocol::{
    ReconstructJob, Reconstructed,
    codec::Blob,
    hub::RequestId,
    identity::{IdentityDesk, IdentityEffect, IdentityFailure, IdentityInput},
    ids::{BlockId, KeyId, Name, NodeId, TableId},
    message::{Notice, NoticeOutcome, Subject},
    params::{AcceptancePolicy, Time, burned_bytes},
    receiver::{Receiver, ReceiverCounters, ReceiverEffect, ReceiverInput},
    refusal::Refusal,
    sender::{Sender, SenderEffect, SenderInput},
};
use dske_storage::{HubRecord, Store, StoreError, TableSide, TableState, Transaction};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use getrandom::SysRng;
use rand_core::UnwrapErr;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use self::{
    hubs::Hubs,
    sessions::{Sessions, micros},
    wishes::Wishes,
};
use crate::{
    clock::Clock,
    config::PolicyConfig,
    control::{Failure, KeyDelivery, KeyGet},
    network::{ClientEvent, Command, Commands, Directory},
    pads::Pads,
    status::{Event, IdentityStatus, Level, PeerStatus, PolicyStatus, SessionStatus},
};

/// Between two looks at hubs, wishes and waiters.
const HOUSEKEEPING: Duration = Duration::from_millis(100);

/// How long hubs are given to answer an identity request.
const IDENTITY_TIMEOUT: Duration = Duration::from_secs(3);

/// How long an inquiry waits for all hubs to be usable, and for k_B of them.
const INQUIRY_PATIENCE: Duration = Duration::from_millis(600);
/// See [`INQUIRY_PATIENCE`].
const INQUIRY_PATIENCE_MAX: Duration = Duration::from_secs(4);

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
    /// A module was imported.
    Hub(HubRecord),
    /// A hub is to be used again.
    Readmit(Name, oneshot::Sender<Result<(), Failure>>),
    /// What is going on.
    Status(oneshot::Sender<ClientView>),
}

/// A client's part of the status.
#[derive(Debug)]
pub(crate) struct ClientView {
    pub(crate) policy: PolicyStatus,
    pub(crate) peers: Vec<PeerStatus>,
    pub(crate) sessions: Vec<SessionStatus>,
    pub(crate) identities: Vec<IdentityStatus>,
    pub(crate) events: Vec<Event>,
    pub(crate) validated: u64,
    pub(crate) sent: u64,
    pub(crate) aborted: u64,
    pub(crate) counters: ReceiverCounters,
}

/// See the head of the file.
pub(crate) struct ClientActor {
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
    identities: BTreeMap<NodeId, Known>,
    inquiries: Vec<PendingInquiry>,
    wishes: Wishes,
    waiters: BTreeMap<BlockId, Vec<Waiter>>,
    linked: BTreeSet<NodeId>,
    batches: BTreeMap<RequestId, Batch>,
    requests: BTreeMap<RequestId, (RequestId, usize)>,
    work: FuturesUnordered<BoxFuture<'static, (BlockId, usize, Reconstructed)>>,
    stopping: Arc<AtomicBool>,
    sessions: Sessions,
    next_request: u64,
}

/// A client whose identity the hubs agree on.
struct Known {
    name: Name,
    hubs: BTreeSet<NodeId>,
}

/// An inquiry that waits for hubs to be usable.
struct PendingInquiry {
    subject: Subject,
    since: Time,
}

/// Somebody who waits for a key.
struct Waiter {
    id: KeyId,
    until: Time,
    reply: KeyReply,
}

struct Batch {
    results: Vec<Option<Result<(), Refusal>>>,
    open: usize,
}

impl ClientActor {
    pub(crate) fn new(
        me: NodeId,
        policy: PolicyConfig,
        store: Store,
        commands: Commands,
        directory: Directory,
    ) -> Result<Self, StoreError> {
        let mut hubs = Hubs::new(policy.hubs.clone());
        for record in store.hubs()? {
            hubs.insert(Time::ZERO, record);
        }
        for exclusion in store.exclusions()? {
            hubs.exclude(&exclusion.hub, Some(exclusion.reason));
        }
        let mut identities = BTreeMap::new();
        for record in store.identities()? {
            let hubs = record.known_as.iter().map(|(hub, _)| *hub).collect();
            identities.insert(record.node, Known { name: record.name, hubs });
        }
        let acceptance = AcceptancePolicy {
            k_min: policy.k_min,
            hubs: hubs.accepted(),
            key_bytes_max: policy.key_bits_max / 8,
            deadline: policy.deadline(),
        };
        Ok(Self {
            clock: Clock::new(),
            rng: UnwrapErr(SysRng),
            sender: Sender::new(me),
            sender_pads: Pads::new(store.clone()),
            receiver: Receiver::new(me, acceptance, identities.keys().copied()),
            receiver_pads: Pads::new(store.clone()),
            desk: IdentityDesk::new(policy.k_min),
            desk_pads: Pads::new(store.clone()),
            inquiries: Vec::new(),
            wishes: Wishes::default(),
            waiters: BTreeMap::new(),
            linked: BTreeSet::new(),
            batches: BTreeMap::new(),
            requests: BTreeMap::new(),
            work: FuturesUnordered::new(),
            stopping: Arc::new(AtomicBool::new(false)),
            sessions: Sessions::default(),
            next_request: 0,
            hubs,
            identities,
            policy,
            store,
            commands,
            directory,
        })
    }

    /// Runs until the network is gone.
    pub(crate) async fn run(
        mut self,
        mut events: mpsc::UnboundedReceiver<ClientEvent>,
        mut orders: mpsc::Receiver<ClientOrder>,
    ) {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        loop {
            let timeout =
                [self.sender.poll_timeout(), self.receiver.poll_timeout(), self.desk.poll_timeout()]
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
                Some((block, group, result)) = self.work.next(), if !self.work.is_empty() => {
                    let now = self.clock.now();
                    self.receiver.handle(now, ReceiverInput::Reconstructed { block, group, result });
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
            ClientEvent::Instructions { id, from, messages } => self.instructions(now, id, from, messages),
            ClientEvent::Notices { id, from, notices } => {
                for notice in notices {
                    self.sessions.update(&notice.block, |session, _| {
                        if let NoticeOutcome::Validated { shares, .. } = &notice.outcome {
                            session.shares = session.shares.max(*shares);
                        }
                    });
                    self.sender.handle(now, SenderInput::Notice { from, notice }, &mut self.rng);
                }
                self.send(Command::AnswerNotices { id });
            }
            ClientEvent::ShareAnswer { hub, block, answer } => {
                if let Some(Err(refusal)) = answer {
                    tracing::debug!(hub = %hub.short(), %refusal, "a share was refused");
                }
                self.sender.handle(now, SenderInput::HubAnswer { block, hub, answer }, &mut self.rng);
            }
            ClientEvent::IdentityAnswer { hub, inquiry, bytes } => {
                self.desk.handle(now, IdentityInput::Answer { inquiry, hub, bytes });
            }
            ClientEvent::HelloAnswer { hub, active } => {
                if let Some(active) = active {
                    self.activate(&hub, &active);
                    self.hubs.hello_answered(&hub, active);
                }
            }
            ClientEvent::Connection { peer, up } => {
                self.hubs.connection(now, &peer, up);
                if up {
                    self.linked.insert(peer);
                } else {
                    self.linked.remove(&peer);
                }
                self.hub_errands(now);
            }
        }
    }

    /// A table waits until its hub says that the receipt of the module has come back (§2.1).
    fn activate(&mut self, hub: &NodeId, active: &[TableId]) {
        let tables = self.store.tables().into_iter();
        let pending = tables.filter(|table| {
            table.peer == *hub
                && table.side == TableSide::Client
                && table.state == TableState::Pending
                && active.contains(&table.table)
        });
        let activate: Vec<_> = pending.map(|table| table.table).collect();
        if !activate.is_empty() {
            // Not awaited: until it is durable, the table merely stays unused.
            drop(self.store.commit(Transaction { activate, ..Transaction::default() }));
        }
    }

    fn instructions(&mut self, now: Time, exchange: RequestId, from: NodeId, messages: Vec<Blob>) {
        let batch = Batch { results: vec![None; messages.len()], open: messages.len() };
        if batch.open == 0 {
            return self.send(Command::AnswerBatch { id: exchange, results: Vec::new() });
        }
        self.batches.insert(exchange, batch);
        for (place, Blob(bytes)) in messages.into_iter().enumerate() {
            let id = RequestId(self.next_request);
            self.next_request += 1;
            self.requests.insert(id, (exchange, place));
            self.receiver.handle(now, ReceiverInput::KeyInstruction { id, from, bytes });
        }
    }

    fn answer_instruction(&mut self, id: RequestId, result: Result<(), Refusal>) {
        let Some((exchange, place)) = self.requests.remove(&id) else { return };
        let Some(batch) = self.batches.get_mut(&exchange) else { return };
        if let Some(slot) = batch.results.get_mut(place)
            && slot.replace(result).is_none()
        {
            batch.open -= 1;
        }
        if batch.open == 0
            && let Some(batch) = self.batches.remove(&exchange)
        {
            let unanswered = Err(Refusal::Internal);
            let results = batch.results.into_iter().map(|result| result.unwrap_or(unanswered)).collect();
            self.send(Command::AnswerBatch { id: exchange, results });
        }
    }

    fn order(&mut self, order: ClientOrder) {
        let now = self.clock.now();
        match order {
            ClientOrder::Get(get, reply) => self.key_get(now, get, reply),
            ClientOrder::Fetch { id, wait, reply } => self.fetch(now, id, wait, reply),
            ClientOrder::Hub(record) => {
                let node = record.node;
                if self.hubs.insert(now, record) {
                    self.receiver.accept_hub(node);
                }
                let connected = self.linked.contains(&node);
                self.hubs.connection(now, &node, connected);
                self.hub_errands(now);
            }
            ClientOrder::Readmit(name, reply) => self.readmit(&name, reply),
            ClientOrder::Status(reply) => {
                // An asker that has gone needs no answer.
                let _ = reply.send(self.view(now));
            }
        }
    }

    fn readmit(&mut self, name: &Name, reply: oneshot::Sender<Result<(), Failure>>) {
        let Some(hub) = self.hubs.by_name(name) else {
            let unknown = crate::control::failure(
                "dske::hub::unknown",
                1,
                format!("no module from a hub called {name} has been imported"),
                "see `dske status` for the hubs",
            );
            let _ = reply.send(Err(unknown));
            return;
        };
        self.hubs.exclude(&hub, None);
        self.receiver.accept_hub(hub);
        self.sessions.event(Level::Info, format!("{name} is used again, by order of the operator"));
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

    fn fetch(&mut self, now: Time, id: KeyId, wait: Duration, reply: KeyReply) {
        match self.store.block(&id.block) {
            Err(error) => {
                let _ = reply.send(Err(crate::control::store_failure(&error)));
            }
            Ok(None) if !wait.is_zero() => {
                self.waiters.entry(id.block).or_default().push(Waiter { id, until: now + wait, reply });
            }
            Ok(None) => {
                let _ = reply.send(Err(failures::unknown_key(&id)));
            }
            Ok(Some(record)) => self.take(id, &record, reply),
        }
    }

    fn take(&mut self, id: KeyId, record: &dske_storage::BlockRecord, reply: KeyReply) {
        let taken = self.store.take_key(id);
        let (n, k) = (record.n, record.k);
        let burned_bytes = burned_bytes(u64::from(record.key_bytes));
        let (mut shares, mut liars, mut took_us) = (k, Vec::new(), 0);
        self.sessions.update(&id.block, |session, _| {
            shares = session.shares;
            liars.clone_from(&session.liars);
            took_us = session.took_us;
        });
        tokio::spawn(async move {
            let result = match taken.await {
                Ok(Ok(key)) => Ok(KeyDelivery {
                    id,
                    key,
                    n,
                    k,
                    shares,
                    confirmed: Vec::new(),
                    liars,
                    burned_bytes,
                    took_us,
                }),
                Ok(Err(error)) => Err(failures::take(&error)),
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
    }

    fn housekeeping(&mut self) {
        let now = self.clock.now();
        self.hub_errands(now);
        self.inquire(now);
        self.advance_wishes(now);
        for waiters in self.waiters.values_mut() {
            for waiter in waiters.extract_if(.., |waiter| waiter.until <= now || waiter.reply.is_closed()) {
                let _ = waiter.reply.send(Err(failures::unknown_key(&waiter.id)));
            }
        }
        self.waiters.retain(|_, waiters| !waiters.is_empty());
    }

    fn hub_errands(&mut self, now: Time) {
        let mut ours: BTreeMap<NodeId, BTreeSet<TableId>> = BTreeMap::new();
        for table in self.store.tables() {
            let live = matches!(table.state, TableState::Active | TableState::Pending);
            if live && table.side == TableSide::Client {
                ours.entry(table.peer).or_default().insert(table.table);
            }
        }
        for command in self.hubs.due(now, &ours) {
            self.send(command);
        }
    }

    /// Has the hubs asked who somebody is, once enough of them can be.
    fn establish(&mut self, now: Time, subject: Subject) {
        if !self.inquiries.iter().any(|inquiry| inquiry.subject == subject) {
            self.inquiries.push(PendingInquiry { subject, since: now });
        }
        self.inquire(now);
    }

    fn inquire(&mut self, now: Time) {
        if self.inquiries.is_empty() {
            return;
        }
        let usable = self.hubs.usable(&self.store);
        let all = usable.len() >= self.hubs.accepted().len();
        let enough = usable.len() >= usize::from(self.policy.k_min);
        let due = |inquiry: &mut PendingInquiry| {
            let waited = now.saturating_sub(inquiry.since);
            all || (enough && waited >= INQUIRY_PATIENCE) || waited >= INQUIRY_PATIENCE_MAX
        };
        for PendingInquiry { subject, .. } in self.inquiries.extract_if(.., due) {
            let hubs = usable.iter().copied().collect();
            let deadline = now + IDENTITY_TIMEOUT;
            self.desk.handle(now, IdentityInput::Establish { subject, hubs, deadline });
        }
    }

    /// Executes what the machines have put out, until they are silent.
    fn execute(&mut self) {
        loop {
            let mut busy = false;
            busy |= self.execute_sender();
            busy |= self.execute_receiver();
            busy |= self.execute_desk();
            if !busy {
                return;
            }
        }
    }

    fn execute_sender(&mut self) -> bool {
        let (now, mut pad_effects, mut busy) = (self.clock.now(), Vec::new(), false);
        while let Some(effect) = self.sender.poll_effect() {
            busy = true;
            match effect {
                SenderEffect::Pad(effect) => pad_effects.push(effect),
                SenderEffect::Send { block, hub, bytes } => {
                    self.send(Command::Share { hub, block, bytes });
                }
                SenderEffect::Began { agreement, .. } => {
                    let names = Names { hubs: &self.hubs, identities: &self.identities };
                    self.sessions.began(now, &agreement, |node| names.of(node));
                }
                SenderEffect::Ended { id, block, result } => self.key_got(now, id, block, result),
            }
        }
        self.sender_pads.execute(pad_effects);
        busy
    }

    fn execute_receiver(&mut self) -> bool {
        let (now, mut pad_effects, mut busy) = (self.clock.now(), Vec::new(), false);
        while let Some(effect) = self.receiver.poll_effect() {
            busy = true;
            match effect {
                ReceiverEffect::Pad(effect) => pad_effects.push(effect),
                ReceiverEffect::Answer { id, result } => self.answer_instruction(id, result),
                ReceiverEffect::Establish(node) => self.establish(now, Subject::Node(node)),
                ReceiverEffect::Reconstruct { block, group, job } => self.reconstruct(block, group, job),
                ReceiverEffect::Began(agreement) => {
                    let names = Names { hubs: &self.hubs, identities: &self.identities };
                    self.sessions.began(now, &agreement, |node| names.of(node));
                }
                ReceiverEffect::Progress { agreement, outcome, .. } => {
                    let names = Names { hubs: &self.hubs, identities: &self.identities };
                    self.sessions.progress(now, &agreement, &outcome, |node| names.of(node));
                    let (sender, block) = (agreement.sender, agreement.block);
                    self.send(Command::Notice { sender, notice: Notice { block, outcome } });
                    self.serve_waiters(&block);
                }
            }
        }
        self.receiver_pads.execute(pad_effects);
        busy
    }

    fn serve_waiters(&mut self, block: &BlockId) {
        let Some(waiters) = self.waiters.remove(block) else { return };
        let now = self.clock.now();
        for waiter in waiters {
            self.fetch(now, waiter.id, Duration::ZERO, waiter.reply);
        }
    }

    fn reconstruct(&mut self, block: BlockId, group: usize, job: ReconstructJob) {
        let stopping = Arc::clone(&self.stopping);
        let run = move || job.run(&mut UnwrapErr(SysRng), &|| stopping.load(Ordering::Relaxed));
        self.work.push(Box::pin(async move {
            // A panic in there would be a bug; the agreement then ends at its deadline.
            let result = tokio::task::spawn_blocking(run).await.unwrap_or(Reconstructed::Nothing);
            (block, group, result)
        }));
    }

    fn execute_desk(&mut self) -> bool {
        let (now, mut pad_effects, mut busy) = (self.clock.now(), Vec::new(), false);
        while let Some(effect) = self.desk.poll_effect() {
            busy = true;
            match effect {
                IdentityEffect::Pad(effect) => pad_effects.push(effect),
                IdentityEffect::Ask { inquiry, hub, bytes } => {
                    self.send(Command::Identity { hub, inquiry, bytes });
                }
                IdentityEffect::Excluded { hub, reason } => {
                    let name = self.hubs.name(&hub).unwrap_or_else(|| hub.short());
                    self.sessions.event(Level::Crit, format!("{name} is excluded: {reason}"));
                    self.hubs.exclude(&hub, Some(reason));
                    self.receiver.handle(now, ReceiverInput::ExcludeHub(hub));
                }
                IdentityEffect::Decided { subject, result } => self.identity_decided(now, subject, result),
            }
        }
        self.desk_pads.execute(pad_effects);
        busy
    }

    fn identity_decided(
        &mut self,
        now: Time,
        subject: Subject,
        result: Result<dske_protocol::effect::EstablishedIdentity, IdentityFailure>,
    ) {
        match &result {
            Ok(established) => {
                let node = established.identity.node;
                let name = established.identity.name.clone();
                let hubs: BTreeSet<_> = established.known_as.iter().map(|(hub, _)| *hub).collect();
                let text = format!("the identity of {name} is established: {} hubs agree", hubs.len());
                self.sessions.event(Level::Info, text);
                self.identities.insert(node, Known { name, hubs });
                self.receiver.handle(now, ReceiverInput::Sender { node, established: true });
                self.call(node);
            }
            Err(error) => {
                let who = match &subject {
                    Subject::Node(node) => {
                        let node = *node;
                        self.receiver.handle(now, ReceiverInput::Sender { node, established: false });
                        node.short()
                    }
                    Subject::Name(name) => name.to_string(),
                };
                let text = format!("the identity of {who} is not established: {error}");
                self.sessions.event(Level::Warn, text);
            }
        }
        if let (Subject::Name(name), Err(error)) = (&subject, &result) {
            self.wishes.fail(name, &failures::identity(name.as_str(), error));
        }
        self.advance_wishes(now);
    }

    /// Calls another client directly, where gossip has told where it is.
    fn call(&self, node: NodeId) {
        let addresses = self.directory.addresses(&node);
        if !addresses.is_empty() && !self.linked.contains(&node) {
            self.send(Command::Dial { node, addresses });
        }
    }

    fn view(&self, now: Time) -> ClientView {
        let (usable, accepted) = (self.hubs.usable(&self.store).len(), self.hubs.accepted().len());
        let count = |hubs: usize| u8::try_from(hubs).unwrap_or(u8::MAX);
        let n = if self.policy.n == 0 { count(accepted) } else { self.policy.n };
        let (k, k_min) = (self.policy.k, self.policy.k_min);
        let identity = |(node, known): (&NodeId, &Known)| IdentityStatus {
            node: *node,
            name: known.name.clone(),
            claims: u32::try_from(known.hubs.len()).unwrap_or(u32::MAX),
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
            peers: self.hubs.peers(),
            sessions: self.sessions.sessions(now),
            identities: self.identities.iter().map(identity).collect(),
            events: self.sessions.events(),
            validated: self.sessions.validated,
            sent: self.sessions.sent,
            aborted: self.sessions.aborted,
            counters: self.receiver.counters(),
        }
    }

    fn send(&self, command: Command) {
        // Fails only when the network task has ended, and then the process is ending.
        let _ = self.commands.send(command);
    }
}

/// Names for ids, as far as they are known.
struct Names<'a> {
    hubs: &'a Hubs,
    identities: &'a BTreeMap<NodeId, Known>,
}

impl Names<'_> {
    fn of(&self, node: &NodeId) -> String {
        let client = || self.identities.get(node).map(|known| known.name.to_string());
        self.hubs.name(node).or_else(client).unwrap_or_else(|| node.short())
    }
}
