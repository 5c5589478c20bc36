//! Complaints about fields, in the words and the form of `k8s.io/apimachinery/pkg/util/validation/field`.

use std::fmt::Write;

use serde::Serialize;

/// A field that the API server refuses, such as `spec.maxReplicas: Invalid value: 0: must be greater than 0`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct FieldError {
    /// The field, such as `spec.metrics[0].resource.name`.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
}

/// The complaints found so far.
#[derive(Debug, Default)]
pub(super) struct Complaints(pub(super) Vec<FieldError>);

impl Complaints {
    pub(super) fn required(&mut self, path: String, detail: &str) {
        self.push(path, String::from("Required value"), detail);
    }

    pub(super) fn forbidden(&mut self, path: String, detail: &str) {
        self.push(path, String::from("Forbidden"), detail);
    }

    pub(super) fn invalid(&mut self, path: String, value: &impl Serialize, detail: &str) {
        self.push(path, format!("Invalid value: {}", json(value)), detail);
    }

    /// `supported` in the order of bytes.
    pub(super) fn not_supported(&mut self, path: String, value: &str, supported: &[&str]) {
        let mut detail = String::from("supported values: ");
        for (at, value) in supported.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            // Writing to a string cannot fail.
            let _ = write!(detail, "{comma}{}", json(value));
        }
        self.push(path, format!("Unsupported value: {}", json(&value)), &detail);
    }

    fn push(&mut self, path: String, mut problem: String, detail: &str) {
        if !detail.is_empty() {
            problem.push_str(": ");
            problem.push_str(detail);
        }
        self.0.push(FieldError { path, problem });
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
