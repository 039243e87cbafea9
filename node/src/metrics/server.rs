//! The HTTP listener: `/metrics`, `/healthz`, `/readyz`, and nothing that changes anything.
//!
//! Whoever reaches it is a stranger. Connections, their time and the size of what they send are bounded; answers are made at
//! most once a second, whoever asks.

use std::{
    convert::Infallible,
    fmt::Write as _,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, Semaphore},
    time::timeout,
};

use super::{
    exposition::{self, Observed},
    health::Health,
};
use crate::node::Shared;

/// Connections at once; further ones wait. A monitoring system has one or two.
const CONNECTIONS_MAX: usize = 16;
/// A request's head is there by then, or the connection ends.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// Everything of a connection is over by then: one request, one answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of a request's head; hyper takes no smaller limit.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Header lines of a request.
const HEADERS_MAX: usize = 32;
/// An answer serves all who ask within this time.
const FRESH: Duration = Duration::from_secs(1);

/// The form that all versions of Prometheus read.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

/// A bound listener.
pub(crate) struct MetricsServer {
    listener: TcpListener,
    address: SocketAddr,
}

/// What was found at the last look.
struct Look {
    at: Instant,
    health: Health,
    metrics: Result<Bytes, String>,
}

/// The node, and the last look at it.
struct Watched {
    shared: Arc<Shared>,
    last: Mutex<Option<Arc<Look>>>,
}

impl MetricsServer {
    /// Binds the address.
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        if !address.ip().is_loopback() {
            tracing::warn!(%address, "whoever reaches the metrics sees who deals with whom, and how much");
        }
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until dropped.
    pub(crate) async fn run(self, shared: Arc<Shared>) {
        let watched = Arc::new(Watched { shared, last: Mutex::default() });
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let watched = Arc::clone(&watched);
                    tokio::spawn(async move {
                        // It ends early where the other side is slow, or says what is no request.
                        let _ = timeout(CONNECTION_TIMEOUT, serve(stream, watched)).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the metrics listener cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn serve(stream: TcpStream, watched: Arc<Watched>) -> Result<(), hyper::Error> {
    let service = service_fn(move |request: Request<Incoming>| {
        let watched = Arc::clone(&watched);
        async move { Ok::<_, Infallible>(watched.answer(request.method(), request.uri().path()).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

impl Watched {
    async fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".into());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/" => plain(StatusCode::OK, "dske: /metrics /healthz /readyz\n".into()),
            "/metrics" => match &self.look().await.metrics {
                Ok(text) => answer(StatusCode::OK, PROMETHEUS_TEXT, text.clone()),
                Err(reason) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{reason}\n")),
            },
            "/healthz" => {
                let look = self.look().await;
                judged(look.health.is_alive(), "alive", look.health.dead.iter().map(String::as_str))
            }
            "/readyz" => {
                let look = self.look().await;
                judged(look.health.is_ready(), "ready", look.health.reasons())
            }
            _ => plain(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n".into()),
        }
    }

    /// The last look, or a new one where that is too old. Who comes while one is taken gets that one.
    async fn look(&self) -> Arc<Look> {
        let mut last = self.last.lock().await;
        if let Some(look) = last.as_ref().filter(|look| look.at.elapsed() < FRESH) {
            return Arc::clone(look);
        }
        let look = Arc::new(self.look_now().await);
        *last = Some(Arc::clone(&look));
        look
    }

    async fn look_now(&self) -> Look {
        let health = Health::ask(&self.shared).await;
        let metrics = if health.is_alive() || self.shared.store.poison_cause().is_some() {
            let (status, measures) = self.shared.observe().await;
            let outbox = self.shared.store.outbox();
            let health = health.clone();
            let observed = Observed { status, health, measures, outbox, syncs: dske_storage::syncs() };
            exposition::text(&observed).map(Bytes::from).map_err(|error| error.to_string())
        } else {
            Err(health.dead.join("\n"))
        };
        Look { at: Instant::now(), health, metrics }
    }
}

fn judged<'a>(good: bool, word: &str, reasons: impl Iterator<Item = &'a str>) -> Response<Full<Bytes>> {
    if good {
        return plain(StatusCode::OK, format!("{word}\n"));
    }
    let mut text = format!("not {word}\n");
    for reason in reasons {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", reason.escape_debug());
    }
    plain(StatusCode::SERVICE_UNAVAILABLE, text)
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    answer(status, PLAIN_TEXT, Bytes::from(text))
}

fn answer(status: StatusCode, form: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(form));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
