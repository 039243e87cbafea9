//! A hub's messages for one receiver: what waits, what is on its way, what has been delivered.
//!
//! The messages themselves stand in the store's outbox, durable before anything here hears of them, so
//! a receiver that is offline gets them when it comes back, and a hub that restarts sends the very same
//! bytes again.

use std::collections::{BTreeMap, VecDeque};

use dske_protocol::{effect::Ticket, refusal::Refusal};
use dske_storage::OutboxId;

/// Messages on their way to one receiver at once; bounds what is held in memory besides the outbox.
const IN_FLIGHT_MAX: usize = 128;

/// The state of one receiver's messages.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    pub(crate) connected: bool,
    /// Connected, and a table has been compared: messages may go.
    pub(crate) ready: bool,
    waiting: VecDeque<OutboxId>,
    in_flight: BTreeMap<Ticket, OutboxId>,
    /// Set when the receiver was too busy; cleared by the next look.
    paused: bool,
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The receiver has it, or will never take it: the outbox may forget it.
    Settled(OutboxId),
    /// It waits for another try.
    Waiting,
}

impl Mailbox {
    /// Number of messages that the receiver has not answered.
    pub(crate) fn pending(&self) -> usize {
        self.waiting.len() + self.in_flight.len()
    }

    /// Adds a message at the end.
    pub(crate) fn add(&mut self, id: OutboxId) {
        self.waiting.push_back(id);
    }

    /// Whether a message that has just become durable may go at once, without overtaking another.
    pub(crate) fn may_send_directly(&self) -> bool {
        self.ready && !self.paused && self.waiting.is_empty() && self.in_flight.len() < IN_FLIGHT_MAX
    }

    /// Takes the next message that may be sent now, under the ticket that its answer will carry.
    pub(crate) fn next(&mut self, ticket: Ticket) -> Option<OutboxId> {
        if !self.ready || self.paused || self.in_flight.len() >= IN_FLIGHT_MAX {
            return None;
        }
        let id = self.waiting.pop_front()?;
        self.in_flight.insert(ticket, id);
        Some(id)
    }

    /// Notes a message that is sent directly.
    pub(crate) fn sent(&mut self, ticket: Ticket, id: OutboxId) {
        self.in_flight.insert(ticket, id);
    }

    /// Forgets a message that waits; `false` where it is on its way, or not here.
    pub(crate) fn forget(&mut self, id: OutboxId) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| *waiting != id);
        self.waiting.len() < before
    }

    /// The bytes of a message are gone from the outbox: its pad stays burned, and nothing is sent.
    pub(crate) fn lost(&mut self, ticket: Ticket) -> Option<OutboxId> {
        self.in_flight.remove(&ticket)
    }

    /// The message that was sent under a ticket, while it is not answered.
    pub(crate) fn sent_under(&self, ticket: Ticket) -> Option<OutboxId> {
        self.in_flight.get(&ticket).copied()
    }

    /// The receiver answered, or could not be reached (`None`).
    pub(crate) fn answered(&mut self, ticket: Ticket, answer: Option<Result<(), Refusal>>) -> Option<Fate> {
        let id = self.in_flight.remove(&ticket)?;
        match answer {
            Some(Err(refusal)) if refusal.is_transient() => {
                self.paused = true;
                // Behind the others: what hinders this one may not hinder them.
                self.waiting.push_back(id);
                Some(Fate::Waiting)
            }
            Some(_) => Some(Fate::Settled(id)),
            None => {
                self.paused = true;
                self.waiting.push_front(id);
                Some(Fate::Waiting)
            }
        }
    }

    /// Lets sending begin again after a pause.
    pub(crate) fn resume(&mut self) {
        self.paused = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unanswered_message_waits_and_goes_again() {
        let mut mailbox = Mailbox { ready: true, ..Mailbox::default() };
        mailbox.add(OutboxId(1));
        assert_eq!(mailbox.next(Ticket(1)), Some(OutboxId(1)));
        assert_eq!(mailbox.answered(Ticket(1), None), Some(Fate::Waiting));
        assert_eq!(mailbox.next(Ticket(2)), None, "paused after a failure");
        mailbox.resume();
        assert_eq!(mailbox.next(Ticket(3)), Some(OutboxId(1)));
        let used = Some(Err(Refusal::PadUsed));
        assert_eq!(mailbox.answered(Ticket(3), used), Some(Fate::Settled(OutboxId(1))));
        assert_eq!(mailbox.pending(), 0);
    }

    #[test]
    fn a_message_that_cannot_be_taken_yet_lets_others_pass() {
        let mut mailbox = Mailbox { ready: true, ..Mailbox::default() };
        mailbox.add(OutboxId(1));
        mailbox.add(OutboxId(2));
        assert_eq!(mailbox.next(Ticket(1)), Some(OutboxId(1)));
        assert_eq!(mailbox.answered(Ticket(1), Some(Err(Refusal::TablePending))), Some(Fate::Waiting));
        mailbox.resume();
        assert_eq!(mailbox.next(Ticket(2)), Some(OutboxId(2)));
        assert_eq!(mailbox.next(Ticket(3)), Some(OutboxId(1)));
    }

    #[test]
    fn nothing_goes_to_a_receiver_that_is_away() {
        let mut mailbox = Mailbox::default();
        mailbox.add(OutboxId(1));
        assert!(!mailbox.may_send_directly());
        assert_eq!(mailbox.next(Ticket(1)), None);
        assert_eq!(mailbox.pending(), 1);
    }
}
