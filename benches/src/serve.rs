//! The generator: many targets behind one port, and the list of them.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use clap::Args;
use tokio::net::TcpListener;

use crate::profile::Target;

/// How much is generated.
#[derive(Clone, Debug, Args)]
pub(crate) struct LoadFlags {
    /// Number of targets
    #[arg(long, default_value_t = 100)]
    pub(crate) targets: usize,
    /// Series of each target
    #[arg(long, default_value_t = 1000)]
    pub(crate) series: usize,
    /// Scrape interval in seconds
    #[arg(long, default_value_t = 5)]
    pub(crate) interval_seconds: u64,
    /// The same seed gives the same series and values
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// `load serve`
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    load: LoadFlags,
    /// Port on loopback
    #[arg(long, default_value_t = 9500)]
    port: u16,
    /// Where to write a prometheus.yml that scrapes the targets
    #[arg(long)]
    write_config: Option<PathBuf>,
}

/// Targets being served.
#[derive(Debug)]
pub(crate) struct Load {
    targets: Vec<Target>,
    /// Scrapes of each target so far, which is the tick of its values.
    ticks: Vec<AtomicU64>,
    address: SocketAddr,
}

impl Load {
    /// Scrapes of all targets so far.
    pub(crate) fn scrapes(&self) -> u64 {
        self.ticks.iter().map(|tick| tick.load(Ordering::Relaxed)).sum()
    }

    /// Starts all targets from their first tick.
    pub(crate) fn rewind(&self) {
        self.ticks.iter().for_each(|tick| tick.store(0, Ordering::Relaxed));
    }
}

/// Starts serving on `port` of loopback (0: any) in the background of the current runtime.
pub(crate) async fn start(flags: &LoadFlags, port: u16) -> anyhow::Result<Arc<Load>> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.context("cannot listen")?;
    let targets = (0..flags.targets).map(|i| Target::new(flags.seed, i, flags.series)).collect();
    let ticks = (0..flags.targets).map(|_| AtomicU64::new(0)).collect();
    let load = Arc::new(Load { targets, ticks, address: listener.local_addr()? });
    let router = Router::new()
        .route("/targets/{index}/metrics", get(metrics))
        .route("/sd", get(list))
        .with_state(Arc::clone(&load));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(load)
}

async fn metrics(State(load): State<Arc<Load>>, Path(index): Path<usize>) -> Response {
    let (Some(target), Some(tick)) = (load.targets.get(index), load.ticks.get(index)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mut body = Vec::new();
    target.render(tick.fetch_add(1, Ordering::Relaxed), &mut body);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], body).into_response()
}

/// The targets, for `http_sd_configs`.
async fn list(State(load): State<Arc<Load>>) -> Response {
    let mut json = String::from("[");
    for index in 0..load.targets.len() {
        let comma = if index > 0 { "," } else { "" };
        let _ = write!(
            json,
            "{comma}{{\"targets\":[\"{}\"],\"labels\":{{\"__metrics_path__\":\"/targets/{index}/metrics\",\"instance\":\"node-{index}\"}}}}",
            load.address
        );
    }
    json.push(']');
    ([(header::CONTENT_TYPE, "application/json")], json).into_response()
}

/// A configuration that scrapes all targets.
pub(crate) fn prometheus_yml(load: &Load, flags: &LoadFlags) -> String {
    format!(
        "global: {{scrape_interval: {0}s, scrape_timeout: {0}s}}\n\
         scrape_configs:\n\
         - job_name: kubelet\n\
         \x20 http_sd_configs: [{{url: 'http://{1}/sd'}}]\n",
        flags.interval_seconds, load.address
    )
}

/// `load serve`
pub(crate) fn run(flags: &Flags) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let load = start(&flags.load, flags.port).await?;
        if let Some(path) = &flags.write_config {
            std::fs::write(path, prometheus_yml(&load, &flags.load))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        tokio::signal::ctrl_c().await.context("cannot wait for Ctrl-C")
    })
}
