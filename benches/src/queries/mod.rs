//! `load queries`: CPU time, time and memory of queries, ours beside Prometheus, on the same blocks and the same head.
//!
//! For each query both servers are started anew. The first answers of both must be the same; memory is that of the first answer. Then each is
//! asked in turns.

mod answer;
mod cases;
mod data;
mod pair;
mod reading;
mod victoria;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use model::Timestamp;

use self::answer::compare;
use self::cases::{CASES, Case, Window};
use self::data::Data;
use self::pair::{Cost, Pair, Peer};
use crate::peer::{PeerFlags, encode, instant_path};

/// `load queries`
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    peer: PeerFlags,
    /// A second peer for ranges. It is filled by remote write, once for kept data; answers are not compared, as its functions are others
    #[arg(long, env = "VICTORIA")]
    victoria: Option<String>,
    /// Our binary
    #[arg(long, default_value = "target/release/sextant")]
    ours: String,
    /// Where the samples are kept for other runs; they are written if they are not there
    #[arg(long)]
    data: Option<PathBuf>,
    /// Pods at a time, of 23.5 series each on average
    #[arg(long, default_value_t = 1000)]
    pods: u64,
    /// Hours of samples in blocks, at least 24
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(24..=240))]
    hours: u64,
    /// The same seed gives the same series and values
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What to measure
    #[arg(long, value_enum, value_delimiter = ',', default_value = "ranges,alerts,parse")]
    parts: Vec<Part>,
    /// Of the ranges, measure only those that have this in `query, times`, as in `[5m])), 1 h`; may be given several times
    #[arg(long)]
    only: Vec<String>,
    /// Turns that each server has
    #[arg(long, default_value_t = 5)]
    repeats: u32,
    /// Seconds for a query, after which no further turn begins
    #[arg(long, default_value_t = 60)]
    limit_seconds: u64,
}

/// A part of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Range queries over blocks.
    Ranges,
    /// Instant queries over a head, as rules are evaluated.
    Alerts,
    /// Reading and printing of expressions.
    Parse,
}

/// Before the end of the samples, and no multiple of a subquery's step: there, versions of Prometheus differ. Even, unlike the times of samples.
const BEFORE_END_MS: i64 = 7_998;

/// `load queries`
pub(crate) fn run(flags: &Flags) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    let Flags { pods, hours, seed, .. } = *flags;
    let data = Data::new(flags.data.as_deref(), pods, hours, seed, &flags.peer.promtool)?;
    let has = data.contents()?;
    writeln!(
        out,
        "{pods} pods, {hours} h @ 15 s: {} samples of {} series in {} blocks\n",
        has.samples, has.series, has.blocks
    )?;
    if flags.parts.contains(&Part::Ranges) {
        ranges(&mut out, &data, flags, &flags.prometheus())?;
        if let Some(program) = &flags.victoria {
            let peer = Peer::Victoria(program.clone(), data.with_victoria(program)?);
            writeln!(out, "Beside VictoriaMetrics:\n")?;
            ranges(&mut out, &data, flags, &peer)?;
        }
    }
    if flags.parts.contains(&Part::Alerts) {
        alerts(&mut out, &data, flags)?;
    }
    if flags.parts.contains(&Part::Parse) {
        parse(&mut out, &data, flags)?;
    }
    Ok(())
}

impl Flags {
    fn prometheus(&self) -> Peer {
        Peer::Prometheus(self.peer.prometheus.clone())
    }
}

fn ranges(out: &mut impl Write, data: &Data, flags: &Flags, peer: &Peer) -> anyhow::Result<()> {
    writeln!(
        out,
        "| query | times | series | points | MiB | ours CPU ms | peer CPU ms | CPU ours/peer | goal (floor) | ours wall ms | peer wall ms | wall ours/peer \
         | ours peak MiB (more) | peer peak MiB (more) | peak ours/peer | runs |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    )?;
    for case in &CASES {
        for window in case.windows {
            let name = format!("{}, {}", case.query, window.name);
            if flags.only.is_empty() || flags.only.iter().any(|only| name.contains(only.as_str())) {
                range(out, data, flags, peer, case, window).context(name)?;
            }
        }
    }
    Ok(writeln!(out)?)
}

#[expect(clippy::cast_precision_loss, reason = "bytes below 2^53")]
fn range(
    out: &mut impl Write,
    data: &Data,
    flags: &Flags,
    peer: &Peer,
    case: &Case,
    window: &Window,
) -> anyhow::Result<()> {
    let pair = Pair::start(&flags.ours, peer, || data.with_blocks())?;
    let paths = [range_path(case.query, window, data.end() - BEFORE_END_MS)];
    let (answers, memory) = pair.first(&paths)?;
    let theirs = match peer {
        Peer::Prometheus(_) => &answers[0].peer,
        Peer::Victoria(..) => &answers[0].ours,
    };
    let shape = compare(&answers[0].ours, theirs)?;
    ensure!(shape.points > 0, "both answers are empty");
    let cost = pair.measure(&paths, flags.repeats, Duration::from_secs(flags.limit_seconds))?;
    pair.stop()?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let Cost { ours, peer, .. } = cost;
    writeln!(
        out,
        "| `{}` | {} | {} | {} | {:.1} | {:.1} | {:.1} | {:.3} ({:.1}×) | {}× ({}×) | {:.1} | {:.1} | {:.3} | {:.0} ({:+.0}) | {:.0} ({:+.0}) | {:.3} | {}, {} |",
        case.query.replace('|', "\\|"),
        window.name,
        shape.series,
        shape.points,
        mib(answers[0].ours.len() as u64),
        ours.cpu_ms,
        peer.cpu_ms,
        ours.cpu_ms / peer.cpu_ms,
        peer.cpu_ms / ours.cpu_ms,
        case.goal,
        case.floor,
        ours.wall_ms,
        peer.wall_ms,
        ours.wall_ms / peer.wall_ms,
        mib(memory.ours.peak_bytes),
        mib(memory.ours.growth_bytes()),
        mib(memory.peer.peak_bytes),
        mib(memory.peer.growth_bytes()),
        memory.ours.peak_bytes as f64 / memory.peer.peak_bytes as f64,
        ours.runs,
        peer.runs,
    )?;
    Ok(out.flush()?)
}

fn range_path(query: &str, window: &Window, end: Timestamp) -> String {
    let start = end - window.span_ms;
    let seconds = |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000);
    format!(
        "/api/v1/query_range?query={}&start={}&end={}&step={}",
        encode(query),
        seconds(start),
        seconds(end),
        seconds(window.step_ms)
    )
}

/// Asked one after the other over a connection; then as many times for next to nothing, so that what HTTP costs is known.
fn alerts(out: &mut impl Write, data: &Data, flags: &Flags) -> anyhow::Result<()> {
    let pair = Pair::start(&flags.ours, &flags.prometheus(), || data.with_head())?;
    let t = data.head_end();
    let queries = cases::alerts();
    let paths: Vec<String> = queries.iter().map(|query| instant_path(query, t)).collect();
    let (answers, _) = pair.first(&paths)?;
    let (mut firing, mut series) = (0, 0);
    for (query, both) in queries.iter().zip(&answers) {
        let shape = compare(&both.ours, &both.peer).with_context(|| query.clone())?;
        series += shape.series;
        firing += u32::from(shape.series > 0);
    }
    let empty = vec![instant_path("vector(1)", t); paths.len()];
    pair.first(&empty)?;
    let limit = Duration::from_secs(flags.limit_seconds);
    let cost = pair.measure(&paths, flags.repeats, limit)?;
    let idle = pair.measure(&empty, flags.repeats, limit)?;
    pair.stop()?;
    writeln!(
        out,
        "{} alerts at one time over the head; {firing} have answers, of {series} series. Goal 20×, floor 5×\n",
        queries.len()
    )?;
    print_requests(out, &cost, &idle, "vector(1)")
}

fn print_requests(
    out: &mut impl Write,
    cost: &Cost,
    idle: &Cost,
    empty: &str,
) -> anyhow::Result<()> {
    writeln!(
        out,
        "| what | ours CPU ms | peer CPU ms | CPU ours/peer | ours wall ms | peer wall ms | wall ours/peer | runs |\n\
         |---|---|---|---|---|---|---|---|"
    )?;
    let mut print = |what: &str, cost: &Cost| {
        let Cost { ours, peer } = cost;
        writeln!(
            out,
            "| {what} | {:.1} | {:.1} | {:.3} ({:.1}×) | {:.1} | {:.1} | {:.3} | {}, {} |",
            ours.cpu_ms,
            peer.cpu_ms,
            ours.cpu_ms / peer.cpu_ms,
            peer.cpu_ms / ours.cpu_ms,
            ours.wall_ms,
            peer.wall_ms,
            ours.wall_ms / peer.wall_ms,
            ours.runs,
            peer.runs
        )
    };
    print("all", cost)?;
    print(&format!("as many `{empty}`"), idle)?;
    print("difference", &cost.less(idle))?;
    Ok(writeln!(out)?)
}

/// `format_query` of both, and reading alone.
fn parse(out: &mut impl Write, data: &Data, flags: &Flags) -> anyhow::Result<()> {
    let pair = Pair::start(&flags.ours, &flags.prometheus(), || data.with_head())?;
    let panels = cases::panels();
    let path = |query: &str| format!("/api/v1/format_query?query={}", encode(query));
    let paths: Vec<String> = panels.iter().map(|query| path(query)).collect();
    let empty = vec![path("1"); paths.len()];
    pair.first(&paths)?;
    let limit = Duration::from_secs(flags.limit_seconds);
    let cost = pair.measure(&paths, flags.repeats, limit)?;
    let idle = pair.measure(&empty, flags.repeats, limit)?;
    pair.stop()?;
    let bytes: usize = panels.iter().map(String::len).sum();
    writeln!(
        out,
        "{} expressions of {} bytes on average, read and printed by `format_query`. Goal 5×, floor 3×\n",
        panels.len(),
        bytes / panels.len()
    )?;
    print_requests(out, &cost, &idle, "format_query?query=1")?;
    reading::print(out, &panels, &flags.peer.promtool)
}

#[cfg(test)]
mod tests {
    use promql::ParseOptions;

    use super::*;

    #[test]
    fn all_that_is_asked_is_promql() {
        let cases = CASES.iter().map(|case| String::from(case.query));
        for query in cases.chain(cases::alerts()).chain(cases::panels()) {
            let parsed = promql::parse(&query, &ParseOptions::default());
            assert!(parsed.is_ok(), "{query}: {parsed:?}");
        }
        assert_eq!((cases::alerts().len(), cases::panels().len()), (500, 200));
    }

    #[test]
    fn times_of_ranges_are_even_and_on_no_whole_minute() {
        let window = Window { name: "", span_ms: 3_600_000, step_ms: 15_000 };
        let path = range_path("a+b", &window, 10_000_000_000 - BEFORE_END_MS);
        let expected =
            "/api/v1/query_range?query=a%2Bb&start=9996392.002&end=9999992.002&step=15.000";
        assert_eq!(path, expected);
        for window in CASES.iter().flat_map(|case| case.windows) {
            assert!(window.span_ms / window.step_ms <= 11_000);
            let start = 86_400_000 - BEFORE_END_MS - window.span_ms;
            assert!(
                (start..start + window.span_ms)
                    .step_by(15_000)
                    .all(|t| t % 60_000 != 0 && t % 2 == 0)
            );
        }
    }
}
