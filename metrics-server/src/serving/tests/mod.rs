//! The listener as clients meet it, over TLS on loopback.

mod access;
mod behaviour;
mod trusted;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Method;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Client, ClientOptions, Limits, Request, Response, TlsOptions, TlsPolicy};
use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo};
use k8s_openapi::api::authorization::v1::{SubjectAccessReviewSpec, SubjectAccessReviewStatus};
use model::{Clock, SystemClock, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use telemetry::Registry;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::auth::{
    Access, AccessReviewer, AuthenticationOptions, Authenticator, Authorities,
    AuthorizationOptions, Authorizer, FrontProxy, ReviewError, TokenReviewer, Trust, TrustStore,
    UserHeaders,
};

/// Whoever issues certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What a certificate says, beside who issued it.
struct Subject<'a> {
    common_name: &'a str,
    organization: Option<&'a str>,
    usage: ExtendedKeyUsagePurpose,
    expired: bool,
}

fn client_named(common_name: &str) -> Subject<'_> {
    let usage = ExtendedKeyUsagePurpose::ClientAuth;
    Subject { common_name, organization: None, usage, expired: false }
}

type Identity = (Vec<u8>, Vec<u8>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, subject: &Subject<'_>) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, subject.common_name);
        if let Some(organization) = subject.organization {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        params.extended_key_usages = vec![subject.usage.clone()];
        if subject.expired {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem().into_bytes(), key.serialize_pem().into_bytes())
    }

    fn trusted(&self) -> Authorities {
        Authorities::from_pem(self.0.pem().as_bytes(), "test").unwrap()
    }
}

/// Knows whose tokens are good, and who may do what.
struct Cluster;

impl TokenReviewer for Cluster {
    fn review<'a>(
        &'a self,
        token: &'a str,
        _audiences: &'a [String],
    ) -> BoxFuture<'a, Result<TokenReviewStatus, ReviewError>> {
        Box::pin(async move {
            let name = match token {
                "of-down" => return Err(ReviewError::TimedOut),
                known => known.strip_prefix("of-").map(String::from),
            };
            Ok(TokenReviewStatus {
                authenticated: Some(name.is_some()),
                user: Some(UserInfo { username: name, ..UserInfo::default() }),
                ..TokenReviewStatus::default()
            })
        })
    }
}

impl AccessReviewer for Cluster {
    /// As a cluster's default roles would have it: discovery for the authenticated. `jane` and `hpa` may read metrics,
    /// `hpa` may also watch them, `prometheus` may scrape; about `unsure` nobody can tell.
    fn review<'a>(
        &'a self,
        spec: &'a SubjectAccessReviewSpec,
    ) -> BoxFuture<'a, Result<SubjectAccessReviewStatus, ReviewError>> {
        Box::pin(async move {
            let user = spec.user.as_deref().unwrap_or_default();
            if user == "unsure" {
                return Err(ReviewError::TimedOut);
            }
            let groups = spec.groups.clone().unwrap_or_default();
            let allowed = if let Some(path) = &spec.non_resource_attributes {
                let path = path.path.as_deref().unwrap_or_default();
                let discovery = ["/apis", "/openapi", "/version"];
                let discovers = discovery.iter().any(|prefix| path.starts_with(prefix))
                    && groups.iter().any(|group| group == "system:authenticated");
                discovers || (path == "/metrics" && user == "prometheus")
            } else {
                let asked = spec.resource_attributes.clone().unwrap();
                let reads = matches!(asked.verb.as_deref(), Some("get" | "list"));
                match user {
                    "hpa" => reads || asked.verb.as_deref() == Some("watch"),
                    "jane" => reads,
                    _ => false,
                }
            };
            Ok(SubjectAccessReviewStatus { allowed, ..SubjectAccessReviewStatus::default() })
        })
    }
}

/// A server that trusts two authorities.
struct Server {
    url: String,
    ca: String,
    trust: Arc<TrustStore>,
    front_proxies: Authority,
    clients: Authority,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<Result<(), ServingError>>,
}

impl Server {
    async fn start(apis: Router, checks: Checks, request_limits: RequestLimits) -> Self {
        Self::start_with(config(request_limits), apis, checks).await
    }

    async fn start_with(config: ListenerConfig, apis: Router, checks: Checks) -> Self {
        let (front_proxies, clients) = (Authority::new(), Authority::new());
        let trust = Arc::new(TrustStore::new(Trust {
            clients: Some(clients.trusted()),
            front_proxy: Some(FrontProxy {
                authorities: front_proxies.trusted(),
                headers: UserHeaders::standard(),
                allowed_names: vec![String::from("front-proxy-client")],
            }),
        }));
        let access = Access {
            authenticator: Arc::new(Authenticator::new(AuthenticationOptions {
                trust: Arc::clone(&trust),
                tokens: Some(Arc::new(Cluster)),
                audiences: Vec::new(),
                token_ttl: Duration::from_secs(10),
                clock: Arc::new(SystemClock),
            })),
            authorizer: Arc::new(Authorizer::new(AuthorizationOptions::new(Some(Arc::new(
                Cluster,
            ))))),
        };
        let listener = SecureListener::bind(config, now()).await.unwrap();
        let url = format!("https://{}", listener.local_address().unwrap());
        let ca = String::from(listener.ca().unwrap());
        let registry = Registry::new();
        let metrics = RequestMetrics::new(&registry);
        let apis = apis.merge(crate::resource::discovery_router(|| vec![crate::resource::group()]));
        let endpoints = Endpoints { apis, groups: Vec::new(), checks, registry };
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let serving =
            tokio::spawn(
                async move { listener.serve(endpoints, &access, &metrics, now(), stop).await },
            );
        Self { url, ca, trust, front_proxies, clients, shutdown, serving }
    }

    fn client(&self, identity_pem: Option<Identity>) -> Client {
        let ca_pem = Some(self.ca.clone().into_bytes());
        let tls = Some(TlsOptions { ca_pem, identity_pem, ..TlsOptions::default() });
        Client::new(ClientOptions { tls, ..ClientOptions::default() }).unwrap()
    }

    async fn ask(&self, client: &Client, path: &str, headers: &[(&str, &str)]) -> Response {
        let request = Request {
            method: Method::GET,
            url: &format!("{}{path}", self.url),
            headers,
            body: Bytes::new(),
            timeout: Duration::from_secs(60),
            body_bytes_max: 1 << 20,
        };
        client.send(request).await.unwrap()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.serving.await.unwrap().unwrap();
    }
}

fn config(request_limits: RequestLimits) -> ListenerConfig {
    ListenerConfig {
        bind_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 0,
        certificate: ServingCertificate::SelfMade { directory: None, names: Vec::new() },
        named_certificates: Vec::new(),
        tls: TlsPolicy::default(),
        trusted_by: None,
        limits: Limits::default(),
        request_limits,
    }
}

fn now() -> Timestamp {
    SystemClock.now()
}
