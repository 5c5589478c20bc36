//! The secure listener and everything around the handlers: certificate, access, limits, probes, own metrics.
//!
//! From the outside in, a request is counted, refused if it can be read in two ways, authenticated, held back if too
//! many are open, authorized, and then handled. An answer never redirects: a client that the API server speaks for must
//! not be sent elsewhere with its credentials.

mod api_services;
mod certificate;
mod layers;
mod listener;
mod metrics;
mod paths;
mod probes;
mod status;

pub use api_services::{ApiServiceError, inject_ca, service_name};
pub use certificate::{CertificateError, SelfMade, ServingCertificate};
pub use layers::RequestLimits;
pub use listener::{ListenerConfig, SecureListener, ServingError, run};
pub use metrics::RequestMetrics;
pub use paths::{Endpoints, app};
pub use probes::{Check, Checks};
pub use status::respond;

#[cfg(test)]
mod tests;
