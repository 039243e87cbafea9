//! Whom the node has something to do with, and as what: a peer may be its hub and its client at once, and is a stranger
//! only when it is neither, nor another client that it deals with.

use std::collections::{BTreeMap, BTreeSet};

use dske_protocol::ids::NodeId;

use crate::config::Role;

/// See the head of the file. The role is that of this node's part that knows the peer: its hub knows clients, its
/// client knows hubs and other clients.
#[derive(Debug, Default)]
pub(super) struct Acquaintances(BTreeMap<NodeId, BTreeSet<Role>>);

impl Acquaintances {
    /// One part of the node has, or has no more, to do with a peer. Gives whether the node as a whole has.
    pub(super) fn set(&mut self, node: NodeId, by: Role, known: bool) -> bool {
        let parts = self.0.entry(node).or_default();
        if known {
            parts.insert(by);
        } else {
            parts.remove(&by);
        }
        let any = !parts.is_empty();
        if !any {
            self.0.remove(&node);
        }
        any
    }

    /// Whether this part of the node has something to do with a peer.
    pub(super) fn knows(&self, by: Role, node: &NodeId) -> bool {
        self.0.get(node).is_some_and(|parts| parts.contains(&by))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_is_disabled_stays_known_as_a_hub() {
        let (mut known, bob) = (Acquaintances::default(), NodeId::new([2; 32]));
        assert!(known.set(bob, Role::Client, true));
        assert!(known.set(bob, Role::Hub, true));
        assert!(known.knows(Role::Hub, &bob) && known.knows(Role::Client, &bob));
        assert!(known.set(bob, Role::Hub, false), "its hub is still used");
        assert!(!known.knows(Role::Hub, &bob) && known.knows(Role::Client, &bob));
        assert!(!known.set(bob, Role::Client, false));
        assert!(!known.set(bob, Role::Hub, false), "nothing to forget");
        assert!(known.0.is_empty());
    }
}
