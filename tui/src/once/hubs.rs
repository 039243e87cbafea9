//! The other side of this node's tables: hubs of a client, clients of a hub.

use dske_node::{
    config::Role,
    status::{PeerStatus, Status},
};

use crate::text;

/// `Hubs`, `Clients`, or both.
pub(crate) fn title(status: &Status) -> &'static str {
    match (
        status.peers.iter().any(|peer| peer.role == Role::Hub),
        status.peers.iter().any(|peer| peer.role == Role::Client),
    ) {
        (true, true) => "Hubs and clients",
        (false, true) => "Clients",
        _ => "Hubs",
    }
}

/// One line per peer.
pub(crate) fn lines(status: &Status, width: usize) -> Vec<String> {
    if status.peers.is_empty() {
        return vec![" none known".to_owned()];
    }
    let mut peers: Vec<&PeerStatus> = status.peers.iter().collect();
    peers.sort_by_key(|peer| (peer.role, &peer.name));
    // Who is a hub and a client of this node stands there twice.
    let both = |role| peers.iter().any(|peer| peer.role == role);
    let named = both(Role::Hub) && both(Role::Client);
    peers.iter().map(|peer| line(peer, named, width)).collect()
}

fn line(peer: &PeerStatus, named: bool, width: usize) -> String {
    let state = match (&peer.excluded, &peer.incompatible) {
        (Some(reason), _) => format!("EXCLUDED {}", text::printable(reason)),
        (None, Some(versions)) => text::printable(versions),
        (None, None) if peer.connected => "connected".to_owned(),
        (None, None) => "AWAY".to_owned(),
    };
    let waiting = match peer.waiting {
        0 => String::new(),
        waiting => format!("  {}", text::messages_wait(waiting)),
    };
    let name = text::fit(peer.name.as_str(), if width >= 60 { 10 } else { 6 });
    let role = if named { format!("{:<6} ", peer.role) } else { String::new() };
    text::clip(&format!(" {name} {role}{state}{waiting}"), width)
}
