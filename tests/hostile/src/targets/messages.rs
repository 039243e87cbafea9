//! Sealed messages of every kind: what decodes has exactly this encoding, and only the right tag verifies.

use std::fmt::Debug;

use dske_protocol::{
    codec,
    message::{
        Agreement, ClientMark, HubMark, IdentityClaim, IdentityRequest, KeyInstruction, KeyRequest,
        LimitsAnswer, LimitsOrder, Notice, Tagged, Unverified, claimed_range,
    },
    negotiation::{Choice, Confirmation, Offer},
    pad::{TAG_BYTES, TAG_KEY_BYTES, TagKey},
    params::MESSAGE_BYTES_MAX,
};

use crate::alloc::bounded;

/// Every message of the seeds is sealed under this key.
pub const KEY: [u8; TAG_KEY_BYTES] = [7; TAG_KEY_BYTES];

/// Decodes the input as each kind of message, those of a round too, as a notice and as an agreement.
pub fn messages(input: &[u8]) {
    bounded(input, || {
        let kinds = [
            tagged::<KeyRequest>(input),
            tagged::<KeyInstruction>(input),
            tagged::<IdentityRequest>(input),
            tagged::<IdentityClaim>(input),
            tagged::<ClientMark>(input),
            tagged::<HubMark>(input),
            tagged::<LimitsOrder>(input),
            tagged::<LimitsAnswer>(input),
        ];
        assert!(kinds.into_iter().filter(|decodes| *decodes).count() <= 1, "a message of two kinds");
        negotiated(input);
        canonical::<Notice>(input);
        if let Some(agreement) = canonical::<Agreement>(input)
            && agreement.is_well_formed()
        {
            assert!(agreement.k <= agreement.n() && agreement.context().as_deref() == Ok(input));
        }
    });
}

fn tagged<T: Tagged + PartialEq + Debug>(input: &[u8]) -> bool {
    let Ok(message) = Unverified::<T>::decode(input.to_vec()) else { return false };
    let (body, tag) = input.split_last_chunk::<TAG_BYTES>().expect("it has a tag");
    let mut again = vec![T::KIND];
    codec::encode_into(message.unverified(), &mut again).expect("it has an encoding");
    assert_eq!(again, body, "another encoding of the same value");
    let range = message.range();
    assert_eq!(claimed_range(input), Some(range));
    assert!(range.end().is_some() && range.lane == T::LANE && range.len >= TAG_KEY_BYTES as u64);
    let right = TagKey::new(KEY).tag(&[], body).as_bytes() == tag;
    assert_eq!(message.verify(TagKey::new(KEY)).is_ok(), right);
    true
}

/// Decodes what stands between kind and tag as what the two ends of a round say to each other.
fn negotiated(input: &[u8]) {
    let Some((body, _)) = input.split_last_chunk::<TAG_BYTES>() else { return };
    match body.split_first() {
        Some((16, body)) => drop(canonical::<Offer>(body)),
        Some((17, body)) => drop(canonical::<Choice>(body)),
        Some((18, body)) => drop(canonical::<Confirmation>(body)),
        _ => {}
    }
}

/// Decodes a value; what decodes must have exactly this encoding.
pub(super) fn canonical<T>(input: &[u8]) -> Option<T>
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    let value: T = codec::decode(input, MESSAGE_BYTES_MAX).ok()?;
    assert_eq!(codec::encode(&value).as_deref(), Ok(input), "another encoding of the same value");
    Some(value)
}
