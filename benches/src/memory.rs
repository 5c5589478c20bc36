//! `load memory`: resident memory per active series, and bytes of log per sample, after given minutes of samples.
//!
//! Ours is the store alone, without a server around it; the peer is its server, filled by remote write, less what the same server takes
//! before it has series.

use std::io::Write;

use clap::{Args, ValueEnum};

use crate::engine::{Engine, Flags as EngineFlags, FleetFlags, Report};
use crate::fleet::Values;
use crate::peer::{PeerFlags, Sender, wait_ready};
use crate::process::folder_bytes;

/// `load memory`
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    fleet: FleetFlags,
    #[command(flatten)]
    peer: PeerFlags,
    /// After how many minutes of samples to look
    #[arg(long, value_delimiter = ',', default_value = "5,130")]
    minutes: Vec<u64>,
    /// Seconds without load before a look
    #[arg(long, default_value_t = 30)]
    idle_seconds: u64,
    /// Samples of a series in one remote write; the peer's log is comparable at 1 alone, which takes it far more time
    #[arg(long, default_value_t = 10)]
    peer_ticks_per_request: u64,
    /// Which sides to measure
    #[arg(long, value_enum, default_value = "both")]
    sides: Sides,
}

/// Whom to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sides {
    /// The store of this workspace.
    Ours,
    /// Prometheus.
    Peer,
    /// One after the other.
    Both,
}

/// 2026-01-01: a multiple of two hours, and in the past.
pub(crate) const START_MS: i64 = 1_767_225_600_000;

/// `load memory`
pub(crate) fn run(flags: &Flags) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    let ticks_of = |minutes: u64| minutes * 60_000 / flags.fleet.interval_ms.unsigned_abs();
    let marks: Vec<u64> = flags.minutes.iter().map(|&minutes| ticks_of(minutes)).collect();
    writeln!(
        out,
        "{} targets x {} series, every {} ms\n\n\
         | store | minutes | RSS MiB | peak MiB | RSS B/series | peak B/series | WAL B/sample |\n\
         |---|---|---|---|---|---|---|",
        flags.fleet.targets, flags.fleet.series, flags.fleet.interval_ms
    )?;
    if flags.sides != Sides::Peer {
        ours(flags, &marks, &mut out)?;
    }
    if flags.sides != Sides::Ours {
        peer(flags, &marks, &mut out)?;
    }
    Ok(())
}

fn ours(flags: &Flags, marks: &[u64], out: &mut impl Write) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut engine = Engine::start(&EngineFlags {
        dir: dir.path().join("data"),
        fleet: flags.fleet.clone(),
        ticks: marks.iter().copied().max().unwrap_or_default(),
        values: Values::Containers,
        start_ms: START_MS,
        ticks_per_turn: 1,
        marks: marks.to_vec(),
        idle_seconds: flags.idle_seconds,
        cut_after_ms: None,
        plain_log: false,
        wait: true,
    })?;
    for &minutes in &flags.minutes {
        let report = engine.report()?;
        print(out, flags, "sextant", minutes, &report)?;
        let samples = report["series"] * report["ticks"];
        writeln!(
            out,
            "<!-- append() and sync(): {:.1} ns of CPU a sample; with generator and maintenance {:.1} -->",
            report["append_seconds"] * 1e9 / samples,
            report["process_seconds"] * 1e9 / samples
        )?;
    }
    engine.kill()
}

#[expect(clippy::cast_precision_loss, reason = "bytes and counts below 2^53")]
fn peer(flags: &Flags, marks: &[u64], out: &mut impl Write) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut server = flags.peer.start(dir.path())?;
    wait_ready(&mut server)?;
    let fleet = flags.fleet.fleet(Values::Containers, START_MS);
    let mut sender = Sender::connect(server.port(), fleet)?;
    let mut tick = 0;
    for (&mark, &minutes) in marks.iter().zip(&flags.minutes) {
        while tick < mark {
            let next = mark.min(tick + flags.peer_ticks_per_request.max(1));
            sender.ticks(tick..next)?;
            tick = next;
        }
        std::thread::sleep(std::time::Duration::from_secs(flags.idle_seconds));
        let usage = server.usage()?;
        let series = server.metric("prometheus_tsdb_head_series")?;
        let report = Report::from([
            (String::from("rss"), usage.resident_bytes as f64),
            (String::from("peak"), usage.resident_bytes_peak as f64),
            (String::from("wal"), folder_bytes(&dir.path().join("data/wal"))? as f64),
            (String::from("series"), series),
            (String::from("ticks"), tick as f64),
        ]);
        print(out, flags, "prometheus", minutes, &report)?;
    }
    server.kill()
}

#[expect(clippy::cast_precision_loss, reason = "bytes and counts below 2^53")]
fn print(
    out: &mut impl Write,
    flags: &Flags,
    name: &str,
    minutes: u64,
    report: &Report,
) -> anyhow::Result<()> {
    let series = report["series"];
    anyhow::ensure!(series == (flags.fleet.targets * flags.fleet.series) as f64, "{series} series");
    let mib = f64::from(1 << 20);
    writeln!(
        out,
        "| {name} | {minutes} | {:.0} | {:.0} | {:.0} | {:.0} | {:.2} |",
        report["rss"] / mib,
        report["peak"] / mib,
        report["rss"] / series,
        report["peak"] / series,
        report["wal"] / (series * report["ticks"]),
    )?;
    Ok(out.flush()?)
}
