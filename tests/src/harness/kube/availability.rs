//! Decides whether the servers behind APIServices answer, and says so in their status.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use model::{Clock, SystemClock};
use serde_json::{Value, json};

use super::aggregation::{Backend, Proxy};
use super::error::ApiResult;
use super::fields::{Write, Writer};
use super::kinds::Kind;
use super::objects::{Objects, Part, rfc3339};
use super::route::{Query, ResourcePath};

/// Requests of one check; the first that succeeds decides.
const ATTEMPTS: usize = 5;

/// How long one of them may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Checks all APIServices whenever one changes and every `interval`, for ever.
pub(crate) async fn watch_over(objects: Arc<Objects>, proxy: Arc<Proxy>, interval: Duration) {
    let kind = objects.kinds.find("apiregistration.k8s.io", "v1", "apiservices");
    let kind = kind.expect("this kind is built in");
    let mut changed = objects.store.subscribe(&kind.collection);
    loop {
        changed.mark_unchanged();
        let services = objects.store.list(&kind.collection, "").objects;
        let checks = services.iter().map(|service| check(&objects, &proxy, &kind, service.value()));
        checks.collect::<FuturesUnordered<_>>().collect::<Vec<()>>().await;
        let _ = tokio::time::timeout(interval, changed.changed()).await;
    }
}

async fn check(objects: &Objects, proxy: &Proxy, kind: &Kind, service: Value) {
    let (reason, message) = match Backend::of(&service) {
        None => ("Local", String::from("Local APIServices are always available")),
        Some(backend) => match probe(proxy, &backend).await {
            Ok(()) => ("Passed", String::from("all checks passed")),
            Err((reason, message)) => (reason, message),
        },
    };
    let status = if matches!(reason, "Local" | "Passed") { "True" } else { "False" };
    // It may be gone meanwhile.
    let _ = set_condition(objects, kind, &service, status, reason, &message);
}

async fn probe(proxy: &Proxy, backend: &Backend) -> Result<(), (&'static str, String)> {
    if !proxy.has_service(backend) {
        let (service, namespace) = (&backend.service, &backend.namespace);
        let message = format!("service/{service} in {namespace:?} is not present");
        return Err(("ServiceNotFound", message));
    }
    let path = format!("/apis/{}/{}", backend.group, backend.version);
    let attempt = async || {
        let answer = tokio::time::timeout(ATTEMPT_TIMEOUT, proxy.get(backend, &path)).await;
        let why = match answer {
            Ok(Ok((200..=299, _))) => return Ok(()),
            Ok(Ok((status, _))) => format!("bad status from {path}: {status}"),
            Ok(Err(error)) => error.to_string(),
            Err(_) => String::from("context deadline exceeded"),
        };
        Err(format!("failing or missing response from {path}: {why}"))
    };
    let mut attempts: FuturesUnordered<_> = (0..ATTEMPTS).map(|_| attempt()).collect();
    let mut last = String::new();
    while let Some(result) = attempts.next().await {
        match result {
            Ok(()) => return Ok(()),
            Err(why) => last = why,
        }
    }
    Err(("FailedDiscoveryCheck", last))
}

fn set_condition(
    objects: &Objects,
    kind: &Kind,
    service: &Value,
    status: &str,
    reason: &str,
    message: &str,
) -> ApiResult<Value> {
    let name = service["metadata"]["name"].as_str().unwrap_or_default();
    let path = ResourcePath { name: String::from(name), ..ResourcePath::default() };
    let writer = Writer::server("status");
    let write = Write::Update(&writer);
    objects.replace(kind, &path, &Query::default(), Part::Status, write, |service| {
        let mut service = service.clone();
        let conditions = service["status"]["conditions"].as_array();
        let mut conditions = conditions.cloned().unwrap_or_default();
        let at = conditions.iter().position(|condition| condition["type"] == "Available");
        let old = at.map(|at| conditions.remove(at)).unwrap_or_default();
        let since = if old["status"] == status {
            old["lastTransitionTime"].clone()
        } else {
            rfc3339(SystemClock.now()).into()
        };
        conditions.push(json!({
            "type": "Available",
            "status": status,
            "lastTransitionTime": since,
            "reason": reason,
            "message": message,
        }));
        service["status"]["conditions"] = conditions.into();
        Ok(service)
    })
}
