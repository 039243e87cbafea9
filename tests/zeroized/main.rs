//! Secrets are erased wherever they were in memory: hubs and clients of a whole network run in this process, over an
//! allocator that keeps what is freed as it was left. After modules, agreements and deliveries over the control
//! socket no block, freed or in use, holds a key, and once the nodes have stopped none holds a byte of any pad or of
//! what sealed a module.
//!
//! The key of a node's transport identity is looked for only until nodes run: libp2p moves it about in memory of its own.
//! No key and no pad rests on it.
//!
//! What it cannot see are stacks and registers, and memory of the kernel.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod keeping;
#[path = "../common/needles.rs"]
#[allow(dead_code, reason = "memory is searched for secrets as they are")]
mod needles;

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use dske_node::{
    DataDir, Me, admin,
    config::{Config, Role},
    control::{self, KeyGet, Passphrase, Reply, Request, Seal},
    enrol::EnrolmentRequest,
};
use dske_protocol::ids::KeyId;
use dske_storage::{Consent, Options, Store, pskm::ModuleKey};
use keeping::{Keeping, aside};
use needles::Needles;
use tokio::{sync::oneshot, task::JoinHandle};

#[global_allocator]
static MEMORY: Keeping = Keeping::new();

const PASSPHRASE: &str = "a phrase of this test alone 5520";

struct Node {
    dir: DataDir,
    config: Config,
    me: Me,
}

impl Node {
    fn new(root: &Path, name: &str, role: Role) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut config = Config::new(name.parse().unwrap(), [role]);
        config.network.listen = vec![format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()];
        config.policy.k = 2;
        config.policy.k_min = 2;
        let dir = DataDir::new(root.join(name));
        dske_node::init(&dir, &config).unwrap();
        let me = dske_node::identity(&dir).unwrap();
        Self { dir, config, me }
    }

    /// Does something at a node that does not run.
    fn ask(&self, store: &Store, request: Request) -> Reply {
        match admin::execute(store, &self.me, &self.config, request, &|_, _| ()) {
            Reply::Failed(failure) => panic!("{failure}"),
            reply => reply,
        }
    }

    /// Asks the running node over its control socket.
    async fn call(&self, request: Request) -> Reply {
        let mut client = control::Client::connect(&self.dir).await.unwrap();
        client.call(request, &mut |_, _| ()).await.unwrap()
    }

    async fn run(&self) -> Running {
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = oneshot::channel();
        let (dir, config) = (self.dir.clone(), self.config.clone());
        let task = tokio::spawn(async move {
            let shutdown = async move { drop(stopped.await) };
            dske_node::run(dir, config, move |_| ready.send(()).unwrap(), shutdown).await.unwrap();
        });
        is_ready.await.unwrap();
        Running { stop, task }
    }
}

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

/// A module from a hub to a client, and its receipt back.
fn deliver(root: &Path, hub: &Node, client: &Node, seal: &Seal) {
    let open = |node: &Node| Store::open(&node.dir.store(), Options::default()).unwrap();
    let (hub_store, client_store) = (open(hub), open(client));
    let request = EnrolmentRequest::new(&client.dir, &client.config).unwrap();
    hub.ask(&hub_store, Request::EnrolAccept { request, consent: Consent::default() });
    let path = root.join(format!("{}-{}.pskm", hub.config.node.name, client.config.node.name));
    let name = client.config.node.name.clone().into();
    let make =
        Request::PskmMake { client: name, lane_bytes: [64 << 10; 2], out: path.clone(), seal: seal.clone() };
    hub.ask(&hub_store, make);
    let import = Request::PskmImport { path, seal: seal.clone(), wipe: true };
    let Reply::Imported { module, receipt, .. } = client.ask(&client_store, import) else {
        panic!("not imported")
    };
    hub.ask(&hub_store, Request::PskmAck { serial: module.serial, receipt });
    hub_store.close().unwrap();
    client_store.close().unwrap();
}

/// All files of that name below a directory.
fn find_files(dir: &Path, name: &str) -> Vec<PathBuf> {
    let entries: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    let found = |path: PathBuf| if path.is_dir() { find_files(&path, name) } else { vec![path] };
    entries.into_iter().flat_map(found).filter(|path| path.ends_with(name)).collect()
}

/// Agrees a key that both clients take; gives its bytes, which the test keeps aside.
async fn agree(from: &Node, with: &Node, bits: u64) -> Vec<u8> {
    let began = Instant::now();
    loop {
        let get = KeyGet {
            with: vec![with.config.node.name.clone().into()],
            bits,
            hubs: Vec::new(),
            k: None,
            purpose: String::new(),
            timeout_ms: 10_000,
        };
        let sent = match from.call(Request::KeyGet(get)).await {
            Reply::Key(sent) => sent,
            // The hubs are not all connected yet.
            Reply::Failed(failure) if began.elapsed() < Duration::from_secs(30) => {
                println!("once more: {failure}");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
            other => panic!("{other:?}"),
        };
        let fetch = Request::KeyFetch { id: KeyId { block: sent.id.block, index: 0 }, wait_ms: 10_000 };
        let fetched = match with.call(fetch).await {
            Reply::Key(fetched) => fetched,
            other => panic!("{other:?}"),
        };
        assert_eq!(sent.key.expose(), fetched.key.expose());
        return aside(|| fetched.key.expose().to_vec());
    }
}

/// The secrets of which something is still in memory.
fn left_in_memory(needles: &Needles) -> Vec<String> {
    aside(|| {
        let stretches = MEMORY.kept().flat_map(written);
        stretches.filter_map(|stretch| needles.find_plain(stretch)).collect()
    })
}

/// The stretches that are not all zeros: most of what was erased or never written is passed over quickly.
fn written(kept: &[u8]) -> Vec<&[u8]> {
    const STEP_BYTES: usize = 256;
    let zeros = [0; STEP_BYTES];
    let (mut stretches, mut from) = (Vec::new(), None);
    for (at, step) in (0..).step_by(STEP_BYTES).zip(kept.chunks(STEP_BYTES)) {
        match (step == &zeros[..step.len()], from) {
            (true, Some(start)) => {
                stretches.push(&kept[start..at]);
                from = None;
            }
            (false, None) => from = Some(at),
            _ => {}
        }
    }
    stretches.extend(from.map(|start| &kept[start..]));
    stretches
}

fn kept_bytes() -> usize {
    MEMORY.kept().map(<[u8]>::len).sum()
}

#[test]
fn no_block_of_memory_keeps_a_key_a_pad_or_a_seal() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let hubs = ["p1", "p2", "p3"].map(|name| Node::new(root, name, Role::Hub));
    let clients = ["alice", "bob"].map(|name| Node::new(root, name, Role::Client));
    let key_file = root.join("seal.key");
    drop(ModuleKey::generate_file(&key_file).unwrap());
    for (hub, client) in hubs.iter().flat_map(|hub| clients.iter().map(move |client| (hub, client))) {
        let by_phrase = hub.config.node.name.as_str() == "p1" && client.config.node.name.as_str() == "bob";
        let phrase = || Seal::Passphrase(Passphrase(PASSPHRASE.to_owned()));
        let seal = if by_phrase { phrase() } else { Seal::KeyFile(key_file.clone()) };
        deliver(root, hub, client, &seal);
    }
    let mut needles = aside(|| {
        let mut needles = Needles::new();
        for path in ["up.lane", "down.lane"].iter().flat_map(|name| find_files(root, name)) {
            needles.add(&path.display().to_string(), &fs::read(&path).unwrap()[8192..]);
        }
        needles.add("the key file", &fs::read(&key_file).unwrap());
        assert!(needles.len() > 6 * 16_384 - 64, "all pads are known: {} pieces", needles.len());
        needles
    });
    aside(|| {
        let mut identities = Needles::new();
        for path in find_files(root, "identity.key") {
            identities.add(&path.display().to_string(), &fs::read(&path).unwrap());
        }
        assert_eq!(left_in_memory(&identities), Vec::<String>::new(), "before any node runs");
    });
    // Both ends of each table have closed their stores.
    assert_eq!(left_in_memory(&needles), Vec::<String>::new(), "after making and importing modules");

    let mut keys = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut running = Vec::new();
        for node in hubs.iter().chain(&clients) {
            running.push(node.run().await);
        }
        let [alice, bob] = &clients;
        for bits in [256, 256, 8 * 300, 8 * 5000] {
            keys.push(agree(alice, bob, bits).await);
        }
        // Among false shares, which take another way to the key.
        let [p1, ..] = &hubs;
        fs::write(p1.dir.testnet_marker(), "of this test").unwrap();
        assert!(matches!(p1.call(Request::Chaos(control::Chaos::FalseShares)).await, Reply::Done));
        for bits in [256, 8 * 5000] {
            keys.push(agree(bob, alice, bits).await);
        }
        aside(|| {
            let mut of_keys = Needles::new();
            keys.iter().for_each(|key| of_keys.add("a key", key));
            assert_eq!(left_in_memory(&of_keys), Vec::<String>::new(), "keys, while the nodes run");
            keys.iter().for_each(|key| needles.add("a key", key));
        });
        for running in running {
            running.stop().await;
        }
    });
    drop(runtime);
    assert_eq!(left_in_memory(&needles), Vec::<String>::new(), "when all nodes have stopped");
    println!("{} pieces of secrets looked for in {} bytes of memory", needles.len(), kept_bytes());

    // That the search finds what is there: freed, moved by growing, and in use.
    let secret = aside(|| keys[0].clone());
    let mut growing = Vec::with_capacity(secret.len());
    growing.extend_from_slice(&secret);
    growing.push(0);
    zeroize::Zeroize::zeroize(&mut growing);
    assert_eq!(left_in_memory(&needles).len(), 1, "a buffer that grew leaves its old place behind");
    aside(|| drop(keys));
    aside(|| drop(needles));
}
