//! The scraper as a whole: schedules on paused time with sources in this process, and real HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use config::Config;
use http::Client;
use model::{Labels, SystemClock, Timestamp, is_stale};
use parking_lot::Mutex;
use telemetry::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::testing::{RuntimeClock, Store, render};
use crate::{ActiveTarget, Health, LocalSource, LocalTarget, Scraper, ScraperOptions};

/// Writes one text, which can be changed, and counts how often.
struct Text {
    text: Mutex<String>,
    collected: AtomicUsize,
}

impl Text {
    fn new(text: &str) -> Arc<Self> {
        Arc::new(Self { text: Mutex::new(String::from(text)), collected: AtomicUsize::new(0) })
    }
}

impl LocalSource for Text {
    fn collect(&self, out: &mut Vec<u8>) {
        self.collected.fetch_add(1, Ordering::SeqCst);
        out.extend_from_slice(self.text.lock().as_bytes());
    }
}

/// A running scraper and its store.
struct Harness {
    store: Arc<Store>,
    scraper: Arc<Scraper>,
    registry: Registry,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

impl Harness {
    /// On the runtime's clock, which starts at 0, when `paused`; on the machine's otherwise.
    fn start(yaml: &str, locals: &[(&str, Arc<dyn LocalSource>)], paused: bool) -> Self {
        let store = Store::new();
        let clock: Arc<dyn model::Clock> =
            if paused { RuntimeClock::new(0) } else { Arc::new(SystemClock) };
        let client = Client::default();
        let mut options = ScraperOptions::new(store.clone(), clock, client);
        options.local = locals
            .iter()
            .map(|(url, source)| LocalTarget { url: String::from(*url), source: source.clone() })
            .collect();
        let registry = Registry::new();
        let scraper = Arc::new(Scraper::new(options, &registry));
        scraper.apply(&parse(yaml));
        let shutdown = CancellationToken::new();
        let (run, stop) = (scraper.clone(), shutdown.clone());
        let running = tokio::spawn(async move { run.run(stop).await });
        Self { store, scraper, registry, shutdown, running }
    }

    fn apply(&self, yaml: &str) {
        self.scraper.apply(&parse(yaml));
    }

    async fn stop(self) -> Arc<Store> {
        self.shutdown.cancel();
        self.running.await.unwrap();
        self.store
    }

    /// Waits for a sample of `name` at or after `t`; its value and time.
    async fn next(&self, name: &str, after: Timestamp) -> (Timestamp, f64) {
        let found = Mutex::new(None);
        self.store
            .wait_for(|labels, t, v| {
                let wanted = labels.metric_name() == name && t > after;
                if wanted {
                    *found.lock() = Some((t, v));
                }
                wanted
            })
            .await;
        found.into_inner().unwrap()
    }

    fn target(&self) -> ActiveTarget {
        let mut targets = self.scraper.targets().active;
        assert_eq!(targets.len(), 1, "{targets:?}");
        targets.remove(0)
    }

    fn metric(&self, line: &str) -> bool {
        let mut text = Vec::new();
        telemetry::encode(&self.registry, &mut text);
        String::from_utf8(text).unwrap().lines().any(|l| l == line)
    }
}

fn parse(yaml: &str) -> Config {
    Config::parse(yaml, "test").unwrap()
}

const ONE_TARGET: &str = "
scrape_configs:
- job_name: j
  scrape_interval: 10s
  static_configs: [{targets: ['a:1']}]
";

const NO_TARGET: &str = "
scrape_configs:
- job_name: j
  scrape_interval: 10s
";

fn value(taken: &[(Labels, Timestamp, f64)], name: &str) -> Vec<(Timestamp, f64)> {
    let named = taken.iter().filter(|(labels, ..)| labels.metric_name() == name);
    named.map(|(_, t, v)| (*t, *v)).collect()
}

#[tokio::test(start_paused = true)]
async fn scrapes_keep_their_place_in_the_interval() {
    let source = Text::new("m 1\n");
    let harness = Harness::start(ONE_TARGET, &[("http://a:1/metrics", source.clone())], true);
    let (first, _) = harness.next("m", -1).await;
    assert!((1..=10_000).contains(&first), "{first}");
    let (last, _) = harness.next("m", first + 25_000).await;
    assert_eq!(last, first + 30_000);
    let target = harness.target();
    assert_eq!((target.health, target.last_scrape), (Health::Up, last));
    assert_eq!(
        (target.scrape_url.as_str(), target.scrape_pool.as_str()),
        ("http://a:1/metrics", "j")
    );
    assert_eq!(target.labels.to_string(), r#"{instance="a:1", job="j"}"#);
    assert_eq!(target.discovered_labels.get("__scrape_interval__"), Some("10s"));
    let store = harness.stop().await;
    let taken = store.take();
    let times: Vec<_> = value(&taken, "m").into_iter().map(|(t, _)| t).collect();
    assert_eq!(times, [first, first + 10_000, first + 20_000, first + 30_000]);
    // A server that stops says nothing about its targets.
    assert!(taken.iter().all(|(_, _, v)| !is_stale(*v)));
    assert_eq!(source.collected.load(Ordering::SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn a_removed_target_is_stale_when_two_scrapes_are_missing() {
    let harness = Harness::start(ONE_TARGET, &[("http://a:1/metrics", Text::new("m 1\n"))], true);
    let (last, _) = harness.next("m", -1).await;
    harness.apply(NO_TARGET);
    let started = tokio::time::Instant::now();
    let (stale, v) = harness.next("m", last).await;
    assert!(is_stale(v));
    assert_eq!(stale, last + 10_000);
    assert_eq!(started.elapsed().as_millis() / 100, 210);
    assert!(harness.scraper.targets().active.is_empty());
    let taken = harness.stop().await.take();
    assert!(is_stale(value(&taken, "up").last().unwrap().1));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_returns_in_time_goes_on() {
    let harness = Harness::start(ONE_TARGET, &[("http://a:1/metrics", Text::new("m 1\n"))], true);
    let (first, _) = harness.next("m", -1).await;
    harness.apply(NO_TARGET);
    tokio::time::sleep(Duration::from_secs(15)).await;
    harness.apply(ONE_TARGET);
    let (next, v) = harness.next("m", first).await;
    assert!((next, v) == (first + 20_000, 1.0), "{next} {v}");
    let taken = harness.stop().await.take();
    assert!(taken.iter().all(|(_, _, v)| !is_stale(*v)));
    assert_eq!(value(&taken, "scrape_series_added").last().unwrap().1, 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_cache_and_schedule() {
    let harness = Harness::start(ONE_TARGET, &[("http://a:1/metrics", Text::new("m 1\n"))], true);
    let (first, _) = harness.next("m", -1).await;
    harness.apply(&format!("{ONE_TARGET}  sample_limit: 5\n"));
    let (second, _) = harness.next("m", first).await;
    assert_eq!(second, first + 10_000);
    assert_eq!(value(&harness.store.take(), "scrape_series_added"), [(first, 1.0), (second, 0.0)]);
    // Another interval is another schedule, but the same series.
    harness.apply(&ONE_TARGET.replace("10s", "20s"));
    let (third, _) = harness.next("m", second).await;
    let (fourth, _) = harness.next("m", third).await;
    assert_eq!(fourth - third, 20_000);
    let taken = harness.stop().await.take();
    assert_eq!(value(&taken, "scrape_series_added"), [(third, 0.0), (fourth, 0.0)]);
    assert!(taken.iter().all(|(_, _, v)| !is_stale(*v)));
}

#[tokio::test(start_paused = true)]
async fn too_many_targets_fail_all_of_them() {
    let yaml = ONE_TARGET.replace("['a:1']", "['a:1', 'b:1']");
    let locals: [(&str, Arc<dyn LocalSource>); 1] = [("http://a:1/metrics", Text::new("m 1\n"))];
    let harness = Harness::start(&format!("{yaml}  target_limit: 1\n"), &locals, true);
    let (t, up) = harness.next("up", -1).await;
    assert_eq!(up, 0.0);
    harness.next("up", t).await;
    for target in harness.scraper.targets().active {
        let error = "target_limit exceeded (number of targets: 2, limit: 1)";
        assert_eq!((target.health, target.last_error.as_str()), (Health::Down, error));
    }
    assert!(harness.metric("prometheus_target_scrape_pool_exceeded_target_limit_total 1"));
    assert!(value(&harness.stop().await.take(), "m").is_empty());
}

/// Holds every collection until the gate is open.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, parking_lot::Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock() = true;
        self.0.1.notify_all();
    }
}

impl LocalSource for Gate {
    fn collect(&self, out: &mut Vec<u8>) {
        self.0.1.wait_while(&mut self.0.0.lock(), |open| !*open);
        out.extend_from_slice(b"m 1\n");
    }
}

/// Opens the gate even if the test fails: the runtime waits for its blocking threads.
struct OpenAtEnd(Gate);

impl Drop for OpenAtEnd {
    fn drop(&mut self) {
        self.0.open();
    }
}

#[tokio::test]
async fn a_hanging_source_is_asked_once_and_delays_nobody() {
    let yaml = "
scrape_configs:
- job_name: j
  scrape_interval: 100ms
  scrape_timeout: 50ms
  static_configs: [{targets: ['slow:1', 'quick:1']}]
";
    let gate = Gate::default();
    let _open = OpenAtEnd(gate.clone());
    let locals: [(&str, Arc<dyn LocalSource>); 2] = [
        ("http://slow:1/metrics", Arc::new(gate.clone())),
        ("http://quick:1/metrics", Text::new("quick 1\n")),
    ];
    let harness = Harness::start(yaml, &locals, false);
    let slow = |labels: &Labels| labels.get("instance") == Some("slow:1");
    let is_down = |labels: &Labels, v: f64| labels.metric_name() == "up" && v == 0.0;
    let mut last = 0;
    let mut error = String::new();
    while !error.contains("still running") {
        let t = Mutex::new(0);
        harness
            .store
            .wait_for(|labels, at, v| {
                *t.lock() = at;
                slow(labels) && is_down(labels, v) && at > last
            })
            .await;
        last = t.into_inner();
        let targets = harness.scraper.targets().active;
        let target = targets.iter().find(|target| slow(&target.labels)).unwrap();
        error.clone_from(&target.last_error);
        let known = ["context deadline exceeded", "still running"];
        assert!(known.iter().any(|known| error.contains(known)), "{error}");
    }
    harness.next("quick", last).await;
    gate.open();
    harness.next("m", last).await;
    harness.stop().await;
}

/// Serves `router` on a free port; its address.
async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn job(address: &str, more: &str) -> String {
    format!(
        "
scrape_configs:
- job_name: j
  scrape_interval: 500ms
  scrape_timeout: 500ms
  static_configs: [{{targets: ['{address}']}}]
{more}"
    )
}

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const BODY: &str = "# HELP m Help.\n# TYPE m counter\nm{a=\"b\",job=\"x\"} 5\nn 1.5\n";

/// Scrapes once over HTTP; the target's error and the samples but the reports.
async fn scrape_once(router: Router, more: &'static str) -> (String, Vec<String>) {
    let address = serve(router).await;
    let harness = Harness::start(&job(&address, more), &[], false);
    let (t, _) = harness.next("up", 0).await;
    let error = harness.target().last_error;
    let taken = harness.stop().await.take();
    let first = taken.iter().filter(|(labels, at, _)| {
        *at == t && labels.metric_name() != "up" && !labels.metric_name().starts_with("scrape_")
    });
    let samples = first.map(|(labels, _, v)| render(labels, 0, *v).replace(&address, "target"));
    (error, samples.collect())
}

#[tokio::test]
async fn a_local_source_is_stored_like_the_same_text_over_http() {
    let answer = get(|| async { ([("content-type", TEXT)], BODY) });
    let (error, over_http) = scrape_once(Router::new().route("/metrics", answer), "").await;
    assert_eq!(error, "");
    assert_eq!(
        over_http,
        [
            r#"{__name__="m", a="b", exported_job="x", instance="target", job="j"} 5 @0"#,
            r#"{__name__="n", instance="target", job="j"} 1.5 @0"#,
        ]
    );
    let source: Arc<dyn LocalSource> = Text::new(BODY);
    let harness = Harness::start(&job("target", ""), &[("http://target/metrics", source)], false);
    let (t, _) = harness.next("up", 0).await;
    let metadata = harness.scraper.metadata();
    assert_eq!(&*metadata[0].metrics[0].metric, "m");
    let taken = harness.stop().await.take();
    let local: Vec<_> = taken
        .iter()
        .filter(|(labels, at, _)| *at == t && ["m", "n"].contains(&labels.metric_name()))
        .map(|(labels, _, v)| render(labels, 0, *v))
        .collect();
    assert_eq!(local, over_http);
}

#[tokio::test]
async fn targets_are_asked_for_text() {
    let seen: Arc<Mutex<Option<HeaderMap>>> = Arc::default();
    let remember = seen.clone();
    let answer = get(move |headers: HeaderMap| async move {
        *remember.lock() = Some(headers);
        ([("content-type", TEXT)], BODY)
    });
    let more = "  metrics_path: /probe\n  params: {target: ['x y']}\n";
    let (error, _) = scrape_once(Router::new().route("/probe", answer), more).await;
    assert_eq!(error, "");
    let headers = seen.lock().take().unwrap();
    assert_eq!(
        headers["accept"],
        "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    );
    assert_eq!(headers["accept-encoding"], "gzip");
    assert_eq!(headers["x-prometheus-scrape-timeout-seconds"], "0.5");
    assert!(headers["user-agent"].to_str().unwrap().starts_with("Sextant/"));
}

#[tokio::test]
async fn answers_that_cannot_be_used_say_why() {
    let with_type = |content_type: &'static str| {
        let answer = get(move || async move { ([("content-type", content_type)], BODY) });
        Router::new().route("/metrics", answer)
    };
    let failing = get(|| async { (StatusCode::INTERNAL_SERVER_ERROR, BODY).into_response() });
    let cases = [
        (
            Router::new().route("/metrics", failing),
            "",
            "server returned HTTP status 500 Internal Server Error",
        ),
        (with_type(""), "", "sending blank Content-Type and no fallback_scrape_protocol"),
        (with_type("text/html"), "", "received unsupported Content-Type \"text/html\""),
        (with_type("application/openmetrics-text"), "", "OpenMetrics is not supported"),
        (with_type(TEXT), "  body_size_limit: 20B\n", "body size limit exceeded"),
        (with_type(TEXT), "  sample_limit: 1\n", "sample limit exceeded"),
    ];
    let cases =
        cases.map(|(router, more, expected)| (tokio::spawn(scrape_once(router, more)), expected));
    for (scrape, expected) in cases {
        let (error, samples) = scrape.await.unwrap();
        assert!(error.contains(expected), "{error}");
        assert_eq!(samples, Vec::<String>::new(), "{expected}");
    }
    let fallback = "  fallback_scrape_protocol: PrometheusText0.0.4\n";
    assert_eq!(scrape_once(with_type("text/html"), fallback).await.0, "");
}

#[tokio::test]
async fn discovery_survives_errors() {
    // Two targets, then rubbish, then none.
    let asked = Arc::new(AtomicUsize::new(0));
    let stage = Arc::new(AtomicUsize::new(0));
    let (count, now) = (asked.clone(), stage.clone());
    let list = get(move || async move {
        count.fetch_add(1, Ordering::SeqCst);
        let body = match now.load(Ordering::SeqCst) {
            0 => r#"[{"targets": ["a:1", "b:1", "c/d"], "labels": {"env": "test"}}]"#,
            1 => "{",
            _ => "[]",
        };
        ([("content-type", "application/json")], body)
    });
    let address = serve(Router::new().route("/list", list)).await;
    let yaml = format!(
        "
scrape_configs:
- job_name: j
  scrape_interval: 50ms
  scrape_timeout: 50ms
  http_sd_configs: [{{url: 'http://{address}/list', refresh_interval: 50ms}}]
"
    );
    let locals: [(&str, Arc<dyn LocalSource>); 2] =
        [("http://a:1/metrics", Text::new("m 1\n")), ("http://b:1/metrics", Text::new("m 1\n"))];
    let harness = Harness::start(&yaml, &locals, false);
    let (t, _) = harness.next("m", 0).await;
    let targets = harness.scraper.targets().active;
    assert_eq!(targets.len(), 2);
    assert_eq!(targets[0].labels.get("env"), Some("test"));
    let meta_url = targets[0].discovered_labels.get("__meta_url").map(String::from);
    assert_eq!(meta_url, Some(format!("http://{address}/list")));
    assert!(harness.metric("prometheus_target_sync_failed_total{scrape_job=\"j\"} 1"));

    stage.store(1, Ordering::SeqCst);
    let before = asked.load(Ordering::SeqCst);
    let mut t = t;
    while asked.load(Ordering::SeqCst) < before + 3 {
        t = harness.next("m", t).await.0;
    }
    assert_eq!(harness.scraper.targets().active.len(), 2);
    assert!(!harness.metric("prometheus_sd_http_failures_total 0"));

    stage.store(2, Ordering::SeqCst);
    let is_end = |labels: &Labels, v: f64| labels.metric_name() == "m" && is_stale(v);
    harness.store.wait_for(|labels, _, v| is_end(labels, v)).await;
    assert!(harness.scraper.targets().active.is_empty());
    harness.stop().await;
}
