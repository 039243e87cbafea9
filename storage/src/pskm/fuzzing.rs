//! Modules whose contents somebody else chose, under right seals: what a hub's operator could send.

use super::{
    frames::Frames,
    key::{ModuleKey, SALT_BYTES, Stretch},
    manifest::{HEADER_BYTES, Header, Manifest},
};
use dske_protocol::ids::{NodeId, TableId};

/// What a module is to say.
#[derive(Debug, Clone, Default)]
pub struct ModuleText {
    /// Pad bytes of both lanes, as the public header tells them.
    pub bytes: u64,
    /// The plain frames; the last one is sealed as the last.
    pub frames: Vec<Vec<u8>>,
    /// Whether the digest of the frames between the first and the last is put in place of the last one.
    pub digest: bool,
}

/// Reads a module's header; whether it is one.
pub fn module_header(bytes: &[u8]) -> bool {
    let read = Header::read(&mut &bytes[..], std::path::Path::new("fuzz"));
    let Ok((header, header_bytes)) = read else { return false };
    assert_eq!(bytes.get(..HEADER_BYTES), Some(header_bytes.as_slice()));
    if header.stretch.is_some() {
        // Without one, what stands in its place has no meaning.
        assert_eq!(header.to_bytes().as_deref().ok(), Some(header_bytes.as_slice()));
    }
    true
}

/// A header to begin with.
pub fn header_seed(stretched: bool) -> Vec<u8> {
    let stretch = stretched.then_some(Stretch::DEFAULT);
    Header { bytes: 8192, salt: [5; SALT_BYTES], stretch }.to_bytes().unwrap_or_default()
}

/// A manifest to begin with.
pub fn manifest_seed(client: NodeId, lane_bytes: [u64; 2]) -> Vec<u8> {
    let name = |text: &str| text.parse().ok();
    let (Some(hub_name), Some(client_name)) = (name("p1"), name("alice")) else { return Vec::new() };
    let manifest = Manifest {
        table: TableId::new([3; 16]),
        serial: "p1-0001".to_owned(),
        hub: NodeId::new([4; 32]),
        hub_name,
        hub_addresses: vec!["/ip4/127.0.0.1/tcp/7001".to_owned()],
        client,
        client_name,
        lane_bytes,
        made_ms: 1,
        receipt_secret: [6; 16],
    };
    manifest.to_bytes().unwrap_or_default()
}

/// Seals a module under these bytes of a key file.
pub fn seal_module_under(text: &ModuleText, key: &[u8; 32]) -> Vec<u8> {
    seal_module(text, &ModuleKey::File(zeroize::Zeroizing::new(*key)))
}

/// Seals a module under a key file's key.
pub fn seal_module(text: &ModuleText, key: &ModuleKey) -> Vec<u8> {
    let header = Header { bytes: text.bytes, salt: [5; SALT_BYTES], stretch: None };
    let Ok(mut module) = header.to_bytes() else { return Vec::new() };
    let Ok(keys) = key.derive(None, &header.salt) else { return module };
    let mut frames = Frames::new(&keys, module.clone());
    let mut digest = blake3::Hasher::new_keyed(&keys.digest);
    let last = text.frames.len().saturating_sub(1);
    for (number, frame) in text.frames.iter().enumerate() {
        let mut frame = frame.clone();
        if number == last && text.digest {
            frame = digest.finalize().as_bytes().to_vec();
        } else if number > 0 {
            digest.update(&frame);
        }
        // Writing to memory does not fail, and a frame that cannot be sealed is left out.
        let _ = frames.write(&mut module, &mut frame, number == last);
    }
    module
}
