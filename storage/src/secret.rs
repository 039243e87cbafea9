//! Key bytes on their way in and out. They are zeroed when dropped and cannot be printed or cloned.

use std::fmt;

use dske_protocol::wiped::Wiped;
use zeroize::ZeroizeOnDrop;

/// Secret bytes of any length: an agreed key, or the keys of one block.
pub struct SecretBytes(Wiped);

impl ZeroizeOnDrop for SecretBytes {}

impl SecretBytes {
    /// Takes over secret bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Wiped::new(bytes))
    }

    /// Reads the secret; the caller answers for every copy made of it.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_only_the_length() {
        assert_eq!(format!("{:?}", SecretBytes::new(vec![0xee; 32])), "SecretBytes(32 bytes)");
    }
}
