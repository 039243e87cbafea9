//! Enrolment: a client's request for service, as a file that its operator takes to a hub's operator.
//!
//! The file holds nothing secret, but it must arrive unaltered (§2.1: the parties' identities are
//! authenticated by the way in which modules are delivered), so both sides can read out its check words.

use std::{fs, path::Path};

use dske_protocol::ids::{Name, NodeId};
use dske_storage::files;
use serde::{Deserialize, Serialize};

use crate::config::ConfigError;

/// What a client tells a hub's operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentRequest {
    /// Version of this file's form.
    pub format: u32,
    /// The client's name.
    pub name: Name,
    /// The client's id.
    pub node: NodeId,
    /// The client's libp2p peer id; follows from the id, and is checked against it.
    pub peer_id: String,
    /// Addresses at which it can be reached, where it can.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Identities of applications behind it.
    #[serde(default)]
    pub applications: Vec<String>,
}

/// The only version of the form so far.
pub const FORMAT: u32 = 1;

impl EnrolmentRequest {
    /// Writes the file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), ConfigError> {
        let text = self.to_toml()?;
        files::write(path, text.as_bytes())
            .map_err(|source| ConfigError::File { path: path.to_owned(), source })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read or is not an enrolment request of this version.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            fs::read_to_string(path).map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// The request as the text of its file.
    ///
    /// # Errors
    /// If a value has no TOML form (none of the present fields can cause that).
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string_pretty(self)
            .map_err(|error| ConfigError::Value { key: "enrolment", reason: error.to_string() })
    }

    /// Reads a text; `path` only serves the error message.
    ///
    /// # Errors
    /// As [`EnrolmentRequest::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let syntax = |at: String, reason: String| ConfigError::Syntax { path: path.to_owned(), at, reason };
        let deserializer = toml::Deserializer::parse(text)
            .map_err(|error| syntax("syntax".into(), error.message().to_owned()))?;
        let request: Self = serde_path_to_error::deserialize(deserializer)
            .map_err(|error| syntax(error.path().to_string(), error.inner().message().to_owned()))?;
        if request.format != FORMAT {
            return Err(syntax("format".into(), format!("version {} is not known", request.format)));
        }
        Ok(request)
    }
}
