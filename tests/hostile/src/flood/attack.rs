//! The kinds of floods, and the thread that carries them out.

use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use dske_protocol::{
    ids::NodeId,
    message::{KeyRequest, NO_KEY_TAG},
    params::burned_bytes,
};
use dske_storage::{Options, Store, TableSide, Use, Want};
use libp2p::{Multiaddr, PeerId, identity::Keypair};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tempfile::TempDir;
use tokio::{
    io::AsyncReadExt,
    net::{TcpSocket, TcpStream},
};

use super::{
    attacker::{Manner, Raw, Session},
    forge::{self, BATCH, Forged},
    net::{FloodError, Net},
};

/// Connections that never finish their handshake, to one node.
const RAW_CONNECTIONS: usize = 200;
/// Finished connections under fresh identities, to one node.
const FRESH_PEERS: usize = 40;
/// Requests at once on a connection.
const AT_ONCE: usize = 32;
/// Agreements that are opened with one request.
const OPENED_AT_ONCE: usize = 16;
/// Between two tries after a connection was refused or closed.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// A kind of flood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Strangers send bytes that are no requests, with lengths that lie.
    Garbage,
    /// Strangers send what only known peers may.
    Strangers,
    /// Strangers send a byte a second, half a request, or never read the answer.
    Slow,
    /// TCP connections that never finish the handshake.
    Raw,
    /// Finished connections under ever new identities.
    Peers,
    /// Announcements without end, of many authors, too long, under others' names.
    Gossip,
    /// Forged messages at line speed on a connection with an enrolled client's transport key.
    Forged,
    /// The same with genuine messages that were delivered before.
    Replay,
    /// An enrolled client, with its pads, opens ever new agreements with bob, through one hub alone.
    Opening,
}

impl Kind {
    /// All that need no pads.
    pub const ALL: [Self; 8] = [
        Self::Garbage,
        Self::Strangers,
        Self::Slow,
        Self::Raw,
        Self::Peers,
        Self::Gossip,
        Self::Forged,
        Self::Replay,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Garbage => "garbage",
            Self::Strangers => "strangers",
            Self::Slow => "slow",
            Self::Raw => "raw",
            Self::Peers => "peers",
            Self::Gossip => "gossip",
            Self::Forged => "forged",
            Self::Replay => "replay",
            Self::Opening => "opening",
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut kinds = Self::ALL.into_iter().chain([Self::Opening]);
        let names = kinds.clone().map(Self::name).collect::<Vec<_>>().join(", ");
        kinds.find(|kind| kind.name() == text).ok_or_else(|| format!("{text} is none of {names}"))
    }
}

/// A node to be flooded.
#[derive(Debug, Clone)]
struct Victim {
    peer: PeerId,
    port: u16,
    forged: Forged,
    /// Genuine messages of carol's that this hub has already.
    genuine: Vec<Vec<u8>>,
}

/// Whom to flood, and what the attacker has got hold of.
pub(super) struct Target {
    victims: Vec<Victim>,
    stolen: Keypair,
    opener: Option<Opener>,
}

/// What opens agreements: a copy of carol's store.
struct Opener {
    store: Store,
    _copy: TempDir,
}

impl Opener {
    /// Genuine requests of so many new agreements; fewer where no pad is left.
    fn requests(&self, rng: &mut StdRng, who: &Forged, count: usize) -> Vec<Vec<u8>> {
        (0..count).map_while(|_| genuine(&self.store, rng, who).ok()).collect()
    }
}

/// Whether a flood goes on, and how much has been sent.
#[derive(Debug, Clone)]
pub(super) struct Life {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
}

impl Life {
    pub(super) fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self, units: u64) {
        self.sent.fetch_add(units, Ordering::Relaxed);
    }
}

impl Target {
    /// All hubs of a network. The attacker has carol's transport key, knows her tables from the wire, and has
    /// messages of hers, each of which its hub has accepted.
    pub(super) fn of(net: &Net, kinds: &[Kind]) -> Result<Self, FloodError> {
        let carol = net.node("carol")?.clone();
        let status = net.status(&carol)?;
        let receiver = net.status(net.node("bob")?)?.node.id;
        let hubs: Vec<NodeId> = status.tables.iter().map(|table| table.peer).collect();
        let mut secret = fs::read(carol.dir.join("identity.key"))?;
        let stolen = Keypair::ed25519_from_bytes(&mut secret).map_err(FloodError::new)?;
        let mut victims = Vec::new();
        for hub in net.hubs() {
            let seen = net.status(hub)?;
            let table = status.tables.iter().find(|table| table.peer == seen.node.id);
            let table = table.ok_or_else(|| FloodError::new("carol has no table with a hub"))?;
            let forged = Forged {
                sender: status.node.id,
                receiver,
                hub: seen.node.id,
                hubs: hubs.clone(),
                table: table.table,
                lane_bytes: table.lanes[0].bytes,
            };
            let peer = seen.node.peer_id.parse().map_err(FloodError::new)?;
            victims.push(Victim { peer, port: hub.port, forged, genuine: Vec::new() });
        }
        let copy = net.copy_of(&carol)?;
        capture(copy.path(), &mut victims)?;
        let opener = if kinds.contains(&Kind::Opening) {
            let store = Store::open(copy.path(), Options::default()).map_err(FloodError::new)?;
            victims.iter().for_each(|victim| {
                store.open_table(&victim.forged.table);
            });
            Some(Opener { store, _copy: copy })
        } else {
            None
        };
        let target = Self { victims, stolen, opener };
        target.deliver_genuine()?;
        Ok(target)
    }

    /// Each genuine message arrives once, as it did when it was captured.
    fn deliver_genuine(&self) -> Result<(), FloodError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let deliver = async {
            for victim in &self.victims {
                let request = forge::batch(0, &victim.genuine);
                let mut session = self.open_stolen(victim).ok_or_else(|| FloodError::new("no connection"))?;
                session.next().await;
                session.send(Raw { bytes: request, manner: Manner::Plain });
                session.next().await;
            }
            Ok(())
        };
        runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(20), deliver).await })
            .map_err(|_| FloodError::new("the genuine messages were not taken"))?
    }

    fn open_stolen(&self, victim: &Victim) -> Option<Session> {
        Session::open(self.stolen.clone(), victim.peer, address(victim.port))
    }
}

/// Makes genuine messages of carol's from a copy of her store: what somebody who listens would have captured.
fn capture(copy: &Path, victims: &mut [Victim]) -> Result<(), FloodError> {
    let store = Store::open(copy, Options::default()).map_err(FloodError::new)?;
    let mut rng = StdRng::seed_from_u64(7);
    for victim in victims {
        store.open_table(&victim.forged.table);
        for _ in 0..BATCH {
            victim.genuine.push(genuine(&store, &mut rng, &victim.forged)?);
        }
    }
    store.close().map_err(FloodError::new)
}

/// A genuine request of a new agreement.
fn genuine(store: &Store, rng: &mut StdRng, who: &Forged) -> Result<Vec<u8>, FloodError> {
    let bytes = burned_bytes(forge::KEY_BYTES.into(), 1);
    let want = Want { peer: who.hub, side: TableSide::Client, bytes, usage: Use::Key };
    let minted = dske_storage::wait(store.mint(vec![want]));
    let minted = minted.ok_or_else(|| FloodError::new("the copy does not answer"))?;
    let minted = minted.map_err(FloodError::new)?.pop().ok_or_else(|| FloodError::new("no pad"))?;
    let agreement = forge::agreement(rng, who);
    let body = KeyRequest { range: minted.range, agreement, key_tags: vec![NO_KEY_TAG], share: None };
    let (_, key) = minted.pad.split().ok_or_else(|| FloodError::new("a pad without a tag key"))?;
    dske_protocol::message::seal(&body, key).map_err(FloodError::new)
}

fn address(port: u16) -> Multiaddr {
    Multiaddr::from(std::net::Ipv4Addr::LOCALHOST).with(libp2p::multiaddr::Protocol::Tcp(port))
}

/// Floods of these kinds that have not begun.
pub(super) fn lives(kinds: &[Kind], stop: &Arc<AtomicBool>) -> Vec<(Kind, Life)> {
    let life = || Life { stop: Arc::clone(stop), sent: Arc::default() };
    kinds.iter().map(|&kind| (kind, life())).collect()
}

/// How much was sent of each kind so far.
pub(super) fn sent(lives: &[(Kind, Life)]) -> BTreeMap<&'static str, u64> {
    lives.iter().map(|(kind, life)| (kind.name(), life.sent.load(Ordering::Relaxed))).collect()
}

/// Floods until told to stop.
pub(super) fn run(target: &Target, lives: &[(Kind, Life)]) {
    // The lowest priority: see the head of `flood`. Where that is refused, the nodes have it harder.
    let _ = rustix::process::nice(19);
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        let floods = lives.iter().flat_map(|(kind, life)| {
            target
                .victims
                .iter()
                .enumerate()
                .map(move |(number, victim)| flood(target, victim, *kind, life, number))
        });
        futures::future::join_all(floods).await;
    });
}

async fn flood(target: &Target, victim: &Victim, kind: Kind, life: &Life, number: usize) {
    let mut rng = StdRng::seed_from_u64(number as u64);
    match kind {
        Kind::Raw => return raw_connections(victim, life).await,
        Kind::Peers => return fresh_peers(victim, life).await,
        Kind::Gossip => return gossip(victim, life, &mut rng).await,
        // Through one hub alone.
        Kind::Opening if number > 0 => return,
        _ => {}
    }
    while life.goes_on() {
        let session = match kind {
            Kind::Forged | Kind::Replay | Kind::Opening => target.open_stolen(victim),
            _ => Session::open(Keypair::generate_ed25519(), victim.peer, address(victim.port)),
        };
        if let Some(session) = session {
            let make = || {
                let bytes = match kind {
                    Kind::Garbage => forge::garbage(&mut rng),
                    Kind::Replay => forge::batch(0, &victim.genuine),
                    Kind::Opening => {
                        let opener = target.opener.as_ref();
                        let requests =
                            opener.map(|opener| opener.requests(&mut rng, &victim.forged, OPENED_AT_ONCE));
                        forge::batch(0, &requests.unwrap_or_default())
                    }
                    Kind::Forged => {
                        let messages: Vec<_> =
                            (0..BATCH).map(|_| forge::key_request(&mut rng, &victim.forged)).collect();
                        forge::batch(0, &messages)
                    }
                    _ => forge::stranger(&mut rng, &victim.forged),
                };
                let manner = match kind {
                    Kind::Slow => match rng.next_u64() % 3 {
                        0 => Manner::Slowly,
                        1 => Manner::Half,
                        _ => Manner::Unread,
                    },
                    _ => Manner::Plain,
                };
                Raw { bytes, manner }
            };
            session.hold(life, AT_ONCE, make).await;
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Connections from many addresses that say nothing; each is opened again when it was closed.
async fn raw_connections(victim: &Victim, life: &Life) {
    let connect = |number: usize| async move {
        while life.goes_on() {
            if let Ok(mut stream) = raw(victim.port, number).await {
                life.count(1);
                let mut byte = [0; 64];
                while life.goes_on() {
                    let read = tokio::time::timeout(Duration::from_millis(500), stream.read(&mut byte)).await;
                    if !matches!(read, Err(_) | Ok(Ok(1..))) {
                        break;
                    }
                }
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    };
    futures::future::join_all((0..RAW_CONNECTIONS).map(connect)).await;
}

/// All of 127/8 is this machine: it stands for many addresses.
async fn raw(port: u16, number: usize) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let host = u8::try_from(number % 100 + 2).unwrap_or(2);
    socket.bind((std::net::Ipv4Addr::new(127, 0, 0, host), 0).into())?;
    socket.connect((std::net::Ipv4Addr::LOCALHOST, port).into()).await
}

async fn fresh_peers(victim: &Victim, life: &Life) {
    let connect = |_| async {
        while life.goes_on() {
            let session = Session::open(Keypair::generate_ed25519(), victim.peer, address(victim.port));
            if let Some(session) = session {
                life.count(1);
                session.hold(life, 0, || Raw { bytes: Vec::new(), manner: Manner::Plain }).await;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    };
    futures::future::join_all((0..FRESH_PEERS).map(connect)).await;
}

/// A new author every few dozen announcements.
async fn gossip(victim: &Victim, life: &Life, rng: &mut StdRng) {
    while life.goes_on() {
        let identity = Keypair::generate_ed25519();
        let Some(author) = identity.public().try_into_ed25519().ok().map(|key| NodeId::new(key.to_bytes()))
        else {
            return;
        };
        let Some(mut session) = Session::open(identity, victim.peer, address(victim.port)) else { return };
        for sequence in 0..50u64 {
            let happened = tokio::time::timeout(Duration::from_millis(5), session.next()).await;
            if !life.goes_on() || matches!(happened, Ok(super::attacker::Happened::Gone)) {
                break;
            }
            let huge = rng.next_u64().is_multiple_of(8);
            let of_another = rng.next_u64().is_multiple_of(8);
            let author = if of_another { victim.forged.receiver } else { author };
            if session.publish(forge::announcement(&author, "bob", u64::MAX / 2 + sequence, huge)) {
                life.count(1);
            }
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}
