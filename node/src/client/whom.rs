//! Which client or hub the owner means, and what to call each so that none is taken for another.

use dske_protocol::{
    ids::{Name, NodeId},
    message::Subject,
    naming::{Found, NodeRef, Roll},
};

use super::{ClientActor, hubs::Hubs};
use crate::control::{Failure, failure};

/// What is known of another client that is meant.
pub(super) enum Whom {
    /// Its identity is established.
    Known(NodeId),
    /// The hubs must be asked about this.
    Ask(Subject),
    /// It cannot be told, or is not who is meant.
    Refused(Failure),
}

impl ClientActor {
    /// Which client is meant.
    pub(super) fn whom(&self, meant: &NodeRef) -> Whom {
        whom(&self.roll, &self.me, meant)
    }

    /// Which hub is meant.
    pub(super) fn hub_meant(&self, meant: &NodeRef) -> Result<NodeId, Failure> {
        match self.hubs.roll().find(meant) {
            Found::One(node) => Ok(node),
            Found::Several(nodes) => Err(ambiguous(self.hubs.roll(), meant, &nodes)),
            Found::Nobody => Err(failure(
                "dske::hub::unknown",
                1,
                format!("no module from a hub called {meant} has been imported"),
                "see `dske status` for the hubs",
            )),
        }
    }

    /// Whether the identity that an inquiry was about is established, by whatever inquiry.
    pub(super) fn is_established(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Node(node) => self.identities.contains_key(node),
            Subject::Name(name) => self.roll.find(&NodeRef::Name(name.clone())) != Found::Nobody,
        }
    }
}

/// What hubs are asked where nobody is known who is meant.
pub(super) fn subject(meant: &NodeRef) -> Subject {
    match meant {
        NodeRef::Name(name) | NodeRef::Told(name, _) => Subject::Name(name.clone()),
        NodeRef::Id(node) => Subject::Node(*node),
    }
}

fn whom(roll: &Roll, (me, my_name): &(NodeId, Name), meant: &NodeRef) -> Whom {
    let found = roll.find(meant);
    if found == Found::Nobody && meant.fits(me, my_name) {
        let message = format!("{meant} is this node itself: a key is agreed with others");
        return Whom::Refused(failure("dske::key::parameters", 2, message, ""));
    }
    match (found, meant) {
        (Found::One(node), _) => Whom::Known(node),
        (Found::Several(nodes), _) => Whom::Refused(ambiguous(roll, meant, &nodes)),
        (Found::Nobody, NodeRef::Told(name, _)) => match roll.find(&NodeRef::Name(name.clone())) {
            Found::Nobody => Whom::Ask(subject(meant)),
            // The hubs were asked about that name already, and agreed on another client.
            Found::One(other) => Whom::Refused(another(meant, &[other])),
            Found::Several(others) => Whom::Refused(another(meant, &others)),
        },
        (Found::Nobody, _) => Whom::Ask(subject(meant)),
    }
}

fn another(meant: &NodeRef, others: &[NodeId]) -> Failure {
    let others: Vec<_> = others.iter().map(ToString::to_string).collect();
    failure(
        "dske::identity::unknown",
        3,
        format!("no client is known as {meant}; by that name the hubs know {}", others.join(" and ")),
        "check the id with the client's operator; the whole id serves without a name",
    )
}

fn ambiguous(roll: &Roll, meant: &NodeRef, nodes: &[NodeId]) -> Failure {
    let labels: Vec<_> = nodes.iter().map(|node| roll.label(node)).collect();
    failure(
        "dske::name::ambiguous",
        2,
        format!("{meant} is the name of {} nodes here", nodes.len()),
        &format!("say which: {}", labels.join(" or ")),
    )
}

/// Names for ids, as far as they are known.
pub(super) struct Names<'a> {
    pub(super) hubs: &'a Hubs,
    pub(super) clients: &'a Roll,
    pub(super) me: &'a (NodeId, Name),
}

impl Names<'_> {
    pub(super) fn of(&self, node: &NodeId) -> String {
        if *node == self.me.0 {
            return self.me.1.to_string();
        }
        match self.hubs.roll().name(node) {
            Some(_) => self.hubs.roll().label(node),
            None => self.clients.label(node),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(roll: &Roll, text: &str) -> Result<NodeId, Option<Subject>> {
        let me = (NodeId::new([9; 32]), "alice".parse().unwrap());
        match whom(roll, &me, &text.parse().unwrap()) {
            Whom::Known(node) => Ok(node),
            Whom::Ask(subject) => Err(Some(subject)),
            Whom::Refused(_) => Err(None),
        }
    }

    #[test]
    fn the_node_itself_is_nobody_to_agree_with() {
        let mut roll = Roll::default();
        for text in ["alice", "alice/09090909", &NodeId::new([9; 32]).to_string()] {
            assert_eq!(asks(&roll, text), Err(None), "{text}");
        }
        // Somebody else may have the same name.
        let other = NodeId::new([1; 32]);
        roll.add(other, "alice".parse().unwrap(), 1);
        assert_eq!((asks(&roll, "alice"), asks(&roll, "alice/01010101")), (Ok(other), Ok(other)));
    }

    #[test]
    fn a_name_that_two_clients_bear_means_neither() {
        let (one, two) = (NodeId::new([1; 32]), NodeId::new([2; 32]));
        let name: Name = "bob".parse().unwrap();
        let mut roll = Roll::default();
        assert_eq!(asks(&roll, "bob"), Err(Some(Subject::Name(name.clone()))));
        assert_eq!(asks(&roll, "bob/01010101"), Err(Some(Subject::Name(name.clone()))));
        assert_eq!(asks(&roll, &one.to_string()), Err(Some(Subject::Node(one))));
        roll.add(one, name.clone(), 1);
        assert_eq!(asks(&roll, "bob"), Ok(one));
        assert_eq!(asks(&roll, "bob/02020202"), Err(None), "another bob is not asked for without end");
        roll.add(two, name, 2);
        assert_eq!(asks(&roll, "bob"), Err(None));
        assert_eq!((asks(&roll, "bob/01010101"), asks(&roll, &two.to_string())), (Ok(one), Ok(two)));
        let me = (NodeId::new([9; 32]), "alice".parse().unwrap());
        let Whom::Refused(why) = whom(&roll, &me, &"bob".parse().unwrap()) else { panic!("it is not clear") };
        assert!(why.help.unwrap().contains("bob/01010101 or bob/02020202"));
    }
}
