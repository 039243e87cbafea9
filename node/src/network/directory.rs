//! What gossip has said about who exists and where. A hint for people and for dialling, nothing more.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use dske_protocol::ids::{Name, NodeId};
use libp2p::Multiaddr;

use super::{
    limits::{AUTHOR_AT_ONCE, AUTHOR_INTERVAL},
    rate::Rate,
    wire::{ADDRESSES_MAX, Announcement},
};
use crate::config::Role;

/// Announcements kept. When another comes, the oldest goes of the address from which most have come: who has
/// one address and many names pushes out only its own. Those of known peers stay.
const ENTRIES_MAX: usize = 4096;

/// What a node said about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: Name,
    pub(crate) roles: Vec<Role>,
    pub(crate) addresses: Vec<Multiaddr>,
    sequence: u64,
    heard: u64,
    /// Where the neighbour that brought it connects from.
    source: Option<IpAddr>,
    rate: Rate,
}

/// Shared between the network task, which writes, and the actors, which read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Directory(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<NodeId, Entry>,
    /// Whose announcements stay.
    kept: BTreeSet<NodeId>,
    heard: u64,
}

impl Directory {
    /// Takes an announcement in that a neighbour at `source` brought; `false` where it is older than what is
    /// known, or its author announces itself too often.
    pub(crate) fn hear(&self, announcement: Announcement, source: Option<IpAddr>, now: Instant) -> bool {
        let mut inner = self.lock();
        let old = inner.entries.get(&announcement.node);
        if old.is_some_and(|old| old.sequence >= announcement.sequence) {
            return false;
        }
        let mut rate =
            old.map_or_else(|| Rate::every(AUTHOR_INTERVAL, AUTHOR_AT_ONCE), |old| old.rate.clone());
        if !rate.try_take(now, 1) {
            return false;
        }
        inner.heard += 1;
        let heard = inner.heard;
        let addresses =
            announcement.addresses.iter().take(ADDRESSES_MAX).filter_map(|text| text.parse().ok()).collect();
        let Announcement { node, name, roles, sequence, .. } = announcement;
        inner.entries.insert(node, Entry { name, roles, addresses, sequence, heard, source, rate });
        inner.make_room();
        true
    }

    /// A known peer's announcement is kept whatever else is heard.
    pub(super) fn keep(&self, node: NodeId, known: bool) {
        let mut inner = self.lock();
        if known {
            inner.kept.insert(node);
        } else {
            inner.kept.remove(&node);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Addresses at which a node said that it can be reached.
    pub(crate) fn addresses(&self, node: &NodeId) -> Vec<Multiaddr> {
        self.lock().entries.get(node).map(|entry| entry.addresses.clone()).unwrap_or_default()
    }
}

impl Inner {
    fn make_room(&mut self) {
        let strangers = || self.entries.iter().filter(|(node, _)| !self.kept.contains(*node));
        if strangers().count() <= ENTRIES_MAX {
            return;
        }
        let mut sources: BTreeMap<_, usize> = BTreeMap::new();
        strangers().for_each(|(_, entry)| *sources.entry(entry.source).or_default() += 1);
        let Some(most) = sources.into_iter().max_by_key(|(_, count)| *count).map(|(source, _)| source) else {
            return;
        };
        let oldest =
            strangers().filter(|(_, entry)| entry.source == most).min_by_key(|(_, entry)| entry.heard);
        if let Some(node) = oldest.map(|(&node, _)| node) {
            self.entries.remove(&node);
        }
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

    fn hear(directory: &Directory, announcement: Announcement, host: u8) -> bool {
        directory.hear(announcement, Some([192, 0, 2, host].into()), Instant::now())
    }

    #[test]
    fn newer_replaces_older_and_nonsense_is_dropped() {
        let directory = Directory::default();
        assert!(hear(&directory, announcement(1, 7), 1));
        assert!(!hear(&directory, announcement(1, 6), 1));
        let node = announcement(1, 0).node;
        assert_eq!(directory.addresses(&node), ["/ip4/127.0.0.1/tcp/7".parse::<Multiaddr>().unwrap()]);
    }

    #[test]
    fn who_makes_up_nodes_pushes_out_its_own() {
        let directory = Directory::default();
        let (friend, honest) = (60_000, 60_001);
        directory.keep(announcement(friend, 1).node, true);
        assert!(hear(&directory, announcement(friend, 1), 1) && hear(&directory, announcement(honest, 1), 2));
        for id in 0..5_000 {
            hear(&directory, announcement(id, 1), 1);
        }
        assert_eq!(directory.lock().entries.len(), ENTRIES_MAX + 1);
        assert!(directory.addresses(&announcement(0, 1).node).is_empty());
        for id in [friend, honest, 4_999] {
            assert!(!directory.addresses(&announcement(id, 1).node).is_empty(), "{id}");
        }
    }

    #[test]
    fn who_announces_itself_without_end_is_not_heard() {
        let directory = Directory::default();
        let heard = (0..1000).filter(|&sequence| hear(&directory, announcement(1, sequence + 1), 1)).count();
        assert_eq!(heard, AUTHOR_AT_ONCE as usize);
        let later = Instant::now() + AUTHOR_INTERVAL * 2;
        assert!(directory.hear(announcement(1, 5000), None, later));
    }
}
