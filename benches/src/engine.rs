//! `load engine`: our store in a process of its own, filled with the fleet and observed.
//!
//! The parent starts it ([`Engine`]) and reads a line of `key=value` numbers for each thing that was asked for. The process holds nothing for the
//! generator but the refs of the series, 8 bytes each; a scraper would hold 16.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use model::{Appender, Batch, ManualClock, SeriesRef};
use rustix::time::{ClockId, clock_gettime};
use tsdb::{Db, Options, OsDisk, WalCompression};

use crate::fleet::{Fleet, Values};
use crate::process::{folder_bytes, usage_of};

/// `load engine`
#[derive(Clone, Debug, Args)]
pub(crate) struct Flags {
    /// Data directory
    #[arg(long)]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) fleet: FleetFlags,
    /// Samples of each series
    #[arg(long)]
    pub(crate) ticks: u64,
    /// What the values are
    #[arg(long, value_enum, default_value = "containers")]
    pub(crate) values: Values,
    /// Time of the first sample
    #[arg(long)]
    pub(crate) start_ms: i64,
    /// Ticks that a target gets before the next target has its turn
    #[arg(long, default_value_t = 1)]
    pub(crate) ticks_per_turn: u64,
    /// After how many ticks to report
    #[arg(long, value_delimiter = ',')]
    pub(crate) marks: Vec<u64>,
    /// Seconds without load before a report
    #[arg(long, default_value_t = 5)]
    pub(crate) idle_seconds: u64,
    /// Append one more sample this many milliseconds after the first tick, and maintain the store
    #[arg(long)]
    pub(crate) cut_after_ms: Option<i64>,
    /// Leave records of the log as they are, as `promtool tsdb bench write` does
    #[arg(long)]
    pub(crate) plain_log: bool,
    /// End only when the standard input does, without closing the store
    #[arg(long)]
    pub(crate) wait: bool,
}

/// The size of the fleet.
#[derive(Clone, Debug, Args)]
pub(crate) struct FleetFlags {
    /// Number of targets
    #[arg(long, default_value_t = 1000)]
    pub(crate) targets: usize,
    /// Series of each target
    #[arg(long, default_value_t = 1000)]
    pub(crate) series: usize,
    /// Milliseconds between the samples of a series
    #[arg(long, default_value_t = 15_000)]
    pub(crate) interval_ms: i64,
    /// The same seed gives the same series and values
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

impl FleetFlags {
    pub(crate) const fn fleet(&self, values: Values, start: i64) -> Fleet {
        Fleet {
            seed: self.seed,
            targets: self.targets,
            series: self.series,
            values,
            start,
            interval_ms: self.interval_ms,
        }
    }
}

/// Maintenance comes every minute of the samples' time, as in the server.
const MAINTENANCE_MS: i64 = 60_000;

/// `load engine`
pub(crate) fn run(flags: &Flags) -> anyhow::Result<()> {
    let fleet = flags.fleet.fleet(flags.values, flags.start_ms);
    let wal_compression =
        if flags.plain_log { WalCompression::None } else { WalCompression::default() };
    let options = Options { wal_compression, ..Options::default() };
    let mut filler = Filler::open(&flags.dir, fleet, options)?;
    let mut done = 0;
    while done < flags.ticks {
        let next = (done + flags.ticks_per_turn).min(flags.ticks);
        filler.turn(done..next)?;
        done = next;
        if flags.marks.contains(&done) {
            std::thread::sleep(Duration::from_secs(flags.idle_seconds));
            filler.report(done)?;
        }
    }
    if let Some(after) = flags.cut_after_ms {
        std::thread::sleep(Duration::from_secs(flags.idle_seconds));
        filler.report_cut(fleet.start + after)?;
    }
    if flags.wait {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        // Another process may still read the directory: as after a crash, nothing is closed.
        std::process::abort();
    }
    filler.close()
}

/// The store, and what filling it took so far.
pub(crate) struct Filler {
    db: Db,
    dir: PathBuf,
    clock: Arc<ManualClock>,
    fleet: Fleet,
    refs: Vec<Vec<SeriesRef>>,
    batch: Batch,
    append_seconds: f64,
    maintained: i64,
}

impl Filler {
    pub(crate) fn open(dir: &Path, fleet: Fleet, options: Options) -> anyhow::Result<Self> {
        let clock = Arc::new(ManualClock::new(fleet.start));
        // Nothing that the fleet does is late, and retention counts from the newest block.
        let registry = telemetry::Registry::new();
        let db = Db::open(dir, Arc::new(OsDisk), clock.clone(), options, &registry)?;
        Ok(Self {
            db,
            dir: dir.to_path_buf(),
            clock,
            fleet,
            refs: vec![Vec::new(); fleet.targets],
            batch: Batch::new(),
            append_seconds: 0.0,
            maintained: fleet.start,
        })
    }

    /// Each target in turn gets these ticks, a batch a tick.
    pub(crate) fn turn(&mut self, ticks: std::ops::Range<u64>) -> anyhow::Result<()> {
        let now = self.fleet.time(ticks.end - 1);
        for target in 0..self.fleet.targets {
            for tick in ticks.clone() {
                self.scrape(target, tick)?;
            }
        }
        self.clock.set(now);
        let started = thread_seconds();
        self.db.sync()?;
        self.append_seconds += thread_seconds() - started;
        if now - self.maintained >= MAINTENANCE_MS {
            self.maintained = now;
            self.db.maintain()?;
        }
        Ok(())
    }

    fn scrape(&mut self, target: usize, tick: u64) -> anyhow::Result<()> {
        let Self { batch, fleet, refs, .. } = self;
        let (t, refs) = (fleet.time(tick), &mut refs[target]);
        batch.clear();
        let is_new = refs.is_empty();
        for series in 0..fleet.series {
            let v = fleet.value(target, series, tick);
            match refs.get(series) {
                Some(&known) => batch.push(known, t, v),
                None => {
                    batch.push_new(fleet.labels(target, series), t, v);
                }
            }
        }
        let started = thread_seconds();
        let appended = self.db.append(batch)?;
        self.append_seconds += thread_seconds() - started;
        anyhow::ensure!(appended.rejected.is_empty(), "rejected: {:?}", appended.rejected[0]);
        if is_new {
            *refs = appended.new_refs;
            // What a scraper does not keep either.
            *batch = Batch::new();
        }
        Ok(())
    }

    /// Closes the store.
    pub(crate) fn close(self) -> anyhow::Result<()> {
        Ok(self.db.close()?)
    }

    fn report(&self, ticks: u64) -> anyhow::Result<()> {
        let usage = usage_of("self")?;
        let mut out = std::io::stdout();
        writeln!(
            out,
            "ticks={ticks} rss={} peak={} wal={} append_seconds={} process_seconds={} series={}",
            usage.resident_bytes,
            usage.resident_bytes_peak,
            folder_bytes(&self.dir.join("wal"))?,
            self.append_seconds,
            process_seconds(),
            self.db.statistics(0).head.series,
        )?;
        Ok(())
    }

    /// Makes the head long enough for a block to be cut, and reports what that costs.
    fn report_cut(&mut self, t: i64) -> anyhow::Result<()> {
        self.db.maintain()?;
        self.batch.clear();
        self.batch.push(self.refs[0][0], t, 1.0);
        self.db.append(&self.batch)?;
        self.clock.set(t);
        std::fs::write("/proc/self/clear_refs", "5")?;
        let before = usage_of("self")?.resident_bytes;
        let (started, started_wall) = (process_seconds(), std::time::Instant::now());
        let done = self.db.maintain()?;
        let (cpu, wall) = (process_seconds() - started, started_wall.elapsed().as_secs_f64());
        let after = usage_of("self")?;
        anyhow::ensure!(done.blocks_cut > 0, "no block was cut: {done:?}");
        let mut out = std::io::stdout();
        writeln!(
            out,
            "cut_seconds={cpu} wall_seconds={wall} before={before} peak={} rss={} blocks={}",
            after.resident_bytes_peak, after.resident_bytes, done.blocks_cut
        )?;
        Ok(())
    }
}

/// CPU time of this thread.
pub(crate) fn thread_seconds() -> f64 {
    seconds(ClockId::ThreadCPUTime)
}

/// CPU time of this process.
pub(crate) fn process_seconds() -> f64 {
    seconds(ClockId::ProcessCPUTime)
}

#[expect(clippy::cast_precision_loss, reason = "CPU times are below 2^53 ns")]
fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// A running `load engine`.
#[derive(Debug)]
pub(crate) struct Engine {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

/// What it said.
pub(crate) type Report = BTreeMap<String, f64>;

impl Engine {
    pub(crate) fn start(flags: &Flags) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let FleetFlags { targets, series, interval_ms, seed } = flags.fleet;
        let values = match flags.values {
            Values::Containers => "containers",
            Values::Steps => "steps",
        };
        let marks: Vec<String> = flags.marks.iter().map(u64::to_string).collect();
        command
            .arg("engine")
            .arg(format!("--dir={}", flags.dir.display()))
            .arg(format!("--targets={targets}"))
            .arg(format!("--series={series}"))
            .arg(format!("--interval-ms={interval_ms}"))
            .arg(format!("--seed={seed}"))
            .arg(format!("--ticks={}", flags.ticks))
            .arg(format!("--values={values}"))
            .arg(format!("--start-ms={}", flags.start_ms))
            .arg(format!("--ticks-per-turn={}", flags.ticks_per_turn))
            .arg(format!("--idle-seconds={}", flags.idle_seconds));
        if !marks.is_empty() {
            command.arg(format!("--marks={}", marks.join(",")));
        }
        if let Some(after) = flags.cut_after_ms {
            command.arg(format!("--cut-after-ms={after}"));
        }
        if flags.plain_log {
            command.arg("--plain-log");
        }
        if flags.wait {
            command.arg("--wait");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("no standard output")?;
        Ok(Self { child, lines: BufReader::new(stdout).lines() })
    }

    /// The next thing that it says.
    pub(crate) fn report(&mut self) -> anyhow::Result<Report> {
        let line = self.lines.next().context("the engine ended early")??;
        let parse = |field: &str| -> anyhow::Result<(String, f64)> {
            let (key, value) = field.split_once('=').context("not key=value")?;
            Ok((String::from(key), value.parse()?))
        };
        line.split(' ').map(parse).collect::<anyhow::Result<_>>().with_context(|| line.clone())
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
