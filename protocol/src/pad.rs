//! Pads that are used once: types whose use consumes them.
//!
//! [`PadBytes`] come out of storage when their use has been recorded durably (an allocator's lane) or
//! is held exclusively (a receiver's lane). They are cut into the share pad and the tag key of one
//! message, in that order (one run of the lane: share pad first, tag key last). None of the types can
//! be cloned, compared, serialised or printed.
//!
//! ```compile_fail
//! use dske_protocol::pad::PadBytes;
//! let pad = PadBytes::mint(vec![7; 64]);
//! let (share, key) = pad.split().unwrap();
//! let again = pad.split(); // a pad is consumed by its use
//! ```

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{
    tag::{Tag, one_time_tag},
    wiped::Wiped,
};

/// Bytes of tag key that each tagged message consumes (the paper's l = 256 bits).
pub const TAG_KEY_BYTES: usize = 32;

/// Bytes of a tag (the paper's r = 128 bits).
pub const TAG_BYTES: usize = 16;

/// A run of a lane, fresh from storage.
pub struct PadBytes(Wiped);

impl ZeroizeOnDrop for PadBytes {}

impl PadBytes {
    /// Takes over bytes that storage read. Only storage may call this, once per run of a lane.
    pub fn mint(bytes: Vec<u8>) -> Self {
        Self(Wiped::new(bytes))
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Cuts the run into share pad and tag key; `None` where it is too short for a tag key.
    pub fn split(mut self) -> Option<(OneTimePad, TagKey)> {
        let share_bytes = self.0.len().checked_sub(TAG_KEY_BYTES)?;
        let mut key = Box::new([0; TAG_KEY_BYTES]);
        key.copy_from_slice(&self.0[share_bytes..]);
        self.0[share_bytes..].zeroize();
        self.0.truncate(share_bytes);
        let pad = OneTimePad(std::mem::take(&mut self.0));
        Some((pad, TagKey(key)))
    }
}

impl fmt::Debug for PadBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PadBytes({} bytes)", self.0.len())
    }
}

/// The pad for one share (the paper's `R_i`).
pub struct OneTimePad(Wiped);

impl ZeroizeOnDrop for OneTimePad {}

impl OneTimePad {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Exclusive-ors the pad into `text`: encrypts a share, or decrypts one.
    ///
    /// # Panics
    /// If the lengths differ, which is a bug of the caller: lengths of peers are checked on decoding.
    pub fn apply(self, text: &mut [u8]) {
        assert_eq!(self.0.len(), text.len(), "a pad covers exactly one share");
        for (byte, pad) in text.iter_mut().zip(self.0.iter()) {
            *byte ^= pad;
        }
    }

    /// Uses the pad itself as a share (`Y_i = R_i`, §2.3.1), or as the place where one is encrypted:
    /// exclusive-or of a share into these bytes gives `Z_i`.
    pub fn into_bytes(self) -> Wiped {
        self.0
    }
}

impl fmt::Debug for OneTimePad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OneTimePad({} bytes)", self.0.len())
    }
}

/// Selects the hash function for one tag (the paper's h).
///
/// The bytes stay in one place: moving the key, into a list or out of one, leaves no copy of them behind.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct TagKey(Box<[u8; TAG_KEY_BYTES]>);

impl TagKey {
    /// Takes over key bytes; only for bytes that serve nothing else.
    pub fn new(bytes: [u8; TAG_KEY_BYTES]) -> Self {
        Self(Box::new(bytes))
    }

    /// The tag of a message under this key.
    pub fn tag(self, aad: &[u8], message: &[u8]) -> Tag {
        one_time_tag(&self.0, aad, message)
    }

    /// Whether `tag` is the tag of the message under this key, in constant time.
    pub fn verify(self, aad: &[u8], message: &[u8], tag: &Tag) -> bool {
        one_time_tag(&self.0, aad, message).as_bytes().ct_eq(tag.as_bytes()).into()
    }
}

impl fmt::Debug for TagKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TagKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_share_pad_then_tag_key() {
        let bytes: Vec<u8> = (0..48).collect();
        let run = PadBytes::mint(bytes);
        assert!(run.len() == 48 && !run.is_empty() && PadBytes::mint(Vec::new()).is_empty());
        let (pad, key) = run.split().expect("long enough");
        assert!(pad.len() == 16 && !pad.is_empty());
        assert_eq!(*pad.into_bytes(), (0..16).collect::<Vec<u8>>());
        assert_eq!(*key.0, std::array::from_fn(|i| 16 + u8::try_from(i).unwrap()));
        assert!(PadBytes::mint(vec![1; 31]).split().is_none());
        let (nothing, _) = PadBytes::mint(vec![1; 32]).split().expect("a tag key alone");
        assert!(nothing.is_empty());
    }

    #[test]
    fn applying_twice_gives_the_text_back() {
        let mut text = *b"share";
        OneTimePad(Wiped::new(vec![9; 5])).apply(&mut text);
        assert_ne!(&text, b"share");
        OneTimePad(Wiped::new(vec![9; 5])).apply(&mut text);
        assert_eq!(&text, b"share");
    }

    #[test]
    fn debug_shows_no_secret() {
        let pad = PadBytes::mint(vec![0xab; 40]);
        assert_eq!(format!("{pad:?}"), "PadBytes(40 bytes)");
        let (pad, key) = pad.split().expect("long enough");
        assert_eq!(format!("{pad:?} {key:?}"), "OneTimePad(8 bytes) TagKey(..)");
    }
}
