//! The power goes, at any write, sync or change of a directory that the real store makes: while it works, while
//! it is opened, closed, made, and while a module comes in. Then it is opened on what is left.
//!
//! `DSKE_POWER_CUTS=1000 DSKE_SEED=7 cargo test --release -p dske-storage --test devices power -- --nocapture`
//! does as many as one likes. What a seed fixes is when the power goes and what is lost; the threads of the
//! store do the rest in the order that the system gives them.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{RecvTimeoutError, channel},
    },
    time::Duration,
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
    mounted::Device,
    namespace, setting,
    tree::{Ino, Loss},
};

/// As many as take CI some seconds.
const CUTS: usize = 240;
/// After so many the lanes are near their end, and a new store begins.
const CUTS_PER_STORE: usize = 30;
const LANES_BYTES: u64 = 4 << 20;
/// Cuts beside a store that works; and how long they may take before they count as hanging.
const NEIGHBOUR_CUTS: usize = 1000;
const NEIGHBOUR_PATIENCE: Duration = Duration::from_secs(300);

const LOSSES: [Loss; 4] = [Loss::All, Loss::Nothing, Loss::Late, Loss::Any];

/// A mounted device, and a hub beside it that makes modules.
struct Bench {
    device: Device,
    dir: TempDir,
    session: fuser::BackgroundSession,
    worlds: u64,
    rng: StdRng,
    panics: Arc<AtomicUsize>,
}

/// A world of the device: its number, its name, and the store in it.
#[derive(Clone)]
struct Place {
    ino: Ino,
    name: String,
    store: PathBuf,
}

impl Bench {
    /// Unmounts. A thread of sled may have a file open for a moment after its store has gone.
    fn unmount(self) {
        let mount = self.dir.path().join("mount");
        let open = || {
            let files = std::fs::read_dir("/proc/self/fd").expect("the open files").flatten();
            files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|path| path.starts_with(&mount))
        };
        for _ in 0..100 {
            if !open() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        self.session.umount_and_join().expect("unmounted");
    }

    fn new(seed: u64) -> Self {
        let dir = TempDir::new().expect("a directory");
        let mount = dir.path().join("mount");
        std::fs::create_dir(&mount).expect("a directory");
        let (device, session) = Device::mount(&mount)
            .unwrap_or_else(|error| namespace::cannot_mount("a FUSE file system", &error));
        let panics = Arc::new(AtomicUsize::new(0));
        let (counter, before) = (panics.clone(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |info| {
            // sled panics where its device fails; the store makes an error of that.
            if !info.location().is_some_and(|place| place.file().contains("/sled-")) {
                counter.fetch_add(1, Ordering::SeqCst);
                before(info);
            }
        }));
        Self { device, dir, session, worlds: 0, rng: StdRng::seed_from_u64(seed), panics }
    }

    fn place(&mut self, make: impl FnOnce(&mut Self, &str) -> Ino) -> Place {
        self.worlds += 1;
        let name = format!("w{}", self.worlds);
        let ino = make(self, &name);
        let store = self.dir.path().join("mount").join(&name).join("client");
        Place { ino, name, store }
    }

    fn empty_place(&mut self) -> Place {
        self.place(|bench, name| bench.device.tree().add_world(name))
    }

    /// What a power cut leaves of a place.
    fn survive(&mut self, place: &Place, loss: Loss) -> Place {
        self.place(|bench, name| {
            let Self { device, rng, .. } = bench;
            device.tree().survive(place.ino, name, loss, rng)
        })
    }

    /// What a power cut leaves; the place itself is gone.
    fn replace(&mut self, place: Place) -> Place {
        let loss = LOSSES[self.rng.random_range(0..LOSSES.len())];
        let left = self.survive(&place, loss);
        self.device.tree().drop_world(&place.name);
        left
    }

    fn cut_after(&self, place: &Place, steps: u64) {
        let mut tree = self.device.tree();
        let power = tree.power(place.ino);
        power.cut_at = Some(power.steps + steps);
    }

    /// Whether all works as it should.
    fn is_sound(&self, place: &Place) -> bool {
        let mut tree = self.device.tree();
        let power = tree.power(place.ino);
        !power.gone && power.read_only_at.is_none_or(|at| power.steps < at)
    }

    /// From so many steps on nothing can be changed any more; or it can again.
    fn read_only_after(&self, place: &Place, steps: Option<u64>) {
        let mut tree = self.device.tree();
        let power = tree.power(place.ino);
        power.read_only_at = steps.map(|steps| power.steps + steps);
    }

    fn steps(&self, place: &Place) -> u64 {
        self.device.tree().power(place.ino).steps
    }

    /// Only what lost its power or cannot be written may have failed, and nothing may have panicked.
    fn assert_explained<T>(&self, place: &Place, result: &Result<T, StoreError>) {
        if let Err(error) = result {
            assert!(!self.is_sound(place), "the device works, but: {error}");
        }
        assert_eq!(self.panics.load(Ordering::SeqCst), 0, "a thread panicked");
    }
}

/// Opens what a cut has left, which must always be possible.
fn reopen(place: &Place) -> Store {
    let store =
        Store::open(&place.store, options()).unwrap_or_else(|error| panic!("after a power cut: {error}"));
    open_tables(&store);
    store
}

/// One life of a store: several threads do all it can do, until they are through or the power goes.
fn live(bench: &mut Bench, place: &Place, store: &Store, model: (&mut Pads, &mut Keys, &mut Mail)) {
    let (pads, keys, mail) = model;
    let mut seed = || StdRng::seed_from_u64(bench.rng.random());
    let (mut mint_rng, mut key_rng, mut mail_rng) = (seed(), seed(), seed());
    let rounds = bench.rng.random_range(3..25);
    let go = |work: &mut dyn FnMut() -> Done| {
        for _ in 0..rounds {
            if work() == Done::Failed {
                assert!(!bench.is_sound(place), "the device works, but something failed");
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let rng = &mut mint_rng;
            go(&mut || if rng.random_bool(0.5) { pads.mint(store, rng) } else { pads.claim(store, rng) });
        });
        scope.spawn(|| {
            let rng = &mut key_rng;
            go(&mut || if rng.random_bool(0.6) { keys.store(store, rng) } else { keys.take(store, rng) });
        });
        scope.spawn(|| {
            let rng = &mut mail_rng;
            go(&mut || match rng.random_range(0..10) {
                0..5 => mail.post(store, rng),
                5..9 => mail.deliver(store),
                _ => mail.exclude(store, rng),
            });
        });
    });
}

/// Cuts the power of one store again and again; gives the number of cuts.
fn cut_one_store(bench: &mut Bench, cuts: usize) -> usize {
    let mut place = bench.empty_place();
    Store::create(&place.store).expect("a store");
    let world = pair_with(&place, bench.dir.path(), LANES_BYTES);
    let mut pads = Pads::new(&world.path("hub"), &table(&world.client));
    let (mut keys, mut mail) = (Keys::default(), Mail::default());
    world.client.close().expect("closed");
    let mut done = 0;
    while done < cuts {
        if bench.rng.random_bool(0.4) {
            // While it is being opened.
            let steps = bench.rng.random_range(1..30);
            bench.cut_after(&place, steps);
            let opened = Store::open(&place.store, options());
            bench.assert_explained(&place, &opened);
            if let Ok(store) = opened {
                drop(store.close());
            }
            place = bench.replace(place);
            done += 1;
        }
        let store = reopen(&place);
        pads.check(&store);
        keys.check(&store);
        mail.check(&store);
        let steps = bench.rng.random_range(1..250);
        bench.cut_after(&place, steps);
        live(bench, &place, &store, (&mut pads, &mut keys, &mut mail));
        let closed = store.close();
        bench.assert_explained(&place, &closed);
        drop(store);
        place = bench.replace(place);
        done += 1;
    }
    let store = reopen(&place);
    pads.check(&store);
    keys.check(&store);
    mail.check(&store);
    keys.take_all(&store);
    store.close().expect("closed");
    pads.check_erased(&place.store);
    bench.device.tree().drop_world(&place.name);
    assert!(pads.minted.len() + pads.claimed.len() > cuts, "little was done");
    done
}

/// A hub in a directory of its own whose client has its store in `place`.
fn pair_with(place: &Place, dir: &Path, bytes: u64) -> World {
    let dir = TempDir::new_in(dir).expect("a directory");
    Store::create(&dir.path().join("hub")).expect("a new store");
    let hub = open_at(&dir.path().join("hub"));
    let key = ModuleKey::generate_file(&dir.path().join("module.key")).expect("a key file");
    let world = World { dir, hub, client: reopen(place), key };
    if bytes > 0 {
        world.add_table(bytes);
    }
    world
}

#[test]
fn what_was_acknowledged_survives_every_power_cut() {
    let test = "power_cut::what_was_acknowledged_survives_every_power_cut";
    if !namespace::need_fuse(test) || !namespace::enter(test) {
        return;
    }
    let (seed, wanted) = (setting("DSKE_SEED", 1), setting("DSKE_POWER_CUTS", CUTS as u64));
    let wanted = usize::try_from(wanted).expect("a number of cuts");
    println!("seed {seed}, {wanted} cuts");
    let mut bench = Bench::new(seed);
    let mut done = 0;
    while done < wanted {
        done += cut_one_store(&mut bench, CUTS_PER_STORE.min(wanted - done));
    }
    println!("{done} power cuts of stores that work or open: nothing repeated, nothing lost");
    bench.unmount();
}

/// Of two stores in one process, one works while the power of the other goes again and again.
#[test]
fn a_device_that_fails_keeps_no_other_store_waiting() {
    let test = "power_cut::a_device_that_fails_keeps_no_other_store_waiting";
    if !namespace::need_fuse(test) || !namespace::enter(test) {
        return;
    }
    let seed = setting("DSKE_SEED", 1);
    let (over, ended) = channel();
    let through = Arc::new(AtomicBool::new(false));
    let neighbour = {
        let through = through.clone();
        std::thread::spawn(move || {
            let dir = TempDir::new().expect("a directory");
            let path = dir.path().join("neighbour");
            Store::create(&path).expect("a store");
            // Each start writes to the ledger, and waits until it is on the device.
            while !through.load(Ordering::SeqCst) {
                open_at(&path).close().expect("nothing is wrong with its device");
            }
        })
    };
    let failing = std::thread::spawn(move || {
        let mut bench = Bench::new(seed);
        let mut place = bench.empty_place();
        Store::create(&place.store).expect("a store");
        for _ in 0..NEIGHBOUR_CUTS {
            let steps = bench.rng.random_range(1..30);
            bench.cut_after(&place, steps);
            let opened = Store::open(&place.store, options());
            bench.assert_explained(&place, &opened);
            if let Ok(store) = opened {
                drop(store.close());
            }
            place = bench.replace(place);
        }
        bench.unmount();
        over.send(()).expect("awaited");
    });
    let waited = ended.recv_timeout(NEIGHBOUR_PATIENCE);
    assert_ne!(waited, Err(RecvTimeoutError::Timeout), "the two stores wait for each other for ever");
    through.store(true, Ordering::SeqCst);
    failing.join().expect("all cuts are explained");
    neighbour.join().expect("the neighbour works");
}

/// The power goes at each step of making a store.
#[test]
fn a_store_that_was_made_survives_a_power_cut() {
    let test = "power_cut::a_store_that_was_made_survives_a_power_cut";
    if !namespace::need_fuse(test) || !namespace::enter(test) {
        return;
    }
    let seed = setting("DSKE_SEED", 1);
    println!("seed {seed}");
    let mut bench = Bench::new(seed);
    let mut cuts = 0;
    for step in 1.. {
        let place = bench.empty_place();
        bench.cut_after(&place, step);
        let made = Store::create(&place.store);
        bench.assert_explained(&place, &made);
        for loss in LOSSES {
            let left = bench.survive(&place, loss);
            match Store::open(&left.store, options()) {
                Ok(store) => store.close().expect("closed"),
                Err(StoreError::Missing { .. }) if made.is_err() => {}
                Err(error) => panic!("step {step}, {loss:?}, made: {made:?}: {error}"),
            }
            bench.device.tree().drop_world(&left.name);
            cuts += 1;
        }
        bench.device.tree().drop_world(&place.name);
        if made.is_ok() {
            break;
        }
    }
    println!("{cuts} power cuts while a store was made");
    bench.unmount();
}

/// The power goes while a module comes in: then the table is there and whole, or the import goes on.
#[test]
fn a_module_comes_in_whole_or_again() {
    let test = "power_cut::a_module_comes_in_whole_or_again";
    if !namespace::need_fuse(test) || !namespace::enter(test) {
        return;
    }
    let seed = setting("DSKE_SEED", 1);
    let wanted = setting("DSKE_POWER_CUTS", CUTS as u64) / 4;
    println!("seed {seed}, {wanted} cuts");
    let mut bench = Bench::new(seed);
    let fresh = bench.empty_place();
    Store::create(&fresh.store).expect("a store");
    let dir = bench.dir.path().to_owned();
    let world = pair_with(&fresh, &dir, 0);
    world.client.close().expect("closed");
    let module = world.make("a.pskm", 64 << 10);
    let path = world.path("a.pskm");
    let import = |store: &Store| {
        let options = ImportOptions { me: CLIENT, wipe: false, now_ms: 1 };
        pskm::import(store, &path, &world.key, options, &|_, _| {}).map(|_| ())
    };
    let whole = bench.survive(&fresh, Loss::All);
    let store = reopen(&whole);
    let before = bench.steps(&whole);
    import(&store).expect("imported");
    let steps = bench.steps(&whole) - before;
    store.close().expect("closed");
    for cut in 0..wanted {
        let place = bench.survive(&fresh, Loss::All);
        let store = reopen(&place);
        bench.cut_after(&place, 1 + cut % (steps + 2));
        let imported = import(&store);
        assert!(imported.is_ok() || !bench.is_sound(&place), "{imported:?}");
        drop(store.close());
        drop(store);
        let place = bench.replace(place);
        let store = reopen(&place);
        let again = import(&store);
        match (&imported, &again) {
            (_, Err(ModuleError::AlreadyImported { .. })) | (Err(_), Ok(())) => {}
            _ => panic!("cut {cut}: {imported:?}, then {again:?}"),
        }
        assert_eq!(table(&store).state, TableState::Pending);
        let activate = Transaction { activate: vec![module.table], ..Transaction::default() };
        get(store.commit(activate)).expect("active");
        open_tables(&store);
        let mut pads = Pads::new(&world.path("hub"), &table(&store));
        for _ in 0..6 {
            pads.mint(&store, &mut bench.rng);
            pads.claim(&store, &mut bench.rng);
        }
        store.close().expect("closed");
        bench.device.tree().drop_world(&place.name);
    }
    println!("{wanted} power cuts while a module came in, at each of {steps} steps");
    bench.unmount();
}

/// The file system turns read-only in mid-run, as it does when it finds damage: the store stops and says so,
/// does not go on by itself, and is whole when it is opened on one that can be written.
#[test]
fn a_file_system_that_turns_read_only_stops_the_store_and_costs_nothing() {
    let test = "power_cut::a_file_system_that_turns_read_only_stops_the_store_and_costs_nothing";
    if !namespace::need_fuse(test) || !namespace::enter(test) {
        return;
    }
    let seed = setting("DSKE_SEED", 1);
    let rounds = setting("DSKE_POWER_CUTS", CUTS as u64) / 12;
    println!("seed {seed}, {rounds} rounds");
    let mut bench = Bench::new(seed);
    let place = bench.empty_place();
    Store::create(&place.store).expect("a store");
    let dir = bench.dir.path().to_owned();
    let world = pair_with(&place, &dir, LANES_BYTES);
    let mut pads = Pads::new(&world.path("hub"), &table(&world.client));
    let (mut keys, mut mail) = (Keys::default(), Mail::default());
    let mut store = world.client.clone();
    let mut stopped = 0;
    for _ in 0..rounds {
        let steps = bench.rng.random_range(1..80);
        bench.read_only_after(&place, Some(steps));
        live(&mut bench, &place, &store, (&mut pads, &mut keys, &mut mail));
        let said = store.poison_cause();
        bench.read_only_after(&place, None);
        if let Some(cause) = &said {
            stopped += 1;
            assert!(cause.contains("read-only") && cause.contains("restart the node"), "{cause}");
            // That it could write again now changes nothing: nobody knows what was written.
            let again = get(store.commit(Transaction::default()));
            assert!(matches!(again, Err(StoreError::Poisoned { .. })), "{again:?}");
        }
        assert_eq!(store.close().is_err(), said.is_some());
        store = reopen(&place);
        pads.check(&store);
        keys.check(&store);
        mail.check(&store);
    }
    keys.take_all(&store);
    store.close().expect("closed");
    assert_eq!(bench.panics.load(Ordering::SeqCst), 0, "a thread panicked");
    println!("{stopped} of {rounds} stores were stopped by it");
    assert!(stopped > 0);
    bench.unmount();
}
