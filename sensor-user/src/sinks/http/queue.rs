//! Work of one kind: so much at once, so much that waits, and for so long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::body::Bytes;
use sensor_common::report::ErrorCode;
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

use super::problem::Problem;
use crate::sinks::metrics::Format;

/// One at a time, and a bounded number that waits.
#[derive(Debug)]
pub(super) struct Queue {
    running: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    most: usize,
    patience: Duration,
}

impl Queue {
    pub(super) fn new(most: usize, patience: Duration) -> Self {
        Self { running: Arc::new(Semaphore::new(1)), waiting: Arc::default(), most, patience }
    }

    /// Waits for the turn, which lasts until the result is dropped.
    ///
    /// # Errors
    ///
    /// When too many wait already, or it takes too long.
    pub(super) async fn enter(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let busy = || Problem::new(ErrorCode::Busy, "other requests come first; try again");
        if let Ok(turn) = Arc::clone(&self.running).try_acquire_owned() {
            return Ok(turn);
        }
        let _waits = Waits::among(&self.waiting, self.most).ok_or_else(busy)?;
        match timeout(self.patience, Arc::clone(&self.running).acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }
}

/// One that waits.
struct Waits(Arc<AtomicUsize>);

impl Waits {
    fn among(waiting: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let one = Self(Arc::clone(waiting));
        (waiting.fetch_add(1, Ordering::Relaxed) < most).then_some(one)
    }

    fn is_last(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 1
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The scrapes: all that wait while one is rendered share the next rendering, so each is answered after two at most, however
/// many there are.
#[derive(Debug)]
pub(super) struct Scrapes {
    running: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    most: usize,
    text: Mutex<Option<Rendering>>,
    open_metrics: Mutex<Option<Rendering>>,
}

/// When it began, and what came of it.
type Rendering = (Instant, Result<Bytes, Problem>);

impl Scrapes {
    pub(super) fn new(most: usize) -> Self {
        let running = Arc::new(Semaphore::new(1));
        let (text, open_metrics) = (Mutex::default(), Mutex::default());
        Self { running, waiting: Arc::default(), most, text, open_metrics }
    }

    /// A rendering that begins after this was called.
    ///
    /// # Errors
    ///
    /// When too many wait already, or with what `render` says.
    pub(super) async fn get(
        &self,
        format: Format,
        render: impl FnOnce() -> Result<Bytes, Problem> + Send + 'static,
    ) -> Result<Bytes, Problem> {
        let came = Instant::now();
        let busy = || Problem::new(ErrorCode::Busy, "too many scrapes at once; try again");
        let waits = Waits::among(&self.waiting, self.most).ok_or_else(busy)?;
        let latest = match format {
            Format::Prometheus => &self.text,
            Format::OpenMetrics => &self.open_metrics,
        };
        let mut latest = latest.lock().await;
        if let Some((began, rendered)) = &*latest
            && *began >= came
        {
            let rendered = rendered.clone();
            if waits.is_last() {
                *latest = None;
            }
            return rendered;
        }
        // A client that leaves ends the wait and not the rendering.
        let turn = Arc::clone(&self.running).acquire_owned().await.map_err(|_closed| busy())?;
        let began = Instant::now();
        let rendering = spawn_blocking(move || {
            let _turn = turn;
            render()
        });
        let rendered = rendering
            .await
            .unwrap_or_else(|panic| Err(Problem::new(ErrorCode::Internal, panic.to_string())));
        *latest = (!waits.is_last()).then(|| (began, rendered.clone()));
        rendered
    }
}
