//! Certificates and keys in PEM format, from a file or from the web configuration itself.

use std::{fmt, io};

use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject as _},
};

use crate::{config::Pem, files};

/// A larger file holds something else.
const MAX_BYTES: u64 = 1 << 20;

/// Why there is no certificate or key.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// A file can't be read.
    #[error("can't read {what}: {error}; name another file")]
    Unreadable {
        /// What names it, and its path.
        what: String,
        /// What the system said.
        error: io::Error,
    },
    /// It holds something else.
    #[error("{what} holds no {wanted} in PEM format: {error}")]
    Foreign {
        /// What names it, and its path.
        what: String,
        /// What should be there.
        wanted: &'static str,
        /// What is wrong.
        error: pem::Error,
    },
}

/// Something in PEM format, and what messages call it.
#[derive(Debug)]
pub struct Part<'a> {
    name: &'static str,
    pem: &'a Pem,
}

impl<'a> Part<'a> {
    /// What is there, by the key or option that says where.
    pub const fn new(name: &'static str, pem: &'a Pem) -> Self {
        Self { name, pem }
    }

    /// Its certificates, one at least.
    ///
    /// # Errors
    ///
    /// When the file can't be read, or holds something else.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, PemError> {
        let bytes = self.read()?;
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match all {
            Ok(all) if all.is_empty() => Err(self.foreign("certificate", pem::Error::NoItemsFound)),
            other => other.map_err(|error| self.foreign("certificate", error)),
        }
    }

    /// The first private key in it.
    ///
    /// # Errors
    ///
    /// As [`certificates`](Self::certificates).
    pub fn private_key(&self) -> Result<PrivateKeyDer<'static>, PemError> {
        let bytes = self.read()?;
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| self.foreign("private key", error))
    }

    fn read(&self) -> Result<Vec<u8>, PemError> {
        let path = match self.pem {
            Pem::Inline(text) => return Ok(text.as_bytes().to_vec()),
            Pem::File(path) => path,
        };
        files::read(path, MAX_BYTES)
            .map_err(|error| PemError::Unreadable { what: self.to_string(), error })
    }

    fn foreign(&self, wanted: &'static str, error: pem::Error) -> PemError {
        PemError::Foreign { what: self.to_string(), wanted, error }
    }
}

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pem {
            Pem::File(path) => write!(f, "{} {}", self.name, path.display()),
            Pem::Inline(_) => write!(f, "{} of the web configuration", self.name),
        }
    }
}
