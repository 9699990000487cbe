//! TLS: what the web configuration says, as rustls wants it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, SupportedKxGroup, ring},
    pki_types::CertificateDer,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

use crate::{
    config::{ClientAuth, Curve, Pem, Tls, TlsVersion},
    pem::{Part, PemError},
};

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key is not there.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The certificate and its key can't be used.
    #[error("can't use {cert} with {key}: {error}")]
    Pair {
        /// The certificate's key, and its file.
        cert: String,
        /// The private key's.
        key: String,
        /// What is wrong.
        error: rustls::Error,
    },
    /// The clients' CA can't be used.
    #[error("can't use {what}: {error}")]
    ClientCa {
        /// The key, and its file.
        what: String,
        /// What is wrong.
        error: String,
    },
    /// Versions, suites and curves don't fit together.
    #[error("versions, cipher suites and curves of the web configuration don't fit: {0}")]
    Versions(rustls::Error),
}

/// Makes the server's side of TLS.
pub(super) fn server_config(tls: &Tls) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(provider(tls));
    let versions: Vec<&'static SupportedProtocolVersion> = tls
        .versions
        .iter()
        .map(|version| match version {
            TlsVersion::Tls12 => &rustls::version::TLS12,
            TlsVersion::Tls13 => &rustls::version::TLS13,
        })
        .collect();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(TlsError::Versions)?;
    let builder = match client_verifier(tls, &provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let (cert, key) = (Part::new("the certificate", &tls.cert), Part::new("the key", &tls.key));
    let mut config = builder
        .with_single_cert(cert.certificates()?, key.private_key()?)
        .map_err(|error| TlsError::Pair { cert: cert.to_string(), key: key.to_string(), error })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ignore_client_order = tls.prefer_server_cipher_suites;
    Ok(config)
}

/// The certificate that the listener shows.
pub(super) fn certificate(tls: &Tls) -> Result<Option<CertificateDer<'static>>, TlsError> {
    let all = Part::new("the certificate", &tls.cert).certificates()?;
    Ok(all.into_iter().next())
}

/// Files that the configuration names.
pub(super) fn files(tls: &Tls) -> Vec<PathBuf> {
    let parts = [Some(&tls.cert), Some(&tls.key), tls.client_ca.as_ref()];
    let path = |pem: &Pem| match pem {
        Pem::File(path) => Some(path.clone()),
        Pem::Inline(_) => None,
    };
    parts.into_iter().flatten().filter_map(path).collect()
}

/// What to say where others can read the private key; it may be in the web configuration itself.
pub(super) fn exposed_key(tls: &Tls, web_config: &Path) -> Option<String> {
    let path = match &tls.key {
        Pem::File(path) => path,
        Pem::Inline(_) => web_config,
    };
    let mode = fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o007 != 0).then(|| {
        let path = path.display();
        format!("everybody on this machine can get at the private key in {path}; `chmod o= {path}`")
    })
}

fn provider(tls: &Tls) -> CryptoProvider {
    let all = ring::default_provider();
    let mut provider = all.clone();
    if !tls.cipher_suites.is_empty() {
        let is_tls13 = |suite: &rustls::SupportedCipherSuite| suite.tls13().is_some();
        provider.cipher_suites.retain(is_tls13);
        for name in &tls.cipher_suites {
            let named =
                |suite: &&rustls::SupportedCipherSuite| suite.suite().as_str() == Some(*name);
            provider.cipher_suites.extend(all.cipher_suites.iter().find(named));
        }
    }
    if !tls.curves.is_empty() {
        provider.kx_groups = tls.curves.iter().map(|curve| group(*curve)).collect();
    }
    provider
}

fn group(curve: Curve) -> &'static dyn SupportedKxGroup {
    match curve {
        Curve::X25519 => ring::kx_group::X25519,
        Curve::P256 => ring::kx_group::SECP256R1,
        Curve::P384 => ring::kx_group::SECP384R1,
    }
}

fn client_verifier(
    tls: &Tls,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let (Some(ca), true) = (&tls.client_ca, tls.client_auth != ClientAuth::None) else {
        return Ok(None);
    };
    let part = Part::new("the clients' CA", ca);
    let unusable = |error: String| TlsError::ClientCa { what: part.to_string(), error };
    let mut roots = RootCertStore::empty();
    for certificate in part.certificates()? {
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = match tls.client_auth {
        ClientAuth::VerifyIfGiven => builder.allow_unauthenticated(),
        ClientAuth::None | ClientAuth::RequireAndVerify => builder,
    };
    builder.build().map(Some).map_err(|error| unusable(error.to_string()))
}
