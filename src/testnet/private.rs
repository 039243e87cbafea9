//! A place and a name for a testnet that belongs to one run of this program.

use std::{fs::File, io::Read, path::PathBuf};

use dske_protocol::ids::{BlockId, Name};

use crate::cli::error::{CliError, Result, exit};

/// A name that no other run has, and a directory of that name for temporary things; not made yet.
pub(crate) fn private_root(purpose: &str) -> Result<(Name, PathBuf)> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes)).map_err(|error| {
        CliError::new("dske::random", exit::OTHER, "the system gives no random bytes").because(error)
    })?;
    let text = format!("dske-{purpose}-{}", BlockId::new(bytes).short());
    let name = text.parse().map_err(|error| CliError::usage(format!("{text}: {error}")))?;
    Ok((name, std::env::temp_dir().join(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_runs_meet() {
        let (one, other) = (private_root("test"), private_root("test"));
        let ((name, root), (other, _)) = (one.expect("a place"), other.expect("another place"));
        assert!(name != other && root.ends_with(name.as_str()) && !root.exists());
    }
}
