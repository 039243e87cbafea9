//! The whole input of the control socket: frames, requests, and what serves them, over a real store and real
//! actors, without a network. Paths and times of a request are tamed before it is served: what a fuzzer
//! dreams up must not write outside its directory, or make anybody wait.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use dske_protocol::{
    enrolment::{self, Signature},
    ids::{BlockId, KeyId, Name, NodeId},
    message::Identity,
    naming::NodeRef,
    params::KEY_BYTES_MAX,
};
use dske_storage::{ClientRecord, Consent, SecretBytes, Store};
use tokio::{
    io::AsyncWriteExt,
    runtime::Runtime,
    sync::{mpsc, oneshot},
};

use super::{frame_of, keys};
use crate::{
    DataDir, Me,
    client::ClientActor,
    clock::Clock,
    config::{Config, PadsConfig, Role},
    control::{
        Chaos, Course, Enrolment, KeyBatch, KeyDelivery, KeyGet, KeyRun, Passphrase, Reply, Request, Seal,
        StreamSpec, frame, places::Places, server::serve,
    },
    enrol::{EnrolmentRequest, FORMAT},
    hub_actor::{HubActor, HubConfig},
    metrics::Measures,
    network::{ClientEvent, Directory, HubEvent},
    node::Shared,
    peer_of,
    status::{
        Counters, Event, IdentityStatus, Level, NodeStatus, PeerStatus, QuotaStatus, SCHEMA_VERSION, Status,
    },
    upkeep::Upkeep,
};

/// Longest lane of a module that is made, and longest wait for a key.
const LANE_BYTES_MAX: u64 = 32 << 10;
const WAIT_MS_MAX: u64 = 20;

/// All that was asked has an answer by then.
const PATIENCE: Duration = Duration::from_secs(20);

/// What became of the requests of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    /// Requests, each with its answer.
    pub answers: usize,
    /// Those that could not be done.
    pub failures: usize,
    /// Keys that were given.
    pub keys: usize,
}

/// A node that is nothing but its control socket.
pub struct Socket {
    runtime: Runtime,
    shared: Arc<Shared>,
    // The actors live as long as these.
    _events: (mpsc::UnboundedSender<HubEvent>, mpsc::UnboundedSender<ClientEvent>),
}

impl Socket {
    /// A node that is hub and client, with a directory for its modules, and keys that lie ready.
    ///
    /// # Panics
    /// If the store is of no use.
    pub fn new(dir: &Path, store: Store) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (config, me) = (Config::new(name("node"), [Role::Hub, Role::Client]), me());
        keys::put_into(&store, me.node);
        let (commands, _) = mpsc::unbounded_channel();
        let (hub_orders, hub_orders_in) = mpsc::channel(16);
        let (client_orders, client_orders_in) = mpsc::channel(16);
        let (hub_events, hub_events_in) = mpsc::unbounded_channel();
        let (client_events, client_events_in) = mpsc::unbounded_channel();
        let clock = Clock::start(&store).expect("a clock");
        let limits = HubConfig { policy: config.policy.clone(), outbox: config.outbox };
        let hub = HubActor::new(me.node, KEY_BYTES_MAX, limits, store.clone(), clock, commands.clone());
        let hub = hub.expect("a hub");
        let identity = (me.node, config.node.name.clone());
        let directory = Directory::default();
        let policy = config.policy.clone();
        let measures = Measures::new().expect("counters");
        let client =
            ClientActor::new(identity, policy, store.clone(), clock, commands.clone(), directory, measures);
        let client = client.expect("a client");
        runtime.spawn(hub.run(hub_events_in, hub_orders_in));
        runtime.spawn(client.run(client_events_in, client_orders_in));
        let shared_store = store.clone();
        let shared = Shared {
            dir: DataDir::new(dir),
            store,
            me,
            config,
            hub: Some(hub_orders),
            client: Some(client_orders),
            listen: Vec::new(),
            dropped: Arc::default(),
            upkeep: Upkeep::new(shared_store, clock, PadsConfig::default(), None),
            commands,
            began: Instant::now(),
        };
        Self { runtime, shared: Arc::new(shared), _events: (hub_events, client_events) }
    }

    /// Serves one connection on which these bytes come in.
    ///
    /// # Panics
    /// If a request that decodes has not exactly one final answer, or a key is given twice, or another than was
    /// there.
    pub fn serve(&self, input: &[u8]) -> Served {
        let (bytes, requests) = self.tamed(input);
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let exchange = async {
            let (mut from, mut to) = tokio::io::split(&mut far);
            let (all_here, all) = oneshot::channel();
            let send = async {
                // The node hangs up at the first frame that is none.
                let _ = to.write_all(&bytes).await;
                // Who closes is not answered any more.
                let _ = all.await;
                let _ = to.shutdown().await;
            };
            let answers = async {
                let (mut replies, mut waited_for) = (Vec::new(), Some(all_here));
                loop {
                    let last =
                        replies.iter().filter(|reply| !matches!(reply, Reply::Progress { .. })).count();
                    if last == requests
                        && let Some(all_here) = waited_for.take()
                    {
                        let _ = all_here.send(());
                    }
                    match frame::read::<Reply>(&mut from, frame::REPLY_BYTES_MAX).await {
                        Ok(Some(reply)) => replies.push(reply),
                        Ok(None) => return replies,
                        Err(error) => panic!("the node's answer does not decode: {error}"),
                    }
                }
            };
            let places = Places::new(1);
            let served = serve(near, &self.shared, &places);
            let (_, answers, _) = futures::join!(send, answers, served);
            answers
        };
        let answers = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, exchange).await });
        let answers = answers.expect("every request is answered");
        let mut served = Served::default();
        let mut given = BTreeSet::new();
        let mut give = |id: KeyId, key: &[u8]| {
            assert!(keys::is_right(id, key), "{id} is another key");
            assert!(given.insert(id), "{id} was given twice");
        };
        for reply in answers.iter().filter(|reply| !matches!(reply, Reply::Progress { .. })) {
            served.answers += 1;
            served.failures += usize::from(matches!(reply, Reply::Failed(_)));
            keys_of(reply, &mut give);
        }
        assert_eq!(served.answers, requests, "requests and answers");
        served.keys = given.len();
        served
    }

    /// The input with its requests tamed, and how many they are. What follows them is left as it is.
    fn tamed(&self, input: &[u8]) -> (Vec<u8>, usize) {
        let (mut rest, mut bytes, mut requests) = (input, Vec::new(), 0);
        loop {
            let before = rest;
            let read = frame::read::<Request>(&mut rest, frame::REQUEST_BYTES_MAX);
            let Ok(Some(request)) = futures::executor::block_on(read) else {
                bytes.extend_from_slice(before);
                return (bytes, requests);
            };
            bytes.extend(frame_of(&self.tame(request)));
            requests += 1;
        }
    }

    fn tame(&self, request: Request) -> Request {
        match request {
            Request::KeyGet(get) => {
                Request::KeyGet(KeyGet { timeout_ms: get.timeout_ms % WAIT_MS_MAX, ..get })
            }
            Request::KeyFetch { id, wait_ms } => Request::KeyFetch { id, wait_ms: wait_ms % WAIT_MS_MAX },
            Request::StreamNext { spec, count, wait_ms } => {
                Request::StreamNext { spec, count, wait_ms: wait_ms % WAIT_MS_MAX }
            }
            Request::StreamOpen(spec) => Request::StreamOpen(StreamSpec { with: known(&spec.with), ..spec }),
            Request::PskmMake { client, lane_bytes, out, seal } => Request::PskmMake {
                client,
                lane_bytes: lane_bytes.map(|bytes| bytes % LANE_BYTES_MAX),
                out: self.place(&out),
                seal: self.tame_seal(&seal),
            },
            Request::PskmImport { path, seal, wipe } => {
                Request::PskmImport { path: self.place(&path), seal: self.tame_seal(&seal), wipe }
            }
            other => other,
        }
    }

    /// One of a few files of ours for whatever path.
    fn place(&self, path: &Path) -> PathBuf {
        let sum = path.as_os_str().as_encoded_bytes().iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        self.shared.dir.path().join(format!("module-{}", sum % 4))
    }

    /// Stretching a passphrase takes too long to be done for every input.
    fn tame_seal(&self, seal: &Seal) -> Seal {
        match seal {
            Seal::Passphrase(Passphrase(phrase)) if phrase.trim().is_empty() => {
                Seal::Passphrase(Passphrase(phrase.clone()))
            }
            _ => Seal::KeyFile(self.shared.dir.path().join("key")),
        }
    }
}

/// Clients that are known, for whichever are named: identities of others are awaited for many seconds.
fn known(asked: &[NodeRef]) -> Vec<NodeRef> {
    let known = |asked: &NodeRef| {
        let text = asked.to_string();
        let sum = text.bytes().fold(0u8, u8::wrapping_add);
        let other = name(keys::KNOWN[usize::from(sum) % keys::KNOWN.len()]).into();
        if keys::KNOWN.contains(&text.as_str()) { asked.clone() } else { other }
    };
    asked.iter().map(known).collect()
}

/// The keys that a reply gives away, each with its id.
fn keys_of(reply: &Reply, give: &mut impl FnMut(KeyId, &[u8])) {
    match reply {
        Reply::Key(delivery) => give(delivery.id, delivery.key.expose()),
        Reply::Batch(batch) => {
            for run in &batch.runs {
                let keys = run.keys.expose();
                assert_eq!(keys.len() as u64, u64::from(run.count) * u64::from(batch.key_bytes));
                for (index, key) in (run.first.index..).zip(keys.chunks(batch.key_bytes as usize)) {
                    give(KeyId { index, ..run.first }, key);
                }
            }
        }
        _ => {}
    }
}

pub(super) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

/// The secret half of the node's key.
const SECRET: [u8; 32] = [8; 32];

fn me() -> Me {
    let node = enrolment::node_of(&SECRET);
    Me { node, peer_id: peer_id(&node) }
}

fn peer_id(node: &NodeId) -> String {
    peer_of(node).map(|peer| peer.to_string()).unwrap_or_default()
}

/// Streams of requests to begin with; each kind of request stands in one of them.
pub fn socket_seeds() -> Vec<Vec<u8>> {
    let seal = || Seal::KeyFile("key".into());
    let enrol = |text: &str, secret: [u8; 32]| {
        let applications = vec!["vpn".to_owned()];
        let identity = Identity { node: enrolment::node_of(&secret), name: name(text), applications };
        let signature = enrolment::sign(&secret, &identity);
        let Identity { node, name, applications } = identity;
        let peer_id = peer_id(&node);
        let request = EnrolmentRequest { format: FORMAT, name, node, peer_id, applications, signature };
        Request::EnrolAccept { request, consent: Consent::default() }
    };
    let make = |client: &str| Request::PskmMake {
        client: name(client).into(),
        lane_bytes: [4096; 2],
        out: "a".into(),
        seal: seal(),
    };
    let get = Request::KeyGet(KeyGet {
        with: vec![name("bob").into(), name("carol").into()],
        bits: 256,
        hubs: vec![name("p1").into()],
        k: Some(3),
        purpose: "test".to_owned(),
        timeout_ms: 5,
    });
    let id = KeyId { block: keys::RECEIVED, index: 0 };
    let spec = |with: &str, high| StreamSpec {
        with: vec![name(with).into()],
        purpose: keys::PURPOSE.to_owned(),
        bits: 256,
        low: 1,
        high,
    };
    let next = |with: &str, count| Request::StreamNext { spec: spec(with, 6), count, wait_ms: 3 };
    let run = |block, index, count| Request::KeyFetchRun { first: KeyId { block, index }, count };
    let streams = [
        vec![Request::Status],
        vec![get],
        vec![Request::KeyFetch { id, wait_ms: 3 }, Request::KeyList { limit: 7 }],
        vec![enrol("bob", [2; 32]), make("bob"), make("bob"), Request::Status],
        vec![
            enrol("node", SECRET),
            make("node"),
            Request::PskmImport { path: "a".into(), seal: seal(), wipe: true },
            Request::PskmAck { serial: "node-0001".to_owned(), receipt: "olive tango 4417".to_owned() },
            Request::PskmRetire { serial: "node-0001".to_owned() },
        ],
        vec![
            Request::PskmImport {
                path: "a".into(),
                seal: Seal::Passphrase(Passphrase("horse".to_owned())),
                wipe: false,
            },
            Request::Readmit { hub: name("p1").into() },
            Request::Chaos(Chaos::FalseShares),
        ],
        vec![
            next("bob", 2),
            run(keys::POOLED, 0, 2),
            run(keys::POOLED, 2, 1),
            next("bob", 4),
            next("bob", 1),
        ],
        vec![
            run(id.block, 1, 3),
            run(id.block, 0, 2),
            Request::KeyFetch { id, wait_ms: 0 },
            run(id.block, 4, 9),
        ],
        vec![
            Request::StreamOpen(spec("carol", 4)),
            Request::StreamOpen(spec("bob", 2)),
            next("carol", 1),
            Request::Status,
            Request::StreamClose(spec("bob", 2)),
            next("bob", 1),
            run(keys::POOLED, 0, 6),
            Request::StreamClose(spec("carol", 4)),
        ],
    ];
    streams.iter().map(|stream| stream.iter().flat_map(frame_of).collect()).collect()
}

/// Replies to begin with.
pub fn reply_seeds() -> Vec<Vec<u8>> {
    let status = status();
    let failed =
        crate::control::failure("dske::pad::low", 6, "too little is left".to_owned(), "get a module");
    let id = KeyId { block: BlockId::new([1; 16]), index: 0 };
    let secret = || SecretBytes::new(vec![7; 64]);
    let delivery = KeyDelivery {
        id,
        key: secret(),
        n: 5,
        k: 3,
        from: Some("alice".to_owned()),
        confirmed: vec![name("bob").into()],
        burned_bytes: 104,
        course: Some(Course { shares: 4, liars: vec!["p2".to_owned()], burned_hubs: 5, took_us: 7 }),
    };
    let client = ClientRecord {
        node: NodeId::new([2; 32]),
        name: name("bob"),
        local_id: 1,
        signature: Signature::new([9; 64]),
        applications: Vec::new(),
        enabled: true,
        enrolled_ms: 1,
    };
    let enrolment = Enrolment { client: client.clone(), before: Some(client), replaced: None };
    let batch = KeyBatch { key_bytes: 32, runs: vec![KeyRun { first: id, count: 2, keys: secret() }] };
    vec![
        frame_of(&Reply::Progress { done: 1, total: 2 }),
        frame_of(&Reply::Key(delivery)),
        frame_of(&Reply::Batch(batch)),
        frame_of(&Reply::Enrolled(Box::new(enrolment))),
        frame_of(&Reply::Done),
        frame_of(&Reply::Failed(failed)),
        frame_of(&Reply::Status(Box::new(status))),
    ]
}

/// A snapshot with something in most of its parts.
fn status() -> Status {
    let (text, node) = (|| "text".to_owned(), NodeId::new([1; 32]));
    Status {
        streams: Vec::new(),
        schema_version: SCHEMA_VERSION,
        node: NodeStatus {
            name: name("bob"),
            id: node,
            peer_id: text(),
            roles: vec![Role::Hub],
            version: text(),
            pid: 1,
            listen: vec![text()],
            uptime_ms: 1,
            store_fault: Some(text()),
            disk: None,
            memory_locked: true,
            fault: None,
        },
        policy: None,
        tables: Vec::new(),
        peers: vec![PeerStatus {
            node,
            name: name("p1"),
            role: Role::Hub,
            connected: true,
            excluded: Some(text()),
            incompatible: Some(text()),
            shut: Some(text()),
            waiting: 1,
        }],
        modules: Vec::new(),
        sessions: Vec::new(),
        wishes: Vec::new(),
        identities: vec![IdentityStatus {
            node,
            name: name("bob"),
            claims: 1,
            hubs: vec![text()],
            usable: 1,
        }],
        inquiries: Vec::new(),
        events: vec![Event { at_ms: 1, level: Level::Warn, text: text() }],
        quotas: vec![QuotaStatus { who: text(), used_bytes: Some(1), in_force: None, limit: text() }],
        keys: None,
        pads: Vec::new(),
        refusals: [(text(), 1)].into(),
        counters: Counters::default(),
    }
}
