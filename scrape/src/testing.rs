//! A store that remembers everything and a clock that follows paused time.

use std::collections::HashMap;
use std::sync::Arc;

use model::{
    AppendError, Appended, Appender, Batch, Clock, Labels, Rejected, Rejection, SeriesKey,
    SeriesRef, Timestamp, is_stale,
};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

/// A sample as text: labels, value, time; `stale` for a marker.
pub(crate) fn render(labels: &Labels, t: Timestamp, v: f64) -> String {
    let value = if is_stale(v) { String::from("stale") } else { v.to_string() };
    format!("{labels} {value} @{t}")
}

/// An appender with the rules of a real one, and switches to make it misbehave.
#[derive(Debug)]
pub(crate) struct Store {
    state: Mutex<State>,
    batches: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    refs: HashMap<Labels, SeriesRef>,
    labels: HashMap<SeriesRef, Labels>,
    last: HashMap<Labels, (Timestamp, u64)>,
    log: Vec<(Labels, Timestamp, f64)>,
    created: u64,
    unavailable: bool,
    series_max: Option<usize>,
}

impl Store {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), batches: watch::Sender::new(0) })
    }

    /// Refuses the next batches, or not any more.
    pub(crate) fn set_unavailable(&self, unavailable: bool) {
        self.state.lock().unavailable = unavailable;
    }

    /// Admits no more than this many series.
    pub(crate) fn set_series_max(&self, series_max: Option<usize>) {
        self.state.lock().series_max = series_max;
    }

    /// Forgets all refs, as a store does that was emptied; series keep their order of time.
    pub(crate) fn forget_refs(&self) {
        let mut state = self.state.lock();
        state.refs.clear();
        state.labels.clear();
    }

    /// Takes what was stored since the last call, in order of time and labels.
    pub(crate) fn take(&self) -> Vec<(Labels, Timestamp, f64)> {
        let mut log = std::mem::take(&mut self.state.lock().log);
        log.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        log
    }

    /// As [`take`](Self::take), rendered, without what scrapes report about themselves.
    pub(crate) fn take_samples(&self) -> Vec<String> {
        let samples = self.take().into_iter().filter(|(labels, ..)| {
            let name = labels.metric_name();
            name != "up" && !name.starts_with("scrape_")
        });
        samples.map(|(labels, t, v)| render(&labels, t, v)).collect()
    }

    /// Waits until a sample for which `wanted` holds is stored; nothing is taken.
    pub(crate) async fn wait_for(&self, wanted: impl Fn(&Labels, Timestamp, f64) -> bool) {
        let mut batches = self.batches.subscribe();
        loop {
            batches.borrow_and_update();
            if self.state.lock().log.iter().any(|(labels, t, v)| wanted(labels, *t, *v)) {
                return;
            }
            batches.changed().await.unwrap();
        }
    }
}

impl Appender for Store {
    fn append(&self, batch: &Batch) -> Result<Appended, AppendError> {
        let mut state = self.state.lock();
        if state.unavailable {
            return Err(AppendError::Unavailable(String::from("for a test")));
        }
        let mut appended = Appended::default();
        for labels in &batch.new_series {
            appended.new_refs.push(state.admit(labels, &mut appended.series_created));
        }
        for (index, float) in batch.floats.iter().enumerate() {
            let series = match float.series {
                SeriesKey::Known(series) => series,
                SeriesKey::New(new) => appended.new_refs[new as usize],
            };
            if let Err(reason) = state.store(series, float.t, float.v) {
                appended.rejected.push(Rejected { index, reason });
            }
        }
        drop(state);
        self.batches.send_modify(|n| *n += 1);
        Ok(appended)
    }
}

impl State {
    fn admit(&mut self, labels: &Labels, created: &mut usize) -> SeriesRef {
        if let Some(&series) = self.refs.get(labels) {
            return series;
        }
        if self.series_max.is_some_and(|max| self.refs.len() >= max) {
            return SeriesRef(0);
        }
        self.created += 1;
        *created += 1;
        let series = SeriesRef(self.created);
        self.refs.insert(labels.clone(), series);
        self.labels.insert(series, labels.clone());
        series
    }

    fn store(&mut self, series: SeriesRef, t: Timestamp, v: f64) -> Result<(), Rejection> {
        if series == SeriesRef(0) {
            return Err(Rejection::SeriesLimit);
        }
        let labels = self.labels.get(&series).ok_or(Rejection::UnknownSeries)?.clone();
        match self.last.get(&labels) {
            Some(&(last, _)) if t < last => return Err(Rejection::OutOfOrder),
            Some(&(last, bits)) if t == last && bits != v.to_bits() => {
                return Err(Rejection::DuplicateTimestamp);
            }
            Some(&(last, _)) if t == last => return Ok(()),
            _ => {}
        }
        self.last.insert(labels.clone(), (t, v.to_bits()));
        self.log.push((labels, t, v));
        Ok(())
    }
}

/// Shows the time of the runtime, which tests pause.
#[derive(Debug)]
pub(crate) struct RuntimeClock {
    start: Instant,
    at_start: Timestamp,
}

impl RuntimeClock {
    pub(crate) fn new(at_start: Timestamp) -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), at_start })
    }
}

impl Clock for RuntimeClock {
    fn now(&self) -> Timestamp {
        self.at_start + i64::try_from(self.start.elapsed().as_millis()).unwrap()
    }
}
