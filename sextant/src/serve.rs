//! Runs a server with what the flags say.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use axum::routing::get;
use futures_util::future::BoxFuture;
use promql::EngineOptions;
use scrape::LocalTarget;
use server::ConfigSource;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::flags::{DaemonFlags, ServerFlags};
use crate::{collectors, logging, progress, signals};

/// How long blocking work that is left over may take once the server has stopped.
pub(crate) const LEFTOVERS_TIMEOUT: Duration = Duration::from_secs(5);

/// `sextant server`
pub(crate) fn server(flags: &ServerFlags, values: Vec<(String, String)>) -> anyhow::Result<()> {
    let address = flags.daemon.web.listen_address.clone();
    let announcement = format!("Sextant {} answers on {}\n", telemetry::VERSION, url(&address));
    run(Setup {
        source: ConfigSource::File(flags.config_file.clone()),
        collectors: false,
        announcement,
        daemon: &flags.daemon,
        values,
        companion: None,
    })
}

/// What differs between the ways to run.
pub(crate) struct Setup<'a> {
    pub(crate) source: ConfigSource,
    /// Whether this machine's collectors are served.
    pub(crate) collectors: bool,
    /// Printed once queries are answered.
    pub(crate) announcement: String,
    pub(crate) daemon: &'a DaemonFlags,
    pub(crate) values: Vec<(String, String)>,
    /// What runs beside the server and asks it without a connection.
    pub(crate) companion: Option<Companion<'a>>,
}

/// Runs until the token is cancelled, with all routes of the server. If it ends before, so does the server.
pub(crate) type Companion<'a> =
    Box<dyn FnOnce(Router, CancellationToken) -> BoxFuture<'a, anyhow::Result<()>> + 'a>;

/// Runs until a signal asks to stop.
pub(crate) fn run(mut setup: Setup<'_>) -> anyhow::Result<()> {
    logging::start(&setup.daemon.log);
    let companion = setup.companion.take();
    let (given, routes) = oneshot::channel();
    let config = server::Config {
        on_routes: Box::new(move |routes| {
            // Without a companion nobody waits for it.
            let _ = given.send(routes.clone());
        }),
        ..config(setup)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(async {
        let shutdown = signals::stop_token().context("cannot watch for signals")?;
        let mut hangups = signals::hangups().context("cannot watch for signals")?;
        let (reload, reloads) = mpsc::channel(1);
        tokio::spawn(async move {
            while hangups.recv().await.is_some() {
                // A full channel means that a reload is about to happen anyway.
                let _ = reload.try_send(());
            }
        });
        let served = async {
            let _other = shutdown.clone().drop_guard();
            server::run(config, reloads, shutdown.clone()).await
        };
        let accompanied = async {
            let Some(companion) = companion else { return Ok(()) };
            let _other = shutdown.clone().drop_guard();
            match routes.await {
                Ok(routes) => companion(routes, shutdown.clone()).await,
                // The server did not get so far, and says why.
                Err(_) => Ok(()),
            }
        };
        let (served, accompanied) = tokio::join!(served, accompanied);
        served?;
        accompanied
    });
    // A query or a replay that does not listen must not keep the process.
    runtime.shutdown_timeout(LEFTOVERS_TIMEOUT);
    outcome
}

fn config(setup: Setup<'_>) -> server::Config {
    let DaemonFlags { web, storage, query, features, .. } = setup.daemon;
    if !is_loopback(&web.listen_address) {
        tracing::warn!(
            address = web.listen_address,
            "anyone who reaches this address can read everything: nothing authenticates callers yet"
        );
    }
    let (local, extra_routes, extra_links) = if setup.collectors {
        local_targets(&web.listen_address)
    } else {
        (Vec::new(), Router::new(), Vec::new())
    };
    let announcement = setup.announcement;
    storage.warn();
    features.report();
    let mut engine = EngineOptions {
        lookback_delta: query.lookback_delta,
        timeout: query.timeout,
        concurrency_max: query.max_concurrency,
        samples_max: query.max_samples,
        parallelism: query
            .parallelism
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, NonZeroUsize::get)),
        ..EngineOptions::default()
    };
    features.apply(&mut engine);
    let replay = Arc::new(tsdb::ReplayProgress::new());
    let watch = progress::watch_replay(Arc::clone(&replay));
    server::Config {
        listen_address: web.listen_address.clone(),
        limits: http::Limits { connections_max: web.max_connections, ..http::Limits::default() },
        source: setup.source,
        defaults: features.config_defaults(),
        type_and_unit_labels: features.type_and_unit_labels(),
        data_path: absolute(&storage.path),
        storage: storage.options(),
        wal_fsync_interval: storage.wal_fsync_interval(),
        replay,
        engine,
        per_step_stats: features.per_step_stats(),
        query_bytes_max: query.max_bytes,
        queries_bytes_max: query.max_total_bytes,
        enable_lifecycle: web.enable_lifecycle,
        enable_admin_api: web.enable_admin_api,
        cors_origin: web.cors_origin.clone(),
        flags: setup.values,
        local,
        extra_routes,
        extra_links,
        registry: telemetry::new_registry(),
        on_routes: Box::new(|_| {}),
        on_ready: Box::new(move || {
            drop(watch);
            // Nobody may be reading; the server runs all the same.
            let _ = std::io::stdout().write_all(announcement.as_bytes());
        }),
    }
}

/// The collectors as in-process targets, as routes, and as links.
fn local_targets(address: &str) -> (Vec<LocalTarget>, Router, Vec<(String, String)>) {
    let (mut local, mut routes, mut links) = (Vec::new(), Router::new(), Vec::new());
    for (path, what, source) in collectors::sources() {
        let url = format!("http://{}{path}", scrape_address(address));
        local.push(LocalTarget { url, source: source.clone() });
        links.push((String::from(path), String::from(what)));
        let handler = move || async move {
            let collect = move || {
                let mut text = Vec::with_capacity(64 << 10);
                source.collect(&mut text);
                text
            };
            let text = tokio::task::spawn_blocking(collect).await.unwrap_or_default();
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        };
        routes = routes.route(path, get(handler));
    }
    (local, routes, links)
}

/// The host and port by which this machine reaches `address`, which may name all interfaces.
pub(crate) fn scrape_address(address: &str) -> String {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "9090"));
    match host {
        "" | "0.0.0.0" => format!("127.0.0.1:{port}"),
        "[::]" => format!("[::1]:{port}"),
        _ => String::from(address),
    }
}

/// The URL by which this machine reaches `address`.
pub(crate) fn url(address: &str) -> String {
    format!("http://{}", scrape_address(address))
}

fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The path as seen from the root, for messages that outlive the working directory.
fn absolute(path: &PathBuf) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (address, reached, loopback) in [
            ("127.0.0.1:9090", "127.0.0.1:9090", true),
            ("localhost:1", "localhost:1", true),
            ("0.0.0.0:9090", "127.0.0.1:9090", false),
            (":9090", "127.0.0.1:9090", false),
            ("[::]:9090", "[::1]:9090", false),
            ("[::1]:9090", "[::1]:9090", true),
            ("10.1.2.3:80", "10.1.2.3:80", false),
        ] {
            assert_eq!(scrape_address(address), reached, "{address}");
            assert_eq!(is_loopback(address), loopback, "{address}");
        }
    }
}
