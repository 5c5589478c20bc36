//! `load metrics-server`: what it costs to ask the kubelets of a cluster, and to list what they said.
//!
//! The cluster is the tests' `fake_cluster`: an API server, and kubelets that serve over TLS what a kubelet serves.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use http::{Client, GetRequest};

use crate::cluster::Cluster;
use crate::process::Server;

/// `load metrics-server`
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Our binary
    #[arg(long, default_value = "target/release/sextant")]
    ours: String,
    /// A metrics-server of kubernetes-sigs to measure too, which takes the flags of its manifests
    #[arg(long, env = "METRICS_SERVER")]
    upstream: Option<String>,
    /// The cluster: `cargo build --release -p tests --bin fake_cluster`
    #[arg(long, default_value = "target/release/fake_cluster")]
    cluster: String,
    #[arg(long, default_value_t = 500)]
    nodes: usize,
    /// Pods of a node
    #[arg(long, default_value_t = 30)]
    pods: usize,
    /// Containers of a pod
    #[arg(long, default_value_t = 2)]
    containers: usize,
    /// Seconds from one scrape of a node to the next
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(10..))]
    resolution: u64,
    /// Cycles that are measured
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    cycles: u32,
    /// Requests of each list
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    lists: u32,
}

/// How long a server may take until it has all pods.
const COMPLETE_LIMIT: Duration = Duration::from_secs(300);
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: usize = 1 << 30;
/// The pods are in so many namespaces.
const NAMESPACES: usize = 50;
const ALL_PODS: &str = "/apis/metrics.k8s.io/v1beta1/pods";
const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// `load metrics-server`
pub(crate) fn run(flags: &Flags) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let size = [
        format!("--nodes={}", flags.nodes),
        format!("--pods={}", flags.pods),
        format!("--containers={}", flags.containers),
        format!("--namespaces={NAMESPACES}"),
    ];
    let cluster = Cluster::start(&flags.cluster, folder.path(), &size)?;
    writeln!(
        out,
        "{} nodes × {} pods × {} containers, every {} s\n\n\
         | server | CPU s of a cycle | MiB resident | peak MiB |\n|---|---|---|---|",
        flags.nodes, flags.pods, flags.containers, flags.resolution
    )?;
    let upstream = flags.upstream.as_deref().map(|program| vec![String::from(program)]);
    let ours = vec![flags.ours.clone(), String::from("metrics-server")];
    let own_flags = [String::from("--kubelet-allow-loopback")];
    let mut lists = Vec::new();
    for (name, mut command, own_flags) in std::iter::once(("ours", ours, &own_flags[..]))
        .chain(upstream.map(|command| ("upstream", command, &[][..])))
    {
        command.extend(cluster.metrics_server_flags(flags.resolution));
        command.extend_from_slice(own_flags);
        let dir = folder.path().join(name);
        std::fs::create_dir(&dir)?;
        let measured = Measured::start(&command, &dir, &cluster)?;
        runtime.block_on(measured.wait_complete(flags))?;
        runtime.block_on(measured.print_cycles(&mut out, name, flags))?;
        lists.extend(runtime.block_on(measured.lists(name, flags))?);
        measured.server.stop()?;
    }
    writeln!(
        out,
        "\n| server | list | of | MiB | ms | least | server's CPU ms | peak MiB (more) |\n|---|---|---|---|---|---|---|---|"
    )?;
    lists.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    Ok(())
}

/// A metrics server being measured.
#[derive(Debug)]
struct Measured {
    server: Server,
    client: Client,
}

impl Measured {
    fn start(command: &[String], dir: &Path, cluster: &Cluster) -> anyhow::Result<Self> {
        let server = Server::start_with(dir, |port| {
            let own = [
                format!("--secure-port={port}"),
                String::from("--bind-address=127.0.0.1"),
                format!("--cert-dir={}", dir.join("certificates").display()),
            ];
            command.iter().cloned().chain(own).collect()
        })?;
        Ok(Self { server, client: cluster.admin()? })
    }

    async fn get(&self, path: &str, accept: &str) -> anyhow::Result<Vec<u8>> {
        let url = format!("https://127.0.0.1:{}{path}", self.server.port());
        let answer = self
            .client
            .get(GetRequest {
                url: &url,
                headers: &[("accept", accept), ("accept-encoding", "identity")],
                timeout: ANSWER_LIMIT,
                body_bytes_max: ANSWER_BYTES_MAX,
            })
            .await?;
        let text =
            || String::from_utf8_lossy(&answer.body[..answer.body.len().min(300)]).into_owned();
        ensure!(answer.status.as_u16() == 200, "{path} answered {}: {}", answer.status, text());
        Ok(answer.body)
    }

    /// Until it lists all pods.
    async fn wait_complete(&self, flags: &Flags) -> anyhow::Result<()> {
        let deadline = Instant::now() + COMPLETE_LIMIT;
        let all = flags.nodes * flags.pods;
        loop {
            let has = match self.get(ALL_PODS, JSON).await {
                Ok(body) => pods_of(&body)?,
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => 0,
            };
            if has == all {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{has} of {all} pods");
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "bytes below 2^53")]
    async fn print_cycles(
        &self,
        out: &mut impl Write,
        name: &str,
        flags: &Flags,
    ) -> anyhow::Result<()> {
        let before = self.server.usage()?;
        self.server.reset_peak()?;
        tokio::time::sleep(Duration::from_secs(flags.resolution) * flags.cycles).await;
        let after = self.server.usage()?;
        let cpu = (after.cpu_seconds - before.cpu_seconds) / f64::from(flags.cycles);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(
            out,
            "| {name} | {cpu:.3} | {:.1} | {:.1} |",
            mib(after.resident_bytes),
            mib(after.resident_bytes_peak)
        )?;
        Ok(out.flush()?)
    }

    /// Lines of a table.
    #[expect(clippy::cast_precision_loss, reason = "bytes below 2^53")]
    async fn lists(&self, name: &str, flags: &Flags) -> anyhow::Result<Vec<String>> {
        let all = flags.nodes * flags.pods;
        let one_namespace = "/apis/metrics.k8s.io/v1beta1/namespaces/team-000/pods";
        let one_label = format!("{ALL_PODS}?labelSelector=app.kubernetes.io%2Fpart-of%3Dteam-001");
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let mut lines = Vec::new();
        for (what, path, accept, count) in [
            ("all pods, JSON", ALL_PODS, JSON, all),
            ("all pods, protobuf", ALL_PODS, PROTOBUF, all),
            ("one namespace, JSON", one_namespace, JSON, all.div_ceil(NAMESPACES)),
            ("one label, JSON", one_label.as_str(), JSON, all.div_ceil(NAMESPACES)),
            ("nodes, JSON", "/apis/metrics.k8s.io/v1beta1/nodes", JSON, flags.nodes),
        ] {
            // The first one opens the connection.
            let bytes = self.get(path, accept).await?.len();
            self.server.reset_peak()?;
            let before = self.server.usage()?;
            let mut times = Vec::new();
            for _ in 0..flags.lists {
                let started = Instant::now();
                let body = self.get(path, accept).await?;
                times.push(started.elapsed().as_secs_f64() * 1e3);
                if accept == JSON && path != "/apis/metrics.k8s.io/v1beta1/nodes" {
                    let has = pods_of(&body)?;
                    ensure!(has.abs_diff(count) <= all / 20, "{what}: {has} pods, not {count}");
                }
            }
            let after = self.server.usage()?;
            times.sort_by(f64::total_cmp);
            lines.push(format!(
                "| {name} | {what} | {count} | {:.1} | {:.2} | {:.2} | {:.2} | {:.1} ({:+.1}) |",
                mib(bytes as u64),
                times[times.len() / 2],
                times[0],
                (after.cpu_seconds - before.cpu_seconds) * 1e3 / f64::from(flags.lists),
                mib(after.resident_bytes_peak),
                mib(after.resident_bytes_peak) - mib(before.resident_bytes),
            ));
        }
        Ok(lines)
    }
}

/// How many objects a list of pods has.
fn pods_of(body: &[u8]) -> anyhow::Result<usize> {
    let list: serde_json::Value = serde_json::from_slice(body)?;
    Ok(list.get("items").and_then(serde_json::Value::as_array).context("no items")?.len())
}
