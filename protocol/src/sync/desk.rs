//! The machine that compares marks, for one end of many tables; see [`super`].
//!
//! Order for a mark of the peer, which must not change: decode → its nonces are those of this connection → the run
//! is held → tag → compare with what is on record → claim and marks are durable, in one record → skip, and where that
//! was needed only now the lease, durably → the table is open, the lease grows, messages pass → answer.

mod incoming;

use std::collections::{BTreeMap, VecDeque};

use rand_core::CryptoRng;

use super::{
    Connection, Found, GREETINGS_MAX, HELLO_PAUSE, HelloBack, MARKS_MAX, SyncCounters, SyncEffect, SyncHello,
    SyncInput, SyncSide, keys_from,
};
use crate::{
    effect::{LaneMarks, MintRefusal, Minted, PadEffect, PadOutcome, Record, SyncRecord, Ticket, Usage},
    hub::RequestId,
    ids::{Lane, NodeId, PadRange, TableId},
    message::{Mark, Nonce, Unverified, seal},
    params::Time,
    planted::{Fault, planted},
    refusal::Refusal,
};

/// The state machine of one end of many tables.
#[derive(Debug)]
pub struct SyncDesk<S: SyncSide> {
    sessions: BTreeMap<TableId, Session>,
    /// Hub: comparisons that a hello has begun, one over each connection. Only a right tag puts one in the place of what
    /// stands, because anybody may say hello, or say again what was said before.
    greetings: BTreeMap<TableId, BTreeMap<Connection, Greeting>>,
    jobs: BTreeMap<Ticket, Job<S>>,
    effects: VecDeque<SyncEffect>,
    next_ticket: u64,
    counters: SyncCounters,
    now: Time,
    /// So many hubs must say that our directory was put back before keys that wait are void.
    k_min: u8,
}

/// Between two marks of a hub's own accord that its client does not answer, at first and at last: each costs a tag
/// key, and a client whose lane is used up cannot answer at all.
const QUIET_MIN: Time = Time::from_millis(250);
const QUIET_MAX: Time = Time::from_secs(60);

/// One table on one connection.
#[derive(Debug)]
struct Session {
    peer: NodeId,
    mine: Nonce,
    theirs: Option<Nonce>,
    /// How far the lanes had come here when the comparison began.
    before: Option<LaneMarks>,
    /// A mark of the peer has been verified on this connection.
    open: bool,
    /// What the peer has said on this connection to have on record of our lane.
    lease: u64,
    /// See [`LaneMarks::ahead`].
    ahead: u64,
    /// An exchange of ours is under way or being prepared.
    announcing: bool,
    /// Since it began a mark of the peer's own accord has come, which may have overtaken what belongs to it.
    overtaken: bool,
    /// Messages beyond the lease.
    waiting: VecDeque<Waiting>,
    /// Hub: no mark of its own accord before this, and how long the next pause will be at least.
    quiet_until: Time,
    quiet_for: Time,
}

/// A comparison that a hello has begun.
#[derive(Debug)]
struct Greeting {
    at: Time,
    session: Session,
}

/// A message that waits for the lease to cover it.
#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    /// Of its run.
    end: u64,
    /// Our mark has been looked up since it came: it is at or beyond the end, if anything is.
    asked: bool,
}

/// Where a mark of ours goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To the peer, of our own accord.
    Announce,
    /// In answer to one of the peer's.
    Answer(RequestId),
}

/// How a mark of the peer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Request(RequestId),
    Answer,
}

/// What a genuine mark leads to.
#[derive(Debug, Clone, Copy)]
struct Verdict {
    found: Found,
    skip_to: Option<u64>,
}

#[derive(Debug)]
enum Job<S: SyncSide> {
    Greet { peer: NodeId, table: TableId },
    AnswerHello { id: RequestId, from: NodeId, over: Connection, hello: SyncHello, nonce: Nonce },
    Compose { table: TableId, nonces: [Nonce; 2], purpose: Purpose, at: u64 },
    Seal { table: TableId, nonces: [Nonce; 2], purpose: Purpose, marks: LaneMarks },
    Hold { origin: Origin, message: Unverified<S::Peer> },
    Weigh { origin: Origin, mark: Mark },
    Commit { origin: Origin, mark: Mark, verdict: Option<Verdict> },
    Skip { origin: Origin, mark: Mark, found: Found },
    Lease { origin: Origin, mark: Mark, found: Found },
}

impl<S: SyncSide> SyncDesk<S> {
    /// A desk with nothing compared. So many hubs (k_B) must say that this node's directory was put back before keys
    /// that wait are void. At a hub's end it says nothing: its peers are clients, whose word voids no key.
    pub fn new(k_min: u8) -> Self {
        Self {
            sessions: BTreeMap::new(),
            greetings: BTreeMap::new(),
            jobs: BTreeMap::new(),
            effects: VecDeque::new(),
            next_ticket: 0,
            counters: SyncCounters::default(),
            now: Time::ZERO,
            k_min,
        }
    }

    /// What it has seen.
    pub fn counters(&self) -> SyncCounters {
        self.counters
    }

    /// Marks and messages in work; 0 where nothing is awaited.
    pub fn under_way(&self) -> usize {
        let open = self.sessions.values();
        let waiting: usize =
            open.map(|session| session.waiting.len() + usize::from(session.announcing)).sum();
        self.jobs.len() + waiting
    }

    /// Whether a table has been compared on the present connection.
    pub fn is_open(&self, table: &TableId) -> bool {
        self.sessions.get(table).is_some_and(|session| session.open)
    }

    /// Takes one input; effects are then waiting.
    pub fn handle<R: CryptoRng + ?Sized>(&mut self, now: Time, input: SyncInput, rng: &mut R) {
        self.now = now;
        match input {
            SyncInput::Begin { peer, table } => self.begin_session(peer, table, rng),
            SyncInput::HelloAnswer { peer, table, answer } => self.hello_answered(peer, table, answer),
            SyncInput::Hello { id, from, over, hello } => self.hello(id, from, over, hello, rng),
            SyncInput::Mark { id, from, bytes } => self.mark(id, from, bytes),
            SyncInput::MarkAnswer { peer, table, bytes } => self.mark_answered(peer, table, bytes),
            SyncInput::Outgoing { ticket, peer, range } => self.outgoing(ticket, peer, range),
            SyncInput::Disconnected(peer) => self.disconnected(peer),
            SyncInput::Left(table) => self.left(table),
            SyncInput::Pad(outcome) => self.pad(now, outcome),
        }
    }

    /// Tables that are being compared or have been. Of those that are out of use it wants to hear [`SyncInput::Left`].
    pub fn tables(&self) -> impl Iterator<Item = TableId> {
        self.sessions.keys().chain(self.greetings.keys()).copied()
    }

    /// The next effect to execute.
    pub fn poll_effect(&mut self) -> Option<SyncEffect> {
        self.effects.pop_front()
    }

    // -- the hello

    fn begin_session<R: CryptoRng + ?Sized>(&mut self, peer: NodeId, table: TableId, rng: &mut R) {
        if self.sessions.contains_key(&table) {
            return; // under way, or done
        }
        self.sessions.insert(table, Session::new(peer, Nonce::random(rng), None));
        self.ask_marks(Job::Greet { peer, table }, peer, table, false);
    }

    fn hello_answered(&mut self, peer: NodeId, table: TableId, answer: Option<Result<HelloBack, Refusal>>) {
        let Some(session) = self.sessions.get_mut(&table).filter(|s| s.peer == peer && s.theirs.is_none())
        else {
            return;
        };
        match answer {
            Some(Ok(hello)) if hello.table == table => {
                session.theirs = Some(hello.nonce);
                self.announce(table, hello.keys);
            }
            _ => self.lapse(table),
        }
    }

    fn hello<R: CryptoRng + ?Sized>(
        &mut self,
        id: RequestId,
        from: NodeId,
        over: Connection,
        hello: SyncHello,
        rng: &mut R,
    ) {
        if self.jobs.len() >= MARKS_MAX {
            let result = Err(Refusal::Busy);
            return self.effects.push_back(SyncEffect::AnswerHello { id, result });
        }
        let job = Job::AnswerHello { id, from, over, hello, nonce: Nonce::random(rng) };
        self.ask_marks(job, from, hello.table, false);
    }

    /// The hub's answer to a hello begins a session anew, beside the one that stands.
    fn greet_back(
        &mut self,
        now: Time,
        id: RequestId,
        (from, over): (NodeId, Connection),
        hello: &SyncHello,
        nonce: Nonce,
        marks: Result<LaneMarks, Refusal>,
    ) {
        let result = marks.and_then(|marks| {
            // The marks are those of a table that is shared with this peer, so the list is no longer than that of tables.
            let greetings = self.greetings.entry(hello.table).or_default();
            if greetings.get(&over).is_some_and(|greeting| now < greeting.at + HELLO_PAUSE) {
                return Err(Refusal::Busy);
            }
            let mut session = Session::new(from, nonce, Some(hello.nonce));
            session.before = Some(marks);
            greetings.insert(over, Greeting { at: now, session });
            if greetings.len() > GREETINGS_MAX {
                let oldest = greetings.iter().min_by_key(|(_, greeting)| greeting.at);
                if let Some(oldest) = oldest.map(|(&connection, _)| connection) {
                    greetings.remove(&oldest);
                }
            }
            Ok(HelloBack { table: hello.table, nonce, keys: marks.keys_seen })
        });
        self.effects.push_back(SyncEffect::AnswerHello { id, result });
    }

    // -- marks of ours

    /// Prepares a mark of our own accord; its tag key stands at or after `at`.
    fn announce(&mut self, table: TableId, at: u64) {
        let now = self.now;
        let Some(session) = self.sessions.get_mut(&table) else { return };
        let Some(nonces) = session.nonces().filter(|_| !session.announcing) else { return };
        if now < session.quiet_until {
            return self.drop_waiting(&table);
        }
        session.announcing = true;
        session.overtaken = false;
        session.waiting.iter_mut().for_each(|message| message.asked = true);
        let (peer, reserve) = (session.peer, session.open);
        self.ask_marks(Job::Compose { table, nonces, purpose: Purpose::Announce, at }, peer, table, reserve);
    }

    fn compose(
        &mut self,
        table: TableId,
        nonces: [Nonce; 2],
        purpose: Purpose,
        at: u64,
        marks: Result<LaneMarks, Refusal>,
    ) {
        let marks = match marks {
            Ok(marks) => marks,
            Err(refusal) => return self.composed(table, nonces, purpose, Err(refusal)),
        };
        if let Some(session) = self.session(&table, nonces) {
            session.ahead = marks.ahead;
            if purpose == Purpose::Announce && session.open && marks.own <= session.lease {
                // Nothing new to tell.
                session.announcing = false;
                self.pass_covered(&table);
                return self.ask_again(&table);
            }
        }
        let ticket = self.begin(Job::Seal { table, nonces, purpose, marks });
        self.pad_effect(PadEffect::MintSync { ticket, table, at });
    }

    fn seal(
        &mut self,
        table: TableId,
        nonces: [Nonce; 2],
        purpose: Purpose,
        marks: LaneMarks,
        minted: Result<Vec<Minted>, MintRefusal>,
    ) {
        let LaneMarks { own, seen, used_below, lease, keys, keys_seen, .. } = marks;
        let began = self.session(&table, nonces).and_then(|session| session.before).unwrap_or(marks);
        let LaneMarks { own: own_was, seen: seen_was, unsure, .. } = began;
        let overstated = (seen + 4096).min(keys_from(marks.peer_bytes));
        let seen = if planted(Fault::SeenOverstated) { overstated } else { seen };
        let sealed = minted.ok().and_then(|runs| runs.into_iter().next()).and_then(|run| {
            let range = run.range;
            let keys = if planted(Fault::HelloBelieved) { keys.max(range.end()?) } else { keys };
            // Its own place is not among them: that may be where an untagged word has put it.
            let mark = Mark {
                range,
                nonces,
                own,
                own_was,
                seen,
                seen_was,
                used_below,
                lease,
                keys,
                keys_seen,
                unsure,
            };
            seal(&S::Own::from(mark), run.pad.split()?.1).ok()
        });
        self.composed(table, nonces, purpose, sealed.ok_or(Refusal::PadLow));
    }

    fn composed(
        &mut self,
        table: TableId,
        nonces: [Nonce; 2],
        purpose: Purpose,
        result: Result<Vec<u8>, Refusal>,
    ) {
        match (purpose, result) {
            (Purpose::Answer(id), result) => self.effects.push_back(SyncEffect::AnswerMark { id, result }),
            (Purpose::Announce, Ok(bytes)) => {
                if let Some(session) = self.session(&table, nonces) {
                    let peer = session.peer;
                    self.effects.push_back(SyncEffect::Mark { peer, table, bytes });
                }
            }
            (Purpose::Announce, Err(_)) => {
                if self.session(&table, nonces).is_some() {
                    self.lapse(table);
                }
            }
        }
    }

    // -- messages on their way

    fn outgoing(&mut self, ticket: Ticket, peer: NodeId, range: PadRange) {
        let session = self.sessions.get_mut(&range.table).filter(|s| s.peer == peer && s.open);
        let (Some(session), Some(end)) = (session, range.end()) else {
            return self.effects.push_back(SyncEffect::Drop(ticket));
        };
        debug_assert_eq!(range.lane, S::OWN, "the other lane is the peer's");
        if planted(Fault::LeaseNotAwaited) || (end <= session.lease && session.waiting.is_empty()) {
            self.effects.push_back(SyncEffect::Pass(ticket));
        } else {
            session.waiting.push_back(Waiting { ticket, end, asked: false });
        }
        if !session.waiting.is_empty() || end.saturating_add(session.ahead) > session.lease {
            self.announce(range.table, 0);
        }
    }

    /// Lets pass what the lease has come to cover.
    fn pass_covered(&mut self, table: &TableId) {
        let Some(session) = self.sessions.get_mut(table) else { return };
        while let Some(message) = session.waiting.pop_front_if(|message| message.end <= session.lease) {
            self.effects.push_back(SyncEffect::Pass(message.ticket));
        }
    }

    /// The peer has our whole mark on record. A message beyond it that was there when the mark was looked up lies where
    /// nothing is reserved: it can never go, and asking again would have no end. One that came since may lie in
    /// what has been reserved since.
    fn ask_again(&mut self, table: &TableId) {
        let Some(session) = self.sessions.get_mut(table) else { return };
        while let Some(message) = session.waiting.pop_front_if(|message| message.asked) {
            self.effects.push_back(SyncEffect::Drop(message.ticket));
        }
        if !session.waiting.is_empty() {
            self.announce(*table, 0);
        }
    }

    fn disconnected(&mut self, peer: NodeId) {
        let tables: Vec<_> =
            self.sessions.iter().filter(|(_, s)| s.peer == peer).map(|(&table, _)| table).collect();
        tables.iter().for_each(|table| self.forget(table));
        // A table is shared with one peer.
        self.greetings
            .retain(|_, greetings| greetings.values().all(|greeting| greeting.session.peer != peer));
        self.pad_effect(PadEffect::Close { peer, own: S::OWN });
    }

    /// A table is out of use: a session of it would keep a new one from beginning.
    fn left(&mut self, table: TableId) {
        if !planted(Fault::LeftTableStays) {
            self.forget(&table);
            self.greetings.remove(&table);
        }
        self.pad_effect(PadEffect::Leave(table));
    }

    /// An exchange of ours has no answer that counts. Where a mark of the peer came meanwhile, that is because one
    /// overtook the other: the later one told more, and what still waits is announced anew.
    fn unanswered(&mut self, table: TableId) {
        match self.sessions.get_mut(&table) {
            Some(session) if session.open && session.overtaken => {
                session.announcing = false;
                self.pass_covered(&table);
                if self.sessions.get(&table).is_some_and(|session| !session.waiting.is_empty()) {
                    self.announce(table, 0);
                }
            }
            _ => self.lapse(table),
        }
    }

    /// An exchange of ours came to nothing. The client begins anew; a hub waits for it to do so.
    fn lapse(&mut self, table: TableId) {
        if S::OWN == Lane::Up {
            let peer = self.sessions.get(&table).map(|session| session.peer);
            self.forget(&table);
            // So that whoever looks for tables to compare finds it.
            self.pad_effect(PadEffect::Shut(table));
            self.effects.extend(peer.map(|peer| SyncEffect::Lapsed { peer, table }));
        } else if let Some(session) = self.sessions.get_mut(&table) {
            session.announcing = false;
            session.quiet_for = (session.quiet_for * 2).clamp(QUIET_MIN, QUIET_MAX);
            session.quiet_until = self.now + session.quiet_for;
            self.drop_waiting(&table);
        }
    }

    fn drop_waiting(&mut self, table: &TableId) {
        let Some(session) = self.sessions.get_mut(table) else { return };
        let waiting = std::mem::take(&mut session.waiting);
        self.effects.extend(waiting.into_iter().map(|message| SyncEffect::Drop(message.ticket)));
    }

    /// Ends a session; what waits in it cannot be sent.
    fn forget(&mut self, table: &TableId) {
        if let Some(session) = self.sessions.remove(table) {
            let waiting = session.waiting.into_iter();
            self.effects.extend(waiting.map(|message| SyncEffect::Drop(message.ticket)));
        }
    }

    fn pad(&mut self, now: Time, outcome: PadOutcome) {
        match outcome {
            PadOutcome::Marks { ticket, result } => match self.jobs.remove(&ticket) {
                Some(Job::Greet { peer, table }) => self.greet(peer, table, result),
                Some(Job::AnswerHello { id, from, over, hello, nonce }) => {
                    self.greet_back(now, id, (from, over), &hello, nonce, result);
                }
                Some(Job::Compose { table, nonces, purpose, at }) => {
                    self.compose(table, nonces, purpose, at, result);
                }
                Some(Job::Weigh { origin, mark }) => self.weigh(origin, mark, result),
                _ => debug_assert!(false, "nobody asked for these marks"),
            },
            PadOutcome::Minted { ticket, result } => match self.jobs.remove(&ticket) {
                Some(Job::Seal { table, nonces, purpose, marks }) => {
                    self.seal(table, nonces, purpose, marks, result);
                }
                _ => debug_assert!(false, "nobody asked for this run"),
            },
            PadOutcome::Held { ticket, result, .. } => match self.jobs.remove(&ticket) {
                Some(Job::Hold { origin, message }) => self.held(origin, message, result),
                _ => debug_assert!(false, "nobody asked for this hold"),
            },
            PadOutcome::Committed { ticket, ok } => match self.jobs.remove(&ticket) {
                Some(Job::Commit { origin, mark, verdict }) => self.committed(origin, mark, verdict, ok),
                Some(Job::Lease { origin, mark, found }) if ok => self.compared(origin, mark, found),
                Some(Job::Lease { origin, mark, .. }) => {
                    self.failed(origin, &mark.range.table, Refusal::Internal);
                }
                _ => debug_assert!(false, "nobody asked for this record"),
            },
            PadOutcome::Skipped { ticket, ok } => match self.jobs.remove(&ticket) {
                Some(Job::Skip { origin, mark, found }) if ok => self.skipped(origin, mark, found),
                Some(Job::Skip { origin, mark, .. }) => {
                    self.failed(origin, &mark.range.table, Refusal::Internal);
                }
                _ => debug_assert!(false, "nobody asked for this skip"),
            },
        }
    }

    fn greet(&mut self, peer: NodeId, table: TableId, marks: Result<LaneMarks, Refusal>) {
        let session = self.sessions.get_mut(&table).filter(|s| s.peer == peer && s.before.is_none());
        let Some(session) = session else { return };
        match marks {
            Ok(marks) => {
                session.before = Some(marks);
                let hello = SyncHello { table, nonce: session.mine };
                self.effects.push_back(SyncEffect::Hello { peer, hello });
            }
            Err(_) => self.lapse(table),
        }
    }

    // -- small things

    /// Takes the greeting in which these nonces, ours first, were exchanged; those over other connections are over.
    fn greeted(&mut self, table: &TableId, nonces: [Nonce; 2]) -> Option<Session> {
        let greetings = self.greetings.get(table)?;
        let fits = |greeting: &&Greeting| greeting.session.nonces() == Some(nonces);
        greetings.values().find(fits)?;
        let greetings = self.greetings.remove(table)?;
        greetings
            .into_values()
            .map(|greeting| greeting.session)
            .find(|session| session.nonces() == Some(nonces))
    }

    /// The session in which these nonces, ours first, were exchanged.
    fn session(&mut self, table: &TableId, nonces: [Nonce; 2]) -> Option<&mut Session> {
        let begun = self.greetings.get_mut(table).into_iter().flat_map(BTreeMap::values_mut);
        let begun = begun.map(|greeting| &mut greeting.session);
        self.sessions.get_mut(table).into_iter().chain(begun).find(|session| session.nonces() == Some(nonces))
    }

    fn begin(&mut self, job: Job<S>) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.jobs.insert(ticket, job);
        ticket
    }

    fn ask_marks(&mut self, job: Job<S>, peer: NodeId, table: TableId, reserve: bool) {
        let ticket = self.begin(job);
        self.pad_effect(PadEffect::Marks { ticket, peer, own: S::OWN, table, reserve });
    }

    fn commit(&mut self, ticket: Ticket, range: PadRange, sync: Option<SyncRecord>) {
        let record = Record { claims: vec![(range, Usage::Sync)], sync, ..Record::default() };
        self.pad_effect(PadEffect::Commit { ticket, record: Box::new(record) });
    }

    fn pad_effect(&mut self, effect: PadEffect) {
        self.effects.push_back(SyncEffect::Pad(effect));
    }
}

impl Session {
    fn new(peer: NodeId, mine: Nonce, theirs: Option<Nonce>) -> Self {
        Self {
            peer,
            mine,
            theirs,
            before: None,
            open: false,
            lease: 0,
            ahead: 0,
            announcing: false,
            overtaken: false,
            waiting: VecDeque::new(),
            quiet_until: Time::ZERO,
            quiet_for: Time::ZERO,
        }
    }

    /// Ours, then the peer's.
    fn nonces(&self) -> Option<[Nonce; 2]> {
        self.theirs.map(|theirs| [self.mine, theirs])
    }
}
