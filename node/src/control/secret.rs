//! The one place where a key is encoded: for its owner, over the control socket.

use dske_protocol::codec::Blob;
use dske_storage::SecretBytes;
use serde::{Deserialize, Deserializer, Serializer};

pub(super) fn serialize<S: Serializer>(key: &SecretBytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(key.expose())
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretBytes, D::Error> {
    Ok(SecretBytes::new(Blob::deserialize(deserializer)?.0))
}
