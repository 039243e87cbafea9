//! What a hub may say instead of the truth, under a right tag: shares, rounds, sessions and parameters of its choice.

use dske_protocol::{
    ids::BlockId,
    message::{Content, KeyInstruction},
    tag::{KeyTag, Tag},
};

use super::ends::Asked;

/// A lie.
#[derive(Debug, Clone)]
pub(super) struct Lie {
    /// What it is about; 0: it is none.
    pub(super) how: u8,
    /// What is put in the place of the truth.
    pub(super) with: u8,
    /// Another request that the hubs had.
    pub(super) other: Option<Asked>,
}

/// Makes the lie of the truth.
pub(super) fn tell(lie: &Lie, instruction: &mut KeyInstruction) {
    let with = lie.with;
    let agreement = &mut instruction.agreement;
    match (lie.how % 12, &lie.other) {
        (1, _) => {
            if let Some(byte) = instruction.share.0.get_mut(usize::from(with)) {
                *byte ^= 0x55;
            }
        }
        (2, _) => {
            if let Content::Round { round, .. } = &mut agreement.content {
                *round = with.into();
            }
        }
        (3, other) => {
            if let Content::Round { session, .. } = &mut agreement.content {
                let block = other.as_ref().map(|other| other.request.agreement.block());
                *session = block.unwrap_or(BlockId::new([with; 16]));
            }
        }
        // The share of this round as one of another's, and the other way round.
        (4, Some(other)) => agreement.nonce = other.request.agreement.nonce,
        (5, Some(other)) => *agreement = other.request.agreement.clone(),
        (6, _) => agreement.purpose = "x".repeat(usize::from(with % 8)),
        (7, _) => {
            let len = agreement.roster.len().max(1);
            agreement.roster.rotate_left(usize::from(with) % len);
        }
        (8, _) => agreement.k = with,
        (9, _) => instruction.key_tag = KeyTag { tag: Tag::new([with; 16]), hint: [with; 8] },
        (10, _) => agreement.content = Content::Keys(with.into()),
        (11, _) => agreement.sender = crate::cast::client(with % 4),
        _ => {}
    }
}
