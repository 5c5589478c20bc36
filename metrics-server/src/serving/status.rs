//! `metav1.Status` as an answer.

use axum::response::Response;
use metrics_api::{Encoding, Status};

/// Answers with `status`, in JSON whatever the client accepts: every client of these APIs reads that.
#[must_use]
pub fn respond(status: &Status) -> Response {
    crate::resource::respond(status, Encoding::Json)
}
