//! Files that people name are read to a bound: a stranger's file, or a device that never ends, must not take all memory.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// Most bytes of a configuration or of settings: far more than every key with its meaning.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Most bytes of an enrolment request: several times one with all the applications that it may name.
pub const ENROLMENT_BYTES_MAX: u64 = 16 << 10;

/// The text of a file of at most so many bytes. `what` says what it should be, for the error.
///
/// # Errors
/// If it cannot be read, is longer, or is no text.
pub fn read_text(path: &Path, what: &str, bytes_max: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    if bytes.len() as u64 > bytes_max {
        return Err(invalid(format!("it is longer than the {} KiB that {what} may have", bytes_max >> 10)));
    }
    String::from_utf8(bytes).map_err(|_| invalid(format!("it is no text, as {what} is")))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{config::Config, enrol::EnrolmentRequest};

    #[test]
    fn a_file_is_read_to_its_bound_and_no_further() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text");
        let read = || read_text(&path, "a note", 1024);
        fs::write(&path, [b'a'; 1024]).unwrap();
        assert_eq!(read().unwrap().len(), 1024);
        fs::write(&path, [b'a'; 1025]).unwrap();
        assert_eq!(read().unwrap_err().to_string(), "it is longer than the 1 KiB that a note may have");
        fs::write(&path, [0xff]).unwrap();
        assert_eq!(read().unwrap_err().to_string(), "it is no text, as a note is");
        // What never ends is given up as well.
        assert!(read_text(Path::new("/dev/zero"), "a note", 1024).is_err());
    }

    #[test]
    fn what_is_too_long_is_no_request_and_no_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("long");
        // Valid TOML up to there, so that only the length speaks against it.
        fs::write(&path, "#".repeat(2 << 20)).unwrap();
        for told in [
            EnrolmentRequest::load(&path).unwrap_err().to_string(),
            Config::load(&path).unwrap_err().to_string(),
        ] {
            assert!(told.contains("it is longer than the "), "{told}");
        }
    }
}
