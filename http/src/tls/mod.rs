//! TLS 1.2 and 1.3 for both sides, by rustls with ring.
//!
//! The server side serves one certificate, re-read when its files change, and may ask clients for theirs; whom to believe
//! is the caller's business. The client side verifies the server unless told not to.

/// The methods by which a verifier that trusts anyone still makes the peer prove that it has the key of its certificate. The
/// verifier's only field has the algorithms.
macro_rules! proof_of_key {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &rustls_pki_types::CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &rustls_pki_types::CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            self.0.supported_schemes()
        }
    };
}

mod client;
mod policy;
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
pub use policy::{BadTlsVersion, TlsPolicy, TlsVersion};
pub use server::{CertificateSource, NamedCertificate, PeerCertificates, ServerTls};

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
    /// A text is not the name of a cipher suite.
    #[error("{name:?} is not the name of a cipher suite")]
    CipherSuite {
        /// The text.
        name: String,
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
