//! The one place where bytes become values and values become bytes.
//!
//! bincode with fixed-width integers: each value has exactly one encoding. Decoding is bounded, refuses
//! trailing bytes, and never panics. Wire types must hold no sequence of zero-sized elements and no
//! recursion, which the limit does not bound.

use bincode::Options;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bytes that are not a value of the wanted type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed message")]
pub struct DecodeError;

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().reject_trailing_bytes()
}

/// Encodes a value.
///
/// # Errors
/// If the type has no encoding; wire types all have one.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, DecodeError> {
    options().serialize(value).map_err(|_| DecodeError)
}

/// Length of the encoding of a value.
///
/// # Errors
/// As [`encode`].
pub fn encoded_bytes<T: Serialize>(value: &T) -> Result<usize, DecodeError> {
    let bytes = options().serialized_size(value).map_err(|_| DecodeError)?;
    usize::try_from(bytes).map_err(|_| DecodeError)
}

/// Appends the encoding of a value.
///
/// # Errors
/// As [`encode`].
pub fn encode_into<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    // Room for all of it at once: growing would copy what may be a megabyte, and leave copies behind.
    out.reserve(encoded_bytes(value)?);
    options().serialize_into(out, value).map_err(|_| DecodeError)
}

/// Decodes a value out of exactly these bytes.
///
/// # Errors
/// If the bytes are more than `bytes_max`, are not the encoding of a value, or go on after it.
pub fn decode<T: de::DeserializeOwned>(bytes: &[u8], bytes_max: usize) -> Result<T, DecodeError> {
    if bytes.len() > bytes_max {
        return Err(DecodeError);
    }
    options().with_limit(bytes_max as u64).deserialize(bytes).map_err(|_| DecodeError)
}

/// Bytes that are encoded as one run, not element by element.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Blob(pub Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Blob;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_bytes_and_wrong_lengths_are_refused() {
        let value = (7u32, Blob(vec![1, 2, 3]));
        let bytes = encode(&value).unwrap();
        assert_eq!(encoded_bytes(&value), Ok(bytes.len()));
        let mut appended = vec![9];
        encode_into(&value, &mut appended).unwrap();
        assert_eq!(appended[1..], bytes, "appending encodes alike, and keeps what is there");
        assert!(decode::<(u32, Blob)>(&bytes, bytes.len()).is_ok(), "as long as allowed");
        assert_eq!(decode::<(u32, Blob)>(&bytes, 64).unwrap().1.0, [1, 2, 3]);
        let mut long = bytes.clone();
        long.push(0);
        assert!(decode::<(u32, Blob)>(&long, 64).is_err());
        assert!(decode::<(u32, Blob)>(&bytes[..bytes.len() - 1], 64).is_err());
        assert!(decode::<(u32, Blob)>(&bytes, bytes.len() - 1).is_err());
    }

    #[test]
    fn debug_shows_only_the_length() {
        assert_eq!(format!("{:?}", Blob(vec![0xab; 3])), "Blob(3 bytes)");
    }

    #[test]
    fn a_length_that_lies_allocates_nothing() {
        let mut bytes = encode(&Blob(vec![0; 4])).unwrap();
        bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(decode::<Blob>(&bytes, 1 << 20).is_err());
        bytes[..8].copy_from_slice(&(1u64 << 40).to_le_bytes());
        assert!(decode::<Blob>(&bytes, 1 << 20).is_err());
        assert!(decode::<Vec<u64>>(&bytes, 1 << 20).is_err());
    }
}
