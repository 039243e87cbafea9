//! A hub's messages on their way to their receivers: whose turn it is, what became of each, what has waited too long.
//!
//! The messages themselves stand in the store's outbox, durable before anything here hears of them, so a receiver that
//! is offline gets them when it comes back, and a hub that restarts sends the very same bytes again.
//!
//! Towards a receiver the senders take turns, and none has more on its way than as much as is free: what one of them
//! sends in numbers keeps nobody else's key waiting. A step costs the same, but for a logarithm, whatever waits; what is
//! dropped is dropped in slices.
//!
//! Must never: send a message of a receiver that is not ready; let one sender's messages overtake each other while
//! nothing hinders the first.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    ops::Bound,
};

use crate::{
    effect::Ticket,
    fair::Fair,
    ids::{NodeId, TableId},
    planted::{Fault, planted},
    refusal::Refusal,
};

/// Messages on their way to one receiver at once, in fair parts of their senders; bounds what is held in memory besides
/// the outbox. One of each sender may always go.
pub const ON_THEIR_WAY_MAX: u64 = 256;

/// What is known of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Letter {
    /// For whom it is.
    pub receiver: NodeId,
    /// Who caused it.
    pub sender: NodeId,
    /// The table whose pad was burned for it.
    pub table: TableId,
    /// Its length.
    pub bytes: u64,
    /// When it was put into the outbox, on the hub's own clock of age.
    pub at_ms: u64,
}

/// All messages of a hub. `Id` names a message in the store.
#[derive(Debug)]
pub struct Post<Id> {
    letters: BTreeMap<Id, Placed>,
    mailboxes: BTreeMap<NodeId, Mailbox<Id>>,
    /// What waits, oldest first.
    by_age: BTreeSet<(u64, Id)>,
    by_table: BTreeMap<TableId, BTreeSet<Id>>,
    next_turn: u64,
    on_their_way_max: u64,
}

/// A message and its place in its sender's queue.
#[derive(Debug)]
struct Placed {
    letter: Letter,
    turn: u64,
    on_its_way: bool,
}

/// One receiver's messages.
#[derive(Debug)]
struct Mailbox<Id> {
    connected: bool,
    /// Connected, and a table has been compared: messages may go.
    ready: bool,
    /// Set when the receiver could not be reached or cannot take anything; cleared by the next look.
    paused: bool,
    queues: BTreeMap<NodeId, BTreeMap<u64, Id>>,
    /// Senders of whom the receiver has enough for the moment.
    resting: BTreeSet<NodeId>,
    /// Whose turn it was last.
    last: Option<NodeId>,
    waiting: usize,
    on_their_way: BTreeMap<Ticket, Id>,
    parts: Fair<NodeId>,
}

impl<Id> Mailbox<Id> {
    fn new(limit: u64) -> Self {
        Self {
            connected: false,
            ready: false,
            paused: false,
            queues: BTreeMap::new(),
            resting: BTreeSet::new(),
            last: None,
            waiting: 0,
            on_their_way: BTreeMap::new(),
            parts: Fair::new(limit, 1),
        }
    }

    fn may_go(&self, sender: &NodeId) -> bool {
        if !self.ready || self.paused {
            return false;
        }
        !self.resting.contains(sender) && (self.parts.of(sender) == 0 || self.parts.room(sender) > 0)
    }

    /// The sender whose turn it is, among those of whom something waits and may go.
    fn turn(&self) -> Option<NodeId> {
        if planted(Fault::PostInOrderOfArrival) {
            let first = self.queues.iter().min_by_key(|(_, queue)| queue.keys().next());
            return first.map(|(sender, _)| *sender).filter(|sender| self.may_go(sender));
        }
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let round = self.queues.range((after, Bound::Unbounded)).chain(&self.queues);
        round.map(|(sender, _)| *sender).find(|sender| self.may_go(sender))
    }

    fn is_idle(&self) -> bool {
        !self.connected && self.waiting == 0 && self.on_their_way.is_empty()
    }
}

impl<Id: Copy + Ord + Debug> Default for Post<Id> {
    fn default() -> Self {
        Self::new(ON_THEIR_WAY_MAX)
    }
}

impl<Id: Copy + Ord + Debug> Post<Id> {
    /// Nothing waits; so many may be on their way to one receiver at once.
    pub fn new(on_their_way_max: u64) -> Self {
        Self {
            letters: BTreeMap::new(),
            mailboxes: BTreeMap::new(),
            by_age: BTreeSet::new(),
            by_table: BTreeMap::new(),
            next_turn: 0,
            on_their_way_max,
        }
    }

    /// A message waits, behind the others of its sender.
    pub fn add(&mut self, id: Id, letter: Letter) {
        let turn = self.next_turn;
        self.next_turn += 1;
        self.letters.insert(id, Placed { letter, turn, on_its_way: false });
        self.by_table.entry(letter.table).or_default().insert(id);
        self.wait(id);
    }

    /// A message has just become durable. Whether it goes at once, under this ticket; otherwise it waits, because the
    /// receiver is away, or so as not to overtake another.
    pub fn send_or_add(&mut self, id: Id, letter: Letter, ticket: Ticket) -> bool {
        self.add(id, letter);
        let mailbox = self.mailbox(letter.receiver);
        let alone = mailbox.queues.get(&letter.sender).is_some_and(|queue| queue.len() == 1);
        let alone = alone && (mailbox.waiting == 1 || !planted(Fault::PostInOrderOfArrival));
        let goes = alone && mailbox.may_go(&letter.sender);
        if goes {
            self.depart(id, ticket);
        }
        goes
    }

    /// A connection to a receiver has begun or ended.
    pub fn connection(&mut self, receiver: NodeId, up: bool) {
        let mailbox = self.mailbox(receiver);
        mailbox.connected = up;
        mailbox.ready &= up;
        mailbox.paused = false;
        mailbox.resting.clear();
        self.tidy(receiver);
    }

    /// A table has been compared with a receiver: where it is connected, its messages may go.
    pub fn ready(&mut self, receiver: NodeId) {
        let mailbox = self.mailbox(receiver);
        mailbox.ready = mailbox.connected;
        mailbox.paused = false;
        mailbox.resting.clear();
        self.tidy(receiver);
    }

    /// Whether a receiver is connected.
    pub fn is_connected(&self, receiver: &NodeId) -> bool {
        self.mailboxes.get(receiver).is_some_and(|mailbox| mailbox.connected)
    }

    /// Lets sending begin again after a pause. Gives the receivers for whom something may go.
    pub fn resume(&mut self) -> Vec<NodeId> {
        let resumed = |(receiver, mailbox): (&NodeId, &mut Mailbox<Id>)| {
            mailbox.paused = false;
            mailbox.resting.clear();
            (mailbox.ready && mailbox.waiting > 0).then_some(*receiver)
        };
        self.mailboxes.iter_mut().filter_map(resumed).collect()
    }

    /// Whether something waits for a receiver that is ready.
    pub fn has_work(&self) -> bool {
        self.mailboxes.values().any(|mailbox| mailbox.ready && mailbox.waiting > 0)
    }

    /// The next message that may be sent now.
    pub fn peek(&self, receiver: NodeId) -> Option<Id> {
        let mailbox = self.mailboxes.get(&receiver)?;
        mailbox.queues.get(&mailbox.turn()?)?.first_key_value().map(|(_, id)| *id)
    }

    /// Takes the next message that may be sent now, under the ticket that its answer will carry.
    pub fn next(&mut self, receiver: NodeId, ticket: Ticket) -> Option<Id> {
        let mailbox = self.mailboxes.get_mut(&receiver)?;
        let sender = mailbox.turn()?;
        mailbox.last = Some(sender);
        let (_, &id) = mailbox.queues.get(&sender)?.first_key_value()?;
        self.depart(id, ticket);
        Some(id)
    }

    /// The message that was sent under a ticket, while it is not answered.
    pub fn sent_under(&self, receiver: &NodeId, ticket: Ticket) -> Option<Letter> {
        let id = self.mailboxes.get(receiver)?.on_their_way.get(&ticket)?;
        self.letters.get(id).map(|placed| placed.letter)
    }

    /// The receiver answered, or could not be reached (`None`). Gives the message where the outbox may forget it: the
    /// receiver has it, or will never take it.
    pub fn answered(
        &mut self,
        receiver: NodeId,
        ticket: Ticket,
        answer: Option<Result<(), Refusal>>,
    ) -> Option<(Id, Letter)> {
        let mailbox = self.mailboxes.get_mut(&receiver)?;
        let id = mailbox.on_their_way.remove(&ticket)?;
        let placed = self.letters.get_mut(&id)?;
        let sender = placed.letter.sender;
        mailbox.parts.remove(&sender, 1);
        placed.on_its_way = false;
        match answer {
            // Enough of this sender for the moment; the order stays.
            Some(Err(Refusal::Busy)) => {
                mailbox.resting.insert(sender);
            }
            Some(Err(refusal)) if refusal.is_transient() => {
                mailbox.paused = true;
                // Behind the others: what hinders this one may not hinder them.
                placed.turn = self.next_turn;
                self.next_turn += 1;
            }
            Some(_) => return self.forget(id),
            None => mailbox.paused = true,
        }
        self.wait(id);
        None
    }

    /// The bytes of a message that was to be sent are gone from the outbox: its pad stays burned, and nothing is sent.
    pub fn lost(&mut self, receiver: NodeId, ticket: Ticket) -> Option<(Id, Letter)> {
        let mailbox = self.mailboxes.get_mut(&receiver)?;
        let id = mailbox.on_their_way.remove(&ticket)?;
        if let Some(placed) = self.letters.get(&id) {
            mailbox.parts.remove(&placed.letter.sender, 1);
        }
        self.forget(id)
    }

    /// Drops at most so many of the messages that have waited since before a moment, oldest first. What is on its way is
    /// settled by its answer.
    pub fn expire(&mut self, before_ms: u64, at_most: usize) -> Vec<(Id, Letter)> {
        let old = self.by_age.iter().take_while(|(at_ms, _)| *at_ms < before_ms).take(at_most);
        let old: Vec<Id> = old.map(|(_, id)| *id).collect();
        old.into_iter().filter_map(|id| self.drop_waiting(id)).collect()
    }

    /// Tables under which something waits or is on its way.
    pub fn tables(&self) -> impl Iterator<Item = &TableId> {
        self.by_table.keys()
    }

    /// Drops at most so many of the messages that wait under a table, which is not used any more.
    pub fn leave_table(&mut self, table: &TableId, at_most: usize) -> Vec<(Id, Letter)> {
        let under = self.by_table.get(table).into_iter().flatten().copied();
        let waits = |id: &Id| self.letters.get(id).is_some_and(|placed| !placed.on_its_way);
        let under: Vec<Id> = under.filter(waits).take(at_most).collect();
        under.into_iter().filter_map(|id| self.drop_waiting(id)).collect()
    }

    /// Messages that a receiver has not answered.
    pub fn pending(&self, receiver: &NodeId) -> usize {
        self.mailboxes.get(receiver).map_or(0, |mailbox| mailbox.waiting + mailbox.on_their_way.len())
    }

    /// All of them.
    pub fn len(&self) -> usize {
        self.letters.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    fn mailbox(&mut self, receiver: NodeId) -> &mut Mailbox<Id> {
        let limit = self.on_their_way_max;
        self.mailboxes.entry(receiver).or_insert_with(|| Mailbox::new(limit))
    }

    /// Puts a message into its queue, at its place.
    fn wait(&mut self, id: Id) {
        let Some(&Placed { letter, turn, .. }) = self.letters.get(&id) else { return };
        self.by_age.insert((letter.at_ms, id));
        let mailbox = self.mailbox(letter.receiver);
        mailbox.queues.entry(letter.sender).or_default().insert(turn, id);
        mailbox.waiting += 1;
    }

    /// Takes a message out of its queue.
    fn unqueue(&mut self, id: Id) {
        let Some(&Placed { letter, turn, .. }) = self.letters.get(&id) else { return };
        self.by_age.remove(&(letter.at_ms, id));
        let mailbox = self.mailbox(letter.receiver);
        if let Some(queue) = mailbox.queues.get_mut(&letter.sender)
            && queue.remove(&turn).is_some()
        {
            if queue.is_empty() {
                mailbox.queues.remove(&letter.sender);
            }
            mailbox.waiting -= 1;
        }
    }

    fn depart(&mut self, id: Id, ticket: Ticket) {
        self.unqueue(id);
        let Some(placed) = self.letters.get_mut(&id) else { return };
        placed.on_its_way = true;
        let Letter { receiver, sender, .. } = placed.letter;
        let mailbox = self.mailbox(receiver);
        mailbox.on_their_way.insert(ticket, id);
        mailbox.parts.add(sender, 1);
    }

    fn drop_waiting(&mut self, id: Id) -> Option<(Id, Letter)> {
        self.unqueue(id);
        self.forget(id)
    }

    fn forget(&mut self, id: Id) -> Option<(Id, Letter)> {
        let Placed { letter, .. } = self.letters.remove(&id)?;
        if let Some(under) = self.by_table.get_mut(&letter.table) {
            under.remove(&id);
            if under.is_empty() {
                self.by_table.remove(&letter.table);
            }
        }
        self.tidy(letter.receiver);
        Some((id, letter))
    }

    fn tidy(&mut self, receiver: NodeId) {
        if self.mailboxes.get(&receiver).is_some_and(Mailbox::is_idle) {
            self.mailboxes.remove(&receiver);
        }
    }
}

#[cfg(test)]
mod tests;
