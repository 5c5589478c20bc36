//! `load select`: how long it takes to find the series of a selector, in the head and in a block.
//!
//! Our store writes one data directory; both servers open a copy of it and answer the same instant queries over HTTP. `count` touches every
//! series and one sample of each, so finding them is most of the work.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use clap::Args;

use tsdb::Options;

use crate::engine::{Filler, FleetFlags};
use crate::fleet::Values;
use crate::memory::START_MS;
use crate::peer::{PeerFlags, instant, instant_path, start_server, wait_ready};
use crate::process::copy_folder;

/// `load select`
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    peer: PeerFlags,
    /// Our binary
    #[arg(long, default_value = "target/release/sextant")]
    ours: String,
    /// Number of targets
    #[arg(long, default_value_t = 1000)]
    targets: usize,
    /// Series of each target
    #[arg(long, default_value_t = 1000)]
    series: usize,
    /// How often each query is asked
    #[arg(long, default_value_t = 5)]
    repeats: u32,
}

/// What is selected; of 1000 targets a tenth is 100,000 series.
const SELECTORS: [(&str, &str); 6] = [
    ("=", r#"{cluster="cluster-3"}"#),
    ("=~, set", r#"{cluster=~"cluster-3|cluster-x"}"#),
    ("=~, pattern", r#"{instance=~"node-[1-9]?[0-9]"}"#),
    ("!~", r#"{job="kubelet",cluster!~"cluster-[0-24-9]"}"#),
    ("=~, 50,000 values", r#"{name=~"[0-9a-f]+(0|8)[0-9a-f]"}"#),
    ("=, name and =~", r#"{__name__=~"container_memory_.*",pod=~"app-1.*-[0-9a-f]+"}"#),
];

/// `load select`
pub(crate) fn run(flags: &Flags) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    for (place, ticks, interval_ms) in [("head", 20, 15_000), ("block", 20, 600_000)] {
        let ours = tempfile::tempdir()?;
        let fleet =
            FleetFlags { targets: flags.targets, series: flags.series, interval_ms, seed: 1 };
        let fleet = fleet.fleet(Values::Containers, START_MS);
        let mut filler = Filler::open(&ours.path().join("data"), fleet, Options::default())?;
        for tick in 0..ticks {
            filler.turn(tick..tick + 1)?;
        }
        filler.close()?;
        // A sample that the head or the block has.
        let t = if place == "head" { fleet.time(ticks - 1) } else { fleet.time(6) };
        let peer = tempfile::tempdir()?;
        copy_folder(&ours.path().join("data"), &peer.path().join("data"))?;
        let command = [flags.ours.clone(), String::from("server")];
        let first = measure(&command, ours.path(), t, flags.repeats).context("ours")?;
        drop(ours);
        let command = [flags.peer.prometheus.clone()];
        let second = measure(&command, peer.path(), t, flags.repeats).context("peer")?;
        writeln!(
            out,
            "{place}, {} series\n\n| selector | series | ours CPU ms | wall ms | prometheus CPU ms | wall ms | CPU ratio | wall ratio |\n\
             |---|---|---|---|---|---|---|---|",
            fleet.series_count()
        )?;
        for (((kind, _), a), b) in SELECTORS.iter().zip(&first).zip(&second) {
            anyhow::ensure!(a.count == b.count, "{kind}: ours {}, peer {}", a.count, b.count);
            writeln!(
                out,
                "| `{kind}` | {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.3} | {:.3} |",
                a.count,
                a.cpu_ms,
                a.wall_ms,
                b.cpu_ms,
                b.wall_ms,
                a.cpu_ms / b.cpu_ms,
                a.wall_ms / b.wall_ms
            )?;
        }
        writeln!(out)?;
    }
    Ok(())
}

struct Cost {
    count: f64,
    cpu_ms: f64,
    wall_ms: f64,
}

fn measure(command: &[String], folder: &Path, t: i64, repeats: u32) -> anyhow::Result<Vec<Cost>> {
    let mut server = start_server(command, folder)?;
    wait_ready(&mut server)?;
    server.wait_quiet(std::time::Duration::from_secs(120))?;
    let mut costs = Vec::new();
    for (_, selector) in SELECTORS {
        let query = format!("count({selector})");
        // Once to warm up, and for the answer.
        let count = instant(&server, &query, t)?.unwrap_or_default();
        let path = instant_path(&query, t);
        let before = server.usage()?.cpu_seconds;
        let mut walls = Vec::new();
        for _ in 0..repeats {
            let started = Instant::now();
            let (status, _) = server.get(&path)?;
            walls.push(started.elapsed().as_secs_f64() * 1e3);
            anyhow::ensure!(status == 200, "{query} answered {status}");
        }
        let cpu_ms = (server.usage()?.cpu_seconds - before) * 1e3 / f64::from(repeats);
        walls.sort_by(f64::total_cmp);
        costs.push(Cost { count, cpu_ms, wall_ms: walls[walls.len() / 2] });
    }
    server.kill()?;
    Ok(costs)
}
