//! The server side: certificates, from files or from memory, and what clients present.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::verify_server_name;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DistinguishedName, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsAcceptor;

use super::{TlsError, TlsPolicy, certificates, private_key, provider};

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

/// A certificate for clients that ask for certain names.
#[derive(Clone, Debug)]
pub struct NamedCertificate {
    /// The certificate.
    pub source: CertificateSource,
    /// The names: `example.com`, or `*.example.com` for whatever has one more part. Those that the certificate bears, if
    /// there are none.
    pub names: Vec<String>,
}

/// What a server needs to speak TLS. Cloning shares the certificates.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = &self.certificates.default.source;
        f.debug_struct("ServerTls").field("source", source).finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Loads the certificate. With `ask_clients`, clients may present certificates of their own; see
    /// [`PeerCertificates`] for what that proves.
    ///
    /// # Errors
    /// [`TlsError`]: the files cannot be read, or certificate and key are not a pair.
    pub fn new(source: CertificateSource, ask_clients: bool) -> Result<Self, TlsError> {
        Self::with_policy(source, &[], ask_clients, &TlsPolicy::default())
    }

    /// As [`new`](Self::new), with certificates of their own for clients that ask for certain names, and with what is
    /// spoken. Of several certificates for a name one that was given the name goes before one with a wildcard, and that
    /// before one that just bears it.
    ///
    /// # Errors
    /// [`TlsError`]: as well for a cipher suite that is none.
    pub fn with_policy(
        source: CertificateSource,
        named: &[NamedCertificate],
        ask_clients: bool,
        policy: &TlsPolicy,
    ) -> Result<Self, TlsError> {
        let named = named.iter().map(|NamedCertificate { source, names }| {
            let names = names.iter().map(|name| name.to_ascii_lowercase()).collect();
            Ok((Served::new(source.clone())?, names))
        });
        let certificates = Arc::new(Certificates {
            default: Served::new(source)?,
            named: named.collect::<Result<_, TlsError>>()?,
        });
        let builder = ServerConfig::builder_with_provider(policy.provider()?)
            .with_protocol_versions(policy.versions())
            .map_err(|source| TlsError::Refused { what: "TLS versions", source })?;
        let algorithms = provider().signature_verification_algorithms;
        let builder = if ask_clients {
            builder.with_client_cert_verifier(Arc::new(AnyClient(algorithms)))
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&certificates) as _);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), certificates })
    }

    /// Reads the files again, if that is where certificates come from, and serves what they hold from the next handshake
    /// on. Returns whether they changed. Blocks on the disk.
    ///
    /// # Errors
    /// [`TlsError`], the first: files are unusable, and their old certificate stays. The same unusable content is an error
    /// only once, so that a caller may ask again and again.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let Certificates { default, named } = &*self.certificates;
        let all = std::iter::once(default).chain(named.iter().map(|(served, _)| served));
        // All of them, whatever the first one says.
        let outcomes: Vec<_> = all.map(Served::reload).collect();
        outcomes.into_iter().try_fold(false, |changed, outcome| Ok(outcome? || changed))
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}

/// The certificates that are served.
#[derive(Debug)]
struct Certificates {
    default: Served,
    /// Each with the names that it was given.
    named: Vec<(Served, Vec<String>)>,
}

impl Certificates {
    fn for_name(&self, name: &str) -> &Served {
        let name = name.to_ascii_lowercase();
        let wildcard = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        let given = |wanted: &str| {
            let found = self.named.iter().find(|(_, names)| names.iter().any(|n| n == wanted));
            found.map(|(served, _)| served)
        };
        let borne = || {
            let found =
                self.named.iter().find(|(served, names)| names.is_empty() && served.bears(&name));
            found.map(|(served, _)| served)
        };
        given(&name)
            .or_else(|| wildcard.as_deref().and_then(given))
            .or_else(borne)
            .unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let served = hello.server_name().map_or(&self.default, |name| self.for_name(name));
        Some(served.current())
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
    fn new(source: CertificateSource) -> Result<Self, TlsError> {
        let pair = Pair::read(&source)?;
        let current = pair.certified(&source)?;
        Ok(Self { source, current: RwLock::new(Arc::new(current)), seen: RwLock::new(Some(pair)) })
    }

    fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the certificate is for `name`.
    fn bears(&self, name: &str) -> bool {
        let current = self.current();
        let Ok(name) = ServerName::try_from(name) else { return false };
        let leaf = current.cert.first().map(ParsedCertificate::try_from);
        leaf.and_then(Result::ok).is_some_and(|leaf| verify_server_name(&leaf, &name).is_ok())
    }

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

    proof_of_key!();
}
