//! Whether a request that changes something was made by a page of another site.
//!
//! Nothing else stands between a page that somebody visits and a server that listens on the visitor's machine: browsers
//! send simple POSTs anywhere and only keep the answer from the page.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// The answer to such a request.
pub(crate) fn refusal() -> Response {
    (StatusCode::FORBIDDEN, "Not for pages of other sites.\n").into_response()
}

/// Whether a page of another site made a browser send the request.
pub(crate) fn is_cross_site(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return !matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    // Older browsers, and those that reach us without TLS, say at least where a POST comes from.
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    match (authority, host) {
        (Some((_, authority)), Some(host)) => !authority.eq_ignore_ascii_case(host),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn browsers_say_where_a_request_comes_from() {
        for (given, cross_site) in [
            (&[][..], false),
            (&[("sec-fetch-site", "same-origin")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "same-site")], true),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("sec-fetch-site", "same-origin"), ("origin", "http://other")], false),
            (&[("origin", "http://localhost:9090"), ("host", "LOCALHOST:9090")], false),
            (&[("origin", "http://localhost:3000"), ("host", "localhost:9090")], true),
            (&[("origin", "https://evil.example"), ("host", "localhost:9090")], true),
            (&[("origin", "null"), ("host", "localhost:9090")], true),
            (&[("origin", "http://localhost:9090")], true),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in given {
                headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            assert_eq!(is_cross_site(&headers), cross_site, "{given:?}");
        }
    }
}
