//! Hubs say that a directory was put back: which waiting keys that makes void, across restarts and restores.

use std::path::Path;

use dske_protocol::{
    effect::SyncRecord,
    ids::{BlockId, KeyId, NodeId, TableId},
};
use dske_storage::{
    MintError, Store, TableSide, TakeError, Transaction,
    pskm::{self, HubContact, MakeModule, SystemEntropy},
};

use crate::common::*;

/// So many hubs must say so.
const K_MIN: u8 = 2;

/// A client with a table from each of several hubs.
struct Net {
    world: World,
    tables: Vec<TableId>,
    next_block: u8,
}

fn hub(at: u8) -> NodeId {
    NodeId::new([100 + at; 32])
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("listed") {
        let entry = entry.expect("listed");
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().expect("a kind").is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("copied");
        }
    }
}

impl Net {
    fn new(hubs: u8) -> Self {
        let mut net = Self { world: World::empty(), tables: Vec::new(), next_block: 0 };
        for at in 0..hubs {
            let table = net.add_table(at);
            net.compare(table);
        }
        net
    }

    /// One more table from a hub.
    fn add_table(&mut self, at: u8) -> TableId {
        let out = format!("{}.pskm", self.tables.len());
        let path = self.world.path(&out);
        let client = client_record();
        let request = MakeModule {
            client: &client,
            hub: HubContact {
                node: hub(at),
                name: format!("p{at}").parse().expect("a name"),
                addresses: vec![],
            },
            lane_bytes: [32 << 10; 2],
            out: &path,
            key: &self.world.key,
            now_ms: 10,
        };
        let module = pskm::make(&self.world.hub, &request, &mut SystemEntropy, &|_, _| {}).expect("a module");
        self.world.import(&out).expect("an import");
        self.world.hear_from_hub(module.table);
        self.tables.push(module.table);
        module.table
    }

    fn record(&self, sync: SyncRecord) {
        let transaction = Transaction { sync: Some(sync), ..Transaction::default() };
        get(self.world.client.commit(transaction)).expect("recorded");
    }

    /// A comparison at a table that brings nothing to light.
    fn compare(&self, table: TableId) {
        self.record(SyncRecord { compared: true, ..SyncRecord::of(table) });
    }

    /// A comparison in which the hub says that this directory was put back.
    fn says_put_back(&self, table: TableId) {
        self.record(SyncRecord { put_back: Some(K_MIN), compared: true, ..SyncRecord::of(table) });
    }

    /// Agrees a block with one key.
    fn agree(&mut self) -> BlockId {
        self.next_block += 1;
        let new = block(self.next_block, Some(&[self.next_block; 32]), 32);
        let id = new.record.block;
        get(self.world.client.commit(Transaction { block: vec![new], ..Transaction::default() }))
            .expect("stored");
        id
    }

    fn waits(&self, block: BlockId) -> bool {
        let waiting = self.world.client.waiting_blocks().expect("listed");
        waiting.iter().any(|waiting| waiting.record.block == block)
    }

    fn restart(&mut self) {
        self.world.reopen();
    }

    /// Copies the client's directory.
    fn copy(&mut self, name: &str) {
        self.world.client.close().expect("closed");
        copy(&self.world.path("client"), &self.world.path(name));
        self.world.client = open_at(&self.world.path("client"));
    }

    fn put_back(&mut self, name: &str) {
        self.world.client.close().expect("closed");
        let dir = self.world.path("client");
        std::fs::remove_dir_all(&dir).expect("removed");
        copy(&self.world.path(name), &dir);
        self.world.client = open_at(&dir);
    }
}

fn take(store: &Store, block: BlockId) -> Result<(), TakeError> {
    get(store.take_key(KeyId { block, index: 0 })).map(|_| ())
}

#[test]
fn one_hub_voids_no_key_however_often_and_at_however_many_tables_it_says_so() {
    let mut net = Net::new(3);
    let second = net.add_table(0);
    net.compare(second);
    let block = net.agree();
    for reconnect in 0..20 {
        net.says_put_back(if reconnect % 2 == 0 { net.tables[0] } else { second });
        if reconnect % 5 == 0 {
            net.restart();
        }
    }
    assert!(net.waits(block));
    let said = net.world.client.said_put_back();
    assert_eq!(said.len(), 1);
    assert_eq!(said[&hub(0)].times, 20, "it is known, and counted");
    assert_eq!(take(&net.world.client, block), Ok(()));
}

#[test]
fn what_waited_in_the_copy_is_void_and_what_was_agreed_after_stays() {
    let mut net = Net::new(4);
    let old = net.agree();
    net.copy("copy");
    assert_eq!(take(&net.world.client, old), Ok(()), "handed out after the copy was taken");
    net.put_back("copy");
    net.says_put_back(net.tables[0]);
    assert!(net.waits(old), "one of two");
    // Neither lost nor doubled by a restart.
    net.restart();
    net.says_put_back(net.tables[0]);
    assert!(net.waits(old));
    net.says_put_back(net.tables[1]);
    assert!(matches!(take(&net.world.client, old), Err(TakeError::Aborted { .. })), "not twice");
    let new = net.agree();
    // Days and starts later others say the same: that is explained.
    for late in [2, 3] {
        net.restart();
        net.says_put_back(net.tables[late]);
        assert!(net.waits(new), "hub {late}");
    }
    assert_eq!(take(&net.world.client, new), Ok(()));
}

#[test]
fn a_lie_that_came_before_the_copy_does_not_explain_what_honest_hubs_say_later() {
    let mut net = Net::new(4);
    // Nothing was put back.
    net.says_put_back(net.tables[0]);
    let old = net.agree();
    net.copy("copy");
    assert_eq!(take(&net.world.client, old), Ok(()), "handed out after the copy was taken");
    net.put_back("copy");
    net.says_put_back(net.tables[1]);
    net.says_put_back(net.tables[2]);
    assert!(matches!(take(&net.world.client, old), Err(TakeError::Aborted { .. })), "not twice");
    let new = net.agree();
    net.restart();
    net.says_put_back(net.tables[3]);
    net.says_put_back(net.tables[0]);
    assert!(net.waits(new), "one hub says nothing new, and the other is alone");
}

#[test]
fn two_restores_in_a_row_void_what_waited_in_either_copy() {
    let mut net = Net::new(3);
    let first = net.agree();
    net.copy("one");
    net.put_back("one");
    net.says_put_back(net.tables[0]);
    net.says_put_back(net.tables[1]);
    assert!(!net.waits(first));
    let second = net.agree();
    net.copy("two");
    net.put_back("two");
    // This one has not been compared since the first: it tells of that one.
    net.says_put_back(net.tables[2]);
    assert!(net.waits(second));
    net.says_put_back(net.tables[1]);
    assert!(net.waits(second));
    net.says_put_back(net.tables[0]);
    assert!(!net.waits(second));
    let third = net.agree();
    net.restart();
    net.says_put_back(net.tables[2]);
    assert!(net.waits(third), "one of two");
}

#[test]
fn a_hub_with_a_new_table_has_one_voice_too() {
    let mut net = Net::new(2);
    let block = net.agree();
    net.restart();
    let new = net.add_table(0);
    net.says_put_back(new);
    net.says_put_back(net.tables[0]);
    assert!(net.waits(block), "one hub, two tables");
    net.says_put_back(net.tables[1]);
    assert!(!net.waits(block));
}

#[test]
fn memory_that_is_put_back_with_its_disk_is_no_way_around() {
    let mut net = Net::new(2);
    let old = net.agree();
    // No start in between: a snapshot of a machine that ran.
    net.says_put_back(net.tables[0]);
    net.says_put_back(net.tables[1]);
    assert!(!net.waits(old));
    let new = net.agree();
    net.says_put_back(net.tables[1]);
    assert!(net.waits(new));
}

/// A copy of a running node is of several moments: its ledger and its keys may be from before what its lanes are from. Where
/// no mark for messages has moved, that is found when a place for a mark reads as erased.
#[test]
fn what_waited_in_a_copy_of_several_moments_is_void_whenever_that_is_found() {
    let mut net = Net::new(3);
    let old = net.agree();
    net.copy("copy");
    assert_eq!(take(&net.world.client, old), Ok(()), "handed out after the copy was taken");
    for table in &net.tables {
        get(net.world.client.mint_sync(*table, 0)).expect("a tag key");
    }
    net.world.client.close().expect("closed");
    let lanes = net.world.path("copy").join("lanes");
    std::fs::remove_dir_all(&lanes).expect("removed");
    copy(&net.world.path("client").join("lanes"), &lanes);
    let dir = net.world.path("client");
    std::fs::remove_dir_all(&dir).expect("removed");
    copy(&net.world.path("copy"), &dir);
    // Nothing has been compared yet.
    net.world.client = Store::open(&dir, options()).expect("it opens");
    for table in net.tables.clone() {
        assert_eq!(get(net.world.client.mint_sync(table, 0)).map(|_| ()), Err(MintError::PlaceUsed));
        let marks = get(net.world.client.marks(peer(&net, table), TableSide::Client, table, false));
        assert!(marks.expect("they may be compared").unsure);
    }
    // A restart before the hubs can be reached.
    net.world.client.close().expect("closed");
    net.world.client = Store::open(&dir, options()).expect("it opens");
    for table in &net.tables {
        let marks = get(net.world.client.marks(peer(&net, *table), TableSide::Client, *table, false));
        assert!(marks.expect("they may be compared").unsure, "after a restart");
    }
    let new = net.agree();
    let settle = |net: &Net, at: usize| {
        let settled = SyncRecord { settle: true, put_back: Some(K_MIN), ..SyncRecord::of(net.tables[at]) };
        net.record(SyncRecord { compared: true, ..settled });
    };
    settle(&net, 0);
    assert!(net.waits(old), "a hub may have made its module so");
    settle(&net, 1);
    assert!(matches!(take(&net.world.client, old), Err(TakeError::Aborted { .. })), "not twice");
    settle(&net, 2);
    assert!(net.waits(new), "it was agreed after the start that found it");
}

fn peer(net: &Net, table: TableId) -> NodeId {
    let tables = net.world.client.tables();
    tables.iter().find(|status| status.table == table).expect("a table").peer
}
