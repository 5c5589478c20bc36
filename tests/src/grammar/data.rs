//! The series that queries of the grammar ask for.
//!
//! What Debian's Prometheus 2.42 and version 3 compute differently from the same samples is kept out by how they are made:
//! - With `jitter`, no sample is on a whole or half second, where windows begin and end: version 2 counts a sample on the left edge, 3 does not.
//! - A counter that comes back after a gap is at 0 or far from it: where a window starts in a gap, and zero is between half an
//!   interval and an interval before its first sample, the versions extrapolate differently.

use model::{Histogram, Labels, Span, Timestamp, stale_marker};

use super::{Choices as _, Seeded};

/// When the data begin: long ago, on a boundary of blocks.
pub const START: Timestamp = 1_700_006_400_000;
/// Time from a sample to the next, but for jitter and gaps.
pub const STEP_MS: i64 = 15_000;

/// A series and its samples in order of time.
#[derive(Clone, Debug)]
pub struct SeriesData {
    /// Its labels.
    pub labels: Labels,
    /// Times in milliseconds and values.
    pub samples: Vec<(Timestamp, f64)>,
}

/// The series that `seed` makes, with `steps` steps from [`START`] on.
#[must_use]
pub fn series(seed: u64, steps: u32, jitter: bool) -> Vec<SeriesData> {
    let mut make = Make { random: Seeded::new(seed), steps, jitter, all: Vec::new() };
    for job in ["a", "b"] {
        make.of_job(job);
    }
    make.odd();
    make.all
}

/// A series of native histograms and its samples in order of time.
#[derive(Clone, Debug)]
pub struct NativeSeriesData {
    /// Its labels.
    pub labels: Labels,
    /// Times in milliseconds and histograms.
    pub samples: Vec<(Timestamp, Histogram)>,
}

/// Native histograms that `seed` makes, of the metric `native`: exponential ones of two resolutions and custom buckets; counters with resets and gaps.
#[must_use]
pub fn native_series(seed: u64, steps: u32, jitter: bool) -> Vec<NativeSeriesData> {
    let mut make = Make { random: Seeded::new(seed ^ 1), steps, jitter, all: Vec::new() };
    [("a", 2), ("b", 0), ("c", model::CUSTOM_BUCKETS_SCHEMA)]
        .map(|(job, schema)| make.native(job, schema))
        .into()
}

const INSTANCES: [&str; 3] = ["0", "1", "2"];
/// Upper bounds of the classic histogram.
const BOUNDS: [&str; 5] = ["0.1", "0.5", "1", "2.5", "+Inf"];
/// Counters that come back below this, and not at 0, come back higher by it: far more than a step's increase.
const NEAR_ZERO: f64 = 200.0;

/// Less than the tenth of an interval by which a gap must be longer than those after it to be taken for one.
const JITTER_MS: usize = 400;

#[derive(Clone, Copy, Debug)]
struct Scrape {
    t: Timestamp,
    succeeds: bool,
}

struct Make {
    random: Seeded,
    steps: u32,
    jitter: bool,
    all: Vec<SeriesData>,
}

impl Make {
    fn of_job(&mut self, job: &str) {
        for instance in INSTANCES {
            let target = [("job", job), ("instance", instance)];
            let scrapes = self.scrapes(40);
            for code in ["200", "500"] {
                let values = self.counters(&scrapes, 1);
                self.add("requests_total", &target, &[("code", code)], &scrapes, &values[0]);
            }
            let bucket_counts = self.counters(&scrapes, BOUNDS.len());
            for (le, values) in BOUNDS.iter().zip(&bucket_counts) {
                self.add("lat_bucket", &target, &[("le", le)], &scrapes, values);
            }
            self.add("lat_count", &target, &[], &scrapes, &bucket_counts[BOUNDS.len() - 1]);
            let sums: Vec<_> = bucket_counts[2].iter().map(|v| v * 0.37).collect();
            self.add("lat_sum", &target, &[], &scrapes, &sums);

            let scrapes = self.scrapes(25);
            let queue = self.walk(|random, v| v + random.below(5) as f64 - 2.0);
            self.add("queue", &target, &[], &scrapes, &queue);
            let level = self.walk(|random, v| v + random.fraction() - 0.4);
            let zone = if instance == "2" { "y" } else { "x" };
            self.add("level", &target, &[("zone", zone)], &scrapes, &level);

            let scrapes = self.scrapes(15);
            let temp = self.walk(|random, v| match random.below(60) {
                0 => f64::NAN,
                1 => f64::INFINITY,
                2 => f64::NEG_INFINITY,
                3 => -0.0,
                _ if v.is_finite() => v * 0.9 + random.fraction() * 20.0 - 10.0,
                _ => random.fraction(),
            });
            self.add("temp", &target, &[], &scrapes, &temp);
            if (job, instance) != ("b", "2") {
                let version = if instance == "0" { "1.0" } else { "1.1" };
                let ones = vec![1.0; self.steps as usize];
                self.add("build_info", &target, &[("version", version)], &scrapes, &ones);
            }
        }
        // Further apart than the lookback, in part.
        let steps = 0..self.steps;
        let scrapes = steps.map(|step| {
            let succeeds = self.random.below(24) == 0;
            self.scrape(step, succeeds)
        });
        let scrapes: Vec<_> = scrapes.collect();
        let sparse = self.walk(|random, _| random.below(100) as f64 / 8.0);
        self.add("sparse", &[("job", job)], &[], &scrapes, &sparse);
        let scrapes = self.scrapes(100);
        let year = 31_557_600.0;
        let moment = self.walk(|random, _| ((random.fraction() - 0.3) * 100.0 * year).trunc());
        self.add("moment", &[("job", job)], &[], &scrapes, &moment);
    }

    fn native(&mut self, job: &str, schema: i32) -> NativeSeriesData {
        let is_custom = schema == model::CUSTOM_BUCKETS_SCHEMA;
        let (mut counts, mut zero_count, mut sum) = ([0_i64; 5], 0, 0.0);
        let mut samples = Vec::new();
        for Scrape { t, succeeds } in self.scrapes(20) {
            if self.random.below(40) == 0 {
                (counts, zero_count, sum) = ([0; 5], 0, 0.0);
            }
            for count in &mut counts {
                *count += i64::try_from(self.random.below(4)).expect("small");
                sum += self.random.fraction() * 3.0 - 1.0;
            }
            zero_count += if is_custom { 0 } else { self.random.below(2) as u64 };
            if !succeeds {
                continue;
            }
            let deltas =
                [0, 1, 2, 3, 4].map(|i| counts[i] - if i == 0 { 0 } else { counts[i - 1] });
            let count = counts.iter().sum::<i64>().unsigned_abs();
            let histogram = Histogram {
                schema,
                zero_threshold: if is_custom { 0.0 } else { 0.001 },
                zero_count,
                // As many negative ones in their first bucket as there are in the first positive one.
                count: count + zero_count + if is_custom { 0 } else { counts[0].unsigned_abs() },
                sum,
                positive_spans: if is_custom {
                    vec![Span { offset: 0, length: 5 }]
                } else {
                    vec![Span { offset: -1, length: 3 }, Span { offset: 2, length: 2 }]
                },
                positive_deltas: deltas.to_vec(),
                negative_spans: if is_custom {
                    Vec::new()
                } else {
                    vec![Span { offset: 0, length: 1 }]
                },
                negative_deltas: if is_custom { Vec::new() } else { vec![counts[0]] },
                custom_bounds: if is_custom { vec![0.5, 1.0, 2.0, 5.0] } else { Vec::new() },
                ..Histogram::default()
            };
            samples.push((t, histogram));
        }
        let labels = Labels::from_pairs([("__name__", "native"), ("job", job)]);
        NativeSeriesData { labels: labels.expect("distinct names"), samples }
    }

    fn odd(&mut self) {
        let scrapes = self.scrapes(60);
        let job = [("job", "odd")];
        for text in ["a\"é", "", "a.b*c", " "] {
            let values = self.walk(|random, _| random.below(7) as f64 - 3.0);
            self.add("odd", &job, &[("text", text)], &scrapes, &values);
        }
        for le in ["1", "two", "3", ""] {
            let values = self.walk(|random, v| v + random.below(9) as f64);
            self.add("bad_bucket", &job, &[("le", le)], &scrapes, &values);
        }
    }

    /// The scrapes of a target: all succeed but for some gaps, one in `rarity` steps on average.
    fn scrapes(&mut self, rarity: usize) -> Vec<Scrape> {
        let mut gap = 0;
        let steps = 0..self.steps;
        let scrapes = steps.map(|step| {
            if gap == 0 && self.random.below(rarity) == 0 {
                // Now and then longer than the lookback.
                gap = if self.random.below(5) == 0 { 30 } else { 2 + self.random.below(6) };
            }
            gap = usize::saturating_sub(gap, 1);
            self.scrape(step, gap == 0)
        });
        scrapes.collect()
    }

    fn scrape(&mut self, step: u32, succeeds: bool) -> Scrape {
        let jitter = if self.jitter { 1 + self.random.below(JITTER_MS) } else { 0 };
        let jitter = i64::try_from(jitter).expect("small");
        Scrape { t: START + i64::from(step) * STEP_MS + jitter, succeeds }
    }

    fn walk(&mut self, mut next: impl FnMut(&mut Seeded, f64) -> f64) -> Vec<f64> {
        let mut v = self.random.below(50) as f64;
        let steps = 0..self.steps;
        let values = steps.map(|_| {
            v = next(&mut self.random, v);
            v
        });
        values.collect()
    }

    /// Counters that are reset together, each at least as high as the one before.
    fn counters(&mut self, scrapes: &[Scrape], count: usize) -> Vec<Vec<f64>> {
        let mut values: Vec<f64> = (1..=count).map(|i| 10_000.0 * i as f64).collect();
        let mut all = vec![Vec::new(); count];
        let mut succeeded = false;
        for &Scrape { succeeds, .. } in scrapes {
            if self.random.below(150) == 0 {
                values.fill(0.0);
            } else {
                let mut increase = 0.0;
                for v in &mut values {
                    increase += self.random.below(11) as f64;
                    *v += increase;
                }
            }
            let near_zero = values.iter().any(|v| *v != 0.0 && *v < NEAR_ZERO);
            if succeeds && !succeeded && near_zero {
                for v in &mut values {
                    *v += NEAR_ZERO;
                }
            }
            succeeded = succeeds;
            for (samples, v) in all.iter_mut().zip(&values) {
                samples.push(*v);
            }
        }
        all
    }

    /// Adds a series; gaps start with a stale marker, as a scraper's do, but for one in three.
    fn add(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        more: &[(&str, &str)],
        scrapes: &[Scrape],
        values: &[f64],
    ) {
        let pairs = [&[("__name__", name)], labels, more].concat();
        let mut samples = Vec::new();
        let mut succeeded = false;
        for (&Scrape { t, succeeds }, &v) in scrapes.iter().zip(values) {
            if succeeds {
                samples.push((t, v));
            } else if succeeded && self.random.below(3) > 0 {
                samples.push((t, stale_marker()));
            }
            succeeded = succeeds;
        }
        let labels = Labels::from_pairs(pairs).expect("distinct names");
        self.all.push(SeriesData { labels, samples });
    }
}
