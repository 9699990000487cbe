//! The API and the metrics over HTTP: `GET` only, nothing to change, every bound named here.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{Query, State as Extension, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde::Deserialize;
use tokio::{
    net::TcpStream,
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::metrics::{self, Metrics};
use crate::state::{Detail, Shared};

/// Connections served at once; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 32;
/// Answers rendered at once, so that readers never keep the epoch thread from a CPU.
const MAX_RENDERING: usize = 1;
/// For a request's head to arrive, also on an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest request head, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// After this a connection gets no further request.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);
/// And after this it is closed, answered in full or not.
const CONNECTION_GRACE: Duration = Duration::from_secs(30);
/// For open answers to finish when the sensor stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

const INDEX: &str = "LabGate: where does each device on the bench send its data?\n\
                     /metrics /api/v1/status /api/v1/status?detail=address /healthz /readyz\n";

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
}

impl App {
    /// The API over a state, and its metrics.
    ///
    /// # Errors
    ///
    /// If a metric's definition is not well-formed.
    pub fn new(shared: Arc<Shared>) -> prometheus::Result<Self> {
        let metrics = Arc::new(Metrics::new(Arc::clone(&shared))?);
        Ok(Self { shared, metrics, rendering: Arc::new(Semaphore::new(MAX_RENDERING)) })
    }

    fn router(self) -> Router {
        Router::new()
            .route("/", get(INDEX))
            .route("/healthz", get("ok\n"))
            .route("/readyz", get(readyz))
            .route("/metrics", get(serve_metrics))
            .route("/api/v1/status", get(status))
            .fallback(async || error(StatusCode::NOT_FOUND, "no such page; / lists them"))
            .method_not_allowed_fallback(async || {
                error(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed")
            })
            .with_state(self)
    }

    /// Runs what takes more than a moment off the async threads.
    async fn render(
        &self,
        work: impl FnOnce(&Self) -> Result<Response, String> + Send + 'static,
    ) -> Response {
        let Ok(permit) = Arc::clone(&self.rendering).acquire_owned().await else {
            return error(StatusCode::SERVICE_UNAVAILABLE, "the sensor is stopping");
        };
        let app = self.clone();
        let rendered = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&app)
        });
        match rendered.await {
            Ok(Ok(response)) => response,
            Ok(Err(reason)) => error(StatusCode::INTERNAL_SERVER_ERROR, &reason),
            Err(panic) => error(StatusCode::INTERNAL_SERVER_ERROR, &panic.to_string()),
        }
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
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router = app.router();
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
                    connections.spawn(async move {
                        let _slot = slot;
                        connection(stream, router, stopping).await;
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
    let drained =
        timeout(SHUTDOWN_GRACE, async { while connections.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::debug!(open = connections.len(), "closed HTTP connections with open answers");
    }
    Ok(())
}

/// Waits until `stop` says true or its sender is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    stop.wait_for(|stop| *stop).await.ok();
}

/// A slow client holds one connection, and not for long.
async fn connection(stream: TcpStream, router: Router, mut stop: watch::Receiver<bool>) {
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

async fn readyz(Extension(app): Extension<App>) -> Response {
    match app.shared.ready(Instant::now()) {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => error(StatusCode::SERVICE_UNAVAILABLE, &reason.to_string()),
    }
}

async fn serve_metrics(Extension(app): Extension<App>) -> Response {
    app.render(|app| {
        let text = app.metrics.render().map_err(|error| error.to_string())?;
        Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StatusQuery {
    #[serde(default)]
    detail: Detail,
}

async fn status(
    Extension(app): Extension<App>,
    query: Result<Query<StatusQuery>, QueryRejection>,
) -> Response {
    let Ok(Query(StatusQuery { detail })) = query else {
        let reason = "the only parameter is `detail`, which is `prefix` or `address`";
        return error(StatusCode::BAD_REQUEST, reason);
    };
    app.render(move |app| Ok(Json(app.shared.snapshot().report(detail)).into_response())).await
}

/// Every error is a JSON object.
fn error(status: StatusCode, reason: &str) -> Response {
    (status, Json(serde_json::json!({ "error": reason }))).into_response()
}

#[cfg(test)]
mod tests;
