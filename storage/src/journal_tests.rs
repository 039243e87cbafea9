//! The journal and the log behind it on a simulated disk: what was synced survives, what is damaged, old or
//! strange is refused, and nothing else is replayed.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use proptest::prelude::*;

use crate::{
    disk::Disk,
    error::StoreError,
    journal::replay,
    journal_header::RECORDS_OFFSET,
    journal_record::{Epoch, encode_record},
    journaled_log::JournaledLog,
    log::{Batch, Log, Pair},
    sim::{Faults, Keep, SimDisk, SimLog},
};

const PATH: &str = "/ledger/journal";
const STORE: [u8; 16] = [7; 16];
const BYTES: u64 = RECORDS_OFFSET + 2048;

fn new() -> (SimDisk, SimLog, JournaledLog) {
    let (disk, sled) = (SimDisk::default(), SimLog::default());
    let log = JournaledLog::create(Arc::new(sled.clone()), &disk, Path::new(PATH), STORE, BYTES);
    (disk, sled, log.expect("a journal"))
}

fn open(disk: &SimDisk, sled: &SimLog) -> Result<JournaledLog, StoreError> {
    JournaledLog::open(Arc::new(sled.clone()), disk, Path::new(PATH), STORE)
}

fn crash(disk: &SimDisk, sled: &SimLog, keep: Keep) -> (SimDisk, SimLog) {
    (disk.crashed(keep, Arc::default()), sled.crashed(keep, Arc::default()))
}

fn put(log: &JournaledLog, key: &[u8], value: &[u8]) {
    log.apply(&Batch::from([(key.to_vec(), Some(value.to_vec()))])).expect("applied");
    log.sync().expect("synced");
}

fn flip(disk: &SimDisk, at: u64) {
    let file = disk.open(Path::new(PATH)).expect("the journal");
    let mut byte = [0];
    file.read_at(&mut byte, at).expect("readable");
    file.write_at(&[byte[0] ^ 1], at).expect("written");
}

/// Records of 64 bytes: three of them.
fn three() -> (SimDisk, SimLog) {
    let (disk, sled, log) = new();
    [b"a", b"b", b"c"].into_iter().for_each(|key| put(&log, key, key));
    crash(&disk, &sled, Keep::Nothing)
}

#[test]
fn a_bad_record_in_the_middle_is_refused_a_bad_tail_is_not() {
    for (record, refused) in [(0, true), (1, true), (2, false)] {
        let (disk, sled) = three();
        flip(&disk, RECORDS_OFFSET + 64 * record + 50);
        let opened = open(&disk, &sled);
        assert_eq!(matches!(opened, Err(StoreError::Damaged { .. })), refused, "record {record}");
        if let Ok(log) = opened {
            let keys: Vec<_> = [b"a", b"b", b"c"].map(|key| log.get(key).expect("readable").is_some()).into();
            assert_eq!(keys, [true, true, false]);
        }
    }
}

#[test]
fn one_bad_header_slot_costs_nothing_two_refuse() {
    for (slots, opens) in [(&[0][..], true), (&[4096][..], true), (&[0, 4096][..], false)] {
        let (disk, sled) = three();
        slots.iter().for_each(|slot| flip(&disk, slot + 20));
        match open(&disk, &sled) {
            Ok(log) => assert!(opens && log.get(b"c").expect("readable").is_some()),
            Err(error) => assert!(!opens && matches!(error, StoreError::Damaged { .. }), "{error}"),
        }
    }
}

#[test]
fn a_start_with_the_newer_header_slot_bad_survives_a_power_cut_anywhere() {
    for cut in 1.. {
        let (disk, sled) = three();
        flip(&disk, 4096 + 20);
        let faults = Arc::new(Faults::default());
        faults.cut_from.store(cut, Ordering::SeqCst);
        let (disk, sled) = (disk.crashed(Keep::All, faults.clone()), sled.crashed(Keep::All, faults));
        let done = open(&disk, &sled).is_ok();
        let (disk, sled) = crash(&disk, &sled, Keep::Torn(30));
        let log = open(&disk, &sled).expect("one slot is right at any time");
        assert_eq!(log.get(b"c"), Ok(Some(b"c".to_vec())), "cut at {cut}");
        if done {
            break;
        }
    }
}

#[test]
fn only_a_record_that_was_written_later_shows_that_one_before_it_is_bad() {
    let epoch = Epoch::new(&STORE, 3);
    let replayed = |sequences: [u64; 2]| {
        let record = |sequence| {
            let batch = Batch::from([(vec![1], Some(vec![2]))]);
            encode_record(&epoch, sequence, &batch).expect("small")
        };
        replay(&sequences.map(record).concat(), &epoch).is_ok()
    };
    assert!(replayed([0, 1]) && !replayed([0, 2]) && !replayed([1, 2]) && replayed([0, 0]));
}

#[test]
fn journal_and_ledger_of_different_times_or_stores_are_refused() {
    let (disk, sled, log) = new();
    let old = crash(&disk, &sled, Keep::Nothing);
    for key in [b"a", b"b"] {
        put(&log, key, b"1");
        log.settle().expect("settled");
    }
    let now = crash(&disk, &sled, Keep::Nothing);
    let damaged = |disk: &SimDisk, sled: &SimLog| matches!(open(disk, sled), Err(StoreError::Damaged { .. }));
    assert!(damaged(&now.0, &old.1), "an old ledger");
    assert!(damaged(&old.0, &now.1), "an old journal");
    let other = JournaledLog::open(Arc::new(now.1.clone()), &now.0, Path::new(PATH), [8; 16]);
    assert!(matches!(other, Err(StoreError::Damaged { .. })), "another store's");
    let missing = open(&SimDisk::default(), &now.1).map(|_| ());
    assert!(matches!(missing, Err(StoreError::Missing { .. })), "{missing:?}");
    open(&now.0, &now.1).expect("those that belong together");
}

/// The image of a record inside a value, as somebody could send it who knows everything but the tag, and
/// the records of an earlier epoch further on in the file.
#[test]
fn nothing_but_records_of_this_epoch_is_replayed() {
    let (disk, sled, log) = new();
    let forged = Batch::from([(b"forged".to_vec(), Some(vec![1]))]);
    let record = encode_record(&Epoch::new(&[0; 16], 2), 1, &forged).expect("small");
    // Head, key and lengths take 64 bytes, so that the image begins at a line.
    put(&log, b"messages", &record.repeat(8));
    put(&log, b"later", b"1");
    log.settle().expect("settled");
    put(&log, b"a", b"2");
    let (disk, sled) = crash(&disk, &sled, Keep::Nothing);
    let log = open(&disk, &sled).expect("it opens");
    assert_eq!(log.get(b"forged"), Ok(None));
    assert_eq!(log.get(b"a"), Ok(Some(b"2".to_vec())));
}

#[test]
fn a_batch_that_no_journal_could_hold_goes_into_the_log_itself() {
    let (disk, sled, log) = new();
    put(&log, b"k", b"old");
    let mut large: Batch = (0u8..200).map(|n| (vec![b'x', n], Some(vec![n; 32]))).collect();
    large.insert(b"k".to_vec(), Some(b"new".to_vec()));
    log.apply(&large).expect("applied");
    log.sync().expect("synced");
    assert_eq!(log.unsettled(), 0);
    put(&log, b"k2", b"2");
    let (disk, sled) = crash(&disk, &sled, Keep::Nothing);
    let log = open(&disk, &sled).expect("it opens");
    assert_eq!(log.get(b"k"), Ok(Some(b"new".to_vec())));
    assert_eq!((log.scan(b"x").expect("read").len(), log.get(b"k2")), (200, Ok(Some(b"2".to_vec()))));
}

#[test]
fn after_a_failure_nothing_is_tried_again() {
    let (disk, _, log) = new();
    disk.faults.cut_from.store(1, std::sync::atomic::Ordering::SeqCst);
    log.apply(&Batch::from([(b"a".to_vec(), None)])).expect("applied");
    assert!(matches!(log.sync(), Err(StoreError::Io { .. })));
    disk.faults.cut_from.store(0, std::sync::atomic::Ordering::SeqCst);
    assert!(matches!(log.sync(), Err(StoreError::Poisoned { .. })));
    assert!(matches!(log.settle(), Err(StoreError::Poisoned { .. })));
}

#[test]
fn threads_share_syncs_and_lose_nothing() {
    let (disk, sled, log) = new();
    std::thread::scope(|scope| {
        for thread in 0u8..4 {
            let log = &log;
            scope.spawn(move || (0u8..100).for_each(|n| put(log, &[thread, n], &[n])));
        }
    });
    let (disk, sled) = crash(&disk, &sled, Keep::Nothing);
    let log = open(&disk, &sled).expect("it opens");
    for thread in 0u8..4 {
        assert_eq!(log.scan(&[thread]).expect("read").len(), 100);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Apply(Vec<(u8, Option<u8>)>),
    Sync,
    Settle,
    Crash(Keep),
}

fn step() -> impl Strategy<Value = Step> {
    let change = (0u8..40, prop::option::weighted(0.7, any::<u8>()));
    let keep = prop_oneof![Just(Keep::Nothing), (0usize..300).prop_map(Keep::Torn)];
    prop_oneof![
        6 => prop::collection::vec(change, 1..8).prop_map(Step::Apply),
        4 => Just(Step::Sync),
        1 => Just(Step::Settle),
        1 => keep.prop_map(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn it_is_a_map_whose_synced_batches_survive(steps in prop::collection::vec(step(), 1..120), limit in 0usize..12) {
        let (mut disk, mut sled, mut log) = new();
        let mut map: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut synced = map.clone();
        for step in steps {
            match step {
                Step::Apply(changes) => {
                    // Two prefixes, one of them of the other.
                    let named = |(key, value): (u8, Option<u8>)| {
                        let key = if key < 20 { vec![b'a', key] } else { vec![b'a', b'b', key] };
                        (key, value.map(|value| vec![value; 9]))
                    };
                    let batch: Batch = changes.into_iter().map(named).collect();
                    log.apply(&batch).expect("applied");
                    for (key, value) in batch {
                        match value {
                            Some(value) => map.insert(key, value),
                            None => map.remove(&key),
                        };
                    }
                }
                Step::Sync => {
                    log.sync().expect("synced");
                    synced = map.clone();
                }
                Step::Settle => log.settle().expect("settled"),
                Step::Crash(keep) => {
                    (disk, sled) = crash(&disk, &sled, keep);
                    log = open(&disk, &sled).expect("it opens");
                    map = synced.clone();
                }
            }
            for prefix in [&b""[..], b"a", b"ab"] {
                let expected = || map.iter().filter(|(key, _)| key.starts_with(prefix));
                // The log's own record of its epoch is not among those of the map.
                let mine = |pairs: Vec<Pair>| -> Vec<Pair> {
                    pairs.into_iter().filter(|(key, _)| key.starts_with(b"a")).collect()
                };
                let all: Vec<Pair> = expected().map(|(key, value)| (key.clone(), value.clone())).collect();
                prop_assert_eq!(mine(log.scan(prefix).expect("read")), all.clone());
                if !prefix.is_empty() {
                    let last: Vec<Pair> = all.into_iter().rev().take(limit).collect();
                    prop_assert_eq!(log.scan_last(prefix, limit).expect("read"), last);
                }
            }
            for key in 0u8..20 {
                prop_assert_eq!(log.get(&[b'a', key]).expect("read"), map.get(&vec![b'a', key]).cloned());
            }
        }
    }
}
