//! What two clients say to each other about rounds and ends of agreements: over their direct link where there is
//! one, through a hub that both use where there is not. It needs neither secrecy nor integrity (§3).

use dske_protocol::{hub::RequestId, ids::NodeId, receiver::ReceiverInput, sender::SenderInput};

use super::ClientActor;
use crate::network::{Command, LinkMessage};

impl ClientActor {
    /// Sends a message to another client. It may be lost: whoever needs an answer says it again.
    pub(super) fn link(&mut self, to: NodeId, message: LinkMessage) {
        let via = if self.linked.contains(&to) { None } else { self.relay_for(&to) };
        if via.is_some() || self.linked.contains(&to) {
            self.send(Command::Link { to, via, message });
        }
    }

    /// A hub that can pass messages on to a client: each in turn, for one of them may not do it.
    fn relay_for(&mut self, to: &NodeId) -> Option<NodeId> {
        let serving = &self.identities.get(to)?.hubs;
        let usable: Vec<NodeId> =
            self.hubs.usable(&self.store).into_iter().filter(|hub| serving.contains(hub)).collect();
        self.relay_turn = self.relay_turn.wrapping_add(1);
        usable.get(self.relay_turn % usable.len().max(1)).copied()
    }

    /// A message came from another client, or is said to.
    pub(super) fn link_message(&mut self, id: RequestId, from: NodeId, message: LinkMessage) {
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
                // Anybody may claim it: it costs the sender another negotiation key at most.
                if self.sender.session(&session).is_some_and(|of| of.receivers.contains(&from)) {
                    self.sender.handle(now, SenderInput::SessionLost(session), &mut self.rng);
                }
            }
            LinkMessage::Notice(notice) => self.noticed(now, from, notice),
        }
        self.send(Command::AnswerNotices { id });
    }
}
