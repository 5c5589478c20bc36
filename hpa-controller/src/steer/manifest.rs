//! Manifests in, manifests out.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use serde_json::Value;

use super::rewrite::{SteerError, steered, unsteered};
use crate::explain::objects::documents;
use crate::spec;

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From what is meant to what a managed controller is to see.
    Steer,
    /// Back.
    Unsteer,
}

/// Why a manifest cannot be rewritten.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is not YAML.
    #[error("{0}")]
    Syntax(String),
    /// A document is something else.
    #[error("document {document}: it is a {kind}, not a HorizontalPodAutoscaler")]
    Kind {
        /// Which, from 1.
        document: usize,
        /// Its kind.
        kind: String,
    },
    /// An autoscaler cannot be read.
    #[error("document {document}: {error}")]
    Read {
        /// Which, from 1.
        document: usize,
        /// The field.
        error: spec::ReadError,
    },
    /// An autoscaler cannot be rewritten.
    #[error("document {document}: {error}")]
    Steer {
        /// Which, from 1.
        document: usize,
        /// Why.
        error: SteerError,
    },
    /// There is none.
    #[error("there is no HorizontalPodAutoscaler in it")]
    Empty,
}

/// The autoscalers of a manifest, rewritten, as YAML of as many documents.
///
/// # Errors
/// [`ManifestError`]
pub fn rewrite(text: &str, direction: Direction) -> Result<String, ManifestError> {
    let mut out = String::new();
    for (at, document) in documents(text).map_err(ManifestError::Syntax)?.into_iter().enumerate() {
        let place = at + 1;
        if document.is_null() {
            continue;
        }
        let kind = document["kind"].as_str().unwrap_or("document without a kind");
        if kind != "HorizontalPodAutoscaler" {
            return Err(ManifestError::Kind { document: place, kind: kind.to_owned() });
        }
        let read = spec::autoscaler(document);
        let read = read.map_err(|error| ManifestError::Read { document: place, error })?;
        let rewritten = match direction {
            Direction::Steer => steered(&read),
            Direction::Unsteer => unsteered(&read),
        };
        let rewritten =
            rewritten.map_err(|error| ManifestError::Steer { document: place, error })?;
        let yaml = yaml(rewritten).map_err(ManifestError::Syntax)?;
        if !out.is_empty() {
            out.push_str("---\n");
        }
        out.push_str(&yaml);
    }
    if out.is_empty() { Err(ManifestError::Empty) } else { Ok(out) }
}

/// Without what only a server says of an object.
fn yaml(mut autoscaler: HorizontalPodAutoscaler) -> Result<String, String> {
    let metadata = &mut autoscaler.metadata;
    metadata.managed_fields = None;
    metadata.resource_version = None;
    metadata.uid = None;
    metadata.creation_timestamp = None;
    metadata.generation = None;
    metadata.self_link = None;
    let value: Value = serde_json::to_value(&autoscaler).map_err(|error| error.to_string())?;
    let mut text = serde_saphyr::to_string(&value).map_err(|error| error.to_string())?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: web
  namespace: shop
  uid: 1-2
  resourceVersion: \"7\"
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 2
  maxReplicas: 20
  metrics:
  - type: Resource
    resource: {name: cpu, target: {type: Utilization, averageUtilization: 60}}
";

    #[test]
    fn there_and_back() {
        let two = format!(
            "{PLAIN}---\n{}",
            PLAIN.replace("name: web\n  namespace", "name: api\n  namespace")
        );
        let there = rewrite(&two, Direction::Steer).unwrap();
        let read: Vec<Value> = documents(&there).unwrap();
        let names: Vec<_> = read.iter().map(|one| one["metadata"]["name"].clone()).collect();
        assert_eq!(names, ["web", "api"]);
        assert_eq!(read[0]["spec"]["metrics"][0]["external"]["metric"]["name"], "sextant-replicas");
        assert_eq!(read[0]["metadata"]["resourceVersion"], Value::Null);
        let back = rewrite(&there, Direction::Unsteer).unwrap();
        let back = documents(&back).unwrap();
        let spec = documents(PLAIN).unwrap()[0]["spec"].clone();
        assert_eq!((&back[0]["spec"], &back[1]["spec"]), (&spec, &spec));
        assert_eq!(back[0]["metadata"], serde_json::json!({"name": "web", "namespace": "shop"}));
    }

    #[test]
    fn what_is_wrong_names_document_and_field() {
        let check = |text: &str, expected: &str| {
            let error = rewrite(text, Direction::Steer).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
        };
        check("", "there is no HorizontalPodAutoscaler in it");
        check(&format!("{PLAIN}---\na: ["), "document 2: ");
        check("kind: Service\n", "document 1: it is a Service, not a HorizontalPodAutoscaler");
        let wrong = PLAIN.replace("maxReplicas: 20", "maxReplicas: many");
        check(&wrong, "document 1: spec.maxReplicas: ");
        let wrong = PLAIN.replace("maxReplicas: 20", "maxReplicas: 1");
        check(&wrong, "document 1: spec.maxReplicas: ");
        let error = rewrite(PLAIN, Direction::Unsteer).unwrap_err();
        let expected = "document 1: metadata.annotations[autoscaling.sextant.dev/steered-spec]: is missing, it is not steered";
        assert_eq!(error.to_string(), expected);
    }
}
