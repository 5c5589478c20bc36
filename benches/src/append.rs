//! `load append`: CPU time per appended sample, beside `promtool tsdb bench write`.
//!
//! Both append the same samples in the same order: each target has a batch of 1000 samples a tick, a hundred ticks in a row before the next
//! target has its turn. promtool's time is that of its process less that of a run without scrapes, which reads the list of series alone.

use std::io::Write;

use clap::Args;

use crate::engine::{Engine, Flags as EngineFlags, FleetFlags};
use crate::fleet::Values;
use crate::peer::PeerFlags;
use crate::process::folder_bytes;

/// `load append`
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    peer: PeerFlags,
    /// Series, a multiple of 1000
    #[arg(long, value_delimiter = ',', default_value = "10000,1000000")]
    series: Vec<usize>,
    /// Samples of each series
    #[arg(long, default_value_t = 200)]
    scrapes: u64,
    /// How often each is measured, in turn
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

/// promtool's: the first sample comes one interval after the epoch.
pub(crate) const INTERVAL_MS: i64 = 30_000;
/// Ticks that promtool appends in a row.
const TICKS_PER_TURN: u64 = 100;

/// The fleet that promtool writes.
pub(crate) const fn fleet_flags(series: usize) -> FleetFlags {
    FleetFlags { targets: series.div_ceil(1000), series: 1000, interval_ms: INTERVAL_MS, seed: 1 }
}

/// `load append`
#[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
pub(crate) fn run(flags: &Flags) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{} samples of each series\n\n\
         | series | ours: append() | with batches built and maintained | ours, tick by tick | promtool | ratio | WAL B/sample ours | promtool |\n\
         |---|---|---|---|---|---|---|---|",
        flags.scrapes
    )?;
    for &series in &flags.series {
        for _ in 0..flags.rounds {
            let samples = series as f64 * flags.scrapes as f64;
            let ours = ours(series, flags.scrapes, TICKS_PER_TURN)?;
            let by_tick = self::ours(series, flags.scrapes, 1)?;
            let dir = tempfile::tempdir()?;
            let fleet = fleet_flags(series).fleet(Values::Steps, INTERVAL_MS);
            let (empty, _) = flags.peer.bench_write(dir.path(), &fleet, 0)?;
            std::fs::remove_dir_all(dir.path().join("benchout"))?;
            let (full, data) = flags.peer.bench_write(dir.path(), &fleet, flags.scrapes)?;
            let peer_wal = folder_bytes(&data.join("wal"))? as f64;
            let peer = full - empty;
            writeln!(
                out,
                "| {series} | {:.1} ns | {:.1} ns | {:.1} ns | {:.1} ns | {:.2} | {:.2} | {:.2} |",
                ours.append_seconds * 1e9 / samples,
                ours.process_seconds * 1e9 / samples,
                by_tick.append_seconds * 1e9 / samples,
                peer * 1e9 / samples,
                ours.append_seconds / peer,
                ours.wal / samples,
                peer_wal / samples,
            )?;
            out.flush()?;
        }
    }
    Ok(())
}

struct Cost {
    append_seconds: f64,
    process_seconds: f64,
    wal: f64,
}

fn ours(series: usize, scrapes: u64, ticks_per_turn: u64) -> anyhow::Result<Cost> {
    let dir = tempfile::tempdir()?;
    let mut engine = Engine::start(&EngineFlags {
        dir: dir.path().join("data"),
        fleet: fleet_flags(series),
        ticks: scrapes,
        values: Values::Steps,
        start_ms: INTERVAL_MS,
        ticks_per_turn,
        marks: vec![scrapes],
        idle_seconds: 0,
        cut_after_ms: None,
        plain_log: true,
        wait: true,
    })?;
    let report = engine.report()?;
    engine.kill()?;
    let [append_seconds, process_seconds, wal] =
        ["append_seconds", "process_seconds", "wal"].map(|key| report[key]);
    Ok(Cost { append_seconds, process_seconds, wal })
}
