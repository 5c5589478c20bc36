//! Two servers, one after the other, on the same load.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;

use crate::process::{Server, folder_bytes};
use crate::serve::{self, Load, LoadFlags};

/// `load compare`
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    load: LoadFlags,
    /// Seconds that each server scrapes
    #[arg(long, default_value_t = 120)]
    duration_seconds: u64,
    /// Our binary
    #[arg(long, default_value = "target/release/sextant")]
    ours: String,
    /// The peer
    #[arg(long, default_value = "prometheus")]
    prometheus: String,
    /// How often each is measured; ours first, then the peer, and again
    #[arg(long, default_value_t = 1)]
    rounds: u32,
}

/// What a server cost.
#[derive(Debug)]
struct Cost {
    samples: f64,
    series: f64,
    cpu_seconds: f64,
    resident_bytes: u64,
    resident_bytes_idle: u64,
    resident_bytes_peak: u64,
    wal_bytes: u64,
    scrapes: u64,
    scrapes_expected: u64,
}

/// `load compare`
pub(crate) fn run(flags: &Flags) -> anyhow::Result<()> {
    // The generator has threads of its own; the servers are processes.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let load = runtime.block_on(serve::start(&flags.load, 0))?;
    let ours = [flags.ours.clone(), String::from("server")];
    let peer = [flags.prometheus.clone()];
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{} targets x {} series, every {} s, for {} s\n\n\
         | server | samples | CPU s | CPU us/sample | RSS MiB | peak MiB | RSS B/series | less idle | WAL B/sample | scrapes |\n\
         |---|---|---|---|---|---|---|---|---|---|",
        flags.load.targets, flags.load.series, flags.load.interval_seconds, flags.duration_seconds
    )?;
    for _ in 0..flags.rounds {
        for (name, command) in [("sextant", ours.as_slice()), ("prometheus", peer.as_slice())] {
            let cost = measure(command, &load, flags).with_context(|| String::from(name))?;
            print(&mut out, name, &cost)?;
        }
    }
    Ok(())
}

fn measure(command: &[String], load: &Arc<Load>, flags: &Flags) -> anyhow::Result<Cost> {
    let folder = std::env::temp_dir().join(format!("sextant-load-{}", std::process::id()));
    let _removed = RemovedOnDrop(&folder);
    std::fs::create_dir_all(&folder)?;
    load.rewind();
    // Idle first: the same program, ready, with nothing to scrape.
    std::fs::write(folder.join("prometheus.yml"), "scrape_configs: []\n")?;
    let mut idle = Server::start(command, &folder)?;
    idle.wait_ready(Duration::from_secs(30))?;
    std::thread::sleep(Duration::from_secs(2));
    let resident_bytes_idle = idle.usage()?.resident_bytes;
    idle.stop()?;
    std::fs::remove_dir_all(folder.join("data"))?;

    std::fs::write(folder.join("prometheus.yml"), serve::prometheus_yml(load, &flags.load))?;
    let mut server = Server::start(command, &folder)?;
    let started = Instant::now();
    server.wait_ready(Duration::from_secs(30))?;
    let duration = Duration::from_secs(flags.duration_seconds);
    std::thread::sleep(duration.saturating_sub(started.elapsed()));
    let usage = server.usage()?;
    let scrapes = load.scrapes();
    let samples = server.metric("prometheus_tsdb_head_samples_appended_total")?;
    let series = server.metric("prometheus_tsdb_head_series")?;
    let wal_bytes = folder_bytes(&folder.join("data/wal"))?;
    server.stop()?;
    // The first scrape of a target comes within one interval, and discovery takes a few seconds before it.
    let rounds = (flags.duration_seconds / flags.load.interval_seconds).saturating_sub(2);
    Ok(Cost {
        samples,
        series,
        cpu_seconds: usage.cpu_seconds,
        resident_bytes: usage.resident_bytes,
        resident_bytes_idle,
        resident_bytes_peak: usage.resident_bytes_peak,
        wal_bytes,
        scrapes,
        scrapes_expected: rounds * flags.load.targets as u64,
    })
}

#[expect(clippy::cast_precision_loss, reason = "bytes and counts below 2^53")]
fn print(out: &mut impl Write, name: &str, cost: &Cost) -> std::io::Result<()> {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    writeln!(
        out,
        "| {name} | {} | {:.2} | {:.3} | {:.1} | {:.1} | {:.0} | {:.0} | {:.2} | {} (at least {}) |",
        cost.samples,
        cost.cpu_seconds,
        cost.cpu_seconds * 1e6 / cost.samples,
        mib(cost.resident_bytes),
        mib(cost.resident_bytes_peak),
        cost.resident_bytes as f64 / cost.series,
        cost.resident_bytes.saturating_sub(cost.resident_bytes_idle) as f64 / cost.series,
        cost.wal_bytes as f64 / cost.samples,
        cost.scrapes,
        cost.scrapes_expected,
    )
}

struct RemovedOnDrop<'a>(&'a Path);

impl Drop for RemovedOnDrop<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0);
    }
}
