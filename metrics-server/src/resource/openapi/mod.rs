//! `/openapi/v2` and `/openapi/v3`: what `kubectl explain` and the aggregation layer read.
//!
//! [`resources`] and [`values`] say what there is in each version of each group; here documents are made of it and served.

mod resources;
mod values;

use std::sync::Arc;

use axum::Router;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use metrics_api::{ApiGroup, MEDIA_TYPES, Status};
use serde_json::{Map, Value, json};

use super::{output, respond};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";

/// A version of a group.
struct Described {
    /// `metrics.k8s.io/v1beta1`
    group_version: String,
    operations: Vec<Operation>,
    /// Its schemas by name.
    schemas: fn(&Schemas) -> Map<String, Value>,
}

/// Something that can be asked.
struct Operation {
    path: String,
    id: String,
    tag: &'static str,
    description: String,
    /// `list` or `get`.
    action: &'static str,
    /// Group, version and kind of the objects.
    kind: Value,
    /// The schema of the answer.
    answer: String,
    parameters: Vec<Parameter>,
}

struct Parameter {
    name: &'static str,
    /// `path` or `query`
    place: &'static str,
    /// `string`, `boolean` or `integer`
    kind: &'static str,
    description: &'static str,
}

fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

/// Refers to schemas as one version of `OpenAPI` does.
struct Schemas {
    prefix: &'static str,
    /// A reference may have no siblings.
    is_v3: bool,
}

impl Schemas {
    const V2: Self = Self { prefix: "#/definitions/", is_v3: false };
    const V3: Self = Self { prefix: "#/components/schemas/", is_v3: true };

    fn reference(&self, name: &str) -> Value {
        json!({"$ref": format!("{}{name}", self.prefix)})
    }

    fn described(&self, name: &str, description: &str, default: Option<Value>) -> Value {
        if !self.is_v3 {
            return json!({"description": description, "$ref": format!("{}{name}", self.prefix)});
        }
        let mut schema = json!({"description": description, "allOf": [self.reference(name)]});
        if let Some(default) = default {
            schema["default"] = default;
        }
        schema
    }

    fn text(description: &str) -> Value {
        json!({"type": "string", "description": description})
    }

    /// `properties` and those that every object has.
    fn with_type(mut properties: Value) -> Value {
        properties["apiVersion"] = Self::text("The version of this representation of the object.");
        properties["kind"] = Self::text("The kind of the object.");
        properties
    }

    /// A list of objects of the schema `of`, named `kind`.
    fn list(&self, group_version: (&str, &str), kind: &str, of: &str) -> Value {
        let (group, version) = group_version;
        let item = of.rsplit('.').next().unwrap_or(of);
        json!({
            "description": format!("{kind} is a list of {item}."),
            "type": "object",
            "required": ["metadata", "items"],
            "properties": Self::with_type(json!({
                "metadata":
                    self.described(&format!("{META}.ListMeta"), "Standard list metadata.", Some(json!({}))),
                "items": {
                    "description": format!("The {item} objects."),
                    "type": "array",
                    "items": self.reference(of),
                },
            })),
            "x-kubernetes-group-version-kind": [gvk(group, version, kind)],
        })
    }

    /// The schemas that all groups use.
    fn common() -> Map<String, Value> {
        let mut schemas = Map::new();
        schemas.insert(String::from(QUANTITY), json!({
            "description": "Quantity is a fixed-point number with a suffix, such as 250m or 64Mi.",
            "type": "string",
        }));
        schemas.insert(format!("{META}.Time"), json!({
            "description": "Time is a point in time in RFC 3339.", "type": "string", "format": "date-time",
        }));
        schemas.insert(
            format!("{META}.ListMeta"),
            json!({
                "description": "ListMeta is the metadata of a list.",
                "type": "object",
                "properties": {
                    "resourceVersion":
                        Self::text("The version of the list, to go on from with a watch."),
                },
            }),
        );
        schemas
    }
}

/// The paths of the documents about `groups`.
pub fn router(groups: &[ApiGroup]) -> Router {
    let described: Vec<_> = groups
        .iter()
        .flat_map(|group| group.versions.iter().map(|version| (&*group.name, &*version.name)))
        .filter_map(|(group, version)| {
            resources::described(group, version).or_else(|| values::described(group, version))
        })
        .collect();
    let v2 = Arc::new(Document::new(&v2(&described)));
    let mut router = Router::new().route("/openapi/v2", serve(&v2));
    let mut paths = Map::new();
    for version in &described {
        let document = Arc::new(Document::new(&v3(version)));
        let path = format!("apis/{}", version.group_version);
        let url = format!("/openapi/v3/{path}");
        router = router.route(&url, serve(&document));
        let url = format!("{url}?hash={}", document.tag);
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    let index = Arc::new(Document::new(&json!({"paths": paths})));
    router.route("/openapi/v3", serve(&index)).route("/openapi/v3/", serve(&index))
}

fn serve(document: &Arc<Document>) -> axum::routing::MethodRouter {
    let document = Arc::clone(document);
    any(move |request: Parts| async move { answer(&request, &document) })
}

/// A document and the tag of its content.
struct Document {
    body: String,
    tag: String,
}

impl Document {
    fn new(value: &Value) -> Self {
        let body = value.to_string();
        // FNV-1a: the tag must be equal among replicas, and nothing depends on it being hard to
        // forge.
        let hash = body.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self { body, tag: format!("{hash:016X}") }
    }
}

/// Clients that know the hash of a document keep it; one that asks with an old hash is given the
/// present document, where upstream redirects: an aggregated API must not.
fn answer(request: &Parts, document: &Document) -> Response {
    if request.method != Method::GET {
        return respond(&Status::method_not_served(), output::error_encoding(request));
    }
    let tag = format!("\"{}\"", document.tag);
    let known = request.headers.get(header::IF_NONE_MATCH);
    let is_known = known.and_then(|known| known.to_str().ok()).is_some_and(|known| {
        known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag)
    });
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, "application/json")], document.body.clone()).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    let hash = format!("hash={}", document.tag);
    if request.uri.query().is_some_and(|query| query.split('&').any(|one| one == hash)) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    }
    response
}

/// All groups in one document, whose operations and schemas do not share names but for common ones.
fn v2(versions: &[Described]) -> Value {
    let (mut paths, mut definitions) = (Map::new(), Schemas::common());
    for version in versions {
        for operation in &version.operations {
            let mut get = operation.document();
            get["produces"] = json!(MEDIA_TYPES);
            get["schemes"] = json!(["https"]);
            get["responses"] = json!({
                "200": {"description": "OK", "schema": Schemas::V2.reference(&operation.answer)},
                "401": {"description": "Unauthorized"},
            });
            let parameters = operation.parameters.iter().map(|parameter| {
                let Parameter { name, place, kind, description } = parameter;
                json!({"name": name, "in": place, "type": kind, "description": description,
                    "uniqueItems": true, "required": *place == "path"})
            });
            let parameters: Vec<_> = parameters.collect();
            paths.insert(operation.path.clone(), json!({"get": get, "parameters": parameters}));
        }
        definitions.extend((version.schemas)(&Schemas::V2));
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes metrics-server", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "definitions": definitions,
    })
}

fn v3(version: &Described) -> Value {
    let (mut paths, mut schemas) = (Map::new(), Schemas::common());
    for operation in &version.operations {
        let schema = Schemas::V3.reference(&operation.answer);
        let content: Map<String, Value> = MEDIA_TYPES
            .iter()
            .map(|media_type| ((*media_type).to_owned(), json!({"schema": schema})))
            .collect();
        let mut get = operation.document();
        get["responses"] = json!({
            "200": {"description": "OK", "content": content},
            "401": {"description": "Unauthorized"},
        });
        let parameters = operation.parameters.iter().map(|parameter| {
            let Parameter { name, place, kind, description } = parameter;
            let mut document = json!({"name": name, "in": place, "description": description,
                "schema": {"type": kind, "uniqueItems": true}});
            if *place == "path" {
                document["required"] = json!(true);
            }
            document
        });
        let parameters: Vec<_> = parameters.collect();
        paths.insert(operation.path.clone(), json!({"get": get, "parameters": parameters}));
    }
    schemas.extend((version.schemas)(&Schemas::V3));
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes metrics-server", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

impl Operation {
    fn document(&self) -> Value {
        json!({
            "description": self.description,
            "operationId": self.id,
            "tags": [self.tag],
            "x-kubernetes-action": self.action,
            "x-kubernetes-group-version-kind": self.kind,
        })
    }
}
