//! Appends a `tests::load` to a store and reports each batch, until it has come to its end or is killed.
//!
//! It does what the server does to a store, and only that: batches from one or more threads, syncs, maintenance. See `tests::load` for
//! the load and the lines of the report. Exits with 0 at the end, 1 if the store cannot be opened, 2 if the store does what it must
//! not: rejects a sample that is in order, or answers no query.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use clap::Parser;
use model::{
    Appender, Batch, QueryContext, Queryable, Selection, SeriesKey, SeriesRef, SystemClock,
    TimeRange,
};
use tests::load::{Line, Settings, Value, Workload};
use tsdb::{Db, OsDisk};

/// Pause of upkeep threads, and of a writer whose batch was refused.
const PAUSE: Duration = Duration::from_millis(1);

/// Appends a load to a store.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// The folder of the store.
    #[arg(long)]
    path: PathBuf,
    /// Decides the values.
    #[arg(long)]
    seed: u64,
    /// New series of a burst.
    #[arg(long, default_value_t = 300)]
    burst_series: u32,
    /// The first step.
    #[arg(long, default_value_t = 0)]
    first_step: i64,
    /// Steps to the end; without, there is none.
    #[arg(long)]
    steps: Option<i64>,
    /// Threads that append.
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// Sync and maintain in threads of their own, as the server does, rather than between batches.
    #[arg(long)]
    upkeep_threads: bool,
    /// Span of a block.
    #[arg(long)]
    block_steps: u32,
    /// How long samples are kept; 0 is for ever.
    #[arg(long)]
    retention_steps: u32,
    /// Bytes after which a log segment is full.
    #[arg(long)]
    segment_bytes: u64,
}

/// Batches from one sync to the next, and from one maintenance to the next, without upkeep threads.
const SYNC_STEPS: i64 = 10;
const MAINTAIN_STEPS: i64 = 15;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::NotOpened(error)) => {
            complain(&error);
            ExitCode::from(1)
        }
        Err(Failure::Misbehaved(error)) => {
            complain(&error);
            ExitCode::from(2)
        }
    }
}

enum Failure {
    NotOpened(String),
    Misbehaved(String),
}

fn complain(error: &str) {
    // There is nobody left to tell.
    let _ = rustix::io::write(io::stderr(), format!("append_load: {error}\n").as_bytes());
}

/// Writes a line with one system call: it is in the pipe as a whole or not at all, and stays there when this process is killed.
fn report(line: &Line) -> Result<(), Failure> {
    let mut text = line.to_string();
    text.truncate(text.floor_char_boundary(500));
    text.push('\n');
    match rustix::io::write(io::stdout().as_fd(), text.as_bytes()) {
        Ok(written) if written == text.len() => Ok(()),
        other => Err(Failure::Misbehaved(format!("cannot report: {other:?}"))),
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let settings = Settings {
        block_steps: arguments.block_steps,
        retention_steps: arguments.retention_steps,
        segment_bytes: arguments.segment_bytes,
    };
    let (disk, clock) = (Arc::new(OsDisk), Arc::new(SystemClock));
    let registry = telemetry::Registry::new();
    let db = Db::open(&arguments.path, disk, clock, settings.options(), &registry)
        .map_err(|error| Failure::NotOpened(error.to_string()))?;
    report(&Line::Open)?;
    if arguments.threads == 1 && !arguments.upkeep_threads {
        write(arguments, &db, 0, &[AtomicI64::new(0)])?;
    } else {
        write_in_threads(arguments, &db)?;
    }
    match db.close() {
        Ok(()) => {}
        Err(error) => report(&Line::Failed(error.to_string()))?,
    }
    drop(db);
    report(&Line::Done)
}

fn write_in_threads(arguments: &Arguments, db: &Db) -> Result<(), Failure> {
    let progress: Vec<_> = (0..arguments.threads).map(|_| AtomicI64::new(0)).collect();
    let done = AtomicBool::new(false);
    let (progress, done) = (&progress, &done);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..arguments.threads)
            .map(|thread| scope.spawn(move || write(arguments, db, thread, progress)))
            .collect();
        let upkeep = [sync as fn(&Db) -> Result<(), Failure>, maintain].map(|task| {
            scope.spawn(move || {
                while arguments.upkeep_threads && !done.load(Ordering::SeqCst) {
                    task(db)?;
                    std::thread::sleep(PAUSE);
                }
                Ok(())
            })
        });
        let mut outcome = Ok(());
        for writer in writers {
            outcome = outcome.and(writer.join().expect("writers do not panic"));
        }
        done.store(true, Ordering::SeqCst);
        for task in upkeep {
            outcome = outcome.and(task.join().expect("upkeep does not panic"));
        }
        outcome
    })
}

/// Appends the batches of one thread.
fn write(
    arguments: &Arguments,
    db: &Db,
    thread: u32,
    progress: &[AtomicI64],
) -> Result<(), Failure> {
    let workload = Workload { seed: arguments.seed, burst_series: arguments.burst_series };
    let mut refs: Vec<Option<SeriesRef>> = Vec::new();
    let mut batch = Batch::new();
    // The head accepts what is half a block behind; no thread may fall that far back.
    let lead_max = i64::from(arguments.block_steps / 4);
    let mut done = 0;
    // Others need not wait for a thread that is done, whatever ended it.
    let _release = Release(&progress[thread as usize]);
    while arguments.steps.is_none_or(|steps| done < steps) {
        let others = progress.iter().map(|other| other.load(Ordering::SeqCst));
        if others.clone().any(|other| other == FAILED) {
            return Ok(());
        }
        if others.clone().any(|other| done - other > lead_max) {
            std::thread::yield_now();
            continue;
        }
        let step = arguments.first_step + done;
        let introduced = fill(&mut batch, workload, thread, step, &mut refs);
        match db.append(&batch) {
            Ok(appended)
                if appended.rejected.is_empty() && appended.rejected_histograms.is_empty() =>
            {
                for (stable, position) in introduced {
                    refs[stable] = Some(appended.new_refs[position]);
                }
                report(&Line::Acknowledged { thread, step })?;
            }
            Ok(appended) => {
                let rejected = (appended.rejected, appended.rejected_histograms);
                let text = format!("step {step} of thread {thread}: rejected {rejected:?}");
                return Err(Failure::Misbehaved(text));
            }
            Err(error) => {
                read(db).map_err(Failure::Misbehaved)?;
                report(&Line::Refused { thread, step, reason: error.to_string() })?;
                std::thread::sleep(PAUSE);
            }
        }
        done += 1;
        progress[thread as usize].store(done, Ordering::SeqCst);
        if !arguments.upkeep_threads && thread == 0 {
            if done % SYNC_STEPS == 0 {
                sync(db)?;
            }
            if done % MAINTAIN_STEPS == 0 {
                maintain(db)?;
            }
        }
    }
    progress[thread as usize].store(ENDED, Ordering::SeqCst);
    Ok(())
}

/// Progress of a thread that has come to its end, and of one that failed.
const ENDED: i64 = i64::MAX;
const FAILED: i64 = i64::MAX - 1;

/// Notes that a thread ended too early, if it did.
struct Release<'a>(&'a AtomicI64);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        if self.0.load(Ordering::SeqCst) != ENDED {
            self.0.store(FAILED, Ordering::SeqCst);
        }
    }
}

/// Fills `batch`; says which series of those that are always there it introduces, with their positions among the new ones.
fn fill(
    batch: &mut Batch,
    workload: Workload,
    thread: u32,
    step: i64,
    refs: &mut Vec<Option<SeriesRef>>,
) -> Vec<(usize, usize)> {
    batch.clear();
    let mut introduced: Vec<(usize, usize)> = Vec::new();
    for point in workload.batch(thread, step) {
        let (v, stable) = match (point.value, point.stable) {
            (Value::Float(v), Some(stable)) => (v, stable),
            (Value::Float(v), None) => {
                batch.push_new(point.labels, point.t, v);
                continue;
            }
            (Value::Histogram(histogram), _) => {
                let series = batch.introduce(point.labels);
                batch.push_histogram(series, point.t, histogram);
                continue;
            }
        };
        refs.resize(refs.len().max(stable + 1), None);
        let of_this_batch = introduced.iter().find(|(series, _)| *series == stable);
        if let Some(series) = refs[stable] {
            batch.push(series, point.t, v);
        } else if let Some((_, position)) = of_this_batch {
            let series = SeriesKey::New(u32::try_from(*position).expect("few"));
            batch.floats.push(model::FloatAppend { series, t: point.t, v });
        } else {
            introduced.push((stable, batch.new_series.len()));
            batch.push_new(point.labels, point.t, v);
        }
    }
    introduced
}

/// Whether the store can be read.
fn read(db: &Db) -> Result<(), String> {
    let context = QueryContext::unbounded();
    let querier = db.querier(TimeRange::ALL).map_err(|error| error.to_string())?;
    let all = Selection::new(&[], TimeRange::ALL);
    let set = querier.select(&all, &context).map_err(|error| error.to_string())?;
    let mut columns = model::Columns::new();
    for index in 0..set.len().min(10) {
        set.read(index, TimeRange::ALL, &mut columns, &context)
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn sync(db: &Db) -> Result<(), Failure> {
    match db.sync() {
        Ok(()) => Ok(()),
        Err(error) => report(&Line::Failed(error.to_string())),
    }
}

fn maintain(db: &Db) -> Result<(), Failure> {
    match db.maintain() {
        Ok(_) => Ok(()),
        Err(error) => report(&Line::Failed(error.to_string())),
    }
}
