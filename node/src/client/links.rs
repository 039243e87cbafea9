//! What two clients say to each other about rounds and ends of agreements: over their direct link where there is
//! one, through hubs that both use where there is not. It needs neither secrecy nor integrity (§3). What carries no tag
//! goes through all of these hubs, for the sender's machine counts their voices.

use dske_protocol::{
    Ways, hub::RequestId, ids::NodeId, message::Notice, params::Time, receiver::ReceiverInput,
    sender::SenderInput,
};

use super::ClientActor;
use crate::network::{Command, LinkMessage};

impl ClientActor {
    /// Sends a message of a round to another client. It may be lost: whoever needs an answer says it again.
    pub(super) fn link(&mut self, to: NodeId, ways: Ways, message: LinkMessage) {
        let linked = self.linked.contains(&to);
        if ways == Ways::All {
            self.spread(to, &message);
        }
        let via = if linked { None } else { self.relay_for(&to) };
        if linked || (ways == Ways::One && via.is_some()) {
            self.send(Command::Link { to, via, message });
        } else if via.is_none() {
            tracing::debug!(to = %to.short(), "no way to tell another client something");
        }
    }

    /// Tells another client something through every hub that both use: each has one voice there.
    pub(super) fn spread(&mut self, to: NodeId, message: &LinkMessage) {
        for hub in self.relays_for(&to) {
            self.send(Command::Link { to, via: Some(hub), message: message.clone() });
        }
    }

    fn relays_for(&self, to: &NodeId) -> Vec<NodeId> {
        let Some(known) = self.identities.get(to) else { return Vec::new() };
        self.hubs.usable(&self.store).into_iter().filter(|hub| known.hubs.contains(hub)).collect()
    }

    /// A hub that can pass messages on to a client: each in turn, for one of them may not do it.
    fn relay_for(&mut self, to: &NodeId) -> Option<NodeId> {
        let relays = self.relays_for(to);
        self.relay_turn = self.relay_turn.wrapping_add(1);
        relays.get(self.relay_turn % relays.len().max(1)).copied()
    }

    /// A message came from another client, or a hub (`via`) says that it is of that client. Only hubs pass messages on.
    pub(super) fn link_message(
        &mut self,
        id: RequestId,
        from: NodeId,
        via: Option<NodeId>,
        message: LinkMessage,
    ) {
        let forged = if via.is_none_or(|hub| self.hubs.accepted().contains(&hub)) {
            let before = self.forged();
            self.linked_message(from, via, message);
            self.forged() > before
        } else {
            tracing::debug!(from = %from.short(), "a message was passed on by a node that is no hub of ours");
            false
        };
        // Who passes a wrong tag on need not have made it.
        self.send(Command::AnswerLink { id, forged: forged && via.is_none() });
    }

    fn forged(&self) -> u64 {
        self.sender.forged() + self.receiver.forged()
    }

    fn linked_message(&mut self, from: NodeId, via: Option<NodeId>, message: LinkMessage) {
        let now = self.clock.now();
        match message {
            LinkMessage::Offer(offer) => {
                self.sender.handle(now, SenderInput::Offer { from, bytes: offer.0 }, &mut self.rng);
            }
            LinkMessage::Choice(choice) => {
                self.receiver.handle(now, ReceiverInput::Choice { from, bytes: choice.0 });
            }
            LinkMessage::Confirmation(word) => {
                self.sender.handle(now, SenderInput::Confirmation { from, bytes: word.0 }, &mut self.rng);
            }
            LinkMessage::SessionLost(session) => {
                // Over a direct link nothing shows whose word it is.
                let (Some(via), Some(_)) = (via, self.sender.session(&session)) else { return };
                self.sender.handle(now, SenderInput::SessionLost { from, via, session }, &mut self.rng);
                if self.sender.session(&session).is_none() {
                    tracing::debug!(%session, by = %from.short(), "a negotiation key is not known any more");
                    self.session_lost(now, from);
                }
            }
            LinkMessage::Notice(notice) => self.noticed(now, from, via, notice),
        }
    }

    /// A receiver is said to tell how an agreement ended.
    pub(super) fn noticed(&mut self, now: Time, from: NodeId, via: Option<NodeId>, notice: Notice) {
        self.sender.handle(now, SenderInput::Notice { from, via, notice }, &mut self.rng);
    }
}
