//! The only place of the program where key bytes leave it: into a new file of the owner's, or to standard output.
//!
//! Everything that holds them is erased, and they never pass through the standard library's output buffer.

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use dske_protocol::params::KEY_BYTES_MAX;
use dske_storage::files::Draft;
use zeroize::Zeroizing;

use crate::cli::error::{CliError, Result, exit};

/// What became of a key that could not be put anywhere.
const LOST: &str = "the node gives a key once and keeps no copy: it was taken, and is lost at this end; the other ends may hold it, so agree another with them";

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
    /// Length of what [`Self::encode`] makes of a key.
    fn encoded_bytes(self, key_bytes: u64) -> u64 {
        match self {
            Self::Raw => key_bytes,
            Self::Hex => key_bytes.saturating_mul(2).saturating_add(1),
            Self::Base64 => key_bytes.div_ceil(3).saturating_mul(4).saturating_add(1),
        }
    }

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

/// Room for a key, made before the key is asked for, so that none is lost for want of a place: a file of zeros beside the
/// place, under another name, which takes the place's name once it is whole. Removed again unless it was filled.
#[derive(Debug)]
pub(crate) struct KeyFile {
    path: PathBuf,
    draft: Draft,
    encoding: Encoding,
}

impl KeyFile {
    /// Makes room for a key of so many bytes, readable and writable by its owner alone. Never replaces a file.
    pub(crate) fn create(path: &Path, key_bytes: u64, encoding: Encoding) -> Result<Self> {
        let failed = |error: io::Error| {
            let is_there = error.kind() == io::ErrorKind::AlreadyExists;
            let help = if is_there {
                "a key file is never overwritten: choose another name"
            } else {
                "no key was asked for yet: put this right, or choose another place"
            };
            CliError::file("make key file", path, error).help(help)
        };
        if path.symlink_metadata().is_ok() {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        }
        let draft = Draft::new(path).map_err(failed)?;
        let room = encoding.encoded_bytes(key_bytes.min(KEY_BYTES_MAX));
        // Written and synced: some file systems find out only then that they are full.
        let reserved = io::copy(&mut io::repeat(0).take(room), &mut draft.file())
            .and_then(|_| draft.file().sync_all())
            .and_then(|()| draft.file().rewind());
        reserved.map_err(failed)?;
        Ok(Self { path: path.to_owned(), draft, encoding })
    }

    /// Writes the key, syncs it and gives the file its name.
    pub(crate) fn fill(self, key: &[u8]) -> Result<()> {
        let text = self.encoding.encode(key);
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        let mut file = self.draft.file();
        let written =
            file.write_all(&text).and_then(|()| file.set_len(length)).and_then(|()| file.sync_all());
        // A file that was not written whole is removed: nobody must take it for a key.
        written.map_err(|error| CliError::file("write key file", &self.path, error).help(LOST))?;
        let lies_in = self.draft.draft().to_owned();
        self.draft.keep_in_any_case().map_err(|error| {
            CliError::file("make key file", &self.path, error).help(format!(
                "the key was taken and lies whole in {}: give that file a name of your choice",
                lies_in.display()
            ))
        })
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
        CliError::new("dske::output", exit::OTHER, "cannot write the key to standard output")
            .because(error)
            .help(LOST)
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
        let count = || std::fs::read_dir(dir.path()).expect("listed").count();
        let file = KeyFile::create(&path, 32, Encoding::Raw).expect("made");
        assert!(!path.exists(), "nobody takes for a key what is none yet");
        drop(file);
        assert_eq!(count(), 0, "an unfilled file is removed");
        let file = KeyFile::create(&path, 32, Encoding::Raw).expect("made");
        file.fill(&[7; 32]).expect("filled");
        assert_eq!(std::fs::read(&path).expect("read"), [7; 32]);
        assert_eq!(std::fs::metadata(&path).expect("stat").permissions().mode() & 0o777, 0o600);
        assert!(KeyFile::create(&path, 32, Encoding::Raw).is_err());
        assert!(path.exists());
        assert_eq!(count(), 1);
        std::os::unix::fs::symlink(dir.path().join("nowhere"), dir.path().join("link")).expect("a link");
        assert!(KeyFile::create(&dir.path().join("link"), 32, Encoding::Raw).is_err());
    }

    #[test]
    fn room_is_made_for_the_whole_key_and_nothing_else_stays_in_it() {
        let dir = tempfile::tempdir().expect("a directory");
        for encoding in [Encoding::Raw, Encoding::Hex, Encoding::Base64] {
            for (expected, length) in [(31, 31), (1 << 20, 32), (8, 32), (u64::MAX, 1)] {
                let path = dir.path().join("key");
                let file = KeyFile::create(&path, expected, encoding).expect("made");
                let room = file.draft.file().metadata().expect("stat").len();
                let key = vec![7; length];
                let text = encoding.encode(&key);
                if expected == 31 {
                    assert_eq!(room, u64::try_from(text.len()).expect("short"));
                }
                file.fill(&key).expect("filled");
                assert_eq!(std::fs::read(&path).expect("read"), *text);
                std::fs::remove_file(&path).expect("removed");
            }
        }
    }

    #[test]
    fn a_key_whose_place_was_taken_meanwhile_is_not_lost() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("psk.key");
        let file = KeyFile::create(&path, 32, Encoding::Raw).expect("made");
        std::fs::write(&path, b"theirs").expect("written");
        let told = file.fill(&[7; 32]).expect_err("the place is taken").render(false, 1000);
        assert_eq!(std::fs::read(&path).expect("read"), b"theirs");
        let others = std::fs::read_dir(dir.path()).expect("listed").flatten().map(|entry| entry.path());
        let kept: Vec<_> = others.filter(|other| *other != path).collect();
        assert_eq!(kept.len(), 1);
        assert_eq!(std::fs::read(&kept[0]).expect("read"), [7; 32]);
        assert!(told.contains(&kept[0].display().to_string()), "{told}");
    }
}
