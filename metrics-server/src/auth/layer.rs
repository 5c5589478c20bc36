//! The two steps before a handler, as middleware.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::PeerCertificates;
use metrics_api::Status;

use super::authentication::Authenticator;
use super::authorization::{Authorizer, Decision, forbidden};
use super::impersonation::impersonated;
use super::request_info::RequestInfo;
use super::user::User;
use crate::serving::respond;

/// Finds out who asks, and hands the request on with a [`User`] in its extensions and without credentials in its
/// headers. Whoever acts as somebody else is that somebody from here on.
///
/// A [`RequestInfo`] must be among the extensions.
pub async fn authenticate(
    State((authenticator, authorizer)): State<(Arc<Authenticator>, Arc<Authorizer>)>,
    mut request: Request,
    next: Next,
) -> Response {
    let presented = request.extensions().get::<PeerCertificates>().cloned();
    let headers = request.headers_mut();
    let user = match authenticator.authenticate(headers, presented.as_ref()).await {
        Ok(user) => user,
        Err(errors) => {
            for error in &errors {
                tracing::warn!(%error, "unable to authenticate the request");
            }
            return respond(&Status::unauthorized("Unauthorized"));
        }
    };
    let user = match impersonated(&authorizer, &user, headers).await {
        Ok(None) => user,
        Ok(Some(other)) => {
            tracing::info!(user = user.name, acts_as = other.name, "impersonation");
            other
        }
        Err(status) => return respond(&status),
    };
    request.extensions_mut().insert(user);
    next.run(request).await
}

/// Hands on a request whose [`User`] may do what its [`RequestInfo`] says; both must be among the extensions.
pub async fn authorize(
    State(authorizer): State<Arc<Authorizer>>,
    request: Request,
    next: Next,
) -> Response {
    let extensions = request.extensions();
    let (Some(user), Some(info)) = (extensions.get::<User>(), extensions.get::<RequestInfo>())
    else {
        // Fails closed: nobody is let through because a step was left out.
        return respond(&Status::internal("no user or no RequestInfo found for the request"));
    };
    match authorizer.authorize(user, info).await {
        Ok(Decision::Allowed) => next.run(request).await,
        Ok(Decision::Denied { reason }) => {
            tracing::debug!(user = user.name, path = info.path, reason, "forbidden");
            respond(&forbidden(user, info, &reason))
        }
        Err(error) => {
            tracing::warn!(%error, user = user.name, path = info.path, "cannot authorize");
            respond(&Status::internal(error))
        }
    }
}
