//! Limits that a receiver sets: what senders may have burned of its pads at a hub (§4.1).
//!
//! A receiver tells each of its hubs, under a tag, how much a sender that it names, any other, and all the others
//! together may make it burn in a time. A hub applies that before it burns a pad of the receiver. The order of several
//! tellings is that of a version that only grows: the hub keeps the highest, and says under a tag which it has on
//! record. A hub that was put back may have forgotten some, and comparing marks need not show that. So after each
//! comparison it is told again, under a higher version.
//!
//! Must never: take a limit to be in force at a hub that has not said so under a tag; let a hub's false word cost
//! more than a few tag keys in an hour.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    effect::{PadEffect, PadOutcome, Record, Ticket, Usage, Want},
    ids::{Lane, NodeId, PadRange},
    message::{LimitsAnswer, LimitsOrder, Unverified, seal},
    pad::TAG_KEY_BYTES,
    params::Time,
    planted::{Fault, planted},
    quota::Quota,
};

/// Senders that a receiver may name to a hub: a record of the ledger has room for so many.
pub const LIMITS_NAMED_MAX: usize = 64;

/// Before limits are told again that were not confirmed, at first and at last: each time costs a tag key of either lane.
const PAUSE_MIN: Duration = Duration::from_secs(5);
/// See [`PAUSE_MIN`].
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// How long an answer is awaited.
const PATIENCE: Duration = Duration::from_secs(30);

/// So many bytes in so many seconds, as it stands in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Bytes.
    pub bytes: u64,
    /// Seconds, a year at most.
    pub per_s: u32,
}

impl Limit {
    /// As a quota; `None` where it makes no sense.
    pub fn quota(&self) -> Option<Quota> {
        Quota::new(self.bytes, Duration::from_secs(u64::from(self.per_s)))
    }
}

impl From<Quota> for Limit {
    fn from(quota: Quota) -> Self {
        Self { bytes: quota.bytes(), per_s: u32::try_from(quota.per().as_secs()).unwrap_or(u32::MAX) }
    }
}

/// What senders may have burned of a receiver's down lanes at one hub.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// By sender, in order of their ids.
    pub named: Vec<(NodeId, Limit)>,
    /// Each sender that is not named.
    pub each: Option<Limit>,
    /// All senders that are not named, together.
    pub all: Option<Limit>,
}

impl Limits {
    /// Whether they limit nobody.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty() && self.each.is_none() && self.all.is_none()
    }

    /// Whether the values make sense: few enough, in order, nobody twice.
    pub fn is_well_formed(&self) -> bool {
        let rising = |pair: &[(NodeId, Limit)]| pair[0].0 < pair[1].0;
        let makes_sense = |limit: &Limit| limit.quota().is_some();
        self.named.len() <= LIMITS_NAMED_MAX
            && self.named.windows(2).all(rising)
            && self.named.iter().map(|(_, limit)| limit).all(makes_sense)
            && self.each.iter().chain(&self.all).all(makes_sense)
    }

    /// Whether a sender is named.
    pub fn names(&self, sender: &NodeId) -> bool {
        self.named.binary_search_by_key(sender, |(named, _)| *named).is_ok()
    }

    /// What one sender may have burned.
    pub fn of(&self, sender: &NodeId) -> Option<Quota> {
        let named = self.named.binary_search_by_key(sender, |(named, _)| *named);
        let limit = named.ok().map(|at| self.named[at].1).or(self.each);
        limit.and_then(|limit| limit.quota())
    }
}

/// Limits of a receiver at a hub, as both have them on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsRecord {
    /// The receiver that set them.
    pub receiver: NodeId,
    /// The hub that applies them.
    pub hub: NodeId,
    /// A higher one takes the place of a lower one.
    pub version: u64,
    /// The limits.
    pub limits: Limits,
}

/// What happens to a desk.
#[derive(Debug)]
pub enum LimitsInput {
    /// What is to be in force at a hub.
    Want {
        /// The hub.
        hub: NodeId,
        /// The limits.
        limits: Limits,
    },
    /// Marks have been compared with a hub: it can be told. `put_back`: what either end has on record may be older than
    /// what was said.
    Ready {
        /// The hub.
        hub: NodeId,
        /// See above.
        put_back: bool,
    },
    /// A hub cannot be told at the moment.
    Away(NodeId),
    /// A hub answered with a sealed word, or did not (`None`).
    Answer {
        /// The hub.
        hub: NodeId,
        /// Its sealed answer.
        bytes: Option<Vec<u8>>,
    },
    /// The pads answered.
    Pad(PadOutcome),
    /// A pause may be over.
    Tick,
}

/// What a desk wants done.
#[derive(Debug)]
pub enum LimitsEffect {
    /// Something with pads or records.
    Pad(PadEffect),
    /// Send a sealed order to a hub.
    Tell {
        /// The hub.
        hub: NodeId,
        /// The message.
        bytes: Vec<u8>,
    },
    /// A hub has said that the limits are in force there, and that is on record.
    InForce(NodeId),
}

/// A receiver's part: sees to it that what its operator wants is in force at every hub.
#[derive(Debug)]
pub struct LimitsDesk {
    me: NodeId,
    hubs: BTreeMap<NodeId, AtHub>,
    jobs: BTreeMap<Ticket, Job>,
    effects: VecDeque<LimitsEffect>,
    next_ticket: u64,
}

#[derive(Debug, Default)]
struct AtHub {
    wanted: Limits,
    /// What the hub has said to have on record.
    known: Option<(u64, Limits)>,
    /// The hub's record, or ours, may be older than that.
    doubtful: bool,
    /// It has said nothing since marks were compared: a copy that was put back may be so recent that this does not show.
    unasked: bool,
    /// Being recorded: that it may have been told something.
    noting: bool,
    /// The highest version that was used or heard of.
    version: u64,
    ready: bool,
    telling: Option<Telling>,
    due: Time,
    pause: Duration,
}

/// An order that is on its way.
#[derive(Debug)]
struct Telling {
    version: u64,
    limits: Limits,
    range: Option<PadRange>,
    until: Time,
}

#[derive(Debug)]
enum Job {
    Mint { hub: NodeId },
    Hold { hub: NodeId, message: Unverified<LimitsAnswer> },
    Commit { hub: NodeId, request: PadRange, version: u64, limits: Option<Limits> },
    Note { hub: NodeId },
}

impl AtHub {
    /// Whether nothing has to be said at the moment.
    fn is_settled(&self) -> bool {
        self.is_in_force() && !self.unasked
    }

    fn is_in_force(&self) -> bool {
        match &self.known {
            Some((_, limits)) => *limits == self.wanted && !self.doubtful,
            None => self.wanted.is_empty() && !self.doubtful,
        }
    }
}

impl LimitsDesk {
    /// A desk with what the hubs are on record to have in force.
    pub fn new(me: NodeId, records: impl IntoIterator<Item = LimitsRecord>) -> Self {
        let ours = records.into_iter().filter(|record| record.receiver == me);
        let known = |record: LimitsRecord| {
            let LimitsRecord { hub, version, limits, .. } = record;
            (hub, AtHub { known: Some((version, limits)), version, ..AtHub::default() })
        };
        Self {
            me,
            hubs: ours.map(known).collect(),
            jobs: BTreeMap::new(),
            effects: VecDeque::new(),
            next_ticket: 0,
        }
    }

    /// Requests and orders in work; 0 where nothing is awaited.
    pub fn under_way(&self) -> usize {
        self.jobs.len() + self.hubs.values().filter(|hub| hub.telling.is_some()).count()
    }

    /// What is wanted at a hub, and whether the hub has said that it is in force; `None` where nothing ever was.
    pub fn at(&self, hub: &NodeId) -> Option<(&Limits, bool)> {
        let at = self.hubs.get(hub)?;
        Some((&at.wanted, at.is_in_force()))
    }

    /// Whether a hub that has said so is to say it once more, because its tables were compared since.
    pub fn is_asking(&self, hub: &NodeId) -> bool {
        self.hubs.get(hub).is_some_and(|at| at.unasked)
    }

    /// Takes one input; effects are then waiting.
    pub fn handle(&mut self, now: Time, input: LimitsInput) {
        match input {
            LimitsInput::Want { hub, limits } => {
                let at = self.hubs.entry(hub).or_default();
                if at.wanted != limits {
                    at.wanted = limits;
                    (at.due, at.pause) = (now, Duration::ZERO);
                }
                self.advance(now, hub);
            }
            LimitsInput::Ready { hub, put_back } => {
                let at = self.hubs.entry(hub).or_default();
                at.ready = true;
                // One that is put back again and again, or says so, is told less and less often.
                if now >= at.due + PAUSE_MAX {
                    at.pause = Duration::ZERO;
                }
                // With nothing on record and nothing wanted the hub is asked too: it may have what was forgotten here.
                at.doubtful |= put_back;
                at.unasked |= at.known.is_some() && !planted(Fault::LimitsNotAskedAgain);
                self.advance(now, hub);
            }
            LimitsInput::Away(hub) => {
                if let Some(at) = self.hubs.get_mut(&hub) {
                    at.ready = false;
                    at.telling = None;
                }
            }
            LimitsInput::Answer { hub, bytes } => self.answered(now, hub, bytes),
            LimitsInput::Pad(outcome) => self.pad(now, outcome),
            LimitsInput::Tick => {
                let hubs: Vec<NodeId> = self.hubs.keys().copied().collect();
                for hub in hubs {
                    let late = |at: &AtHub| at.telling.as_ref().is_some_and(|telling| telling.until <= now);
                    if self.hubs.get(&hub).is_some_and(late) {
                        self.give_up(now, hub);
                    }
                    self.advance(now, hub);
                }
            }
        }
    }

    /// The next effect to execute.
    pub fn poll_effect(&mut self) -> Option<LimitsEffect> {
        self.effects.pop_front()
    }

    /// When [`LimitsInput::Tick`] is next due.
    pub fn poll_timeout(&self) -> Option<Time> {
        let due = |at: &AtHub| match &at.telling {
            Some(telling) => Some(telling.until),
            None => (at.ready && !at.noting && !at.is_settled() && at.version < u64::MAX).then_some(at.due),
        };
        self.hubs.values().filter_map(due).min()
    }

    /// Tells a hub what is to be in force there, where it has not said so.
    fn advance(&mut self, now: Time, hub: NodeId) {
        let Some(at) = self.hubs.get_mut(&hub) else { return };
        if !at.ready || at.noting || at.telling.is_some() || at.is_settled() || now < at.due {
            return;
        }
        if at.known.is_none() && !planted(Fault::UnansweredOrderForgotten) {
            return self.note(hub);
        }
        // A hub that names the last version there is has made itself one that cannot be told.
        let Some(version) = at.version.checked_add(1) else { return };
        at.version = version;
        at.pause = (at.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        at.due = now + at.pause;
        let limits = at.wanted.clone();
        // Until it answers it may have either.
        let same = at.known.as_ref().is_some_and(|(_, known)| *known == limits);
        at.doubtful |= !same && !planted(Fault::UnansweredOrderForgotten);
        at.telling = Some(Telling { version, limits, range: None, until: now + PATIENCE });
        let wants =
            vec![Want { peer: hub, lane: Lane::Up, bytes: TAG_KEY_BYTES as u64, usage: Usage::Identity }];
        let ticket = self.begin(Job::Mint { hub });
        self.pad_effect(PadEffect::Mint { ticket, wants });
    }

    /// Records that a hub may have been told something, before it is for the first time: who restarts asks what became of it.
    fn note(&mut self, hub: NodeId) {
        if let Some(at) = self.hubs.get_mut(&hub) {
            at.noting = true;
        }
        let (version, limits) = (0, Limits::default());
        let record = LimitsRecord { receiver: self.me, hub, version, limits };
        let ticket = self.begin(Job::Note { hub });
        let record = Record { limits: Some(record), ..Record::default() };
        self.pad_effect(PadEffect::Commit { ticket, record: Box::new(record) });
    }

    fn noted(&mut self, now: Time, hub: NodeId, ok: bool) {
        let Some(at) = self.hubs.get_mut(&hub) else { return };
        at.noting = false;
        if ok {
            at.known = at.known.take().or_else(|| Some((0, Limits::default())));
        } else {
            at.pause = (at.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
            at.due = now + at.pause;
        }
        self.advance(now, hub);
    }

    fn give_up(&mut self, now: Time, hub: NodeId) {
        if let Some(at) = self.hubs.get_mut(&hub) {
            at.telling = None;
            at.due = at.due.max(now);
        }
    }

    fn answered(&mut self, now: Time, hub: NodeId, bytes: Option<Vec<u8>>) {
        let Some(telling) = self.hubs.get(&hub).and_then(|at| at.telling.as_ref()) else { return };
        let asked = telling.range;
        let message = bytes.and_then(|bytes| Unverified::<LimitsAnswer>::decode(bytes).ok());
        match message.filter(|message| Some(message.unverified().request) == asked) {
            None => self.give_up(now, hub),
            Some(message) => {
                let range = message.range();
                let ticket = self.begin(Job::Hold { hub, message });
                self.pad_effect(PadEffect::Hold { ticket, from: hub, range, block: None, for_sync: false });
            }
        }
    }

    fn pad(&mut self, now: Time, outcome: PadOutcome) {
        match outcome {
            PadOutcome::Minted { ticket, result } => {
                let Some(Job::Mint { hub }) = self.jobs.remove(&ticket) else { return };
                let run = result.ok().and_then(|runs| runs.into_iter().next());
                let telling = self.hubs.get_mut(&hub).and_then(|at| at.telling.as_mut());
                let (Some(run), Some(telling)) = (run, telling) else { return self.give_up(now, hub) };
                let Telling { version, limits, .. } = telling;
                let order = LimitsOrder { range: run.range, version: *version, limits: limits.clone() };
                let Some(bytes) = run.pad.split().and_then(|(_, key)| seal(&order, key).ok()) else {
                    return self.give_up(now, hub);
                };
                telling.range = Some(run.range);
                self.effects.push_back(LimitsEffect::Tell { hub, bytes });
            }
            PadOutcome::Held { ticket, result, .. } => {
                let Some(Job::Hold { hub, message }) = self.jobs.remove(&ticket) else { return };
                let range = message.range();
                let Ok(pad) = result else { return self.give_up(now, hub) };
                let Some((_, tag_key)) = pad.split() else {
                    self.pad_effect(PadEffect::Release { range, forged_blocks: None });
                    return self.give_up(now, hub);
                };
                match message.verify(tag_key) {
                    Err(forged) => {
                        let forged_blocks = Some(forged.blocks);
                        self.pad_effect(PadEffect::Release { range, forged_blocks });
                        self.give_up(now, hub);
                    }
                    Ok(answer) => self.heard(hub, range, &answer),
                }
            }
            PadOutcome::Committed { ticket, ok } => {
                let (hub, request, version, limits) = match self.jobs.remove(&ticket) {
                    Some(Job::Commit { hub, request, version, limits }) => (hub, request, version, limits),
                    Some(Job::Note { hub }) => return self.noted(now, hub, ok),
                    _ => return,
                };
                let Some(at) = self.hubs.get_mut(&hub) else { return };
                // Since it was given up the hub may have been put back.
                let awaited = at.telling.take_if(|telling| telling.range == Some(request)).is_some();
                at.version = at.version.max(version);
                match limits {
                    Some(limits) if ok => {
                        let news = !at.is_in_force();
                        at.known = Some((version, limits));
                        (at.doubtful, at.unasked) = (at.doubtful && !awaited, at.unasked && !awaited);
                        if news && at.is_in_force() {
                            self.effects.push_back(LimitsEffect::InForce(hub));
                        }
                    }
                    _ => {}
                }
                self.advance(now, hub);
            }
            PadOutcome::Marks { .. } | PadOutcome::Skipped { .. } => {
                debug_assert!(false, "a desk for limits asks for no such thing");
            }
        }
    }

    /// A hub's tagged word on what it has on record.
    fn heard(&mut self, hub: NodeId, range: PadRange, answer: &LimitsAnswer) {
        let telling = self.hubs.get(&hub).and_then(|at| at.telling.as_ref());
        // Its answer to an order that was given up: the tag key is used, and that is all.
        let ours = telling.filter(|telling| telling.range == Some(answer.request));
        let limits = ours.filter(|telling| telling.version == answer.version).map(|t| t.limits.clone());
        let version = ours.map_or(0, |_| answer.version);
        let record = limits.clone().map(|limits| LimitsRecord { receiver: self.me, hub, version, limits });
        let ticket = self.begin(Job::Commit { hub, request: answer.request, version, limits });
        let claims = vec![(range, Usage::Identity)];
        let record = Record { claims, limits: record, ..Record::default() };
        self.pad_effect(PadEffect::Commit { ticket, record: Box::new(record) });
    }

    fn begin(&mut self, job: Job) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.jobs.insert(ticket, job);
        ticket
    }

    fn pad_effect(&mut self, effect: PadEffect) {
        self.effects.push_back(LimitsEffect::Pad(effect));
    }
}
