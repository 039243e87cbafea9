//! Names of things: nodes, tables, blocks, keys, and the two directions of a table.
//!
//! Every id is a newtype, so that one cannot be passed for another. All of them are public values.

use std::{fmt, str::FromStr};

use rand_core::CryptoRng;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::planted::{Fault, planted};

/// Longest accepted [`Name`], in bytes.
pub const NAME_BYTES_MAX: usize = 32;

/// An id or name that does not have the form it must have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not the expected number of hexadecimal digits.
    #[error("expected {expected} hexadecimal digits")]
    Hex {
        /// Number of digits that the id has.
        expected: usize,
    },
    /// A name breaks the rule for names.
    #[error("a name is 1 to {NAME_BYTES_MAX} characters out of a-z, 0-9, '.', '_' and '-'")]
    Name,
    /// A key id is not `BLOCK` or `BLOCK-INDEX`.
    #[error("a key id is 32 hexadecimal digits, or those, a dash and an index")]
    Key,
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// Wraps the bytes of an id.
            pub const fn new(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The bytes of the id.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            /// Draws a fresh random id.
            pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
                let mut bytes = [0; $bytes];
                rng.fill_bytes(&mut bytes);
                Self(bytes)
            }

            /// The first four bytes as hexadecimal digits, for screens and logs.
            pub fn short(&self) -> String {
                self.to_string().chars().take(8).collect()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let mut bytes = [0; $bytes];
                decode_hex(text, &mut bytes)?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
                } else {
                    Ok(Self(Deserialize::deserialize(deserializer)?))
                }
            }
        }
    };
}

hex_id! {
    /// A hub or a client: the Ed25519 public key of its libp2p identity, here an opaque label.
    ///
    /// Nothing rests on that signature scheme; what binds a node id to a table is the module in which
    /// the table was delivered (§2.1).
    NodeId, 32
}

hex_id! {
    /// A table (the paper's `H_i^A`): the random bytes that one hub and one client share.
    TableId, 16
}

hex_id! {
    /// The result of one agreement (the paper's key identifier names parts of it). Of the sender and a [`BlockNonce`], so
    /// that nobody else can begin an agreement that has it.
    BlockId, 16
}

hex_id! {
    /// What a sender draws for an agreement: what travels in it, and with the sender gives the [`BlockId`].
    BlockNonce, 16
}

impl BlockNonce {
    /// What BLAKE3 derives block ids for; no other use has this context.
    const CONTEXT: &'static str = "dske block id v1";

    /// The id of the block that this sender names so.
    pub fn block(&self, sender: &NodeId) -> BlockId {
        if planted(Fault::BlockIdOfAnyone) {
            return BlockId(self.0);
        }
        let mut hash = blake3::Hasher::new_derive_key(Self::CONTEXT);
        hash.update(sender.as_bytes()).update(self.as_bytes());
        let mut id = [0; 16];
        hash.finalize_xof().fill(&mut id);
        BlockId(id)
    }
}

/// Names one key: a block and the place of the key in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyId {
    /// The agreement that the key was cut from.
    pub block: BlockId,
    /// Place of the key within its block, from 0.
    pub index: u32,
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            0 => write!(f, "{}", self.block),
            index => write!(f, "{}-{index}", self.block),
        }
    }
}

impl FromStr for KeyId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (block, index) = match text.split_once('-') {
            Some((block, index)) => (block, index.parse().map_err(|_| IdError::Key)?),
            None => (text, 0),
        };
        let block = block.parse().map_err(|_| IdError::Key)?;
        Ok(Self { block, index })
    }
}

/// What people call a node: unique among the clients of a hub, and safe to print.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Name(String);

impl Name {
    /// The text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Name {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(allowed) {
            return Err(IdError::Name);
        }
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// One of the two directions of a table. Each has exactly one allocator, so that the two ends never
/// race for the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// The client allocates, for messages to the hub.
    Up,
    /// The hub allocates, for messages to the client.
    Down,
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

/// One run of bytes in a lane of a table. Every tagged message names the run that it consumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PadRange {
    /// The table.
    pub table: TableId,
    /// The direction within the table.
    pub lane: Lane,
    /// First byte, counted from the start of the lane.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
}

impl PadRange {
    /// The byte after the last one, or `None` where that overflows (only hostile input does).
    pub fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.len)
    }
}

pub(crate) fn decode_hex(text: &str, out: &mut [u8]) -> Result<(), IdError> {
    let error = IdError::Hex { expected: out.len() * 2 };
    if text.len() != out.len() * 2 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(error);
    }
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| error.clone())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| error.clone())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_as_text() {
        let block = BlockId::new([0xa5; 16]);
        let key = KeyId { block, index: 7 };
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(block.to_string().parse::<KeyId>(), Ok(KeyId { block, index: 0 }));
        assert!("a5".parse::<BlockId>().is_err());
        assert!("+".repeat(32).parse::<BlockId>().is_err());
        assert!(format!("{block}-x").parse::<KeyId>().is_err());
    }

    #[test]
    fn the_id_of_a_block_is_of_its_sender_and_nonce() {
        let of = |sender: u8, nonce: u8| BlockNonce::new([nonce; 16]).block(&NodeId::new([sender; 32]));
        assert_eq!(of(1, 2).to_string(), "643449ff5b5ef4aaa42e53d8c220d8c0");
        assert_ne!(of(1, 2), of(3, 2));
        assert_ne!(of(1, 2), of(1, 3));
    }

    #[test]
    fn names_cannot_carry_control_characters() {
        assert!("p1.example_a-b".parse::<Name>().is_ok());
        for bad in ["", "Bob", "a b", "\u{1b}[31m", "é", &"x".repeat(33)] {
            assert_eq!(bad.parse::<Name>(), Err(IdError::Name), "{bad:?}");
        }
    }

    #[test]
    fn a_range_that_overflows_has_no_end() {
        let range = PadRange { table: TableId::new([0; 16]), lane: Lane::Up, offset: u64::MAX, len: 1 };
        assert_eq!(range.end(), None);
    }
}
