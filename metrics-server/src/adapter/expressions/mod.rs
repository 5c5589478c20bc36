//! External metrics whose PromQL stands in a `ConfigMap` of the autoscaler's namespace.
//!
//! A `ConfigMap` with the label `autoscaling.sextant.dev/expressions: "true"` holds expressions, the name of the metric being the key. Whoever
//! may write it may ask Prometheus whatever concerns that namespace and nothing else: to every selector of the parsed expression
//! `namespace="…"` is added. Series are the namespace's if their label says so, which is as trustworthy as whoever sets that label.
//!
//! What a namespace brings along is bounded, in numbers and bytes, so that none can take the room of the others or the memory of the process; so
//! is the sum. What is wrong with an expression is told to whoever asks for the metric, with the object's name and key.

mod known;
mod object;

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use parking_lot::RwLock;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use known::Known;
use object::ExpressionMap;

/// Selects the objects that hold expressions.
const SELECTOR: &str = "autoscaling.sextant.dev/expressions=true";
/// Objects in a page of a list. Each may have a mebibyte, all of which is in memory until it is parsed.
const PAGE: u32 = 8;
/// Most objects with expressions.
const MAPS_MAX: usize = 5_000;
/// Most bytes of all expressions.
const BYTES_MAX: usize = 64 << 20;
/// Most objects with expressions in one namespace.
const NAMESPACE_MAPS_MAX: usize = 50;
/// Most bytes of the expressions of one namespace.
const NAMESPACE_BYTES_MAX: usize = 1 << 20;
/// Most expressions in one object.
const EXPRESSIONS_MAX: usize = 256;
/// Longest expression, in bytes.
const EXPRESSION_BYTES_MAX: usize = 16 << 10;
/// Longest expression once its selectors are limited to the namespace, in bytes.
const RESTRICTED_BYTES_MAX: usize = 4 * EXPRESSION_BYTES_MAX;
/// How long metrics may wait for the first list before there are no expressions.
const LIST_PATIENCE: Duration = Duration::from_secs(30);
/// Least time between two lists that are made because there may be room for an object that was left alone.
const LIST_GAP: Duration = Duration::from_secs(60);

/// An expression, ready to be asked, or what is wrong with it.
type Expression = Result<Arc<str>, Arc<str>>;

/// An expression and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// `ConfigMap namespace/name, key metric`
    pub(super) place: String,
    /// The expression within the namespace, or what is wrong.
    pub(super) query: Expression,
}

/// Whether all expressions are known.
#[derive(Clone, Debug, Default)]
enum Reading {
    /// They are being read for the first time.
    #[default]
    First,
    /// They could not be read so far, and why; it is tried on.
    Failed(String),
    /// They have been read.
    Done,
}

/// The expressions of all namespaces.
#[derive(Default)]
pub struct Expressions {
    known: RwLock<Known>,
    reading: RwLock<Reading>,
}

impl Expressions {
    /// Whether they are still being read for the first time: until then it cannot be said that a metric is none of them.
    pub(super) fn is_first_reading(&self) -> bool {
        matches!(*self.reading.read(), Reading::First)
    }

    /// Why not all of them are known.
    pub(super) fn incomplete(&self) -> Option<String> {
        match &*self.reading.read() {
            Reading::First => {
                Some(String::from("the ConfigMaps with expressions have not been read yet"))
            }
            Reading::Failed(why) => {
                Some(format!("the ConfigMaps with expressions cannot be read: {why}"))
            }
            Reading::Done => None,
        }
    }

    /// The expression behind a metric of `namespace`. Two of one name are none: which one counts must not depend on an order.
    pub(super) fn get(&self, namespace: &str, metric: &str) -> Option<Found> {
        let known = self.known.read();
        let mut found = known.get(namespace, metric);
        let (map, query) = found.next()?;
        let place = format!("ConfigMap {namespace}/{map}, key {metric}");
        let query = match found.next() {
            Some((other, _)) => Err(Arc::from(format!("ConfigMap {namespace}/{other} has it too"))),
            None => query.clone(),
        };
        Some(Found { place, query })
    }

    /// Keeps up with the cluster until `shutdown`.
    pub(crate) async fn run(&self, client: Client, shutdown: CancellationToken) {
        let patience = async {
            tokio::time::sleep(LIST_PATIENCE).await;
            self.failed("the first list takes long");
            std::future::pending::<()>().await;
        };
        let followed = async {
            while self.follow(&client).await {
                tracing::info!("listing ConfigMaps with expressions again: there may be room");
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = followed => {}
            () = patience => {}
        }
    }

    /// Keeps up until the watch ends or, which is true, all should be listed again.
    async fn follow(&self, client: &Client) -> bool {
        let config = watcher::Config::default().labels(SELECTOR).page_size(PAGE);
        let events = watcher(Api::<ExpressionMap>::all(client.clone()), config).default_backoff();
        let mut events = pin!(events);
        // What a list says, until it is complete.
        let mut listed: Option<Known> = None;
        let mut fails = false;
        let again = Instant::now() + LIST_GAP;
        loop {
            let wants_list = listed.is_none() && self.known.read().wants_list();
            let event = tokio::select! {
                event = events.next() => event,
                () = sleep_until(again), if wants_list => return true,
            };
            let Some(event) = event else { return false };
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    // Without the permission it fails again and again, and once is enough to tell.
                    if !std::mem::replace(&mut fails, true) {
                        tracing::warn!(
                            %error,
                            "ConfigMaps with expressions cannot be read, which is tried on: is listing and watching them allowed?"
                        );
                    }
                    self.failed(&error.to_string());
                    continue;
                }
            };
            if std::mem::take(&mut fails) {
                tracing::info!("ConfigMaps with expressions can be read again");
            }
            match event {
                Event::Init => listed = Some(Known::default()),
                Event::InitApply(map) => {
                    if let Some(listed) = &mut listed {
                        listed.insert(&map);
                    }
                }
                Event::InitDone => {
                    *self.known.write() = listed.take().unwrap_or_default();
                    *self.reading.write() = Reading::Done;
                }
                Event::Apply(map) => self.known.write().insert(&map),
                Event::Delete(map) => self.known.write().remove(&map),
            }
        }
    }

    /// Notes that the first list failed. What was read once stays known.
    fn failed(&self, why: &str) {
        let mut reading = self.reading.write();
        if !matches!(*reading, Reading::Done) {
            *reading = Reading::Failed(why.to_owned());
        }
    }
}

impl fmt::Debug for Expressions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let maps = self.known.read().len();
        f.debug_struct("Expressions").field("maps", &maps).finish_non_exhaustive()
    }
}

/// A ConfigMap of a test: namespace, name, data.
#[cfg(test)]
pub(super) type Map<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

#[cfg(test)]
impl Expressions {
    /// Those of these objects.
    pub(super) fn of(maps: &[Map<'_>]) -> Self {
        let all = Self::default();
        for (namespace, name, data) in maps {
            all.known.write().insert(&tests::map(namespace, name, data));
        }
        *all.reading.write() = Reading::Done;
        all
    }

    /// Some that could not be read.
    pub(super) fn unreadable(why: &str) -> Self {
        let all = Self::default();
        all.failed(why);
        all
    }
}

#[cfg(test)]
mod tests {
    use kube::api::ObjectMeta;

    use super::*;

    pub(super) fn map(namespace: &str, name: &str, data: &[(&str, &str)]) -> ExpressionMap {
        ExpressionMap {
            metadata: ObjectMeta {
                namespace: Some(namespace.to_owned()),
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            data: data.iter().copied().collect(),
        }
    }

    fn query(all: &Expressions, namespace: &str, metric: &str) -> Option<Result<String, String>> {
        let found = all.get(namespace, metric)?;
        assert!(found.place.starts_with(&format!("ConfigMap {namespace}/")), "{}", found.place);
        Some(found.query.map(|query| query.to_string()).map_err(|why| why.to_string()))
    }

    #[test]
    fn expressions_are_those_of_the_namespace() {
        let all = Expressions::of(&[
            ("shop", "load", &[("rps", "sum(rate(requests_total[2m]))\n")]),
            ("bank", "load", &[("rps", "sum(rate(requests_total{namespace=~\".*\"}[2m]))")]),
        ]);
        let expected = "sum(rate(requests_total{namespace=\"shop\"}[2m]))";
        assert_eq!(query(&all, "shop", "rps").unwrap().unwrap(), expected);
        let expected = "sum(rate(requests_total{namespace=\"bank\",namespace=~\".*\"}[2m]))";
        assert_eq!(query(&all, "bank", "rps").unwrap().unwrap(), expected);
        assert_eq!(query(&all, "shop", "other"), None);
        assert_eq!(query(&all, "other", "rps"), None);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let long = "x".repeat(EXPRESSION_BYTES_MAX + 1);
        let all = Expressions::of(&[(
            "shop",
            "load",
            &[
                ("broken", "sum("),
                ("range", "up[5m]"),
                ("text", "\"a\""),
                ("long", &long),
                ("info", "info(up)"),
            ],
        )]);
        let wrong = |metric| query(&all, "shop", metric).unwrap().unwrap_err();
        assert!(wrong("broken").contains("parse error"), "{}", wrong("broken"));
        assert_eq!(wrong("range"), "a range vector is no metric, an instant vector or a scalar is");
        assert_eq!(wrong("text"), "a string is no metric, an instant vector or a scalar is");
        assert_eq!(wrong("long"), "longer than 16384 bytes");
        assert!(wrong("info").contains("function \"info\" is not enabled"), "{}", wrong("info"));
    }

    #[test]
    fn two_of_one_name_are_none() {
        let all =
            Expressions::of(&[("shop", "a", &[("rps", "up")]), ("shop", "b", &[("rps", "up")])]);
        assert_eq!(query(&all, "shop", "rps").unwrap().unwrap_err(), "ConfigMap shop/b has it too");
        all.known.write().remove(&map("shop", "b", &[]));
        assert!(query(&all, "shop", "rps").unwrap().is_ok());
        all.known.write().remove(&map("shop", "a", &[]));
        assert_eq!(all.known.read().len(), 0);
    }

    /// An API server that answers what `answer` makes of path and query, or never.
    fn api_server(
        answer: impl Fn(&str) -> Option<(u16, serde_json::Value)> + Clone + Send + 'static,
    ) -> Client {
        let service = tower::service_fn(move |request: axum::http::Request<kube::client::Body>| {
            let uri = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
            let answer = answer(&uri);
            async move {
                let Some((status, body)) = answer else { return std::future::pending().await };
                let response = axum::http::Response::builder().status(status);
                let body = kube::client::Body::from(body.to_string().into_bytes());
                Ok::<_, std::convert::Infallible>(response.body(body).unwrap())
            }
        });
        Client::new(service, "default")
    }

    /// Runs with that API server until `done`.
    async fn runs(client: Client, done: impl Fn(&Expressions) -> bool) -> Expressions {
        let all = Expressions::default();
        let shutdown = CancellationToken::new();
        let until = async {
            while !done(&all) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            shutdown.cancel();
        };
        tokio::join!(all.run(client, shutdown.clone()), until);
        all
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_permission_there_are_none() {
        let forbidden = serde_json::json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
            "status": "Failure", "message": "configmaps is forbidden", "reason": "Forbidden", "code": 403});
        let client = api_server(move |_| Some((403, forbidden.clone())));
        let all = runs(client, |all| !all.is_first_reading()).await;
        let why = all.incomplete().unwrap();
        assert!(why.contains("configmaps is forbidden"), "{why}");
        assert_eq!(all.get("shop", "rps"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_map_that_was_left_alone_is_taken_when_there_is_room() {
        // The first list has one map too many, the watch deletes another, the second list has the rest.
        let object = |n: usize| {
            serde_json::json!({"metadata": {"namespace": "shop", "name": format!("n{n:02}"), "resourceVersion": "1"},
                "data": {format!("m{n}"): "up"}})
        };
        let client = {
            let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
            api_server(move |uri| {
                let nth = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if uri.contains("watch=true") {
                    let deleted = serde_json::json!({"type": "DELETED", "object": object(0)});
                    return (nth == 1).then_some((200, deleted));
                }
                assert!(uri.contains("limit=8"), "{uri}");
                let first = nth.min(1);
                let items: Vec<_> = (first..=NAMESPACE_MAPS_MAX).map(object).collect();
                let list = serde_json::json!({"kind": "ConfigMapList", "apiVersion": "v1",
                    "metadata": {"resourceVersion": "2"}, "items": items});
                Some((200, list))
            })
        };
        let last = format!("m{NAMESPACE_MAPS_MAX}");
        let all = runs(client, |all| all.get("shop", &last).is_some()).await;
        assert_eq!(all.get("shop", "m0"), None);
        assert_eq!(all.incomplete(), None);
    }
}
