//! By which names the listener may be asked for.
//!
//! A web site can have its own name point to this machine (DNS rebinding); to the browser what it reads here is then that
//! site's own. The name in the request gives it away. An address can't be had in this way: it is nobody's but ours.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, Uri, Version, header, uri::Authority};
use rustls::{
    client::verify_server_name,
    pki_types::{CertificateDer, ServerName},
    server::ParsedCertificate,
};
use sensor_common::report::ErrorCode;

use super::problem::{Problem, shown};
use crate::config::{Config, HostName};

/// Always points to the machine itself (RFC 6761, 6.3).
const LOCALHOST: &str = "localhost";
/// At most one refusal in this time goes to the log.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(60);

/// The names that the configuration gives the listener.
#[derive(Debug, Clone, Default)]
pub struct Names {
    listen: Option<IpAddr>,
    allowed: Vec<HostName>,
}

impl Names {
    /// `listen` and `allowed_hosts`.
    pub fn new(config: &Config) -> Self {
        let listen = Some(config.listen.ip().to_canonical());
        Self { listen, allowed: config.allowed_hosts.clone() }
    }
}

/// Those, and the certificate's.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    names: Names,
    certificate: Option<CertificateDer<'static>>,
    warned: Mutex<Option<Instant>>,
}

impl Hosts {
    pub(super) fn new(names: Names, certificate: Option<CertificateDer<'static>>) -> Self {
        Self { names, certificate, warned: Mutex::default() }
    }

    pub(super) const fn names(&self) -> &Names {
        &self.names
    }

    /// Refuses a request for another's name; `local` is the address at which its connection arrived.
    ///
    /// # Errors
    ///
    /// What to do about it. What RFC 9112 (3.2) forbids is malformed: several hosts, or none.
    pub(super) fn check(
        &self,
        (uri, headers, version): (&Uri, &HeaderMap, Version),
        local: Option<IpAddr>,
    ) -> Result<(), Problem> {
        let mut hosts = headers.get_all(header::HOST).into_iter();
        let (host, second) = (hosts.next(), hosts.next());
        if second.is_some() || host.is_none() && version >= Version::HTTP_11 {
            let message = "the request needs one `Host` header, which says whom it is for";
            return Err(Problem::new(ErrorCode::MalformedRequest, message));
        }
        // The target's is the one that counts (RFC 9112, 3.2.2); nobody has reason to send two that differ.
        let target = uri.authority().map(Authority::as_str);
        let host = host.map(|host| host.to_str().unwrap_or_default());
        if host.is_none() && target.is_none() {
            return Err(self.refused(""));
        }
        for name in host.into_iter().chain(target) {
            if !HostName::of_authority(name).is_some_and(|host| self.admits(&host, local)) {
                return Err(self.refused(name));
            }
        }
        Ok(())
    }

    fn admits(&self, host: &HostName, local: Option<IpAddr>) -> bool {
        let is_own = match host {
            HostName::Name(name) => name == LOCALHOST,
            HostName::Address(address) => {
                let own = [self.names.listen, local.map(|address| address.to_canonical())];
                address.is_loopback() || own.contains(&Some(*address))
            }
        };
        is_own || self.names.allowed.contains(host) || self.certifies(host)
    }

    fn certifies(&self, host: &HostName) -> bool {
        let name = match host {
            HostName::Name(name) => ServerName::try_from(name.clone()).ok(),
            HostName::Address(address) => Some(ServerName::from(*address)),
        };
        let certificate = self.certificate.as_ref().map(ParsedCertificate::try_from);
        match (name, certificate) {
            (Some(name), Some(Ok(certificate))) => verify_server_name(&certificate, &name).is_ok(),
            _ => false,
        }
    }

    fn refused(&self, name: &str) -> Problem {
        let name = shown(name);
        let message = match &*name {
            "" => "the request does not say whom it is for: it needs a `Host` header".to_owned(),
            _ => format!(
                "`{name}` is no name of this sensor; if it is meant, add it to `allowed_hosts` in the sensor's \
                 configuration, else ask for its address"
            ),
        };
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        // Prometheus shows no more than the status.
        if warned.is_none_or(|last| last.elapsed() >= BETWEEN_WARNINGS) {
            *warned = Some(Instant::now());
            tracing::warn!("refused an HTTP request: {message}");
        }
        Problem::new(ErrorCode::Misdirected, message)
    }
}
