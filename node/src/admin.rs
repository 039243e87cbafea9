//! What an operator does to a node's store: enrolment and modules. The same whether the node runs (then
//! over the control socket) or not.

use std::path::Path;

use dske_protocol::naming::NodeRef;
use dske_storage::{
    ClientRecord, Consent, EnrolError, Enrolled, ModuleRecord, ModuleState, Store, Transaction,
    pskm::{self, HubContact, ImportOptions, MakeModule, ModuleError, ModuleKey, SystemEntropy},
};
use libp2p::Multiaddr;
use zeroize::Zeroizing;

use crate::{
    Me,
    clock::now_ms,
    config::{Config, Role},
    control::{Enrolment, Failure, Reply, Request, Seal, failure, stopping, store_failure},
    enrol::EnrolmentRequest,
};

/// Most blocks listed at once: a reply must fit its frame.
const LIST_MAX: u32 = 10_000;

/// Progress of a long piece of work: bytes done and in all.
pub type Progress<'a> = dyn Fn(u64, u64) + Sync + 'a;

/// Carries out an administrative request. Blocks; `progress` hears of long work.
pub fn execute(store: &Store, me: &Me, config: &Config, request: Request, progress: &Progress<'_>) -> Reply {
    let result = match request {
        Request::EnrolAccept { request, consent } => {
            accept(store, me, config, &request, consent).map(|enrolled| Reply::Enrolled(Box::new(enrolled)))
        }
        Request::PskmMake { client, lane_bytes, out, seal } => {
            make(store, me, config, &client, lane_bytes, &out, &seal, progress)
        }
        Request::PskmImport { path, seal, wipe } => import(store, me, config, &path, &seal, wipe, progress),
        Request::PskmAck { serial, receipt } => pskm::acknowledge(store, &serial, &receipt, now_ms())
            .map(Reply::Module)
            .map_err(|e| module_failure(&e)),
        Request::PskmRetire { serial } => retire(store, &serial).map(Reply::Module),
        Request::KeyList { limit } => {
            let limit = usize::try_from(limit.min(LIST_MAX)).unwrap_or(usize::MAX);
            store.blocks(limit).map(Reply::Keys).map_err(|error| store_failure(&error))
        }
        Request::Status
        | Request::KeyGet(_)
        | Request::KeyFetch { .. }
        | Request::KeyFetchRun { .. }
        | Request::StreamOpen(_)
        | Request::StreamClose(_)
        | Request::StreamNext { .. }
        | Request::Readmit { .. }
        | Request::Chaos(_) => Err(failure(
            "dske::node::unreachable",
            3,
            "no node is running in this directory".into(),
            "start it with `dske run`",
        )),
    };
    result.unwrap_or_else(Reply::Failed)
}

fn require(config: &Config, role: Role) -> Result<(), Failure> {
    if config.node.roles.contains(&role) {
        return Ok(());
    }
    Err(failure(
        "dske::node::role",
        2,
        format!("this node is not a {role}"),
        "use the directory of another node",
    ))
}

/// Takes a client on. What it costs does not depend on how many there are.
fn accept(
    store: &Store,
    me: &Me,
    config: &Config,
    request: &EnrolmentRequest,
    consent: Consent,
) -> Result<Enrolment, Failure> {
    require(config, Role::Hub)?;
    if request.node == me.node {
        return Err(failure(
            "dske::enrol::self",
            1,
            format!("this is the request of {} itself: a node is no hub of its own", config.node.name),
            "take the request to the operators of other hubs",
        ));
    }
    let again = "have the client make a new request, and compare the words";
    let refuse = |message: String| failure("dske::enrol::refused", 1, message, again);
    let applicant = request.applicant().map_err(|why| refuse(why.to_owned()))?;
    match store.enrol(applicant, consent, now_ms()) {
        Ok(Enrolled { client, before, replaced }) => Ok(Enrolment { client, before, replaced }),
        Err(error @ EnrolError::NotSigned) => Err(refuse(error.to_string())),
        Err(error @ EnrolError::KnownAs { .. }) => Err(failure(
            "dske::enrol::name",
            1,
            error.to_string(),
            "if that is wanted, and its other hubs know it too, say --rename",
        )),
        Err(error @ EnrolError::NameTaken { .. }) => Err(failure(
            "dske::enrol::name",
            1,
            error.to_string(),
            "have one of the two choose another name; if the client lost its key, say --replace: the old key is then not served any more",
        )),
        Err(EnrolError::Store(error)) => Err(store_failure(&error)),
    }
}

/// The client that is meant, by its name, its id or both.
fn client_of(store: &Store, meant: &NodeRef) -> Result<ClientRecord, Failure> {
    let client = match meant {
        NodeRef::Id(node) => store.client(node),
        NodeRef::Name(name) | NodeRef::Told(name, _) => store.client_named(name),
    };
    let client = client.map_err(|error| store_failure(&error))?;
    client.filter(|client| client.enabled && meant.fits(&client.node, &client.name)).ok_or_else(|| {
        failure(
            "dske::enrol::unknown",
            1,
            format!("no client {meant} is enrolled here"),
            "take it on first: `dske enrol accept FILE`",
        )
    })
}

#[allow(clippy::too_many_arguments, reason = "the fields of one request")]
fn make(
    store: &Store,
    me: &Me,
    config: &Config,
    client: &NodeRef,
    lane_bytes: [u64; 2],
    out: &Path,
    seal: &Seal,
    progress: &Progress<'_>,
) -> Result<Reply, Failure> {
    require(config, Role::Hub)?;
    let client = client_of(store, client)?;
    let announced =
        if config.network.announce.is_empty() { &config.network.listen } else { &config.network.announce };
    let addresses =
        announced.iter().filter(|address| is_specific(address)).map(ToString::to_string).collect();
    let request = MakeModule {
        client: &client,
        hub: HubContact { node: me.node, name: config.node.name.clone(), addresses },
        lane_bytes,
        out,
        key: &module_key(seal)?,
        now_ms: now_ms(),
    };
    pskm::make(store, &request, &mut SystemEntropy, progress)
        .map(Reply::Module)
        .map_err(|e| module_failure(&e))
}

/// Whether others can call the address: not a wildcard, not an unchosen port.
fn is_specific(address: &Multiaddr) -> bool {
    use libp2p::multiaddr::Protocol;
    address.iter().all(|part| match part {
        Protocol::Ip4(ip) => !ip.is_unspecified(),
        Protocol::Ip6(ip) => !ip.is_unspecified(),
        Protocol::Tcp(port) => port != 0,
        _ => true,
    })
}

fn import(
    store: &Store,
    me: &Me,
    config: &Config,
    path: &Path,
    seal: &Seal,
    wipe: bool,
    progress: &Progress<'_>,
) -> Result<Reply, Failure> {
    require(config, Role::Client)?;
    let options = ImportOptions { me: me.node, wipe, now_ms: now_ms() };
    let imported = pskm::import(store, path, &module_key(seal)?, options, progress);
    imported
        .map(|imported| Reply::Imported {
            module: imported.module,
            receipt: imported.receipt.to_string(),
            wipe_problem: imported.wipe_problem,
        })
        .map_err(|e| module_failure(&e))
}

/// Takes a table out of use for good, at this end; the pads that are left are destroyed when this returns.
fn retire(store: &Store, serial: &str) -> Result<ModuleRecord, Failure> {
    let modules = store.modules().map_err(|error| store_failure(&error))?;
    // Two hubs of one name may give out the same serial; a table's id is unique.
    let meant = |module: &ModuleRecord| module.serial == serial || module.table.to_string() == serial;
    let mut meant: Vec<ModuleRecord> = modules.into_iter().filter(meant).collect();
    if meant.len() > 1 {
        let tables: Vec<_> = meant.iter().map(|module| module.table.to_string()).collect();
        return Err(failure(
            "dske::pskm::ambiguous",
            2,
            format!("{} modules are called {serial}", meant.len()),
            &format!("give the table's id instead: {}", tables.join(" or ")),
        ));
    }
    let Some(module) = meant.pop() else {
        return Err(failure(
            "dske::pskm::unknown",
            1,
            format!("no module {serial:?} was made or imported here"),
            "see `dske pskm ls` for the serials",
        ));
    };
    let module = ModuleRecord { state: ModuleState::Retired, changed_ms: now_ms(), ..module };
    let transaction =
        Transaction { retire: vec![module.table], modules: vec![module.clone()], ..Transaction::default() };
    commit(store, transaction)?;
    store.destroy_retired(&module.table).map_err(|error| {
        failure(
            "dske::pskm::remains",
            1,
            format!("{serial} is retired, but pads of it are still on the disk: {error}"),
            "they are of no use to this node; put the disk right and retire it once more, or restart the node",
        )
    })?;
    Ok(module)
}

fn module_key(seal: &Seal) -> Result<ModuleKey, Failure> {
    match seal {
        Seal::Passphrase(passphrase) => ModuleKey::from_passphrase(Zeroizing::new(passphrase.0.clone())),
        Seal::KeyFile(path) => ModuleKey::from_key_file(path),
    }
    .map_err(|e| module_failure(&e))
}

fn module_failure(error: &ModuleError) -> Failure {
    failure("dske::pskm", 1, error.to_string(), "")
}

fn commit(store: &Store, transaction: Transaction) -> Result<(), Failure> {
    match dske_storage::wait(store.commit(transaction)) {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) => Err(store_failure(&error)),
        None => Err(stopping()),
    }
}
