//! What there is: answered before there is any data, since an API whose discovery fails hinders
//! the whole cluster.

use std::sync::Arc;

use axum::Router;
use axum::http::request::Parts;
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use metrics_api::{
    ApiGroup, ApiResource, ApiVersion, DiscoveryFormat, Encoding, METRICS_GROUP, Resource, Status,
    negotiate,
};
use serde_json::Value;

use super::{output, respond};

/// The group `metrics.k8s.io`.
#[must_use]
pub fn group() -> ApiGroup {
    let resource = |resource: Resource| ApiResource {
        name: resource.plural().to_owned(),
        singular: String::new(),
        namespaced: resource == Resource::Pods,
        kind: resource.kind().to_owned(),
        verbs: ["get", "list", "watch"].map(str::to_owned).to_vec(),
    };
    ApiGroup {
        name: METRICS_GROUP.to_owned(),
        versions: vec![ApiVersion {
            name: "v1beta1".to_owned(),
            resources: vec![resource(Resource::Nodes), resource(Resource::Pods)],
        }],
    }
}

/// `/apis`: the groups that `groups` says there are now, in order of priority.
pub fn router(groups: impl Fn() -> Vec<ApiGroup> + Send + Sync + 'static) -> Router {
    let groups = Arc::new(groups);
    let answer = move |request: Parts| {
        let groups = Arc::clone(&groups);
        async move { of_groups(&request, &groups()) }
    };
    Router::new().route("/apis", any(answer.clone())).route("/apis/", any(answer))
}

fn of_groups(request: &Parts, groups: &[ApiGroup]) -> Response {
    if request.method != Method::GET {
        return respond(&Status::method_not_served(), output::error_encoding(request));
    }
    let accepted = negotiate(output::accept(request), |encoding, transform| {
        encoding == Encoding::Json && DiscoveryFormat::of(transform).is_some()
    });
    let format = accepted.and_then(|accepted| DiscoveryFormat::of(accepted.transform.as_ref()));
    let Some(format) = format else {
        return respond(&Status::not_acceptable(&["application/json"]), Encoding::Json);
    };
    document(&format.document(groups), format.media_type())
}

pub(super) async fn of_group(request: Parts) -> Response {
    plain(&request, Some(group().document()))
}

pub(super) async fn of_version(request: Parts) -> Response {
    plain(&request, group().resources("v1beta1"))
}

fn plain(request: &Parts, found: Option<Value>) -> Response {
    if request.method != Method::GET {
        return respond(&Status::method_not_served(), output::error_encoding(request));
    }
    match found {
        Some(found) => document(&found, "application/json"),
        None => respond(&Status::unknown_path(), output::error_encoding(request)),
    }
}

/// Discovery is answered in JSON whatever a client prefers: all of them read it.
fn document(document: &Value, media_type: &'static str) -> Response {
    let body = format!("{document}\n");
    ([(header::CONTENT_TYPE, media_type), (header::VARY, "Accept")], body).into_response()
}
