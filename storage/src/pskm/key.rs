//! The key under which a module is sealed, and how a file's own key comes from it.

use std::{
    fmt,
    io::{Read, Write},
    path::Path,
};

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::error::ModuleError;
use crate::{access, files};

/// Bytes of a key file.
pub(super) const KEY_BYTES: usize = 32;
/// Bytes of the salt in a module's header.
pub(super) const SALT_BYTES: usize = 32;
/// Domain of the file keys.
const CONTEXT: &str = "dske module 1: file key";
/// Domain of the digest keys.
const DIGEST_CONTEXT: &str = "dske module 1: pad digest key";

/// How a passphrase becomes a key; stands in the module's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stretch {
    pub(super) memory_kib: u32,
    pub(super) passes: u32,
    pub(super) lanes: u32,
}

impl Stretch {
    /// Of RFC 9106's two recommendations the one for limited memory.
    pub(super) const DEFAULT: Self = Self { memory_kib: 65_536, passes: 3, lanes: 4 };
}

/// What opens a module. It must not travel with the file.
pub enum ModuleKey {
    /// A phrase that people can say.
    Passphrase(Zeroizing<String>),
    /// The 32 random bytes of a key file.
    File(Zeroizing<[u8; KEY_BYTES]>),
}

impl ModuleKey {
    /// A key from a passphrase.
    ///
    /// # Errors
    /// It is empty.
    pub fn from_passphrase(passphrase: Zeroizing<String>) -> Result<Self, ModuleError> {
        if passphrase.trim().is_empty() {
            return Err(ModuleError::BadKey("the passphrase is empty".to_owned()));
        }
        Ok(Self::Passphrase(passphrase))
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// It cannot be read, others can read or write it, or it is not exactly 32 bytes.
    pub fn from_key_file(path: &Path) -> Result<Self, ModuleError> {
        let fail = |error| ModuleError::io("read", path, &error);
        let file = std::fs::File::open(path).map_err(fail)?;
        access::check_open(path, &file).map_err(ModuleError::Exposed)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_BYTES + 1));
        file.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(fail)?;
        let key: [u8; KEY_BYTES] = bytes.as_slice().try_into().map_err(|_| {
            ModuleError::BadKey(format!("{} is not a key file of {KEY_BYTES} bytes", path.display()))
        })?;
        Ok(Self::File(Zeroizing::new(key)))
    }

    /// Makes a key file with fresh random bytes, owner-only.
    ///
    /// # Errors
    /// It exists, or cannot be written.
    pub fn generate_file(path: &Path) -> Result<Self, ModuleError> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        draw(&mut *key)?;
        let write = || {
            let mut file = files::create_new(path)?;
            file.write_all(&*key)?;
            file.sync_all()
        };
        write().map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => ModuleError::OutExists(path.to_owned()),
            _ => ModuleError::io("write", path, &error),
        })?;
        Ok(Self::File(key))
    }

    /// How this key is stretched in a module made now.
    pub(super) fn stretch(&self) -> Option<Stretch> {
        match self {
            Self::Passphrase(_) => Some(Stretch::DEFAULT),
            Self::File(_) => None,
        }
    }

    /// The keys of one file: for its frames, and for the digest of its pads.
    pub(super) fn derive(
        &self,
        stretch: Option<Stretch>,
        salt: &[u8; SALT_BYTES],
    ) -> Result<FileKeys, ModuleError> {
        let mut root = Zeroizing::new([0; KEY_BYTES]);
        match (self, stretch) {
            (Self::File(key), None) => root.copy_from_slice(&**key),
            (Self::Passphrase(phrase), Some(stretch)) => stretch_phrase(phrase, stretch, salt, &mut root)?,
            _ => return Err(ModuleError::WrongKey),
        }
        let derive = |context| {
            let mut hasher = Zeroizing::new(blake3::Hasher::new_derive_key(context));
            hasher.update(salt).update(&*root);
            Zeroizing::new(*hasher.finalize().as_bytes())
        };
        Ok(FileKeys { seal: derive(CONTEXT), digest: derive(DIGEST_CONTEXT) })
    }
}

impl fmt::Debug for ModuleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ModuleKey(..)")
    }
}

/// The keys of one module file.
pub(super) struct FileKeys {
    pub(super) seal: Zeroizing<[u8; 32]>,
    pub(super) digest: Zeroizing<[u8; 32]>,
}

/// Draws random bytes for a label, salt or key.
pub(super) fn draw(out: &mut [u8]) -> Result<(), ModuleError> {
    use super::entropy::{EntropySource, SystemEntropy};
    Ok(SystemEntropy.fill(out)?)
}

fn stretch_phrase(
    phrase: &str,
    stretch: Stretch,
    salt: &[u8],
    out: &mut [u8; KEY_BYTES],
) -> Result<(), ModuleError> {
    // The header is not sealed: whoever altered it could ask for any work before that is noticed.
    if stretch != Stretch::DEFAULT {
        return Err(ModuleError::BadKey(
            "the module asks for another stretching of the passphrase than any that this program makes"
                .to_owned(),
        ));
    }
    let Stretch { memory_kib, passes, lanes } = stretch;
    let bad =
        |error: argon2::Error| ModuleError::BadKey(format!("the passphrase cannot be stretched: {error}"));
    let params = Params::new(memory_kib, passes, lanes, Some(KEY_BYTES)).map_err(bad)?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(phrase.as_bytes(), salt, out)
        .map_err(bad)
}
