//! The hub: checks a sender's message, and re-encrypts its share for each receiver (§2.3.2). Also answers
//! identity requests (§2.2).
//!
//! Order of checks, which must not change: decode within limits → the run is held (table known and
//! active, lane right, range inside it, wholly unused) → tag → policy → recover the share → fresh pads for
//! the receivers → the claim and the messages for the receivers are durable, in one record → only then is
//! anything said or sent. A failed tag burns nothing; a failed policy burns the run.
//!
//! Must never: send before the record is durable; look at a share before its tag is checked.

use std::collections::{BTreeMap, VecDeque};

use zeroize::Zeroizing;

use crate::{
    codec::Blob,
    effect::{MintRefusal, Minted, Outgoing, PadEffect, PadOutcome, Record, Ticket, Usage, Want},
    ids::{Name, NodeId, PadRange},
    message::{
        Identity, IdentityClaim, IdentityRequest, KeyInstruction, KeyRequest, KnownClient, Subject,
        Unverified, Verified, seal,
    },
    pad::{PadBytes, TAG_KEY_BYTES},
    planted::{Fault, planted},
    refusal::Refusal,
};

/// Messages that a hub works on at once; each holds at most one message of the longest kind.
pub const JOBS_MAX: usize = 1024;

/// Names a request that awaits its answer; chosen by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A client that the hub serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubClient {
    /// Who it is.
    pub identity: Identity,
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
    /// An identity request came in.
    IdentityRequest {
        /// For the answer.
        id: RequestId,
        /// The peer on whose connection it came.
        from: NodeId,
        /// The sealed message.
        bytes: Vec<u8>,
    },
    /// The pads answered.
    Pad(PadOutcome),
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
    /// The answer to an identity request: a sealed [`IdentityClaim`].
    IdentityAnswer {
        /// The request.
        id: RequestId,
        /// The sealed claim, or why there is none.
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
    jobs: BTreeMap<Ticket, Job>,
    effects: VecDeque<HubEffect>,
    next_ticket: u64,
    key_bytes_max: u64,
    fault: HubFault,
    counters: HubCounters,
}

/// What a hub has seen since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HubCounters {
    /// Shares forwarded, one per receiver.
    pub forwarded: u64,
    /// Messages with a right tag that policy refused.
    pub refused: u64,
    /// Messages with a wrong tag.
    pub forged: u64,
    /// Messages that could not be decoded.
    pub malformed: u64,
}

#[derive(Debug)]
enum Job {
    HoldKey { id: RequestId, from: NodeId, message: Unverified<KeyRequest> },
    HoldIdentity { id: RequestId, from: NodeId, message: Unverified<IdentityRequest> },
    MintKey { id: RequestId, request: Verified<KeyRequest>, share: SecretShare },
    MintIdentity { id: RequestId, request: Verified<IdentityRequest>, known: Option<KnownClient> },
    CommitKey { id: RequestId, result: Result<u64, Refusal> },
    CommitIdentity { id: RequestId, result: Result<Vec<u8>, Refusal> },
}

struct SecretShare(Zeroizing<Vec<u8>>);

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
            jobs: BTreeMap::new(),
            effects: VecDeque::new(),
            next_ticket: 0,
            key_bytes_max,
            fault: HubFault::None,
            counters: HubCounters::default(),
        }
    }

    /// Takes a client on, or changes what is known of it.
    pub fn set_client(&mut self, client: HubClient) {
        self.clients.insert(client.identity.node, client);
    }

    /// Makes the hub misbehave; for test networks only.
    pub fn set_fault(&mut self, fault: HubFault) {
        self.fault = fault;
    }

    /// What it has seen.
    pub fn counters(&self) -> HubCounters {
        self.counters
    }

    /// Requests in work; 0 where nothing is awaited.
    pub fn under_way(&self) -> usize {
        self.jobs.len()
    }

    /// Takes one input; effects are then waiting.
    pub fn handle(&mut self, input: HubInput) {
        match input {
            HubInput::KeyRequest { id, from, bytes } => self.key_request(id, from, bytes),
            HubInput::IdentityRequest { id, from, bytes } => self.identity_request(id, from, bytes),
            HubInput::Pad(outcome) => self.pad(outcome),
        }
    }

    /// The next effect to execute.
    pub fn poll_effect(&mut self) -> Option<HubEffect> {
        self.effects.pop_front()
    }

    fn key_request(&mut self, id: RequestId, from: NodeId, bytes: Vec<u8>) {
        if self.jobs.len() >= JOBS_MAX {
            return self.answer_key(id, Err(Refusal::Busy));
        }
        let Ok(message) = Unverified::<KeyRequest>::decode(bytes) else {
            self.counters.malformed += 1;
            return self.answer_key(id, Err(Refusal::Malformed));
        };
        let range = message.range();
        let ticket = self.begin(Job::HoldKey { id, from, message });
        self.hold(ticket, from, range);
    }

    fn identity_request(&mut self, id: RequestId, from: NodeId, bytes: Vec<u8>) {
        if self.jobs.len() >= JOBS_MAX {
            return self.answer_identity(id, Err(Refusal::Busy));
        }
        let Ok(message) = Unverified::<IdentityRequest>::decode(bytes) else {
            self.counters.malformed += 1;
            return self.answer_identity(id, Err(Refusal::Malformed));
        };
        let range = message.range();
        let ticket = self.begin(Job::HoldIdentity { id, from, message });
        self.hold(ticket, from, range);
    }

    fn pad(&mut self, outcome: PadOutcome) {
        match outcome {
            PadOutcome::Held { ticket, result, .. } => match self.jobs.remove(&ticket) {
                Some(Job::HoldKey { id, from, message }) => self.key_held(id, from, message, result),
                Some(Job::HoldIdentity { id, from, message }) => {
                    self.identity_held(id, from, message, result)
                }
                other => self.put_back(ticket, other),
            },
            PadOutcome::Minted { ticket, result } => match self.jobs.remove(&ticket) {
                Some(Job::MintKey { id, request, share }) => self.key_minted(id, &request, &share, result),
                Some(Job::MintIdentity { id, request, known }) => {
                    self.identity_minted(id, &request, known, result);
                }
                other => self.put_back(ticket, other),
            },
            PadOutcome::Committed { ticket, ok } => match self.jobs.remove(&ticket) {
                Some(Job::CommitKey { id, result }) => {
                    let result = if ok { result } else { Err(Refusal::Internal) };
                    self.counters.forwarded += result.unwrap_or(0);
                    self.answer_key(id, result.map(|_| ()));
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

    fn key_held(
        &mut self,
        id: RequestId,
        from: NodeId,
        message: Unverified<KeyRequest>,
        pad: Result<PadBytes, Refusal>,
    ) {
        let range = message.range();
        let pad = match pad {
            Ok(pad) => pad,
            Err(refusal) => return self.answer_key(id, Err(refusal)),
        };
        let Some((pad, tag_key)) = pad.split() else {
            self.release(range, None);
            return self.answer_key(id, Err(Refusal::Malformed));
        };
        let request = match message.verify(tag_key) {
            Ok(request) => request,
            Err(forged) => {
                self.counters.forged += 1;
                if planted(Fault::ForgedTagBurnsPad) {
                    return self.burn_key(id, range, Refusal::BadTag);
                }
                self.release(range, Some(forged.blocks));
                return self.answer_key(id, Err(Refusal::BadTag));
            }
        };
        if let Err(refusal) = self.admit(from, &request)
            && !planted(Fault::ForwardsAgainstPolicy)
        {
            return self.burn_key(id, range, refusal);
        }
        let share = match &request.share {
            None => pad.into_bytes(),
            Some(ciphertext) => {
                let mut share = Zeroizing::new(ciphertext.0.clone());
                pad.apply(&mut share);
                share
            }
        };
        let bytes = request.agreement.burned_bytes();
        let wants =
            request.agreement.receivers.iter().map(|&peer| Want { peer, bytes, usage: Usage::Key }).collect();
        let ticket = self.begin(Job::MintKey { id, request, share: SecretShare(share) });
        self.effects.push_back(HubEffect::Pad(PadEffect::Mint { ticket, wants }));
    }

    /// Policy, after the tag: the message is genuine, but is it to be served?
    fn admit(&self, from: NodeId, request: &KeyRequest) -> Result<(), Refusal> {
        let agreement = &request.agreement;
        let enabled = |node: &NodeId| self.clients.get(node).is_some_and(|client| client.enabled);
        let position = agreement.position(&self.me).ok_or(Refusal::NotInRoster)?;
        if request.share.is_some() != (position >= agreement.k) {
            return Err(Refusal::NotInRoster);
        }
        if agreement.sender != from || !enabled(&agreement.sender) {
            return Err(Refusal::UnknownSender);
        }
        if !agreement.receivers.iter().all(enabled) {
            return Err(Refusal::UnknownReceiver);
        }
        if u64::from(agreement.key_bytes) > self.key_bytes_max {
            return Err(Refusal::TooLarge);
        }
        Ok(())
    }

    fn key_minted(
        &mut self,
        id: RequestId,
        request: &Verified<KeyRequest>,
        share: &SecretShare,
        minted: Result<Vec<Minted>, MintRefusal>,
    ) {
        let minted = match minted {
            Ok(minted) => minted,
            Err(MintRefusal::Internal) => return self.burn_key(id, request.range, Refusal::Internal),
            Err(MintRefusal::NotSynced { .. }) => {
                return self.burn_key(id, request.range, Refusal::ReceiverAway);
            }
            Err(_) => return self.burn_key(id, request.range, Refusal::PadLow),
        };
        let receivers = &request.agreement.receivers;
        let mut outgoing = Vec::with_capacity(receivers.len());
        for (&receiver, minted) in receivers.iter().zip(minted) {
            let Some(bytes) = self.instruction(request, share, minted) else {
                return self.burn_key(id, request.range, Refusal::Internal);
            };
            outgoing.push(Outgoing { receiver, block: request.agreement.block, bytes });
        }
        if planted(Fault::AnsweredBeforeRecord) {
            self.answer_key(id, Ok(()));
        }
        let result = Ok(outgoing.len() as u64);
        let record = Record { claims: vec![(request.range, Usage::Key)], outgoing, ..Record::default() };
        let ticket = self.begin(Job::CommitKey { id, result });
        self.commit(ticket, record);
    }

    /// The key instruction message for one receiver; `None` only if storage gave a run of a wrong length.
    fn instruction(&self, request: &KeyRequest, share: &SecretShare, minted: Minted) -> Option<Vec<u8>> {
        let (pad, tag_key) = minted.pad.split()?;
        if pad.len() != share.0.len() {
            return None;
        }
        let mut ciphertext = share.0.to_vec();
        if self.fault == HubFault::FalseShares {
            // Each hub lies in its own way: equal errors could cancel out in the exclusive-or.
            let pattern = self.me.as_bytes().iter().cycle();
            ciphertext.iter_mut().zip(pattern).for_each(|(byte, lie)| *byte ^= lie | 1);
        }
        pad.apply(&mut ciphertext);
        let instruction = KeyInstruction {
            range: minted.range,
            agreement: request.agreement.clone(),
            key_tag: request.key_tag,
            share: Blob(ciphertext),
        };
        seal(&instruction, tag_key).ok()
    }

    fn identity_held(
        &mut self,
        id: RequestId,
        from: NodeId,
        message: Unverified<IdentityRequest>,
        pad: Result<PadBytes, Refusal>,
    ) {
        let range = message.range();
        let pad = match pad {
            Ok(pad) => pad,
            Err(refusal) => return self.answer_identity(id, Err(refusal)),
        };
        let Some((_, tag_key)) = pad.split() else {
            self.release(range, None);
            return self.answer_identity(id, Err(Refusal::Malformed));
        };
        let request = match message.verify(tag_key) {
            Ok(request) => request,
            Err(forged) => {
                self.counters.forged += 1;
                self.release(range, Some(forged.blocks));
                return self.answer_identity(id, Err(Refusal::BadTag));
            }
        };
        if !self.clients.get(&from).is_some_and(|client| client.enabled) {
            return self.burn_identity(id, range, Refusal::UnknownSender);
        }
        let known = self
            .find(&request.subject)
            .map(|client| KnownClient { identity: client.identity.clone(), known_as: client.known_as });
        let wants = vec![Want { peer: from, bytes: TAG_KEY_BYTES as u64, usage: Usage::Identity }];
        let ticket = self.begin(Job::MintIdentity { id, request, known });
        self.effects.push_back(HubEffect::Pad(PadEffect::Mint { ticket, wants }));
    }

    fn find(&self, subject: &Subject) -> Option<&HubClient> {
        let named = |name: &Name| self.clients.values().find(|client| client.identity.name == *name);
        let found = match subject {
            Subject::Node(node) => self.clients.get(node),
            Subject::Name(name) => named(name),
        };
        found.filter(|client| client.enabled)
    }

    fn identity_minted(
        &mut self,
        id: RequestId,
        request: &Verified<IdentityRequest>,
        known: Option<KnownClient>,
        minted: Result<Vec<Minted>, MintRefusal>,
    ) {
        let minted = match minted.map(|minted| minted.into_iter().next()) {
            Ok(Some(minted)) => minted,
            Ok(None) | Err(MintRefusal::Internal) => {
                return self.burn_identity(id, request.range, Refusal::Internal);
            }
            Err(_) => return self.burn_identity(id, request.range, Refusal::PadLow),
        };
        let claim = IdentityClaim { range: minted.range, request: request.range, known };
        let sealed = minted.pad.split().and_then(|(_, tag_key)| seal(&claim, tag_key).ok());
        let result = sealed.ok_or(Refusal::Internal);
        let ticket = self.begin(Job::CommitIdentity { id, result });
        self.commit(ticket, claims(request.range, Usage::Identity));
    }

    fn burn_key(&mut self, id: RequestId, range: PadRange, refusal: Refusal) {
        self.counters.refused += 1;
        let ticket = self.begin(Job::CommitKey { id, result: Err(refusal) });
        self.commit(ticket, claims(range, Usage::Key));
    }

    fn burn_identity(&mut self, id: RequestId, range: PadRange, refusal: Refusal) {
        self.counters.refused += 1;
        let ticket = self.begin(Job::CommitIdentity { id, result: Err(refusal) });
        self.commit(ticket, claims(range, Usage::Identity));
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

    fn answer_key(&mut self, id: RequestId, result: Result<(), Refusal>) {
        self.effects.push_back(HubEffect::KeyAnswer { id, result });
    }

    fn answer_identity(&mut self, id: RequestId, result: Result<Vec<u8>, Refusal>) {
        self.effects.push_back(HubEffect::IdentityAnswer { id, result });
    }
}

fn claims(range: PadRange, usage: Usage) -> Record {
    Record { claims: vec![(range, usage)], ..Record::default() }
}
