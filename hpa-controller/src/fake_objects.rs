//! For tests: objects of an API server in memory, with resource versions and their conflicts, and with all that can go wrong between
//! it and a client.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// The objects, by path.
#[derive(Clone, Default)]
pub(crate) struct FakeObjects(Arc<Mutex<Objects>>);

#[derive(Default)]
struct Objects {
    objects: BTreeMap<String, Value>,
    version: u64,
    /// Method and path of what was asked and answered.
    log: Vec<String>,
}

/// How a client fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Link {
    #[default]
    Fine,
    /// Connections are refused.
    Down,
    /// Nothing is ever answered, and nothing done.
    Hanging,
    /// What is asked is done, but the answer is lost.
    Deaf,
}

/// A client's way to the server; it may change at any time.
#[derive(Clone, Default)]
pub(crate) struct Wire(Arc<Mutex<Link>>);

impl Wire {
    pub(crate) fn set(&self, link: Link) {
        *self.0.lock() = link;
    }
}

impl FakeObjects {
    /// A client, and its way here.
    pub(crate) fn client(&self) -> (kube::Client, Wire) {
        let (objects, wire) = (self.clone(), Wire::default());
        let link = wire.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (objects, link) = (objects.clone(), *link.0.lock());
            async move {
                match link {
                    Link::Down => return Err(std::io::Error::other("connection refused")),
                    Link::Hanging => std::future::pending::<()>().await,
                    Link::Fine | Link::Deaf => {}
                }
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await.map_err(std::io::Error::other)?;
                let answer = objects.answer(&head.method, head.uri.path(), &body);
                if link == Link::Deaf {
                    return Err(std::io::Error::other("connection reset"));
                }
                Ok(answer)
            }
        });
        (kube::Client::new(service, "default"), wire)
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.0.lock().objects.get(path).cloned()
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.0.lock().objects.keys().cloned().collect()
    }

    /// Changes an object as somebody else would.
    pub(crate) fn edit(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut inner = self.0.lock();
        inner.version += 1;
        let version = inner.version.to_string();
        let object = inner.objects.get_mut(path).expect("it is there");
        change(object);
        object["metadata"]["resourceVersion"] = json!(version);
    }

    pub(crate) fn put(&self, path: &str, object: Value) {
        self.0.lock().objects.insert(String::from(path), object);
        self.edit(path, |_| {});
    }

    pub(crate) fn delete(&self, path: &str) {
        self.0.lock().objects.remove(path);
    }

    /// What was asked since the last time.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().log)
    }

    fn answer(&self, method: &Method, path: &str, body: &[u8]) -> Response<Full<Bytes>> {
        let mut inner = self.0.lock();
        let sent = serde_json::from_slice::<Value>(body).unwrap_or_default();
        let name = sent["metadata"]["name"].as_str().unwrap_or_default();
        let target =
            if *method == Method::POST { format!("{path}/{name}") } else { String::from(path) };
        inner.log.push(format!("{method} {target}"));
        let found = inner.objects.get(&target).cloned();
        let claimed = sent["metadata"]["resourceVersion"].as_str().map(String::from);
        match (method.as_str(), found) {
            ("GET", Some(object)) => answer(StatusCode::OK, &object),
            ("GET" | "PUT", None) => failure(StatusCode::NOT_FOUND, "NotFound"),
            ("POST", Some(_)) => failure(StatusCode::CONFLICT, "AlreadyExists"),
            ("PUT", Some(object))
                if claimed.as_deref() != object["metadata"]["resourceVersion"].as_str() =>
            {
                failure(StatusCode::CONFLICT, "Conflict")
            }
            ("POST" | "PUT", _) => {
                inner.version += 1;
                let mut stored = sent;
                stored["metadata"]["resourceVersion"] = json!(inner.version.to_string());
                inner.objects.insert(target, stored.clone());
                answer(StatusCode::OK, &stored)
            }
            _ => failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        }
    }
}

fn answer(code: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = code;
    response
}

fn failure(code: StatusCode, reason: &str) -> Response<Full<Bytes>> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": reason, "reason": reason, "code": code.as_u16(),
    });
    answer(code, &status)
}
