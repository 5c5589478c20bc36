//! HTTP for every daemon: a listener and a client, both with bounds.
//!
//! [`serve`] limits connections, headers, bodies and the time to drain; [`Client`] limits the time of a whole request, the
//! bytes of a body before and after decompression, and redirects. What is served or asked is the caller's business.

mod client;
mod connection;
mod guarded_body;
mod gzip;
mod listener;
mod timed_body;
mod tls;

pub use client::{Client, ClientOptions, FetchError, GetRequest, Request, Response};
pub use guarded_body::GuardedBody;
pub use listener::{HttpError, Limits, Uncompressed, bind, serve, serve_tls};
pub use tls::{
    BadTlsVersion, CertificateSource, NamedCertificate, PeerCertificates, ServerTls, TlsError,
    TlsOptions, TlsPolicy, TlsVersion, certificates,
};
