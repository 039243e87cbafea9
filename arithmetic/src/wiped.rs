//! Secret bytes of any length that are erased when they go.
//!
//! A `Zeroizing<Vec<u8>>` erases byte after byte, which for a megabyte takes ten times as long as sharing or tagging it.
//! This erases many bytes at once.

use std::{
    fmt,
    mem::MaybeUninit,
    ops::{Deref, DerefMut},
};

use zeroize::{Zeroize, ZeroizeOnDrop};

/// Secret bytes, erased on drop; not printed, not cloned. What is done to them must not make them move: a vector that
/// grows leaves a copy behind.
#[derive(Default, PartialEq, Eq)]
pub struct Wiped(Vec<u8>);

impl Wiped {
    /// Takes over bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Gives the bytes away, to somebody who erases them or for whom they are not secret any more.
    pub fn into_vec(mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

impl Zeroize for Wiped {
    fn zeroize(&mut self) {
        self.0.clear();
        self.0.spare_capacity_mut().zeroize();
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        self.zeroize();
    }
}

impl ZeroizeOnDrop for Wiped {}

impl Deref for Wiped {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Wiped {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl From<Vec<u8>> for Wiped {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Wiped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wiped({} bytes)", self.0.len())
    }
}

/// Overwrites what the functions that were called just before have left on the stack, as far as the next `BYTES` of it go:
/// vector registers full of secrets are put there when there are too few. Whatever is moved over it later, bytes between
/// fields included, would take it along.
#[inline(never)]
pub fn clear_stack<const BYTES: usize>() {
    let mut stack = [MaybeUninit::<u8>::uninit(); BYTES];
    stack.as_mut_slice().zeroize();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_in_and_come_out() {
        assert_eq!(Wiped::new(vec![1, 2, 3]).into_vec(), [1, 2, 3]);
        assert_eq!(*Wiped::from(vec![4, 5]), [4, 5]);
        assert_eq!(format!("{:?}", Wiped::new(vec![1, 2])), "Wiped(2 bytes)");
    }

    #[test]
    #[allow(unsafe_code, reason = "what an erased vector still has in its memory cannot be seen otherwise")]
    fn erasing_covers_what_was_cut_off_too() {
        let mut secret = Wiped::new(vec![0xaa; 100]);
        secret.truncate(10);
        secret.zeroize();
        assert!(secret.is_empty() && secret.capacity() >= 100);
        // SAFETY: the hundred bytes were written when the vector was made, and zeros since.
        unsafe { secret.set_len(100) };
        assert_eq!(*secret, [0; 100]);
    }
}
