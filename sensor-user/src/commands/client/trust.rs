//! Which sensor to trust when it is asked over HTTPS, and what to show it.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result, bail};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::{
    cli::SensorArgs,
    config::{Pem, WebConfig},
    pem::Part,
};

/// The client's side of TLS: trusts what the command line names, else the certificate of the web
/// configuration, else the CAs of this machine.
///
/// # Errors
///
/// When certificates or keys can't be read or don't fit.
pub(super) fn client_config(args: &SensorArgs, web: Option<&WebConfig>) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let trusted = match (&args.ca_file, web.and_then(|web| web.tls.as_ref())) {
        (Some(path), _) => Part::new("the CA", &file(path)).certificates()?,
        (None, Some(tls)) => Part::new("the sensor's certificate", &tls.cert).certificates()?,
        (None, None) => rustls_native_certs::load_native_certs().certs,
    };
    let verifier = Arc::new(Verifier::new(trusted, &provider)?);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let (Some(cert), Some(key)) = (&args.cert, &args.key) else {
        return Ok(builder.with_no_client_auth());
    };
    let (cert, key) = (file(cert), file(key));
    let (cert, key) = (Part::new("the certificate", &cert), Part::new("its key", &key));
    builder
        .with_client_auth_cert(cert.certificates()?, key.private_key()?)
        .with_context(|| format!("can't use {cert} with {key}"))
}

fn file(path: &Path) -> Pem {
    Pem::File(path.to_owned())
}

/// Takes the certificates that are trusted themselves, by comparing them, and what they have signed.
/// The former makes certificates that are their own CA work, which most sensors of a lab have and a
/// chain does not allow as a server's; their name and age then say nothing that the comparison does
/// not say better.
#[derive(Debug)]
struct Verifier {
    trusted: Vec<CertificateDer<'static>>,
    signed: Arc<WebPkiServerVerifier>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(trusted: Vec<CertificateDer<'static>>, provider: &Arc<CryptoProvider>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(trusted.iter().cloned());
        if usable == 0 {
            bail!("no CA is known to this machine; name the sensor's with `--ca-file`");
        }
        let signed =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let algorithms = provider.signature_verification_algorithms;
        Ok(Self { trusted, signed: signed.build()?, algorithms })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.trusted.iter().any(|trusted| trusted == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        self.signed.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What of TLS went wrong, and what to do; `None` when it was something else.
pub(super) fn explained(url: &str, error: &anyhow::Error) -> Option<String> {
    // What an I/O error wraps is no cause of it: it has to be asked for.
    let mut causes = error.chain().filter_map(|cause| {
        cause.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref::<rustls::Error>()
    });
    Some(match causes.next()? {
        rustls::Error::InvalidCertificate(reason) => {
            let reason = match reason {
                CertificateError::Other(other) => other.to_string(),
                reason => reason.to_string(),
            };
            format!(
                "the certificate of {url} is not to be trusted ({reason}); name its CA, or the \
                 certificate itself, with `--ca-file`"
            )
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            format!("{url} asks for a certificate; show one with `--cert` and `--key`")
        }
        rustls::Error::AlertReceived(alert) => {
            format!("{url} ends the connection ({alert:?}); does it know the CA of `--cert`?")
        }
        rustls::Error::InvalidMessage(_) => format!("{url} does not speak HTTPS; ask with http://"),
        other => format!("no TLS with {url}: {other}"),
    })
}
