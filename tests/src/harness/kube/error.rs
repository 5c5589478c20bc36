//! Refusals, as `metav1.Status`.

use serde_json::{Value, json};

/// A refusal.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    pub(crate) code: u16,
    reason: &'static str,
    message: String,
    details: Option<Value>,
}

pub(crate) type ApiResult<T> = Result<T, ApiError>;

/// The group and resource that a message names: `pods`, `deployments.apps`.
pub(crate) fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { String::from(resource) } else { format!("{resource}.{group}") }
}

impl ApiError {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    fn of_object(mut self, group: &str, resource: &str, name: &str) -> Self {
        let mut details = json!({ "kind": resource });
        if !name.is_empty() {
            details["name"] = name.into();
        }
        if !group.is_empty() {
            details["group"] = group.into();
        }
        self.details = Some(details);
        self
    }

    pub(crate) fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", qualified(group, resource));
        Self::new(404, "NotFound", message).of_object(group, resource, name)
    }

    pub(crate) fn no_such_path() -> Self {
        let mut error =
            Self::new(404, "NotFound", "the server could not find the requested resource");
        error.details = Some(json!({}));
        error
    }

    pub(crate) fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", qualified(group, resource));
        Self::new(409, "AlreadyExists", message).of_object(group, resource, name)
    }

    pub(crate) fn conflict(group: &str, resource: &str, name: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": the object has been modified; please \
             apply your changes to the latest version and try again",
            qualified(group, resource)
        );
        Self::new(409, "Conflict", message).of_object(group, resource, name)
    }

    pub(crate) fn precondition(group: &str, resource: &str, name: &str, what: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": Precondition failed: {what}",
            qualified(group, resource)
        );
        Self::new(409, "Conflict", message).of_object(group, resource, name)
    }

    /// Fields that an apply would take from others: who has each, and its path.
    pub(crate) fn apply_conflict(conflicts: &[(String, String)]) -> Self {
        let mut message = match conflicts {
            [(who, path)] => format!("Apply failed with 1 conflict: conflict with {who}: {path}"),
            several => format!("Apply failed with {} conflicts: ", several.len()),
        };
        let mut causes = Vec::new();
        let mut last = "";
        for (who, path) in conflicts {
            causes.push(json!({
                "reason": "FieldManagerConflict",
                "message": format!("conflict with {who}"),
                "field": path,
            }));
            if conflicts.len() > 1 {
                if last != who {
                    let separator = if last.is_empty() { "" } else { "\n" };
                    message.push_str(&format!("{separator}conflicts with {who}:"));
                    last = who;
                }
                message.push_str(&format!("\n- {path}"));
            }
        }
        let mut error = Self::new(409, "Conflict", message);
        error.details = Some(json!({ "causes": causes }));
        error
    }

    pub(crate) fn invalid(group: &str, kind: &str, name: &str, why: &str) -> Self {
        let message = format!("{} \"{name}\" is invalid: {why}", qualified(group, kind));
        Self::new(422, "Invalid", message).of_object(group, kind, name)
    }

    /// Adds what is wrong, each as `path: problem`.
    pub(crate) fn because(mut self, errors: &[String]) -> Self {
        let causes = errors.iter().map(|error| {
            let (field, message) = error.split_once(": ").unwrap_or(("", error));
            json!({ "reason": "FieldValueInvalid", "field": field, "message": message })
        });
        let causes: Value = causes.collect();
        self.details.get_or_insert_with(|| json!({}))["causes"] = causes;
        self
    }

    pub(crate) fn bad_request(why: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", why)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    pub(crate) fn forbidden(group: &str, resource: &str, name: &str, message: String) -> Self {
        Self::new(403, "Forbidden", message).of_object(group, resource, name)
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        let mut error = Self::new(405, "MethodNotAllowed", message);
        error.details = Some(json!({}));
        error
    }

    pub(crate) fn not_acceptable() -> Self {
        let message = "only the following media types are accepted: application/json";
        Self::new(406, "NotAcceptable", message)
    }

    pub(crate) fn unsupported_media_type(accepted: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: \
             {accepted}"
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub(crate) fn too_large() -> Self {
        let message = "Request entity too large: limit is 3145728";
        Self::new(413, "RequestEntityTooLarge", message)
    }

    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// A list or watch from a version that is not there yet.
    pub(crate) fn too_large_version(requested: u64, current: u64) -> Self {
        let message = format!("Too large resource version: {requested}, current: {current}");
        let mut error = Self::new(504, "Timeout", format!("Timeout: {message}"));
        let cause =
            json!({ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" });
        error.details = Some(json!({ "causes": [cause], "retryAfterSeconds": 1 }));
        error
    }

    /// A failure that a test asked for.
    pub(crate) fn injected(code: u16) -> Self {
        let reason = match code {
            400 => "BadRequest",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            409 => "Conflict",
            410 => "Expired",
            429 => "TooManyRequests",
            500 => "InternalError",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "",
        };
        let mut error = Self::new(code, reason, format!("injected failure {code}"));
        if code == 429 {
            error.details = Some(json!({ "retryAfterSeconds": 1 }));
        }
        error
    }

    /// When the client may try again, if that is known.
    pub(crate) fn retry_after_seconds(&self) -> Option<u64> {
        self.details.as_ref()?["retryAfterSeconds"].as_u64()
    }

    /// The body.
    pub(crate) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        });
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }
}
