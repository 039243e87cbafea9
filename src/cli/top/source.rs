//! Where the snapshots come from: each watched node is asked again and again over a connection of its own.
//!
//! A node answers one question at a time and nothing is pushed to us, so that a slow screen never makes a node wait. Who
//! asks waits for its answer to be taken in, so that a slow screen asks less.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dske_node::control::{Client, Reply, Request};
use dske_tui::Update;
use tokio::{sync::mpsc, task::JoinSet, time};

use super::Target;

/// Between two questions while something moves, and while nothing does.
const PAUSE_MOVING: Duration = Duration::from_millis(200);
const PAUSE_IDLE: Duration = Duration::from_secs(1);
/// How long one answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// Updates that wait to be taken in.
const UPDATES_MAX: usize = 16;

/// How often nodes are asked; shared with whoever knows whether something moves.
#[derive(Debug, Clone)]
pub(super) struct Pace(Arc<AtomicU64>);

impl Pace {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(millis(PAUSE_MOVING))))
    }

    /// Something moves, or nothing does.
    pub(super) fn set(&self, moving: bool) {
        self.0.store(millis(if moving { PAUSE_MOVING } else { PAUSE_IDLE }), Ordering::Relaxed);
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Watches nodes until dropped.
pub(super) struct Source {
    pub(super) updates: mpsc::Receiver<Update>,
    pub(super) pace: Pace,
    tasks: JoinSet<()>,
}

impl Source {
    /// Begins to watch.
    pub(super) fn new(targets: &[Target]) -> Self {
        let (sender, updates) = mpsc::channel(UPDATES_MAX);
        let (pace, mut tasks) = (Pace::new(), JoinSet::new());
        for target in targets {
            tasks.spawn(watch(target.clone(), sender.clone(), pace.clone()));
        }
        Self { updates, pace, tasks }
    }

    /// Returns when watching a node has come to an end, which only a fault of this program can cause.
    pub(super) async fn failed(&mut self) {
        while self.tasks.join_next().await.is_some_and(|ended| ended.is_ok()) {}
    }
}

/// Milliseconds since the epoch.
pub(super) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, millis)
}

async fn watch(target: Target, updates: mpsc::Sender<Update>, pace: Pace) {
    loop {
        let why = match Client::connect(&target.dir).await {
            Ok(client) => ask(&target, client, &updates, &pace).await,
            Err(_) => "no node is running".to_owned(),
        };
        let away = Update::Away { node: target.name.clone(), roles: target.roles.clone(), why };
        if updates.send(away).await.is_err() {
            return;
        }
        time::sleep(pace.pause()).await;
    }
}

/// Asks over one connection until it breaks; tells why.
async fn ask(target: &Target, mut client: Client, updates: &mpsc::Sender<Update>, pace: &Pace) -> String {
    loop {
        let mut ignored = |_, _| {};
        let answer = client.call(Request::Status, &mut ignored);
        let status = match time::timeout(ANSWER_WAIT, answer).await {
            Err(_) => return "it does not answer".to_owned(),
            Ok(Err(error)) => return error.to_string(),
            Ok(Ok(Reply::Status(status))) => status,
            Ok(Ok(_)) => return "its answer does not fit the question: another version?".to_owned(),
        };
        let update = Update::Status { node: target.name.clone(), at_ms: now_ms(), status };
        if updates.send(update).await.is_err() {
            return String::new();
        }
        time::sleep(pace.pause()).await;
    }
}
