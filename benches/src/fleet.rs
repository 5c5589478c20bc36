//! The fleet: many targets, each with container metrics of a node, as label sets and numbers instead of text.
//!
//! As in [`profile`](crate::profile), a value is a function of seed, series and tick, so that whoever measures memory holds nothing for the generator.

use clap::ValueEnum;
use model::{Labels, Timestamp};

use crate::profile::{METRICS, container_name, control_group, mix, pod_name, value};

/// Series of the fleet, and what their samples are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fleet {
    pub(crate) seed: u64,
    pub(crate) targets: usize,
    /// Series of each target.
    pub(crate) series: usize,
    pub(crate) values: Values,
    pub(crate) start: Timestamp,
    pub(crate) interval_ms: i64,
}

/// What the values of a series are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Values {
    /// Those of container metrics, almost half of them constant.
    Containers,
    /// Those of `promtool tsdb bench write`: each is a counter that grows by 1000 and begins anew with every hundredth sample.
    Steps,
}

/// The label pairs of a series, sorted by name.
pub(crate) type Pairs = [(&'static str, String); 12];

impl Fleet {
    pub(crate) const fn series_count(&self) -> usize {
        self.targets * self.series
    }

    /// The time of a tick.
    pub(crate) const fn time(&self, tick: u64) -> Timestamp {
        self.start + tick.cast_signed() * self.interval_ms
    }

    /// Twelve labels, about 290 bytes; twenty series belong to one container. No value has a colon or a comma, which promtool's list of
    /// series could not have.
    pub(crate) fn pairs(&self, target: usize, series: usize) -> Pairs {
        let (metric, container) = self.place(series);
        let seed = self.container_seed(target, container);
        let app = seed % 40;
        let (team, version) = (app % 7, app % 11);
        [
            ("__name__", String::from(METRICS[metric].0)),
            ("cluster", format!("cluster-{}", target % 10)),
            ("container", format!("app-{app}")),
            ("id", control_group(seed)),
            (
                "image",
                format!("registry.example.com/team-{team}/app-{app}@v1.{version}.{}", app % 5),
            ),
            ("instance", format!("node-{target}")),
            ("job", String::from("kubelet")),
            ("name", container_name(seed)),
            ("namespace", format!("team-{team}")),
            ("pod", pod_name(app, seed)),
            ("service", String::from("kubelet")),
            ("zone", format!("zone-{}", target % 3)),
        ]
    }

    /// As [`pairs`](Self::pairs).
    ///
    /// # Panics
    /// Never: the pairs are sorted and no value is empty.
    pub(crate) fn labels(&self, target: usize, series: usize) -> Labels {
        let pairs = self.pairs(target, series);
        let pairs = pairs.iter().map(|(name, value)| (*name, value.as_str()));
        Labels::from_sorted_pairs(pairs).expect("they are sorted and none is empty")
    }

    pub(crate) fn value(&self, target: usize, series: usize, tick: u64) -> f64 {
        match self.values {
            Values::Containers => {
                let (metric, container) = self.place(series);
                let state = mix(self.container_seed(target, container) ^ metric as u64);
                value(METRICS[metric].2, state, tick)
            }
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            Values::Steps => (123_456_789 + 1000 * (tick % 100 + 1)) as f64,
        }
    }

    /// Metric and container of a series: as in an exposition, a metric of all containers before the next metric.
    const fn place(&self, series: usize) -> (usize, usize) {
        let containers = self.series.div_ceil(METRICS.len());
        (series / containers, series % containers)
    }

    fn container_seed(&self, target: usize, container: usize) -> u64 {
        mix(mix(self.seed ^ target as u64).wrapping_add(container as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_distinct_and_have_sorted_labels() {
        let fleet = Fleet {
            seed: 1,
            targets: 7,
            series: 130,
            values: Values::Containers,
            start: 0,
            interval_ms: 15_000,
        };
        let all: std::collections::BTreeSet<Labels> = (0..7)
            .flat_map(|target| (0..130).map(move |series| fleet.labels(target, series)))
            .collect();
        assert_eq!(all.len(), fleet.series_count());
        let bytes: usize = all.iter().map(Labels::packed_bytes).sum();
        assert!((250..450).contains(&(bytes / all.len())), "{}", bytes / all.len());
        assert!(all.iter().all(|labels| labels.iter().all(|l| !l.value.contains([':', ',']))));
    }

    #[test]
    fn steps_are_those_of_promtool() {
        let fleet = Fleet {
            seed: 1,
            targets: 1,
            series: 1,
            values: Values::Steps,
            start: 30_000,
            interval_ms: 30_000,
        };
        assert_eq!(fleet.value(0, 0, 0), 123_457_789.0);
        assert_eq!(fleet.value(0, 0, 99), 123_556_789.0);
        assert_eq!(fleet.value(0, 0, 100), 123_457_789.0);
        assert_eq!(fleet.time(99), 3_000_000);
    }
}
