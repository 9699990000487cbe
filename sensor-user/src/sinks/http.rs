//! The API and the metrics over HTTP: `GET` only, nothing to change. The bounds of the listener are
//! named here, those of a request in [`guard`], those of an answer's length in [`values`].
//!
//! With a web configuration over HTTPS, and to those who have a password or a certificate.

mod api;
mod auth;
mod connections;
mod guard;
mod hosts;
mod page;
pub(crate) mod parameters;
mod problem;
mod queue;
mod tls;
mod turns;
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
    http::{HeaderMap, header},
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::{
    server::conn::http1,
    service::{Service as _, service_fn},
};
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
    connections::{Connection, Connections, Ends, Observed, Peer, Place},
    parameters::{Nothing, Parameters},
    problem::{Problem, Problems},
    queue::{Queue, Scrapes},
};
pub use self::{
    hosts::Names,
    tls::TlsError,
    web::{Settings, Web, WebError},
};
use super::{
    ledger::Patience,
    metrics::{Format, Metrics},
};
use crate::state::Shared;

/// Requests of the API that wait while one is answered: one at a time, so that readers never keep the epoch thread from
/// a CPU. What takes long has ways of its own: scrapes, questions to the ledger, passwords.
const MAX_WAITING: usize = 12;
/// Scrapes that wait for a rendering.
const MAX_SCRAPES: usize = 16;
/// Questions to the ledger that wait while one is answered.
const MAX_QUESTIONS: usize = 4;
/// For an answer from the ledger.
const QUESTION_TIME: Duration = Duration::from_secs(20);
/// For the turn, of a request or a question.
const PATIENCE: Duration = Duration::from_secs(10);
/// So there is always a connection that waits for its client, and whose place the next one can have.
const _: () = assert!(
    MAX_WAITING + MAX_QUESTIONS + 2 + MAX_SCRAPES + turns::MAX_WAITING + 1
        < connections::MAX_CONNECTIONS
);
/// Answers that clients have not read yet, together, in KiB. One that is larger still goes out, alone. The scrapes have
/// as much again for themselves.
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
/// A client that takes nothing of its answer for so long does not get the rest.
const SILENCE: Duration = Duration::from_secs(5);
/// For a place among the connections, where requests are worked on at all of them for a moment.
const NO_PLACE: Duration = Duration::from_millis(500);
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
    requests: Arc<Queue>,
    questions: Arc<Queue>,
    scrapes: Arc<Scrapes>,
    unread: Arc<Semaphore>,
    unread_scrapes: Arc<Semaphore>,
}

impl App {
    /// The API over a state, and its metrics.
    pub fn new(shared: Arc<Shared>) -> Self {
        let metrics = Arc::new(Metrics::new(Arc::clone(&shared)));
        let unread = || Arc::new(Semaphore::new(MAX_UNREAD as usize));
        Self {
            shared,
            metrics,
            requests: Arc::new(Queue::new(MAX_WAITING, PATIENCE)),
            questions: Arc::new(Queue::new(MAX_QUESTIONS, PATIENCE)),
            scrapes: Arc::new(Scrapes::new(MAX_SCRAPES)),
            unread: unread(),
            unread_scrapes: unread(),
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
        self.run(&self.requests, work).await
    }

    /// The same for a question to the ledger. It ends when it takes too long or the client is gone.
    async fn ask_ledger(
        &self,
        work: impl FnOnce(&Self, &Patience) -> Result<Response, Problem> + Send + 'static,
    ) -> Response {
        let (patience, _asker) = Patience::of(PATIENCE + QUESTION_TIME);
        self.run(&self.questions, move |app| work(app, &patience)).await
    }

    async fn run(
        &self,
        queue: &Queue,
        work: impl FnOnce(&Self) -> Result<Response, Problem> + Send + 'static,
    ) -> Response {
        let turn = match queue.enter().await {
            Ok(turn) => turn,
            Err(busy) => return busy.into_response(),
        };
        let app = self.clone();
        let rendered = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&app)
        });
        match rendered.await {
            Ok(answer) => answer.into_response(),
            Err(panic) => Problem::new(ErrorCode::Internal, panic.to_string()).into_response(),
        }
    }

    /// An answer that counts as unread until its client has it, or is gone.
    fn answer(&self, content_type: &'static str, text: Vec<u8>) -> Result<Response, Problem> {
        let body = Body::from(unread(&self.unread, text)?);
        Ok(([(header::CONTENT_TYPE, content_type)], body).into_response())
    }
}

/// Bytes that count as unread until the last client who was given them has them, or is gone.
fn unread(room: &Arc<Semaphore>, text: Vec<u8>) -> Result<Bytes, Problem> {
    let size = match text.len() {
        0..SMALL_ANSWER => 0,
        length => u32::try_from(length / 1024).unwrap_or(MAX_UNREAD).min(MAX_UNREAD),
    };
    let permit = Arc::clone(room).try_acquire_many_owned(size).map_err(|_busy| {
        let message = "other clients still read large answers; try again, or ask for less";
        Problem::new(ErrorCode::Busy, message)
    })?;
    Ok(Bytes::from_owner(Unread { text, _permit: permit }))
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
    let places = Arc::new(Connections::default());
    let mut connections = JoinSet::new();
    let stopping = stop.clone();
    loop {
        tokio::select! {
            () = stopped(&mut stop) => break,
            // Reaps what has ended.
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let peer = Some(Peer::from(peer.ip()));
                    let local = stream.local_addr().ok().map(|address| address.ip());
                    let Some(place) = place(&places, peer).await else { continue };
                    let (router, stopping, tls) = (router.clone(), stopping.clone(), web.tls());
                    connections.spawn(async move {
                        let connection = Arc::clone(&place.connection);
                        let ends = Ends { local, peer };
                        tokio::select! {
                            () = secured(stream, tls, (router, ends), &connection, stopping) => {}
                            () = connection.is_dispensable() => {
                                tracing::debug!("closed an HTTP connection for another");
                            }
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
    let known = Arc::new(Connection::new(None));
    connection(stream, (app.router(web), Ends::default()), &known, stop).await;
}

/// A place for a new connection; requests are worked on at all of them for moments only.
async fn place(places: &Arc<Connections>, peer: Option<Peer>) -> Option<Place> {
    let tried = timeout(NO_PLACE, async {
        loop {
            match places.enter(peer) {
                Some(place) => return place,
                None => sleep(Duration::from_millis(5)).await,
            }
        }
    });
    let place = tried.await.ok();
    if place.is_none() {
        tracing::debug!("closed an HTTP connection: requests are worked on at all others");
    }
    place
}

/// Serves a connection, with TLS where there is any.
async fn secured(
    stream: TcpStream,
    tls: Option<Arc<rustls::ServerConfig>>,
    service: (Router, Ends),
    known: &Arc<Connection>,
    stopping: watch::Receiver<bool>,
) {
    match tls {
        None => connection(stream, service, known, stopping).await,
        Some(tls) => match handshake(stream, tls, stopping.clone()).await {
            Ok(stream) => connection(stream, service, known, stopping).await,
            Err(error) => tracing::debug!(%error, "no TLS handshake"),
        },
    }
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
    (router, ends): (Router, Ends),
    known: &Arc<Connection>,
    mut stop: watch::Receiver<bool>,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(|mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ends);
        let (work, answer) = (known.work(), router.call(request));
        async move {
            let _work = work;
            answer.await
        }
    });
    let stream = Observed { stream, connection: Arc::clone(known) };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = sleep(CONNECTION_LIFETIME) => None,
        () = stopped(&mut stop) => None,
        () = silent(known) => return,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = timeout(CONNECTION_GRACE, connection) => ended.unwrap_or(Ok(())),
                () = silent(known) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection broke");
    }
}

/// Ends when a client has taken nothing for too long, while there is something for it.
async fn silent(known: &Connection) {
    while known.is_worked_on() || known.silence() < SILENCE {
        sleep(SILENCE / 10).await;
    }
    tracing::debug!("closed an HTTP connection whose client takes no answer");
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
    let rendering = {
        let app = app.clone();
        move || unread(&app.unread_scrapes, app.metrics.render(format).into())
    };
    match app.scrapes.get(format, rendering).await {
        Ok(text) => {
            let headers = [(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")];
            (headers, Body::from(text)).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

#[cfg(test)]
mod tests;
