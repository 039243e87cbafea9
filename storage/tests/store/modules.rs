//! Modules: sealed, whole, for one client, imported once, acknowledged by phrase.

use std::{cell::Cell, os::unix::fs::PermissionsExt, panic::AssertUnwindSafe};

use dske_protocol::ids::NodeId;
use dske_storage::{
    ModuleState, Store, TableState,
    pskm::{
        self, DeviceEntropy, EntropyError, EntropySource, HubContact, ImportOptions, MakeModule, ModuleError,
        ModuleKey, SystemEntropy,
    },
};
use zeroize::Zeroizing;

use crate::common::*;

fn request<'a>(
    client: &'a dske_storage::ClientRecord,
    out: &'a std::path::Path,
    key: &'a ModuleKey,
) -> MakeModule<'a> {
    let hub = HubContact { node: HUB, name: "p1".parse().expect("a name"), addresses: vec![] };
    MakeModule { client, hub, lane_bytes: [MODULE_BYTES / 2; 2], out, key, now_ms: 10 }
}

#[test]
fn made_imported_and_acknowledged() {
    let mut world = World::empty();
    let module = world.make("a.pskm", MODULE_BYTES);
    assert_eq!(
        (module.serial.as_str(), module.state, module.bytes),
        ("p1-0001", ModuleState::Made, MODULE_BYTES)
    );
    assert_eq!(table(&world.hub).state, TableState::Pending);
    let imported = world.import("a.pskm").expect("imported");
    assert_eq!(imported.module.state, ModuleState::Imported);
    assert_eq!(table(&world.client).state, TableState::Pending);
    world.reopen();
    assert_eq!(table(&world.hub).state, TableState::Pending);
    assert!(matches!(
        pskm::acknowledge(&world.hub, "p1-0001", "acorn actor 1234", 5),
        Err(ModuleError::WrongReceipt { left: 4, .. })
    ));
    let said = imported.receipt.as_str().to_uppercase().replace(' ', "-");
    let done = pskm::acknowledge(&world.hub, "p1-0001", &said, 40).expect("acknowledged");
    assert_eq!((done.state, done.changed_ms), (ModuleState::Acknowledged, 40));
    world.reopen();
    assert_eq!(table(&world.hub).state, TableState::Active);
    assert!(matches!(
        pskm::acknowledge(&world.hub, "p1-0001", &said, 41),
        Err(ModuleError::NotWaiting { .. })
    ));
    assert_eq!(world.make("b.pskm", MODULE_BYTES).serial, "p1-0002");
}

/// A module of another hub for the client, made in a store of its own.
fn module_of(world: &World, place: &str, hub: HubContact) -> std::path::PathBuf {
    let (dir, out) = (world.path(place), world.path(&format!("{place}.pskm")));
    if !dir.exists() {
        Store::create(&dir).expect("a new store");
    }
    let store = open_at(&dir);
    let client = client_record();
    pskm::make(
        &store,
        &MakeModule { hub, ..request(&client, &out, &world.key) },
        &mut SystemEntropy,
        &|_, _| {},
    )
    .expect("a module");
    store.close().expect("closed");
    out
}

fn import_file(world: &World, path: &std::path::Path, now_ms: u64) -> pskm::Imported {
    let options = ImportOptions { me: CLIENT, wipe: true, now_ms };
    pskm::import(&world.client, path, &world.key, options, &|_, _| {}).expect("imported")
}

fn contact(id: u8, name: &str) -> HubContact {
    HubContact { node: NodeId::new([id; 32]), name: name.parse().expect("a name"), addresses: vec![] }
}

#[test]
fn a_hub_keeps_the_name_under_which_it_came_first() {
    let world = World::empty();
    import_file(&world, &module_of(&world, "a", contact(8, "p9")), 50);
    // The clock was put back since: who came later is later all the same.
    import_file(&world, &module_of(&world, "b", contact(9, "p1")), 20);
    let renamed = import_file(&world, &module_of(&world, "a", contact(8, "p1")), 60);
    assert_eq!(renamed.module.hub_name.as_str(), "p9");
    let hubs = world.client.hubs().expect("read");
    let told: Vec<_> = hubs.iter().map(|hub| (hub.name.as_str(), hub.since_ms)).collect();
    assert_eq!(told, [("p9", 50), ("p1", 51)]);
    assert!(
        world
            .client
            .tables()
            .iter()
            .filter(|table| table.peer == NodeId::new([8; 32]))
            .all(|table| table.peer_name.as_str() == "p9")
    );
}

#[test]
fn two_hubs_of_one_name_keep_their_modules_apart() {
    let world = World::empty();
    for (place, hub) in [("a", 8), ("b", 9)] {
        import_file(&world, &module_of(&world, place, contact(hub, "p1")), 20);
    }
    let modules = world.client.modules().expect("read");
    let told: Vec<_> = modules.iter().map(|module| (module.serial.as_str(), module.hub)).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|(serial, _)| *serial == "p1-0001") && told[0].1 != told[1].1);
    // The hubs too are told apart, wherever they are shown: the second by its id.
    let hubs = world.client.hubs().expect("read");
    let names: Vec<_> = hubs.iter().map(|hub| hub.name.as_str()).collect();
    assert_eq!(names, ["p1", "p1.09090909"]);
    assert_eq!(modules.iter().filter(|module| module.hub_name.as_str() == "p1.09090909").count(), 1);

    // And a hub that is a client too: what it made is not what it imported from another p1.
    let made = world.make("c.pskm", MODULE_BYTES);
    assert_eq!(made.serial, "p1-0001");
    let receipt = world.import("c.pskm").expect("imported").receipt;
    let path = module_of(&world, "d", contact(9, "p1"));
    let options = ImportOptions { me: CLIENT, wipe: true, now_ms: 20 };
    pskm::import(&world.hub, &path, &world.key, options, &|_, _| {}).expect("imported");
    let acknowledged = pskm::acknowledge(&world.hub, "p1-0001", receipt.as_str(), 30).expect("its own");
    assert_eq!(acknowledged.table, made.table);
}

#[test]
fn lanes_may_differ_in_length() {
    let world = World::empty();
    let (client, out) = (client_record(), world.path("a.pskm"));
    let (up, down) = (3 << 20, 5000);
    let wanted = MakeModule { lane_bytes: [up, down], ..request(&client, &out, &world.key) };
    let module = pskm::make(&world.hub, &wanted, &mut SystemEntropy, &|_, _| {}).expect("a module");
    assert_eq!(module.bytes, up + down);
    assert_eq!(Store::count_tables(&world.path("client")), 0);
    world.import("a.pskm").expect("imported");
    for store in [&world.hub, &world.client] {
        let lanes = table(store).lanes;
        assert_eq!(lanes.each_ref().map(|lane| lane.bytes), [up, down]);
    }
    assert_eq!(Store::count_tables(&world.path("client")), 1);
}

/// Somebody who may write the directory has prepared every name that can be known beforehand.
#[test]
fn a_module_is_never_written_into_something_that_was_planted() {
    use std::os::unix::fs::{MetadataExt, symlink};
    let world = World::empty();
    let victim = world.path("victim");
    std::fs::write(&victim, b"theirs").expect("written");
    symlink(&victim, world.path("a.pskm.partial")).expect("planted");
    std::fs::hard_link(&victim, world.path("b.pskm.partial")).expect("planted");
    let opened = std::fs::File::open(&victim).expect("opened");
    for name in ["a.pskm", "b.pskm"] {
        world.make(name, MODULE_BYTES);
        let about = std::fs::symlink_metadata(world.path(name)).expect("made");
        assert!(about.is_file() && about.mode() & 0o777 == 0o600 && about.nlink() == 1, "{name}");
    }
    symlink(world.path("nowhere"), world.path("c.pskm")).expect("planted");
    symlink(&victim, world.path("d.pskm")).expect("planted");
    let modules = world.hub.modules().expect("modules").len();
    let client = client_record();
    for name in ["c.pskm", "d.pskm", "victim"] {
        let out = world.path(name);
        let made =
            pskm::make(&world.hub, &request(&client, &out, &world.key), &mut SystemEntropy, &|_, _| {});
        assert!(matches!(made, Err(ModuleError::OutExists(_))), "{name}");
    }
    assert_eq!(world.hub.modules().expect("modules").len(), modules);
    assert!(!world.path("nowhere").exists());
    assert_eq!(std::fs::read(&victim).expect("read"), b"theirs");
    drop(opened);
}

/// A header is not sealed: whoever altered it could ask for minutes of work before that is noticed.
#[test]
fn a_header_that_asks_for_other_work_is_refused_before_any_is_done() {
    let world = World::empty();
    let passphrase = || ModuleKey::from_passphrase(Zeroizing::new("a phrase".to_owned())).expect("a key");
    let (client, out) = (client_record(), world.path("a.pskm"));
    let key = passphrase();
    pskm::make(&world.hub, &request(&client, &out, &key), &mut SystemEntropy, &|_, _| {}).expect("made");
    let good = std::fs::read(&out).expect("a module");
    // Where 64 MiB, 3 passes and 4 lanes stand.
    let words = [65_536_u32, 3, 4].map(u32::to_le_bytes).concat();
    let at = good.windows(words.len()).position(|window| window == words).expect("it is in the header");
    for other in [[1 << 20, 3, 4], [65_536, 16, 4], [65_537, 3, 4], [u32::MAX; 3], [8, 1, 1]] {
        let mut bad = good.clone();
        bad[at..at + words.len()].copy_from_slice(&other.map(u32::to_le_bytes).concat());
        std::fs::write(&out, &bad).expect("written");
        let options = ImportOptions { me: CLIENT, wipe: false, now_ms: 20 };
        let refused = pskm::import(&world.client, &out, &passphrase(), options, &|_, _| {});
        assert!(matches!(refused, Err(ModuleError::BadKey(_))), "{other:?}: {refused:?}");
    }
}

/// What a link leads to is not overwritten: it may be anything.
#[test]
fn a_link_to_a_module_is_imported_and_not_wiped() {
    let world = World::empty();
    world.make("a.pskm", MODULE_BYTES);
    std::os::unix::fs::symlink(world.path("a.pskm"), world.path("link.pskm")).expect("a link");
    let before = std::fs::read(world.path("a.pskm")).expect("a module");
    let options = ImportOptions { me: CLIENT, wipe: true, now_ms: 20 };
    let imported = pskm::import(&world.client, &world.path("link.pskm"), &world.key, options, &|_, _| {});
    assert!(imported.expect("imported").wipe_problem.is_some_and(|problem| problem.contains("link")));
    assert_eq!(std::fs::read(world.path("a.pskm")).expect("still there"), before);
}

#[test]
fn what_has_not_the_form_of_a_receipt_is_not_counted() {
    let world = World::empty();
    world.make("a.pskm", MODULE_BYTES);
    let receipt = world.import("a.pskm").expect("imported").receipt;
    let long = "acorn ".repeat(40);
    let typed = ["", "no", "acorn actor", "acorn actor 123", "acorn actor 12345", "acorn 1234", "1234"];
    for said in
        typed.into_iter().chain(["acron actor 1234", "acorn actor actor 1234", "acorn áctor 1234", &long])
    {
        let told = pskm::acknowledge(&world.hub, "p1-0001", said, 1).expect_err("no receipt");
        assert!(matches!(told, ModuleError::NotAReceipt { left: 5, .. }), "{said}: {told:?}");
        assert!(told.to_string().contains("not counted"), "{told}");
    }
    let wrong =
        pskm::acknowledge(&world.hub, "p1-0001", "ACORN-actor 1234", 1).expect_err("another's receipt");
    assert!(matches!(wrong, ModuleError::WrongReceipt { left: 4, .. }), "{wrong:?}");
    assert!(matches!(
        pskm::acknowledge(&world.hub, "p1-0001", "acorn 1", 1),
        Err(ModuleError::NotAReceipt { left: 4, .. })
    ));
    pskm::acknowledge(&world.hub, "p1-0001", receipt.as_str(), 2).expect("acknowledged");
}

#[test]
fn five_wrong_receipts_lock_a_module() {
    let mut world = World::empty();
    world.make("a.pskm", MODULE_BYTES);
    let receipt = world.import("a.pskm").expect("imported").receipt;
    for left in (0..5).rev() {
        let wrong = pskm::acknowledge(&world.hub, "p1-0001", "acorn actor 1234", 1);
        assert_eq!(wrong, Err(ModuleError::WrongReceipt { serial: "p1-0001".to_owned(), left }));
    }
    let module = || world.hub.modules().expect("listed").pop().expect("a module");
    assert_eq!(module().state, ModuleState::Locked);
    world.reopen();
    let late = pskm::acknowledge(&world.hub, "p1-0001", receipt.as_str(), 1);
    assert!(matches!(late, Err(ModuleError::ReceiptLocked { .. })));
    assert!(matches!(
        pskm::acknowledge(&world.hub, "p9-0001", "no", 1),
        Err(ModuleError::UnknownSerial { .. })
    ));
}

#[test]
fn a_module_is_imported_once_for_ever() {
    let mut world = World::empty();
    world.make("a.pskm", MODULE_BYTES);
    world.import("a.pskm").expect("imported");
    assert!(matches!(world.import("a.pskm"), Err(ModuleError::AlreadyImported { .. })));
    world.reopen();
    assert!(matches!(world.import("a.pskm"), Err(ModuleError::AlreadyImported { .. })));
    assert_eq!(world.client.tables().len(), 1);
}

#[test]
fn any_change_of_the_file_is_noticed() {
    let world = World::empty();
    let bytes = 2 << 20;
    world.make("a.pskm", bytes);
    let good = std::fs::read(world.path("a.pskm")).expect("a module");
    let len = good.len();
    let frame = 4 + (1 << 20) + 16;
    let first_pads = len - 52 - 2 * frame;
    let mut broken: Vec<(String, Vec<u8>)> = Vec::new();
    for at in
        (0..first_pads).step_by(13).chain([first_pads, first_pads + 5, len / 2, len - 60, len - 51, len - 1])
    {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        broken.push((format!("bit at {at}"), bad));
    }
    for cut in [1, 20, 52, 53, len / 2, len - first_pads, len - 30] {
        broken.push((format!("cut by {cut}"), good[..len - cut].to_vec()));
    }
    let mut swapped = good.clone();
    swapped[first_pads..first_pads + 2 * frame].rotate_left(frame);
    broken.push(("frames exchanged".to_owned(), swapped));
    let mut dropped = good.clone();
    dropped.drain(first_pads..first_pads + frame);
    broken.push(("frame dropped".to_owned(), dropped));
    let mut longer = good.clone();
    longer.push(0);
    broken.push(("tail".to_owned(), longer));
    for (what, bad) in broken {
        std::fs::write(world.path("bad.pskm"), bad).expect("written");
        assert!(world.import("bad.pskm").is_err(), "{what}");
        assert!(world.client.tables().is_empty(), "{what}");
    }
    world.import("a.pskm").expect("the good one is still good");
}

#[test]
fn the_wrong_key_and_the_wrong_client_are_told() {
    let world = World::empty();
    world.make("a.pskm", MODULE_BYTES);
    let other = ModuleKey::generate_file(&world.path("other.key")).expect("a key");
    let options = ImportOptions { me: CLIENT, wipe: false, now_ms: 1 };
    let path = world.path("a.pskm");
    let import = |key, options| pskm::import(&world.client, &path, key, options, &|_, _| {});
    assert_eq!(import(&other, options).err(), Some(ModuleError::WrongKey));
    let phrase = ModuleKey::from_passphrase(Zeroizing::new("a phrase".to_owned())).expect("a phrase");
    assert_eq!(import(&phrase, options).err(), Some(ModuleError::WrongKey));
    let me = NodeId::new([8; 32]);
    assert!(matches!(import(&world.key, ImportOptions { me, ..options }), Err(ModuleError::NotForUs { .. })));
    std::fs::write(world.path("not.pskm"), b"something else").expect("written");
    assert!(matches!(world.import("not.pskm"), Err(ModuleError::NotAModule(_))));
    assert!(ModuleKey::from_passphrase(Zeroizing::new("  ".to_owned())).is_err());
    assert!(ModuleKey::from_key_file(&path).is_err());
    assert!(ModuleKey::from_key_file(&world.path("module.key")).is_ok());
}

#[test]
fn a_key_file_that_others_can_get_at_opens_nothing() {
    let world = World::empty();
    let path = world.path("other.key");
    drop(ModuleKey::generate_file(&path).expect("a key"));
    for mode in [0o640, 0o604, 0o620, 0o602, 0o644, 0o666] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
        let told = ModuleKey::from_key_file(&path).expect_err("others can get at it").to_string();
        assert!(told.contains(&format!("mode {mode:04o}")) && told.contains("chmod"), "{told}");
    }
    for mode in [0o600, 0o400] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
        assert!(ModuleKey::from_key_file(&path).is_ok(), "{mode:o}");
    }
    // What a link leads to counts, not the link.
    let link = world.path("link.key");
    std::os::unix::fs::symlink(&path, &link).expect("a link");
    assert!(ModuleKey::from_key_file(&link).is_ok());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("set");
    assert!(ModuleKey::from_key_file(&link).is_err());
}

#[test]
fn a_passphrase_opens_what_it_sealed() {
    let world = World::empty();
    let key = |text: &str| ModuleKey::from_passphrase(Zeroizing::new(text.to_owned())).expect("a phrase");
    let (client, out, right) = (client_record(), world.path("a.pskm"), key("five plain words in a row"));
    pskm::make(&world.hub, &request(&client, &out, &right), &mut SystemEntropy, &|_, _| {}).expect("made");
    let looked = pskm::inspect(&out, None).expect("public");
    assert_eq!(
        (looked.version, looked.bytes, looked.passphrase, looked.contents),
        (1, MODULE_BYTES, true, None)
    );
    assert_eq!(pskm::inspect(&out, Some(&key("five plain words"))).err(), Some(ModuleError::WrongKey));
    let looked = pskm::inspect(&out, Some(&right)).expect("sealed").contents.expect("opened");
    assert_eq!((looked.serial.as_str(), looked.hub, looked.client), ("p1-0001", HUB, CLIENT));
    let public = std::fs::read(&out).expect("a module");
    assert!(!contains(&public, b"alice") && !contains(&public, &CLIENT.as_bytes()[..]));
}

#[test]
fn an_import_goes_on_after_a_crash() {
    let world = World::empty();
    let bytes = 20 << 20;
    world.make("a.pskm", bytes);
    let path = world.path("a.pskm");
    let options = ImportOptions { me: CLIENT, wipe: true, now_ms: 1 };
    let stop = |at: u64, _| assert!(at < 18 << 20, "stopped by the test");
    let crashed = std::panic::catch_unwind(AssertUnwindSafe(|| {
        pskm::import(&world.client, &path, &world.key, options, &stop).map(|_| ())
    }));
    assert!(crashed.is_err() && world.client.tables().is_empty());
    // The part of the file that was verified and synced is not read again.
    let mut file = std::fs::read(&path).expect("a module");
    file[10 << 20] ^= 1;
    std::fs::write(&path, file).expect("written");
    let last = Cell::new(0);
    let watch = |at: u64, total: u64| {
        assert!(at > last.get() && at <= total);
        last.set(at);
    };
    let imported = pskm::import(&world.client, &path, &world.key, options, &watch).expect("imported");
    assert_eq!((last.get(), imported.wipe_problem), (bytes, None));
    assert!(!path.exists(), "wiped");
    pskm::acknowledge(&world.hub, &imported.module.serial, imported.receipt.as_str(), 2)
        .expect("acknowledged");
    world.hear_from_hub(imported.module.table);
    let minted = world.mint_up(5000);
    assert_eq!(reveal(world.hold(minted.range).expect("held")), reveal(minted.pad));
    assert_eq!(std::fs::read_dir(world.path("client/imports")).expect("a directory").count(), 0);
}

struct Failing(u32);

impl EntropySource for Failing {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError> {
        if self.0 == 0 {
            return Err(EntropyError::Failed { name: "test".to_owned(), cause: "unplugged".to_owned() });
        }
        self.0 -= 1;
        SystemEntropy.fill(out)
    }
}

#[test]
fn a_making_that_stops_leaves_nothing() {
    let world = World::empty();
    let (client, out) = (client_record(), world.path("a.pskm"));
    let request = request(&client, &out, &world.key);
    let made = |source: &mut dyn EntropySource| pskm::make(&world.hub, &request, source, &|_, _| {});
    assert!(matches!(made(&mut Failing(1)), Err(ModuleError::Entropy(_))));
    std::fs::write(world.path("stuck"), vec![0x11; 1 << 20]).expect("written");
    let mut stuck = DeviceEntropy::open(&world.path("stuck")).expect("opened");
    assert!(matches!(made(&mut stuck), Err(ModuleError::Entropy(EntropyError::Unhealthy { .. }))));
    let mut short = DeviceEntropy::open(&world.path("module.key")).expect("opened");
    assert!(matches!(made(&mut short), Err(ModuleError::Entropy(EntropyError::Failed { .. }))));
    assert!(world.hub.tables().is_empty() && world.hub.modules().expect("modules").is_empty());
    for dir in ["hub/imports", "hub/lanes"] {
        assert_eq!(std::fs::read_dir(world.path(dir)).expect("a directory").count(), 0, "{dir}");
    }
    assert!(!out.exists());
    let names =
        std::fs::read_dir(world.path(".")).expect("a directory").flatten().map(|entry| entry.file_name());
    assert_eq!(names.filter(|name| name.to_string_lossy().ends_with(".new")).count(), 0, "no draft is left");
    assert!(matches!(
        pskm::make(
            &world.hub,
            &MakeModule { lane_bytes: [MODULE_BYTES, 10], ..request },
            &mut SystemEntropy,
            &|_, _| {}
        ),
        Err(ModuleError::Size { .. })
    ));
}
