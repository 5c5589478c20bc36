//! What targets say about their metrics: kind and help, per target, with texts shared between targets.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use exposition::MetricKind;
use parking_lot::Mutex;
use telemetry::IntGauge;

/// Metrics that a target's metadata is kept for at most; the rest have none.
const METRICS_MAX: usize = 20_000;

/// Bytes of a help text that are kept.
const HELP_BYTES_MAX: usize = 1024;

/// Texts that an interner holds before it looks for unused ones.
const SWEEP_TEXTS_MIN: usize = 4096;

/// What a target says about one of its metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricMetadata {
    /// The metric family.
    pub metric: Arc<str>,
    /// What it measures.
    pub kind: MetricKind,
    /// What it means, in words; empty when not given, cut at 1 KiB.
    pub help: Arc<str>,
    /// Its unit; always empty, since the text format has none.
    pub unit: Arc<str>,
}

/// Keeps one copy of each text: targets of a job say the same about their metrics.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    texts: Mutex<Texts>,
}

#[derive(Debug, Default)]
struct Texts {
    known: HashSet<Arc<str>>,
    sweep_at: usize,
}

impl Interner {
    fn intern(&self, text: &str) -> Arc<str> {
        let mut texts = self.texts.lock();
        if let Some(known) = texts.known.get(text) {
            return Arc::clone(known);
        }
        if texts.known.len() >= texts.sweep_at.max(SWEEP_TEXTS_MIN) {
            texts.known.retain(|text| Arc::strong_count(text) > 1);
            texts.sweep_at = texts.known.len() * 2;
        }
        let text: Arc<str> = Arc::from(text);
        texts.known.insert(Arc::clone(&text));
        text
    }
}

/// Sums over the targets of a job.
#[derive(Clone, Debug)]
pub(crate) struct MetadataGauges {
    pub(crate) entries: IntGauge,
    pub(crate) bytes: IntGauge,
}

/// The metadata of one target.
#[derive(Debug)]
pub(crate) struct Metadata {
    interner: Arc<Interner>,
    gauges: MetadataGauges,
    metrics: Mutex<HashMap<Arc<str>, Entry>>,
}

/// The lines by their hashes, so that what a vanished line said can be forgotten.
#[derive(Debug, Default)]
struct Entry {
    kind: Option<(MetricKind, u64)>,
    help: Option<(Arc<str>, u64)>,
}

impl Entry {
    fn bytes(&self) -> i64 {
        let help = self.help.as_ref().map_or(0, |(help, _)| help.len());
        let kind = self.kind.map_or(0, |(kind, _)| kind.as_str().len());
        i64::try_from(help + kind).unwrap_or(i64::MAX)
    }
}

impl Metadata {
    pub(crate) fn new(interner: Arc<Interner>, gauges: MetadataGauges) -> Self {
        Self { interner, gauges, metrics: Mutex::default() }
    }

    /// Takes note of a `# TYPE` line.
    pub(crate) fn set_kind(&self, metric: &str, kind: MetricKind, line: u64) {
        self.change(metric, |entry, _| entry.kind = Some((kind, line)));
    }

    /// Takes note of a `# HELP` line.
    pub(crate) fn set_help(&self, metric: &str, help: &str, line: u64) {
        let mut end = help.len().min(HELP_BYTES_MAX);
        while !help.is_char_boundary(end) {
            end -= 1;
        }
        self.change(metric, |entry, texts| entry.help = Some((texts.intern(&help[..end]), line)));
    }

    fn change(&self, metric: &str, change: impl FnOnce(&mut Entry, &Interner)) {
        let mut metrics = self.metrics.lock();
        if !metrics.contains_key(metric) {
            if metrics.len() >= METRICS_MAX {
                return;
            }
            self.gauges.entries.inc();
            metrics.insert(self.interner.intern(metric), Entry::default());
        }
        if let Some(entry) = metrics.get_mut(metric) {
            let before = entry.bytes();
            change(entry, &self.interner);
            self.gauges.bytes.add(entry.bytes() - before);
        }
    }

    /// Forgets what the vanished `lines` said.
    pub(crate) fn forget(&self, lines: &HashSet<u64>) {
        if lines.is_empty() {
            return;
        }
        self.metrics.lock().retain(|_, entry| {
            let before = entry.bytes();
            entry.kind.take_if(|(_, line)| lines.contains(line));
            entry.help.take_if(|(_, line)| lines.contains(line));
            self.gauges.bytes.add(entry.bytes() - before);
            let keep = entry.kind.is_some() || entry.help.is_some();
            self.gauges.entries.sub(i64::from(!keep));
            keep
        });
    }

    /// Everything known, in order of the metrics' names.
    pub(crate) fn list(&self) -> Vec<MetricMetadata> {
        let empty: Arc<str> = Arc::from("");
        let metrics = self.metrics.lock();
        let mut list: Vec<MetricMetadata> = metrics
            .iter()
            .map(|(metric, entry)| MetricMetadata {
                metric: Arc::clone(metric),
                kind: entry.kind.map_or(MetricKind::Unknown, |(kind, _)| kind),
                help: entry.help.as_ref().map_or_else(|| empty.clone(), |(help, _)| help.clone()),
                unit: Arc::clone(&empty),
            })
            .collect();
        drop(metrics);
        list.sort_unstable_by(|a, b| a.metric.cmp(&b.metric));
        list
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        let metrics = self.metrics.get_mut();
        self.gauges.entries.sub(i64::try_from(metrics.len()).unwrap_or(0));
        self.gauges.bytes.sub(metrics.values().map(Entry::bytes).sum());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_remembered_until_they_vanish() {
        let gauges = MetadataGauges {
            entries: IntGauge::new("entries", "h").unwrap(),
            bytes: IntGauge::new("bytes", "h").unwrap(),
        };
        let metadata = Metadata::new(Arc::default(), gauges.clone());
        metadata.set_kind("b", MetricKind::Counter, 1);
        metadata.set_help("b", "Help.", 2);
        metadata.set_help("a", &"é".repeat(HELP_BYTES_MAX), 3);
        let list = metadata.list();
        assert_eq!(list.iter().map(|m| &*m.metric).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((list[0].kind, list[0].help.len()), (MetricKind::Unknown, HELP_BYTES_MAX));
        assert_eq!((list[1].kind, &*list[1].help), (MetricKind::Counter, "Help."));
        assert_eq!((gauges.entries.get(), gauges.bytes.get()), (2, 1024 + 5 + 7));

        // A new help text replaces the old one before the old line is found missing.
        metadata.set_help("b", "Other.", 4);
        metadata.forget(&HashSet::from([2, 3]));
        let list = metadata.list();
        assert_eq!(list.len(), 1);
        assert_eq!(&*list[0].help, "Other.");
        assert_eq!((gauges.entries.get(), gauges.bytes.get()), (1, 6 + 7));
        drop(metadata);
        assert_eq!((gauges.entries.get(), gauges.bytes.get()), (0, 0));
    }
}
