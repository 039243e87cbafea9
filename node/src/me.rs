//! The node's own identity: an Ed25519 key pair on disk, whose public half is the node id.

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
};

use dske_protocol::ids::NodeId;
use dske_storage::{access, files};
use libp2p::{PeerId, identity::Keypair};
use zeroize::Zeroizing;

/// Bytes of the secret half in the file.
const SECRET_BYTES: usize = 32;

/// Who this node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Me {
    /// Its id.
    pub node: NodeId,
    /// The same as a libp2p peer id.
    pub peer_id: String,
}

impl Me {
    pub(crate) fn of(keypair: &Keypair) -> io::Result<Self> {
        let peer = keypair.public().to_peer_id();
        let node = node_of(&peer).ok_or_else(|| io::Error::other("the identity is not an Ed25519 key"))?;
        Ok(Self { node, peer_id: peer.to_string() })
    }
}

/// Makes a fresh identity file, readable by its owner alone.
pub(crate) fn create(path: &Path) -> io::Result<Keypair> {
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    getrandom::fill(secret.as_mut_slice()).map_err(io::Error::other)?;
    // Under its name only when it is whole.
    let draft = files::Draft::nameless(path)?;
    draft.file().write_all(secret.as_slice())?;
    draft.keep()?;
    Keypair::ed25519_from_bytes(secret.as_mut_slice()).map_err(io::Error::other)
}

/// Reads the identity file: the secret half of the node's key.
pub(crate) fn secret(path: &Path) -> io::Result<Zeroizing<[u8; SECRET_BYTES]>> {
    let mut read = Zeroizing::new(Vec::with_capacity(SECRET_BYTES + 1));
    let file = fs::File::open(path)?;
    access::check_open(path, &file)
        .map_err(|exposed| io::Error::new(io::ErrorKind::PermissionDenied, exposed))?;
    file.take(SECRET_BYTES as u64 + 1).read_to_end(&mut read)?;
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    if read.len() != SECRET_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "an identity file has exactly 32 bytes"));
    }
    secret.copy_from_slice(&read);
    Ok(secret)
}

/// The node's key.
pub(crate) fn load(path: &Path) -> io::Result<Keypair> {
    let mut secret = secret(path)?;
    Keypair::ed25519_from_bytes(secret.as_mut_slice()).map_err(io::Error::other)
}

/// What stands before the key in an Ed25519 peer id: the identity multihash (00) of 36 bytes (24), the
/// key's protobuf form: type 1 (08 01), then 32 bytes (12 20).
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// The node id in a peer id; `None` for peers whose key is not Ed25519.
pub(crate) fn node_of(peer: &PeerId) -> Option<NodeId> {
    let bytes = peer.to_bytes();
    let key = bytes.strip_prefix(&PEER_ID_PREFIX)?;
    Some(NodeId::new(key.try_into().ok()?))
}

/// The peer id of a node. Whether the key is a point of the curve is not looked at: that is for the
/// handshake to find out, once per connection instead of once per message.
pub fn peer_of(node: &NodeId) -> Option<PeerId> {
    PeerId::from_bytes(&[PEER_ID_PREFIX.as_slice(), node.as_bytes()].concat()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_identity_survives_on_disk_and_maps_both_ways() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.key");
        let made = Me::of(&create(&path).unwrap()).unwrap();
        assert_eq!(Me::of(&load(&path).unwrap()).unwrap(), made);
        assert_eq!(peer_of(&made.node).unwrap().to_string(), made.peer_id);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(create(&path).is_err(), "an identity is never overwritten");
        fs::write(&path, [1; 33]).unwrap();
        assert!(load(&path).is_err());
    }
}
