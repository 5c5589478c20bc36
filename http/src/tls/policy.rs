//! What a server speaks: the oldest version and the cipher suites, by the names that Go and Kubernetes have for them.

use std::str::FromStr;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{CipherSuite, ProtocolVersion, SupportedProtocolVersion};

use super::{TlsError, provider};

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2, the oldest that is spoken.
    #[default]
    V12,
    /// TLS 1.3.
    V13,
}

/// A text is not the name of a TLS version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be VersionTLS10, VersionTLS11, VersionTLS12 or VersionTLS13")]
pub struct BadTlsVersion;

impl FromStr for TlsVersion {
    type Err = BadTlsVersion;

    /// As Kubernetes writes it. Older versions than 1.2 allow 1.2, so they are no reason to refuse.
    fn from_str(text: &str) -> Result<Self, BadTlsVersion> {
        match text {
            "VersionTLS10" | "VersionTLS11" | "VersionTLS12" => Ok(Self::V12),
            "VersionTLS13" => Ok(Self::V13),
            _ => Err(BadTlsVersion),
        }
    }
}

/// What a server speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsPolicy {
    /// The oldest version.
    pub min_version: TlsVersion,
    /// The cipher suites of TLS 1.2 by their IANA names, as Go and Kubernetes write them; all good ones if none are
    /// given. Those of TLS 1.3 cannot be chosen, as in Go, and may be named to no effect. Suites that are not implemented
    /// here are warned about; if no other is named, only TLS 1.3 is spoken.
    pub cipher_suites: Vec<String>,
}

impl TlsPolicy {
    /// The versions to speak.
    pub(crate) fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        const ONLY_TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
        match self.min_version {
            TlsVersion::V12 => rustls::ALL_VERSIONS,
            TlsVersion::V13 => ONLY_TLS13,
        }
    }

    /// A provider with the suites.
    ///
    /// # Errors
    /// [`TlsError::CipherSuite`]: a name is not that of a cipher suite.
    pub(crate) fn provider(&self) -> Result<Arc<CryptoProvider>, TlsError> {
        let provider = provider();
        if self.cipher_suites.is_empty() {
            return Ok(provider);
        }
        let wanted: Vec<_> = self.cipher_suites.iter().map(|name| canonical(name)).collect();
        if let Some(name) = wanted.iter().find(|name| !name.starts_with("TLS_")) {
            return Err(TlsError::CipherSuite { name: name.clone() });
        }
        let mut provider = (*provider).clone();
        let implemented: Vec<_> =
            provider.cipher_suites.iter().map(|suite| iana_name(suite.suite())).collect();
        for suite in wanted.iter().filter(|name| !implemented.contains(name)) {
            tracing::warn!(suite, "cipher suite is not implemented and will not be offered");
        }
        provider.cipher_suites.retain(|suite| {
            let is_tls13 = suite.version().version == ProtocolVersion::TLSv1_3;
            is_tls13 || wanted.contains(&iana_name(suite.suite()))
        });
        Ok(Arc::new(provider))
    }
}

/// Go's older names of two suites leave the hash out.
fn canonical(name: &str) -> String {
    let hash = if name.ends_with("_CHACHA20_POLY1305") { "_SHA256" } else { "" };
    format!("{name}{hash}")
}

/// `TLS_AES_128_GCM_SHA256`
fn iana_name(suite: CipherSuite) -> String {
    let name = format!("{suite:?}");
    match name.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        None => name,
    }
}
