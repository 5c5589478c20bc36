//! Usage to target.
//!
//! Upstream computes with integers first and with doubles after; the order of operations here is the same, as results on the
//! edge depend on it. What overflows there saturates here: sums, quotients, and every conversion from a double. A ratio is never
//! infinite nor undefined: anything to nothing is [`f64::MAX`], which compares and saturates alike, and nothing to nothing is 0.

use crate::decision::Ratio;

/// Usage of some pods set against a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Usage divided by target.
    pub ratio: f64,
    /// In percent of the requests, where that is the target.
    pub utilization_percent: Option<i32>,
    /// Average of a pod in thousandths.
    pub value_milli: i64,
}

/// Usage in percent of requests, set against `target_percent`, of pods as pairs of value and request.
///
/// # Errors
/// There are no requests.
pub fn utilization(
    pods: impl IntoIterator<Item = (i64, i64)>,
    target_percent: i32,
) -> Result<Usage, String> {
    let (mut total, mut requested, mut count) = (0_i128, 0_i128, 0_i128);
    for (value, request) in pods {
        total += i128::from(value);
        requested += i128::from(request);
        count += 1;
    }
    if requested == 0 {
        return Err("no metrics returned matched known pods".to_owned());
    }
    let percent = saturate_i32(total * 100 / requested);
    Ok(Usage {
        ratio: divide(f64::from(percent), f64::from(target_percent)),
        utilization_percent: Some(percent),
        value_milli: saturate_i64(total / count),
    })
}

/// The average of `values`, set against `target_milli`; of no values it is 0.
pub fn average(values: impl IntoIterator<Item = i64>, target_milli: i64) -> Usage {
    let (mut total, mut count) = (0_i128, 0_i128);
    for value in values {
        total += i128::from(value);
        count += 1;
    }
    let value = saturate_i64(total / count.max(1));
    Usage {
        ratio: divide(double(value), double(target_milli)),
        utilization_percent: None,
        value_milli: value,
    }
}

/// Deviations from 1 that are not acted upon.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerances {
    /// Upward.
    pub up: f64,
    /// Downward.
    pub down: f64,
}

impl Tolerances {
    /// What becomes of `ratio`.
    #[must_use]
    pub fn check(self, ratio: f64) -> Ratio {
        let (from, to) = (1.0 - self.down, 1.0 + self.up);
        Ratio {
            ratio,
            tolerated_from: from,
            tolerated_to: to,
            within_tolerance: from <= ratio && ratio <= to,
        }
    }
}

/// `a / b`, kept finite.
pub(super) fn divide(a: f64, b: f64) -> f64 {
    let quotient = a / b;
    if quotient.is_nan() { 0.0 } else { quotient.clamp(f64::MIN, f64::MAX) }
}

/// The nearest double, as Go converts.
#[expect(clippy::cast_precision_loss, reason = "upstream computes with the rounded value")]
pub(super) const fn double(value: i64) -> f64 {
    value as f64
}

/// Rounded up; the largest or smallest number of replicas if it does not fit.
#[expect(clippy::cast_possible_truncation, reason = "such a cast saturates, which is the purpose")]
pub(super) fn ceil_replicas(value: f64) -> i32 {
    value.ceil() as i32
}

/// Rounded up; the largest or smallest integer if it does not fit.
#[expect(clippy::cast_possible_truncation, reason = "such a cast saturates, which is the purpose")]
pub(super) fn ceil_i64(value: f64) -> i64 {
    value.ceil() as i64
}

/// Rounded toward zero; the largest or smallest number of replicas if it does not fit.
#[expect(clippy::cast_possible_truncation, reason = "such a cast saturates, which is the purpose")]
pub(super) fn truncate_replicas(value: f64) -> i32 {
    value as i32
}

fn saturate_i32(value: i128) -> i32 {
    i32::try_from(value).unwrap_or(if value < 0 { i32::MIN } else { i32::MAX })
}

fn saturate_i64(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}
