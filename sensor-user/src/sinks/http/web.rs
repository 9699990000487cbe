//! The web configuration in use: read at the start, exchanged as a whole when its files change.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::{Request, State as Extension},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use sensor_common::report::ErrorCode;

use super::{
    auth::{Admission, Limiter, Users},
    connections::{Ends, Peer},
    guard::harden,
    hosts::{Hosts, Names},
    problem::Problem,
    tls,
};
use crate::{
    config::{self, ConfigError},
    files::Watched,
    state::{Reloaded, Shared},
};

/// Why the web configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The file is missing or has errors.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Certificates or keys are missing or don't fit.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// No random numbers.
    #[error("can't get random numbers: {0}")]
    Random(#[from] std::io::Error),
}

/// What holds for connections and requests.
#[derive(Debug, Default)]
pub struct Settings {
    path: Option<PathBuf>,
    tls: Option<Arc<rustls::ServerConfig>>,
    headers: Vec<(HeaderName, HeaderValue)>,
    users: Option<Users>,
    limiter: Option<Limiter>,
    hosts: Hosts,
    /// The file and those it names, as they were when they were read.
    files: Mutex<Vec<Watched>>,
}

impl Settings {
    /// Reads a web configuration and the files that it names, for a listener of these names; without one it is plain HTTP for everybody.
    /// Logs what is probably not meant.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the file, else the first thing that is wrong with one it names.
    pub fn load(path: Option<&Path>, names: &Names) -> Result<Self, WebError> {
        let names = names.clone();
        let Some(path) = path else {
            return Ok(Self { hosts: Hosts::new(names, None), ..Self::default() });
        };
        // Watched before they are read: what changes meanwhile is read once more.
        let mut files = vec![Watched::new(path)];
        let config = config::load_web(path)?;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let (mut server, mut certificate) = (None, None);
        if let Some(tls) = &config.tls {
            files.extend(tls::files(tls).iter().map(|path| Watched::new(path)));
            server = Some(Arc::new(tls::server_config(tls)?));
            certificate = tls::certificate(tls)?;
            if let Some(warning) = tls::exposed_key(tls, path) {
                tracing::warn!("{warning}");
            }
        }
        let headers = config.headers.iter().filter_map(|(name, value)| {
            // Both were checked when they were read.
            Some((name.parse().ok()?, value.parse().ok()?))
        });
        Ok(Self {
            path: Some(path.to_owned()),
            tls: server,
            headers: headers.collect(),
            users: Users::new(&config.users)?,
            limiter: config.rate_limit.map(Limiter::new),
            hosts: Hosts::new(names, certificate),
            files: Mutex::new(files),
        })
    }

    fn changed(&self) -> bool {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        // Each is asked, or the next look would find the change once more.
        files.iter_mut().filter_map(|file| file.changed().then_some(())).count() > 0
    }
}

/// The settings in use. A connection keeps the TLS that it began with; passwords, headers and limits
/// are looked up for each request.
#[derive(Debug)]
pub struct Web {
    current: Mutex<Arc<Settings>>,
}

impl Web {
    /// Begins with these settings.
    pub fn new(settings: Settings) -> Self {
        Self { current: Mutex::new(Arc::new(settings)) }
    }

    /// From here on these settings hold.
    pub fn exchange(&self, settings: Settings) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.tls().is_some() { "https" } else { "http" }
    }

    pub(super) fn tls(&self) -> Option<Arc<rustls::ServerConfig>> {
        self.current().tls.clone()
    }

    /// Reads everything anew if a file has changed; what is bad leaves in use what was there. Reads
    /// files: not for async threads.
    pub(super) fn refresh(&self, shared: &Shared) {
        let current = self.current();
        if !current.changed() {
            return;
        }
        let outcome = Settings::load(current.path.as_deref(), current.hosts.names());
        let succeeded = outcome.is_ok();
        match outcome {
            Ok(settings) => {
                let mut now = self.current.lock().unwrap_or_else(PoisonError::into_inner);
                // Unless a reload of everything was faster.
                if Arc::ptr_eq(&now, &current) {
                    *now = Arc::new(settings);
                }
                tracing::info!(what = Reloaded::WebConfiguration.name(), "reloaded");
            }
            Err(reason) => tracing::error!(
                what = Reloaded::WebConfiguration.name(),
                "not reloaded, what was there stays in use: {reason}"
            ),
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        shared.change(|state| state.reloaded(Reloaded::WebConfiguration, succeeded, now));
    }

    fn current(&self) -> Arc<Settings> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Lets a request through if it may, and gives every answer its headers.
pub(super) async fn guard(
    Extension(web): Extension<Arc<Web>>,
    request: Request,
    next: Next,
) -> Response {
    let settings = web.current();
    let ends = request.extensions().get::<Ends>().copied().unwrap_or_default();
    let parts = (request.uri(), request.headers(), request.version());
    let mut response = if let Err(problem) = settings.hosts.check(parts, ends.local) {
        problem.into_response()
    } else if settings.limiter.as_ref().is_some_and(|l| !l.admit(Instant::now())) {
        Problem::new(ErrorCode::TooManyRequests, "too many requests, by `rate_limit`")
            .into_response()
    } else {
        match admission(&settings, request.headers(), ends.peer).await {
            Admission::Admitted => next.run(request).await,
            Admission::Refused => {
                let reason = "a user name and a password are needed, by `basic_auth_users`";
                let challenge =
                    [(header::WWW_AUTHENTICATE, "Basic realm=\"labgate\", charset=\"UTF-8\"")];
                (challenge, Problem::new(ErrorCode::Unauthorized, reason)).into_response()
            }
            Admission::Busy => {
                let reason = "too many passwords are waiting to be checked; try again";
                Problem::new(ErrorCode::Busy, reason).into_response()
            }
        }
    };
    harden(&mut response);
    for (name, value) in &settings.headers {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

async fn admission(settings: &Settings, headers: &HeaderMap, peer: Option<Peer>) -> Admission {
    match &settings.users {
        None => Admission::Admitted,
        Some(users) => users.admit(headers, peer).await,
    }
}
