//! The side of the control socket that the node holds: only its owner and root are heard.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
};

use super::{
    api::{Chaos, Failure, KeyBatch, Reply, Request},
    failure, frame,
    places::Places,
    stopping,
    watched::Watched,
};
use crate::{admin, client::ClientOrder, hub_actor::HubOrder, node::Shared};
use dske_protocol::hub::HubFault;

/// Connections at once; a further one takes the place of the one that has been silent longest.
const CONNECTIONS_MAX: usize = 128;

/// A listening control socket; its file goes when it does.
pub(crate) struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Binds the socket. The caller holds the store's lock, so a file in its place is a leftover.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // The directory is 0700 already; the mode here is the second bolt.
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves until dropped.
    pub(crate) async fn run(self, shared: Arc<Shared>) {
        let places = Places::new(CONNECTIONS_MAX);
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) if is_owner(&stream) => {
                    let Some(place) = places.take().await else { return };
                    let (shared, places) = (Arc::clone(&shared), places.clone());
                    tokio::spawn(async move {
                        if let Err(error) = serve(stream, &shared, &places).await {
                            tracing::debug!(%error, "a control connection ended");
                        }
                        drop(place);
                    });
                }
                Ok(_) => tracing::warn!("somebody else than the owner tried the control socket"),
                Err(error) => {
                    tracing::warn!(%error, "the control socket cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The directory may be gone already.
        let _ = fs::remove_file(&self.path);
    }
}

fn is_owner(stream: &UnixStream) -> bool {
    let owner = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == owner || peer.uid() == 0)
}

/// Serves one connection until it ends, or asks nothing while another one waits for its place. Whoever closes it is not
/// waited for, and gets no key.
pub(crate) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    shared: &Arc<Shared>,
    places: &Places,
) -> io::Result<()> {
    let mut stream = Watched::new(stream);
    loop {
        let mut silence = places.silent();
        let request = tokio::select! {
            request = frame::read(&mut stream, frame::REQUEST_BYTES_MAX) => request?,
            () = silence.told_to_go() => return Ok(()),
        };
        drop(silence);
        let Some(request) = request else { return Ok(()) };
        let reply = match request {
            Request::PskmMake { .. }
            | Request::PskmImport { .. }
            | Request::PskmAck { .. }
            | Request::PskmRetire { .. }
            | Request::EnrolAccept { .. }
            | Request::KeyList { .. } => with_progress(&mut stream, shared, request).await?,
            Request::Status => Reply::Status(Box::new(shared.status().await)),
            request => tokio::select! {
                // First, so that nothing is done for somebody who went away before it was heard.
                biased;
                () = stream.gone() => return Ok(()),
                reply = order(shared, request) => reply,
            },
        };
        frame::write(&mut stream, &reply).await?;
    }
}

/// Runs an administrative request on a blocking thread and sends its progress meanwhile. What has begun is done, and the node
/// told of it, also where the caller goes away.
async fn with_progress(
    stream: &mut (impl AsyncWrite + Unpin),
    shared: &Arc<Shared>,
    request: Request,
) -> io::Result<Reply> {
    let (tell, mut told) = mpsc::channel::<(u64, u64)>(4);
    let on_thread = Arc::clone(shared);
    let work = tokio::task::spawn_blocking(move || {
        let shared = &on_thread;
        // A listener that is behind misses some progress, never the end.
        let progress = move |done, total| {
            let _ = tell.try_send((done, total));
        };
        admin::execute(&shared.store, &shared.me, &shared.config, request, &progress)
    });
    let shared = Arc::clone(shared);
    let mut done = tokio::spawn(async move {
        let reply = work.await.unwrap_or_else(|_| Reply::Failed(stopping()));
        shared.admin_done(&reply).await;
        reply
    });
    loop {
        tokio::select! {
            Some((done, total)) = told.recv() => {
                frame::write(stream, &Reply::Progress { done, total }).await?;
            }
            reply = &mut done => return Ok(reply.unwrap_or_else(|_| Reply::Failed(stopping()))),
        }
    }
}

async fn order(shared: &Arc<Shared>, request: Request) -> Reply {
    let (reply, answer) = oneshot::channel();
    let order = match request {
        Request::KeyGet(get) => ClientOrder::Get(get, reply),
        Request::KeyFetch { id, wait_ms } => {
            ClientOrder::Fetch { id, wait: Duration::from_millis(wait_ms), reply }
        }
        Request::StreamNext { spec, count, wait_ms } => {
            let wait = Duration::from_millis(wait_ms);
            return batch(shared, |reply| ClientOrder::StreamNext { spec, count, wait, reply }).await;
        }
        Request::KeyFetchRun { first, count } => {
            return batch(shared, |reply| ClientOrder::FetchRun { first, count, reply }).await;
        }
        Request::StreamOpen(spec) => return done(shared, |reply| ClientOrder::StreamOpen(spec, reply)).await,
        Request::StreamClose(spec) => {
            return done(shared, |reply| ClientOrder::StreamClose(spec, reply)).await;
        }
        Request::Readmit { hub } => return done(shared, |reply| ClientOrder::Readmit(hub, reply)).await,
        Request::Chaos(chaos) => return misbehave(shared, chaos).await,
        _ => return Reply::Failed(failure("dske::control::request", 1, "not a request".into(), "")),
    };
    let Some(client) = &shared.client else { return not_a("client") };
    if client.send(order).await.is_err() {
        return Reply::Failed(stopping());
    }
    match answer.await {
        Ok(Ok(delivery)) => Reply::Key(delivery),
        Ok(Err(why)) => Reply::Failed(why),
        Err(_) => Reply::Failed(stopping()),
    }
}

/// Has the client do something that gives keys.
async fn batch(
    shared: &Arc<Shared>,
    order: impl FnOnce(oneshot::Sender<Result<KeyBatch, Failure>>) -> ClientOrder,
) -> Reply {
    match ask_client(shared, order).await {
        Ok(batch) => Reply::Batch(batch),
        Err(reply) => reply,
    }
}

/// Has the client do something that tells nothing.
async fn done(
    shared: &Arc<Shared>,
    order: impl FnOnce(oneshot::Sender<Result<(), Failure>>) -> ClientOrder,
) -> Reply {
    match ask_client(shared, order).await {
        Ok(()) => Reply::Done,
        Err(reply) => reply,
    }
}

async fn ask_client<T>(
    shared: &Arc<Shared>,
    order: impl FnOnce(oneshot::Sender<Result<T, Failure>>) -> ClientOrder,
) -> Result<T, Reply> {
    let Some(client) = &shared.client else { return Err(not_a("client")) };
    let (reply, answer) = oneshot::channel();
    if client.send(order(reply)).await.is_err() {
        return Err(Reply::Failed(stopping()));
    }
    match answer.await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(why)) => Err(Reply::Failed(why)),
        Err(_) => Err(Reply::Failed(stopping())),
    }
}

async fn misbehave(shared: &Arc<Shared>, chaos: Chaos) -> Reply {
    if !shared.dir.testnet_marker().is_file() {
        return Reply::Failed(failure(
            "dske::chaos::refused",
            1,
            "only a node that `dske testnet` made can be told to misbehave".into(),
            "use `dske testnet chaos` on a local test network",
        ));
    }
    let Some(hub) = &shared.hub else { return not_a("hub") };
    let fault = match chaos {
        Chaos::Off => HubFault::None,
        Chaos::FalseShares => HubFault::FalseShares,
    };
    tracing::warn!(?fault, "told to misbehave");
    match hub.send(HubOrder::Fault(fault)).await {
        Ok(()) => Reply::Done,
        Err(_) => Reply::Failed(stopping()),
    }
}

fn not_a(role: &str) -> Reply {
    Reply::Failed(failure("dske::node::role", 2, format!("this node is not a {role}"), "ask another node"))
}
