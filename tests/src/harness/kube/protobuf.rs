//! Reviews and autoscalers in Kubernetes' protobuf, as Go clients send them; answers are JSON, which they take too.
//!
//! Other kinds are refused in this encoding: the server keeps JSON.

use prost::Message;
use serde_json::{Value, json};

use super::autoscaler;

/// The media type.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What an encoded object begins with.
const MAGIC: &[u8] = b"k8s\0";

#[derive(Message)]
struct Unknown {
    #[prost(message, optional, tag = "1")]
    type_meta: Option<TypeMeta>,
    #[prost(bytes = "vec", tag = "2")]
    raw: Vec<u8>,
}

#[derive(Message)]
struct TypeMeta {
    #[prost(string, tag = "1")]
    api_version: String,
    #[prost(string, tag = "2")]
    kind: String,
}

#[derive(Message)]
struct TokenReview {
    #[prost(message, optional, tag = "2")]
    spec: Option<TokenReviewSpec>,
}

#[derive(Message)]
struct TokenReviewSpec {
    #[prost(string, tag = "1")]
    token: String,
}

#[derive(Message)]
struct AccessReview {
    #[prost(message, optional, tag = "2")]
    spec: Option<AccessReviewSpec>,
}

/// A self review has the first two fields alone.
#[derive(Message)]
struct AccessReviewSpec {
    #[prost(message, optional, tag = "1")]
    resource: Option<ResourceAttributes>,
    #[prost(message, optional, tag = "2")]
    path: Option<PathAttributes>,
    #[prost(string, tag = "3")]
    user: String,
    #[prost(string, repeated, tag = "4")]
    groups: Vec<String>,
    #[prost(string, tag = "6")]
    uid: String,
}

#[derive(Message)]
struct ResourceAttributes {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    verb: String,
    #[prost(string, tag = "3")]
    group: String,
    #[prost(string, tag = "4")]
    version: String,
    #[prost(string, tag = "5")]
    resource: String,
    #[prost(string, tag = "6")]
    subresource: String,
    #[prost(string, tag = "7")]
    name: String,
}

#[derive(Message)]
struct PathAttributes {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(string, tag = "2")]
    verb: String,
}

/// The object as JSON; `None` if it is of another kind, or damaged.
pub(crate) fn decode(body: &[u8]) -> Option<Value> {
    let unknown = Unknown::decode(body.strip_prefix(MAGIC)?).ok()?;
    let TypeMeta { api_version, kind } = unknown.type_meta?;
    let raw = unknown.raw.as_slice();
    let spec = match kind.as_str() {
        "TokenReview" => {
            let spec = TokenReview::decode(raw).ok()?.spec.unwrap_or_default();
            json!({ "token": spec.token })
        }
        "SubjectAccessReview" | "SelfSubjectAccessReview" | "LocalSubjectAccessReview" => {
            access(AccessReview::decode(raw).ok()?.spec.unwrap_or_default())
        }
        "HorizontalPodAutoscaler" => {
            let mut object = autoscaler::protobuf::decode(&api_version, raw)?;
            object["apiVersion"] = api_version.into();
            object["kind"] = kind.into();
            return Some(object);
        }
        _ => return None,
    };
    Some(json!({ "apiVersion": api_version, "kind": kind, "metadata": {}, "spec": spec }))
}

fn access(spec: AccessReviewSpec) -> Value {
    let mut json = json!({ "user": spec.user, "groups": spec.groups, "uid": spec.uid });
    if let Some(resource) = spec.resource {
        json["resourceAttributes"] = json!({
            "namespace": resource.namespace,
            "verb": resource.verb,
            "group": resource.group,
            "version": resource.version,
            "resource": resource.resource,
            "subresource": resource.subresource,
            "name": resource.name,
        });
    }
    if let Some(path) = spec.path {
        json["nonResourceAttributes"] = json!({ "path": path.path, "verb": path.verb });
    }
    json
}
