//! A hub and a client with their stores in a temporary directory.

use std::path::{Path, PathBuf};

use dske_protocol::{
    ids::{BlockId, Lane, NodeId, PadRange, TableId},
    pad::PadBytes,
};
use dske_storage::{
    BlockRecord, BlockState, ClientRecord, HoldWant, Minted, NewBlock, Options, Reply, SecretBytes, Side,
    Store, StoreError, TableSide, TableStatus, Transaction, Use, Want,
    pskm::{self, HubContact, ImportOptions, Imported, MakeModule, ModuleKey, SystemEntropy},
    wait,
};
use tempfile::TempDir;

pub(crate) const HUB: NodeId = NodeId::new([1; 32]);
pub(crate) const CLIENT: NodeId = NodeId::new([2; 32]);
/// A lane of 256 KiB has chunks of 4 KiB.
pub(crate) const MODULE_BYTES: u64 = 512 << 10;
pub(crate) const CHUNK: u64 = 4096;

pub(crate) fn options() -> Options {
    Options { chunk_bytes_max: 65_536, erase_delay_ms: 5 }
}

pub(crate) fn open_at(dir: &Path) -> Store {
    let store = Store::open(dir, options()).expect("the store opens");
    open_tables(&store);
    store
}

/// As if the marks of all tables had been compared.
pub(crate) fn open_tables(store: &Store) {
    store.tables().iter().for_each(|table| store.open_table(&table.table));
}

/// A run that a message of `peer` names.
pub(crate) fn held(peer: NodeId, range: PadRange) -> HoldWant {
    HoldWant { peer, range, for_sync: false }
}

pub(crate) fn get<T>(reply: Reply<T>) -> T {
    wait(reply).expect("the store answers")
}

pub(crate) fn client_record() -> ClientRecord {
    ClientRecord {
        node: CLIENT,
        name: "alice".parse().expect("a name"),
        local_id: 7,
        signature: dske_protocol::enrolment::Signature::new([9; 64]),
        applications: vec!["vpn".to_owned()],
        enabled: true,
        enrolled_ms: 1,
    }
}

pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) hub: Store,
    pub(crate) client: Store,
    pub(crate) key: ModuleKey,
}

impl World {
    /// Two stores without a table.
    pub(crate) fn empty() -> Self {
        let dir = TempDir::new().expect("a directory");
        let open = |name: &str| {
            let path = dir.path().join(name);
            Store::create(&path).expect("a new store");
            open_at(&path)
        };
        let (hub, client) = (open("hub"), open("client"));
        let key = ModuleKey::generate_file(&dir.path().join("module.key")).expect("a key file");
        Self { dir, hub, client, key }
    }

    /// Two stores with one active table.
    pub(crate) fn paired() -> Self {
        let world = Self::empty();
        world.add_table(MODULE_BYTES);
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn make(&self, out: &str, bytes: u64) -> dske_storage::ModuleRecord {
        let client = client_record();
        let contact = HubContact {
            node: HUB,
            name: "p1".parse().expect("a name"),
            addresses: vec!["/ip4/192.0.2.1/tcp/4000".to_owned()],
        };
        let path = self.path(out);
        let request = MakeModule {
            client: &client,
            hub: contact,
            lane_bytes: [bytes / 2; 2],
            out: &path,
            key: &self.key,
            now_ms: 10,
        };
        pskm::make(&self.hub, &request, &mut SystemEntropy, &|_, _| {}).expect("a module")
    }

    pub(crate) fn import(&self, file: &str) -> Result<Imported, pskm::ModuleError> {
        let options = ImportOptions { me: CLIENT, wipe: false, now_ms: 20 };
        pskm::import(&self.client, &self.path(file), &self.key, options, &|_, _| {})
    }

    /// The hub's word that the receipt has come back reaches the client.
    pub(crate) fn hear_from_hub(&self, table: TableId) {
        let transaction = Transaction { activate: vec![table], ..Transaction::default() };
        assert_eq!(wait(self.client.commit(transaction)), Some(Ok(())));
        [&self.hub, &self.client].into_iter().for_each(open_tables);
    }

    pub(crate) fn add_table(&self, bytes: u64) -> TableId {
        let out = format!("{}.pskm", self.hub.modules().expect("modules").len());
        let module = self.make(&out, bytes);
        let imported = self.import(&out).expect("an import");
        pskm::acknowledge(&self.hub, &module.serial, imported.receipt.as_str(), 30).expect("a receipt");
        self.hear_from_hub(module.table);
        module.table
    }

    pub(crate) fn reopen(&mut self) {
        self.hub.close().expect("the hub closes");
        self.client.close().expect("the client closes");
        self.hub = open_at(&self.path("hub"));
        self.client = open_at(&self.path("client"));
    }

    /// The client mints from its up lane.
    pub(crate) fn mint_up(&self, bytes: u64) -> Minted {
        mint(&self.client, HUB, bytes)
    }

    /// The hub holds what the client minted.
    pub(crate) fn hold(&self, range: PadRange) -> Result<PadBytes, dske_storage::HoldRefusal> {
        get(self.hub.hold(vec![held(CLIENT, range)])).pop().expect("one answer")
    }

    pub(crate) fn claim(&self, range: PadRange) -> Result<(), StoreError> {
        get(self.hub.commit(Transaction { claims: vec![(range, Use::Key)], ..Transaction::default() }))
    }
}

/// Which end of a table with this peer a store of these tests is.
pub(crate) fn side_towards(peer: NodeId) -> TableSide {
    if peer == CLIENT { TableSide::Hub } else { TableSide::Client }
}

pub(crate) fn mint(store: &Store, peer: NodeId, bytes: u64) -> Minted {
    let want = Want { peer, side: side_towards(peer), bytes, usage: Use::Key };
    get(store.mint(vec![want])).expect("pads").pop().expect("one")
}

pub(crate) fn table(store: &Store) -> TableStatus {
    let status = store.tables().pop().expect("a table");
    check_sums(&status);
    status
}

/// The figures of a lane always add up.
pub(crate) fn check_sums(status: &TableStatus) {
    for lane in &status.lanes {
        let sum =
            lane.used_key + lane.used_identity + lane.used_sync + lane.skipped + lane.reserved + lane.left;
        assert_eq!(lane.bytes, sum, "{lane:?}");
    }
}

/// The bytes of a pad, as far as its types show them.
pub(crate) fn reveal(pad: PadBytes) -> Vec<u8> {
    let (share, _key) = pad.split().expect("longer than a tag key");
    share.into_bytes().to_vec()
}

pub(crate) fn lane_of(lane: Lane) -> usize {
    match lane {
        Lane::Up => 0,
        Lane::Down => 1,
    }
}

pub(crate) fn block(id: u8, keys: Option<&[u8]>, key_bytes: u32) -> NewBlock {
    let state = match keys {
        Some(_) => BlockState::Ready,
        None => BlockState::Aborted { reason: "two hubs missing".to_owned() },
    };
    NewBlock {
        record: BlockRecord {
            block: BlockId::new([id; 16]),
            side: Side::Sender,
            sender: CLIENT,
            receivers: vec![NodeId::new([3; 32])],
            purpose: "test".to_owned(),
            key_bytes,
            n: 3,
            k: 2,
            state,
            at_ms: u64::from(id),
            aged_ms: u64::from(id),
            round: false,
        },
        key: keys.map(|keys| SecretBytes::new(keys.to_vec())),
    }
}

/// All bytes below a directory.
pub(crate) fn all_bytes(dir: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            bytes.extend(all_bytes(&path));
        } else {
            bytes.extend(std::fs::read(&path).expect("a file"));
        }
    }
    bytes
}

pub(crate) fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
