//! The last decisions of each autoscaler, with all that they were made from.
//!
//! Ten thousand autoscalers with twenty decisions each must fit, so that decisions are kept compressed and are unpacked for those who
//! ask. All of them together are bounded in bytes; the oldest go first, whosever they are.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use model::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use telemetry::{IntCounter, IntGauge, Registry, register};

use super::segments::{SegmentOptions, Segments, read_recent};
use super::{HpaKey, Logged, Mode, StateError};
use crate::decide::Written;

/// The cheapest level; decisions are repetitive enough for it.
const COMPRESSION_LEVEL: i32 = 1;
/// What an entry takes besides its bytes.
const ENTRY_OVERHEAD: usize = 128;
/// What an autoscaler takes besides its entries and strings.
const RING_OVERHEAD: usize = 384;
/// Bytes that a decision may have before it is compressed: more than 20,000 pods make.
const DECISION_BYTES_MAX: usize = 32 << 20;
/// Characters of an error in a summary.
const SUMMARY_ERROR_MAX: usize = 512;

/// How much is kept.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Decisions of each autoscaler.
    pub kept: usize,
    /// Bytes in memory of all of them.
    pub bytes_max: usize,
    /// Files, besides memory.
    pub segments: Option<SegmentOptions>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { kept: 20, bytes_max: 64 << 20, segments: None }
    }
}

/// The last decision about one autoscaler in short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Its namespace and name.
    #[serde(flatten)]
    pub key: HpaKey,
    /// Whether decisions about it are carried out.
    pub mode: Mode,
    /// When the last was made, in milliseconds since the epoch.
    pub at: Timestamp,
    /// Replicas that the target asked for; `None` if its scale could not be read.
    pub current_replicas: Option<i32>,
    /// Replicas that it should ask for.
    pub desired_replicas: i32,
    /// The scale is to be written.
    pub rescale: bool,
    /// What became of writing it.
    pub written: Written,
    /// Why, in the words of the event.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Why the decision failed or is partial; shortened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Decisions that are kept.
    pub decisions: usize,
}

impl Summary {
    fn of(logged: &Logged) -> Self {
        let Logged { key, mode, at, decision, written, .. } = logged;
        Self {
            key: key.clone(),
            mode: *mode,
            at: *at,
            current_replicas: decision.current_replicas,
            desired_replicas: decision.desired_replicas,
            rescale: decision.rescale,
            written: written.clone(),
            reason: decision.reason.clone(),
            error: decision
                .error
                .as_ref()
                .map(|error| error.chars().take(SUMMARY_ERROR_MAX).collect()),
            decisions: 1,
        }
    }
}

/// The last decisions of each autoscaler.
pub struct DecisionLog {
    kept: usize,
    bytes_max: usize,
    inner: Mutex<Inner>,
    /// Compressing needs memory that is not worth getting each time.
    compressor: Mutex<Option<zstd::bulk::Compressor<'static>>>,
    segments: Option<Segments>,
    metrics: LogMetrics,
}

#[derive(Default)]
struct Inner {
    autoscalers: BTreeMap<Arc<HpaKey>, Ring>,
    /// Whose the entries are, the oldest first.
    order: BTreeMap<u64, Arc<HpaKey>>,
    bytes: usize,
    next: u64,
}

struct Ring {
    summary: Summary,
    entries: VecDeque<Entry>,
    /// Bytes of the summary and the key.
    overhead: usize,
}

struct Entry {
    number: u64,
    packed: Box<[u8]>,
    /// Length before it was compressed.
    length: usize,
}

impl std::fmt::Debug for DecisionLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DecisionLog")
            .field("kept", &self.kept)
            .field("bytes_max", &self.bytes_max)
            .finish_non_exhaustive()
    }
}

impl DecisionLog {
    /// A log, with the last decisions from its files if it has such. Blocks while they are read.
    ///
    /// # Errors
    /// The folder cannot be read or written.
    pub fn new(options: LogOptions, registry: &Registry) -> Result<Self, StateError> {
        let LogOptions { kept, bytes_max, segments } = options;
        let metrics = LogMetrics::new(registry);
        let directory = segments.as_ref().map(|segments| segments.directory.clone());
        let dropped = metrics.dropped.clone();
        let log = Self {
            kept,
            bytes_max,
            inner: Mutex::default(),
            compressor: Mutex::new(zstd::bulk::Compressor::new(COMPRESSION_LEVEL).ok()),
            segments: segments.map(|options| Segments::open(options, dropped)).transpose()?,
            metrics,
        };
        if let Some(directory) = directory {
            for logged in read_recent(&directory)? {
                if let Ok(line) = serde_json::to_vec(&logged) {
                    log.keep(&logged, &line);
                }
            }
        }
        Ok(log)
    }

    /// Adds a decision; what is too much of the older ones goes.
    pub fn push(&self, logged: &Logged) {
        let mut line = match serde_json::to_vec(logged) {
            Ok(line) if line.len() <= DECISION_BYTES_MAX => line,
            Ok(line) => {
                tracing::warn!(hpa = %logged.key, bytes = line.len(), "decision is too large to be kept");
                self.metrics.dropped.inc();
                return;
            }
            Err(error) => {
                tracing::warn!(hpa = %logged.key, %error, "decision cannot be kept");
                self.metrics.dropped.inc();
                return;
            }
        };
        self.keep(logged, &line);
        if let Some(segments) = &self.segments {
            line.push(b'\n');
            segments.append(line);
        }
    }

    fn keep(&self, logged: &Logged, line: &[u8]) {
        if self.kept == 0 {
            return;
        }
        let packed = match &mut *self.compressor.lock() {
            Some(compressor) => compressor.compress(line),
            None => zstd::bulk::compress(line, COMPRESSION_LEVEL),
        };
        let packed = match packed {
            Ok(packed) => packed.into_boxed_slice(),
            Err(error) => {
                tracing::warn!(hpa = %logged.key, %error, "decision cannot be kept");
                self.metrics.dropped.inc();
                return;
            }
        };
        let mut inner = self.inner.lock();
        inner.add(Summary::of(logged), packed, line.len(), self.kept);
        inner.shrink(self.bytes_max);
        self.metrics.bytes.set(i64::try_from(inner.bytes).unwrap_or(i64::MAX));
    }

    /// The last `n` decisions about `key`, the newest first.
    #[must_use]
    pub fn last(&self, key: &HpaKey, n: usize) -> Vec<Arc<Logged>> {
        self.last_within(key, n, usize::MAX)
    }

    /// [`Self::last`], but only as many as have `bytes` together as JSON, and one at least.
    #[must_use]
    pub fn last_within(&self, key: &HpaKey, n: usize, bytes: usize) -> Vec<Arc<Logged>> {
        let packed: Vec<_> = {
            let inner = self.inner.lock();
            let Some(ring) = inner.autoscalers.get(key) else { return Vec::new() };
            let mut before = 0_usize;
            let newest = ring.entries.iter().rev().take(n).take_while(|entry| {
                let first = before == 0;
                before = before.saturating_add(entry.length);
                first || before <= bytes
            });
            newest.map(|entry| (entry.packed.clone(), entry.length)).collect()
        };
        let unpack = |(packed, length): (Box<[u8]>, usize)| {
            let line = zstd::bulk::decompress(&packed, length)
                .map_err(|error| error.to_string())
                .and_then(|line| serde_json::from_slice(&line).map_err(|error| error.to_string()));
            match line {
                Ok(logged) => Some(Arc::new(logged)),
                Err(error) => {
                    tracing::warn!(hpa = %key, error, "kept decision cannot be read");
                    None
                }
            }
        };
        packed.into_iter().filter_map(unpack).collect()
    }

    /// Autoscalers that decisions are kept of, in order.
    #[must_use]
    pub fn keys(&self) -> Vec<HpaKey> {
        self.inner.lock().autoscalers.keys().map(|key| HpaKey::clone(key)).collect()
    }

    /// The last decisions in short of up to `limit` autoscalers, in order of their keys, from the first after `after` on; and
    /// whether there are more.
    #[must_use]
    pub fn summaries(&self, after: Option<&HpaKey>, limit: usize) -> (Vec<Summary>, bool) {
        let inner = self.inner.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = inner.autoscalers.range::<HpaKey, _>((from, Bound::Unbounded));
        let page = rest
            .by_ref()
            .take(limit)
            .map(|(_, ring)| Summary { decisions: ring.entries.len(), ..ring.summary.clone() });
        let page = page.collect();
        (page, rest.next().is_some())
    }

    /// Drops what is kept in memory of an autoscaler that is no more. Files keep it until it is old.
    pub fn forget(&self, key: &HpaKey) {
        let mut inner = self.inner.lock();
        inner.remove(key);
        self.metrics.bytes.set(i64::try_from(inner.bytes).unwrap_or(i64::MAX));
    }
}

impl Inner {
    fn add(&mut self, summary: Summary, packed: Box<[u8]>, length: usize, kept: usize) {
        let number = self.next;
        self.next += 1;
        let error = summary.error.as_ref().map_or(0, String::len);
        let names = summary.key.namespace.len() + summary.key.name.len();
        let overhead = RING_OVERHEAD + 2 * names + summary.reason.len() + error;
        self.bytes += ENTRY_OVERHEAD + packed.len();
        let entry = Entry { number, packed, length };
        let key = match self.autoscalers.get_key_value(&summary.key) {
            Some((key, _)) => Arc::clone(key),
            None => Arc::new(summary.key.clone()),
        };
        self.order.insert(number, Arc::clone(&key));
        let ring = self.autoscalers.entry(key).or_insert_with(|| Ring {
            summary: summary.clone(),
            entries: VecDeque::new(),
            overhead: 0,
        });
        self.bytes = self.bytes + overhead - ring.overhead;
        ring.overhead = overhead;
        ring.summary = summary;
        ring.entries.push_back(entry);
        while ring.entries.len() > kept {
            let Some(oldest) = ring.entries.pop_front() else { break };
            self.order.remove(&oldest.number);
            self.bytes -= ENTRY_OVERHEAD + oldest.packed.len();
        }
    }

    /// Drops the oldest entries until all fit into `bytes_max`.
    fn shrink(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let Some((_, key)) = self.order.pop_first() else { return };
            let Some(ring) = self.autoscalers.get_mut(&key) else { continue };
            if let Some(oldest) = ring.entries.pop_front() {
                self.bytes -= ENTRY_OVERHEAD + oldest.packed.len();
            }
            if ring.entries.is_empty() {
                self.bytes -= ring.overhead;
                self.autoscalers.remove(&key);
            }
        }
    }

    fn remove(&mut self, key: &HpaKey) {
        let Some(ring) = self.autoscalers.remove(key) else { return };
        self.bytes -= ring.overhead;
        for entry in ring.entries {
            self.order.remove(&entry.number);
            self.bytes -= ENTRY_OVERHEAD + entry.packed.len();
        }
    }
}

#[derive(Debug)]
struct LogMetrics {
    bytes: IntGauge,
    dropped: IntCounter,
}

impl LogMetrics {
    fn new(registry: &Registry) -> Self {
        let bytes = IntGauge::new(
            "sextant_hpa_decision_log_bytes",
            "Memory that the kept decisions take, compressed.",
        );
        let dropped = IntCounter::new(
            "sextant_hpa_decision_log_dropped_total",
            "Decisions that were not kept: too large, or the disk was too slow or full.",
        );
        Self { bytes: register(registry, bytes), dropped: register(registry, dropped) }
    }
}
