//! The fault margin as it is now (§4.2): what is left of it with the hubs that lie already. Whoever shows or judges a status asks
//! here, so that all say the same.

use std::collections::{BTreeMap, BTreeSet};

use dske_protocol::{ids::NodeId, naming::NodeRef};

use crate::{
    config::Role,
    status::{PeerStatus, PolicyStatus, Status},
};

/// A hub counts as a liar for so many agreements after its last false share.
const LATE_SESSIONS: usize = 10;

impl PolicyStatus {
    /// How many more hubs may lie, fail or be cut off while keys are still agreed: min(u − k + 1, k_B) − 1 with u
    /// usable hubs, of which none lies yet. `None` where fewer than k hubs are left, so that no key can be agreed at all.
    pub fn margin(&self) -> Option<u8> {
        let spare = self.usable.min(self.n).checked_sub(self.k)?.saturating_add(1);
        Some(spare.min(self.k_min).saturating_sub(1))
    }
}

impl Status {
    /// Hubs whose share was false in one of the latest agreements, and that are still used.
    pub fn liars(&self) -> BTreeSet<&str> {
        let used = |peer: &&PeerStatus| {
            peer.role == Role::Hub && peer.connected && peer.excluded.is_none() && peer.shut.is_none()
        };
        // As sessions name it: where several have one name, with its id, and without where they have it only since then.
        let used_as = |hub: &str| -> Vec<NodeId> {
            let Ok(named) = hub.parse::<NodeRef>() else { return Vec::new() };
            let fits = |peer: &&PeerStatus| named.fits(&peer.node, &peer.name);
            self.peers.iter().filter(used).filter(fits).map(|peer| peer.node).collect()
        };
        let last = self.sessions.iter().take(LATE_SESSIONS).flat_map(|session| &session.liars);
        let mut named: Vec<(Vec<NodeId>, &str)> = last.map(|hub| (used_as(hub), hub.as_str())).collect();
        // A name that fits several is nobody new where one of them is named already.
        named.sort_by_key(|(nodes, _)| nodes.len());
        let mut liars = BTreeMap::new();
        for (nodes, hub) in named {
            if let Some(&first) = nodes.first()
                && !nodes.iter().any(|node| liars.contains_key(node))
            {
                liars.insert(first, hub);
            }
        }
        liars.into_values().collect()
    }

    /// How many further hubs may lie, fail or be cut off: the [margin](PolicyStatus::margin) without those that lie
    /// already. `None` where no key is agreed any more, and for a node that is no client.
    pub fn margin(&self) -> Option<u8> {
        let liars = u8::try_from(self.liars().len()).unwrap_or(u8::MAX);
        self.policy?.margin()?.checked_sub(liars)
    }

    /// Whether hubs lie, and leave none that may fail or lie besides.
    pub fn is_margin_used_up(&self) -> bool {
        self.policy.is_some() && !self.liars().is_empty() && self.margin().unwrap_or(0) == 0
    }

    /// The hubs that lie and what is left, in a few words, where there are any.
    pub fn of_liars(&self) -> Option<String> {
        let (policy, liars) = (self.policy?, self.liars());
        if liars.is_empty() {
            return None;
        }
        let names: Vec<&str> = liars.into_iter().collect();
        let left = match self.margin() {
            Some(0) => "none may fail or lie besides".to_owned(),
            Some(margin) => format!("{margin} more may fail or lie"),
            None if policy.margin().is_some() => "more than an agreement bears".to_owned(),
            None => "no key can be agreed".to_owned(),
        };
        Some(format!("false shares of {} in the latest agreements: {left}", names.join(", ")))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::metrics::tests::status;

    /// A status with five hubs, of which these are usable, and these lied in the latest agreement.
    pub(crate) fn lied_to(k: u8, liars: &[&str]) -> Status {
        let mut status = status(5, k);
        status.peers = (1..=5)
            .map(|id| PeerStatus {
                node: NodeId::new([id; 32]),
                name: format!("p{id}").parse().unwrap(),
                role: Role::Hub,
                connected: true,
                excluded: None,
                incompatible: None,
                shut: None,
                waiting: 0,
            })
            .collect();
        status.sessions = vec![crate::metrics::tests::session(liars)];
        status
    }

    #[test]
    fn the_margin_is_the_papers_disruption_bound_with_the_usable_hubs() {
        let margin = |usable, k, k_min| {
            let policy = status(usable, k).policy.unwrap();
            PolicyStatus { k_min, ..policy }.margin()
        };
        assert_eq!(margin(5, 3, 3), Some(2));
        assert_eq!(margin(4, 3, 3), Some(1));
        assert_eq!(margin(3, 3, 3), Some(0));
        assert_eq!(margin(2, 3, 3), None);
        assert_eq!(margin(5, 2, 1), Some(0));
        assert_eq!(margin(9, 3, 3), Some(2));
    }

    #[test]
    fn who_lies_already_is_taken_off_the_margin() {
        let figures = |k, liars: &[&str]| {
            let status = lied_to(k, liars);
            (status.liars().len(), status.margin(), status.is_margin_used_up())
        };
        assert_eq!(figures(3, &[]), (0, Some(2), false));
        assert_eq!(figures(3, &["p1"]), (1, Some(1), false));
        assert_eq!(figures(3, &["p1", "p2"]), (2, Some(0), true));
        assert_eq!(figures(3, &["p1", "p2", "p4"]), (3, None, true));
        // Where nobody lies a margin of nothing is how the network was made.
        assert_eq!(figures(5, &[]), (0, Some(0), false));
        assert_eq!(
            figures(3, &["p1/01010101", "p9"]),
            (1, Some(1), false),
            "as several of one name are told apart"
        );
        let told = lied_to(3, &["p2", "p1"]).of_liars().unwrap();
        assert_eq!(told, "false shares of p1, p2 in the latest agreements: none may fail or lie besides");
        assert_eq!(lied_to(3, &[]).of_liars(), None);
    }

    #[test]
    fn a_liar_that_sessions_name_in_two_ways_is_taken_off_once() {
        // Another of its name has come between two agreements, and stands before it.
        for before in [1, 0] {
            let mut status = lied_to(3, &["p1/01010101"]);
            status.sessions.insert(before, crate::metrics::tests::session(&["p1"]));
            let other = PeerStatus { node: NodeId::new([6; 32]), ..status.peers[0].clone() };
            status.peers.insert(0, other);
            assert_eq!(status.liars(), BTreeSet::from(["p1/01010101"]));
            assert_eq!((status.margin(), status.is_margin_used_up()), (Some(1), false));
            // Both of them did.
            status.sessions.insert(0, crate::metrics::tests::session(&["p1/06060606"]));
            assert_eq!((status.liars().len(), status.margin()), (2, Some(0)));
        }
    }

    #[test]
    fn who_lied_and_is_not_used_any_more_is_not_taken_off_twice() {
        let mut status = lied_to(3, &["p1", "p2"]);
        status.peers[0].excluded = Some("by the operator".into());
        status.peers[1].connected = false;
        assert_eq!(status.liars().len(), 0);
        // And after ten agreements without a false share it counts again.
        let mut later = lied_to(3, &["p1"]);
        let honest = crate::metrics::tests::session(&[]);
        (0..LATE_SESSIONS).for_each(|_| later.sessions.insert(0, honest.clone()));
        assert_eq!(later.margin(), Some(2));
    }
}
