//! Asks kubelets, or agents that answer like them, for resource metrics.
//!
//! [`Scraper`] holds the nodes and asks each in its own slot of the resolution; [`Ask`] is one request; [`Decoder`] reads the answer
//! while it arrives. What is learnt goes to the [`Store`](crate::store::Store) at once: a node never waits for another.

mod client;
mod credentials;
mod decode;
mod endpoint;
mod metrics;
mod schedule;
mod scraper;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::StatusCode;

pub use client::{Answer, Ask, BODY_BYTES_MAX, Idle};
pub use credentials::{Credentials, KubeletTls};
pub use decode::{DecodeError, Decoder, Report};
pub use endpoint::{Endpoint, EndpointOptions, NodeStatus, PATH_ANNOTATION, RESOURCE_METRICS_PATH};
pub use metrics::ScrapeMetrics;
pub use schedule::Slots;
pub use scraper::{ScrapeOptions, Scraper};

/// Why a kubelet could not be asked or its answer not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KubeletError {
    /// The node has none of the wanted addresses.
    #[error("no address matched types {types}")]
    NoAddress {
        /// The wanted types.
        types: String,
    },
    /// The address is none that a node of a cluster has.
    #[error("refusing to ask {address}: {reason} address")]
    AddressRefused {
        /// The address.
        address: IpAddr,
        /// What kind of address it is.
        reason: &'static str,
    },
    /// The host has no address.
    #[error("lookup {host}: {reason}")]
    Resolve {
        /// The host.
        host: Box<str>,
        /// What the resolver said.
        reason: String,
    },
    /// No connection came about.
    #[error("dial tcp {authority}: {source}")]
    Connect {
        /// Host and port.
        authority: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The host cannot be verified, as it is neither a DNS name nor an address.
    #[error("{host:?} is no name that a certificate could have")]
    ServerName {
        /// The host.
        host: Box<str>,
    },
    /// No TLS session came about: most often a certificate that is not trusted.
    #[error("TLS handshake with {authority}: {source}")]
    Handshake {
        /// Host and port.
        authority: String,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("connection lost: {source}")]
    Connection {
        /// What happened.
        source: hyper::Error,
    },
    /// The whole took too long.
    #[error("no complete answer within {timeout:?}")]
    Timeout {
        /// The bound.
        timeout: Duration,
    },
    /// The path cannot stand in a request.
    #[error("malformed path {path:?}")]
    Path {
        /// The path.
        path: Box<str>,
    },
    /// The kubelet refuses. Redirects are refusals too: a node must not choose whom our credentials are shown to.
    #[error("request failed, status: \"{status}\" {said}")]
    Status {
        /// The status.
        status: StatusCode,
        /// The start of the body.
        said: String,
    },
    /// The answer is compressed although that was not asked for.
    #[error("the answer is encoded as {encoding:?}")]
    Encoding {
        /// The content coding.
        encoding: String,
    },
    /// The answer is longer than any node's.
    #[error("the answer is longer than {BODY_BYTES_MAX} bytes")]
    BodyTooLarge,
    /// The answer holds nothing of use.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Why the credentials for kubelets cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file holds no certificates.
    #[error("no certificate in {path}", path = path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// Certificates, keys or tokens cannot be used together.
    #[error("credentials for kubelets: {source}")]
    Unusable {
        /// What is wrong with them.
        source: Box<kube::Error>,
    },
    /// The token is not a valid header value, or no token came about.
    #[error("bearer token for kubelets: {reason}")]
    Token {
        /// What is wrong with it.
        reason: String,
    },
}
