//! Enrolment: a client's request for service, as a file that its operator takes to a hub's operator.
//!
//! The file holds nothing secret. The client's key signs all of it, so that nobody can ask for a client that is not
//! theirs, and every hub hands the signature on with what it claims of the client. That the *right* client made the file is
//! what the signature cannot show (§2.1: the parties' identities are authenticated by the way in which modules are
//! delivered): both sides see the same words, for the two operators to compare by voice.

use std::{fs, io, path::Path};

use dske_protocol::{
    enrolment::{self, Signature},
    ids::{Name, NodeId},
    message::{Identity, applications_fit},
};
use dske_storage::{Applicant, files, pskm};
use serde::{Deserialize, Serialize};

use crate::{
    DataDir, NodeError, bounded,
    config::{Config, ConfigError},
    me, peer_of,
};

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
    /// Identities of applications behind it.
    #[serde(default)]
    pub applications: Vec<String>,
    /// Of the client's key, over format, id, name and applications.
    pub signature: Signature,
}

/// The version of the form that this program writes and reads.
pub const FORMAT: u32 = 2;

/// Words that two operators compare: 8 bits each. Who would have another file taken for this one must find one with
/// the same words, about 2^80 tries.
const WORDS: usize = 10;

impl EnrolmentRequest {
    /// The request of the node in a directory, signed by its key.
    ///
    /// # Errors
    /// If there is no readable identity.
    pub fn new(dir: &DataDir, config: &Config) -> Result<Self, NodeError> {
        let path = dir.identity();
        let secret = me::secret(&path).map_err(|source| NodeError::of_identity(path.clone(), source))?;
        let node = enrolment::node_of(&secret);
        let invalid = || NodeError::Network("the node's key has no peer id".to_owned());
        let peer_id = peer_of(&node).ok_or_else(invalid)?.to_string();
        let name = config.node.name.clone();
        let identity = Identity { node, name, applications: config.node.applications.clone() };
        let signature = enrolment::sign(&secret, &identity);
        let Identity { node, name, applications } = identity;
        Ok(Self { format: FORMAT, name, node, peer_id, applications, signature })
    }

    /// Who asks, with the signature.
    ///
    /// # Errors
    /// What is wrong with the request itself. Whether the signature holds is for the store to say.
    pub fn applicant(&self) -> Result<Applicant, &'static str> {
        let peer = peer_of(&self.node).ok_or("the request's node id is not valid")?;
        if peer.to_string() != self.peer_id {
            return Err("the request's peer id does not belong to its node id");
        }
        if !applications_fit(&self.applications) {
            return Err("the request names too many applications, or too long ones");
        }
        Ok(Applicant { identity: self.identity(), signature: self.signature })
    }

    /// What both operators read out to each other. Any change of the request changes them.
    pub fn words(&self) -> String {
        let mut hash = blake3::Hasher::new_derive_key("dske enrolment request: words to compare");
        hash.update(&enrolment::signed_text(&self.identity()));
        hash.update(self.signature.as_bytes());
        pskm::phrase(hash.finalize().as_bytes().get(..WORDS).unwrap_or_default())
    }

    fn identity(&self) -> Identity {
        let Self { node, name, applications, .. } = self.clone();
        Identity { node, name, applications }
    }

    /// Writes the file, in place of an earlier request and of nothing else.
    ///
    /// # Errors
    /// If the file cannot be written, or something else stands at its name.
    pub fn save(&self, path: &Path) -> Result<(), ConfigError> {
        let text = self.to_toml()?;
        let written = match fs::symlink_metadata(path) {
            Ok(about) if !about.is_file() || !is_request(path) => Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "it exists and is no enrolment request: choose another name",
            )),
            // Through a new file that takes its place, never through what stands there now.
            _ => files::write(path, text.as_bytes()),
        };
        written.map_err(|source| ConfigError::File { path: path.to_owned(), source })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read or is not an enrolment request of this version.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = read(path).map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
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
        // Fields differ between versions: which it is comes first.
        let other = toml::from_str::<Form>(text).ok().map(|form| form.format).filter(|form| *form != FORMAT);
        if let Some(format) = other {
            let who = if format < FORMAT { "an older" } else { "a newer" };
            let reason = format!(
                "{who} version of dske made this request (form {format}; this one reads form {FORMAT}): have the client make it anew with `dske enrol request`, with a program as old as this hub's"
            );
            return Err(syntax("format".into(), reason));
        }
        let deserializer = toml::Deserializer::parse(text)
            .map_err(|error| syntax("syntax".into(), error.message().to_owned()))?;
        serde_path_to_error::deserialize(deserializer)
            .map_err(|error| syntax(error.path().to_string(), error.inner().message().to_owned()))
    }
}

fn read(path: &Path) -> io::Result<String> {
    bounded::read_text(path, "an enrolment request", bounded::ENROLMENT_BYTES_MAX)
}

/// Whether a file is a request, of any version.
fn is_request(path: &Path) -> bool {
    let form = read(path).ok().and_then(|text| toml::from_str::<toml::Table>(&text).ok());
    form.is_some_and(|form| ["format", "name", "peer_id"].iter().all(|field| form.contains_key(*field)))
}

/// The one field that all versions have.
#[derive(Deserialize)]
struct Form {
    format: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;

    #[test]
    fn a_request_takes_the_place_of_an_earlier_one_and_of_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let (_dir, request) = request();
        let secret = place.path().join("identity.key");
        fs::write(&secret, [7; 32]).unwrap();
        let told = request.save(&secret).unwrap_err();
        assert!(format!("{told:?}").contains("AlreadyExists"), "{told:?}");
        assert_eq!(fs::read(&secret).unwrap(), [7; 32]);
        let link = place.path().join("link");
        std::os::unix::fs::symlink(&secret, &link).unwrap();
        request.save(&link).unwrap_err();
        let file = place.path().join("bob.enrol");
        request.save(&file).unwrap();
        request.save(&file).unwrap();
        std::os::unix::fs::symlink(&file, place.path().join("other")).unwrap();
        request.save(&place.path().join("other")).unwrap_err();
    }

    fn request() -> (tempfile::TempDir, EnrolmentRequest) {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new("carol".parse().unwrap(), [Role::Client]);
        config.node.applications.push("vpn".to_owned());
        let data = DataDir::new(dir.path().join("carol"));
        let node = crate::init(&data, &config).unwrap();
        let request = EnrolmentRequest::new(&data, &config).unwrap();
        assert_eq!(request.node, node);
        (dir, request)
    }

    #[test]
    fn a_request_is_signed_by_the_nodes_key_and_its_words_cover_all_of_it() {
        let (_dir, request) = request();
        let applicant = request.applicant().unwrap();
        assert!(applicant.signature.holds(&applicant.identity));
        let text = request.to_toml().unwrap();
        assert_eq!(EnrolmentRequest::parse(&text, Path::new("carol.toml")).unwrap(), request);
        let words = request.words();
        assert_eq!(words.split(' ').count(), WORDS);
        let (_dir, other) = self::request();
        let mut bytes = *request.signature.as_bytes();
        bytes[0] ^= 1;
        let changed = [
            EnrolmentRequest { name: "caro".parse().unwrap(), ..request.clone() },
            EnrolmentRequest { applications: Vec::new(), ..request.clone() },
            EnrolmentRequest { node: other.node, peer_id: other.peer_id.clone(), ..request.clone() },
            EnrolmentRequest { signature: other.signature, ..request.clone() },
            EnrolmentRequest { signature: Signature::new(bytes), ..request.clone() },
        ];
        for changed in changed {
            let applicant = changed.applicant().unwrap();
            assert!(!applicant.signature.holds(&applicant.identity), "{changed:?}");
            assert_ne!(changed.words(), words);
        }
        let foreign = EnrolmentRequest { peer_id: other.peer_id, ..request };
        assert!(foreign.applicant().unwrap_err().contains("peer id"));
    }

    #[test]
    fn a_request_of_another_version_is_refused_with_what_to_do() {
        let old = "format = 1\nname = \"carol\"\nnode = \"00\"\npeer_id = \"x\"\naddresses = []\n";
        let refused =
            |text: &str| EnrolmentRequest::parse(text, Path::new("carol.toml")).unwrap_err().to_string();
        assert!(refused(old).contains("an older version of dske made this request"), "{}", refused(old));
        assert!(refused(old).contains("`dske enrol request`"));
        assert!(refused(&old.replace("= 1", "= 3")).contains("a newer version"));
        assert!(refused("name = \"carol\"").contains("format"));
        let (_dir, request) = request();
        let unsigned = request.to_toml().unwrap();
        let unsigned: String =
            unsigned.lines().filter(|line| !line.starts_with("signature")).collect::<Vec<_>>().join("\n");
        assert!(refused(&unsigned).contains("signature"));
    }
}
