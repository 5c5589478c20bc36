//! Native histograms as scripts write them, `{{schema:1 count:3 sum:4 buckets:[1 2]}}`, and their comparison.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use model::{CounterReset, FloatHistogram, Span};

use super::compare::almost_equal;

/// Most buckets that a histogram may list.
const BUCKETS_MAX: usize = 10_000;

/// A histogram of a script.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramPoint {
    /// The histogram itself.
    pub histogram: Arc<FloatHistogram>,
    /// Whether the script says what is known about a counter reset; an expectation counts only then.
    pub says_reset: bool,
}

impl HistogramPoint {
    /// Parses what is between the braces.
    ///
    /// # Errors
    /// Says which part is malformed.
    pub fn parse(text: &str) -> Result<Self> {
        let mut histogram = FloatHistogram::default();
        let mut says_reset = false;
        let (mut offset, mut negative_offset) = (0, 0);
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (key, after) = rest.split_once(':').context("`key:value` is expected")?;
            let end = if after.starts_with('[') {
                after.find(']').context("a list lacks `]`")? + 1
            } else {
                after.find(char::is_whitespace).unwrap_or(after.len())
            };
            let (value, after) = after.split_at(end);
            let number = || number(value).with_context(|| format!("{key}:{value}"));
            match key {
                "schema" => histogram.schema = value.parse()?,
                "sum" => histogram.sum = number()?,
                "count" => histogram.count = number()?,
                "z_bucket" => histogram.zero_count = number()?,
                "z_bucket_w" => histogram.zero_threshold = number()?,
                "custom_values" => histogram.custom_bounds = list(value)?,
                "buckets" => histogram.positive_counts = list(value)?,
                "n_buckets" => histogram.negative_counts = list(value)?,
                "offset" => offset = value.parse()?,
                "n_offset" => negative_offset = value.parse()?,
                "counter_reset_hint" => {
                    says_reset = true;
                    histogram.counter_reset = reset(value)?;
                }
                other => bail!("unknown key {other:?}"),
            }
            rest = after.trim_start();
        }
        histogram.positive_spans = span(offset, histogram.positive_counts.len())?;
        histogram.negative_spans = span(negative_offset, histogram.negative_counts.len())?;
        Ok(Self { histogram: Arc::new(histogram), says_reset })
    }

    /// The point itself and `count` more, to each of which `delta` is added (or, with `subtract`, from which it is taken).
    ///
    /// # Errors
    /// When the histograms cannot be combined.
    pub fn repeat(self, delta: Option<(&Self, bool)>, count: u32) -> Result<Vec<Self>> {
        let Some((delta, subtract)) = delta else {
            return Ok(vec![self; count as usize + 1]);
        };
        let mut current = Self { says_reset: delta.says_reset, ..self };
        let mut all = vec![current.clone()];
        for _ in 0..count {
            let mut next = FloatHistogram::clone(&current.histogram);
            ensure!(next.schema <= delta.histogram.schema, "the delta is of a coarser schema");
            if subtract {
                next.subtract(&delta.histogram)?;
            } else {
                next.add(&delta.histogram)?;
            }
            current.histogram = Arc::new(next);
            all.push(current.clone());
        }
        Ok(all)
    }

    /// Whether `actual` is the expected one: equal buckets when compacted, numbers that are almost equal.
    #[must_use]
    pub fn accepts(&self, actual: &FloatHistogram) -> bool {
        let compact = |histogram: &FloatHistogram| {
            let mut histogram = histogram.clone();
            histogram.compact(0);
            histogram
        };
        let (a, b) = (compact(&self.histogram), compact(actual));
        let same_counts = |a: &[f64], b: &[f64]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| almost_equal(*a, *b))
        };
        a.schema == b.schema
            && almost_equal(a.count, b.count)
            && almost_equal(a.sum, b.sum)
            && a.custom_bounds == b.custom_bounds
            && a.zero_threshold == b.zero_threshold
            && almost_equal(a.zero_count, b.zero_count)
            && a.positive_spans == b.positive_spans
            && a.negative_spans == b.negative_spans
            && same_counts(&a.positive_counts, &b.positive_counts)
            && same_counts(&a.negative_counts, &b.negative_counts)
            && (!self.says_reset || a.counter_reset == b.counter_reset)
    }
}

fn span(offset: i32, length: usize) -> Result<Vec<Span>> {
    ensure!(length <= BUCKETS_MAX, "at most {BUCKETS_MAX} buckets");
    Ok(if length == 0 { Vec::new() } else { vec![Span { offset, length: length.try_into()? }] })
}

fn number(text: &str) -> Result<f64> {
    text.parse().with_context(|| format!("not a number: {text:?}"))
}

fn list(text: &str) -> Result<Vec<f64>> {
    let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    inside.context("a list is expected")?.split_whitespace().map(number).collect()
}

fn reset(word: &str) -> Result<CounterReset> {
    Ok(match word {
        "unknown" => CounterReset::Unknown,
        "reset" => CounterReset::Reset,
        "not_reset" => CounterReset::NotReset,
        "gauge" => CounterReset::Gauge,
        other => bail!("unknown hint {other:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> HistogramPoint {
        HistogramPoint::parse(text).unwrap_or_else(|error| panic!("{text}: {error:#}"))
    }

    #[test]
    fn all_keys() {
        let point = parse(
            "schema:-2 count:3 sum:-Inf z_bucket:1 z_bucket_w:0.5 buckets:[1 2] offset:-4 \
             n_buckets:[3] n_offset:2 counter_reset_hint:gauge custom_values:[1 2.5]",
        );
        let expected = FloatHistogram {
            counter_reset: CounterReset::Gauge,
            schema: -2,
            zero_threshold: 0.5,
            zero_count: 1.0,
            count: 3.0,
            sum: f64::NEG_INFINITY,
            positive_spans: vec![Span { offset: -4, length: 2 }],
            negative_spans: vec![Span { offset: 2, length: 1 }],
            positive_counts: vec![1.0, 2.0],
            negative_counts: vec![3.0],
            custom_bounds: vec![1.0, 2.5],
        };
        assert_eq!((&*point.histogram, point.says_reset), (&expected, true));
        assert_eq!(*parse("").histogram, FloatHistogram::default());
        for malformed in ["sum", "sum:x", "buckets:[1", "buckets:1", "colour:red"] {
            assert!(HistogramPoint::parse(malformed).is_err(), "{malformed}");
        }
    }

    #[test]
    fn deltas_add_up() {
        let delta = parse("count:1 sum:2 buckets:[1] offset:1");
        let all = parse("count:1 buckets:[1]").repeat(Some((&delta, false)), 2).unwrap();
        assert_eq!(all.len(), 3);
        assert!(parse("count:3 sum:4 buckets:[1 2]").accepts(&all[2].histogram));
        let back = all[2].clone().repeat(Some((&delta, true)), 1).unwrap();
        assert!(parse("count:2 sum:2 buckets:[1 1]").accepts(&back[1].histogram));
    }

    #[test]
    fn comparison_ignores_empty_buckets_and_unsaid_hints() {
        let expected = parse("count:3 buckets:[0 3]");
        assert!(expected.accepts(&parse("count:3.000001 buckets:[3 0] offset:1").histogram));
        assert!(
            expected.accepts(&parse("count:3 buckets:[0 3] counter_reset_hint:reset").histogram)
        );
        assert!(!expected.accepts(&parse("count:3 buckets:[3]").histogram));
        assert!(!expected.accepts(&parse("count:3 sum:1 buckets:[0 3]").histogram));
        let hinted = parse("count:3 counter_reset_hint:unknown");
        assert!(!hinted.accepts(&parse("count:3 counter_reset_hint:reset").histogram));
    }
}
