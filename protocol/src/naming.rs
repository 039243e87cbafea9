//! How people say which node they mean, and how a node tells them which it means.
//!
//! A node is its id. A name is what somebody calls it: a hub itself, in its module, or enough hubs, of a client.
//! So a name alone decides nothing where two nodes bear it: a command is refused until it says which, and a policy
//! means the node that had the name here first.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::ids::{Name, NodeId};

/// Fewest digits of an id beside a name.
const DIGITS_MIN: usize = 8;

/// A node as a person writes it: `p1`, `p1/3f2a9c01` (a name, and how the id begins), or the 64 digits of the id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeRef {
    /// Whoever is called so.
    Name(Name),
    /// Whoever is called so and has an id that begins so.
    Told(Name, String),
    /// The node with this id, whatever it is called.
    Id(NodeId),
}

/// A text that names no node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "give a name such as p1, a name and at least {DIGITS_MIN} digits of the id such as p1/3f2a9c01, or the 64 digits of an id"
)]
pub struct NodeRefError;

impl NodeRef {
    /// Whether a node is meant, as far as the text tells.
    pub fn fits(&self, node: &NodeId, name: &Name) -> bool {
        match self {
            Self::Name(wanted) => wanted == name,
            Self::Told(wanted, digits) => wanted == name && node.to_string().starts_with(digits),
            Self::Id(wanted) => wanted == node,
        }
    }
}

impl From<Name> for NodeRef {
    fn from(name: Name) -> Self {
        Self::Name(name)
    }
}

impl From<NodeId> for NodeRef {
    fn from(node: NodeId) -> Self {
        Self::Id(node)
    }
}

impl FromStr for NodeRef {
    type Err = NodeRefError;

    fn from_str(text: &str) -> Result<Self, NodeRefError> {
        if let Ok(node) = text.parse() {
            return Ok(Self::Id(node));
        }
        let Some((name, digits)) = text.split_once('/') else {
            return text.parse().map(Self::Name).map_err(|_| NodeRefError);
        };
        let fit = (DIGITS_MIN..=64).contains(&digits.len())
            && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        match name.parse() {
            Ok(name) if fit => Ok(Self::Told(name, digits.to_owned())),
            _ => Err(NodeRefError),
        }
    }
}

impl fmt::Display for NodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.pad(name.as_str()),
            Self::Told(name, digits) => f.pad(&format!("{name}/{digits}")),
            Self::Id(node) => f.pad(&node.to_string()),
        }
    }
}

impl Serialize for NodeRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NodeRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Which node somebody means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// This one.
    One(NodeId),
    /// None that is known here.
    Nobody,
    /// One of these, and the text does not tell which.
    Several(Vec<NodeId>),
}

/// The nodes that are known here, with the names that they had first.
#[derive(Debug, Clone, Default)]
pub struct Roll {
    nodes: BTreeMap<NodeId, (Name, u64)>,
    names: BTreeMap<Name, Vec<NodeId>>,
}

impl Roll {
    /// Takes a node in, known `since` then, in milliseconds of any one clock. One that is in has its name for good.
    pub fn add(&mut self, node: NodeId, name: Name, since: u64) {
        if self.nodes.contains_key(&node) {
            return;
        }
        let bearers = self.names.entry(name.clone()).or_default();
        bearers.push(node);
        self.nodes.insert(node, (name, since));
        bearers.sort_by_key(|node| (self.nodes.get(node).map(|(_, since)| *since), *node));
    }

    /// Gives a node a name, which it has since then where it had another. Under the same one it keeps its place.
    pub fn rename(&mut self, node: NodeId, name: Name, since: u64) {
        if self.name(&node) == Some(&name) {
            return;
        }
        if let Some((before, _)) = self.nodes.remove(&node)
            && let Some(bearers) = self.names.get_mut(&before)
        {
            bearers.retain(|bearer| *bearer != node);
            if bearers.is_empty() {
                self.names.remove(&before);
            }
        }
        self.add(node, name, since);
    }

    /// What a node is called.
    pub fn name(&self, node: &NodeId) -> Option<&Name> {
        self.nodes.get(node).map(|(name, _)| name)
    }

    /// What to call a node so that it is not taken for another: its name, with the beginning of its id where
    /// another bears it too; of a node that is not known, the beginning of its id.
    pub fn label(&self, node: &NodeId) -> String {
        let Some(name) = self.name(node) else { return node.short() };
        match self.names.get(name).map_or(0, Vec::len) {
            0 | 1 => name.to_string(),
            _ => told(name, node),
        }
    }

    /// Who is meant by a command: nobody where the text fits several.
    pub fn find(&self, meant: &NodeRef) -> Found {
        let fitting = self.fitting(meant);
        match fitting.as_slice() {
            [] => Found::Nobody,
            [node] => Found::One(*node),
            _ => Found::Several(fitting),
        }
    }

    /// Who is meant by a setting: of those that bear a name, the one that had it here first. So a node cannot take
    /// the place of another by what it calls itself.
    pub fn first(&self, meant: &NodeRef) -> Option<NodeId> {
        self.fitting(meant).first().copied()
    }

    /// Those that the text fits, the first known first.
    fn fitting(&self, meant: &NodeRef) -> Vec<NodeId> {
        match meant {
            NodeRef::Id(node) => self.nodes.contains_key(node).then_some(*node).into_iter().collect(),
            NodeRef::Name(name) | NodeRef::Told(name, _) => {
                let bearers = self.names.get(name).into_iter().flatten();
                bearers.filter(|node| meant.fits(node, name)).copied().collect()
            }
        }
    }
}

/// A name with the beginning of an id, as it is written.
pub fn told(name: &Name, node: &NodeId) -> String {
    format!("{name}/{}", node.short())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    fn meant(text: &str) -> NodeRef {
        text.parse().expect("a node")
    }

    #[test]
    fn a_node_is_written_in_three_ways() {
        let id = NodeId::new([0xa5; 32]);
        assert_eq!(meant("p1"), NodeRef::Name(name("p1")));
        assert_eq!(meant("p1/a5a5a5a5"), NodeRef::Told(name("p1"), "a5a5a5a5".to_owned()));
        assert_eq!(meant(&id.to_string()), NodeRef::Id(id));
        for text in ["p1", "p1/a5a5a5a5", &id.to_string()] {
            assert_eq!(meant(text).to_string(), text);
            assert!(meant(text).fits(&id, &name("p1")));
        }
        assert!(!meant("p1/a5a5a5a6").fits(&id, &name("p1")) && !meant("p2").fits(&id, &name("p1")));
        for bad in
            ["", "/", "p1/", "p1/a5a5a5a", "p1/A5A5A5A5", "P1", "/a5a5a5a5", "p1/a5a5a5a5/", "p1/zzzzzzzz"]
        {
            assert_eq!(bad.parse::<NodeRef>(), Err(NodeRefError), "{bad:?}");
        }
    }

    #[test]
    fn two_of_one_name_are_told_apart_and_the_first_keeps_its_place() {
        let (early, late, other) = (NodeId::new([9; 32]), NodeId::new([1; 32]), NodeId::new([5; 32]));
        let mut roll = Roll::default();
        roll.add(late, name("p1"), 20);
        assert_eq!((roll.label(&late), roll.find(&meant("p1"))), ("p1".to_owned(), Found::One(late)));
        roll.add(early, name("p1"), 10);
        roll.add(other, name("p2"), 5);
        assert_eq!(roll.first(&meant("p1")), Some(early));
        assert_eq!(roll.find(&meant("p1")), Found::Several(vec![early, late]));
        assert_eq!(roll.find(&meant("p1/01010101")), Found::One(late));
        assert_eq!(roll.first(&meant("p1/01010101")), Some(late));
        assert_eq!(roll.first(&meant(&late.to_string())), Some(late));
        assert_eq!(roll.find(&meant("p1/05050505")), Found::Nobody);
        assert_eq!([early, late, other].map(|node| roll.label(&node)), ["p1/09090909", "p1/01010101", "p2"]);
        // What a node calls itself later changes nothing.
        roll.add(other, name("p1"), 1);
        assert_eq!((roll.first(&meant("p1")), roll.first(&meant("p2"))), (Some(early), Some(other)));
        assert_eq!(roll.label(&NodeId::new([7; 32])), "07070707");
        roll.rename(early, name("p3"), 30);
        assert_eq!((roll.label(&early), roll.label(&late)), ("p3".to_owned(), "p1".to_owned()));
        assert_eq!(roll.find(&meant("p1")), Found::One(late));
    }

    #[test]
    fn who_is_established_again_under_its_name_keeps_its_place() {
        let (early, late) = (NodeId::new([9; 32]), NodeId::new([1; 32]));
        let mut roll = Roll::default();
        roll.add(early, name("p1"), 10);
        roll.add(late, name("p1"), 20);
        roll.rename(early, name("p1"), 30);
        assert_eq!(roll.first(&meant("p1")), Some(early));
        // One that takes a name later comes after those that bear it.
        roll.rename(early, name("p2"), 40);
        roll.rename(early, name("p1"), 50);
        assert_eq!(roll.first(&meant("p1")), Some(late));
    }
}
