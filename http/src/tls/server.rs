//! The server side: one certificate, from files or from memory, and what clients present.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio_rustls::TlsAcceptor;

use super::{TlsError, certificates, private_key, provider};

/// The certificates that a client presented, its own first; a request's extension, absent when there are none.
///
/// The client has proved that it holds the key of the first one. Nothing else is verified: neither who issued it nor
/// whether it is still valid.
#[derive(Clone, Debug)]
pub struct PeerCertificates(pub Arc<[CertificateDer<'static>]>);

/// Where a server's certificate and private key come from. Both are PEM; the certificate may be a chain, its own first.
#[derive(Clone)]
pub enum CertificateSource {
    /// Files, which are re-read when they change.
    Files {
        /// The certificate.
        certificate: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// Memory.
    Pem {
        /// The certificate.
        certificate: Vec<u8>,
        /// The private key.
        key: Vec<u8>,
    },
}

impl fmt::Debug for CertificateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files { certificate, key } => {
                f.debug_struct("Files").field("certificate", certificate).field("key", key).finish()
            }
            Self::Pem { .. } => f.write_str("Pem"),
        }
    }
}

/// What a server needs to speak TLS. Cloning shares the certificate.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    served: Arc<Served>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("source", &self.served.source).finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Loads the certificate. With `ask_clients`, clients may present certificates of their own; see
    /// [`PeerCertificates`] for what that proves.
    ///
    /// # Errors
    /// [`TlsError`]: the files cannot be read, or certificate and key are not a pair.
    pub fn new(source: CertificateSource, ask_clients: bool) -> Result<Self, TlsError> {
        let pair = Pair::read(&source)?;
        let current = pair.certified(&source)?;
        let served = Arc::new(Served {
            source,
            current: RwLock::new(Arc::new(current)),
            seen: RwLock::new(Some(pair)),
        });
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|source| TlsError::Refused { what: "TLS versions", source })?;
        let algorithms = provider().signature_verification_algorithms;
        let builder = if ask_clients {
            builder.with_client_cert_verifier(Arc::new(AnyClient(algorithms)))
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&served) as _);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), served })
    }

    /// Reads the files again, if that is where the certificate comes from, and serves what they hold from the next
    /// handshake on. Returns whether they changed. Blocks on the disk.
    ///
    /// # Errors
    /// [`TlsError`]: the files are unusable, and the old certificate stays. The same unusable content is an error only
    /// once, so that a caller may ask again and again.
    pub fn reload(&self) -> Result<bool, TlsError> {
        self.served.reload()
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}

/// A certificate and its key as they were read.
#[derive(PartialEq, Eq)]
struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Pair {
    fn read(source: &CertificateSource) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            std::fs::read(path)
                .map_err(|source| TlsError::Read { path: path.to_path_buf(), source })
        };
        Ok(match source {
            CertificateSource::Files { certificate, key } => {
                Self { certificate: read(certificate)?, key: read(key)? }
            }
            CertificateSource::Pem { certificate, key } => {
                Self { certificate: certificate.clone(), key: key.clone() }
            }
        })
    }

    fn certified(&self, source: &CertificateSource) -> Result<CertifiedKey, TlsError> {
        let (certificate, key) = match source {
            CertificateSource::Files { certificate, key } => {
                (certificate.display().to_string(), key.display().to_string())
            }
            CertificateSource::Pem { .. } => (String::from("certificate"), String::from("key")),
        };
        let chain = certificates(&self.certificate, &certificate)?;
        let der = private_key(&self.key, &key)?;
        let signing = provider()
            .key_provider
            .load_private_key(der)
            .map_err(|error| TlsError::Key { what: key, reason: error.to_string() })?;
        let certified = CertifiedKey::new(chain, signing);
        match certified.keys_match() {
            // Unknown: the key cannot tell its public half, which is no proof of a mismatch.
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
                Ok(certified)
            }
            Err(rustls::Error::InconsistentKeys(_)) => {
                Err(TlsError::Mismatch { what: certificate })
            }
            Err(error) => {
                Err(TlsError::Certificates { what: certificate, reason: error.to_string() })
            }
        }
    }
}

struct Served {
    source: CertificateSource,
    current: RwLock<Arc<CertifiedKey>>,
    /// What was read last, usable or not; nothing if it could not be read.
    seen: RwLock<Option<Pair>>,
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Served {
    fn reload(&self) -> Result<bool, TlsError> {
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        let pair = match Pair::read(&self.source) {
            Ok(pair) => pair,
            Err(error) => {
                let told = seen.take().is_none();
                return if told { Ok(false) } else { Err(error) };
            }
        };
        if seen.as_ref() == Some(&pair) {
            return Ok(false);
        }
        let certified = pair.certified(&self.source);
        *seen = Some(pair);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(certified?);
        Ok(true)
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Takes any client certificate or none, but makes the client prove that it has the key. Who issued it is judged per
/// request, because several authorities are trusted with different things and all of them change while we run.
#[derive(Debug)]
struct AnyClient(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
