//! The client side: whom to trust, and who to be.

use std::fmt;
use std::sync::Arc;

use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{TlsError, certificates, private_key, provider};

/// How a client speaks TLS. The default verifies servers against the system's certificate authorities.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// PEM certificates of the authorities to trust instead of the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// The client's own certificate chain and private key, both PEM.
    pub identity_pem: Option<(Vec<u8>, Vec<u8>)>,
    /// Do not verify who the server is. It may be anyone.
    pub insecure_skip_verify: bool,
    /// The name or IP address that the server's certificate must bear, instead of the URL's host.
    pub server_name: Option<String>,
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key is a secret, and certificates are long.
        f.debug_struct("TlsOptions")
            .field("own_ca", &self.ca_pem.is_some())
            .field("identity", &self.identity_pem.is_some())
            .field("insecure_skip_verify", &self.insecure_skip_verify)
            .field("server_name", &self.server_name)
            .finish()
    }
}

/// Connects to `http` and `https` as `options` say.
pub(crate) fn connector(options: TlsOptions) -> Result<HttpsConnector<HttpConnector>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::Refused { what: "TLS versions", source })?;
    let builder = if options.insecure_skip_verify {
        let algorithms = provider().signature_verification_algorithms;
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(algorithms)))
    } else {
        builder.with_root_certificates(authorities(options.ca_pem.as_deref())?)
    };
    let config = match options.identity_pem {
        Some((chain, key)) => {
            let what = "client certificate";
            let chain = certificates(&chain, what)?;
            builder
                .with_client_auth_cert(chain, private_key(&key, what)?)
                .map_err(|source| TlsError::Refused { what, source })?
        }
        None => builder.with_no_client_auth(),
    };
    let builder = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http();
    let builder = match options.server_name {
        Some(name) => {
            let parsed = ServerName::try_from(name.as_str())
                .map_err(|_| TlsError::ServerName { name: name.clone() })?;
            builder.with_server_name_resolver(FixedServerNameResolver::new(parsed.to_owned()))
        }
        None => builder,
    };
    Ok(builder.enable_http1().wrap_connector(tcp()))
}

/// Connects to `http`; whoever calls does not let `https` through, which would trust nobody.
pub(crate) fn plain_connector() -> HttpsConnector<HttpConnector> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for TLS 1.2 and 1.3")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let builder = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http();
    builder.enable_http1().wrap_connector(tcp())
}

fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    // The scheme is the outer connector's to check.
    tcp.enforce_http(false);
    tcp
}

fn authorities(ca_pem: Option<&[u8]>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let Some(pem) = ca_pem else {
        let found = rustls_native_certs::load_native_certs();
        let (usable, unusable) = roots.add_parsable_certificates(found.certs);
        tracing::debug!(usable, unusable, errors = found.errors.len(), "system's authorities");
        if usable == 0 {
            let reason = found.errors.first().map_or_else(
                || String::from("the system has none: name a CA file"),
                ToString::to_string,
            );
            return Err(TlsError::Certificates { what: String::from("system's CAs"), reason });
        }
        return Ok(roots);
    };
    for certificate in certificates(pem, "CA bundle")? {
        roots.add(certificate).map_err(|source| TlsError::Refused { what: "CA bundle", source })?;
    }
    Ok(roots)
}

/// Takes any certificate, but still makes the server prove that it has the key.
#[derive(Debug)]
pub(super) struct Unverified(pub(super) WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    proof_of_key!();
}
