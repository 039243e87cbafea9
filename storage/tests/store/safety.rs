//! Locks, permissions, closing.

use std::os::unix::fs::PermissionsExt;

use dske_storage::{Options, Store, StoreError, Transaction};

use crate::common::*;

#[test]
fn one_process_has_a_directory() {
    let world = World::empty();
    let path = world.path("hub");
    match Store::open(&path, Options::default()) {
        Err(StoreError::Locked { pid, .. }) => assert_eq!(pid, std::process::id().to_string()),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("opened twice"),
    }
    assert!(matches!(Store::create(&path), Err(StoreError::Exists { .. })));
    world.hub.close().expect("closed");
    open_at(&path).close().expect("free again");
}

#[test]
fn everything_is_for_the_owner_only() {
    let world = World::paired();
    get(world
        .client
        .commit(Transaction { block: vec![block(1, Some(&[1; 32]), 32)], ..Transaction::default() }))
    .expect("stored");
    world.client.close().expect("closed");
    fn check(path: &std::path::Path) {
        let meta = std::fs::metadata(path).expect("metadata");
        let mode = meta.permissions().mode() & 0o777;
        assert_eq!(mode, if meta.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
        if meta.is_dir() {
            std::fs::read_dir(path)
                .expect("a directory")
                .for_each(|entry| check(&entry.expect("an entry").path()));
        }
    }
    check(&world.path("client"));
    let module = std::fs::metadata(world.path("0.pskm")).expect("a module");
    assert_eq!(module.permissions().mode() & 0o777, 0o600);
}

#[test]
fn after_closing_nothing_works_and_nothing_hangs() {
    let world = World::paired();
    let clone = world.client.clone();
    world.client.close().expect("closed");
    world.client.close().expect("closing twice is fine");
    assert_eq!(get(clone.commit(Transaction::default())), Err(StoreError::Closed));
    assert!(clone.tables().is_empty());
    assert_eq!(clone.clients(), Err(StoreError::Closed));
    assert!(get(clone.mint(vec![])).is_err());
    let path = world.path("nowhere");
    assert!(matches!(Store::open(&path, Options::default()), Err(StoreError::Missing { .. })));
}

#[test]
fn records_survive() {
    let mut world = World::paired();
    let client = client_record();
    let hub = world.client.hubs().expect("hubs").pop().expect("from the module");
    assert_eq!((hub.node, hub.since_ms), (HUB, 20));
    let put = Transaction { clients: vec![client.clone()], ..Transaction::default() };
    get(world.hub.commit(put)).expect("stored");
    let exclusion =
        dske_storage::ExclusionRecord { hub: HUB, reason: "claimed another peer id".to_owned(), at_ms: 5 };
    let put = Transaction { exclusions: vec![exclusion.clone()], ..Transaction::default() };
    get(world.client.commit(put)).expect("stored");
    world.reopen();
    assert_eq!(world.hub.clients(), Ok(vec![client]));
    assert_eq!(world.client.exclusions(), Ok(vec![exclusion]));
    get(world.client.commit(Transaction { readmit: vec![HUB], ..Transaction::default() })).expect("stored");
    world.reopen();
    assert_eq!(world.client.exclusions(), Ok(vec![]));
}

#[test]
fn an_identity_that_a_further_hub_claims_is_no_younger() {
    let mut world = World::empty();
    let first = dske_storage::IdentityRecord {
        node: CLIENT,
        name: "alice".parse().expect("a name"),
        applications: vec![],
        known_as: vec![(HUB, 7)],
        established_ms: 5,
    };
    let further = vec![(HUB, 7), (dske_protocol::ids::NodeId::new([3; 32]), 9)];
    let later = dske_storage::IdentityRecord { known_as: further, established_ms: 6, ..first.clone() };
    for record in [&first, &later] {
        let put = Transaction { identities: vec![record.clone()], ..Transaction::default() };
        get(world.client.commit(put)).expect("stored");
    }
    world.reopen();
    assert_eq!(
        world.client.identities(),
        Ok(vec![dske_storage::IdentityRecord { established_ms: 5, ..later.clone() }])
    );
    // Under another name it comes after those that bear it already.
    let renamed = dske_storage::IdentityRecord { name: "bob".parse().expect("a name"), ..later };
    let put = Transaction { identities: vec![renamed.clone()], ..Transaction::default() };
    get(world.client.commit(put)).expect("stored");
    world.reopen();
    assert_eq!(world.client.identities(), Ok(vec![renamed]));
}

#[test]
fn a_retired_table_stays_retired() {
    let mut world = World::paired();
    let id = table(&world.hub).table;
    get(world.hub.commit(Transaction { retire: vec![id], ..Transaction::default() })).expect("retired");
    world.reopen();
    assert_eq!(table(&world.hub).state, dske_storage::TableState::Retired);
    let again = get(world.hub.commit(Transaction { activate: vec![id], ..Transaction::default() }));
    assert!(matches!(again, Err(StoreError::WrongState { .. })));
}
