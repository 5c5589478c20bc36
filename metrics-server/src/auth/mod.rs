//! Delegated authentication and authorization: the API server knows who somebody is and what they may do.
//!
//! As in `k8s.io/apiserver`: a front proxy that proves itself by its certificate says who asks; or a client certificate
//! does, or a bearer token, which is reviewed. Whoever has no credentials is anonymous, and whoever has bad ones is
//! refused. Then the API server is asked whether they may. When it cannot be asked, the answer is no.

mod answers;
mod authentication;
mod authorization;
mod certificates;
mod cluster;
mod delegated;
mod impersonation;
mod layer;
mod request_info;
mod sources;
mod trust;
mod user;

pub use authentication::{
    AuthenticationError, AuthenticationOptions, Authenticator, TokenError, TokenReviewer,
};
pub use authorization::{
    AccessReviewer, AllowedPaths, AuthorizationOptions, Authorizer, Decision, PathPatternError,
    forbidden,
};
pub use certificates::Authorities;
pub use cluster::ClusterReviewer;
pub use delegated::{Access, DelegatedOptions};
pub use layer::{authenticate, authorize};
pub use request_info::{Ambiguous, RequestInfo, path_segments};
pub use sources::{FrontProxyFlags, SourceError, TrustSources};
pub use trust::{
    FrontProxy, Trust, TrustError, TrustStore, UserHeaders, clients_from, front_proxy_from,
};
pub use user::{ANONYMOUS, AUTHENTICATED, MASTERS, UNAUTHENTICATED, User};

/// Why the API server did not say whose a token is or who may do what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReviewError {
    /// It took too long.
    #[error("the API server did not answer in time")]
    TimedOut,
    /// It refused, or failed.
    #[error("the API server answered {code}: {message}")]
    Answered {
        /// The HTTP status.
        code: u16,
        /// What it said.
        message: String,
    },
    /// It cannot be reached, or what it says cannot be understood.
    #[error("cannot ask the API server: {0}")]
    Unreachable(String),
    /// It both allowed and denied the same.
    #[error("webhook subject access review returned both allow and deny response")]
    Contradiction,
}
