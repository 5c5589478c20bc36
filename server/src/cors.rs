//! Which pages of other sites may read the API: none unless it is said.
//!
//! Prometheus lets all of them by default. Since a server on a loopback address is reached by every page that is open in a
//! browser beside it, that would publish what it stores.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use model::Matcher;

use crate::state::Server;

/// What a page may do, in Prometheus's words.
const ALLOWED: [(HeaderName, &str); 3] = [
    (header::ACCESS_CONTROL_ALLOW_HEADERS, "Accept, Authorization, Content-Type, Origin"),
    (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
    (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
];

/// Answers `OPTIONS`, which browsers ask first, and tells them whether the page that asks may read the answer.
pub(crate) async fn layer(
    State(server): State<Arc<Server>>,
    request: Request,
    next: Next,
) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = if *request.method() == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    if let Some(allowed) = &server.cors_origin {
        allow(response.headers_mut(), allowed, origin);
    }
    response
}

fn allow(headers: &mut HeaderMap, allowed: &Matcher, origin: Option<HeaderValue>) {
    // The answer depends on who asks, whether or not it is allowed.
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = origin.filter(|origin| origin.to_str().is_ok_and(|o| allowed.matches(o)))
    else {
        return;
    };
    for (name, value) in ALLOWED {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
}
