//! TLS as servers of a cluster have it: client certificates are asked for, and judged only when a request is.

use std::sync::Arc;
use std::time::Duration;

use model::{Clock, SystemClock};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::pki::Identity;

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Lets every certificate pass whose key the client has; [`ClientAuthority`] decides what it is worth.
#[derive(Debug)]
struct AnyClient(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// A server that shows `identity`.
pub(crate) fn server(identity: &Identity) -> ServerConfig {
    let provider = provider();
    let clients = Arc::new(AnyClient(provider.signature_verification_algorithms));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows the default versions")
        .with_client_cert_verifier(clients)
        .with_single_cert(identity.chain(), identity.key())
        .expect("the key is the certificate's");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// Tells whether a certificate is of an authority.
#[derive(Debug)]
pub(crate) struct ClientAuthority(Arc<dyn ClientCertVerifier>);

impl ClientAuthority {
    pub(crate) fn new(roots: Arc<RootCertStore>) -> Self {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
        Self(verifier.expect("an authority's certificate is a root"))
    }

    /// Whether the first of `certificates` is valid now, by way of the others.
    pub(crate) fn issued(&self, certificates: &[CertificateDer<'_>]) -> bool {
        let [own, others @ ..] = certificates else { return false };
        let now_ms = u64::try_from(SystemClock.now()).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(Duration::from_millis(now_ms));
        self.0.verify_client_cert(own, others, now).is_ok()
    }
}
