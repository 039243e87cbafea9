//! Makes the data directories of a testnet: identities, enrolments, and a real module for each hub and
//! client, made, imported and acknowledged as operators would. Two pairs at a time.

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use dske_node::{
    DataDir, Me, NodeError, admin,
    config::{Config, Role, Text},
    control::{Reply, Request, Seal},
    enrol::EnrolmentRequest,
};
use dske_protocol::{ids::Name, quota::DefaultQuota};
use dske_storage::{Consent, Options, Store, files};

use crate::{
    cli::{
        error::{CliError, Result},
        interrupt::Interrupt,
        seal, units,
    },
    testnet::{Descriptor, NodeEntry, Pads, Plan, ports::Ports},
};

/// Pairs worked on at once: making a module is bound by the system's random bytes, one core each.
const WORKERS: usize = 2;

/// A node whose store is open.
struct Provisioned {
    dir: DataDir,
    config: Config,
    me: Me,
    store: Store,
}

/// Makes everything of a testnet but its processes; beside it, the ports that are to be held until these listen. What it
/// has made when it fails is the caller's to remove.
pub(crate) fn provision(plan: &Plan, interrupt: &Interrupt) -> Result<(Descriptor, Ports)> {
    // The path must not change from here on: the descriptor and the processes carry it.
    let root = fs::canonicalize(&plan.root).map_err(|error| CliError::file("use", &plan.root, error))?;
    let mut net = Descriptor::new(plan.name.clone(), root, plan.k, plan.pads.table_bytes());
    let nodes = plan.nodes();
    let ports = plan.ports()?;
    let numbers: Vec<u16> = ports.iter().collect();
    let mut metrics = numbers.iter().skip(nodes.len()).copied();
    let mut open = BTreeMap::new();
    for ((name, roles), &port) in nodes.into_iter().zip(&numbers) {
        interrupt.check()?;
        let (entry, node) = make_node(&net, plan, name, roles, (port, metrics.next()))?;
        open.insert(entry.name.clone(), node);
        net.nodes.push(entry);
    }
    modules(&net, plan.pads, &open, interrupt)?;
    for node in open.values() {
        node.store.close().map_err(NodeError::from)?;
        let marker = node.dir.testnet_marker();
        files::write(&marker, plan.name.as_str().as_bytes())
            .map_err(|error| CliError::file("write", &marker, error))?;
    }
    Ok((net, ports))
}

fn make_node(
    net: &Descriptor,
    plan: &Plan,
    name: Name,
    roles: Vec<Role>,
    (port, metrics): (u16, Option<u16>),
) -> Result<(NodeEntry, Provisioned)> {
    let dir = DataDir::new(net.root.join(name.as_str()));
    let mut config = Config::new(name.clone(), roles.iter().copied());
    let listen = format!("/ip4/127.0.0.1/tcp/{port}");
    config.network.listen =
        vec![listen.parse().map_err(|error| CliError::usage(format!("{listen}: {error}")))?];
    config.metrics.listen = metrics.map(|port| (Ipv4Addr::LOCALHOST, port).into());
    config.policy.k = plan.k;
    config.policy.k_min = plan.k;
    if roles.contains(&Role::Hub) {
        // Whoever tries what a network bears is not to be held to a tenth of the pads in a day.
        config.policy.max_peer_use_default = Some(Text(DefaultQuota::None));
    }
    if let Some(deadline) = plan.deadline {
        config.policy.deadline_ms = units::millis(deadline);
    }
    dske_node::init(&dir, &config)?;
    let me = dske_node::identity(&dir)?;
    let store = Store::open(&dir.store(), Options::default()).map_err(NodeError::from)?;
    let log = net.root.join(format!("{name}.log"));
    let path = dir.path().to_owned();
    let entry =
        NodeEntry { name, roles, dir: path, log, port, metrics, peer_id: me.peer_id.clone(), pid: None };
    Ok((entry, Provisioned { dir, config, me, store }))
}

/// Works through all pairs of hub and client.
fn modules(
    net: &Descriptor,
    pads: Pads,
    open: &BTreeMap<Name, Provisioned>,
    interrupt: &Interrupt,
) -> Result<()> {
    let first = net.with_role(Role::Client).next().map(|client| &client.name);
    let all = || open.values();
    let hubs = || all().filter(|node| node.config.node.roles.contains(&Role::Hub));
    let clients = || all().filter(|node| node.config.node.roles.contains(&Role::Client));
    let pairs = clients().flat_map(|client| hubs().map(move |hub| (hub, client)));
    // A node is no client of its own.
    let pairs = Mutex::new(pairs.filter(|(hub, client)| hub.me != client.me));
    let failed = AtomicBool::new(false);
    let work = || -> Result<()> {
        loop {
            if failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            interrupt.check()?;
            let next = pairs.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((hub, client)) = next else { return Ok(()) };
            let is_first = first == Some(&client.config.node.name);
            module(net, hub, client, pads.lane_bytes(is_first))?;
        }
    };
    let work = || work().inspect_err(|_| failed.store(true, Ordering::Relaxed));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or_else(|_| Err(CliError::new("dske::testnet", 1, "making the modules failed")))
        })
    })
}

/// One module from hub to client, and its receipt back.
fn module(net: &Descriptor, hub: &Provisioned, client: &Provisioned, lane_bytes: [u64; 2]) -> Result<()> {
    let file = ModuleFile::new(net, hub, client)?;
    let request = EnrolmentRequest::new(&client.dir, &client.config)?;
    let seal = || Seal::KeyFile(file.key.clone());
    hub.ask(Request::EnrolAccept { request, consent: Consent::default() })?;
    hub.ask(Request::PskmMake {
        client: client.me.node.into(),
        lane_bytes,
        out: file.module.clone(),
        seal: seal(),
    })?;
    let import = Request::PskmImport { path: file.module.clone(), seal: seal(), wipe: false };
    let Reply::Imported { module, receipt, .. } = client.ask(import)? else {
        return Err(CliError::strange_reply());
    };
    hub.ask(Request::PskmAck { serial: module.serial, receipt })?;
    Ok(())
}

impl Provisioned {
    fn ask(&self, request: Request) -> Result<Reply> {
        match admin::execute(&self.store, &self.me, &self.config, request, &|_, _| ()) {
            Reply::Failed(failure) => Err(failure.into()),
            reply => Ok(reply),
        }
    }
}

/// A module and its key on their way, removed afterwards.
struct ModuleFile {
    module: PathBuf,
    key: PathBuf,
}

impl ModuleFile {
    fn new(net: &Descriptor, hub: &Provisioned, client: &Provisioned) -> Result<Self> {
        let base = format!("{}-{}", hub.config.node.name, client.config.node.name);
        let place = |extension| net.root.join(format!("{base}.{extension}"));
        let file = Self { module: place("pskm"), key: place("key") };
        seal::generate(&file.key)?;
        Ok(file)
    }
}

impl Drop for ModuleFile {
    fn drop(&mut self) {
        // They lie in the testnet's directory and go with it, should removing them fail now.
        let _ = fs::remove_file(&self.module);
        let _ = fs::remove_file(&self.key);
    }
}
