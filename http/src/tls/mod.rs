//! TLS 1.2 and 1.3 for both sides, by rustls with ring.
//!
//! The server side serves one certificate, re-read when its files change, and may ask clients for theirs; whom to believe
//! is the caller's business. The client side verifies the server unless told not to.

mod client;
mod server;

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

pub use client::TlsOptions;
pub(crate) use client::{connector, plain_connector};
pub use server::{CertificateSource, PeerCertificates, ServerTls};

/// Why certificates or keys are unusable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No certificates where some must be, or they are malformed.
    #[error("{what}: no usable PEM certificates: {reason}")]
    Certificates {
        /// Which certificates.
        what: String,
        /// What is wrong with them.
        reason: String,
    },
    /// No private key where one must be, or it is malformed, or of a kind that is not supported.
    #[error("{what}: no usable PEM private key: {reason}")]
    Key {
        /// Which key.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The key is not that of the certificate.
    #[error("{what}: the private key does not belong to the certificate")]
    Mismatch {
        /// Which pair.
        what: String,
    },
    /// The name to verify the server by is none.
    #[error("invalid server name {name:?}")]
    ServerName {
        /// The name.
        name: String,
    },
    /// rustls refused.
    #[error("{what}: {source}")]
    Refused {
        /// What was set up.
        what: &'static str,
        /// Why it refused.
        source: rustls::Error,
    },
}

/// All certificates of `pem`; at least one. `what` names them in errors.
///
/// # Errors
/// [`TlsError::Certificates`]
pub fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |reason: String| TlsError::Certificates { what: String::from(what), reason };
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|error| bad(error.to_string()))?;
    if read.is_empty() {
        return Err(bad(String::from("there is none")));
    }
    Ok(read)
}

/// The first private key of `pem`. `what` names it in errors.
pub(crate) fn private_key(pem: &[u8], what: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|error| TlsError::Key { what: String::from(what), reason: error.to_string() })
}

/// Never the process-wide default: a library must not depend on who installed which.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
