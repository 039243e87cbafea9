//! Keys leave once, and blocks exist once.

use dske_protocol::ids::{BlockId, KeyId};
use dske_storage::{BlockState, NewBlock, StoreError, TakeError, Transaction};

use crate::common::*;

fn put(world: &World, new: NewBlock) -> Result<(), StoreError> {
    get(world.client.commit(Transaction { block: vec![new], ..Transaction::default() }))
}

fn id(block: u8, index: u32) -> KeyId {
    KeyId { block: BlockId::new([block; 16]), index }
}

#[test]
fn a_key_is_taken_once_whoever_races() {
    let mut world = World::empty();
    put(&world, block(1, Some(&[0xa1; 32]), 32)).expect("stored");
    world.reopen();
    let replies: Vec<_> = (0..10).map(|_| world.client.take_key(id(1, 0))).collect();
    let taken: Vec<_> = replies.into_iter().map(get).collect();
    let won: Vec<_> = taken.iter().filter_map(|result| result.as_ref().ok()).collect();
    assert_eq!(won.len(), 1);
    assert_eq!(won[0].expose(), [0xa1; 32]);
    assert!(
        taken
            .iter()
            .filter(|result| result.is_err())
            .all(|result| matches!(result, Err(TakeError::AlreadyTaken(_))))
    );
    world.reopen();
    assert!(matches!(get(world.client.take_key(id(1, 0))), Err(TakeError::AlreadyTaken(_))));
    let record = world.client.block(&BlockId::new([1; 16])).expect("readable").expect("kept");
    assert_eq!(record.state, BlockState::Taken);
}

#[test]
fn a_block_is_cut_into_keys() {
    let mut world = World::empty();
    let keys: Vec<u8> = (1..=96).collect();
    put(&world, block(1, Some(&keys), 32)).expect("stored");
    assert_eq!(get(world.client.take_key(id(1, 1))).expect("taken").expose(), &keys[32..64]);
    world.reopen();
    assert!(matches!(get(world.client.take_key(id(1, 1))), Err(TakeError::AlreadyTaken(_))));
    assert_eq!(get(world.client.take_key(id(1, 2))).expect("taken").expose(), &keys[64..]);
    assert!(matches!(get(world.client.take_key(id(1, 3))), Err(TakeError::Unknown(_))));
    assert_eq!(get(world.client.take_key(id(1, 0))).expect("taken").expose(), &keys[..32]);
    assert!(matches!(get(world.client.take_key(id(1, 0))), Err(TakeError::AlreadyTaken(_))));
}

#[test]
fn a_block_id_is_used_once() {
    let mut world = World::empty();
    put(&world, block(1, None, 32)).expect("stored");
    assert_eq!(
        put(&world, block(1, Some(&[5; 32]), 32)),
        Err(StoreError::BlockExists { block: id(1, 0).block })
    );
    let both = Transaction { block: vec![block(2, None, 1), block(2, None, 1)], ..Transaction::default() };
    assert!(matches!(get(world.client.commit(both)), Err(StoreError::BlockExists { .. })));
    let refused = get(world.client.take_key(id(1, 0)));
    assert!(matches!(refused, Err(TakeError::Aborted { ref reason, .. }) if reason == "two hubs missing"));
    assert!(matches!(get(world.client.take_key(id(7, 0))), Err(TakeError::Unknown(_))));
    world.reopen();
    assert!(matches!(put(&world, block(1, None, 32)), Err(StoreError::BlockExists { .. })));
}

#[test]
fn blocks_are_listed_newest_first() {
    let world = World::empty();
    for n in [3, 1, 2] {
        put(&world, block(n, None, 32)).expect("stored");
    }
    let listed: Vec<_> =
        world.client.blocks(2).expect("readable").into_iter().map(|record| record.at_ms).collect();
    assert_eq!(listed, [3, 2]);
}

#[test]
fn records_that_make_no_sense_or_are_too_long_are_refused() {
    let world = World::empty();
    assert!(matches!(put(&world, block(1, Some(&[1; 33]), 32)), Err(StoreError::Invalid { .. })));
    let mut long = block(1, Some(&[1; 32]), 32);
    long.record.purpose = "x".repeat(5000);
    assert!(matches!(put(&world, long), Err(StoreError::RecordTooLarge { .. })));
    put(&world, block(1, Some(&[1; 32]), 32)).expect("the refusals left nothing");
}

#[test]
fn neither_keys_nor_pads_stand_in_the_ledger_and_taken_keys_are_erased() {
    let world = World::paired();
    let key: Vec<u8> = (100..132).collect();
    put(&world, block(1, Some(&key), 32)).expect("stored");
    let kept: Vec<u8> = (132..164).collect();
    put(&world, block(2, Some(&kept), 32)).expect("stored");
    let minted = world.mint_up(96);
    world.hold(minted.range).expect("held");
    world.claim(minted.range).expect("claimed");
    let pad = reveal(minted.pad);
    get(world.client.take_key(id(1, 0))).expect("taken");
    world.client.close().expect("closed");
    world.hub.close().expect("closed");
    for store in ["hub", "client"] {
        let ledger = all_bytes(&world.path(store).join("ledger"));
        assert!(!contains(&ledger, &key) && !contains(&ledger, &kept) && !contains(&ledger, &pad));
        // Its journal keeps what it held, also after a checkpoint; the records above passed through it.
        let journal = std::fs::read(world.path(store).join("ledger/journal")).expect("a journal");
        assert!(journal[8192..].iter().any(|&byte| byte != 0));
        assert!(!contains(&journal, &key) && !contains(&journal, &kept) && !contains(&journal, &pad));
        let all = all_bytes(&world.path(store));
        assert!(!contains(&all, &key), "a taken key is erased");
        assert!(!contains(&all, &pad), "a used pad is erased");
    }
    assert!(contains(&all_bytes(&world.path("client").join("keys")), &kept));
}

#[test]
fn runs_of_keys_are_taken_as_a_whole_once_and_across_a_restart() {
    let mut world = World::empty();
    let keys: Vec<u8> = (0..10_000_u32).flat_map(u32::to_le_bytes).collect();
    put(&world, block(1, Some(&keys), 4)).expect("stored");
    let take = |world: &World, first, count| get(world.client.take_keys(id(1, first), count));
    assert_eq!(take(&world, 4000, 200).expect("across two maps").expose(), &keys[16_000..16_800]);
    assert!(matches!(take(&world, 4199, 2), Err(TakeError::AlreadyTaken(key)) if key == id(1, 4199)));
    assert_eq!(take(&world, 4200, 1).expect("that one was not taken").expose(), &keys[16_800..16_804]);
    assert!(matches!(take(&world, 9_999, 2), Err(TakeError::Unknown(_))), "beyond the end");
    assert!(matches!(take(&world, 0, 0), Err(TakeError::Unknown(_))), "none");
    assert!(matches!(take(&world, 1, u32::MAX), Err(TakeError::Unknown(_))), "more than there can be");
    let waiting = world.client.waiting_blocks().expect("listed");
    assert_eq!(waiting.iter().map(|block| (block.keys, block.next)).collect::<Vec<_>>(), [(10_000, 4201)]);
    world.reopen();
    assert!(matches!(take(&world, 4100, 1), Err(TakeError::AlreadyTaken(_))));
    assert_eq!(take(&world, 0, 4000).expect("the first").expose(), &keys[..16_000]);
    assert_eq!(take(&world, 4201, 5_799).expect("the rest").expose(), &keys[16_804..]);
    assert!(matches!(take(&world, 0, 1), Err(TakeError::AlreadyTaken(_))), "the block is taken");
    assert!(world.client.waiting_blocks().expect("listed").is_empty());
}

#[test]
fn runs_of_several_blocks_are_taken_together_or_none_of_them_is() {
    let world = World::empty();
    let keys = |block: u8| (0..10).flat_map(|index| [block, index, 7, 7]).collect::<Vec<u8>>();
    for id in [1, 2, 3] {
        put(&world, block(id, Some(&keys(id)), 4)).expect("stored");
    }
    let take = |runs: &[(KeyId, u32)]| get(world.client.take_runs(runs));
    let give_up = vec![(id(2, 0).block, "nobody came".to_owned())];
    get(world.client.commit(Transaction { give_up, ..Transaction::default() })).expect("given up");
    let refused = take(&[(id(1, 0), 10), (id(2, 0), 3), (id(3, 0), 1)]).map(drop).expect_err("refused");
    assert_eq!(refused.block, Some(id(2, 0).block));
    assert!(
        matches!(&refused.error, TakeError::Aborted { reason, .. } if reason == "nobody came"),
        "{refused}"
    );
    let twice = take(&[(id(1, 0), 2), (id(3, 0), 1), (id(1, 1), 1)]).map(drop).expect_err("refused");
    assert!(
        matches!((twice.block, &twice.error), (None, TakeError::Store(StoreError::Invalid { .. }))),
        "{twice}"
    );
    let taken = take(&[(id(1, 2), 8), (id(3, 0), 1), (id(1, 0), 2)]).expect("nothing of them was taken");
    let taken: Vec<&[u8]> = taken.iter().map(dske_storage::SecretBytes::expose).collect();
    assert_eq!(taken, [&keys(1)[8..], &keys(3)[..4], &keys(1)[..8]]);
    let again = take(&[(id(3, 1), 1), (id(1, 9), 1)]).map(drop).expect_err("refused");
    assert!(
        matches!((again.block, &again.error), (Some(block), TakeError::AlreadyTaken(_)) if block == id(1, 0).block)
    );
    let waits = world.client.waiting_blocks().expect("listed");
    assert_eq!(
        waits.iter().map(|block| (block.keys, block.next, block.bytes)).collect::<Vec<_>>(),
        [(10, 1, 36)]
    );
}

#[test]
fn a_record_that_is_not_kept_lets_no_late_share_begin_its_block_anew() {
    let mut world = World::empty();
    let received = |id, keys: Option<&[u8]>| {
        let mut new = block(id, keys, 32);
        new.record.side = dske_storage::Side::Receiver;
        new
    };
    put(&world, received(1, Some(&[5; 32]))).expect("stored");
    put(&world, received(2, Some(&[6; 32]))).expect("stored");
    put(&world, received(3, None)).expect("stored");
    get(world.client.take_key(id(1, 0))).expect("taken");
    assert_eq!(world.client.ended_blocks().expect("listed").len(), 2);
    let forget = vec![id(1, 0).block, id(2, 0).block, id(3, 0).block, id(4, 0).block];
    get(world.client.commit(Transaction { forget, ..Transaction::default() })).expect("forgotten");
    for _ in 0..2 {
        assert_eq!(world.client.block(&id(1, 0).block), Ok(None));
        for (id, known) in [(1, true), (2, true), (3, true), (4, false)] {
            assert_eq!(world.client.is_block_known(&BlockId::new([id; 16])), Ok(known), "{id}");
        }
        for new in [1, 3] {
            let refused = put(&world, received(new, Some(&[5; 32])));
            assert!(matches!(refused, Err(StoreError::BlockExists { .. })), "{refused:?}");
        }
        assert!(matches!(get(world.client.take_key(id(1, 0))), Err(TakeError::AlreadyTaken(_))));
        assert!(matches!(get(world.client.take_key(id(3, 0))), Err(TakeError::Aborted { .. })));
        assert_eq!(world.client.blocks(9).expect("listed").len(), 1);
        world.reopen();
    }
    assert_eq!(get(world.client.take_key(id(2, 0))).expect("it waited").expose(), [6; 32]);
}
