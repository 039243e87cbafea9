//! Peer identity establishment (§2.2): the client asks every hub who another client is, under one-time
//! tags, and accepts what enough of them claim alike.
//!
//! Accepted is the identity that at least max(k_B, a majority of the hubs that know the client) claim
//! alike. A hub that does not know the client abstains. Gossip has no voice here.
//!
//! A claim counts only under the client's own signature ([`crate::enrolment`]). A hub that claims what the client has
//! not signed is excluded, durably: no act of the client explains that. Claims that are signed and differ are
//! the client's doing, who enrolled with one hub otherwise than with another, and exclude nobody: a hub whose claim is
//! not the accepted one does not serve that client, and the operator is told.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use crate::{
    effect::{EstablishedIdentity, MintRefusal, PadEffect, PadOutcome, Record, Ticket, Usage, Want},
    ids::{Lane, NodeId, PadRange},
    message::{Identity, IdentityClaim, IdentityRequest, KnownClient, Subject, Unverified, seal},
    pad::TAG_KEY_BYTES,
    params::Time,
    planted::{Fault, planted},
};

/// Inquiries under way at once.
pub const INQUIRIES_MAX: usize = 256;

/// How long hubs that have not answered are waited for once they cannot change what is decided: each that is in time serves
/// the client as well.
const STRAGGLERS: Duration = Duration::from_secs(1);

/// What happens to the desk.
#[derive(Debug)]
pub enum IdentityInput {
    /// Somebody must know who this is. `hubs` are those that can be asked now.
    Establish {
        /// Who is meant.
        subject: Subject,
        /// Hubs to ask: reachable, accepted by policy, not excluded.
        hubs: Vec<NodeId>,
        /// When to decide with the claims that there are.
        deadline: Time,
    },
    /// Somebody's identity is established; these hubs have made no claim about it yet. What they say decides
    /// nothing: a hub that claims the same is one more that serves this client.
    Widen {
        /// What is established, with the hubs that claimed it.
        known: EstablishedIdentity,
        /// Hubs to ask: as for [`IdentityInput::Establish`], and none of those that claimed it.
        hubs: Vec<NodeId>,
        /// When to be content with the claims that there are.
        deadline: Time,
    },
    /// A hub answered with a sealed claim, or did not answer (`None`).
    Answer {
        /// The inquiry.
        inquiry: InquiryId,
        /// The hub.
        hub: NodeId,
        /// Its sealed claim.
        bytes: Option<Vec<u8>>,
    },
    /// The pads answered.
    Pad(PadOutcome),
    /// A deadline may have passed.
    Tick,
}

/// Names an inquiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InquiryId(pub u64);

/// What the desk wants done.
#[derive(Debug)]
pub enum IdentityEffect {
    /// Something with pads or records.
    Pad(PadEffect),
    /// Send a sealed identity request to a hub.
    Ask {
        /// For the answer.
        inquiry: InquiryId,
        /// The hub.
        hub: NodeId,
        /// The message.
        bytes: Vec<u8>,
    },
    /// What the hubs that were asked have said, before it is decided what follows: for the operator.
    Heard {
        /// Who was asked about.
        subject: Subject,
        /// Each hub's word.
        words: Vec<(NodeId, HubWord)>,
    },
    /// It is decided; where it is an identity, the record is durable.
    Decided {
        /// Who was meant.
        subject: Subject,
        /// Who it is, or why that is not known.
        result: Result<EstablishedIdentity, IdentityFailure>,
    },
    /// More hubs claim an identity that was established before; the record is durable.
    Widened(EstablishedIdentity),
    /// A hub claims otherwise than what is established. It does not serve this client, and that is all:
    /// who enrols with one hub under another name than with the rest must not have it excluded by everybody.
    Contradicted {
        /// What is established.
        established: Identity,
        /// The hub.
        hub: NodeId,
        /// What it claims, and who that is has signed.
        claim: Identity,
    },
    /// A hub claimed of a client what that client has not signed; the exclusion is durable.
    Excluded {
        /// The hub.
        hub: NodeId,
        /// Why, for the operator.
        reason: String,
    },
}

/// What a hub says about somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubWord {
    /// It did not answer, or not under a right tag.
    Silent,
    /// It does not know the client.
    Unknown,
    /// It claims this, and who it is about has signed it.
    Claim(Identity),
    /// It claims this, and who it is about has not signed it.
    Unsigned(Identity),
}

/// Why an identity was not established.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityFailure {
    /// Too few hubs claim the same.
    #[error("{alike} hubs claim the same, {needed} are needed ({asked} asked, {answered} answered)")]
    TooFewAlike {
        /// The largest number that claim the same.
        alike: usize,
        /// How many must.
        needed: usize,
        /// Hubs that answered.
        answered: usize,
        /// Hubs that were asked.
        asked: usize,
    },
    /// No hub that answered knows the client.
    #[error("none of the {answered} hubs that answered knows that client")]
    Unknown {
        /// Hubs that answered.
        answered: usize,
    },
    /// Too many inquiries are under way.
    #[error("too many inquiries are under way")]
    Busy,
    /// The store failed.
    #[error("the node cannot record anything at the moment")]
    Internal,
}

/// What follows from the claims about somebody.
#[derive(Debug)]
struct Decision {
    established: EstablishedIdentity,
    /// Hubs that claim otherwise, and what.
    contradicting: Vec<(NodeId, Identity)>,
    /// None, unless a mistake is planted.
    excluded: Vec<(NodeId, String)>,
}

/// The state machine that establishes identities.
#[derive(Debug)]
pub struct IdentityDesk {
    k_min: usize,
    inquiries: BTreeMap<InquiryId, Inquiry>,
    jobs: BTreeMap<Ticket, Job>,
    effects: VecDeque<IdentityEffect>,
    next: u64,
}

#[derive(Debug)]
struct Inquiry {
    subject: Subject,
    /// What is established already, where more hubs are asked about it.
    known: Option<EstablishedIdentity>,
    asked: BTreeMap<NodeId, Option<PadRange>>,
    silent: BTreeSet<NodeId>,
    claims: BTreeMap<NodeId, Option<KnownClient>>,
    /// What hubs claimed of clients that had not signed it.
    unsigned: BTreeMap<NodeId, Identity>,
    deadline: Time,
}

#[derive(Debug)]
enum Job {
    Mint { inquiry: InquiryId, hub: NodeId },
    Hold { inquiry: InquiryId, hub: NodeId, message: Unverified<IdentityClaim> },
    Claim { inquiry: InquiryId, hub: NodeId, known: Option<KnownClient> },
    ClaimUnsigned { inquiry: InquiryId, hub: NodeId, identity: Identity, reason: String },
    Decide { subject: Subject, decision: Decision },
    Widen { established: EstablishedIdentity },
}

impl IdentityDesk {
    /// A desk that accepts what at least `k_min` hubs (the paper's k_B) and a majority claim.
    pub fn new(k_min: u8) -> Self {
        Self {
            k_min: usize::from(k_min),
            inquiries: BTreeMap::new(),
            jobs: BTreeMap::new(),
            effects: VecDeque::new(),
            next: 0,
        }
    }

    /// Inquiries and requests in work; 0 where nothing is awaited.
    pub fn under_way(&self) -> usize {
        self.inquiries.len() + self.jobs.len()
    }

    /// Takes one input; effects are then waiting.
    pub fn handle(&mut self, now: Time, input: IdentityInput) {
        match input {
            IdentityInput::Establish { subject, hubs, deadline } => self.establish(subject, hubs, deadline),
            IdentityInput::Widen { known, hubs, deadline } => {
                let subject = Subject::Node(known.identity.node);
                let asking = |inquiry: &Inquiry| inquiry.known.is_some() && inquiry.subject == subject;
                // What is known must not be older than a record that is being written: it would be undone.
                let writing = |job: &Job| matches!(job, Job::Widen { established } if established.identity.node == known.identity.node);
                let open = self.inquiries.values().any(asking) || self.jobs.values().any(writing);
                if self.inquiries.len() < INQUIRIES_MAX && !open {
                    self.ask(subject, Some(known), hubs, deadline);
                }
            }
            IdentityInput::Answer { inquiry, hub, bytes } => self.answered(inquiry, hub, bytes),
            IdentityInput::Pad(outcome) => self.pad(now, outcome),
            IdentityInput::Tick => {
                let due: Vec<_> =
                    self.inquiries.iter().filter(|(_, i)| i.deadline <= now).map(|(&id, _)| id).collect();
                for id in due {
                    if let Some(inquiry) = self.inquiries.get_mut(&id) {
                        inquiry.silent.clear();
                    }
                    self.decide(id);
                }
            }
        }
    }

    /// The next effect to execute.
    pub fn poll_effect(&mut self) -> Option<IdentityEffect> {
        self.effects.pop_front()
    }

    /// When [`IdentityInput::Tick`] is next due.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.inquiries.values().map(|inquiry| inquiry.deadline).min()
    }

    fn establish(&mut self, subject: Subject, hubs: Vec<NodeId>, deadline: Time) {
        let deciding = |job: &Job| matches!(job, Job::Decide { subject: open, .. } if *open == subject);
        let asked =
            self.inquiries.values().any(|inquiry| inquiry.known.is_none() && inquiry.subject == subject);
        if asked || self.jobs.values().any(deciding) {
            return; // the decision that is coming will serve both
        }
        if self.inquiries.len() >= INQUIRIES_MAX {
            let result = Err(IdentityFailure::Busy);
            return self.effects.push_back(IdentityEffect::Decided { subject, result });
        }
        self.ask(subject, None, hubs, deadline);
    }

    fn ask(
        &mut self,
        subject: Subject,
        known: Option<EstablishedIdentity>,
        hubs: Vec<NodeId>,
        deadline: Time,
    ) {
        let id = InquiryId(self.number());
        // What a hub says of itself does not count, so it is not asked.
        let hubs: Vec<NodeId> = hubs.into_iter().filter(|hub| subject != Subject::Node(*hub)).collect();
        let asked: BTreeMap<_, _> = hubs.iter().map(|&hub| (hub, None)).collect();
        let silent = asked.keys().copied().collect();
        let (claims, unsigned) = (BTreeMap::new(), BTreeMap::new());
        self.inquiries.insert(id, Inquiry { subject, known, asked, silent, claims, unsigned, deadline });
        for hub in hubs {
            // One by one: a hub whose pad is used up must not keep the others from being asked.
            let wants =
                vec![Want { peer: hub, lane: Lane::Up, bytes: TAG_KEY_BYTES as u64, usage: Usage::Identity }];
            let ticket = self.begin(Job::Mint { inquiry: id, hub });
            self.effects.push_back(IdentityEffect::Pad(PadEffect::Mint { ticket, wants }));
        }
        self.decide(id);
    }

    fn answered(&mut self, inquiry: InquiryId, hub: NodeId, bytes: Option<Vec<u8>>) {
        let Some(open) = self.inquiries.get(&inquiry) else { return };
        if !open.silent.contains(&hub) {
            return;
        }
        let asked = open.asked.get(&hub).copied().flatten();
        let message = bytes.and_then(|bytes| Unverified::<IdentityClaim>::decode(bytes).ok());
        match message.filter(|message| Some(message.unverified().request) == asked) {
            None => self.give_up_on(inquiry, hub),
            Some(message) => {
                let range = message.range();
                let ticket = self.begin(Job::Hold { inquiry, hub, message });
                self.pad_effect(PadEffect::Hold { ticket, from: hub, range, block: None, for_sync: false });
            }
        }
    }

    fn pad(&mut self, now: Time, outcome: PadOutcome) {
        match outcome {
            PadOutcome::Minted { ticket, result } => {
                let Some(Job::Mint { inquiry, hub }) = self.jobs.remove(&ticket) else { return };
                let minted = result.and_then(|runs| runs.into_iter().next().ok_or(MintRefusal::Internal));
                let Ok(run) = minted else { return self.give_up_on(inquiry, hub) };
                let Some(open) = self.inquiries.get_mut(&inquiry) else { return };
                let request = IdentityRequest { range: run.range, subject: open.subject.clone() };
                let sealed = run.pad.split().and_then(|(_, tag_key)| seal(&request, tag_key).ok());
                let Some(bytes) = sealed else { return self.give_up_on(inquiry, hub) };
                open.asked.insert(hub, Some(run.range));
                self.effects.push_back(IdentityEffect::Ask { inquiry, hub, bytes });
            }
            PadOutcome::Held { ticket, result, .. } => {
                let Some(Job::Hold { inquiry, hub, message }) = self.jobs.remove(&ticket) else { return };
                let range = message.range();
                let Ok(pad) = result else { return self.give_up_on(inquiry, hub) };
                let Some((_, tag_key)) = pad.split() else {
                    self.pad_effect(PadEffect::Release { range, forged_blocks: None });
                    return self.give_up_on(inquiry, hub);
                };
                match message.verify(tag_key) {
                    Err(forged) => {
                        let forged_blocks = Some(forged.blocks);
                        self.pad_effect(PadEffect::Release { range, forged_blocks });
                        self.give_up_on(inquiry, hub);
                    }
                    Ok(claim) => {
                        let known = claim.into_inner().known;
                        let claims = vec![(range, Usage::Identity)];
                        self.claimed(inquiry, hub, known, Record { claims, ..Record::default() });
                    }
                }
            }
            PadOutcome::Committed { ticket, ok } => match self.jobs.remove(&ticket) {
                Some(Job::Claim { inquiry, hub, known }) => {
                    if !ok {
                        return self.give_up_on(inquiry, hub);
                    }
                    if let Some(open) = self.inquiries.get_mut(&inquiry) {
                        // A hub does not serve itself, so it has nothing to say of itself.
                        let counts = |known: &KnownClient| {
                            open.is_about(&known.identity) && known.identity.node != hub
                        };
                        let fits = known.as_ref().is_none_or(counts);
                        open.silent.remove(&hub);
                        // An answer about somebody else, or about itself, is no claim, but it is an answer.
                        open.claims.insert(hub, known.filter(|_| fits));
                        if open.is_certain(self.k_min) {
                            open.deadline = open.deadline.min(now + STRAGGLERS);
                        }
                        self.decide(inquiry);
                    }
                }
                Some(Job::ClaimUnsigned { inquiry, hub, identity, reason }) => {
                    if ok {
                        self.effects.push_back(IdentityEffect::Excluded { hub, reason });
                        if let Some(open) = self.inquiries.get_mut(&inquiry) {
                            open.unsigned.insert(hub, identity);
                        }
                    }
                    self.give_up_on(inquiry, hub);
                }
                Some(Job::Widen { established }) if ok => {
                    self.effects.push_back(IdentityEffect::Widened(established));
                }
                Some(Job::Decide { subject, decision }) => self.decided(subject, decision, ok),
                _ => {}
            },
            PadOutcome::Marks { .. } | PadOutcome::Skipped { .. } => {
                debug_assert!(false, "the desk asks for no such thing");
            }
        }
    }

    /// A hub has answered under its tag: what it says is recorded, with its exclusion where it says what the client
    /// has not signed.
    fn claimed(&mut self, inquiry: InquiryId, hub: NodeId, known: Option<KnownClient>, record: Record) {
        let holds = |known: &KnownClient| {
            known.signature.holds(&known.identity) || planted(Fault::UnsignedClaimCounts)
        };
        match known {
            Some(known) if !holds(&known) => {
                let identity = known.identity;
                let who = format!("{} ({})", identity.name, identity.node.short());
                let reason = format!("it claims of {who} what that client has not signed");
                let exclusions = vec![(hub, reason.clone())];
                let ticket = self.begin(Job::ClaimUnsigned { inquiry, hub, identity, reason });
                self.commit(ticket, Record { exclusions, ..record });
            }
            known => {
                let ticket = self.begin(Job::Claim { inquiry, hub, known });
                self.commit(ticket, record);
            }
        }
    }

    /// The record of a decision is durable, or cannot be.
    fn decided(&mut self, subject: Subject, decision: Decision, durable: bool) {
        let Decision { established, contradicting, excluded } = decision;
        if !durable {
            let result = Err(IdentityFailure::Internal);
            return self.effects.push_back(IdentityEffect::Decided { subject, result });
        }
        for (hub, reason) in excluded {
            self.effects.push_back(IdentityEffect::Excluded { hub, reason });
        }
        for (hub, claim) in contradicting {
            let established = established.identity.clone();
            self.effects.push_back(IdentityEffect::Contradicted { established, hub, claim });
        }
        self.effects.push_back(IdentityEffect::Decided { subject, result: Ok(established) });
    }

    fn give_up_on(&mut self, inquiry: InquiryId, hub: NodeId) {
        if let Some(open) = self.inquiries.get_mut(&inquiry) {
            open.silent.remove(&hub);
            self.decide(inquiry);
        }
    }

    /// Decides once every hub has answered, been given up on, or been waited for long enough.
    fn decide(&mut self, id: InquiryId) {
        if !self.inquiries.get(&id).is_some_and(|inquiry| inquiry.silent.is_empty()) {
            return;
        }
        let Some(mut inquiry) = self.inquiries.remove(&id) else { return };
        let (subject, words) = (inquiry.subject.clone(), inquiry.words());
        self.effects.push_back(IdentityEffect::Heard { subject, words });
        if let Some(known) = inquiry.known.take() {
            return self.widen(known, inquiry);
        }
        match inquiry.consensus(self.k_min) {
            Err(failure) => {
                let subject = inquiry.subject;
                self.effects.push_back(IdentityEffect::Decided { subject, result: Err(failure) });
            }
            Ok(decision) => {
                let record = Record {
                    identity: Some(decision.established.clone()),
                    exclusions: decision.excluded.clone(),
                    ..Record::default()
                };
                let subject = inquiry.subject;
                let ticket = self.begin(Job::Decide { subject, decision });
                self.commit(ticket, record);
            }
        }
    }

    /// Adds the hubs that claim what is established.
    fn widen(&mut self, mut established: EstablishedIdentity, inquiry: Inquiry) {
        let before = established.known_as.len();
        for (hub, claim) in inquiry.claims {
            match claim {
                Some(claim) if claim.identity == established.identity => {
                    established.known_as.push((hub, claim.known_as));
                }
                Some(claim) => {
                    let established = established.identity.clone();
                    let claim = claim.identity;
                    self.effects.push_back(IdentityEffect::Contradicted { established, hub, claim });
                }
                None => {}
            }
        }
        if established.known_as.len() > before {
            let record = Record { identity: Some(established.clone()), ..Record::default() };
            let ticket = self.begin(Job::Widen { established });
            self.commit(ticket, record);
        }
    }

    fn begin(&mut self, job: Job) -> Ticket {
        let ticket = Ticket(self.number());
        self.jobs.insert(ticket, job);
        ticket
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn pad_effect(&mut self, effect: PadEffect) {
        self.effects.push_back(IdentityEffect::Pad(effect));
    }

    fn commit(&mut self, ticket: Ticket, record: Record) {
        self.pad_effect(PadEffect::Commit { ticket, record: Box::new(record) });
    }
}

impl Inquiry {
    fn is_about(&self, identity: &Identity) -> bool {
        match &self.subject {
            Subject::Node(node) => identity.node == *node,
            Subject::Name(name) => identity.name == *name,
        }
    }

    fn words(&self) -> Vec<(NodeId, HubWord)> {
        let word = |hub: &NodeId| match (self.claims.get(hub), self.unsigned.get(hub)) {
            (_, Some(claim)) => HubWord::Unsigned(claim.clone()),
            (None, None) => HubWord::Silent,
            (Some(None), None) => HubWord::Unknown,
            (Some(Some(claim)), None) => HubWord::Claim(claim.identity.clone()),
        };
        self.asked.keys().map(|hub| (*hub, word(hub))).collect()
    }

    /// Whether no hub that has not answered can change who is accepted.
    fn is_certain(&self, k_min: usize) -> bool {
        let claims = || self.claims.values().flatten();
        let alike = |of: &Identity| claims().filter(|claim| claim.identity == *of).count();
        let most = claims().map(|claim| alike(&claim.identity)).max().unwrap_or(0);
        // Those that do not know the client, or cannot answer, have no part in the majority.
        let part = claims().count() + self.silent.len();
        self.known.is_none() && most >= k_min.max(part / 2 + 1)
    }

    /// What is accepted, and which hubs claim otherwise. All claims here are signed by whom they are about.
    fn consensus(&self, k_min: usize) -> Result<Decision, IdentityFailure> {
        let claims: Vec<_> =
            self.claims.iter().filter_map(|(hub, claim)| claim.as_ref().map(|claim| (*hub, claim))).collect();
        let answered = self.claims.len();
        let mut tally: BTreeMap<&Identity, usize> = BTreeMap::new();
        for (_, claim) in &claims {
            *tally.entry(&claim.identity).or_default() += 1;
        }
        let Some((accepted, alike)) = tally.into_iter().max_by_key(|(_, count)| *count) else {
            return Err(IdentityFailure::Unknown { answered });
        };
        let k_min = if planted(Fault::IdentityOfFewerThanKMin) { 1 } else { k_min };
        let needed = k_min.max(claims.len() / 2 + 1);
        if alike < needed {
            let asked = self.asked.len();
            return Err(IdentityFailure::TooFewAlike { alike, needed, answered, asked });
        }
        let (agreeing, conflicting): (Vec<_>, Vec<_>) =
            claims.iter().partition(|(_, claim)| claim.identity == *accepted);
        let known_as = agreeing.iter().map(|(hub, claim)| (*hub, claim.known_as)).collect();
        let contradicting: Vec<_> =
            conflicting.iter().map(|(hub, claim)| (*hub, claim.identity.clone())).collect();
        let excluded = if planted(Fault::ConflictExcludes) {
            contradicting.iter().map(|(hub, _)| (*hub, "it contradicts others".to_owned())).collect()
        } else {
            Vec::new()
        };
        let established = EstablishedIdentity { identity: accepted.clone(), known_as };
        Ok(Decision { established, contradicting, excluded })
    }
}

#[cfg(test)]
mod tests;
