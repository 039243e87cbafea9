//! Messages on their way to one peer: collected into batches, with few exchanges in flight.
//!
//! While as many exchanges are out as are allowed, messages gather; the next exchange then takes all of
//! them. Where the last exchange carried several, the next waits a moment until as many have gathered. So
//! one message alone goes at once, and many at once share an exchange.

use std::collections::VecDeque;

use dske_protocol::{codec::Blob, effect::Ticket, ids::BlockId, message::Notice, params::MESSAGE_BYTES_MAX};

use super::wire::{BATCH_MESSAGES_MAX, Request};

/// Exchanges of one kind with one peer in flight at once: one of short messages, so that they gather while
/// it is out; more of long ones, which fill an exchange each and whose transport and work then overlap.
const IN_FLIGHT_MAX: usize = 1;
const IN_FLIGHT_LONG_MAX: usize = 4;

/// From this length on a message is long.
const LONG_BYTES: usize = 64 << 10;

/// What the answers of one exchange belong to, in the order of its messages.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Shares(Vec<BlockId>),
    Instructions(Vec<Ticket>),
    Notices,
}

/// The queues towards one peer.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    shares: Queue<BlockId>,
    instructions: Queue<Ticket>,
    notices: VecDeque<Notice>,
    notices_in_flight: usize,
}

#[derive(Debug)]
struct Queue<Id> {
    waiting: VecDeque<(Id, Vec<u8>)>,
    in_flight: usize,
    last_batch: usize,
}

impl<Id> Default for Queue<Id> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), in_flight: 0, last_batch: 1 }
    }
}

impl<Id> Queue<Id> {
    fn next_batch(&mut self, gathered: bool) -> Option<(Vec<Id>, Vec<Blob>)> {
        let (_, next) = self.waiting.front()?;
        let is_long = next.len() >= LONG_BYTES;
        let in_flight_max = if is_long { IN_FLIGHT_LONG_MAX } else { IN_FLIGHT_MAX };
        let more_may_come = !is_long && !gathered && self.waiting.len() < self.last_batch;
        if self.in_flight >= in_flight_max || more_may_come {
            return None;
        }
        let (mut ids, mut messages, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some((_, message)) = self.waiting.front() {
            bytes += message.len() + 8;
            if !ids.is_empty() && (ids.len() >= BATCH_MESSAGES_MAX || bytes > MESSAGE_BYTES_MAX) {
                break;
            }
            if let Some((id, message)) = self.waiting.pop_front() {
                ids.push(id);
                messages.push(Blob(message));
            }
        }
        self.in_flight += 1;
        self.last_batch = ids.len();
        Some((ids, messages))
    }

    fn gathers(&self) -> bool {
        !self.waiting.is_empty() && self.in_flight < IN_FLIGHT_MAX
    }

    fn drain(&mut self) -> Vec<Id> {
        self.in_flight = 0;
        self.waiting.drain(..).map(|(id, _)| id).collect()
    }
}

impl Outbound {
    pub(super) fn push_share(&mut self, block: BlockId, bytes: Vec<u8>) {
        self.shares.waiting.push_back((block, bytes));
    }

    pub(super) fn push_instruction(&mut self, ticket: Ticket, bytes: Vec<u8>) {
        self.instructions.waiting.push_back((ticket, bytes));
    }

    pub(super) fn push_notice(&mut self, notice: Notice) {
        self.notices.push_back(notice);
    }

    /// The next exchange to start, if one may start. `gathered`: messages have had their moment.
    pub(super) fn next_exchange(&mut self, gathered: bool) -> Option<(Sent, Request)> {
        if let Some((blocks, messages)) = self.shares.next_batch(gathered) {
            return Some((Sent::Shares(blocks), Request::Shares(messages)));
        }
        if let Some((tickets, messages)) = self.instructions.next_batch(gathered) {
            return Some((Sent::Instructions(tickets), Request::Instructions(messages)));
        }
        if !self.notices.is_empty() && self.notices_in_flight < IN_FLIGHT_MAX {
            self.notices_in_flight += 1;
            let count = self.notices.len().min(BATCH_MESSAGES_MAX);
            return Some((Sent::Notices, Request::Notices(self.notices.drain(..count).collect())));
        }
        None
    }

    /// Whether messages wait only for others to gather.
    pub(super) fn gathers(&self) -> bool {
        self.shares.gathers() || self.instructions.gathers()
    }

    /// An exchange has ended, one way or the other.
    pub(super) fn ended(&mut self, sent: &Sent) {
        let in_flight = match sent {
            Sent::Shares(_) => &mut self.shares.in_flight,
            Sent::Instructions(_) => &mut self.instructions.in_flight,
            Sent::Notices => &mut self.notices_in_flight,
        };
        *in_flight = in_flight.saturating_sub(1);
    }

    /// Gives up everything that waits: the peer has gone.
    pub(super) fn drain(&mut self) -> (Vec<BlockId>, Vec<Ticket>) {
        self.notices.clear();
        self.notices_in_flight = 0;
        (self.shares.drain(), self.instructions.drain())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(id: u8) -> BlockId {
        BlockId::new([id; 16])
    }

    #[test]
    fn messages_gather_while_exchanges_are_out() {
        let mut outbound = Outbound::default();
        let mut out = Vec::new();
        for id in 0..10 {
            outbound.push_share(block(id), vec![id; 100]);
            out.extend(outbound.next_exchange(false));
        }
        assert_eq!(out.len(), IN_FLIGHT_MAX);
        outbound.ended(&out[0].0);
        let (sent, _) = outbound.next_exchange(false).expect("a place is free");
        assert_eq!(sent, Sent::Shares((1..10).map(block).collect()));
        // Nine came together, so one alone now waits for its moment.
        outbound.ended(&sent);
        outbound.push_share(block(10), vec![10]);
        assert!(outbound.next_exchange(false).is_none());
        assert!(outbound.gathers());
        assert!(outbound.next_exchange(true).is_some());
        assert!(!outbound.gathers());
    }

    #[test]
    fn a_batch_stays_within_the_longest_request() {
        let mut outbound = Outbound::default();
        for id in 0..3 {
            outbound.push_share(block(id), vec![id; 400 << 10]);
        }
        let (sent, request) = outbound.next_exchange(false).expect("one may start");
        assert_eq!(sent, Sent::Shares(vec![block(0), block(1)]));
        let bytes = dske_protocol::codec::encode(&request).expect("encodes");
        assert!(bytes.len() <= super::super::wire::REQUEST_BYTES_MAX);
    }
}
