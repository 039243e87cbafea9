//! The sender's message to a hub, with one key tag for each receiver.
//!
//! The encoding has no count of key tags: there are as many as receivers, so that none can be missing or left over.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeSeed, SeqAccess, Visitor},
    ser::{SerializeStruct, SerializeTuple},
};

use super::Agreement;
use crate::{codec::Blob, ids::PadRange, params::RECEIVERS_MAX, tag::KeyTag};

/// Sender to hub: forward your share of this agreement (§2.3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRequest {
    /// Share pad and tag key in the up lane.
    pub range: PadRange,
    /// The parameters.
    pub agreement: Agreement,
    /// For each receiver, in the agreement's order, the key tag under that receiver's own u.
    pub key_tags: Vec<KeyTag>,
    /// `Z_i` for the roster positions from k on; the first k hubs take their pad as their share.
    pub share: Option<Blob>,
}

/// The fields in their order on the wire.
const FIELDS: &[&str] = &["range", "agreement", "key_tags", "share"];

impl Serialize for KeyRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("KeyRequest", FIELDS.len())?;
        fields.serialize_field("range", &self.range)?;
        fields.serialize_field("agreement", &self.agreement)?;
        fields.serialize_field("key_tags", &Uncounted(&self.key_tags))?;
        fields.serialize_field("share", &self.share)?;
        fields.end()
    }
}

/// Key tags one after another.
struct Uncounted<'a>(&'a [KeyTag]);

impl Serialize for Uncounted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tags = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|tag| tags.serialize_element(tag))?;
        tags.end()
    }
}

/// Reads so many key tags.
struct Count(usize);

impl<'de> DeserializeSeed<'de> for Count {
    type Value = Vec<KeyTag>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<KeyTag>, D::Error> {
        deserializer.deserialize_tuple(self.0, self)
    }
}

impl<'de> Visitor<'de> for Count {
    type Value = Vec<KeyTag>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key tags", self.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<KeyTag>, A::Error> {
        let mut tags = Vec::with_capacity(self.0);
        while let Some(tag) = seq.next_element()? {
            tags.push(tag);
        }
        Ok(tags)
    }
}

impl<'de> Deserialize<'de> for KeyRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = KeyRequest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key request")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<KeyRequest, A::Error> {
                let missing = |at| de::Error::invalid_length(at, &self);
                let range = seq.next_element()?.ok_or_else(|| missing(0))?;
                let agreement: Agreement = seq.next_element()?.ok_or_else(|| missing(1))?;
                let receivers = agreement.receivers.len();
                if receivers > RECEIVERS_MAX {
                    return Err(de::Error::custom("too many receivers"));
                }
                let key_tags = seq.next_element_seed(Count(receivers))?.ok_or_else(|| missing(2))?;
                let share = seq.next_element()?.ok_or_else(|| missing(3))?;
                Ok(KeyRequest { range, agreement, key_tags, share })
            }
        }
        deserializer.deserialize_struct("KeyRequest", FIELDS, Fields)
    }
}
