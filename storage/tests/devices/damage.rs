//! Every file of a store's directory cut short at many lengths and with bits flipped at many places: what
//! was changed is noticed and named, or changes nothing. No pad is used again, none is wrong, no key either.
//!
//! `DSKE_FLIPS=5000 DSKE_SEED=7 cargo test --release -p dske-storage --test devices damage -- --nocapture`
//! flips as many bits in each file as one likes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use dske_protocol::{
    ids::{Lane, PadRange},
    pad::{PadBytes, TAG_KEY_BYTES, TagKey},
    sync::keys_from,
};
use dske_storage::{HoldRefusal, HoldWant, MintError, Store, StoreError, TableSide, TableState, Use, Want};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

use crate::{
    common::*,
    model::{DATA_OFFSET, Done, Keys, Mail, Pads},
    setting,
};

/// Flips in each file; as many as CI has time for.
const FLIPS: u64 = 10;

/// Panics in code of ours, in any thread.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// A directory of a store, and what it must hold to.
struct Original {
    dir: PathBuf,
    pads: Pads,
    keys: Keys,
    mail: Mail,
    /// Where the last record of the journal begins, where that is not empty.
    last_record: Option<u64>,
}

/// What became of a damaged copy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// It was not opened, because of this.
    Refused(String),
    /// It was opened, and this is out of use.
    Named(String),
    /// Nothing has changed that anybody could notice.
    Harmless,
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target)
        } else {
            std::fs::copy(&path, &target).map(|_| ()).expect("a copy")
        }
    }
}

/// Fills a store with everything, and copies it: while it is open, as a kill would leave it, or closed.
fn original(dir: &Path, killed: bool, rng: &mut StdRng) -> Original {
    let world = World::paired();
    let mut pads = Pads::new(&world.path("hub"), &table(&world.client));
    let (mut keys, mut mail) = (Keys::default(), Mail::default());
    let store = |world: &World| world.client.clone();
    let mut work = |world: &World, rounds: usize| {
        for _ in 0..rounds {
            assert_ne!(pads.mint(&store(world), rng), Done::Failed);
            assert_ne!(pads.claim(&store(world), rng), Done::Failed);
            assert_ne!(keys.store(&store(world), rng), Done::Failed);
            if rng.random_bool(0.4) {
                assert_ne!(keys.take(&store(world), rng), Done::Failed);
            }
            assert_ne!(mail.post(&store(world), rng), Done::Failed);
            if rng.random_bool(0.5) {
                assert_ne!(mail.deliver(&store(world)), Done::Failed);
            }
        }
    };
    work(&world, 25);
    world.client.close().expect("closed");
    let mut world = world;
    world.client = open_at(&world.path("client"));
    work(&world, 15);
    let journal = world.path("client/ledger/journal");
    let before = std::fs::read(&journal).expect("a journal");
    // The very last record holds this and nothing else: damage to it looks like a write that was torn.
    assert_eq!(mail.exclude(&store(&world), rng), Done::Yes);
    if !killed {
        world.client.close().expect("closed");
    }
    let target = dir.join(if killed { "killed" } else { "closed" });
    copy(&world.path("client"), &target);
    let after = std::fs::read(target.join("ledger/journal")).expect("a journal");
    let changed = before.iter().zip(&after).position(|(old, new)| old != new);
    let last_record = changed.filter(|_| killed).map(|at| at as u64 / 64 * 64);
    Original { dir: target, pads, keys, mail, last_record }
}

/// Opens a copy and uses all of it.
fn exercise(dir: &Path, original: &Original, last_may_be_lost: bool, whole_lane: bool) -> Outcome {
    let store = match Store::open(dir, options()) {
        Ok(store) => store,
        Err(
            error @ (StoreError::Damaged { .. }
            | StoreError::Missing { .. }
            | StoreError::Ledger { .. }
            | StoreError::Io { .. }),
        ) => {
            let text = error.to_string();
            let named =
                ["ledger", "journal", "lane", "store", "segment"].iter().any(|part| text.contains(part));
            assert!(named, "it names no part of the store: {text}");
            return Outcome::Refused(kind_of(&text));
        }
        Err(other) => panic!("not what such damage is called: {other}"),
    };
    open_tables(&store);
    let mut named: Vec<String> = original.keys.check_damaged(&store).into_iter().collect();
    named.extend(original.mail.check_damaged(&store, last_may_be_lost));
    named.extend(check_pads(&store, original, whole_lane));
    let closed = store.close();
    named.extend(closed.err().map(|error| error.to_string()));
    match named.into_iter().next() {
        Some(first) => Outcome::Named(kind_of(&first)),
        None => Outcome::Harmless,
    }
}

/// No run is handed out again, and none is another than the module held.
fn check_pads(store: &Store, original: &Original, whole_lane: bool) -> Option<String> {
    let pads = &original.pads;
    let state =
        || store.tables().into_iter().find(|table| table.table == pads.table).expect("the table").state;
    let quarantined = || match state() {
        TableState::Quarantined { reason } => Some(reason),
        TableState::Active => None,
        TableState::Spent if whole_lane => None,
        other => panic!("the table is {other}"),
    };
    let wants: Vec<_> = pads.claimed.iter().map(|range| held(HUB, *range)).collect();
    for (range, again) in pads.claimed.iter().zip(get(store.hold(wants))) {
        match again {
            Err(HoldRefusal::AlreadyUsed) => {}
            Err(HoldRefusal::NotActive { .. }) => return Some(quarantined().expect("its state")),
            other => panic!("{range:?} was claimed before: {:?}", other.map(|_| ())),
        }
    }
    let rounds = if whole_lane { 80 } else { 3 };
    for _ in 0..rounds {
        let want = Want { peer: HUB, side: TableSide::Client, bytes: 4000, usage: Use::Key };
        match get(store.mint(vec![want])) {
            Ok(mut minted) => {
                let minted = minted.pop().expect("one");
                let (start, end) = (minted.range.offset, minted.range.offset + minted.range.len);
                let repeated = pads.minted.iter().any(|(first, last)| start < *last && *first < end);
                assert!(!repeated, "{start}..{end} was handed out before");
                let from = usize::try_from(start).expect("small");
                let pad = reveal(minted.pad);
                assert_eq!(pad, pads.up[from..from + pad.len()], "a wrong pad at {start}");
            }
            Err(MintError::Exhausted { .. }) => break,
            Err(MintError::NoTable { .. } | MintError::Store(_)) => {
                return Some(quarantined().expect("a table without use says why"));
            }
            Err(other) => panic!("{other}"),
        }
    }
    let messages = keys_from(pads.down.len() as u64);
    let mut at = pads.next_down;
    while at + 700 <= messages {
        let range = PadRange { table: pads.table, lane: Lane::Down, offset: at, len: 700 };
        match get(store.hold(vec![held(HUB, range)])).pop().expect("one") {
            Ok(pad) => {
                let from = usize::try_from(at).expect("small");
                let pad = reveal(pad);
                assert_eq!(pad, pads.down[from..from + pad.len()], "a wrong pad at {at}");
                store.release(range, None);
            }
            Err(HoldRefusal::Store(error)) => return Some(error.to_string()),
            Err(HoldRefusal::NotActive { .. }) => return Some(quarantined().expect("its state")),
            Err(other) => panic!("{other}"),
        }
        at += if whole_lane { 700 } else { 40_000 };
    }
    check_marks_part(store, pads, whole_lane).or_else(quarantined)
}

/// The same of the tag keys of marks, which stand behind the messages of either lane.
fn check_marks_part(store: &Store, pads: &Pads, whole_lane: bool) -> Option<String> {
    let lane = pads.down.len() as u64;
    assert_eq!(lane, pads.up.len() as u64);
    let places = || {
        let rounds = if whole_lane { usize::MAX } else { 3 };
        (keys_from(lane)..lane).step_by(TAG_KEY_BYTES).take(rounds)
    };
    let is_key = |pad: PadBytes, lane: &[u8], offset: u64| {
        let from = usize::try_from(offset).expect("small");
        let expected = TagKey::new(*lane[from..].first_chunk().expect("a place"));
        let (nothing, key) = pad.split().expect("a tag key");
        nothing.is_empty() && key.tag(b"", b"a mark") == expected.tag(b"", b"a mark")
    };
    let mut last = None;
    for offset in places() {
        match get(store.mint_sync(pads.table, offset)) {
            Ok(minted) => {
                let at = minted.range.offset;
                assert!(at >= offset && last < Some(at), "{at} was handed out before");
                assert!(is_key(minted.pad, &pads.up, at), "a wrong key at {at}");
                last = Some(at);
            }
            // Nothing is left behind it.
            Err(MintError::PlaceUsed) => break,
            Err(MintError::Store(error)) => return Some(error.to_string()),
            Err(MintError::NoTable { .. }) => return None,
            Err(other) => panic!("{other}"),
        }
    }
    for offset in places() {
        let range = PadRange { table: pads.table, lane: Lane::Down, offset, len: TAG_KEY_BYTES as u64 };
        match get(store.hold(vec![HoldWant { peer: HUB, range, for_sync: true }])).pop().expect("one") {
            Ok(pad) => {
                assert!(is_key(pad, &pads.down, offset), "a wrong key at {offset}");
                store.release(range, None);
            }
            Err(HoldRefusal::AlreadyUsed) => {}
            Err(HoldRefusal::Store(error)) => return Some(error.to_string()),
            Err(HoldRefusal::NotActive { .. }) => return None,
            Err(other) => panic!("{other}"),
        }
    }
    None
}

/// The text without what differs from one run to the next.
fn kind_of(text: &str) -> String {
    let words = text.split_whitespace().map(|word| if word.contains('/') { "PATH" } else { word });
    let text = words.collect::<Vec<_>>().join(" ");
    let text: String = text.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect();
    text.chars().take(90).collect()
}

fn damage_all(killed: bool) {
    let (seed, flips) = (setting("DSKE_SEED", 1), setting("DSKE_FLIPS", FLIPS));
    println!("seed {seed}, {flips} flips in each file");
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.location().is_some_and(|place| place.file().contains("storage/src")) {
            PANICS.fetch_add(1, Ordering::SeqCst);
        }
        if !info.location().is_some_and(|place| place.file().contains("/sled-")) {
            before(info);
        }
    }));
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = TempDir::new().expect("a directory");
    let original = original(dir.path(), killed, &mut rng);
    let scratch = dir.path().join("scratch");
    let mut outcomes: BTreeMap<(String, &str, Outcome), u64> = BTreeMap::new();
    for file in files(&original.dir) {
        let name = file.strip_prefix(&original.dir).expect("inside").to_owned();
        let good = std::fs::read(&file).expect("a file");
        let used = good.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let mut trials: Vec<(&str, u64, Vec<u8>)> = Vec::new();
        for cut in [0, 1, used / 3, used.saturating_sub(1), good.len().saturating_sub(1)] {
            trials.push(("cut", cut as u64, good[..cut.min(good.len())].to_vec()));
        }
        for _ in 0..flips {
            let mut bad = good.clone();
            let at = rng.random_range(0..used.max(1));
            if original.in_unfinished_erasure(&name, &good, at) {
                println!(
                    "{} at {at}: in a block that was being erased, of which nobody can tell",
                    name.display()
                );
                continue;
            }
            if let Some(byte) = bad.get_mut(at) {
                *byte ^= 1 << rng.random_range(0..8);
                trials.push(("flip", at as u64, bad));
            }
        }
        for (what, at, bad) in trials {
            if scratch.exists() {
                std::fs::remove_dir_all(&scratch).expect("removed");
            }
            copy(&original.dir, &scratch);
            std::fs::write(scratch.join(&name), bad).expect("written");
            let is_journal = name.ends_with("journal");
            let last = is_journal && original.last_record.is_some_and(|last| what == "cut" || at >= last);
            let lane = name.extension().is_some_and(|extension| extension == "lane");
            let trial = || exercise(&scratch, &original, last, lane);
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(trial))
                .unwrap_or_else(|_| panic!("seed {seed}: {what} of {} at {at}: see above", name.display()));
            assert_eq!(PANICS.load(Ordering::SeqCst), 0, "{what} of {} at {at} panicked", name.display());
            if lane && what == "flip" && at >= DATA_OFFSET as u64 {
                let lane_end = original.pads.up.len() + DATA_OFFSET;
                assert!(
                    outcome != Outcome::Harmless || original.is_dead(&name, at) || at >= lane_end as u64,
                    "a flipped pad byte of {} at {at} was not noticed",
                    name.display()
                );
            }
            let name = name.file_name().expect("a name").to_string_lossy();
            let name = if name.starts_with("snap.") { "snap".to_owned() } else { name.into_owned() };
            *outcomes.entry((name, what, outcome)).or_default() += 1;
        }
    }
    for ((name, what, outcome), count) in &outcomes {
        println!("{count:6} {what} {name}: {outcome:?}");
    }
    let total: u64 = outcomes.values().sum();
    println!("{total} damaged directories: nothing used again, nothing wrong used");
}

impl Original {
    /// Whether a byte lies in a block of a lane that was being erased when the store was killed. It has two checksums
    /// then, may be half erased, and what the disk does to it before it is erased again is not noticed (docs/SECURITY.md,
    /// section 7).
    fn in_unfinished_erasure(&self, name: &Path, good: &[u8], at: usize) -> bool {
        let Some(in_lane) = at.checked_sub(DATA_OFFSET).filter(|at| *at < self.pads.up.len()) else {
            return false;
        };
        let entry = DATA_OFFSET + self.pads.up.len() + in_lane / 4096 * 8;
        name.extension().is_some_and(|extension| extension == "lane")
            && good[entry..entry + 4] != good[entry + 4..entry + 8]
    }

    /// Whether a byte of a lane's file was used already: nobody reads it again, and it is erased again.
    fn is_dead(&self, name: &Path, at: u64) -> bool {
        let at = at - DATA_OFFSET as u64;
        let block = at / 4096 * 4096;
        if name.ends_with("up.lane") {
            // Reserved, or beside what was.
            return self.pads.minted.iter().any(|(start, end)| block < *end + CHUNK * 2 && *start <= at);
        }
        at < self.pads.next_down
    }
}

#[test]
fn whatever_is_damaged_in_a_closed_store_is_named_or_does_no_harm() {
    damage_all(false);
}

#[test]
fn whatever_is_damaged_in_a_killed_store_is_named_or_does_no_harm() {
    damage_all(true);
}
