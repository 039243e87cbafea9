//! Versions of the protocol between nodes: which of them this node speaks, and what to say of a node that speaks none.
//!
//! Each version has a protocol of its own at libp2p, `/dske/VERSION`. A node proposes its versions from the highest
//! down, and a node that is asked takes the first that it speaks as well: so two nodes use the highest that both speak,
//! and nodes without a common one exchange nothing, no message under a pad in particular. What identify says of a peer
//! is for people alone: it carries no tag, and decides nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use dske_protocol::{
    ids::NodeId,
    params::{PROTOCOL_VERSION, Time},
};
use libp2p::StreamProtocol;

/// A version of the protocol between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spoken {
    version: u16,
    protocol: &'static str,
}

/// All versions that this node speaks, the highest first. With a second one the codec has to tell them apart, and a
/// request waits for the answer to its proposal (see `behaviour`).
const SPOKEN: [Spoken; 1] = [Spoken { version: PROTOCOL_VERSION, protocol: "/dske/3" }];

/// What the protocol of each version begins with.
const PREFIX: &str = "/dske/";

/// Versions of a peer that are named to people.
const NAMED_MAX: usize = 4;

/// The protocols of all versions, as they are proposed: the highest first.
pub(super) fn protocols() -> impl Iterator<Item = StreamProtocol> {
    SPOKEN.iter().map(|spoken| StreamProtocol::new(spoken.protocol))
}

/// What is told as the node's own protocol where only one can be told.
pub(super) const HIGHEST: &str = SPOKEN[0].protocol;

/// A peer that speaks no version that this node speaks: nothing can be exchanged with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Foreign {
    /// Its versions, as far as they are named.
    versions: Vec<u16>,
}

impl Foreign {
    /// Looks at the protocols that a peer says it speaks; `None` where there is a common version.
    pub(super) fn of<'a>(protocols: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let number = |name: &str| name.strip_prefix(PREFIX)?.parse::<u16>().ok();
        let versions: BTreeSet<u16> = protocols.into_iter().filter_map(number).collect();
        let common = SPOKEN.iter().any(|spoken| versions.contains(&spoken.version));
        (!common).then(|| Self { versions: versions.into_iter().rev().take(NAMED_MAX).collect() })
    }

    /// What it speaks and what to do about it, to be said after its name.
    pub(crate) fn advice(&self) -> String {
        format!("{self}: {}", self.help())
    }

    /// What to do about it.
    pub(crate) fn help(&self) -> &'static str {
        match self.versions.first() {
            Some(theirs) if *theirs < SPOKEN[0].version => "update dske on the other node",
            Some(_) => "update dske on this node",
            None => "see whether the other node runs dske",
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |versions: &[u16]| {
            let numbers: Vec<String> = versions.iter().map(u16::to_string).collect();
            let word = if numbers.len() == 1 { "version" } else { "versions" };
            format!("{word} {}", numbers.join(", "))
        };
        let ours = list(&SPOKEN.map(|spoken| spoken.version));
        if self.versions.is_empty() {
            write!(f, "speaks no version of the protocol between nodes, this node {ours}")
        } else {
            write!(f, "speaks {} of the protocol between nodes, this node {ours}", list(&self.versions))
        }
    }
}

/// People are told of a peer at most this often: it can come and go, and say now this and now that.
const TELL_AGAIN: Duration = Duration::from_secs(3600);

/// The connected peers that speak no common version. A node knows few peers, and asks about no others.
#[derive(Debug, Default)]
pub(crate) struct Foreigners {
    here: BTreeMap<NodeId, Foreign>,
    told: BTreeMap<NodeId, Time>,
}

impl Foreigners {
    /// A peer said what it speaks. Gives it back where people are to be told.
    pub(crate) fn said(&mut self, now: Time, peer: NodeId, foreign: Option<Foreign>) -> Option<&Foreign> {
        let Some(foreign) = foreign else {
            self.here.remove(&peer);
            return None;
        };
        self.here.insert(peer, foreign);
        if self.told.get(&peer).is_some_and(|told| now < *told + TELL_AGAIN) {
            return None;
        }
        self.told.insert(peer, now);
        self.here.get(&peer)
    }

    /// The connection is gone, and what was said on it.
    pub(crate) fn gone(&mut self, peer: &NodeId) {
        self.here.remove(peer);
    }

    /// What is to be said of a peer, where it speaks no common version.
    pub(crate) fn advice(&self, peer: &NodeId) -> Option<String> {
        self.here.get(peer).map(Foreign::advice)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&NodeId, &Foreign)> {
        self.here.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_once_in_a_while_whatever_a_peer_says() {
        let (peer, mut foreigners) = (NodeId::new([1; 32]), Foreigners::default());
        let old = || Foreign::of(["/dske/2"]);
        let mut told = 0;
        for second in 0..7200 {
            let now = Time::from_secs(second);
            told += usize::from(foreigners.said(now, peer, old()).is_some());
            assert!(foreigners.advice(&peer).is_some());
            told += usize::from(foreigners.said(now, peer, None).is_some());
            assert_eq!(foreigners.iter().count(), 0);
            told += usize::from(foreigners.said(now, peer, old()).is_some());
            foreigners.gone(&peer);
            assert!(foreigners.advice(&peer).is_none());
        }
        assert_eq!(told, 2);
    }

    #[test]
    fn the_names_are_those_of_the_versions_from_the_highest_down() {
        for spoken in SPOKEN {
            assert_eq!(spoken.protocol, format!("{PREFIX}{}", spoken.version));
        }
        assert!(SPOKEN.is_sorted_by(|one, next| one.version > next.version));
        assert_eq!(protocols().next().map(|protocol| protocol.to_string()).as_deref(), Some(HIGHEST));
        // The messages that this node makes are of a version that it speaks.
        assert_eq!(SPOKEN[0].version, PROTOCOL_VERSION);
    }

    #[test]
    fn a_common_version_is_found_whatever_else_is_spoken() {
        assert_eq!(Foreign::of(["/ipfs/id/1.0.0", "/dske/2", "/dske/3"]), None);
        assert_eq!(Foreign::of(["/dske/4", "/dske/3"]), None);
    }

    #[test]
    fn who_has_to_be_updated_is_said() {
        let old = Foreign::of(["/ipfs/ping/1.0.0", "/dske/1", "/dske/2"]).expect("no common version");
        assert_eq!(
            old.to_string(),
            "speaks versions 2, 1 of the protocol between nodes, this node version 3"
        );
        assert_eq!(old.help(), "update dske on the other node");
        let new = Foreign::of(["/dske/5", "/dske/4"]).expect("no common version");
        assert_eq!(
            new.to_string(),
            "speaks versions 5, 4 of the protocol between nodes, this node version 3"
        );
        assert_eq!(new.help(), "update dske on this node");
        for nothing in [&[][..], &["/dske/", "/dske/x", "/dske/99999", "/dske/1/2", "/ipfs/id/1.0.0"]] {
            let none = Foreign::of(nothing.iter().copied()).expect("no common version");
            assert!(none.to_string().starts_with("speaks no version"), "{none}");
        }
    }

    #[test]
    fn no_more_versions_are_named_than_a_line_bears() {
        let many: Vec<String> = (100..4000).map(|version| format!("/dske/{version}")).collect();
        let foreign = Foreign::of(many.iter().map(String::as_str)).expect("no common version");
        assert_eq!(foreign.versions, [3999, 3998, 3997, 3996]);
    }
}
