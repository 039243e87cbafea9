//! What a client signs when it asks to be enrolled, and what every hub hands on with its claim (§2.2).
//!
//! A hub can claim nothing of a client that the client has not signed. So a claim without the signature is the hub's
//! own doing, and no act of the client can explain it; two claims that both bear it and differ are the client's
//! doing, and no hub's.
//!
//! No secrecy rests on the signature. Who can forge it can do what a hub could do without it: claim something false
//! of a client, and be outvoted. And an honest hub always has a signature, whoever can forge others.
//!
//! Whether a signature holds must be decided by this one function, when a client is enrolled and when a claim is
//! heard: with two ways of looking, a client could make a signature that its hub takes and others do not.

use std::{fmt, str::FromStr};

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    codec,
    ids::{IdError, NodeId},
    message::Identity,
};

/// Before what is signed: nothing else that a node's key signs begins so.
const DOMAIN: &[u8] = b"dske enrolment request, format 2\n";

/// An Ed25519 signature by a node's key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature([u8; 64]);

impl Signature {
    /// Wraps the bytes of a signature.
    pub const fn new(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The bytes of the signature.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }

    /// Whether the key that is the identity's node id signed this identity, all of it.
    pub fn holds(&self, identity: &Identity) -> bool {
        let Ok(key) = VerifyingKey::from_bytes(identity.node.as_bytes()) else { return false };
        let signature = ed25519_dalek::Signature::from_bytes(&self.0);
        key.verify_strict(&signed_text(identity), &signature).is_ok()
    }
}

/// The node whose key has this secret half.
pub fn node_of(secret: &[u8; 32]) -> NodeId {
    NodeId::new(SigningKey::from_bytes(secret).verifying_key().to_bytes())
}

/// Signs an identity with the secret half of a node's key. It holds if the identity is that node's.
pub fn sign(secret: &[u8; 32], identity: &Identity) -> Signature {
    Signature(SigningKey::from_bytes(secret).sign(&signed_text(identity)).to_bytes())
}

/// What a client signs to be enrolled as this: domain ‖ encoding of the identity.
pub fn signed_text(identity: &Identity) -> Vec<u8> {
    let mut text = DOMAIN.to_vec();
    // An identity has an encoding; were there none, the text would be one that nobody signs.
    let _ = codec::encode_into(identity, &mut text);
    text
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({self})")
    }
}

impl FromStr for Signature {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut bytes = [0; 64];
        crate::ids::decode_hex(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(self);
        }
        let (r, s) = self.0.split_at(32);
        // Both are 32 bytes: arrays of that length have no count before them.
        let half = |half: &[u8]| <[u8; 32]>::try_from(half).unwrap_or_default();
        (half(r), half(s)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return String::deserialize(deserializer)?.parse().map_err(de::Error::custom);
        }
        let (r, s) = <([u8; 32], [u8; 32])>::deserialize(deserializer)?;
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&r);
        bytes[32..].copy_from_slice(&s);
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(key: u8, name: &str, applications: &[&str]) -> (Identity, Signature) {
        let identity = Identity {
            node: node_of(&[key; 32]),
            name: name.parse().expect("a name"),
            applications: applications.iter().map(|text| (*text).to_owned()).collect(),
        };
        let signature = sign(&[key; 32], &identity);
        (identity, signature)
    }

    #[test]
    fn only_the_nodes_own_key_signs_and_it_signs_every_field() {
        let (identity, signature) = signed(1, "bob", &["vpn"]);
        assert!(signature.holds(&identity));
        let (other, of_other) = signed(2, "bob", &["vpn"]);
        assert!(!of_other.holds(&identity) && !signature.holds(&other));
        let changed = [
            Identity { node: other.node, ..identity.clone() },
            Identity { name: "bo".parse().expect("a name"), ..identity.clone() },
            Identity { applications: Vec::new(), ..identity.clone() },
            Identity { applications: vec!["vp".to_owned(), "n".to_owned()], ..identity.clone() },
            // No point of the curve at all.
            Identity { node: NodeId::new([2; 32]), ..identity.clone() },
        ];
        assert!(changed.iter().all(|changed| !signature.holds(changed)));
        for bit in 0..512 {
            let mut bytes = *signature.as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!Signature::new(bytes).holds(&identity), "bit {bit}");
        }
    }

    #[test]
    fn a_signature_has_one_text_and_one_encoding_of_64_bytes() {
        let (_, signature) = signed(1, "bob", &[]);
        assert_eq!(signature.to_string().parse(), Ok(signature));
        assert!("00".repeat(63).parse::<Signature>().is_err());
        let encoded = codec::encode(&signature).expect("it has an encoding");
        assert_eq!(encoded, signature.as_bytes());
        assert_eq!(codec::decode(&encoded, 64), Ok(signature));
    }
}
