//! Messages wait as the very same bytes, across restarts, until they are delivered.

use dske_protocol::ids::{BlockId, TableId};
use dske_storage::{OutboxId, OutboxItem, Transaction};

use crate::common::*;

fn put(world: &World, bytes: &[u8]) -> OutboxId {
    let id = world.hub.next_outbox_id();
    let item = OutboxItem {
        id,
        receiver: CLIENT,
        sender: CLIENT,
        block: BlockId::new([4; 16]),
        table: TableId::new([9; 16]),
        at_ms: 7,
        bytes: bytes.to_vec(),
    };
    get(world.hub.commit(Transaction { outbox: vec![item], ..Transaction::default() })).expect("stored");
    id
}

fn deliver(world: &World, id: OutboxId) {
    get(world.hub.commit(Transaction { delivered: vec![id], ..Transaction::default() })).expect("removed");
}

#[test]
fn messages_survive_and_go_in_order() {
    let mut world = World::empty();
    let large = vec![0x5c; 5 << 20];
    let ids = [put(&world, b"first"), put(&world, &large), put(&world, b"third")];
    world.reopen();
    let listed: Vec<_> = world.hub.outbox().iter().map(|entry| entry.id).collect();
    assert_eq!(listed, ids);
    assert_eq!(get(world.hub.outbox_read(ids[1])), Ok(Some(large)));
    deliver(&world, ids[0]);
    deliver(&world, ids[0]);
    world.reopen();
    let fourth = put(&world, b"fourth");
    assert!(fourth > ids[2], "ids are never repeated");
    assert_eq!(world.hub.outbox().len(), 3);
    assert_eq!(get(world.hub.outbox_read(ids[0])), Ok(None));
    assert_eq!(get(world.hub.outbox_read(ids[2])), Ok(Some(b"third".to_vec())));
}

#[test]
fn a_message_that_is_not_the_same_any_more_is_dropped() {
    let mut world = World::empty();
    // Long enough for a segment.
    let id = put(&world, &b"exactly these bytes".repeat(200));
    world.hub.close().expect("closed");
    let segment = world.path("hub").join("outbox/00000000.segment");
    let mut bytes = std::fs::read(&segment).expect("a segment");
    let at = bytes.windows(5).position(|window| window == b"these").expect("it is there");
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).expect("written");
    world.hub = open_at(&world.path("hub"));
    assert_eq!(get(world.hub.outbox_read(id)), Ok(None));
    deliver(&world, id);
    assert_eq!(world.hub.outbox(), []);
    // A segment that is gone altogether costs its messages, not the store.
    let id = put(&world, &b"more".repeat(800));
    world.hub.close().expect("closed");
    std::fs::remove_file(&segment).expect("removed");
    world.hub = open_at(&world.path("hub"));
    assert_eq!(get(world.hub.outbox_read(id)), Ok(None));
}

#[test]
fn delivered_messages_are_erased_and_their_room_is_used_again() {
    let world = World::empty();
    for round in 0..8u8 {
        let id = put(&world, &vec![0xd0 + round; 1 << 20]);
        deliver(&world, id);
    }
    world.hub.close().expect("closed");
    let outbox = all_bytes(&world.path("hub").join("outbox"));
    assert!(outbox.iter().all(|&byte| byte == 0));
}
