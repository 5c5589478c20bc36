//! The way of a request: who asks, whether they may, and who answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Limited};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, header};
use model::{Clock, SystemClock};
use serde_json::Value;
use tokio::sync::watch;

use super::access::{Access, Action, User};
use super::aggregation::{Backend, Proxy};
use super::discovery::{self, Aggregated};
use super::error::{ApiError, ApiResult, qualified};
use super::faults::{Effect, Faults, Log, RequestRecord};
use super::fields::{Write, Writer, parse_config};
use super::kinds::Kind;
use super::list::{Pages, list};
use super::listener::{Aborted, Body, Connection, full, response, streamed};
use super::negotiate::{self, Shape};
use super::objects::{Objects, Part, Selection};
use super::protobuf;
use super::reviews;
use super::route::{Query, ResourcePath};
use super::scale;
use super::table;
use super::tls::ClientAuthority;
use super::watch::watch;

/// Largest body of a request, as a real server limits it.
const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// How long the server behind an APIService may take to list its resources.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(5);

/// What the server knows.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) objects: Arc<Objects>,
    pub(crate) pages: Pages,
    pub(crate) access: Arc<Access>,
    pub(crate) clients: ClientAuthority,
    pub(crate) faults: Faults,
    pub(crate) log: Log,
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) anonymous: bool,
    pub(crate) latency: Duration,
    pub(crate) bookmark_interval: Duration,
    pub(crate) cut_watches: watch::Receiver<u64>,
    pub(crate) address: SocketAddr,
}

/// A request whose path and query are read.
struct Asked {
    path: Option<ResourcePath>,
    query: Query,
    action: Action,
    head: Parts,
}

impl Asked {
    fn new(head: Parts) -> Self {
        let query = Query::parse(head.uri.query().unwrap_or_default());
        let path = ResourcePath::parse(head.uri.path()).filter(|path| !path.resource.is_empty());
        let action = match &path {
            Some(path) => path.action(&head.method, &query),
            None => Action {
                verb: head.method.as_str().to_lowercase(),
                path: String::from(head.uri.path()),
                ..Action::default()
            },
        };
        Self { path, query, action, head }
    }

    fn header(&self, name: header::HeaderName) -> &str {
        self.head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The media type of the body, without parameters.
    fn content_type(&self) -> &str {
        self.header(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim()
    }

    /// Who writes, as far as fields are concerned.
    fn writer(&self, path: &ResourcePath) -> ApiResult<Writer> {
        Writer::of_request(&self.query, self.header(header::USER_AGENT), &path.subresource)
    }

    fn is_apply(&self) -> bool {
        self.head.method == Method::PATCH && self.content_type() == "application/apply-patch+yaml"
    }

    fn shape(&self) -> ApiResult<Shape> {
        negotiate::shape(self.header(header::ACCEPT))
    }
}

impl Api {
    /// Answers a request.
    pub(crate) async fn handle(
        self: Arc<Self>,
        connection: Arc<Connection>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Aborted> {
        let (head, body) = request.into_parts();
        let asked = Asked::new(head);
        let user = self.authenticate(&asked, &connection);
        if asked.action.verb != "watch" && !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
        let body = body.map(Collected::to_bytes).map_err(|_| ApiError::too_large());
        let sent = body.as_ref().ok().cloned().unwrap_or_default();
        let answer = match self.faults.hit(&asked.action.verb, asked.head.uri.path()) {
            Some(Effect::Close) => Err(Aborted),
            Some(Effect::Hang) => {
                self.record(&asked, user.as_ref().ok(), sent.clone(), 0);
                std::future::pending().await
            }
            Some(Effect::Status(code)) => Ok(refusal(&ApiError::injected(code))),
            Some(Effect::Body(content_type, bytes)) => {
                Ok(response(200, &content_type, full(bytes)))
            }
            Some(Effect::Delay(pause)) => {
                tokio::time::sleep(pause).await;
                Ok(self.answer(&asked, user.clone(), body).await)
            }
            None => Ok(self.answer(&asked, user.clone(), body).await),
        };
        let status = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
        self.record(&asked, user.as_ref().ok(), sent, status);
        answer
    }

    fn record(&self, asked: &Asked, user: Option<&User>, body: Bytes, status: u16) {
        self.log.push(RequestRecord {
            at_ms: SystemClock.now(),
            verb: asked.action.verb.clone(),
            path: String::from(asked.head.uri.path()),
            query: String::from(asked.head.uri.query().unwrap_or_default()),
            user: user.cloned().unwrap_or_default(),
            user_agent: String::from(asked.header(header::USER_AGENT)),
            accept: String::from(asked.header(header::ACCEPT)),
            status,
            body,
        });
    }

    /// Who asks: by client certificate, else by token, else nobody; then whom they act as.
    fn authenticate(&self, asked: &Asked, connection: &Connection) -> ApiResult<User> {
        let certificates = &connection.certificates;
        let authorization = asked.header(header::AUTHORIZATION);
        let token = authorization.split_once(' ').filter(|(s, _)| s.eq_ignore_ascii_case("bearer"));
        let user = if self.clients.issued(certificates) {
            User::of_certificate(&certificates[0]).ok_or_else(ApiError::unauthorized)?
        } else if let Some((_, token)) = token {
            self.access.user_of_token(token.trim()).ok_or_else(ApiError::unauthorized)?
        } else if self.anonymous && certificates.is_empty() {
            User::anonymous()
        } else {
            return Err(ApiError::unauthorized());
        };
        self.impersonate(asked, user)
    }

    fn impersonate(&self, asked: &Asked, user: User) -> ApiResult<User> {
        let headers = &asked.head.headers;
        let Some(name) = headers.get("impersonate-user").and_then(|name| name.to_str().ok()) else {
            return Ok(user);
        };
        let may = |resource: &str, name: &str| {
            let action = Action {
                verb: String::from("impersonate"),
                resource: String::from(resource),
                name: String::from(name),
                ..Action::default()
            };
            if self.access.allows(&user, &action) { Ok(()) } else { Err(forbidden(&user, &action)) }
        };
        may("users", name)?;
        let groups = headers.get_all("impersonate-group").iter();
        let mut groups: Vec<_> = groups.filter_map(|group| group.to_str().ok()).collect();
        for group in &groups {
            may("groups", group)?;
        }
        let known = ["system:authenticated", "system:unauthenticated"];
        if !groups.iter().any(|group| known.contains(group)) {
            groups.push(known[usize::from(name == "system:anonymous")]);
        }
        Ok(User::new(name, &groups))
    }

    async fn answer(
        &self,
        asked: &Asked,
        user: ApiResult<User>,
        body: ApiResult<Bytes>,
    ) -> Response<Body> {
        let answer = async {
            let user = user?;
            if !self.access.allows(&user, &asked.action) {
                return Err(forbidden(&user, &asked.action));
            }
            let body = body?;
            if let Some(backend) = self.backend(asked.head.uri.path()) {
                return self.delegate(asked, &user, &backend, body).await;
            }
            match &asked.path {
                Some(path) => self.resource(asked, path, &user, &body),
                None => self.other(asked).await,
            }
        };
        answer.await.unwrap_or_else(|error| refusal(&error))
    }

    /// Who answers for a path, if that is not this server.
    fn backend(&self, path: &str) -> Option<Backend> {
        let path = path.strip_prefix("/openapi/v3").unwrap_or(path);
        let mut segments = path.strip_prefix("/apis/")?.split('/');
        let (group, version) = (segments.next()?, segments.next()?);
        let service = self.api_service(&format!("{version}.{group}"))?;
        Backend::of(&service)
    }

    fn api_service(&self, name: &str) -> Option<Value> {
        let kind = self.objects.kinds.find("apiregistration.k8s.io", "v1", "apiservices")?;
        let key = (String::new(), String::from(name));
        Some(self.objects.store.get(&kind.collection, &key)?.value())
    }

    async fn delegate(
        &self,
        asked: &Asked,
        user: &User,
        backend: &Backend,
        body: Bytes,
    ) -> ApiResult<Response<Body>> {
        if !self.is_available(backend) {
            let text = full("service unavailable\n");
            return Ok(response(503, "text/plain; charset=utf-8", text));
        }
        let is_watch = asked.action.verb == "watch";
        Ok(self.proxy.forward(backend, user, asked.head.clone(), body, is_watch).await)
    }

    fn is_available(&self, backend: &Backend) -> bool {
        let service = self.api_service(&format!("{}.{}", backend.version, backend.group));
        let conditions = service.as_ref().and_then(|s| s["status"]["conditions"].as_array());
        let mut conditions = conditions.into_iter().flatten();
        conditions.any(|c| c["type"] == "Available" && c["status"] == "True")
    }

    fn resource(
        &self,
        asked: &Asked,
        path: &ResourcePath,
        user: &User,
        body: &Bytes,
    ) -> ApiResult<Response<Body>> {
        let kind = self.objects.kinds.find(&path.group, &path.version, &path.resource);
        let kind = kind.ok_or_else(ApiError::no_such_path)?;
        if kind.create_only {
            let (true, true) = (asked.head.method == Method::POST, path.name.is_empty()) else {
                return Err(ApiError::method_not_allowed());
            };
            let review = reviews::answer(&self.access, user, &kind.kind, parse(asked, body)?);
            return Ok(json(201, &review.ok_or_else(ApiError::no_such_path)?));
        }
        match path.subresource.as_str() {
            "" => self.object(asked, &kind, path, Part::Main, body),
            "status" if kind.has_status => self.object(asked, &kind, path, Part::Status, body),
            "scale" => self.scale(asked, &kind, path, body),
            _ => Err(ApiError::no_such_path()),
        }
    }

    fn object(
        &self,
        asked: &Asked,
        kind: &Arc<Kind>,
        path: &ResourcePath,
        part: Part,
        body: &Bytes,
    ) -> ApiResult<Response<Body>> {
        let Asked { query, head, .. } = asked;
        let whole = path.name.is_empty();
        let objects = &self.objects;
        match (head.method.clone(), whole) {
            (Method::GET, _) if query.is_true("watch") => self.watch(asked, kind, path),
            (Method::GET, true) => {
                let selection = Selection::parse(path, query)?;
                list(objects, &self.pages, kind, &selection, query, asked.shape()?)
            }
            (Method::GET, false) => {
                let object = objects.get(kind, path)?;
                Ok(json(200, &shaped(kind, object, asked)?))
            }
            (Method::POST, true) if part == Part::Main => {
                let (object, writer) = (parse(asked, body)?, asked.writer(path)?);
                let object = objects.create(kind, path, query, object, Write::Update(&writer))?;
                Ok(json(201, &shaped(kind, object, asked)?))
            }
            (Method::PUT, false) => {
                let (object, writer) = (parse(asked, body)?, asked.writer(path)?);
                let object = objects.update(kind, path, query, part, object, &writer)?;
                Ok(json(200, &shaped(kind, object, asked)?))
            }
            (Method::PATCH, false) if asked.is_apply() => {
                let (config, writer) = (parse_config(body)?, asked.writer(path)?);
                let applied = objects.apply(kind, path, query, part, &config, &writer)?;
                let (is_new, object) = applied;
                Ok(json(if is_new { 201 } else { 200 }, &shaped(kind, object, asked)?))
            }
            (Method::PATCH, false) => {
                let patch = (body.as_ref(), asked.content_type());
                let object = objects.patch(kind, path, query, part, patch, &asked.writer(path)?)?;
                Ok(json(200, &shaped(kind, object, asked)?))
            }
            (Method::DELETE, false) if part == Part::Main => {
                let options = if body.is_empty() { Value::Null } else { parse(asked, body)? };
                Ok(json(200, &objects.delete(kind, path, query, &options)?))
            }
            (Method::DELETE, true) => {
                let selection = Selection::parse(path, query)?;
                let all = objects.store.list(&kind.collection, &selection.namespace).objects;
                for object in all.iter().filter(|object| selection.selects(object)) {
                    let (namespace, name) = object.key.clone();
                    let path = ResourcePath { namespace, name, ..path.clone() };
                    objects.delete(kind, &path, query, &Value::Null)?;
                }
                list(objects, &self.pages, kind, &selection, query, Shape::Whole)
            }
            _ => Err(ApiError::method_not_allowed()),
        }
    }

    fn watch(
        &self,
        asked: &Asked,
        kind: &Arc<Kind>,
        path: &ResourcePath,
    ) -> ApiResult<Response<Body>> {
        let events = watch(
            self.objects.clone(),
            kind.clone(),
            Selection::parse(path, &asked.query)?,
            &asked.query,
            asked.shape()?,
            self.bookmark_interval,
            self.cut_watches.clone(),
        )?;
        Ok(response(200, "application/json", streamed(events)))
    }

    fn scale(
        &self,
        asked: &Asked,
        kind: &Kind,
        path: &ResourcePath,
        body: &Bytes,
    ) -> ApiResult<Response<Body>> {
        let (objects, query) = (&self.objects, &asked.query);
        let scale = match asked.head.method {
            Method::GET => scale::get(objects, kind, path)?,
            Method::PUT => {
                let (scale, writer) = (parse(asked, body)?, asked.writer(path)?);
                scale::update(objects, kind, path, query, &scale, &writer)?
            }
            Method::PATCH if asked.is_apply() => {
                let (scale, writer) = (parse_config(body)?, asked.writer(path)?);
                scale::apply(objects, kind, path, query, &scale, &writer)?
            }
            Method::PATCH => {
                let patch = (body.as_ref(), asked.content_type());
                scale::patch(objects, kind, path, query, patch, &asked.writer(path)?)?
            }
            _ => return Err(ApiError::method_not_allowed()),
        };
        Ok(json(200, &scale))
    }

    /// Paths that are no resource.
    async fn other(&self, asked: &Asked) -> ApiResult<Response<Body>> {
        if asked.head.method != Method::GET {
            return Err(ApiError::method_not_allowed());
        }
        let path = asked.head.uri.path().trim_end_matches('/');
        let kinds = self.objects.kinds.all();
        let discovery = matches!(asked.shape(), Ok(Shape::Discovery));
        let found = match path {
            "/healthz" | "/livez" | "/readyz" => {
                return Ok(response(200, "text/plain; charset=utf-8", full("ok")));
            }
            "/version" => Some(discovery::version()),
            "/api" if discovery => {
                return Ok(aggregated_json(&discovery::aggregated(&kinds, &[], true)));
            }
            "/api" => Some(discovery::core_versions(&self.address.to_string())),
            "/apis" if discovery => {
                let others = self.aggregated(true).await;
                return Ok(aggregated_json(&discovery::aggregated(&kinds, &others, false)));
            }
            "/apis" => Some(discovery::group_list(&kinds, &self.aggregated(false).await)),
            "/openapi/v3" => Some(discovery::schemas(&kinds, &self.aggregated(false).await)),
            "/openapi/v2" => {
                // A document without definitions, in the one encoding that clients of it ask for: field 1 is the
                // version "2.0", field 2 the info with a title and a version.
                let document = b"\n\x032.0\x12\x0f\n\nKubernetes\x12\x01-";
                let content_type = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
                return Ok(response(200, content_type, full(document.as_slice())));
            }
            _ => self.group_or_schema(path, &kinds).await,
        };
        Ok(json(200, &found.ok_or_else(ApiError::no_such_path)?))
    }

    async fn group_or_schema(&self, path: &str, kinds: &[Arc<Kind>]) -> Option<Value> {
        if let Some(path) = path.strip_prefix("/openapi/v3") {
            let path = ResourcePath::parse(path).filter(|path| path.resource.is_empty())?;
            return discovery::schema(kinds, &path.group, &path.version);
        }
        if let Some(path) = ResourcePath::parse(path) {
            return discovery::resource_list(kinds, &path.group, &path.version);
        }
        let name = path.strip_prefix("/apis/")?;
        discovery::group(kinds, &self.aggregated(false).await, name)
    }

    /// What other servers answer for; with their resources, which are asked for, if `ask`.
    async fn aggregated(&self, ask: bool) -> Vec<Aggregated> {
        let kind = self.objects.kinds.find("apiregistration.k8s.io", "v1", "apiservices");
        let Some(kind) = kind else { return Vec::new() };
        let services = self.objects.store.list(&kind.collection, "").objects;
        let mut aggregated = Vec::new();
        for backend in services.iter().filter_map(|service| Backend::of(&service.value())) {
            let resources = if ask { self.resources(&backend).await } else { None };
            let (group, version) = (backend.group, backend.version);
            aggregated.push(Aggregated { group, version, resources });
        }
        aggregated
    }

    async fn resources(&self, backend: &Backend) -> Option<Vec<Value>> {
        if !self.is_available(backend) {
            return None;
        }
        let path = format!("/apis/{}/{}", backend.group, backend.version);
        let answer = tokio::time::timeout(DISCOVERY_TIMEOUT, self.proxy.get(backend, &path)).await;
        let (200, body) = answer.ok()?.ok()? else { return None };
        let list: Value = serde_json::from_slice(&body).ok()?;
        list["resources"].as_array().cloned()
    }
}

fn shaped(kind: &Kind, object: Value, asked: &Asked) -> ApiResult<Value> {
    Ok(match asked.shape()? {
        Shape::Whole | Shape::Discovery => object,
        Shape::Metadata => table::metadata_only(&object),
        Shape::Table => {
            let metadata =
                serde_json::json!({ "resourceVersion": object["metadata"]["resourceVersion"] });
            let include = asked.query.get("includeObject").unwrap_or_default();
            table::table(kind, std::slice::from_ref(&object), &metadata, include, SystemClock.now())
        }
    })
}

fn parse(asked: &Asked, body: &[u8]) -> ApiResult<Value> {
    match asked.content_type() {
        "" | "application/json" => serde_json::from_slice(body)
            .map_err(|error| ApiError::bad_request(format!("the body is no JSON: {error}"))),
        protobuf::MEDIA_TYPE => protobuf::decode(body)
            .ok_or_else(|| ApiError::unsupported_media_type("application/json")),
        _ => Err(ApiError::unsupported_media_type("application/json")),
    }
}

fn json(status: u16, value: &Value) -> Response<Body> {
    response(status, "application/json", full(format!("{value}\n")))
}

fn aggregated_json(value: &Value) -> Response<Body> {
    let content_type = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    response(200, content_type, full(format!("{value}\n")))
}

fn refusal(error: &ApiError) -> Response<Body> {
    let mut response = json(error.code, &error.status());
    if let Some(seconds) = error.retry_after_seconds() {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

fn forbidden(user: &User, action: &Action) -> ApiError {
    let Action { verb, group, resource, namespace, name, path } = action;
    if resource.is_empty() {
        let message = format!("forbidden: User {:?} cannot {verb} path {path:?}", user.name);
        return ApiError::forbidden("", "", "", message);
    }
    let place = if namespace.is_empty() {
        String::from("at the cluster scope")
    } else {
        format!("in the namespace {namespace:?}")
    };
    let plain = resource.split('/').next().unwrap_or_default();
    let object = qualified(group, plain);
    let object = if name.is_empty() { object } else { format!("{object} {name:?}") };
    let message = format!(
        "{object} is forbidden: User {:?} cannot {verb} resource {resource:?} in API group \
         {group:?} {place}",
        user.name
    );
    ApiError::forbidden(group, plain, name, message)
}
