//! `metav1.Status`: the body of every answer that is an error.
//!
//! Messages and details have the shapes of `k8s.io/apimachinery/pkg/api/errors`, since clients
//! (and people) match on them.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

/// The machine-readable reasons of `metav1.StatusReason` that these APIs answer with.
pub mod reason {
    /// 401.
    pub const UNAUTHORIZED: &str = "Unauthorized";
    /// 403.
    pub const FORBIDDEN: &str = "Forbidden";
    /// 404.
    pub const NOT_FOUND: &str = "NotFound";
    /// 410: the resource version is too old.
    pub const EXPIRED: &str = "Expired";
    /// 400.
    pub const BAD_REQUEST: &str = "BadRequest";
    /// 405.
    pub const METHOD_NOT_ALLOWED: &str = "MethodNotAllowed";
    /// 406.
    pub const NOT_ACCEPTABLE: &str = "NotAcceptable";
    /// 422.
    pub const INVALID: &str = "Invalid";
    /// 429.
    pub const TOO_MANY_REQUESTS: &str = "TooManyRequests";
    /// 413.
    pub const REQUEST_ENTITY_TOO_LARGE: &str = "RequestEntityTooLarge";
    /// 500.
    pub const INTERNAL_ERROR: &str = "InternalError";
    /// 503.
    pub const SERVICE_UNAVAILABLE: &str = "ServiceUnavailable";
    /// 504.
    pub const TIMEOUT: &str = "Timeout";
}

/// A group and a resource in it; the group of the core API is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupResource<'a> {
    /// The API group, such as `metrics.k8s.io`.
    pub group: &'a str,
    /// The resource, such as `pods`.
    pub resource: &'a str,
}

impl Display for GroupResource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        Ok(())
    }
}

/// An error as the Kubernetes API reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Always `Status`.
    pub kind: Box<str>,
    /// Always `v1`.
    #[serde(rename = "apiVersion")]
    pub api_version: Box<str>,
    /// The metadata of a list, always empty.
    #[serde(default)]
    pub metadata: StatusMetadata,
    /// `Failure` (or `Success`).
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub status: Box<str>,
    /// What went wrong, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What went wrong, for programs: one of [`reason`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The object concerned, causes, and when to try again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<StatusDetails>>,
    /// The HTTP status code.
    #[serde(default)]
    pub code: u16,
}

/// The `metadata` of a [`Status`]: an empty object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusMetadata {}

/// What a [`Status`] is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusDetails {
    /// The name of the object, or `namespace/name`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The API group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The resource (despite the name of the field).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The unique identifier of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// The errors behind this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<StatusCause>,
    /// How many seconds to wait before the request is repeated; 0 says nothing.
    #[serde(rename = "retryAfterSeconds", skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// One error behind a [`Status`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusCause {
    /// What kind of error this is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The error, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The field or parameter that it is about.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

impl Status {
    fn failure(code: u16, reason: &str, message: String) -> Self {
        Self {
            kind: "Status".into(),
            api_version: "v1".into(),
            metadata: StatusMetadata {},
            status: "Failure".into(),
            message,
            reason: reason.to_owned(),
            details: None,
            code,
        }
    }

    fn about(self, of: GroupResource<'_>, name: &str) -> Self {
        self.with_details(StatusDetails {
            name: name.to_owned(),
            group: of.group.to_owned(),
            kind: of.resource.to_owned(),
            ..StatusDetails::default()
        })
    }

    fn with_details(mut self, details: StatusDetails) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// 404: there is no object `name` (or `namespace/name`).
    #[must_use]
    pub fn not_found(of: GroupResource<'_>, name: &str) -> Self {
        Self::failure(404, reason::NOT_FOUND, format!("{of} {} not found", quoted(name)))
            .about(of, name)
    }

    /// 404 for a path that no resource is served at.
    #[must_use]
    pub fn unknown_path() -> Self {
        let message = "the server could not find the requested resource".to_owned();
        Self::failure(404, reason::NOT_FOUND, message).with_details(StatusDetails::default())
    }

    /// 405 for a path that is served, but not with this method.
    #[must_use]
    pub fn method_not_served() -> Self {
        let message = "the server does not allow this method on the requested resource".to_owned();
        let status = Self::failure(405, reason::METHOD_NOT_ALLOWED, message);
        status.with_details(StatusDetails::default())
    }

    /// 400: the request makes no sense.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, reason::BAD_REQUEST, message.into())
    }

    /// 401: nobody known asks; upstream's message is `Unauthorized`.
    #[must_use]
    pub fn unauthorized(message: &str) -> Self {
        let message = if message.is_empty() { "not authorized" } else { message };
        Self::failure(401, reason::UNAUTHORIZED, message.to_owned())
    }

    /// 403: the asker may not; `name` may be empty. `of` with an empty resource is a path.
    #[must_use]
    pub fn forbidden(of: GroupResource<'_>, name: &str, why: impl Display) -> Self {
        let message = if of.resource.is_empty() {
            format!("forbidden: {why}")
        } else if name.is_empty() {
            format!("{of} is forbidden: {why}")
        } else {
            format!("{of} {} is forbidden: {why}", quoted(name))
        };
        Self::failure(403, reason::FORBIDDEN, message).about(of, name)
    }

    /// 405: the resource has no such verb, for example `create`.
    #[must_use]
    pub fn method_not_allowed(of: GroupResource<'_>, action: &str) -> Self {
        let kind = quoted(&of.to_string());
        let message = format!("{action} is not supported on resources of kind {kind}");
        Self::failure(405, reason::METHOD_NOT_ALLOWED, message).about(of, "")
    }

    /// 406: none of the media types that the client accepts can be served.
    #[must_use]
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message =
            format!("only the following media types are accepted: {}", accepted.join(", "));
        Self::failure(406, reason::NOT_ACCEPTABLE, message)
    }

    /// 410: the resource version is older than what is remembered; the client lists again.
    #[must_use]
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, reason::EXPIRED, message.into())
    }

    /// 413: the body of the request is over the limit.
    #[must_use]
    pub fn request_entity_too_large(message: impl Display) -> Self {
        let message = format!("Request entity too large: {message}");
        Self::failure(413, reason::REQUEST_ENTITY_TOO_LARGE, message)
    }

    /// 429: a limit of the server is reached; the client may ask again.
    #[must_use]
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::failure(429, reason::TOO_MANY_REQUESTS, message.into())
            .with_details(StatusDetails { retry_after_seconds, ..StatusDetails::default() })
    }

    /// 500: the fault is the server's.
    #[must_use]
    pub fn internal(error: impl Display) -> Self {
        let cause = StatusCause { message: error.to_string(), ..StatusCause::default() };
        let message = format!("Internal error occurred: {error}");
        Self::failure(500, reason::INTERNAL_ERROR, message)
            .with_details(StatusDetails { causes: vec![cause], ..StatusDetails::default() })
    }

    /// 503: the server cannot answer now.
    #[must_use]
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, reason::SERVICE_UNAVAILABLE, message.into())
    }

    /// 504: the answer did not come in time.
    #[must_use]
    pub fn timeout(message: impl Display, retry_after_seconds: u32) -> Self {
        Self::failure(504, reason::TIMEOUT, format!("Timeout: {message}"))
            .with_details(StatusDetails { retry_after_seconds, ..StatusDetails::default() })
    }

    /// The body: JSON and, as the generic API server writes it, a newline.
    ///
    /// # Panics
    /// Never: a status is a structure of strings and numbers.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut body = serde_json::to_vec(self).expect("a status has string keys only");
        body.push(b'\n');
        body
    }
}

impl Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

/// `text` in double quotes as Go's `%q` writes printable text.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if (c as u32) < 0x20 || c == '\u{7f}' => {
                out.push_str(&format!("\\x{:02x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const PODS: GroupResource<'static> =
        GroupResource { group: "metrics.k8s.io", resource: "podmetrics" };

    #[test]
    fn a_missing_object_has_the_body_of_the_generic_api_server() {
        let body = Status::not_found(PODS, "shop/web-0").to_json();
        assert_eq!(
            String::from_utf8(body).unwrap(),
            concat!(
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#,
                r#""message":"podmetrics.metrics.k8s.io \"shop/web-0\" not found","#,
                r#""reason":"NotFound","details":{"name":"shop/web-0","group":"metrics.k8s.io","#,
                r#""kind":"podmetrics"},"code":404}"#,
                "\n"
            )
        );
    }

    #[test]
    fn messages_have_the_shapes_that_clients_match() {
        let core = GroupResource { group: "", resource: "nodes" };
        let none = GroupResource { group: "", resource: "" };
        for (status, code, message) in [
            (Status::not_found(core, "n1"), 404, r#"nodes "n1" not found"#),
            (Status::unauthorized(""), 401, "not authorized"),
            (Status::forbidden(none, "", "no"), 403, "forbidden: no"),
            (Status::forbidden(PODS, "", "no"), 403, "podmetrics.metrics.k8s.io is forbidden: no"),
            (
                Status::forbidden(PODS, "a", "no"),
                403,
                r#"podmetrics.metrics.k8s.io "a" is forbidden: no"#,
            ),
            (
                Status::method_not_allowed(PODS, "create"),
                405,
                r#"create is not supported on resources of kind "podmetrics.metrics.k8s.io""#,
            ),
            (
                Status::not_acceptable(&["application/json", "application/yaml"]),
                406,
                "only the following media types are accepted: application/json, application/yaml",
            ),
            (Status::internal("disk"), 500, "Internal error occurred: disk"),
            (Status::timeout("slow", 0), 504, "Timeout: slow"),
        ] {
            assert_eq!((status.code, status.message.as_str()), (code, message));
        }
    }

    #[test]
    fn a_status_is_read_back() {
        let status = Status::too_many_requests("later", 7);
        assert_eq!(serde_json::from_slice::<Status>(&status.to_json()).unwrap(), status);
        let written = serde_json::to_value(&status).unwrap();
        assert_eq!(written["details"], serde_json::json!({"retryAfterSeconds": 7}));
    }
}
