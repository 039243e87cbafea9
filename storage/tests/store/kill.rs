//! A process that dies at any moment: never a repeated byte, never a key twice, at most a chunk lost.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use dske_protocol::ids::{BlockId, KeyId};
use dske_storage::{TakeError, Transaction};

use crate::common::*;

const ROLE: &str = "DSKE_STORAGE_TEST_CHILD";

/// Not a test of its own: what the killed process does, reporting each effect after it happened.
#[test]
fn child() {
    let Ok(dir) = std::env::var(ROLE) else { return };
    let store = open_at(Path::new(&dir));
    let mut out = std::io::stdout();
    for round in 0u32.. {
        let minted = mint(&store, HUB, 700);
        writeln!(out, "mint {} {}", minted.range.offset, minted.range.len).expect("a pipe");
        let record = store.blocks(1).expect("blocks");
        let next = record.first().map_or(1, |record| record.at_ms + 1);
        let mut new = block(1, Some(&[u8::try_from(next % 251).expect("small") + 1; 32]), 32);
        new.record.at_ms = next;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&next.to_be_bytes());
        new.record.block = BlockId::new(id);
        get(store.commit(Transaction { block: vec![new], ..Transaction::default() })).expect("stored");
        writeln!(out, "block {next}").expect("a pipe");
        if round % 2 == 0 {
            get(store.take_key(KeyId { block: BlockId::new(id), index: 0 })).expect("taken");
            writeln!(out, "take {next}").expect("a pipe");
        }
        out.flush().expect("a pipe");
    }
}

#[test]
fn killed_again_and_again() {
    let world = World::empty();
    world.add_table(4 << 20);
    world.client.close().expect("closed");
    let dir = world.path("client");
    let (mut end, mut blocks, mut taken) = (0, Vec::new(), Vec::new());
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "kill::child", "--nocapture", "--test-threads=1"])
            .env(ROLE, &dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        for (count, line) in lines.map_while(Result::ok).enumerate() {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |at: usize| words[at].parse::<u64>().expect("a number");
            // The harness writes its own words in front of the first line.
            match words.iter().position(|word| ["mint", "block", "take"].contains(word)) {
                Some(at) if words[at] == "mint" => {
                    assert!(number(at + 1) >= end, "a byte was repeated");
                    end = number(at + 1) + number(at + 2);
                }
                Some(at) if words[at] == "block" => blocks.push(number(at + 1)),
                Some(at) => taken.push(number(at + 1)),
                None => {}
            }
            if count >= 10 + round * 7 {
                child.kill().expect("killed");
            }
        }
        child.wait().expect("gone");
    }
    assert!(end > 0 && blocks.len() > 30);
    let store = open_at(&dir);
    let status = table(&store);
    // 2 MiB lanes have chunks of 16 KiB: at most one is lost by each of the kills.
    assert!(status.lanes[0].skipped <= 6 * 16_384, "{status:?}");
    for at_ms in blocks {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&at_ms.to_be_bytes());
        let block = BlockId::new(id);
        assert!(store.block(&block).expect("readable").is_some(), "an acknowledged block survives");
        let result = get(store.take_key(KeyId { block, index: 0 }));
        match result {
            Ok(key) => {
                assert!(!taken.contains(&at_ms), "a key was handed out twice");
                assert_eq!(key.expose(), [u8::try_from(at_ms % 251).expect("small") + 1; 32]);
            }
            // Its record was durable when the process died, but nobody was told.
            Err(error) => assert!(matches!(error, TakeError::AlreadyTaken(_)), "{error}"),
        }
    }
}
