//! What hubs pass on of what receivers are said to say. It carries no tag, and any client may have a hub pass on
//! anything, so it counts only when as many hubs as must be honest in part say the same.
//!
//! Only hubs of the agreement's roster have a voice, one each; the last word of a hub replaces the one before. So a
//! roster's length bounds what is kept, and it goes with the agreement.
//!
//! A receiver that has the key may say more of it later: how many shares came, which were false. Hubs pass these words on in
//! any order, so that the last ones of all of them may differ for good. That it has the key they all say.

use std::collections::BTreeMap;

use crate::{ids::NodeId, message::NoticeOutcome};

/// The last word of each hub about each receiver.
#[derive(Debug, Default)]
pub(super) struct Voices(BTreeMap<(NodeId, NodeId), NoticeOutcome>);

impl Voices {
    /// Notes that a hub passes a receiver's word on. Gives what so many hubs say by now: the very same, or at least that it
    /// has the key.
    pub(super) fn hear(
        &mut self,
        receiver: NodeId,
        hub: NodeId,
        outcome: &NoticeOutcome,
        enough: usize,
    ) -> Option<NoticeOutcome> {
        self.0.insert((receiver, hub), outcome.clone());
        let voices = |is: &dyn Fn(&NoticeOutcome) -> bool| {
            self.0.iter().filter(|((of, _), said)| *of == receiver && is(said)).count()
        };
        let has_key = |said: &NoticeOutcome| matches!(said, NoticeOutcome::Validated { .. });
        if voices(&|said| said == outcome) >= enough {
            Some(outcome.clone())
        } else if has_key(outcome) && voices(&has_key) >= enough {
            Some(NoticeOutcome::Validated { shares: 0, false_positions: Vec::new() })
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::AbortReason;
    use proptest::prelude::*;

    #[test]
    fn hubs_have_one_voice_each_and_only_the_same_word_adds_up() {
        let node = |id: u8| NodeId::new([id; 32]);
        let validated = |liar: u8| NoticeOutcome::Validated { shares: 3, false_positions: vec![liar] };
        let aborted = NoticeOutcome::Aborted(AbortReason::Ambiguous);
        let mut voices = Voices::default();
        let bare = NoticeOutcome::Validated { shares: 0, false_positions: Vec::new() };
        assert_eq!(voices.hear(node(9), node(1), &validated(1), 2), None);
        assert_eq!(voices.hear(node(9), node(1), &validated(1), 2), None, "one hub has one voice");
        assert_eq!(voices.hear(node(9), node(2), &aborted, 2), None, "another word");
        assert_eq!(voices.hear(node(8), node(2), &validated(1), 2), None, "of another receiver");
        assert_eq!(
            voices.hear(node(9), node(3), &validated(2), 2),
            Some(bare.clone()),
            "who lied they do not agree on"
        );
        assert_eq!(voices.hear(node(9), node(3), &validated(2), 3), None);
        assert_eq!(
            voices.hear(node(9), node(2), &validated(1), 2),
            Some(validated(1)),
            "it says otherwise now"
        );
        assert_eq!(voices.hear(node(9), node(2), &validated(1), 3), Some(bare));
        assert_eq!(voices.hear(node(9), node(1), &aborted, 2), None, "and the other one too");
    }

    proptest! {
        /// Two of five hubs are bad, and three must say it. Whatever these make up, and in whatever order the others pass on
        /// what the receiver said, nothing is believed that it did not say, and what it said is believed at last.
        #[test]
        fn only_what_was_said_is_believed_and_it_is_in_every_order(
            has_key in any::<bool>(),
            words in prop::collection::vec((0u8..5, 0usize..5), 0..40),
        ) {
            let node = |id: u8| NodeId::new([id; 32]);
            let validated = |shares, liars: &[u8]| {
                NoticeOutcome::Validated { shares, false_positions: liars.to_vec() }
            };
            let pool = [
                validated(3, &[]),
                validated(4, &[]),
                validated(5, &[1]),
                NoticeOutcome::Aborted(AbortReason::Ambiguous),
                validated(5, &[0, 2]),
            ];
            // A receiver says more of a key that it has; that there is none it says once.
            let said = if has_key { &pool[..3] } else { &pool[3..4] };
            let mut voices = Voices::default();
            let (mut spoke, mut believed) = (std::collections::BTreeSet::new(), false);
            // In the end each of the honest ones passes something on.
            for (hub, word) in words.into_iter().chain([(2, 0), (3, 1), (4, 2)]) {
                let word = if hub < 2 { &pool[word] } else { &said[word % said.len()] };
                spoke.insert(hub);
                if let Some(outcome) = voices.hear(node(9), node(hub), word, 3) {
                    let bare = has_key && outcome == validated(0, &[]);
                    prop_assert!(bare || said.contains(&outcome), "{outcome:?}");
                    believed = true;
                }
            }
            prop_assert!(believed, "{spoke:?}");
        }
    }
}
