//! The receiver: checks key instructions, collects shares, reconstructs and validates (§2.3.2 – §2.4).
//!
//! Order of checks, which must not change: decode → acceptable parameters → the run is held (unused) → tag
//! → the sender's identity is established → quota → the claim is durable → decrypt → collect by group. The key is
//! announced only when its record is durable. (Asking the hubs about a sender burns pad, so only a message
//! with a right tag can cause it.)
//!
//! Must never: combine shares of different parameters; let one hub speak twice for a block; announce two
//! keys under one block id, also across restarts (the ledger knows the ended ones).

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque, btree_map::Entry},
    sync::Arc,
};

use crate::{
    collect::{Collection, Outcome, ReconstructJob, Reconstructed, Share},
    effect::{BlockKey, EndedBlock, PadEffect, PadOutcome, Record, SecretKey, Ticket, Usage},
    hub::RequestId,
    ids::{BlockId, NodeId, PadRange},
    message::{Agreement, KeyInstruction, NoticeOutcome, Unverified, Verified},
    pad::{OneTimePad, PadBytes, TAG_KEY_BYTES},
    params::{
        AcceptancePolicy, COLLECTING_BLOCKS_MAX, COLLECTING_BYTES_MAX, INTRODUCED_BYTES_MAX,
        INTRODUCED_PER_HUB_MIN, INTRODUCED_PERIOD, LATE_SHARES, Time, UNKNOWN_SENDER_PAUSE,
        UNKNOWN_SENDERS_PER_HUB_MAX, WAITING_MESSAGES_MAX,
    },
    planted::{Fault, planted},
    quota::{Account, Budgets, Quota, Quotas, Spending, Use},
    refusal::{AbortReason, Refusal},
    tag::Tag,
};

/// What happens to a receiver.
#[derive(Debug)]
pub enum ReceiverInput {
    /// A hub's message came in.
    KeyInstruction {
        /// For the answer.
        id: RequestId,
        /// The hub on whose connection it came.
        from: NodeId,
        /// The sealed message.
        bytes: Vec<u8>,
    },
    /// The identity of a sender is established, or cannot be.
    Sender {
        /// The sender.
        node: NodeId,
        /// Whether enough hubs vouch for it.
        established: bool,
    },
    /// A hub may not be used any more.
    ExcludeHub(NodeId),
    /// A job is done.
    Reconstructed {
        /// The agreement.
        block: BlockId,
        /// Which of its groups.
        group: usize,
        /// What was found.
        result: Reconstructed,
    },
    /// The pads answered.
    Pad(PadOutcome),
    /// A deadline may have passed.
    Tick,
}

/// What a receiver wants done.
#[derive(Debug)]
pub enum ReceiverEffect {
    /// Something with pads or records.
    Pad(PadEffect),
    /// The answer to a hub: whether it may forget the message. Advice only.
    Answer {
        /// The request.
        id: RequestId,
        /// Whether the share is safe here.
        result: Result<(), Refusal>,
    },
    /// The identity of a sender must be established; answer with [`ReceiverInput::Sender`].
    Establish(NodeId),
    /// Work to be done; answer with [`ReceiverInput::Reconstructed`].
    Reconstruct {
        /// The agreement.
        block: BlockId,
        /// Which of its groups.
        group: usize,
        /// The work.
        job: ReconstructJob,
    },
    /// The first share of an agreement has arrived.
    Began(Agreement),
    /// A true share came after the key.
    LateShare {
        /// The agreement.
        block: BlockId,
        /// Shares of its group so far.
        shares: u8,
    },
    /// An agreement has ended, or more is known about one that has. The record is durable.
    Progress {
        /// The parameters.
        agreement: Agreement,
        /// How it ended.
        outcome: NoticeOutcome,
        /// When it began.
        began: Time,
    },
}

/// The state machine of a receiver; many agreements at once.
#[derive(Debug)]
pub struct Receiver {
    me: NodeId,
    policy: AcceptancePolicy,
    senders: BTreeMap<NodeId, Standing>,
    jobs: BTreeMap<Ticket, Job>,
    collections: BTreeMap<BlockId, Collection>,
    deadlines: BTreeSet<(Time, BlockId)>,
    /// Messages between the ledger's word on their block and their share: that word is true for them only as
    /// long as the block's collection stays.
    in_flight: BTreeMap<BlockId, usize>,
    held_bytes: usize,
    effects: VecDeque<ReceiverEffect>,
    next_ticket: u64,
    counters: ReceiverCounters,
    quotas: Quotas,
    budgets: Budgets,
}

/// What a receiver has seen since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReceiverCounters {
    /// Messages with a right tag that policy refused.
    pub refused: u64,
    /// Messages with a wrong tag.
    pub forged: u64,
    /// Messages that could not be decoded.
    pub malformed: u64,
    /// Shares that lay off their polynomial.
    pub false_shares: u64,
    /// Every refusal, by reason.
    pub refusals: BTreeMap<Refusal, u64>,
}

#[derive(Debug)]
enum Standing {
    Established,
    /// The hubs are being asked; these messages wait. The first came from the hub that introduced it.
    Asking(Vec<(RequestId, NodeId, Genuine)>),
    /// The hubs did not vouch for it; not asked again before this time.
    Unknown {
        until: Time,
        introduced_by: Option<NodeId>,
    },
}

#[derive(Debug)]
enum Job {
    Hold {
        id: RequestId,
        from: NodeId,
        message: Unverified<KeyInstruction>,
    },
    Claim {
        id: RequestId,
        from: NodeId,
        outcome: Result<Genuine, (Refusal, Genuine)>,
        spendings: Vec<Spending>,
    },
    Introduce {
        sender: NodeId,
        spendings: Vec<Spending>,
    },
    End {
        block: BlockId,
        announce: NoticeOutcome,
    },
}

/// A message with a right tag, and the pad that decrypts its share.
#[derive(Debug)]
struct Genuine {
    instruction: Verified<KeyInstruction>,
    pad: OneTimePad,
}

impl Receiver {
    /// A receiver with nothing under way. `established` are the senders whose identity is on record.
    pub fn new(me: NodeId, policy: AcceptancePolicy, established: impl IntoIterator<Item = NodeId>) -> Self {
        Self {
            me,
            policy,
            senders: established.into_iter().map(|node| (node, Standing::Established)).collect(),
            jobs: BTreeMap::new(),
            collections: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            held_bytes: 0,
            effects: VecDeque::new(),
            next_ticket: 0,
            counters: ReceiverCounters::default(),
            quotas: Quotas::default(),
            budgets: Budgets::default(),
        }
    }

    /// Sets what each sender may burn of each down lane.
    pub fn set_quotas(&mut self, quotas: Quotas) {
        self.quotas = quotas;
    }

    /// Takes up what an account had spent before a restart; after [`Receiver::set_quotas`].
    pub fn restore(&mut self, now: Time, spending: Spending) {
        let quota = match spending.account {
            Account::Introduction { .. } => self.introductions(),
            account => self.quotas.of(&account),
        };
        self.budgets.restore(now, spending, quota);
    }

    /// What is spent, of accounts that have a quota.
    pub fn uses(&self, now: Time) -> Vec<Use> {
        self.budgets.uses(now)
    }

    /// The policy in force.
    pub fn policy(&self) -> &AcceptancePolicy {
        &self.policy
    }

    /// Accepts a hub: one that a module came from, or that was re-admitted.
    pub fn accept_hub(&mut self, hub: NodeId) {
        self.policy.hubs.insert(hub);
    }

    /// What it has seen.
    pub fn counters(&self) -> ReceiverCounters {
        self.counters.clone()
    }

    /// Messages in work, agreements collected and senders asked about; 0 where nothing is awaited.
    pub fn under_way(&self) -> usize {
        let asking = |standing: &&Standing| matches!(standing, Standing::Asking(_));
        self.jobs.len() + self.collections.len() + self.senders.values().filter(asking).count()
    }

    /// Bytes of shares that are held.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Takes one input; effects are then waiting.
    pub fn handle(&mut self, now: Time, input: ReceiverInput) {
        match input {
            ReceiverInput::KeyInstruction { id, from, bytes } => self.instruction(id, from, bytes),
            ReceiverInput::Sender { node, established } => self.sender_known(now, node, established),
            ReceiverInput::ExcludeHub(hub) => {
                self.policy.hubs.remove(&hub);
            }
            ReceiverInput::Reconstructed { block, group, result } => {
                self.reconstructed(now, block, group, result);
            }
            ReceiverInput::Pad(outcome) => self.pad(now, outcome),
            ReceiverInput::Tick => self.tick(now),
        }
    }

    /// The next effect to execute.
    pub fn poll_effect(&mut self) -> Option<ReceiverEffect> {
        self.effects.pop_front()
    }

    /// When [`ReceiverInput::Tick`] is next due.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    fn instruction(&mut self, id: RequestId, from: NodeId, bytes: Vec<u8>) {
        let Ok(message) = Unverified::<KeyInstruction>::decode(bytes) else {
            self.counters.malformed += 1;
            return self.answer(id, Err(Refusal::Malformed));
        };
        let agreement = &message.unverified().agreement;
        if let Err(refusal) = self.acceptable(from, agreement) {
            self.counters.refused += 1;
            return self.answer(id, Err(refusal));
        }
        if !self.has_room(&agreement.block, message.unverified().share.0.len()) {
            return self.answer(id, Err(Refusal::Busy));
        }
        let (range, block) = (message.range(), agreement.block);
        *self.in_flight.entry(block).or_default() += 1;
        let ticket = self.begin(Job::Hold { id, from, message });
        self.effects.push_back(ReceiverEffect::Pad(PadEffect::Hold {
            ticket,
            from,
            range,
            block: Some(block),
            for_sync: false,
        }));
    }

    /// The checks of §2.3.2 that need nothing but the message. The hub that speaks must be acceptable;
    /// other roster hubs need not be, for their shares would not count. (Were they looked at here, one
    /// hub that is excluded on one side only could stop every agreement.)
    fn acceptable(&self, from: NodeId, agreement: &Agreement) -> Result<(), Refusal> {
        if !agreement.receivers.contains(&self.me) {
            return Err(Refusal::NotForMe);
        }
        if agreement.position(&from).is_none() {
            return Err(Refusal::NotInRoster);
        }
        if agreement.k < self.policy.k_min {
            return Err(Refusal::KTooSmall);
        }
        if !self.policy.hubs.contains(&from) && !planted(Fault::ExcludedHubAccepted) {
            return Err(Refusal::HubNotAccepted);
        }
        if u64::from(agreement.key_bytes) > self.policy.key_bytes_max {
            return Err(Refusal::TooLarge);
        }
        Ok(())
    }

    fn has_room(&self, block: &BlockId, share_bytes: usize) -> bool {
        let known = self.collections.contains_key(block);
        (known || self.collections.len() < COLLECTING_BLOCKS_MAX)
            && self.held_bytes + share_bytes <= COLLECTING_BYTES_MAX
            && self.jobs.len() < 4 * COLLECTING_BLOCKS_MAX
    }

    fn sender_known(&mut self, now: Time, node: NodeId, established: bool) {
        let waiting = match self.senders.remove(&node) {
            Some(Standing::Asking(waiting)) => waiting,
            _ => Vec::new(),
        };
        let introduced_by = waiting.first().map(|(_, hub, _)| *hub);
        if let (true, Some(hub)) = (established, introduced_by) {
            self.budgets.refund(&Account::Introduction { hub }, TAG_KEY_BYTES as u64);
        }
        let until = now + UNKNOWN_SENDER_PAUSE;
        let standing =
            if established { Standing::Established } else { Standing::Unknown { until, introduced_by } };
        self.senders.insert(node, standing);
        for (id, from, genuine) in waiting {
            if established {
                self.pay(now, id, from, genuine);
            } else {
                self.claim(id, from, Err((Refusal::SenderNotEstablished, genuine)), Vec::new());
            }
        }
    }

    fn pad(&mut self, now: Time, outcome: PadOutcome) {
        match outcome {
            PadOutcome::Held { ticket, result, block_ended } => {
                if let Some(Job::Hold { id, from, message }) = self.jobs.remove(&ticket) {
                    self.held(now, id, from, message, result, block_ended);
                }
            }
            PadOutcome::Committed { ticket, ok } => match self.jobs.remove(&ticket) {
                Some(Job::Claim { id, from, outcome, spendings }) => {
                    self.claimed(now, id, from, outcome, spendings, ok);
                }
                Some(Job::Introduce { sender, spendings }) if ok => {
                    self.budgets.recorded(&spendings);
                    self.effects.push_back(ReceiverEffect::Establish(sender));
                }
                Some(Job::Introduce { sender, .. }) => self.sender_known(now, sender, false),
                Some(Job::End { block, announce }) => {
                    let mut outcome =
                        if ok { announce } else { NoticeOutcome::Aborted(AbortReason::Internal) };
                    if let Some(collection) = self.collections.get_mut(&block) {
                        collection.ending = false;
                        // More may have become known while the record was written.
                        match collection.validated() {
                            Some(validated) if ok => outcome = validated,
                            _ => collection.withdraw(),
                        }
                    }
                    self.announce(block, outcome);
                    self.retire_if_done(now, block);
                }
                _ => {}
            },
            PadOutcome::Minted { .. } | PadOutcome::Marks { .. } | PadOutcome::Skipped { .. } => {
                debug_assert!(false, "a receiver asks for no such thing");
            }
        }
    }

    fn held(
        &mut self,
        now: Time,
        id: RequestId,
        from: NodeId,
        message: Unverified<KeyInstruction>,
        pad: Result<PadBytes, Refusal>,
        block_ended: bool,
    ) {
        let (range, block) = (message.range(), message.unverified().agreement.block);
        let pad = match pad {
            Ok(pad) => pad,
            Err(refusal) => return self.dismiss(now, id, block, refusal),
        };
        let Some((pad, tag_key)) = pad.split() else {
            self.release(range, None);
            return self.dismiss(now, id, block, Refusal::Malformed);
        };
        match message.verify(tag_key) {
            Err(forged) => {
                self.counters.forged += 1;
                self.release(range, Some(forged.blocks));
                self.dismiss(now, id, block, Refusal::BadTag);
            }
            Ok(instruction) => {
                let agreement = &instruction.agreement;
                // A block of ours that has ended may still get late shares; any other is a reused id.
                let stale = block_ended
                    && !self.collections.contains_key(&agreement.block)
                    && !planted(Fault::EndedBlockAccepted);
                let sender = agreement.sender;
                let genuine = Genuine { instruction, pad };
                if stale {
                    return self.claim(id, from, Err((Refusal::BlockKnown, genuine)), Vec::new());
                }
                match self.senders.get_mut(&sender) {
                    Some(Standing::Established) => self.pay(now, id, from, genuine),
                    Some(Standing::Asking(waiting)) if waiting.len() < WAITING_MESSAGES_MAX => {
                        waiting.push((id, from, genuine));
                    }
                    Some(Standing::Asking(_)) => {
                        self.release(range, None);
                        self.dismiss(now, id, block, Refusal::Busy);
                    }
                    Some(Standing::Unknown { until, .. }) if now < *until => {
                        self.claim(id, from, Err((Refusal::SenderNotEstablished, genuine)), Vec::new());
                    }
                    Some(Standing::Unknown { .. }) | None => self.introduce(now, id, from, genuine),
                }
            }
        }
    }

    /// Has the hubs asked about a sender, where the hub that names it may still cause that.
    fn introduce(&mut self, now: Time, id: RequestId, hub: NodeId, genuine: Genuine) {
        let paid = if self.may_introduce(now, hub) {
            let account = Account::Introduction { hub };
            self.budgets.pay(now, [(account, self.introductions(), TAG_KEY_BYTES as u64)]).ok()
        } else {
            None
        };
        let Some(spendings) = paid else {
            return self.claim(id, hub, Err((Refusal::SenderNotEstablished, genuine)), Vec::new());
        };
        let sender = genuine.instruction.agreement.sender;
        self.senders.insert(sender, Standing::Asking(vec![(id, hub, genuine)]));
        if spendings.is_empty() {
            return self.effects.push_back(ReceiverEffect::Establish(sender));
        }
        let ticket = self.begin(Job::Introduce { sender, spendings: spendings.clone() });
        self.commit(ticket, Record { spendings, ..Record::default() });
    }

    /// What one hub may make us burn by naming unknown senders.
    fn introductions(&self) -> Option<Quota> {
        let each = INTRODUCED_BYTES_MAX / (self.policy.hubs.len() as u64).max(1);
        Quota::new(each.max(INTRODUCED_PER_HUB_MIN * TAG_KEY_BYTES as u64), INTRODUCED_PERIOD)
    }

    /// Whether a hub may make us ask about one more sender; forgets the unknown ones whose time is over.
    fn may_introduce(&mut self, now: Time, hub: NodeId) -> bool {
        self.senders
            .retain(|_, standing| !matches!(standing, Standing::Unknown { until, .. } if *until <= now));
        let by_hub = |standing: &&Standing| match standing {
            Standing::Established => false,
            Standing::Asking(waiting) => waiting.first().is_some_and(|(_, first, _)| *first == hub),
            Standing::Unknown { introduced_by, .. } => *introduced_by == Some(hub),
        };
        self.senders.values().filter(by_hub).count() < UNKNOWN_SENDERS_PER_HUB_MAX
    }

    /// Charges a message to its sender. What is recorded ahead goes with the claim, so it is durable before the
    /// share counts; the hub has burned the pad in any case.
    fn pay(&mut self, now: Time, id: RequestId, hub: NodeId, genuine: Genuine) {
        let agreement = &genuine.instruction.agreement;
        let account = Account::Lane { sender: agreement.sender, hub };
        match self.budgets.pay(now, [(account, self.quotas.of(&account), agreement.burned_bytes())]) {
            Ok(spendings) => self.claim(id, hub, Ok(genuine), spendings),
            Err(_) => self.claim(id, hub, Err((Refusal::QuotaExceeded, genuine)), Vec::new()),
        }
    }

    /// Uses the run up, for ever; only then is the message answered and its share looked at.
    fn claim(
        &mut self,
        id: RequestId,
        from: NodeId,
        outcome: Result<Genuine, (Refusal, Genuine)>,
        spendings: Vec<Spending>,
    ) {
        let range = match &outcome {
            Ok(genuine) | Err((_, genuine)) => genuine.instruction.range,
        };
        if outcome.is_err() {
            self.counters.refused += 1;
        }
        let ticket = self.begin(Job::Claim { id, from, outcome, spendings: spendings.clone() });
        self.commit(ticket, Record { claims: vec![(range, Usage::Key)], spendings, ..Record::default() });
    }

    /// The run is used up, and its message is no longer on its way: it counts, or it is refused.
    fn claimed(
        &mut self,
        now: Time,
        id: RequestId,
        from: NodeId,
        outcome: Result<Genuine, (Refusal, Genuine)>,
        spendings: Vec<Spending>,
        durable: bool,
    ) {
        let (Ok(genuine) | Err((_, genuine))) = &outcome;
        let block = genuine.instruction.agreement.block;
        if !durable {
            return self.dismiss(now, id, block, Refusal::Internal);
        }
        self.budgets.recorded(&spendings);
        match outcome {
            Ok(genuine) => {
                self.arrived(block);
                self.answer(id, Ok(()));
                self.collect(now, from, genuine);
            }
            Err((refusal @ Refusal::QuotaExceeded, genuine)) => {
                self.arrived(block);
                self.answer(id, Err(refusal));
                self.turn_away(now, from, genuine);
            }
            Err((refusal, _)) => self.dismiss(now, id, block, refusal),
        }
    }

    /// A message has come to nothing.
    fn dismiss(&mut self, now: Time, id: RequestId, block: BlockId, refusal: Refusal) {
        self.arrived(block);
        self.answer(id, Err(refusal));
        self.retire_if_done(now, block);
    }

    /// A message is not on its way any more.
    fn arrived(&mut self, block: BlockId) {
        if let Entry::Occupied(mut messages) = self.in_flight.entry(block) {
            *messages.get_mut() -= 1;
            if *messages.get() == 0 {
                messages.remove();
            }
        }
    }

    /// A share beyond the sender's quota does not count, but its hub has spoken: where too few are left, the
    /// agreement ends at once and the sender hears why.
    fn turn_away(&mut self, now: Time, from: NodeId, genuine: Genuine) {
        let KeyInstruction { agreement, key_tag, .. } = genuine.instruction.into_inner();
        let block = agreement.block;
        if self.open(now, from, agreement, key_tag, None) {
            self.advance(now, block);
        }
        self.retire_if_done(now, block);
    }

    /// Notes a hub's word in the collection of its block, which begins with it where there is none.
    fn open(
        &mut self,
        now: Time,
        hub: NodeId,
        agreement: Agreement,
        key_tag: Tag,
        share: Option<(u8, Share)>,
    ) -> bool {
        let (block, deadline) = (agreement.block, now + self.policy.deadline);
        if !self.collections.contains_key(&block) {
            self.deadlines.insert((deadline, block));
            self.effects.push_back(ReceiverEffect::Began(agreement.clone()));
        }
        let collection = self.collections.entry(block).or_insert_with(|| Collection::new(now, deadline));
        let before = collection.held_bytes();
        let added = collection.add(hub, agreement, key_tag, share);
        self.held_bytes = self.held_bytes + collection.held_bytes() - before;
        if !added {
            self.counters.refused += 1;
        }
        added
    }

    fn collect(&mut self, now: Time, from: NodeId, genuine: Genuine) {
        let KeyInstruction { agreement, key_tag, share, .. } = genuine.instruction.into_inner();
        let Some(position) = agreement.position(&from) else { return };
        let mut share = zeroize::Zeroizing::new(share.0);
        genuine.pad.apply(&mut share);
        let share: Share = Arc::new(share);
        let block = agreement.block;
        let late = self.collections.get(&block).is_some_and(|collection| collection.outcome.is_some());
        let counts = self.open(now, from, agreement, key_tag, Some((position, Arc::clone(&share))));
        if counts && !late {
            self.advance(now, block);
        } else if counts && !planted(Fault::LateShareNotChecked) {
            self.check_late(block, from, position, &share);
        }
        self.retire_if_done(now, block);
    }

    /// A share that came after the verdict: does it lie on the polynomial, and does its group make a
    /// second key possible? Nothing is announced while the verdict's record is being written.
    fn check_late(&mut self, block: BlockId, hub: NodeId, position: u8, share: &Share) {
        let Some(collection) = self.collections.get_mut(&block) else { return };
        let Some(outcome) = &mut collection.outcome else { return };
        let Some((winner, false_positions)) = &mut outcome.validated else { return };
        let group = &collection.groups[*winner];
        let in_winner = group.shares.iter().any(|(at, held)| *at == position && Arc::ptr_eq(&held.0, share));
        let is_true = in_winner && group.check_late(&outcome.basis, position, share).unwrap_or(false);
        if is_true {
            let shares = u8::try_from(group.shares.len()).unwrap_or(u8::MAX);
            self.effects.push_back(ReceiverEffect::LateShare { block, shares });
        } else {
            self.counters.false_shares += 1;
            // The roster in its own words may give it the place of another hub.
            false_positions.extend(group.agreement.position(&hub));
            if !collection.ending
                && let Some(validated) = collection.validated()
            {
                self.announce(block, validated);
            }
        }
    }

    /// Starts work that has become possible, or ends what cannot succeed any more.
    fn advance(&mut self, now: Time, block: BlockId) {
        let Some(collection) = self.collections.get_mut(&block) else { return };
        if let Some((group, job)) = collection.next_job() {
            self.effects.push_back(ReceiverEffect::Reconstruct { block, group, job });
            return;
        }
        let waiting = collection.busy || collection.outcome.is_some();
        if !waiting && (collection.is_complete() || collection.deadline <= now) {
            let reason = collection.abort_reason();
            self.abort(block, reason);
        }
    }

    fn reconstructed(&mut self, now: Time, block: BlockId, at: usize, result: Reconstructed) {
        let Some(collection) = self.collections.get_mut(&block) else { return };
        collection.busy = false;
        let Some(group) = collection.groups.get(at) else { return };
        let received = u8::try_from(group.shares.len()).unwrap_or(u8::MAX);
        match result {
            Reconstructed::Key { key, false_positions, basis } => {
                if collection.has_rival(at) {
                    // Two groups large enough to give a key each: at least k_B hubs contradict the others.
                    return self.abort(block, AbortReason::Ambiguous);
                }
                let agreement = group.agreement.clone();
                self.validate(block, at, agreement, key, false_positions, basis);
            }
            Reconstructed::Ambiguous => self.abort(block, AbortReason::Ambiguous),
            Reconstructed::WorkBound => {
                let k = group.agreement.k;
                self.abort(block, AbortReason::WorkBound { received, k });
            }
            // Shares that came meanwhile may help; `advance` ends it where none can come.
            Reconstructed::Nothing => self.advance(now, block),
        }
    }

    fn validate(
        &mut self,
        block: BlockId,
        at: usize,
        agreement: Agreement,
        key: SecretKey,
        false_positions: Vec<u8>,
        basis: Vec<u8>,
    ) {
        let Some(collection) = self.collections.get_mut(&block) else { return };
        let mut liars: BTreeSet<u8> = false_positions.into_iter().collect();
        // Shares that came while the work was out, and voices in other groups.
        let group = &collection.groups[at];
        for (position, share) in &group.shares {
            let seen = basis.contains(position) || liars.contains(position);
            if !seen && group.check_late(&basis, *position, &share.0) == Some(false) {
                liars.insert(*position);
            }
        }
        for (other, group) in collection.groups.iter().enumerate() {
            if other != at {
                let members = group
                    .shares
                    .iter()
                    .filter_map(|(position, _)| group.agreement.roster.get(usize::from(*position)));
                liars.extend(members.filter_map(|hub| agreement.position(hub)));
            }
        }
        self.counters.false_shares += liars.len() as u64;
        let shares = u8::try_from(group.shares.len()).unwrap_or(u8::MAX);
        let announce = NoticeOutcome::Validated { shares, false_positions: liars.iter().copied().collect() };
        collection.outcome = Some(Outcome { validated: Some((at, liars)), basis });
        let result = Ok(BlockKey::Keep(key));
        self.end(block, EndedBlock { agreement, sent: false, result }, announce);
    }

    fn abort(&mut self, block: BlockId, reason: AbortReason) {
        let Some(collection) = self.collections.get_mut(&block) else { return };
        let Some(agreement) = collection.largest().map(|group| group.agreement.clone()) else { return };
        collection.outcome = Some(Outcome { validated: None, basis: Vec::new() });
        let freed = collection.held_bytes();
        collection.forget_shares();
        self.held_bytes -= freed;
        let ended = EndedBlock { agreement, sent: false, result: Err(reason.clone()) };
        self.end(block, ended, NoticeOutcome::Aborted(reason));
    }

    fn end(&mut self, block: BlockId, ended: EndedBlock, announce: NoticeOutcome) {
        if planted(Fault::AnnouncedBeforeRecord) {
            self.announce(block, announce.clone());
        }
        if let Some(collection) = self.collections.get_mut(&block) {
            collection.ending = true;
        }
        let ticket = self.begin(Job::End { block, announce });
        self.commit(ticket, Record { block: Some(ended), ..Record::default() });
    }

    fn announce(&mut self, block: BlockId, outcome: NoticeOutcome) {
        let Some(collection) = self.collections.get(&block) else { return };
        let winner = collection.outcome.as_ref().and_then(|outcome| outcome.validated.as_ref());
        let group = match winner {
            Some((at, _)) => collection.groups.get(*at),
            None => collection.largest(),
        };
        let Some(agreement) = group.map(|group| group.agreement.clone()) else { return };
        let began = collection.began;
        self.effects.push_back(ReceiverEffect::Progress { agreement, outcome, began });
    }

    fn tick(&mut self, now: Time) {
        if planted(Fault::DeadlineNeverFires) {
            return;
        }
        while let Some(&(deadline, block)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            self.deadlines.remove(&(deadline, block));
            self.advance(now, block);
            self.retire_if_done(now, block);
            if let Some(collection) = self.collections.get_mut(&block) {
                // Work, a record or a message is out; its end comes back, so this is only a second look.
                collection.deadline = now + LATE_SHARES;
                self.deadlines.insert((collection.deadline, block));
            }
        }
    }

    /// Forgets a collection that has ended once nothing more is expected or its time is over; the shares that
    /// come after it find the block in the ledger. A message that was asked about before it was there may not
    /// find the collection gone: it would begin the block anew.
    fn retire_if_done(&mut self, now: Time, block: BlockId) {
        let Some(collection) = self.collections.get_mut(&block) else { return };
        if collection.outcome.is_none() || collection.ending {
            return;
        }
        let done = collection.is_complete() || collection.deadline <= now;
        if done && !self.in_flight.contains_key(&block) {
            self.held_bytes -= collection.held_bytes();
            self.deadlines.remove(&(collection.deadline, block));
            self.collections.remove(&block);
        } else if collection.deadline > now + LATE_SHARES {
            self.deadlines.remove(&(collection.deadline, block));
            collection.deadline = now + LATE_SHARES;
            self.deadlines.insert((collection.deadline, block));
        }
    }

    fn begin(&mut self, job: Job) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.jobs.insert(ticket, job);
        ticket
    }

    fn release(&mut self, range: PadRange, forged_blocks: Option<u64>) {
        self.effects.push_back(ReceiverEffect::Pad(PadEffect::Release { range, forged_blocks }));
    }

    fn commit(&mut self, ticket: Ticket, record: Record) {
        self.effects.push_back(ReceiverEffect::Pad(PadEffect::Commit { ticket, record: Box::new(record) }));
    }

    fn answer(&mut self, id: RequestId, result: Result<(), Refusal>) {
        if let Err(refusal) = result {
            *self.counters.refusals.entry(refusal).or_default() += 1;
        }
        self.effects.push_back(ReceiverEffect::Answer { id, result });
    }
}
