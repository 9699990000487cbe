//! The API and the metrics over HTTP: `GET` only, nothing to change. The bounds of the listener are
//! named here, those of a request in [`guard`], those of an answer's length in [`values`].
//!
//! With a web configuration over HTTPS, and to those who have a password or a certificate.

mod api;
mod auth;
mod guard;
mod page;
pub(crate) mod parameters;
mod problem;
mod tls;
pub(crate) mod values;
mod web;

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State as Extension,
    http::{HeaderMap, HeaderValue, header},
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use sensor_common::report::ErrorCode;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use self::{
    parameters::{Nothing, Parameters},
    problem::{Problem, Problems},
};
pub use self::{
    tls::TlsError,
    web::{Settings, Web, WebError},
};
use super::metrics::{Format, Metrics};
use crate::state::Shared;

/// Connections served at once; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 32;
/// Answers rendered at once, so that readers never keep the epoch thread from a CPU.
const MAX_RENDERING: usize = 1;
/// Answers that clients have not read yet, together, in KiB. One that is larger still goes out, alone.
const MAX_UNREAD: u32 = 256 * 1024;
/// In bytes. Smaller answers go out whatever others read: the connections are their bound.
const SMALL_ANSWER: usize = 1 << 20;
/// For a request's head to arrive, also on an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// For the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the files of the web configuration are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Largest request head, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// After this a connection gets no further request.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);
/// And after this it is closed, answered in full or not.
const CONNECTION_GRACE: Duration = Duration::from_secs(30);
/// For open answers to finish when the sensor stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// For whoever speaks HTTP to the HTTPS port.
const NOT_HTTPS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\n\
                           connection: close\r\n\r\nthis port speaks HTTPS: use https://\n";

/// The listen address cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program listens there.
    #[error("{0} is in use by another program; stop it, or set another `listen` address")]
    InUse(SocketAddr),
    /// Anything else.
    #[error("cannot listen on {0}: {1}; set another `listen` address")]
    Other(SocketAddr, #[source] std::io::Error),
}

/// Takes the listen address, before anything is attached.
///
/// # Errors
///
/// One sentence that says what to do.
pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    let listener = TcpListener::bind(address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => BindError::InUse(address),
        _ => BindError::Other(address, error),
    })?;
    listener.set_nonblocking(true).map_err(|error| BindError::Other(address, error))?;
    Ok(listener)
}

/// What the handlers need.
#[derive(Debug, Clone)]
pub struct App {
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    rendering: Arc<Semaphore>,
    unread: Arc<Semaphore>,
}

impl App {
    /// The API over a state, and its metrics.
    pub fn new(shared: Arc<Shared>) -> Self {
        let metrics = Arc::new(Metrics::new(Arc::clone(&shared)));
        Self {
            shared,
            metrics,
            rendering: Arc::new(Semaphore::new(MAX_RENDERING)),
            unread: Arc::new(Semaphore::new(MAX_UNREAD as usize)),
        }
    }

    fn router(self, web: Arc<Web>) -> Router {
        Router::new()
            .route("/", get(page::index))
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(serve_metrics))
            .merge(api::routes())
            .fallback(async || Problem::new(ErrorCode::NotFound, "no such page; / lists them"))
            .method_not_allowed_fallback(async || {
                Problem::new(ErrorCode::MethodNotAllowed, "only GET and HEAD are allowed")
            })
            .layer(from_fn(guard::guard))
            .layer(from_fn_with_state(web, web::guard))
            .with_state(self)
    }

    /// Runs what takes more than a moment off the async threads.
    async fn render(
        &self,
        work: impl FnOnce(&Self) -> Result<Response, Problem> + Send + 'static,
    ) -> Response {
        let Ok(permit) = Arc::clone(&self.rendering).acquire_owned().await else {
            return Problem::new(ErrorCode::Stopping, "the sensor is stopping").into_response();
        };
        let app = self.clone();
        let rendered = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&app)
        });
        match rendered.await {
            Ok(answer) => answer.into_response(),
            Err(panic) => Problem::new(ErrorCode::Internal, panic.to_string()).into_response(),
        }
    }

    /// An answer that counts as unread until its client has it, or is gone.
    fn answer(&self, content_type: &'static str, text: Vec<u8>) -> Result<Response, Problem> {
        let size = match text.len() {
            0..SMALL_ANSWER => 0,
            length => u32::try_from(length / 1024).unwrap_or(MAX_UNREAD).min(MAX_UNREAD),
        };
        let permit = Arc::clone(&self.unread).try_acquire_many_owned(size).map_err(|_busy| {
            let message = "other clients still read large answers; try again, or ask for less";
            Problem::new(ErrorCode::Busy, message)
        })?;
        let body = Body::from(Bytes::from_owner(Unread { text, _permit: permit }));
        Ok(([(header::CONTENT_TYPE, content_type)], body).into_response())
    }
}

/// The bytes of an answer; they give their room back when they are dropped.
struct Unread {
    text: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Unread {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

/// Serves until `stop` says true or its sender is gone, then lets open answers finish.
///
/// # Errors
///
/// If the listener cannot be used by the runtime.
pub async fn serve(
    listener: TcpListener,
    app: App,
    web: Arc<Web>,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let refresher = tokio::spawn(refresh(Arc::clone(&web), Arc::clone(&app.shared)));
    let router = app.router(Arc::clone(&web));
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let stopping = stop.clone();
    loop {
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        tokio::select! {
            () = stopped(&mut stop) => break,
            // Reaps what has ended.
            Some(_) = connections.join_next() => {}
            (slot, stream) = accepted => match stream {
                Ok((stream, _)) => {
                    let (router, stopping) = (router.clone(), stopping.clone());
                    let tls = web.tls();
                    connections.spawn(async move {
                        let _slot = slot;
                        match tls {
                            None => connection(stream, router, stopping).await,
                            Some(tls) => match handshake(stream, tls, stopping.clone()).await {
                                Ok(stream) => connection(stream, router, stopping).await,
                                Err(error) => {
                                    tracing::debug!(%error, "no TLS handshake");
                                }
                            },
                        }
                    });
                }
                Err(error) => {
                    // Mostly out of file descriptors, which does not get better at once.
                    tracing::warn!(%error, "cannot accept an HTTP connection");
                    sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    refresher.abort();
    let drained =
        timeout(SHUTDOWN_GRACE, async { while connections.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::debug!(open = connections.len(), "closed HTTP connections with open answers");
    }
    Ok(())
}

/// Serves one connection as [`serve`] does those that it accepts, whatever carries it; without TLS.
pub async fn serve_stream(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    app: App,
    web: Arc<Web>,
    stop: watch::Receiver<bool>,
) {
    connection(stream, app.router(web), stop).await;
}

/// Waits until `stop` says true or its sender is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    stop.wait_for(|stop| *stop).await.ok();
}

/// Looks at the files of the web configuration, for as long as it is let.
async fn refresh(web: Arc<Web>, shared: Arc<Shared>) {
    loop {
        sleep(LOOK).await;
        let (web, shared) = (Arc::clone(&web), Arc::clone(&shared));
        // A panic has been reported by then.
        let _panicked = tokio::task::spawn_blocking(move || web.refresh(&shared)).await;
    }
}

/// Begins TLS. Who speaks HTTP instead is told so, as no browser or curl would say it.
async fn handshake(
    mut stream: TcpStream,
    tls: Arc<rustls::ServerConfig>,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let shaken = async {
        let mut first = [0];
        stream.peek(&mut first).await?;
        // A TLS record begins with its type, which is 22 here (RFC 8446, 5.1).
        if first[0].is_ascii_alphabetic() {
            // What is unread when a connection is closed resets it, and the answer would be lost.
            let _unread = stream.read(&mut [0; 4096]).await?;
            stream.write_all(NOT_HTTPS).await?;
            stream.shutdown().await?;
            return Err(std::io::Error::other("plain HTTP"));
        }
        TlsAcceptor::from(tls).accept(stream).await
    };
    tokio::select! {
        shaken = timeout(HANDSHAKE_TIMEOUT, shaken) => shaken?,
        () = stopped(&mut stop) => Err(std::io::Error::other("the sensor is stopping")),
    }
}

/// A slow client holds one connection, and not for long.
async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = sleep(CONNECTION_LIFETIME) => None,
        () = stopped(&mut stop) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            timeout(CONNECTION_GRACE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection broke");
    }
}

/// Whether the process answers.
#[utoipa::path(get, path = "/healthz",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain"), Problems))]
async fn healthz(_: Parameters<Nothing>) -> &'static str {
    "ok\n"
}

/// Whether epochs come in as they should.
#[utoipa::path(get, path = "/readyz",
    responses((status = 200, description = "They do", body = String, content_type = "text/plain"), Problems))]
async fn readyz(Extension(app): Extension<App>, _: Parameters<Nothing>) -> Response {
    match app.shared.ready(Instant::now()) {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => Problem::new(ErrorCode::NotReady, reason.to_string()).into_response(),
    }
}

/// The state as Prometheus metrics.
#[utoipa::path(get, path = "/metrics",
    responses((status = 200, description = "Text format 0.0.4, or OpenMetrics 1.0 where `Accept` prefers it",
        body = String, content_type = "text/plain"), Problems))]
async fn serve_metrics(
    Extension(app): Extension<App>,
    _: Parameters<Nothing>,
    headers: HeaderMap,
) -> Response {
    let accept =
        headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    let format = Format::negotiate(&accept.collect::<Vec<_>>().join(","));
    app.render(move |app| {
        let mut answer = app.answer(format.content_type(), app.metrics.render(format).into())?;
        answer.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
        Ok(answer)
    })
    .await
}

#[cfg(test)]
mod tests;
