//! What gossip has said about who exists and where. A hint for people and for dialling, nothing more.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use dske_protocol::ids::{Name, NodeId};
use libp2p::Multiaddr;

use super::wire::{ADDRESSES_MAX, Announcement};
use crate::config::Role;

/// Announcements kept; the oldest goes when another comes.
const ENTRIES_MAX: usize = 4096;

/// What a node said about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: Name,
    pub(crate) roles: Vec<Role>,
    pub(crate) addresses: Vec<Multiaddr>,
    sequence: u64,
    heard: u64,
}

/// Shared between the network task, which writes, and the actors, which read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Directory(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<NodeId, Entry>,
    heard: u64,
}

impl Directory {
    /// Takes an announcement in; `false` where it is older than what is known.
    pub(crate) fn hear(&self, announcement: Announcement) -> bool {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.entries.get(&announcement.node).is_some_and(|old| old.sequence >= announcement.sequence) {
            return false;
        }
        inner.heard += 1;
        let heard = inner.heard;
        let addresses =
            announcement.addresses.iter().take(ADDRESSES_MAX).filter_map(|text| text.parse().ok()).collect();
        let Announcement { node, name, roles, sequence, .. } = announcement;
        inner.entries.insert(node, Entry { name, roles, addresses, sequence, heard });
        if inner.entries.len() > ENTRIES_MAX {
            let oldest = inner.entries.iter().min_by_key(|(_, entry)| entry.heard).map(|(&node, _)| node);
            oldest.and_then(|node| inner.entries.remove(&node));
        }
        true
    }

    /// Addresses at which a node said that it can be reached.
    pub(crate) fn addresses(&self, node: &NodeId) -> Vec<Multiaddr> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.entries.get(node).map(|entry| entry.addresses.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcement(id: u16, sequence: u64) -> Announcement {
        let mut node = [0; 32];
        node[..2].copy_from_slice(&id.to_le_bytes());
        Announcement {
            node: NodeId::new(node),
            name: "bob".parse().unwrap(),
            roles: vec![Role::Client],
            addresses: vec![format!("/ip4/127.0.0.1/tcp/{sequence}"), "nonsense".into()],
            sequence,
        }
    }

    #[test]
    fn newer_replaces_older_and_nonsense_is_dropped() {
        let directory = Directory::default();
        assert!(directory.hear(announcement(1, 7)));
        assert!(!directory.hear(announcement(1, 6)));
        let node = announcement(1, 0).node;
        assert_eq!(directory.addresses(&node), ["/ip4/127.0.0.1/tcp/7".parse::<Multiaddr>().unwrap()]);
    }

    #[test]
    fn the_directory_is_bounded() {
        let directory = Directory::default();
        for id in 0..5000 {
            directory.hear(announcement(id, 1));
        }
        assert_eq!(directory.0.lock().unwrap().entries.len(), ENTRIES_MAX);
        assert!(directory.addresses(&announcement(0, 1).node).is_empty());
    }
}
