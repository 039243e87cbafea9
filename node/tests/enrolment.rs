//! Clients that are taken on while their hub runs.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::Instant;

use dske_node::{
    DataDir,
    config::{Config, Role},
    control::{Client, Reply, Request},
    enrol::{EnrolmentRequest, FORMAT},
    peer_of,
};
use dske_protocol::{enrolment, ids::NodeId, message::Identity};
use dske_storage::Consent;
use tokio::{sync::oneshot, task::JoinHandle};

struct Hub {
    _dir: tempfile::TempDir,
    control: Client,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Hub {
    async fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::new(root.path().join("p1"));
        let mut config = Config::new("p1".parse().unwrap(), [Role::Hub]);
        config.network.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        dske_node::init(&dir, &config).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = oneshot::channel();
        let data = dir.clone();
        let task = tokio::spawn(async move {
            let shutdown = async move { drop(stopped.await) };
            dske_node::run(data, config, move |_| ready.send(()).unwrap(), shutdown).await.unwrap();
        });
        is_ready.await.unwrap();
        let control = Client::connect(&dir).await.unwrap();
        Self { _dir: root, control, stop, task }
    }

    async fn enrol(&mut self, number: u32, name: &str, consent: Consent) -> Reply {
        let request = request(number, name);
        self.control.call(Request::EnrolAccept { request, consent }, &mut |_, _| ()).await.unwrap()
    }

    /// The clients that it serves, by name and id.
    async fn served(&mut self) -> Vec<(String, NodeId)> {
        match self.control.call(Request::Status, &mut |_, _| ()).await.unwrap() {
            Reply::Status(status) => {
                let served = status.peers.into_iter().filter(|peer| peer.excluded.is_none());
                served.map(|peer| (peer.name.to_string(), peer.node)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

fn request(number: u32, name: &str) -> EnrolmentRequest {
    let mut secret = [7; 32];
    secret[..4].copy_from_slice(&number.to_le_bytes());
    let node = enrolment::node_of(&secret);
    let identity = Identity { node, name: name.parse().unwrap(), applications: Vec::new() };
    let signature = enrolment::sign(&secret, &identity);
    let Identity { name, applications, .. } = identity;
    let peer_id = peer_of(&node).unwrap().to_string();
    EnrolmentRequest { format: FORMAT, name, node, peer_id, applications, signature }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_taken_on_or_replaced_is_known_to_the_running_hub_at_once() {
    let mut hub = Hub::start().await;
    let (old, new) = (request(1, "carol").node, request(2, "carol").node);
    assert!(matches!(hub.enrol(1, "carol", Consent::default()).await, Reply::Enrolled(_)));
    assert_eq!(hub.served().await, [("carol".to_owned(), old)]);
    assert!(
        matches!(hub.enrol(2, "carol", Consent::default()).await, Reply::Failed(why) if why.code == "dske::enrol::name")
    );
    let consent = Consent { rename: false, replace: true };
    assert!(
        matches!(hub.enrol(2, "carol", consent).await, Reply::Enrolled(enrolled) if enrolled.replaced.is_some())
    );
    assert_eq!(hub.served().await, [("carol".to_owned(), new)]);
    hub.stop().await;
}

/// `cargo test --release -p dske-node --test enrolment -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn what_it_costs() {
    let mut hub = Hub::start().await;
    let mut took = Vec::new();
    for number in 0..1500 {
        let began = Instant::now();
        assert!(matches!(
            hub.enrol(number, &format!("c{number}"), Consent::default()).await,
            Reply::Enrolled(_)
        ));
        took.push(began.elapsed());
    }
    for at in [10, 100, 500, 1500] {
        let mut last = took[at - 10..at].to_vec();
        last.sort();
        println!("with {at} clients: median of ten {:?}, least {:?}", last[5], last[0]);
    }
    hub.stop().await;
}
