//! The sealed frames of a module: each is encrypted under its number and whether it is the last, and bound
//! to the header, so that frames cannot be cut off, exchanged, repeated or moved to another file.

use std::io::{self, Read, Write};

use chacha20poly1305::{ChaCha20Poly1305, KeyInit, aead::AeadInOut};
use zeroize::Zeroizing;

use super::{error::ModuleError, key::FileKeys, manifest::FRAME_BYTES};

/// What the seal adds to a frame.
pub(super) const SEAL_BYTES: usize = 16;
/// Length in front of each frame.
pub(super) const LENGTH_BYTES: usize = 4;
/// Longest sealed frame.
const SEALED_BYTES_MAX: usize = FRAME_BYTES as usize + SEAL_BYTES;

/// Seals or opens the frames of one file in order.
pub(super) struct Frames {
    cipher: ChaCha20Poly1305,
    header: Vec<u8>,
    next: u64,
}

impl Frames {
    pub(super) fn new(keys: &FileKeys, header: Vec<u8>) -> Self {
        Self { cipher: ChaCha20Poly1305::new((&*keys.seal).into()), header, next: 0 }
    }

    /// Number of the next frame.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Seals `frame` in place and writes it. The caller leaves room for the seal where the frame is secret.
    pub(super) fn write(&mut self, out: &mut impl Write, frame: &mut Vec<u8>, last: bool) -> io::Result<()> {
        let nonce = self.nonce(last);
        frame.reserve_exact(SEAL_BYTES);
        self.cipher
            .encrypt_in_place((&nonce).into(), &self.header, frame)
            .map_err(|_| io::Error::other("a frame cannot be sealed"))?;
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        out.write_all(&length.to_le_bytes())?;
        out.write_all(frame)
    }

    /// Reads the next frame and opens it; `Ok(None)` where the seal does not hold.
    pub(super) fn read(
        &mut self,
        input: &mut impl Read,
        last: bool,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, ReadError> {
        let mut length = [0; LENGTH_BYTES];
        input.read_exact(&mut length).map_err(ReadError::from)?;
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if !(SEAL_BYTES..=SEALED_BYTES_MAX).contains(&length) {
            return Ok(None);
        }
        let mut frame = Zeroizing::new(vec![0; length]);
        input.read_exact(&mut frame).map_err(ReadError::from)?;
        let nonce = self.nonce(last);
        let opened = self.cipher.decrypt_in_place((&nonce).into(), &self.header, &mut *frame);
        Ok(opened.is_ok().then_some(frame))
    }

    /// Passes over frames that were read before.
    pub(super) fn skip(&mut self, frames: u64) {
        self.next += frames;
    }

    fn nonce(&mut self, last: bool) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&self.next.to_le_bytes());
        nonce[11] = u8::from(last);
        self.next += 1;
        nonce
    }
}

/// A frame that is not there.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The file ends inside it.
    Truncated,
    /// The system's reason.
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Io(error),
        }
    }
}

impl ReadError {
    pub(super) fn at(self, frame: u64, path: &std::path::Path) -> ModuleError {
        match self {
            Self::Truncated => ModuleError::damaged(frame, "the file ends there"),
            Self::Io(error) => ModuleError::io("read", path, &error),
        }
    }
}
