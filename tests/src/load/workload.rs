//! The samples of a load, as a function of its seed.
//!
//! Each thread has series of its own and appends one batch a step: counters with resets, constants, noise, every kind of NaN,
//! several samples of one series, series that end and begin, series with gaps, native histograms whose buckets change, samples that come late,
//! and now and then so many new series at once that the batch spans pages of the log.

use model::{FloatHistogram, Histogram, HistogramValue, Labels, Span, Timestamp, stale_marker};

/// Time from one step to the next.
pub const STEP_MS: i64 = 15_000;
/// When step 0 is: long ago, on a boundary of blocks.
const START: Timestamp = 1_700_006_400_000;
/// Series that are there at every step.
const STABLE: usize = 6;
/// Steps after which the series of a generation end.
const GENERATION_STEPS: i64 = 37;
const GENERATION_SERIES: i64 = 4;
/// Steps from one burst of new series to the next.
const BURST_STEPS: i64 = 97;
/// A late sample is late by fewer steps than this.
const LATE_STEPS: u64 = 20;

/// Which samples are appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Decides values and gaps.
    pub seed: u64,
    /// New series of a burst.
    pub burst_series: u32,
}

/// One sample of a batch.
#[derive(Clone, Debug)]
pub struct Point {
    /// Whose sample it is.
    pub labels: Labels,
    /// When.
    pub t: Timestamp,
    /// What.
    pub value: Value,
    /// Whether it comes after younger samples of its series.
    pub is_late: bool,
    /// The number among the series of the thread that are there at every step, whose refs are worth keeping.
    pub stable: Option<usize>,
}

/// The value of a sample.
#[derive(Clone, Debug)]
pub enum Value {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(HistogramValue),
}

impl Value {
    /// A number that differs where values do: of a float its bits.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        match self {
            Self::Float(v) => v.to_bits(),
            Self::Histogram(histogram) => fingerprint(&histogram.to_float()),
        }
    }
}

/// See [`Value::fingerprint`]. Empty buckets, which a chunk may add, and what is known about counter resets do not count.
#[must_use]
pub fn fingerprint(histogram: &FloatHistogram) -> u64 {
    let start = mix(histogram.sum.to_bits());
    if histogram.is_stale() {
        return start;
    }
    let add = |hash: u64, part: u64| mix(hash ^ part);
    let header = [histogram.count, histogram.zero_count, histogram.zero_threshold];
    let header =
        header.map(f64::to_bits).into_iter().chain([u64::from(histogram.schema.cast_unsigned())]);
    let buckets =
        [histogram.positive_buckets().collect::<Vec<_>>(), histogram.negative_buckets().collect()];
    let buckets = (1..).zip(buckets).flat_map(|(side, buckets)| {
        let populated = buckets.into_iter().filter(|bucket| bucket.count != 0.0);
        populated.flat_map(move |bucket| {
            [side, u64::from(bucket.index.cast_unsigned()), bucket.count.to_bits()]
        })
    });
    header.chain(buckets).fold(start, add)
}

impl Workload {
    /// The batch of `thread` at `step`; series in it have their samples in time order.
    ///
    /// # Panics
    /// If `step` is negative or absurdly large.
    #[must_use]
    pub fn batch(self, thread: u32, step: i64) -> Vec<Point> {
        let thread_text = thread.to_string();
        let labels = |name: &str, generation: i64, i: i64| {
            let (generation, i) = (generation.to_string(), i.to_string());
            let pairs = [
                ("__name__", name),
                ("generation", &generation),
                ("i", &i),
                ("thread", &thread_text),
            ];
            Labels::from_pairs(pairs).expect("valid names and distinct")
        };
        let t = START + step * STEP_MS;
        let noise = |salt: u64| mix(self.seed ^ mix(step.unsigned_abs() ^ mix(salt)));
        let mut points = Vec::new();
        for i in 0..STABLE {
            let labels = labels("load_stable_total", 0, i64::try_from(i).expect("few"));
            let samples = if i == 5 { 3 } else { 1 };
            for k in 0..samples {
                let v = value(i, step + k, noise(i as u64 + 8 * k.unsigned_abs()));
                let t = t + k * 4_999;
                points.push(Point { stable: Some(i), ..float(labels.clone(), t, v) });
            }
        }
        for i in 0..GENERATION_SERIES {
            let bits = noise(100 + i.unsigned_abs());
            if !bits.is_multiple_of(5) {
                let labels = labels("load_churn", step / GENERATION_STEPS, i);
                points.push(float(labels, t, value(2, step, bits)));
            }
        }
        if step % BURST_STEPS == BURST_STEPS - 1 {
            for i in 0..i64::from(self.burst_series) {
                let labels = labels("load_burst", step, i);
                let v = value(4, step, noise(200 + i.unsigned_abs()));
                points.push(float(labels, t, v));
            }
        }
        for (i, value) in [(0, true), (1, false)].map(|(i, integer)| (i, histogram(step, integer)))
        {
            let value = Value::Histogram(value);
            let labels = labels("load_histogram", 0, i);
            points.push(Point { value, ..float(labels, t, 0.0) });
        }
        let lateness = i64::try_from(noise(50) % LATE_STEPS).expect("small");
        if lateness > 0 && lateness <= step {
            // No two steps of one window have the same milliseconds.
            let t = t - lateness * STEP_MS + step % 1_009;
            let late = float(labels("load_late", 0, 0), t, value(2, step, noise(51)));
            points.push(Point { is_late: true, ..late });
        }
        points
    }
}

const fn float(labels: Labels, t: Timestamp, v: f64) -> Point {
    Point { labels, t, value: Value::Float(v), is_late: false, stable: None }
}

/// A histogram that counts up, is reset, gains and loses buckets, and ends.
fn histogram(step: i64, integer: bool) -> HistogramValue {
    let stale = Histogram { sum: stale_marker(), ..Histogram::default() };
    let base = step % 53;
    let buckets = u32::try_from(3 + step / 29 % 4).expect("few");
    let negative = u32::try_from(step / 40 % 2).expect("one or none");
    let positive_deltas: Vec<i64> =
        (0..buckets).map(|i| if i == 0 { base + 1 } else { 2 }).collect();
    let in_buckets: i64 = (0..i64::from(buckets)).map(|i| base + 1 + 2 * i).sum();
    let live = Histogram {
        schema: 1,
        zero_threshold: 1e-9,
        zero_count: base.unsigned_abs(),
        count: (in_buckets + base + i64::from(negative) * base).unsigned_abs(),
        sum: f64::from(i32::try_from(step).expect("few steps")) / 3.0,
        positive_spans: vec![Span {
            offset: i32::try_from(step / 71 % 3).expect("few") - 1,
            length: buckets,
        }],
        positive_deltas,
        negative_spans: vec![Span { offset: 0, length: negative }; negative as usize],
        negative_deltas: vec![base; negative as usize],
        ..Histogram::default()
    };
    let histogram = if step % 83 == 82 { stale } else { live };
    if integer { histogram.into() } else { histogram.to_float().into() }
}

#[expect(clippy::cast_precision_loss, reason = "any value will do")]
fn value(shape: usize, step: i64, noise: u64) -> f64 {
    match shape {
        0 => (step % 211) as f64 * 3.0,
        1 => 42.0,
        2 => f64::from_bits(noise),
        3 => match noise % 6 {
            0 => f64::NAN,
            1 => stale_marker(),
            2 => f64::NEG_INFINITY,
            3 => -0.0,
            4 => f64::from_bits(0x7ff8_0000_0000_0000 | noise >> 16),
            _ => f64::MIN_POSITIVE / 3.0,
        },
        _ => step as f64 + (noise % 1000) as f64 / 7.0,
    }
}

/// A bijection of 64 bits in which each bit of the result depends on all of `x` (the finaliser of SplitMix64).
#[must_use]
pub const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_can_be_computed_again_and_depends_on_the_seed() {
        let of = |seed, thread, step| -> Vec<_> {
            let points = Workload { seed, burst_series: 5 }.batch(thread, step);
            points.into_iter().map(|p| (p.labels.to_string(), p.t, p.value.fingerprint())).collect()
        };
        assert_eq!(of(1, 0, 7), of(1, 0, 7));
        assert_ne!(of(1, 0, 7), of(2, 0, 7));
        assert_ne!(of(1, 0, 7), of(1, 1, 7));
        assert_eq!(of(1, 0, BURST_STEPS - 1).iter().filter(|p| p.0.contains("burst")).count(), 5);
    }

    #[test]
    fn no_series_has_two_samples_of_one_time_and_only_late_ones_go_back() {
        let workload = Workload { seed: 3, burst_series: 2 };
        let mut last = std::collections::BTreeMap::new();
        let mut late = std::collections::BTreeSet::new();
        for step in 0..3_000 {
            for point in workload.batch(0, step) {
                if point.is_late {
                    assert!(late.insert(point.t), "step {step}");
                    continue;
                }
                let before = last.insert(point.labels.to_string(), point.t);
                assert!(before.is_none_or(|before| before < point.t), "{}", point.labels);
            }
        }
        assert!(last.len() > 30 && late.len() > 2_000);
    }

    #[test]
    fn histograms_are_valid_and_told_apart() {
        let mut seen = std::collections::BTreeSet::new();
        for step in 0..80 {
            let integer = histogram(step, true);
            let HistogramValue::Integer(checked) = &integer else { panic!("not an integer one") };
            assert_eq!(checked.validate(), Ok(()), "step {step}");
            let integer = Value::Histogram(integer).fingerprint();
            assert_eq!(integer, Value::Histogram(histogram(step, false)).fingerprint());
            assert!(seen.insert(integer), "step {step}");
        }
    }
}
