//! The only place of the program where key bytes leave it: into a new file of the owner's, or to standard output.
//!
//! Everything that holds them is erased, and they never pass through the standard library's output buffer.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use dske_storage::files;
use zeroize::Zeroizing;

use crate::cli::error::{CliError, Result, exit};

/// Form in which a key is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Encoding {
    /// The bytes themselves
    Raw,
    /// Hexadecimal digits and a line end
    Hex,
    /// Base 64 and a line end, as WireGuard takes it
    Base64,
}

impl Encoding {
    fn encode(self, key: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut text = match self {
            Self::Raw => return Zeroizing::new(key.to_vec()),
            Self::Hex => hex(key),
            Self::Base64 => base64(key),
        };
        text.push(b'\n');
        text
    }
}

/// A file that is there before the key is asked for, so that no key is lost for want of a place. Removed
/// again unless it was filled.
#[derive(Debug)]
pub(crate) struct KeyFile {
    path: PathBuf,
    file: File,
    filled: bool,
}

impl KeyFile {
    /// Makes the file, readable and writable by its owner alone. Never replaces one.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = files::create_new(path).map_err(|error| {
            let is_there = error.kind() == io::ErrorKind::AlreadyExists;
            let report = CliError::file("make key file", path, error);
            if is_there {
                report.help("a key file is never overwritten: choose another name")
            } else {
                report
            }
        })?;
        Ok(Self { path: path.to_owned(), file, filled: false })
    }

    /// Writes the key and syncs it.
    pub(crate) fn fill(mut self, key: &[u8], encoding: Encoding) -> Result<()> {
        let written = self.file.write_all(&encoding.encode(key)).and_then(|()| self.file.sync_all());
        // A file that was not written whole is removed: nobody must take it for a key.
        written.map_err(|error| {
            CliError::file("write key file", &self.path, error)
                .help("the key is delivered once and is lost now; agree another")
        })?;
        self.filled = true;
        Ok(())
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        if !self.filled {
            // Nothing better can be done here than to leave an empty file.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Writes the key to standard output.
pub(crate) fn print(key: &[u8], encoding: Encoding) -> Result<()> {
    print_bytes(&encoding.encode(key))
}

/// Writes secret bytes to standard output, past its buffer.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<()> {
    io::stdout().flush()?;
    let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    stdout.write_all(bytes).map_err(|error| {
        CliError::new("dske::output", exit::OTHER, "cannot write the key to standard output").because(error)
    })
}

/// Base 64 (RFC 4648, with padding), without the line end. No branch or table index depends on the key.
pub(crate) fn base64(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::with_capacity(bytes.len().div_ceil(3) * 4 + 1));
    for chunk in bytes.chunks(3) {
        let mut group = [0_u8; 3];
        for (to, from) in group.iter_mut().zip(chunk) {
            *to = *from;
        }
        let [a, b, c] = group;
        let sextets = [a >> 2, (a & 3) << 4 | b >> 4, (b & 15) << 2 | c >> 6, c & 63];
        for (place, sextet) in sextets.into_iter().enumerate() {
            text.push(if place <= chunk.len() { sextet_digit(sextet) } else { b'=' });
        }
        zeroize::Zeroize::zeroize(&mut group);
    }
    text
}

fn hex(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let digit = |nibble: u8| nibble + b'0' + (above(nibble, 9) & (b'a' - b'0' - 10));
    let mut text = Zeroizing::new(Vec::with_capacity(bytes.len() * 2 + 1));
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text
}

fn sextet_digit(sextet: u8) -> u8 {
    // Each step corrects the distance to the start of the next run of the alphabet: A–Z, a–z, 0–9, +, /.
    sextet
        .wrapping_add(b'A')
        .wrapping_add(above(sextet, 25) & (b'a' - b'Z' - 1))
        .wrapping_sub(above(sextet, 51) & (b'z' - b'0' + 1))
        .wrapping_sub(above(sextet, 61) & (b'9' - b'+' + 1))
        .wrapping_add(above(sextet, 62) & (b'/' - b'+' - 1))
}

/// All ones where `value > limit` (both below 128), zero otherwise.
fn above(value: u8, limit: u8) -> u8 {
    (limit.wrapping_sub(value) >> 7).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    #[test]
    fn encodings_are_the_usual_ones() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(text(&base64(plain.as_bytes())), encoded);
        }
        let alphabet: Vec<u8> = (0..64).map(sextet_digit).collect();
        assert_eq!(text(&alphabet), "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
        assert_eq!(text(&hex(&[0x00, 0x09, 0x9a, 0xff, 0x5f])), "00099aff5f");
    }

    #[test]
    fn a_key_file_is_private_and_never_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("psk.key");
        drop(KeyFile::create(&path).expect("made"));
        assert!(!path.exists(), "an unfilled file is removed");
        KeyFile::create(&path).and_then(|file| file.fill(&[7; 32], Encoding::Raw)).expect("filled");
        assert_eq!(std::fs::read(&path).expect("read"), [7; 32]);
        assert_eq!(std::fs::metadata(&path).expect("stat").permissions().mode() & 0o777, 0o600);
        assert!(KeyFile::create(&path).is_err());
        assert!(path.exists());
    }
}
