//! The secure listener.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::{HttpError, Limits, NamedCertificate, ServerTls, TlsError, TlsPolicy};
use model::Timestamp;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::api_services::{ApiServiceError, inject_ca, service_name};
use super::certificate::{CertificateError, ServingCertificate};
use super::layers::RequestLimits;
use super::metrics::RequestMetrics;
use super::paths::{Endpoints, app};
use crate::auth::Access;

/// How often it is looked whether the API server still trusts a certificate that was made here.
const TRUST_INTERVAL: Duration = Duration::from_secs(60);

/// How to listen.
#[derive(Clone)]
pub struct ListenerConfig {
    /// `--bind-address`; an unspecified one stands for all interfaces of both families.
    pub bind_address: IpAddr,
    /// `--secure-port`
    pub port: u16,
    /// The certificate.
    pub certificate: ServingCertificate,
    /// Certificates for clients that ask for certain names.
    pub named_certificates: Vec<NamedCertificate>,
    /// TLS versions and cipher suites.
    pub tls: TlsPolicy,
    /// `APIService` objects that are to trust a certificate made here, and who changes them. The first must exist and
    /// says which name the certificate must bear; of the others only those with the same service are changed.
    pub trusted_by: Option<(kube::Client, Vec<String>)>,
    /// Bounds of connections.
    pub limits: Limits,
    /// Bounds of requests.
    pub request_limits: RequestLimits,
}

impl std::fmt::Debug for ListenerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ListenerConfig")
            .field("bind_address", &self.bind_address)
            .field("port", &self.port)
            .field("certificate", &self.certificate)
            .field("named_certificates", &self.named_certificates)
            .field("tls", &self.tls)
            .field("limits", &self.limits)
            .field("request_limits", &self.request_limits)
            .finish_non_exhaustive()
    }
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServingError {
    /// The address cannot be listened on.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// There is no certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate is unusable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// It is not known by which names the API server asks us.
    #[error(transparent)]
    ApiService(#[from] ApiServiceError),
}

/// A listener with its certificate, before it serves.
#[derive(Debug)]
pub struct SecureListener {
    listener: TcpListener,
    tls: ServerTls,
    config: ListenerConfig,
    /// The authority of a certificate that was made here, PEM.
    ca: Option<String>,
}

impl SecureListener {
    /// Listens, and has a certificate ready. Connections wait until it serves.
    ///
    /// # Errors
    /// [`ServingError`]
    pub async fn bind(mut config: ListenerConfig, now: Timestamp) -> Result<Self, ServingError> {
        if let (ServingCertificate::SelfMade { names, .. }, Some((client, services))) =
            (&mut config.certificate, &config.trusted_by)
        {
            names.extend(service_name(client, services).await?);
        }
        if let ServingCertificate::SelfMade { names, .. } = &mut config.certificate
            && !config.bind_address.is_unspecified()
        {
            names.push(config.bind_address.to_string());
        }
        let (source, ca) = config.certificate.source(now)?;
        if ca.is_none() && config.trusted_by.is_some() {
            tracing::warn!(
                "--inject-ca-bundle does nothing: the serving certificate was not made here, and its authority is not known"
            );
        }
        let tls = ServerTls::with_policy(source, &config.named_certificates, true, &config.tls)?;
        let listener = listen(config.bind_address, config.port).await?;
        Ok(Self { listener, tls, config, ca })
    }

    /// Where it listens; the port is the one in use even if any was asked for.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The authority of a certificate that was made here, PEM.
    #[must_use]
    pub fn ca(&self) -> Option<&str> {
        self.ca.as_deref()
    }

    /// The certificate, for a reload on request.
    #[must_use]
    pub fn tls(&self) -> ServerTls {
        self.tls.clone()
    }

    /// Serves until `shutdown` is cancelled, then lets open requests finish. Meanwhile the API server is made to trust
    /// the certificate, if that is asked for; until it does, the objects stay as they are.
    ///
    /// # Errors
    /// [`ServingError`]
    pub async fn serve(
        self,
        endpoints: Endpoints,
        access: &Access,
        metrics: &RequestMetrics,
        now: Timestamp,
        shutdown: CancellationToken,
    ) -> Result<(), ServingError> {
        let Self { listener, tls, config, ca } = self;
        let router = app(endpoints, access, config.request_limits, metrics);
        let serving = http::serve_tls(listener, tls, router, config.limits, shutdown);
        let Some(((client, services), ca)) = config.trusted_by.zip(ca) else {
            return Ok(serving.await?);
        };
        tokio::select! {
            served = serving => Ok(served?),
            () = keep_trusted(&client, &services, &ca, now) => Ok(()),
        }
    }
}

/// [`SecureListener::bind`] and [`SecureListener::serve`].
///
/// # Errors
/// [`ServingError`]
pub async fn run(
    config: ListenerConfig,
    endpoints: Endpoints,
    access: &Access,
    metrics: &RequestMetrics,
    now: Timestamp,
    shutdown: CancellationToken,
) -> Result<(), ServingError> {
    let listener = SecureListener::bind(config, now).await?;
    listener.serve(endpoints, access, metrics, now, shutdown).await
}

/// Sees to it that the API server trusts `ca`, for ever: whoever installs us anew puts the objects back as they were.
async fn keep_trusted(client: &kube::Client, services: &[String], ca: &str, now: Timestamp) {
    let began = Instant::now();
    loop {
        let passed = Timestamp::try_from(began.elapsed().as_millis()).unwrap_or(Timestamp::MAX);
        if let Err(error) = inject_ca(client, services, ca, now.saturating_add(passed)).await {
            tracing::warn!(%error, "the API server may not trust our certificate yet");
        }
        tokio::time::sleep(TRUST_INTERVAL).await;
    }
}

async fn listen(address: IpAddr, port: u16) -> Result<TcpListener, HttpError> {
    if address.is_unspecified() {
        // The IPv6 socket takes IPv4 too; a machine without IPv6 has no such socket.
        match http::bind(&format!("[::]:{port}")).await {
            Ok(listener) => return Ok(listener),
            Err(error) => tracing::debug!(%error, "listening on IPv4 only"),
        }
        return http::bind(&format!("0.0.0.0:{port}")).await;
    }
    http::bind(&SocketAddr::new(address, port).to_string()).await
}
