//! What receivers say without a tag, and what senders come to believe of it: with fewer than k_B bad hubs only what was
//! said.

use std::collections::BTreeSet;

use dske_protocol::{
    ids::{BlockId, NodeId},
    message::NoticeOutcome,
    refusal::SendFailure,
    sender::AgreedKey,
};

use super::{Checker, Invariant};

/// See the head of the file.
#[derive(Default)]
pub(crate) struct Said {
    lost: BTreeSet<(NodeId, BlockId)>,
    validated: BTreeSet<(NodeId, BlockId)>,
    aborted: BTreeSet<(NodeId, BlockId)>,
}

impl Checker {
    /// A receiver says that it does not know a session any more.
    pub(crate) fn said_lost(&mut self, receiver: usize, session: BlockId) {
        self.count("sessions lost");
        self.said.lost.insert((self.ids[receiver], session));
    }

    /// A receiver tells how an agreement ended.
    pub(crate) fn said_end(&mut self, receiver: usize, block: BlockId, outcome: &NoticeOutcome) {
        let said = match outcome {
            NoticeOutcome::Validated { .. } => &mut self.said.validated,
            NoticeOutcome::Aborted(_) => &mut self.said.aborted,
        };
        said.insert((self.ids[receiver], block));
    }

    fn is_sure(&self, receiver: &NodeId) -> bool {
        self.bounds.safe && !self.bad_clients.contains(receiver)
    }

    /// A sender has given a session up because its receiver is said to have lost it.
    pub(crate) fn believed_lost(&mut self, receiver: NodeId, session: BlockId) {
        self.count("sessions given up");
        if self.is_sure(&receiver) && !self.said.lost.contains(&(receiver, session)) {
            let text = format!("{} has never said that session {session} is lost", receiver.short());
            self.fail(Invariant::Hearsay, text);
        }
    }

    /// An honest sender has ended an agreement. `linked`: whether two clients can reach each other directly, where
    /// anybody may have said anything.
    pub(crate) fn believed_end(
        &mut self,
        block: BlockId,
        result: &Result<AgreedKey, SendFailure>,
        linked: impl Fn(usize, usize) -> bool,
    ) {
        let Some(agreement) = self.blocks.blocks.get(&block).map(|block| block.agreement.clone()) else {
            return;
        };
        let at = |node: &NodeId| self.ids.iter().position(|id| id == node);
        let hubs_alone = |receiver: &NodeId| {
            let ends = at(&agreement.sender).zip(at(receiver));
            agreement.is_round() || !ends.is_some_and(|(sender, receiver)| linked(sender, receiver))
        };
        let (believed, said) = match result {
            Ok(agreed) if !agreement.is_round() => (agreed.confirmed.clone(), &self.said.validated),
            Err(SendFailure::ReceiverAborted { receiver, .. }) => (vec![*receiver], &self.said.aborted),
            _ => return,
        };
        let made_up = believed
            .into_iter()
            .find(|node| self.is_sure(node) && hubs_alone(node) && !said.contains(&(*node, block)));
        if let Some(receiver) = made_up {
            let text = format!("{} has never said how block {block} ended", receiver.short());
            self.fail(Invariant::Hearsay, text);
        }
    }
}
