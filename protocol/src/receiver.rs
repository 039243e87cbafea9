//! The receiver: checks key instructions, collects shares, reconstructs and validates (§2.3.2 – §2.4).
//!
//! Order of checks, which must not change: decode → acceptable parameters → the run is held (unused) → tag
//! → the sender's identity is established → quota → the claim is durable → decrypt → collect by group. The key is
//! announced only when its record is durable. (Asking the hubs about a sender burns pad, so only a message
//! with a right tag can cause it.)
//!
//! Must never: combine shares of different parameters; let one hub speak twice for a block; announce two
//! keys under one block id, also across restarts (the ledger knows the ended ones).

mod admission;
mod lost;
mod places;
mod round;
mod searches;
mod verdict;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use self::lost::UnknownRounds;
pub use self::places::CollectLimits;
use self::places::{Arrival, Places};
pub(crate) use self::round::Offered;
use self::searches::Searches;

use crate::{
    collect::{Collection, ReconstructJob, Reconstructed},
    effect::{PadEffect, PadOutcome, Record, Ticket},
    hub::RequestId,
    ids::{BlockId, NodeId, PadRange},
    message::{Agreement, KeyInstruction, NoticeOutcome, Unverified, Verified},
    negotiation::Session,
    pad::OneTimePad,
    params::{AcceptancePolicy, Time, UNKNOWN_SENDER_MEMORY, UNKNOWN_SENDER_PAUSE},
    quota::{Account, Budgets, Quota, Quotas, Spending, Use},
    refusal::Refusal,
    saying::Ways,
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
    /// The identity of a sender is established, or could not be; one that is established stays so.
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
    /// A sender chose among the shares of a round.
    Choice {
        /// The peer that is said to have sent it.
        from: NodeId,
        /// The sealed message.
        bytes: Vec<u8>,
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
    /// Offer the shares of a round to its sender.
    Offer {
        /// The round's agreement.
        block: BlockId,
        /// The sender.
        to: NodeId,
        /// By which ways.
        ways: Ways,
        /// The sealed message.
        bytes: Vec<u8>,
    },
    /// Tell the sender of a round that its key is durable here.
    Confirm {
        /// The round's agreement.
        block: BlockId,
        /// The sender.
        to: NodeId,
        /// By which ways.
        ways: Ways,
        /// The sealed message.
        bytes: Vec<u8>,
    },
    /// As many hubs as must be honest in part brought a round for which there is no negotiation key: its sender should
    /// agree another. To be said through every hub that both use, for it counts at the sender when as many pass it on.
    SessionLost {
        /// The sender.
        sender: NodeId,
        /// The session that it used.
        session: BlockId,
    },
    /// The first share of an agreement has arrived.
    Began(Agreement),
    /// A hub's share of an agreement is here.
    Heard {
        /// The agreement.
        block: BlockId,
        /// The hub.
        hub: NodeId,
    },
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
    searches: Searches,
    deadlines: BTreeSet<(Time, BlockId)>,
    /// What hubs and senders take.
    places: Places,
    /// First offers, and repeated ones.
    offers_due: BTreeSet<(Time, BlockId)>,
    /// Negotiation keys of rounds, and the order in which they came.
    sessions: BTreeMap<BlockId, Session>,
    session_order: VecDeque<(BlockId, NodeId)>,
    unknown_rounds: UnknownRounds,
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
    Asking {
        waiting: Vec<(Arrival, Genuine)>,
        before: InVain,
    },
    /// The hubs did not vouch for it.
    Unknown(Stranger),
}

/// Inquiries about a sender that ended in vain, one soon after the other.
#[derive(Debug, Clone, Default)]
struct InVain {
    number: u32,
    /// The hubs that named it.
    named_by: BTreeSet<NodeId>,
}

/// A sender for which the hubs did not vouch.
#[derive(Debug, Clone)]
struct Stranger {
    /// When that was.
    since: Time,
    /// Not asked about again before this time for a hub that has named it in vain.
    until: Time,
    introduced_by: Option<NodeId>,
    in_vain: InVain,
}

impl Stranger {
    /// Whether it is not asked about when this hub names it. What one hub has named in vain, when nobody knew it yet, another
    /// may name soon after.
    fn rests(&self, now: Time, hub: &NodeId) -> bool {
        now < self.since + UNKNOWN_SENDER_PAUSE || (now < self.until && self.in_vain.named_by.contains(hub))
    }

    /// Whether it is worth remembering. What no hub has named costs no hub anything.
    fn is_recent(&self, now: Time) -> bool {
        let memory = if self.in_vain.named_by.is_empty() { Time::ZERO } else { UNKNOWN_SENDER_MEMORY };
        now < self.until + memory
    }
}

#[derive(Debug)]
enum Job {
    Hold {
        arrival: Arrival,
        message: Unverified<KeyInstruction>,
    },
    Claim {
        arrival: Arrival,
        outcome: Result<Genuine, (Refusal, Genuine)>,
        spendings: Vec<Spending>,
    },
    RecordSpendings {
        spendings: Vec<Spending>,
    },
    Introduce {
        sender: NodeId,
        spendings: Vec<Spending>,
    },
    End {
        block: BlockId,
        announce: NoticeOutcome,
        /// The negotiation key that the agreement gave.
        session: Option<Session>,
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
            searches: Searches::default(),
            deadlines: BTreeSet::new(),
            places: Places::new(CollectLimits::default()),
            offers_due: BTreeSet::new(),
            sessions: BTreeMap::new(),
            session_order: VecDeque::new(),
            unknown_rounds: UnknownRounds::default(),
            held_bytes: 0,
            effects: VecDeque::new(),
            next_ticket: 0,
            counters: ReceiverCounters::default(),
            quotas: Quotas::default(),
            budgets: Budgets::default(),
        }
    }

    /// Sets how much it works on at once; before anything has come.
    pub fn set_limits(&mut self, limits: CollectLimits) {
        self.places = Places::new(limits);
    }

    /// Sets what each sender may burn of each down lane.
    pub fn set_quotas(&mut self, quotas: Quotas) {
        self.quotas = quotas;
    }

    /// Takes up what an account had spent before a restart; after [`Receiver::set_quotas`]. Accounts of the node's
    /// other role are not its own.
    pub fn restore(&mut self, now: Time, spending: Spending) {
        if spending.account.is_of_hub() {
            return;
        }
        let quota = self.quota_of(&spending.account);
        if let Some(changed) = self.budgets.restore(now, spending, quota) {
            let spendings = vec![changed];
            let ticket = self.begin(Job::RecordSpendings { spendings: spendings.clone() });
            self.commit(ticket, Record { spendings, ..Record::default() });
        }
    }

    fn quota_of(&self, account: &Account) -> Option<Quota> {
        match account {
            Account::Introduction { .. } => self.introductions(),
            account => self.quotas.of(account),
        }
    }

    /// What is spent, of accounts that have a quota now.
    pub fn uses(&self, now: Time) -> Vec<Use> {
        self.budgets.uses(now, |account| self.quota_of(account))
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

    /// Whether a sender's identity is established here.
    pub fn knows(&self, sender: &NodeId) -> bool {
        matches!(self.senders.get(sender), Some(Standing::Established))
    }

    /// Messages with a wrong tag so far.
    pub fn forged(&self) -> u64 {
        self.counters.forged
    }

    /// Messages in work, agreements collected and senders asked about; 0 where nothing is awaited.
    pub fn under_way(&self) -> usize {
        let asking = |standing: &&Standing| matches!(standing, Standing::Asking { .. });
        self.jobs.len() + self.collections.len() + self.senders.values().filter(asking).count()
    }

    /// Bytes of shares that are held.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Bytes of messages and shares for which room is taken; 0 where nothing is awaited.
    pub fn taken_bytes(&self) -> u64 {
        self.places.bytes()
    }

    /// Agreements that are collected and not over.
    pub fn collected(&self) -> u64 {
        self.places.collected()
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
            ReceiverInput::Choice { from, bytes } => self.chosen(now, from, bytes),
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
        [self.deadlines.first(), self.offers_due.first()].into_iter().flatten().map(|(due, _)| *due).min()
    }

    fn pad(&mut self, now: Time, outcome: PadOutcome) {
        match outcome {
            PadOutcome::Held { ticket, result, block_ended } => {
                if let Some(Job::Hold { arrival, message }) = self.jobs.remove(&ticket) {
                    self.held(now, arrival, message, result, block_ended);
                }
            }
            PadOutcome::Committed { ticket, ok } => match self.jobs.remove(&ticket) {
                Some(Job::Claim { arrival, outcome, spendings }) => {
                    self.claimed(now, arrival, outcome, spendings, ok);
                }
                Some(Job::RecordSpendings { spendings }) if ok => self.budgets.recorded(&spendings),
                Some(Job::RecordSpendings { spendings }) => self.budgets.not_recorded(&spendings),
                Some(Job::Introduce { sender, spendings }) if ok => {
                    self.budgets.recorded(&spendings);
                    self.effects.push_back(ReceiverEffect::Establish(sender));
                }
                Some(Job::Introduce { sender, spendings }) => {
                    self.budgets.not_recorded(&spendings);
                    self.sender_known(now, sender, false);
                }
                Some(Job::End { block, announce, session }) => {
                    if let Some(session) = session.filter(|_| ok) {
                        self.begin_session(session);
                    }
                    self.ended(now, block, announce, ok);
                }
                _ => {}
            },
            PadOutcome::Minted { .. } | PadOutcome::Marks { .. } | PadOutcome::Skipped { .. } => {
                debug_assert!(false, "a receiver asks for no such thing");
            }
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
