//! Where pad bytes come from. A pad must be true randomness: the default is the system's generator, and a
//! hardware generator can be read as a file or device, under health tests that stop the making.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

pub use super::health::HealthFailure;
use super::health::HealthTests;

/// A source that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntropyError {
    /// It gave an error, or ended.
    #[error("the entropy source {name} failed: {cause}")]
    Failed {
        /// Which.
        name: String,
        /// The system's reason.
        cause: String,
    },
    /// Its bytes are not random.
    #[error("the entropy source {name} failed its health test ({failure}): do not use it")]
    Unhealthy {
        /// Which.
        name: String,
        /// Which test.
        failure: HealthFailure,
    },
}

/// Gives bytes of full entropy.
pub trait EntropySource: Send {
    /// Fills `out` with fresh bytes.
    ///
    /// # Errors
    /// The source failed or is not healthy; nothing of it may be used.
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError>;
}

/// The operating system's generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl EntropySource for SystemEntropy {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError> {
        getrandom::fill(out)
            .map_err(|error| EntropyError::Failed { name: "getrandom".to_owned(), cause: error.to_string() })
    }
}

/// A file or device of a generator that claims eight bits of entropy in every byte.
#[derive(Debug)]
pub struct DeviceEntropy {
    path: PathBuf,
    file: File,
    tests: HealthTests,
}

impl DeviceEntropy {
    /// Opens the source.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> Result<Self, EntropyError> {
        let file = File::open(path).map_err(|error| failed(path, &error))?;
        Ok(Self { path: path.to_owned(), file, tests: HealthTests::default() })
    }
}

impl EntropySource for DeviceEntropy {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError> {
        self.file.read_exact(out).map_err(|error| failed(&self.path, &error))?;
        let name = || self.path.display().to_string();
        self.tests.examine(out).map_err(|failure| EntropyError::Unhealthy { name: name(), failure })
    }
}

fn failed(path: &Path, error: &std::io::Error) -> EntropyError {
    EntropyError::Failed { name: path.display().to_string(), cause: error.to_string() }
}
