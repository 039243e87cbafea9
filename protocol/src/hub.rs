//! The hub: checks a sender's message, and re-encrypts its share for each receiver (§2.3.2). Also answers
//! identity requests (§2.2).
//!
//! Order of checks, which must not change: decode within limits → the run is held (table known and
//! active, lane right, range inside it, wholly unused) → tag → policy → room in the outbox → quota → recover
//! the share → fresh pads for the receivers → the claim and the messages for the receivers are durable, in one
//! record → only then is anything said or sent. A failed tag burns nothing; a failed policy burns the run.
//!
//! Must never: send before the record is durable; look at a share before its tag is checked.

mod identities;
mod keys;
mod limits;

use std::collections::{BTreeMap, VecDeque};

use crate::{
    effect::{PadEffect, PadOutcome, Record, Ticket, Usage},
    enrolment::Signature,
    fair::{Fair, SENDERS_PART},
    ids::{Name, NodeId, PadRange},
    limits::LimitsRecord,
    message::{
        Identity, IdentityRequest, KeyRequest, KnownClient, LimitsOrder, Tagged, Unverified, Verified,
    },
    params::{SENDING_BLOCKS_MAX, Time},
    planted::{Fault, planted},
    quota::{Account, Budgets, Quota, Quotas, Spending, Use},
    refusal::Refusal,
    room::{OutboxLimits, Room},
    wiped::Wiped,
};

/// Messages that a hub works on at once, in fair parts of the clients that sent them: a client may have as many as the
/// agreements that it sends at once. Their bytes are bounded where they come in.
pub const JOBS_MAX: usize = 5 * SENDING_BLOCKS_MAX;

/// Names a request that awaits its answer; chosen by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A client that the hub serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubClient {
    /// Who it is.
    pub identity: Identity,
    /// Its own word for that, from its enrolment request.
    pub signature: Signature,
    /// The identifier by which this hub knows it.
    pub known_as: u64,
    /// Whether it is served at the moment.
    pub enabled: bool,
}

/// What happens to a hub.
#[derive(Debug)]
pub enum HubInput {
    /// A sender's message came in.
    KeyRequest {
        /// For the answer.
        id: RequestId,
        /// The peer on whose connection it came.
        from: NodeId,
        /// The sealed message.
        bytes: Vec<u8>,
    },
    /// An identity request came in, or limits that a receiver sets.
    Question {
        /// For the answer.
        id: RequestId,
        /// The peer on whose connection it came.
        from: NodeId,
        /// The sealed message.
        bytes: Vec<u8>,
    },
    /// The pads answered.
    Pad(PadOutcome),
    /// A message for a receiver is not in the outbox any more.
    OutboxGone {
        /// For whom it was.
        receiver: NodeId,
        /// Who caused it.
        sender: NodeId,
        /// Its length.
        bytes: u64,
    },
}

/// What a hub wants done.
#[derive(Debug)]
pub enum HubEffect {
    /// Something with pads or records.
    Pad(PadEffect),
    /// The answer to a key request. Advice only: the sender's key does not rest on it.
    KeyAnswer {
        /// The request.
        id: RequestId,
        /// Whether the share is on its way, durably.
        result: Result<(), Refusal>,
    },
    /// The answer to an identity request or to limits: a sealed [`crate::message::IdentityClaim`] or
    /// [`crate::message::LimitsAnswer`].
    Answer {
        /// The request.
        id: RequestId,
        /// The sealed answer, or why there is none.
        result: Result<Vec<u8>, Refusal>,
    },
}

/// A fault that only a hub in a test network is told to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HubFault {
    /// None.
    #[default]
    None,
    /// Forwards shares that are not those of the sender, under right tags.
    FalseShares,
}

/// The state machine of a hub.
#[derive(Debug)]
pub struct Hub {
    me: NodeId,
    clients: BTreeMap<NodeId, HubClient>,
    /// Clients that are served, by name.
    names: BTreeMap<Name, NodeId>,
    jobs: BTreeMap<Ticket, Job>,
    /// Who sent each message that is in work, and how many each has in work.
    requests: BTreeMap<RequestId, NodeId>,
    working: Fair<NodeId>,
    effects: VecDeque<HubEffect>,
    next_ticket: u64,
    key_bytes_max: u64,
    fault: HubFault,
    counters: HubCounters,
    quotas: Quotas,
    budgets: Budgets,
    room: Room,
    /// What receivers have set, and what of it is being written.
    limits: BTreeMap<NodeId, LimitsRecord>,
    limits_being_written: BTreeMap<NodeId, LimitsRecord>,
    /// Bytes of the down lanes that are shared with each client.
    lanes: BTreeMap<NodeId, u64>,
}

/// What a hub has seen since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HubCounters {
    /// Shares forwarded, one per receiver.
    pub forwarded: u64,
    /// Messages with a right tag that policy refused.
    pub refused: u64,
    /// Messages with a wrong tag.
    pub forged: u64,
    /// Messages that could not be decoded.
    pub malformed: u64,
    /// Every refusal, by reason.
    pub refusals: BTreeMap<Refusal, u64>,
}

#[derive(Debug)]
enum Job {
    HoldKey {
        id: RequestId,
        from: NodeId,
        message: Unverified<KeyRequest>,
    },
    HoldIdentity {
        id: RequestId,
        from: NodeId,
        message: Unverified<IdentityRequest>,
    },
    HoldLimits {
        id: RequestId,
        from: NodeId,
        message: Unverified<LimitsOrder>,
    },
    SpendLimits {
        id: RequestId,
        from: NodeId,
        order: Verified<LimitsOrder>,
        spendings: Vec<Spending>,
    },
    MintLimits {
        id: RequestId,
        from: NodeId,
        order: Verified<LimitsOrder>,
    },
    RecordSpendings {
        spendings: Vec<Spending>,
    },
    CommitLimits {
        id: RequestId,
        limits: Option<LimitsRecord>,
        result: Result<Vec<u8>, Refusal>,
    },
    SpendKey {
        id: RequestId,
        request: Verified<KeyRequest>,
        share: SecretShare,
        /// The accounts that were charged.
        paid: Vec<Account>,
        spendings: Vec<Spending>,
    },
    SpendIdentity {
        id: RequestId,
        from: NodeId,
        request: Verified<IdentityRequest>,
        spendings: Vec<Spending>,
    },
    MintKey {
        id: RequestId,
        request: Verified<KeyRequest>,
        share: SecretShare,
        /// The accounts that were charged.
        paid: Vec<Account>,
    },
    MintIdentity {
        id: RequestId,
        request: Verified<IdentityRequest>,
        known: Option<KnownClient>,
    },
    CommitKey {
        id: RequestId,
        result: Result<u64, Refusal>,
        /// Of the messages: for whom, from whom, how long.
        room: Vec<(NodeId, NodeId, u64)>,
    },
    CommitIdentity {
        id: RequestId,
        result: Result<Vec<u8>, Refusal>,
    },
}

struct SecretShare(Wiped);

impl std::fmt::Debug for SecretShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretShare({} bytes)", self.0.len())
    }
}

impl Hub {
    /// A hub that serves no client yet. `key_bytes_max` is its policy, within
    /// [`crate::params::KEY_BYTES_MAX`].
    pub fn new(me: NodeId, key_bytes_max: u64) -> Self {
        Self {
            me,
            clients: BTreeMap::new(),
            names: BTreeMap::new(),
            jobs: BTreeMap::new(),
            requests: BTreeMap::new(),
            working: Fair::new(JOBS_MAX as u64, SENDERS_PART),
            effects: VecDeque::new(),
            next_ticket: 0,
            key_bytes_max,
            fault: HubFault::None,
            counters: HubCounters::default(),
            quotas: Quotas::default(),
            budgets: Budgets::default(),
            room: Room::new(OutboxLimits::NONE),
            limits: BTreeMap::new(),
            limits_being_written: BTreeMap::new(),
            lanes: BTreeMap::new(),
        }
    }

    /// Sets what each may spend, and how much may wait.
    pub fn set_limits(&mut self, quotas: Quotas, outbox: OutboxLimits) {
        self.quotas = quotas;
        self.room.set_limits(outbox);
    }

    /// Notes how many bytes the down lanes have in all that are shared with a client; a default quota is a part of them.
    pub fn set_lanes(&mut self, client: NodeId, bytes: u64) {
        self.lanes.insert(client, bytes);
    }

    /// Takes up what receivers had set before a restart.
    pub fn set_limits_of_receivers(&mut self, records: impl IntoIterator<Item = LimitsRecord>) {
        let ours = records.into_iter().filter(|record| record.hub == self.me);
        self.limits.extend(ours.map(|record| (record.receiver, record)));
    }

    /// What a receiver has set here, with its version.
    pub fn limits_of(&self, receiver: &NodeId) -> Option<&LimitsRecord> {
        self.limits.get(receiver)
    }

    /// Takes up what an account had spent before a restart; after [`Hub::set_limits`], [`Hub::set_lanes`] and
    /// [`Hub::set_limits_of_receivers`]. Accounts of the node's other role are not its own.
    pub fn restore(&mut self, now: Time, spending: Spending) {
        if spending.account.is_of_hub() {
            let changed = self.budgets.restore(now, spending, self.quota_of(&spending.account));
            self.record_spendings(changed.into_iter().collect());
        }
    }

    /// Has recorded what accounts come to under other quotas.
    fn record_spendings(&mut self, spendings: Vec<Spending>) {
        if !spendings.is_empty() {
            let ticket = self.begin(Job::RecordSpendings { spendings: spendings.clone() });
            self.commit(ticket, Record { spendings, ..Record::default() });
        }
    }

    /// The quota of an account, whoever has set it.
    fn quota_of(&self, account: &Account) -> Option<Quota> {
        match account {
            Account::Pair { sender, receiver } => {
                let of_receiver = self.limits.get(receiver).and_then(|record| record.limits.of(sender));
                match self.quotas.named(sender, receiver) {
                    Some(named) => named,
                    // What the receiver itself allows goes before what serves for want of anybody's word.
                    None if of_receiver.is_some() => None,
                    None => self.quotas.default.of(self.lanes.get(receiver).copied().unwrap_or(0)),
                }
            }
            Account::Limit { receiver, sender } => self.limits.get(receiver)?.limits.of(sender),
            Account::Unnamed { receiver } => self.limits.get(receiver)?.limits.all?.quota(),
            account => self.quotas.of(account),
        }
    }

    /// Notes a message that waits since before a restart.
    pub fn waits(&mut self, receiver: NodeId, sender: NodeId, bytes: u64) {
        self.room.add(receiver, sender, bytes);
    }

    /// What is spent, of accounts that have a quota now.
    pub fn uses(&self, now: Time) -> Vec<Use> {
        self.budgets.uses(now, |account| self.quota_of(account))
    }

    /// Takes a client on, or changes what is known of it.
    pub fn set_client(&mut self, client: HubClient) {
        let (node, name) = (client.identity.node, client.identity.name.clone());
        let before = self.clients.get(&node).map(|before| &before.identity.name);
        if let Some(before) = before
            && self.names.get(before) == Some(&node)
        {
            self.names.remove(before);
        }
        if client.enabled {
            self.names.insert(name, node);
        }
        self.clients.insert(node, client);
    }

    /// Makes the hub misbehave; for test networks only.
    pub fn set_fault(&mut self, fault: HubFault) {
        self.fault = fault;
    }

    /// What it has seen.
    pub fn counters(&self) -> HubCounters {
        self.counters.clone()
    }

    /// Requests in work; 0 where nothing is awaited.
    pub fn under_way(&self) -> usize {
        self.jobs.len()
    }

    /// Takes one input; effects are then waiting.
    pub fn handle(&mut self, now: Time, input: HubInput) {
        match input {
            HubInput::KeyRequest { id, from, bytes } => self.key_request(id, from, bytes),
            HubInput::Question { id, from, bytes } if bytes.first() == Some(&LimitsOrder::KIND) => {
                self.limits_order(id, from, bytes);
            }
            HubInput::Question { id, from, bytes } => self.identity_request(id, from, bytes),
            HubInput::Pad(outcome) => self.pad(now, outcome),
            HubInput::OutboxGone { receiver, sender, bytes } => {
                self.room.give_back(receiver, sender, bytes);
            }
        }
    }

    /// The next effect to execute.
    pub fn poll_effect(&mut self) -> Option<HubEffect> {
        self.effects.pop_front()
    }

    fn pad(&mut self, now: Time, outcome: PadOutcome) {
        match outcome {
            PadOutcome::Held { ticket, result, .. } => match self.jobs.remove(&ticket) {
                Some(Job::HoldKey { id, from, message }) => self.key_held(now, id, from, message, result),
                Some(Job::HoldIdentity { id, from, message }) => {
                    self.identity_held(now, id, from, message, result)
                }
                Some(Job::HoldLimits { id, from, message }) => {
                    self.limits_held(now, id, from, message, result);
                }
                other => self.put_back(ticket, other),
            },
            PadOutcome::Minted { ticket, result } => match self.jobs.remove(&ticket) {
                Some(Job::MintLimits { id, from, order }) => self.limits_minted(id, from, order, result),
                Some(Job::MintKey { id, request, share, paid }) => {
                    self.key_minted(id, &request, &share, &paid, result);
                }
                Some(Job::MintIdentity { id, request, known }) => {
                    self.identity_minted(id, &request, known, result);
                }
                other => self.put_back(ticket, other),
            },
            PadOutcome::Committed { ticket, ok } => match self.jobs.remove(&ticket) {
                Some(Job::SpendKey { id, request, share, paid, spendings }) if ok => {
                    self.budgets.recorded(&spendings);
                    self.mint_key(id, request, share, paid);
                }
                Some(Job::SpendKey { id, request, paid, spendings, .. }) => {
                    self.budgets.not_recorded(&spendings);
                    self.give_back(&request, &paid);
                    self.release(request.range, None);
                    self.answer_key(id, Err(Refusal::Internal));
                }
                Some(Job::SpendIdentity { id, from, request, spendings }) if ok => {
                    self.budgets.recorded(&spendings);
                    self.mint_identity(id, from, request);
                }
                Some(Job::SpendIdentity { id, request, spendings, .. }) => {
                    self.budgets.not_recorded(&spendings);
                    self.release(request.range, None);
                    self.answer_identity(id, Err(Refusal::Internal));
                }
                Some(Job::CommitKey { id, result, room }) => {
                    if !ok {
                        for (receiver, sender, bytes) in room {
                            self.room.give_back(receiver, sender, bytes);
                        }
                    }
                    let result = if ok { result } else { Err(Refusal::Internal) };
                    self.counters.forwarded += result.unwrap_or(0);
                    self.answer_key(id, result.map(|_| ()));
                }
                Some(Job::SpendLimits { id, from, order, spendings }) if ok => {
                    self.budgets.recorded(&spendings);
                    self.mint_limits(id, from, order);
                }
                Some(Job::SpendLimits { id, order, spendings, .. }) => {
                    self.budgets.not_recorded(&spendings);
                    self.release(order.range, None);
                    self.answer_identity(id, Err(Refusal::Internal));
                }
                Some(Job::RecordSpendings { spendings }) => {
                    if ok {
                        self.budgets.recorded(&spendings);
                    } else {
                        self.budgets.not_recorded(&spendings);
                    }
                }
                Some(Job::CommitLimits { id, limits, result }) => {
                    self.limits_committed(now, id, limits, result, ok);
                }
                Some(Job::CommitIdentity { id, result }) => {
                    self.answer_identity(id, if ok { result } else { Err(Refusal::Internal) });
                }
                other => self.put_back(ticket, other),
            },
            PadOutcome::Marks { ticket, .. } | PadOutcome::Skipped { ticket, .. } => {
                self.put_back(ticket, None);
            }
        }
    }

    /// Takes a message in where its author has not too much in work already.
    fn take_in(&mut self, id: RequestId, from: NodeId) -> bool {
        let room = self.working.room(&from) > 0
            || (planted(Fault::PlacesForWhoComesFirst) && self.working.total() < JOBS_MAX as u64);
        if room && self.requests.insert(id, from).is_none() {
            self.working.add(from, 1);
        }
        room
    }

    /// A message has had its answer.
    fn let_out(&mut self, id: RequestId) {
        if let Some(from) = self.requests.remove(&id) {
            self.working.remove(&from, 1);
        }
    }

    fn begin(&mut self, job: Job) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.jobs.insert(ticket, job);
        ticket
    }

    /// An answer that fits no pending job is a fault of the caller; the job, if any, stays pending.
    fn put_back(&mut self, ticket: Ticket, job: Option<Job>) {
        debug_assert!(false, "an outcome for {ticket:?} fits no request");
        if let Some(job) = job {
            self.jobs.insert(ticket, job);
        }
    }

    fn hold(&mut self, ticket: Ticket, from: NodeId, range: PadRange) {
        self.effects.push_back(HubEffect::Pad(PadEffect::Hold {
            ticket,
            from,
            range,
            block: None,
            for_sync: false,
        }));
    }

    fn release(&mut self, range: PadRange, forged_blocks: Option<u64>) {
        self.effects.push_back(HubEffect::Pad(PadEffect::Release { range, forged_blocks }));
    }

    fn commit(&mut self, ticket: Ticket, record: Record) {
        self.effects.push_back(HubEffect::Pad(PadEffect::Commit { ticket, record: Box::new(record) }));
    }

    fn count(&mut self, refusal: Option<Refusal>) {
        if let Some(refusal) = refusal {
            *self.counters.refusals.entry(refusal).or_default() += 1;
        }
    }
}

fn claims(range: PadRange, usage: Usage) -> Record {
    Record { claims: vec![(range, usage)], ..Record::default() }
}
