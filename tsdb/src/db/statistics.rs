//! What fills the head, without looking at samples.

use std::sync::Arc;

use model::{METRIC_NAME, Timestamp};

use super::Db;

/// What a store contains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Totals of the head.
    pub head: HeadStatistics,
    /// Metric names by number of series, largest first.
    pub series_by_metric_name: Vec<NameCount>,
    /// Label names by number of values.
    pub values_by_label_name: Vec<NameCount>,
    /// Label names by bytes of their values, each counted as often as a series has it.
    pub bytes_by_label_name: Vec<NameCount>,
    /// Label pairs by number of series.
    pub series_by_label_pair: Vec<LabelPairCount>,
    /// Damaged places that were found in the write-ahead log since the start.
    pub wal_corruptions: u64,
}

/// Totals of the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadStatistics {
    /// Series.
    pub series: u64,
    /// Distinct label pairs.
    pub label_pairs: u64,
    /// Chunks.
    pub chunks: u64,
    /// Time of the oldest sample; the largest time when there is none, as in Prometheus.
    pub min_time: Timestamp,
    /// Time of the newest sample; the smallest time when there is none.
    pub max_time: Timestamp,
}

/// A name and how much there is of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameCount {
    /// The name.
    pub name: String,
    /// How much.
    pub count: u64,
}

/// A label pair and how much there is of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelPairCount {
    /// The label's name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// How much.
    pub count: u64,
}

impl Db {
    /// What `meta.json` of each block that is read says, in order of time.
    #[must_use]
    pub fn block_metas(&self) -> Vec<serde_json::Value> {
        let blocks = Arc::clone(&self.blocks.read());
        // A meta is made of numbers, strings, lists and structs, so that this leaves none out.
        blocks.loaded.iter().filter_map(|block| serde_json::to_value(&block.meta).ok()).collect()
    }

    /// What the store contains; lists have at most `limit` entries.
    #[must_use]
    pub fn statistics(&self, limit: usize) -> Statistics {
        let head = self.head.read();
        let range = head.time_range();
        let totals = HeadStatistics {
            series: head.len() as u64,
            label_pairs: head.labels.pairs.len() as u64,
            chunks: head.chunk_count(),
            min_time: range.map_or(Timestamp::MAX, |range| range.min),
            max_time: range.map_or(Timestamp::MIN, |range| range.max),
        };
        let wal_corruptions = self.metrics.wal_corruptions.get();
        let mut statistics = Statistics { head: totals, wal_corruptions, ..Statistics::default() };
        if limit == 0 {
            return statistics;
        }
        let mut pairs = Vec::new();
        for (name, ids) in head.labels.pairs.names() {
            let name = head.labels.symbols.get(name);
            let named = |count: usize| NameCount { name: String::from(name), count: count as u64 };
            let mut bytes = 0;
            for &id in ids {
                let (_, value) = head.labels.pair(id);
                let series = head.labels.pairs.series(id).len();
                bytes += value.len() * series;
                pairs.push((series as u64, id));
                if name == METRIC_NAME {
                    let (name, count) = (String::from(value), series as u64);
                    statistics.series_by_metric_name.push(NameCount { name, count });
                }
            }
            statistics.values_by_label_name.push(named(ids.len()));
            statistics.bytes_by_label_name.push(named(bytes));
        }
        pairs.sort_unstable_by_key(|&(count, id)| (std::cmp::Reverse(count), id));
        pairs.truncate(limit);
        statistics.series_by_label_pair = pairs
            .into_iter()
            .map(|(count, id)| {
                let (name, value) = head.labels.pair(id);
                LabelPairCount { name: String::from(name), value: String::from(value), count }
            })
            .collect();
        drop(head);
        for list in [
            &mut statistics.series_by_metric_name,
            &mut statistics.values_by_label_name,
            &mut statistics.bytes_by_label_name,
        ] {
            list.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
            list.truncate(limit);
        }
        statistics
    }
}
