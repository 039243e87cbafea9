//! Clients of a hub: taken on by their own signed word, found by id and by name.

use dske_protocol::{enrolment, ids::NodeId, message::Identity};
use dske_storage::{Applicant, Consent, EnrolError};

use crate::common::*;

/// What the client with this key asks for.
fn applicant(key: u8, name: &str) -> Applicant {
    let identity = Identity {
        node: enrolment::node_of(&[key; 32]),
        name: name.parse().expect("a name"),
        applications: vec!["vpn".to_owned()],
    };
    let signature = enrolment::sign(&[key; 32], &identity);
    Applicant { identity, signature }
}

const RENAME: Consent = Consent { rename: true, replace: false };
const REPLACE: Consent = Consent { rename: false, replace: true };

#[test]
fn a_client_is_taken_on_by_its_own_word_alone() {
    let mut world = World::empty();
    let asked = applicant(1, "carol");
    let mut others = [asked.clone(), asked.clone(), asked.clone(), applicant(2, "carol")];
    others[0].identity.name = "caro".parse().expect("a name");
    others[1].identity.applications.clear();
    others[2].signature = enrolment::sign(&[2; 32], &asked.identity);
    others[3].identity.node = asked.identity.node;
    for forged in others {
        assert_eq!(world.hub.enrol(forged, RENAME, 5), Err(EnrolError::NotSigned));
    }
    assert_eq!(world.hub.clients(), Ok(vec![]));
    let enrolled = world.hub.enrol(asked.clone(), Consent::default(), 5).expect("signed");
    assert_eq!((enrolled.before, enrolled.replaced), (None, None));
    world.reopen();
    let client = world.hub.client(&asked.identity.node).expect("read").expect("there");
    assert_eq!((&client.name, client.signature, client.local_id), (&asked.identity.name, asked.signature, 1));
    assert_eq!(world.hub.client_named(&client.name), Ok(Some(client.clone())));
    // Once more: nothing changes but the day.
    let again = world.hub.enrol(asked, Consent::default(), 9).expect("signed");
    assert_eq!((again.before, again.client), (Some(client.clone()), client));
}

#[test]
fn a_key_gets_another_name_and_a_name_another_key_by_the_operators_word_alone() {
    let mut world = World::empty();
    let enrol = |world: &World, key, name, consent| world.hub.enrol(applicant(key, name), consent, 5);
    enrol(&world, 1, "carol", Consent::default()).expect("new");
    let known_as = |name: &str, wanted: &str| {
        Err(EnrolError::KnownAs {
            known_as: name.parse().expect("a name"),
            wanted: wanted.parse().expect("a name"),
        })
    };
    assert_eq!(enrol(&world, 1, "dave", Consent::default()), known_as("carol", "dave"));
    assert_eq!(enrol(&world, 1, "dave", REPLACE), known_as("carol", "dave"));
    let taken = Err(EnrolError::NameTaken {
        name: "carol".parse().expect("a name"),
        node: enrolment::node_of(&[1; 32]),
    });
    assert_eq!(enrol(&world, 2, "carol", Consent::default()), taken);
    assert_eq!(enrol(&world, 2, "carol", RENAME), taken);

    let renamed = enrol(&world, 1, "dave", RENAME).expect("by the operator's word");
    assert_eq!((renamed.client.local_id, renamed.before.expect("known").name.as_str()), (1, "carol"));
    assert_eq!(world.hub.client_named(&"carol".parse().expect("a name")), Ok(None), "its name is free");
    let other = enrol(&world, 2, "carol", Consent::default()).expect("it is free");
    assert_eq!(other.client.local_id, 2);
    let replaced = enrol(&world, 3, "carol", REPLACE).expect("by the operator's word");
    let old = replaced.replaced.expect("somebody had it");
    assert_eq!((old.node, old.enabled), (other.client.node, false));
    world.reopen();
    let carol = world.hub.client_named(&"carol".parse().expect("a name")).expect("read").expect("there");
    assert_eq!((carol.node, carol.local_id), (enrolment::node_of(&[3; 32]), 3));
    assert_eq!(world.hub.client(&other.client.node).expect("read").map(|client| client.enabled), Some(false));
    // Who had the name before cannot take it back without a word either.
    assert!(matches!(enrol(&world, 2, "carol", Consent::default()), Err(EnrolError::NameTaken { .. })));
}

#[test]
fn those_who_ask_at_once_get_neither_one_name_nor_one_number() {
    let world = World::empty();
    let enrolled: Vec<_> = std::thread::scope(|scope| {
        let ask = |key: u8| {
            let name = format!("c{}", key / 2);
            let hub = world.hub.clone();
            scope.spawn(move || hub.enrol(applicant(key, &name), Consent::default(), 5))
        };
        let asked: Vec<_> = (2..18).map(ask).collect();
        asked.into_iter().filter_map(|thread| thread.join().expect("no panic").ok()).collect()
    });
    assert_eq!(enrolled.len(), 8, "one of each two");
    let mut ids: Vec<u64> = enrolled.iter().map(|enrolled| enrolled.client.local_id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=8).collect::<Vec<_>>());
    let nodes: Vec<NodeId> = world.hub.clients().expect("read").iter().map(|client| client.node).collect();
    assert_eq!(nodes.len(), 8);
}
