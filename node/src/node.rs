//! A node from its start to its stop.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use dske_protocol::{ids::NodeId, params::KEY_BYTES_MAX, refusal::Refusal, sync::SyncCounters};
use dske_storage::{
    ModuleRecord, Options, Store,
    access::{self, Kind},
    pskm,
};
use libp2p::Multiaddr;
use tokio::sync::{mpsc, oneshot};

use crate::{
    DataDir, Me, NodeError,
    client::{ClientActor, ClientOrder},
    clock::Clock,
    config::{Config, Role},
    control::{Reply, server::Server},
    hardening::hardening,
    hub_actor::{HubActor, HubConfig, HubOrder},
    me,
    metrics::{Measures, MetricsServer},
    network::{Command, Commands, Directory, Dropped, NetworkTask, Setup, ports},
    status::{Counters, DiskStatus, NodeStatus, SCHEMA_VERSION, Status},
    supervision,
    upkeep::Upkeep,
};

/// Orders waiting for an actor; further callers wait.
const ORDERS_MAX: usize = 256;

/// Tasks that have not ended by then are left behind at a stop.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// What is known once a node is up.
#[derive(Debug, Clone)]
pub struct NodeReady {
    /// Addresses listened on.
    pub listen: Vec<Multiaddr>,
    /// Its id.
    pub node: NodeId,
    /// Where monitoring is listened for, if anywhere.
    pub metrics: Option<SocketAddr>,
}

/// What the control socket works with.
pub(crate) struct Shared {
    pub(crate) dir: DataDir,
    pub(crate) store: Store,
    pub(crate) me: Me,
    pub(crate) config: Config,
    pub(crate) hub: Option<mpsc::Sender<HubOrder>>,
    pub(crate) client: Option<mpsc::Sender<ClientOrder>>,
    pub(crate) listen: Vec<Multiaddr>,
    pub(crate) dropped: Arc<Dropped>,
    pub(crate) upkeep: Upkeep,
    pub(crate) commands: Commands,
    pub(crate) began: Instant,
}

/// Whether the identity is the one that the store's modules were made for, or by. A changed one would be
/// a stranger to every peer.
///
/// # Errors
/// [`NodeError::ForeignIdentity`], or that of the store.
pub fn check_identity(store: &Store, me: &Me, dir: &DataDir) -> Result<(), NodeError> {
    let foreign = |module: &ModuleRecord| module.hub != me.node && module.client != me.node;
    match store.modules()?.into_iter().find(foreign) {
        Some(module) => Err(NodeError::ForeignIdentity { path: dir.identity(), serial: module.serial }),
        None => Ok(()),
    }
}

/// Whether nobody but the owner can write the node's directory and configuration, or read its identity. Looks at what is
/// there; the store looks at its own files when it is opened.
///
/// # Errors
/// [`NodeError::Exposed`], with the mode and what to do.
pub fn check_access(dir: &DataDir, config: Option<&std::path::Path>) -> Result<(), NodeError> {
    access::check_alone(dir.path(), Kind::Public)?;
    if dir.identity().exists() {
        access::check(&dir.identity(), Kind::Secret)?;
    }
    let own = dir.config();
    match config {
        Some(elsewhere) if elsewhere != own => access::check_alone(elsewhere, Kind::Public)?,
        _ if own.exists() => access::check_alone(&own, Kind::Public)?,
        _ => {}
    }
    Ok(())
}

/// Who the node of a directory is.
///
/// # Errors
/// If there is no readable identity.
pub fn identity(dir: &DataDir) -> Result<Me, NodeError> {
    let path = dir.identity();
    me::load(&path)
        .and_then(|keypair| Me::of(&keypair))
        .map_err(|source| NodeError::of_identity(path.clone(), source))
}

/// Runs a node until `shutdown` completes. `ready` is called when it listens and takes orders.
///
/// # Errors
/// If it cannot start; once up, it runs until it is told to stop.
pub async fn run(
    dir: DataDir,
    config: Config,
    ready: impl FnOnce(&NodeReady),
    shutdown: impl Future<Output = ()>,
) -> Result<(), NodeError> {
    config.check()?;
    check_access(&dir, None)?;
    // Of a directory in use the store says so: then its own node is who listens.
    if !Store::is_open_elsewhere(&dir.store()) {
        ports::check(&config.network.listen)?;
    }
    tell_hardening();
    let path = dir.identity();
    let keypair = me::load(&path);
    let keypair = keypair.map_err(|source| NodeError::of_identity(path.clone(), source))?;
    let me = Me::of(&keypair).map_err(|source| NodeError::File { action: "use", path, source })?;
    let store_dir = dir.store();
    let store = tokio::task::spawn_blocking(move || Store::open(&store_dir, Options::default()))
        .await
        .map_err(|error| NodeError::Network(error.to_string()))??;
    check_identity(&store, &me, &dir)?;
    let left = store.clone();
    tokio::task::spawn_blocking(move || pskm::clear(&left))
        .await
        .map_err(|error| NodeError::Network(error.to_string()))?
        .map_err(|error| NodeError::Network(error.to_string()))?;

    let clock = Clock::start(&store)?;
    let directory = Directory::default();
    let dropped = Arc::new(Dropped::default());
    let (commands, commands_in) = mpsc::unbounded_channel();
    let is = |role| config.node.roles.contains(&role);
    let (hub_events, hub_events_in) = mpsc::unbounded_channel();
    let (client_events, client_events_in) = mpsc::unbounded_channel();
    let setup = Setup {
        keypair,
        name: config.node.name.clone(),
        roles: config.node.roles.iter().copied().collect(),
        config: config.network.clone(),
        directory: directory.clone(),
        dropped: Arc::clone(&dropped),
        commands: commands_in,
        hub: is(Role::Hub).then_some(hub_events),
        client: is(Role::Client).then_some(client_events),
    };
    let (network, listen) = NetworkTask::new(setup).await?;

    let mut tasks = tokio::task::JoinSet::new();
    let hub = if is(Role::Hub) {
        let (orders, orders_in) = mpsc::channel(ORDERS_MAX);
        let limits = HubConfig { policy: config.policy.clone(), outbox: config.outbox };
        let actor = HubActor::new(me.node, KEY_BYTES_MAX, limits, store.clone(), clock, commands.clone())?;
        tasks.spawn(actor.run(hub_events_in, orders_in));
        Some(orders)
    } else {
        None
    };
    let client = if is(Role::Client) {
        let (orders, orders_in) = mpsc::channel(ORDERS_MAX);
        let policy = config.policy.clone();
        let measures = Measures::new().map_err(|error| NodeError::Metrics(error.to_string()))?;
        let actor = ClientActor::new(
            (me.node, config.node.name.clone()),
            policy,
            store.clone(),
            clock,
            commands.clone(),
            directory,
            measures,
        )?;
        tasks.spawn(actor.run(client_events_in, orders_in));
        Some(orders)
    } else {
        None
    };
    let keys = is(Role::Client).then_some(config.keys);
    let upkeep = Upkeep::new(store.clone(), clock, config.pads, keys);
    let looking = tokio::spawn(upkeep.clone().run(client.clone()));
    let network = tokio::spawn(network.run());
    let socket = dir.control_socket();
    let server =
        Server::bind(&socket).map_err(|source| NodeError::File { action: "create", path: socket, source })?;
    let metrics = match config.metrics.listen {
        Some(address) => Some(MetricsServer::bind(address).await.map_err(|source| {
            NodeError::Metrics(format!("cannot listen on {address} for metrics: {source}"))
        })?),
        None => None,
    };
    let up = NodeReady {
        listen: listen.clone(),
        node: me.node,
        metrics: metrics.as_ref().map(MetricsServer::address),
    };
    let shared = Shared {
        dir,
        store: store.clone(),
        me,
        config,
        hub,
        client,
        listen,
        dropped,
        upkeep: upkeep.clone(),
        commands: commands.clone(),
        began: Instant::now(),
    };
    let shared = Arc::new(shared);
    let server = tokio::spawn(server.run(Arc::clone(&shared)));
    let metrics = metrics.map(|metrics| tokio::spawn(metrics.run(Arc::clone(&shared))));
    ready(&up);
    let supervised = tokio::spawn(supervision::run(shared));
    tracing::info!(node = %up.node.short(), listen = ?up.listen, "up");

    shutdown.await;
    tracing::info!("stopping");
    supervised.abort();
    supervision::stopping();
    server.abort();
    metrics.iter().for_each(tokio::task::JoinHandle::abort);
    looking.abort();
    network.abort();
    drop(commands);
    // With the network gone the actors' events end, and with them the actors.
    let ended = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_PATIENCE, ended).await.is_err() {
        tracing::warn!("some work did not end in time and is left to the next start");
    }
    // Where it fails, the clocks are a little behind: quotas come back later, messages live longer.
    let _ = store.commit(upkeep.clocks()).await;
    tokio::task::spawn_blocking(move || store.close())
        .await
        .map_err(|error| NodeError::Network(error.to_string()))??;
    Ok(())
}

/// Says once what the system would not give.
fn tell_hardening() {
    let Some(asked) = hardening() else { return };
    if let Err(cause) = &asked.core_dumps {
        tracing::warn!(%cause, "cores of this process could be dumped, with secrets in them");
    }
    match &asked.memory_lock {
        Ok(()) => tracing::info!("memory is locked: no secret reaches the swap space"),
        Err(cause) => tracing::info!(%cause, "memory is not locked"),
    }
}

impl Shared {
    /// Whether the network task still takes commands and executes them.
    pub(crate) async fn ping(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Ping(reply)).is_ok() && answer.await.is_ok()
    }

    /// A snapshot of everything.
    pub(crate) async fn status(&self) -> Status {
        self.observe().await.0
    }

    /// A snapshot, and how a client's agreements went.
    pub(crate) async fn observe(&self) -> (Status, Option<Measures>) {
        let hub = match &self.hub {
            Some(hub) => ask(hub, HubOrder::Status).await,
            None => None,
        };
        let client = match &self.client {
            Some(client) => ask(client, ClientOrder::Status).await,
            None => None,
        };
        let mut counters = self.dropped.counters();
        let (mut peers, mut events, mut quotas) = (Vec::new(), Vec::new(), Vec::new());
        let mut refusals = BTreeMap::new();
        let mut fault = None;
        if let Some(hub) = hub {
            fault = hub.fault;
            peers.extend(hub.peers);
            counters.forwarded = hub.counters.forwarded;
            counters.refused = hub.counters.refused;
            counters.forged = hub.counters.forged;
            counters.malformed = hub.counters.malformed;
            counters.expired = hub.expired;
            quotas.extend(hub.quotas);
            count_refusals(&mut refusals, &hub.counters.refusals);
            count_sync(&mut counters, &hub.sync_counters);
            events.extend(hub.events);
        }
        let (mut policy, mut sessions, mut identities) = (None, Vec::new(), Vec::new());
        let mut measures = None;
        let (mut wishes, mut inquiries) = (Vec::new(), Vec::new());
        let mut streams = Vec::new();
        if let Some(client) = client {
            policy = Some(client.policy);
            measures = Some(client.measures);
            peers.extend(client.peers);
            sessions = client.sessions;
            identities = client.identities;
            wishes = client.wishes;
            inquiries = client.inquiries;
            streams = client.streams;
            events.extend(client.events);
            counters.validated = client.validated;
            counters.sent = client.sent;
            counters.aborted = client.aborted;
            counters.refused += client.counters.refused;
            counters.forged += client.counters.forged;
            counters.malformed += client.counters.malformed;
            counters.false_shares = client.counters.false_shares;
            quotas.extend(client.quotas);
            count_refusals(&mut refusals, &client.counters.refusals);
            count_sync(&mut counters, &client.sync_counters);
        }
        events.extend(self.upkeep.events());
        events.sort_by_key(|event| std::cmp::Reverse(event.at_ms));
        let status = Status {
            schema_version: SCHEMA_VERSION,
            node: NodeStatus {
                name: self.config.node.name.clone(),
                id: self.me.node,
                peer_id: self.me.peer_id.clone(),
                roles: self.config.node.roles.iter().copied().collect(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                listen: self.listen.iter().map(ToString::to_string).collect(),
                uptime_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
                store_fault: self.store.poison_cause(),
                disk: DiskStatus::of(&self.dir.store()),
                memory_locked: hardening().is_some_and(|asked| asked.memory_lock.is_ok()),
                fault,
            },
            policy,
            tables: self.store.tables(),
            peers,
            modules: self.store.modules().unwrap_or_default(),
            sessions,
            wishes,
            identities,
            inquiries,
            events,
            streams,
            quotas,
            keys: self.upkeep.keys(),
            pads: self.upkeep.forecasts(),
            refusals,
            counters,
        };
        (status, measures)
    }

    /// Tells the actors what an administrative request has changed.
    pub(crate) async fn admin_done(&self, reply: &Reply) {
        match (reply, &self.hub, &self.client) {
            (Reply::Enrolled(enrolled), Some(hub), _) => {
                // Whom it replaces first: the name is the other's from then on.
                for client in enrolled.replaced.iter().chain([&enrolled.client]) {
                    // Fails only when the node is stopping.
                    let _ = hub.send(HubOrder::Client(client.clone())).await;
                }
            }
            (Reply::Imported { module, .. }, _, Some(client)) => {
                let hubs = self.store.hubs().unwrap_or_default();
                if let Some(hub) = hubs.into_iter().find(|hub| hub.node == module.hub) {
                    let _ = client.send(ClientOrder::Hub(hub)).await;
                }
            }
            _ => {}
        }
    }
}

fn count_refusals(all: &mut BTreeMap<String, u64>, some: &BTreeMap<Refusal, u64>) {
    for (refusal, count) in some {
        *all.entry(refusal.name().to_owned()).or_default() += count;
    }
}

/// Marks are messages like the others.
fn count_sync(counters: &mut Counters, sync: &SyncCounters) {
    counters.forged += sync.forged;
    counters.malformed += sync.malformed;
    counters.refused += sync.stale;
}

async fn ask<Order, View>(
    orders: &mpsc::Sender<Order>,
    order: impl FnOnce(oneshot::Sender<View>) -> Order,
) -> Option<View> {
    let (reply, answer) = oneshot::channel();
    orders.send(order(reply)).await.ok()?;
    answer.await.ok()
}
