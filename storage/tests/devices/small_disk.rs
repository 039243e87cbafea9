//! The space runs out, at a real file system of some MiB, in everything that a store does: nothing that was
//! acknowledged is lost, nothing is used again, the error says what to do, and with space it goes on.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use dske_storage::{
    Store, StoreError, TableState, Transaction,
    pskm::{self, ImportOptions, ModuleError, ModuleKey},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

use crate::{
    common::*,
    model::{Done, Keys, Mail, Pads},
    namespace, setting,
};

/// Two segments, the journal, the ledger and the lanes fit, with little to spare.
const DISK_MIB: u64 = 24;
/// How often a store meets the end of its disk; as many as CI has time for.
const ROUNDS: u64 = 12;

/// A file system of its own, mounted.
struct Disk {
    dir: TempDir,
}

impl Disk {
    fn new(mib: u64) -> Self {
        let dir = TempDir::new().expect("a directory");
        std::fs::create_dir(dir.path().join("disk")).expect("a directory");
        let disk = Self { dir };
        let options = format!("size={mib}m,mode=700");
        disk.mount(&["-t", "tmpfs", "-o", &options, "dske-small"]);
        disk
    }

    fn mount(&self, arguments: &[&str]) {
        let output = Command::new("mount").args(arguments).arg(self.path()).output().expect("`mount`");
        if !output.status.success() {
            namespace::cannot_mount("a tmpfs", &String::from_utf8_lossy(&output.stderr).trim());
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    fn store(&self) -> PathBuf {
        self.path().join("client")
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Leaves about so many bytes.
    fn fill(&self, leave: u64) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.filler()).expect("a file");
        while file.write_all(&[7; 4096]).is_ok() {}
        let len = file.metadata().expect("metadata").len();
        file.set_len(len.saturating_sub(leave)).expect("some space");
    }

    fn free(&self) {
        let _ = std::fs::remove_file(self.filler());
    }
}

/// What a full disk may be called: it names the place and says what to do.
fn assert_says_what_to_do(text: &str) {
    assert!(text.contains("no space left") && text.contains("free some"), "{text}");
    assert!(text.contains('/'), "it names no place: {text}");
}

fn pair_on(disk: &Disk) -> World {
    let dir = TempDir::new_in(disk.dir.path()).expect("a directory");
    Store::create(&dir.path().join("hub")).expect("a new store");
    Store::create(&disk.store()).expect("a new store");
    let (hub, client) = (open_at(&dir.path().join("hub")), open_at(&disk.store()));
    let key = ModuleKey::generate_file(&dir.path().join("module.key")).expect("a key file");
    let world = World { dir, hub, client, key };
    world.add_table(2 << 20);
    world
}

fn import(world: &World, store: &Store, file: &str) -> Result<(), ModuleError> {
    let options = ImportOptions { me: CLIENT, wipe: false, now_ms: 1 };
    pskm::import(store, &world.path(file), &world.key, options, &|_, _| {}).map(|_| ())
}

#[test]
fn a_full_disk_refuses_a_module_and_keeps_what_there_is() {
    if !namespace::enter("small_disk::a_full_disk_refuses_a_module_and_keeps_what_there_is") {
        return;
    }
    let disk = Disk::new(DISK_MIB);
    let world = pair_on(&disk);
    let mut pads = Pads::new(&world.path("hub"), &table(&world.client));
    let mut rng = StdRng::seed_from_u64(1);
    let module = world.make("big.pskm", 4 << 20);
    for leave in [0, 64 << 10, 1 << 20, 3 << 20] {
        disk.fill(leave);
        let refused = import(&world, &world.client, "big.pskm").expect_err("there is no space for it");
        assert_says_what_to_do(&refused.to_string());
        assert_eq!(world.client.tables().len(), 1, "a table that is not there");
        let left = std::fs::read_dir(disk.store().join("imports")).expect("a directory").count();
        assert_eq!(left, 0, "a part of a module that was refused");
        // What is there can be used.
        assert_eq!(pads.mint(&world.client, &mut rng), Done::Yes);
        assert_eq!(pads.claim(&world.client, &mut rng), Done::Yes);
        disk.free();
    }
    import(&world, &world.client, "big.pskm").expect("now there is space");
    assert_eq!(world.client.tables().len(), 2);
    let activate = Transaction { activate: vec![module.table], ..Transaction::default() };
    get(world.client.commit(activate)).expect("active");
    world.client.close().expect("closed");
    let store = open_at(&disk.store());
    assert!(store.tables().iter().all(|table| table.state == TableState::Active));
    pads.check(&store);
    store.close().expect("closed");
}

#[test]
fn a_hub_on_a_full_disk_makes_no_half_module() {
    if !namespace::enter("small_disk::a_hub_on_a_full_disk_makes_no_half_module") {
        return;
    }
    let disk = Disk::new(DISK_MIB);
    let world = World::empty();
    Store::create(&disk.store()).expect("a new store");
    let hub = open_at(&disk.store());
    let client = client_record();
    let make = |out: &Path| {
        let hub_contact =
            pskm::HubContact { node: HUB, name: "p1".parse().expect("a name"), addresses: vec![] };
        let request = pskm::MakeModule {
            client: &client,
            hub: hub_contact,
            lane_bytes: [2 << 20; 2],
            out,
            key: &world.key,
            now_ms: 10,
        };
        pskm::make(&hub, &request, &mut pskm::SystemEntropy, &|_, _| {}).map(|_| ())
    };
    for leave in [0, 1 << 20, 5 << 20] {
        disk.fill(leave);
        // The module on the same disk: there is space for one copy of the pads, or none.
        let refused = make(&disk.path().join("a.pskm")).expect_err("there is no space for it");
        assert_says_what_to_do(&refused.to_string());
        assert!(hub.tables().is_empty());
        let left =
            std::fs::read_dir(disk.path()).expect("a directory").flatten().map(|entry| entry.file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains("a.pskm")).collect();
        assert!(left.is_empty(), "{left:?}");
        for dir in ["imports", "lanes"] {
            assert_eq!(std::fs::read_dir(disk.store().join(dir)).expect("a directory").count(), 0, "{dir}");
        }
        disk.free();
    }
    make(&disk.path().join("a.pskm")).expect("now there is space");
    hub.close().expect("closed");
}

/// Reservation, claim, keys, messages, the journal's checkpoint, closing and opening, with less and less
/// space, until something fails.
#[test]
fn what_was_acknowledged_survives_a_full_disk() {
    if !namespace::enter("small_disk::what_was_acknowledged_survives_a_full_disk") {
        return;
    }
    let (seed, rounds) = (setting("DSKE_SEED", 1), setting("DSKE_FULL_ROUNDS", ROUNDS));
    println!("seed {seed}, {rounds} rounds");
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut stopped, mut refused, mut unopened) = (0, 0, 0);
    for _ in 0..rounds.div_ceil(4) {
        let disk = Disk::new(DISK_MIB);
        let world = pair_on(&disk);
        let mut pads = Pads::new(&world.path("hub"), &table(&world.client));
        let (mut keys, mut mail) = (Keys::default(), Mail::default());
        let mut store = world.client.clone();
        for _ in 0..4 {
            let leave = [0, 0, 4096, 100_000, 600_000][rng.random_range(0..5)];
            disk.fill(leave);
            for _ in 0..600 {
                let done = match rng.random_range(0..8) {
                    0..2 => pads.mint(&store, &mut rng),
                    2..4 => pads.claim(&store, &mut rng),
                    4 => keys.store(&store, &mut rng),
                    5 => keys.take(&store, &mut rng),
                    6 => mail.post(&store, &mut rng),
                    _ => mail.deliver(&store),
                };
                match (done, store.poison_cause()) {
                    (Done::Failed, Some(cause)) => {
                        assert_says_what_to_do(&cause);
                        stopped += 1;
                        break;
                    }
                    // A new segment had no space, and nothing else was hurt.
                    (Done::Failed, None) => refused += 1,
                    _ => {}
                }
            }
            let said = get(store.commit(Transaction::default())).err();
            assert_eq!(said.is_some(), store.poison_cause().is_some(), "{said:?}");
            if let Err(error) = store.close() {
                assert_says_what_to_do(&error.to_string());
            }
            // Started again while the disk is still full, it opens or says why not.
            match Store::open(&disk.store(), options()) {
                Ok(again) => drop(again.close()),
                Err(error) => {
                    unopened += 1;
                    assert_says_what_to_do(&error.to_string());
                }
            }
            disk.free();
            store = open_at(&disk.store());
            pads.check(&store);
            keys.check(&store);
            mail.check(&store);
            // It goes on.
            assert_ne!(pads.mint(&store, &mut rng), Done::Failed);
            assert_eq!(keys.store(&store, &mut rng), Done::Yes);
            assert_eq!(mail.post(&store, &mut rng), Done::Yes);
        }
        keys.take_all(&store);
        store.close().expect("closed");
        pads.check_erased(&disk.store());
    }
    println!(
        "{refused} requests refused for want of space, {stopped} stores stopped by it, {unopened} not opened"
    );
    assert!(refused > 0 && stopped + unopened > 0, "the disk was never full enough");
}

/// A file system that is mounted read-only is refused, and one that can be written again is as before.
#[test]
fn a_read_only_directory_is_refused_by_name() {
    if !namespace::enter("small_disk::a_read_only_directory_is_refused_by_name") {
        return;
    }
    let disk = Disk::new(DISK_MIB);
    let world = pair_on(&disk);
    let mut pads = Pads::new(&world.path("hub"), &table(&world.client));
    let mut rng = StdRng::seed_from_u64(1);
    for _ in 0..5 {
        assert_eq!(pads.mint(&world.client, &mut rng), Done::Yes);
        assert_eq!(pads.claim(&world.client, &mut rng), Done::Yes);
    }
    world.client.close().expect("closed");
    disk.mount(&["-o", "remount,ro"]);
    let said = |result: Result<(), StoreError>| {
        let text = result.expect_err("it cannot be written").to_string();
        assert!(text.contains("read-only") && text.contains(&*disk.path().to_string_lossy()), "{text}");
        assert!(text.contains("restart") || text.contains("mount it"), "{text}");
    };
    said(Store::open(&disk.store(), options()).map(|_| ()));
    said(Store::create(&disk.path().join("other")));
    disk.mount(&["-o", "remount,rw"]);
    let store = open_at(&disk.store());
    pads.check(&store);
    assert_eq!(pads.mint(&store, &mut rng), Done::Yes);
    store.close().expect("closed");
    drop(File::open(disk.path()).expect("still there"));
}
