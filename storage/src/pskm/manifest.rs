//! What a module says: a public header, and a sealed manifest with everything that a client has to know.

use std::io::Read;

use dske_protocol::ids::{Name, NodeId, TableId};
use serde::{Deserialize, Serialize};

use super::{
    error::ModuleError,
    key::{SALT_BYTES, Stretch},
};
use crate::{
    codec::{decode, encode},
    records::{ModuleRecord, ModuleState},
};

const MAGIC: [u8; 8] = *b"DSKEPSKM";
/// Version of the file format.
pub(super) const VERSION: u32 = 1;
/// Plain bytes of a frame of pads.
pub(super) const FRAME_BYTES: u32 = 1 << 20;
/// Bytes of the encoded header.
pub(super) const HEADER_BYTES: usize = 8 + 4 + 8 + 4 + SALT_BYTES + 1 + 3 * 4;
/// Least size of a lane: one chunk.
pub(super) const LANE_BYTES_MIN: u64 = 4096;
/// Most: a limit on what a hostile manifest can ask for.
pub(super) const LANE_BYTES_MAX: u64 = 1 << 46;

/// The part of a module that anybody can read. Every frame is bound to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) bytes: u64,
    pub(super) salt: [u8; SALT_BYTES],
    pub(super) stretch: Option<Stretch>,
}

#[derive(Serialize, Deserialize)]
struct RawHeader {
    magic: [u8; 8],
    version: u32,
    bytes: u64,
    frame_bytes: u32,
    salt: [u8; SALT_BYTES],
    stretched: u8,
    stretch: Stretch,
}

impl Header {
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, ModuleError> {
        let raw = RawHeader {
            magic: MAGIC,
            version: VERSION,
            bytes: self.bytes,
            frame_bytes: FRAME_BYTES,
            salt: self.salt,
            stretched: u8::from(self.stretch.is_some()),
            stretch: self.stretch.unwrap_or(Stretch { memory_kib: 0, passes: 0, lanes: 0 }),
        };
        Ok(encode("module header", &raw)?)
    }

    /// Reads a header; gives its bytes too, which every frame is bound to.
    pub(super) fn read(
        input: &mut impl Read,
        path: &std::path::Path,
    ) -> Result<(Self, Vec<u8>), ModuleError> {
        let not_a_module = || ModuleError::NotAModule(path.to_owned());
        let mut bytes = vec![0; HEADER_BYTES];
        input.read_exact(&mut bytes).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => not_a_module(),
            _ => ModuleError::io("read", path, &error),
        })?;
        let raw: RawHeader = decode("module header", &bytes).map_err(|_| not_a_module())?;
        if raw.magic != MAGIC {
            return Err(not_a_module());
        }
        if raw.version != VERSION {
            return Err(ModuleError::Version(raw.version));
        }
        if raw.frame_bytes != FRAME_BYTES || raw.stretched > 1 {
            return Err(not_a_module());
        }
        let stretch = (raw.stretched == 1).then_some(raw.stretch);
        Ok((Self { bytes: raw.bytes, salt: raw.salt, stretch }, bytes))
    }
}

/// The sealed first frame.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) table: TableId,
    pub(super) serial: String,
    pub(super) hub: NodeId,
    pub(super) hub_name: Name,
    pub(super) hub_addresses: Vec<String>,
    pub(super) client: NodeId,
    pub(super) client_name: Name,
    /// Up, then down.
    pub(super) lane_bytes: [u64; 2],
    pub(super) made_ms: u64,
    pub(super) receipt_secret: [u8; 16],
}

impl Manifest {
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, ModuleError> {
        Ok(encode("module manifest", self)?)
    }

    /// The record of this module at either end.
    pub(super) fn record(&self, state: ModuleState, changed_ms: u64) -> ModuleRecord {
        let [up, down] = self.lane_bytes;
        ModuleRecord {
            serial: self.serial.clone(),
            table: self.table,
            hub: self.hub,
            hub_name: self.hub_name.clone(),
            client: self.client,
            client_name: self.client_name.clone(),
            bytes: up + down,
            state,
            made_ms: self.made_ms,
            changed_ms,
        }
    }

    /// Decodes a manifest and checks that it makes sense.
    pub(super) fn from_bytes(bytes: &[u8], header: &Header) -> Result<Self, ModuleError> {
        let manifest: Self =
            decode("module manifest", bytes).map_err(|error| ModuleError::damaged(0, error.to_string()))?;
        let [up, down] = manifest.lane_bytes;
        let sized = |bytes: u64| (LANE_BYTES_MIN..=LANE_BYTES_MAX).contains(&bytes);
        if !sized(up) || !sized(down) || up + down != header.bytes {
            return Err(ModuleError::damaged(0, "its lane sizes do not fit together"));
        }
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        if manifest.serial.is_empty() || manifest.serial.len() > 64 || !manifest.serial.bytes().all(plain) {
            return Err(ModuleError::damaged(0, "its serial has characters that a serial cannot have"));
        }
        Ok(manifest)
    }
}
