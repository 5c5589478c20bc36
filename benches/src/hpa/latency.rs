//! `load hpa-latency`: from a step of the load to the replicas that it takes.
//!
//! Kubelets measure every second, our metrics server asks them every second, and the controller evaluates at every sample (or once a period). The
//! demand doubles, so that twice the replicas are right; then it halves again. Steps come at different moments of a second.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::controller;
use crate::cluster::Cluster;
use crate::process::Server;

/// `load hpa-latency`
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Our binary
    #[arg(long, default_value = "target/release/sextant")]
    ours: String,
    /// The cluster: `cargo build --release -p tests --bin fake_cluster`
    #[arg(long, default_value = "target/release/fake_cluster")]
    cluster: String,
    /// Steps that are measured
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// What makes the controller evaluate
    #[arg(long, value_enum, default_value_t = React::FreshSamples)]
    react: React,
    /// Seconds from one evaluation to the next
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..))]
    period: u64,
    /// Seconds from one scrape of a kubelet to the next
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    resolution: u64,
    /// Seconds after the right count within which a wrong one counts as overshoot
    #[arg(long, default_value_t = 20)]
    settle: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum React {
    /// Once a period
    Period,
    /// And when a sample arrives
    FreshSamples,
}

/// The workload that the cluster runs: pods that request 500m each, and 50 % of that is aimed at.
const WORKLOAD: &str = "load web-0";
const LOW: (u64, u64) = (500, 2);
const HIGH: (u64, u64) = (1000, 4);

/// Is there once an evaluation was given metrics.
const PROPOSED: &str = "sextant_hpa_metric_proposed_replicas";
const LIMIT: Duration = Duration::from_secs(180);

/// `load hpa-latency`
pub(crate) fn run(flags: &Flags) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    let folder = tempfile::tempdir()?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut cluster = Cluster::start(
        &flags.cluster,
        folder.path(),
        &[
            String::from("--nodes=2"),
            String::from("--pods=0"),
            String::from("--sample-interval-ms=1000"),
            String::from("--workloads=1"),
            String::from("--latency-ms=1"),
            format!("--service=127.0.0.1:{port}"),
        ],
    )?;
    let metrics = metrics_server(flags, &cluster, folder.path(), port)?;
    let react = match flags.react {
        React::Period => "period",
        React::FreshSamples => "fresh-samples",
    };
    let mut server = controller(
        &flags.ours,
        &cluster,
        folder.path(),
        &[
            format!("--hpa.react={react}"),
            format!("--horizontal-pod-autoscaler-sync-period={}s", flags.period),
            // For the way back alone.
            String::from("--horizontal-pod-autoscaler-downscale-stabilization=5s"),
            String::from("--horizontal-pod-autoscaler-cpu-initialization-period=10s"),
        ],
    )?;
    server.wait_ready(Duration::from_secs(60))?;
    // The cluster's aggregation layer looks from time to time whether a new metrics server answers, and lets nobody through before.
    let started = Instant::now();
    while server.metric(PROPOSED).unwrap_or(0.0) < 1.0 {
        ensure!(started.elapsed() < LIMIT, "no metrics after {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    writeln!(out, "metrics {:.1} s after the start", started.elapsed().as_secs_f64())?;
    writeln!(
        out,
        "{react}, every {} s, kubelets at 1 s, asked every {} s\n\n\
         | step | first rescale s | right count s | most replicas (right: {}) |\n|---|---|---|---|",
        flags.period, flags.resolution, HIGH.1
    )?;
    let mut times = Vec::new();
    for step in 0..flags.steps {
        let offset = Duration::from_millis(u64::from(step) * 370 % 1000);
        std::thread::sleep(Duration::from_secs(flags.settle) + offset);
        let (first, right, most) = climb(&mut cluster, flags)?;
        writeln!(out, "| {step} | {first:.2} | {right:.2} | {most} |")?;
        out.flush()?;
        times.push(first);
        cluster.ask(&format!("load {WORKLOAD} {}", LOW.0))?;
        wait_for_replicas(&mut cluster, LOW.1)?;
    }
    times.sort_by(f64::total_cmp);
    writeln!(
        out,
        "\nfirst rescale: median {:.2} s, worst {:.2} s",
        times[times.len() / 2],
        times[times.len() - 1]
    )?;
    server.stop()?;
    metrics.stop()
}

/// Our metrics server on `port`.
fn metrics_server(
    flags: &Flags,
    cluster: &Cluster,
    folder: &std::path::Path,
    port: u16,
) -> anyhow::Result<Server> {
    let folder = folder.join("metrics-server");
    std::fs::create_dir_all(&folder)?;
    Server::start_with(&folder, |_| {
        let own = [
            flags.ours.clone(),
            String::from("metrics-server"),
            format!("--secure-port={port}"),
            String::from("--bind-address=127.0.0.1"),
            format!("--cert-dir={}", folder.join("certificates").display()),
            String::from("--kubelet-allow-loopback"),
            String::from("--kubelet-request-timeout=900ms"),
        ];
        own.into_iter().chain(cluster.metrics_server_flags(flags.resolution)).collect()
    })
}

/// Doubles the demand; seconds until the first write of replicas, seconds until the right one, and the most that was written.
fn climb(cluster: &mut Cluster, flags: &Flags) -> anyhow::Result<(f64, f64, u64)> {
    cluster.ask("forget")?;
    let changed_ms: i64 = cluster.ask(&format!("load {WORKLOAD} {}", HIGH.0))?.parse()?;
    wait_for_replicas(cluster, HIGH.1)?;
    std::thread::sleep(Duration::from_secs(flags.settle));
    let writes: Vec<Value> = serde_json::from_str(&cluster.ask("scales")?)?;
    let writes: Vec<_> = writes.iter().filter(|write| write["status"] == 200).collect();
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of minutes")]
    let seconds = |write: &Value| {
        let at_ms = write["at_ms"].as_i64().context("no time")?;
        anyhow::Ok((at_ms - changed_ms) as f64 / 1000.0)
    };
    let replicas = |write: &Value| write["replicas"].as_u64().unwrap_or(0);
    let first = writes.first().context("nothing was written")?;
    let right = writes.iter().find(|write| replicas(write) >= HIGH.1);
    let most = writes.iter().map(|write| replicas(write)).max().unwrap_or(0);
    Ok((seconds(first)?, seconds(right.context("never enough")?)?, most))
}

fn wait_for_replicas(cluster: &mut Cluster, wanted: u64) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let ready: u64 = cluster.ask(&format!("replicas {WORKLOAD}"))?.parse()?;
        if ready == wanted {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{ready} replicas, not {wanted}, after {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
