//! What hubs pass on of what receivers are said to say. It carries no tag, and any client may have a hub pass on
//! anything, so it counts only when as many hubs as must be honest in part say the same.
//!
//! Only hubs of the agreement's roster have a voice, one each; the last word of a hub replaces the one before. So a
//! roster's length bounds what is kept, and it goes with the agreement.

use std::collections::BTreeMap;

use crate::{ids::NodeId, message::NoticeOutcome};

/// The last word of each hub about each receiver.
#[derive(Debug, Default)]
pub(super) struct Voices(BTreeMap<(NodeId, NodeId), NoticeOutcome>);

impl Voices {
    /// Notes that a hub passes a receiver's word on. Gives how many hubs say the very same by now.
    pub(super) fn hear(&mut self, receiver: NodeId, hub: NodeId, outcome: &NoticeOutcome) -> usize {
        self.0.insert((receiver, hub), outcome.clone());
        let same =
            |((of, _), said): &(&(NodeId, NodeId), &NoticeOutcome)| *of == receiver && *said == outcome;
        self.0.iter().filter(same).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::AbortReason;

    #[test]
    fn hubs_have_one_voice_each_and_only_the_same_word_adds_up() {
        let node = |id: u8| NodeId::new([id; 32]);
        let validated = |liar: u8| NoticeOutcome::Validated { shares: 3, false_positions: vec![liar] };
        let aborted = NoticeOutcome::Aborted(AbortReason::Ambiguous);
        let mut voices = Voices::default();
        assert_eq!(voices.hear(node(9), node(1), &validated(1)), 1);
        assert_eq!(voices.hear(node(9), node(1), &validated(1)), 1, "one hub has one voice");
        assert_eq!(voices.hear(node(9), node(2), &aborted), 1, "another word");
        assert_eq!(voices.hear(node(9), node(3), &validated(2)), 1, "another hub is accused");
        assert_eq!(voices.hear(node(8), node(2), &validated(1)), 1, "of another receiver");
        assert_eq!(voices.hear(node(9), node(2), &validated(1)), 2, "it says otherwise now");
        assert_eq!(voices.hear(node(9), node(1), &aborted), 1, "and the other one too");
        assert_eq!(voices.hear(node(9), node(4), &validated(1)), 2);
    }
}
