//! `load restart`: from a kill to the right answer, and from a full head to a block.
//!
//! Both sides have the samples of `promtool tsdb bench write`: promtool wrote the peer's directory, which it does not close in a way that
//! a replay would notice, and ours was killed.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;

use crate::append::{INTERVAL_MS, fleet_flags};
use crate::engine::{Engine, Flags as EngineFlags};
use crate::fleet::Values;
use crate::peer::{PeerFlags, Sender, start_server, wait_for, wait_ready};

/// `load restart`
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    peer: PeerFlags,
    /// Our binary
    #[arg(long, default_value = "target/release/sextant")]
    ours: String,
    /// Series, a multiple of 1000
    #[arg(long, default_value_t = 1_000_000)]
    series: usize,
    /// Samples of each series, a multiple of 100; 300 are 75 minutes at 15 s
    #[arg(long, default_value_t = 300)]
    scrapes: u64,
    /// How often each is started
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

/// All series.
const COUNT: &str = "count({__name__!=\"\"})";

/// `load restart`
pub(crate) fn run(flags: &Flags) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{} series x {} samples\n\n\
         | server | ready s | count right s | CPU s | RSS MiB | peak MiB |\n|---|---|---|---|---|---|",
        flags.series, flags.scrapes
    )?;
    let ours = tempfile::tempdir()?;
    let mut engine = Engine::start(&filled(ours.path(), flags.series, flags.scrapes, None))?;
    engine.report()?;
    engine.kill()?;
    let command = [flags.ours.clone(), String::from("server")];
    for _ in 0..flags.rounds {
        measure(&mut out, "sextant", &command, ours.path(), flags)?;
    }
    drop(ours);

    let peer = tempfile::tempdir()?;
    let fleet = fleet_flags(flags.series).fleet(Values::Steps, INTERVAL_MS);
    let (_, data) = flags.peer.bench_write(peer.path(), &fleet, flags.scrapes)?;
    std::fs::rename(data, peer.path().join("data"))?;
    let command = [flags.peer.prometheus.clone()];
    for _ in 0..flags.rounds {
        measure(&mut out, "prometheus", &command, peer.path(), flags)?;
    }
    Ok(())
}

/// An engine that holds a fleet of promtool's and waits.
fn filled(folder: &Path, series: usize, ticks: u64, cut_after_ms: Option<i64>) -> EngineFlags {
    EngineFlags {
        dir: folder.join("data"),
        fleet: fleet_flags(series),
        ticks,
        values: Values::Steps,
        start_ms: INTERVAL_MS,
        ticks_per_turn: 1,
        marks: vec![ticks],
        idle_seconds: 3,
        cut_after_ms,
        plain_log: false,
        wait: true,
    }
}

#[expect(clippy::cast_precision_loss, reason = "bytes and counts below 2^53")]
fn measure(
    out: &mut impl Write,
    name: &str,
    command: &[String],
    folder: &Path,
    flags: &Flags,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut server = start_server(command, folder)?;
    wait_ready(&mut server)?;
    let ready = started.elapsed().as_secs_f64();
    let newest = flags.scrapes.cast_signed() * INTERVAL_MS;
    wait_for(&server, COUNT, newest, flags.series as f64)?;
    let counted = started.elapsed().as_secs_f64();
    let usage = server.usage()?;
    server.kill()?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    writeln!(
        out,
        "| {name} | {ready:.2} | {counted:.2} | {:.2} | {:.0} | {:.0} |",
        usage.cpu_seconds,
        mib(usage.resident_bytes),
        mib(usage.resident_bytes_peak)
    )?;
    Ok(out.flush()?)
}

/// `load cut`
#[derive(Debug, Args)]
pub(crate) struct CutFlags {
    #[command(flatten)]
    peer: PeerFlags,
    /// Series, a multiple of 1000
    #[arg(long, default_value_t = 1_000_000)]
    series: usize,
    /// Seconds that the peer has after its replay to give memory back
    #[arg(long, default_value_t = 60)]
    idle_seconds: u64,
}

/// Samples that fill less than the three hours after which a head is cut.
const SCRAPES: u64 = 300;
/// A sample at this distance from the first makes it more.
const CUT_AFTER_MS: i64 = 10_900_000;

/// `load cut`
#[expect(clippy::cast_precision_loss, reason = "bytes and counts below 2^53")]
pub(crate) fn run_cut(flags: &CutFlags) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{} series x {SCRAPES} samples\n\n\
         | store | CPU s | wall s | RSS before MiB | peak MiB | more |\n|---|---|---|---|---|---|",
        flags.series
    )?;
    let mut print = |name: &str, cpu: f64, wall: f64, before: f64, peak: f64| {
        let mib = f64::from(1 << 20);
        writeln!(
            out,
            "| {name} | {cpu:.2} | {wall:.2} | {:.0} | {:.0} | {:+.0} % |",
            before / mib,
            peak / mib,
            (peak / before - 1.0) * 100.0
        )
    };
    let ours = tempfile::tempdir()?;
    let engine = filled(ours.path(), flags.series, SCRAPES, Some(CUT_AFTER_MS));
    let mut engine = Engine::start(&engine)?;
    engine.report()?;
    let cut = engine.report()?;
    engine.kill()?;
    print("sextant", cut["cut_seconds"], cut["wall_seconds"], cut["before"], cut["peak"])?;
    drop(ours);

    let peer = tempfile::tempdir()?;
    let fleet = fleet_flags(flags.series).fleet(Values::Steps, INTERVAL_MS);
    let (_, data) = flags.peer.bench_write(peer.path(), &fleet, SCRAPES)?;
    std::fs::rename(data, peer.path().join("data"))?;
    let mut server = flags.peer.start(peer.path())?;
    wait_ready(&mut server)?;
    std::thread::sleep(Duration::from_secs(flags.idle_seconds));
    server.wait_quiet(Duration::from_secs(300))?;
    server.reset_peak().context("cannot reset the peak")?;
    let before = server.usage()?;
    let started = Instant::now();
    Sender::connect(server.port(), crate::fleet::Fleet { targets: 1, ..fleet })?
        .single(INTERVAL_MS + CUT_AFTER_MS)?;
    while server.metric("prometheus_tsdb_compactions_total")? < 1.0 {
        std::thread::sleep(Duration::from_millis(200));
    }
    // Truncating the head and the log follows.
    server.wait_quiet(Duration::from_secs(300))?;
    let wall = started.elapsed().as_secs_f64();
    let after = server.usage()?;
    let cpu = after.cpu_seconds - before.cpu_seconds;
    print("prometheus", cpu, wall, before.resident_bytes as f64, after.resident_bytes_peak as f64)?;
    server.kill()
}
