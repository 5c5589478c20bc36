//! Rows of series that do not depend on each other, made by several threads and handed on by one.
//!
//! What is made of a series on its own (its samples decoded, its windows computed) may be made anywhere. What is done with it (sums, counts of
//! samples, remarks) is done on the thread of the query, series after series, in the order of the selection. So answers, remarks, errors and
//! numbers are the same however many threads there are.

use std::collections::VecDeque;
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use model::Charge;

use super::annotations::Annotations;
use super::buffer::Buffer;
use super::evaluator::{Evaluator, Worker};
use super::failure::QueryFailure;

/// Floats that rows handed over at a time take, if that is more than one row.
const BATCH_FLOATS: usize = 1 << 15;
/// Rows handed over at a time.
const BATCH_SERIES_MAX: usize = 256;
/// There are so many batches at least, if there are as many series, so that threads end at about the same time.
const BATCHES_MIN: usize = 16;
/// Of what a query may still hold, rows on their way take one such part at most: a query is to be refused for what it needs, not for being split.
const FREE_PARTS: u64 = 8;

/// Threads that the queries of an engine may use besides their own, all together.
#[derive(Debug)]
pub(super) struct Helpers {
    free: AtomicUsize,
    work_min: u64,
}

impl Helpers {
    /// Up to `count` threads, for what costs `work_min` or more.
    pub(super) const fn new(count: usize, work_min: u64) -> Self {
        Self { free: AtomicUsize::new(count), work_min }
    }

    /// Up to `wanted` threads that are free now.
    fn take(&self, wanted: usize) -> Taken<'_> {
        let rest = |free: usize| Some(free - wanted.min(free));
        let before = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest);
        Taken { helpers: self, count: wanted.min(before.unwrap_or(0)) }
    }
}

/// Threads that are given back on drop.
struct Taken<'h> {
    helpers: &'h Helpers,
    count: usize,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.helpers.free.fetch_add(self.count, Ordering::Relaxed);
    }
}

/// Makes rows, each from a series alone.
pub(super) trait Maker: Sync {
    /// What a thread keeps from series to series: memory and what was worked out before, but nothing that results depend on.
    type State;
    /// What is handed on besides the floats of the row.
    type Made: Send;

    /// The state of a thread that begins.
    ///
    /// # Errors
    /// [`QueryFailure`]
    fn start(&self) -> Result<Self::State, QueryFailure>;

    /// Makes the row of series `index`.
    ///
    /// # Errors
    /// [`QueryFailure`]
    fn make(
        &self,
        worker: &Worker<'_>,
        state: &mut Self::State,
        index: usize,
        row: &mut [f64],
    ) -> Result<Self::Made, QueryFailure>;

    /// What making it took: samples decoded and steps.
    fn work(&self, made: &Self::Made) -> u64;

    /// Bytes that it holds besides the floats of the row.
    fn bytes(&self, made: &Self::Made) -> usize;
}

/// Takes what was made of a series, and its row.
pub(super) type Consume<'c, T> = dyn FnMut(T, &mut [f64]) -> Result<(), QueryFailure> + 'c;

/// Makes the rows of series 0 to `series`, each `width` floats long, and hands them to `consume` in that order.
///
/// # Errors
/// The first of [`Maker::make`] or `consume`, in the order of series.
pub(super) fn for_each<M: Maker>(
    evaluator: &Evaluator<'_>,
    maker: &M,
    series: usize,
    width: usize,
    consume: &mut Consume<'_, M::Made>,
) -> Result<(), QueryFailure> {
    let mut row = evaluator.empty_row_of(width)?;
    let mut state = maker.start()?;
    let (mut next, mut work, mut may_split) = (0, 0_u64, true);
    while next < series {
        let made = maker.make(&evaluator.worker, &mut state, next, &mut row)?;
        work = work.saturating_add(maker.work(&made));
        consume(made, &mut row)?;
        next += 1;
        let ahead = (work / next as u64).saturating_mul((series - next) as u64);
        if may_split && ahead > 0 && ahead >= evaluator.helpers.work_min {
            let batch_series = (BATCH_FLOATS / width)
                .min((series - next) / BATCHES_MIN)
                .clamp(1, BATCH_SERIES_MAX);
            let batches = (series - next).div_ceil(batch_series);
            let taken = evaluator.helpers.take(batches - 1);
            if taken.count > 0 {
                let plan = Split { maker, start: next, series, width, batch_series };
                next = plan.run(evaluator, taken.count, &mut state, consume)?;
                // What is left was refused memory. That may not happen to one thread alone.
                may_split = false;
            }
        }
    }
    Ok(())
}

/// Rows of consecutive series.
struct Batch<T> {
    values: Buffer,
    /// As many as could be made. After an error nothing is made.
    made: Vec<Result<(T, Annotations), QueryFailure>>,
    /// What they hold.
    _held: Option<Charge>,
}

/// What threads know of each other.
struct Progress<T> {
    /// The batch that nobody has begun to make.
    next: usize,
    /// Batches before this one were handed on.
    consumed: usize,
    /// Those after that, as far as they have been made.
    made: VecDeque<Option<Batch<T>>>,
    /// Memory of batches that were handed on.
    spare: Vec<Buffer>,
    /// Nothing more is to be made.
    stopped: bool,
    /// Threads that wait for a change.
    waiting: usize,
}

struct Shared<T> {
    progress: Mutex<Progress<T>>,
    changed: Condvar,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Progress<T>> {
        // No thread panics with the lock held.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something has changed.
    fn wait<'p>(&self, mut progress: MutexGuard<'p, Progress<T>>) -> MutexGuard<'p, Progress<T>> {
        progress.waiting += 1;
        let mut progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
        progress.waiting -= 1;
        progress
    }

    /// Changes something, and wakes those who wait for it. Waking is dear where nobody does.
    fn change(&self, change: impl FnOnce(&mut Progress<T>)) {
        let mut progress = self.lock();
        change(&mut progress);
        if progress.waiting > 0 {
            self.changed.notify_all();
        }
    }
}

/// Stops all threads when one of them ends, however it ends.
struct StopOnDrop<'s, T>(&'s Shared<T>);

impl<T> Drop for StopOnDrop<'_, T> {
    fn drop(&mut self) {
        self.0.change(|progress| progress.stopped = true);
    }
}

/// What is to be made by several threads.
struct Split<'m, M> {
    maker: &'m M,
    /// The first series.
    start: usize,
    /// The end of all series.
    series: usize,
    width: usize,
    batch_series: usize,
}

impl<M: Maker> Split<'_, M> {
    fn batches(&self) -> usize {
        (self.series - self.start).div_ceil(self.batch_series)
    }

    /// Hands on rows until all are done or memory was refused; gives the series after the last that was handed on.
    fn run(
        &self,
        evaluator: &Evaluator<'_>,
        helpers: usize,
        state: &mut M::State,
        consume: &mut Consume<'_, M::Made>,
    ) -> Result<usize, QueryFailure> {
        // One that is being made and one that waits for each thread.
        let ahead = 2 * (helpers + 1);
        let floats = self.batch_series * self.width;
        let budget = &evaluator.context.budget;
        let free = budget.bytes_max().saturating_sub(budget.bytes_used());
        if ((ahead + 1) * floats * size_of::<f64>()) as u64 > free / FREE_PARTS {
            return Ok(self.start);
        }
        let buffer = || evaluator.empty_row_of(floats);
        let Ok(spare) = (0..ahead + 1).map(|_| buffer()).collect::<Result<Vec<_>, _>>() else {
            return Ok(self.start);
        };
        let progress = Progress {
            next: 0,
            consumed: 0,
            made: (0..ahead).map(|_| None).collect(),
            spare,
            stopped: false,
            waiting: 0,
        };
        let shared = Shared { progress: Mutex::new(progress), changed: Condvar::new() };
        let workers: Vec<Worker<'_>> = (0..helpers).map(|_| evaluator.worker.beside()).collect();
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for worker in workers {
                let shared = &shared;
                let help = move || self.help(&worker, shared);
                // Should there be no more threads, those that there are do it all.
                threads.extend(thread::Builder::new().spawn_scoped(scope, help));
            }
            let own = evaluator.worker.beside();
            let result = {
                let _stop = StopOnDrop(&shared);
                self.lead(evaluator, &own, state, &shared, consume)
            };
            for thread in threads {
                thread.join().unwrap_or_else(|payload| panic::resume_unwind(payload));
            }
            result
        })
    }

    /// Makes batches until there is nothing more to make.
    fn help(&self, worker: &Worker<'_>, shared: &Shared<M::Made>) {
        let stop = StopOnDrop(shared);
        let Ok(mut state) = self.maker.start() else { return };
        loop {
            let (at, buffer) = {
                let mut progress = shared.lock();
                loop {
                    if progress.stopped || progress.next == self.batches() {
                        // Others may go on.
                        std::mem::forget(stop);
                        return;
                    }
                    if let Some(begun) = progress.begin() {
                        break begun;
                    }
                    progress = shared.wait(progress);
                }
            };
            let batch = self.make(worker, shared, &mut state, at, buffer);
            shared.change(|progress| progress.put(at, batch));
        }
    }

    /// Hands batches on in order, and makes some while there are none.
    fn lead(
        &self,
        evaluator: &Evaluator<'_>,
        own: &Worker<'_>,
        state: &mut M::State,
        shared: &Shared<M::Made>,
        consume: &mut Consume<'_, M::Made>,
    ) -> Result<usize, QueryFailure> {
        enum Next<T> {
            HandOn(Batch<T>),
            Make(usize, Buffer),
        }
        let mut done = self.start;
        while done < self.series {
            let next = {
                let mut progress = shared.lock();
                loop {
                    if progress.stopped {
                        // Another thread could not go on.
                        return Ok(done);
                    }
                    if let Some(batch) = progress.take() {
                        break Next::HandOn(batch);
                    }
                    if progress.next < self.batches()
                        && let Some((at, buffer)) = progress.begin()
                    {
                        break Next::Make(at, buffer);
                    }
                    progress = shared.wait(progress);
                }
            };
            match next {
                Next::Make(at, buffer) => {
                    let batch = self.make(own, shared, state, at, buffer);
                    shared.lock().put(at, batch);
                }
                Next::HandOn(mut batch) => {
                    let rows = batch.values.chunks_mut(self.width);
                    for (made, row) in batch.made.into_iter().zip(rows) {
                        let (made, annotations) = match made {
                            Err(QueryFailure::OverBudget { .. }) => return Ok(done),
                            made => made?,
                        };
                        evaluator.worker.remember(annotations);
                        consume(made, row)?;
                        done += 1;
                    }
                    shared.change(|progress| progress.spare.push(batch.values));
                }
            }
        }
        Ok(done)
    }

    fn make(
        &self,
        worker: &Worker<'_>,
        shared: &Shared<M::Made>,
        state: &mut M::State,
        at: usize,
        mut values: Buffer,
    ) -> Batch<M::Made> {
        let first = self.start + at * self.batch_series;
        let mut made = Vec::with_capacity(self.batch_series);
        let mut held: Option<Charge> = None;
        for (index, row) in (first..self.series).zip(values.chunks_mut(self.width)) {
            if shared.lock().stopped {
                break;
            }
            let one = self.maker.make(worker, state, index, row).and_then(|one| {
                let bytes = self.maker.bytes(&one);
                match &mut held {
                    Some(held) => held.grow(bytes)?,
                    None => held = Some(worker.context.budget.charge(bytes)?),
                }
                Ok((one, worker.annotations.take()))
            });
            let failed = one.is_err();
            made.push(one);
            if failed {
                break;
            }
        }
        Batch { values, made, _held: held }
    }
}

impl<T> Progress<T> {
    /// The next batch to be made and memory for it, unless it is too far ahead.
    fn begin(&mut self) -> Option<(usize, Buffer)> {
        if self.next >= self.consumed + self.made.len() {
            return None;
        }
        let buffer = self.spare.pop()?;
        self.next += 1;
        Some((self.next - 1, buffer))
    }

    fn put(&mut self, at: usize, batch: Batch<T>) {
        let place = at - self.consumed;
        self.made[place] = Some(batch);
    }

    /// The batch to be handed on, if it has been made.
    fn take(&mut self) -> Option<Batch<T>> {
        let batch = self.made.front_mut()?.take()?;
        self.made.rotate_left(1);
        self.consumed += 1;
        Some(batch)
    }
}
