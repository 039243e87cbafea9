//! What two clients say to each other about rounds and ends of agreements: over their direct link where there is
//! one, through hubs that both use where there is not. It needs neither secrecy nor integrity (§3).

use std::collections::{BTreeSet, VecDeque};

use dske_protocol::{
    hub::RequestId,
    ids::{BlockId, NodeId},
    message::{Notice, NoticeOutcome},
    receiver::ReceiverInput,
    sender::SenderInput,
};

use super::ClientActor;
use crate::network::{Command, LinkMessage};

/// Agreements of which hubs say how they ended, at once.
const HEARSAY_MAX: usize = 1024;

/// What hubs say that receivers say: notices carry no tag, so one counts only when as many hubs pass it on as must be honest
/// in part.
#[derive(Debug, Default)]
pub(super) struct Hearsay(VecDeque<Heard>);

#[derive(Debug)]
struct Heard {
    block: BlockId,
    from: NodeId,
    validated: bool,
    hubs: BTreeSet<NodeId>,
}

impl Hearsay {
    /// Notes that a hub passes a notice on; whether so many hubs have by now.
    fn hear(&mut self, from: NodeId, via: NodeId, notice: &Notice, enough: u8) -> bool {
        let validated = matches!(notice.outcome, NoticeOutcome::Validated { .. });
        let same = |heard: &&mut Heard| {
            heard.block == notice.block && heard.from == from && heard.validated == validated
        };
        let heard = match self.0.iter_mut().find(same) {
            Some(heard) => heard,
            None => {
                if self.0.len() >= HEARSAY_MAX {
                    self.0.pop_front();
                }
                self.0.push_back(Heard { block: notice.block, from, validated, hubs: BTreeSet::new() });
                match self.0.back_mut() {
                    Some(heard) => heard,
                    None => return false,
                }
            }
        };
        heard.hubs.insert(via);
        heard.hubs.len() >= usize::from(enough)
    }
}

impl ClientActor {
    /// Sends a message to another client. It may be lost: whoever needs an answer says it again.
    pub(super) fn link(&mut self, to: NodeId, message: LinkMessage) {
        let linked = self.linked.contains(&to);
        let via = if linked { None } else { self.relay_for(&to) };
        if via.is_some() || linked {
            self.send(Command::Link { to, via, message });
        } else {
            tracing::debug!(to = %to.short(), "no way to tell another client something");
        }
    }

    /// Tells a sender that cannot be reached directly how an agreement ended, through every hub that serves it.
    pub(super) fn spread(&mut self, to: NodeId, notice: &Notice) {
        for hub in self.relays_for(&to) {
            self.send(Command::Link { to, via: Some(hub), message: LinkMessage::Notice(notice.clone()) });
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

    /// A message came from another client, or a hub (`via`) says that it is of that client.
    pub(super) fn link_message(
        &mut self,
        id: RequestId,
        from: NodeId,
        via: Option<NodeId>,
        message: LinkMessage,
    ) {
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
                // Anybody may claim it: it costs the sender another negotiation key at most, and those are rationed.
                if self.sender.session(&session).is_some_and(|of| of.receivers.contains(&from)) {
                    tracing::debug!(session = %session, by = %from.short(), "a negotiation key is not known any more");
                    self.path_failed(now, from);
                    self.sender.handle(now, SenderInput::SessionLost(session), &mut self.rng);
                }
            }
            LinkMessage::Notice(notice) => {
                let enough = self.policy.k_min;
                if via.is_none_or(|hub| self.hearsay.hear(from, hub, &notice, enough)) {
                    self.noticed(now, from, notice);
                }
            }
        }
        self.send(Command::AnswerNotices { id });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hubs_say_of_a_receiver_counts_when_k_b_of_them_say_the_same() {
        let node = |id: u8| NodeId::new([id; 32]);
        let notice = |validated| Notice {
            block: BlockId::new([1; 16]),
            outcome: if validated {
                NoticeOutcome::Validated { shares: 3, false_positions: Vec::new() }
            } else {
                NoticeOutcome::Aborted(dske_protocol::refusal::AbortReason::Internal)
            },
        };
        let mut hearsay = Hearsay::default();
        assert!(!hearsay.hear(node(9), node(1), &notice(true), 2));
        assert!(!hearsay.hear(node(9), node(1), &notice(true), 2), "one hub has one voice");
        assert!(!hearsay.hear(node(9), node(2), &notice(false), 2), "another word");
        assert!(!hearsay.hear(node(8), node(2), &notice(true), 2), "of another receiver");
        assert!(hearsay.hear(node(9), node(2), &notice(true), 2));
        for id in 0..=u32::try_from(HEARSAY_MAX).unwrap_or(u32::MAX) {
            let mut bytes = [7; 16];
            bytes[..4].copy_from_slice(&id.to_le_bytes());
            hearsay.hear(node(9), node(1), &Notice { block: BlockId::new(bytes), ..notice(true) }, 2);
        }
        assert_eq!(hearsay.0.len(), HEARSAY_MAX);
    }
}
