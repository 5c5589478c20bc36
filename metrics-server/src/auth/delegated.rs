//! Everything of this module together, as a server in a cluster needs it.

use std::sync::Arc;
use std::time::Duration;

use model::Clock;
use tokio_util::sync::CancellationToken;

use super::authentication::{AuthenticationOptions, Authenticator};
use super::authorization::{AllowedPaths, AuthorizationOptions, Authorizer};
use super::cluster::ClusterReviewer;
use super::sources::{SourceError, TrustSources};
use super::trust::TrustStore;

/// Who decides about requests.
#[derive(Clone, Debug)]
pub struct Access {
    /// Finds out who asks.
    pub authenticator: Arc<Authenticator>,
    /// Decides whether they may.
    pub authorizer: Arc<Authorizer>,
}

/// How to delegate to an API server.
#[derive(Clone)]
pub struct DelegatedOptions {
    /// Reviews tokens, `--authentication-kubeconfig`; without one, tokens are ignored.
    pub authentication_client: Option<kube::Client>,
    /// Reviews access, `--authorization-kubeconfig`; without one, what is not always allowed is forbidden.
    pub authorization_client: Option<kube::Client>,
    /// Where certificate authorities and the front proxy's headers come from.
    pub sources: TrustSources,
    /// `--authentication-tolerate-lookup-failure`: start even if the sources cannot be read.
    pub tolerate_lookup_failure: bool,
    /// `--authentication-token-webhook-cache-ttl`; 10 s upstream.
    pub token_ttl: Duration,
    /// `--authorization-webhook-cache-authorized-ttl`; 10 s upstream.
    pub allowed_ttl: Duration,
    /// `--authorization-webhook-cache-unauthorized-ttl`; 10 s upstream.
    pub denied_ttl: Duration,
    /// `--authorization-always-allow-paths`
    pub always_allow_paths: AllowedPaths,
    /// Time for one question to the API server; 10 s upstream.
    pub review_timeout: Duration,
}

impl DelegatedOptions {
    /// Upstream's defaults, with one client for everything.
    #[must_use]
    pub fn new(client: kube::Client) -> Self {
        Self {
            authentication_client: Some(client.clone()),
            authorization_client: Some(client.clone()),
            sources: TrustSources { client: Some(client), client_ca_file: None, front_proxy: None },
            tolerate_lookup_failure: false,
            token_ttl: Duration::from_secs(10),
            allowed_ttl: Duration::from_secs(10),
            denied_ttl: Duration::from_secs(10),
            always_allow_paths: AllowedPaths::default(),
            review_timeout: Duration::from_secs(10),
        }
    }
}

impl std::fmt::Debug for DelegatedOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DelegatedOptions")
            .field("sources", &self.sources)
            .field("tolerate_lookup_failure", &self.tolerate_lookup_failure)
            .field("always_allow_paths", &self.always_allow_paths)
            .finish_non_exhaustive()
    }
}

impl Access {
    /// Delegates to an API server, and follows whom to believe until `shutdown` is cancelled.
    ///
    /// # Errors
    /// [`SourceError`]: it is not known whom to believe, and that is not tolerated.
    pub async fn delegated(
        options: DelegatedOptions,
        clock: Arc<dyn Clock>,
        shutdown: CancellationToken,
    ) -> Result<Self, SourceError> {
        let trust = Arc::new(TrustStore::default());
        if let Err(error) = options.sources.load(&trust).await {
            if !options.tolerate_lookup_failure {
                return Err(error);
            }
            tracing::warn!(%error, "until this is known, clients may be taken for anonymous");
        }
        let reviewer = |client| Arc::new(ClusterReviewer::new(client, options.review_timeout));
        let authenticator = Authenticator::new(AuthenticationOptions {
            trust: Arc::clone(&trust),
            tokens: options.authentication_client.map(|client| reviewer(client) as _),
            audiences: Vec::new(),
            token_ttl: options.token_ttl,
            clock,
        });
        let access = options.authorization_client.map(|client| reviewer(client) as _);
        let authorizer = Authorizer::new(AuthorizationOptions {
            always_allow_paths: options.always_allow_paths,
            allowed_ttl: options.allowed_ttl,
            denied_ttl: options.denied_ttl,
            ..AuthorizationOptions::new(access)
        });
        tokio::spawn(options.sources.follow(trust, shutdown));
        Ok(Self { authenticator: Arc::new(authenticator), authorizer: Arc::new(authorizer) })
    }
}
