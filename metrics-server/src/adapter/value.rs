//! Values out of answers. A value that is not a number is an error or missing, never zero.

use std::collections::BTreeMap;

use api_client::{Answer, Reading, Sample, Value};
use metrics_api::{Format, Quantity};
use model::Timestamp;

/// Why a reading is no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoValue {
    /// Not a number, or an infinite one.
    #[error("the value is {0}")]
    NotFinite(String),
    /// Beyond what a quantity can say.
    #[error("the value {0} is too large")]
    TooLarge(String),
    /// A native histogram.
    #[error("the value is a native histogram")]
    Histogram,
}

/// A value as a quantity: in thousandths, what is smaller is cut off, as prometheus-adapter does it.
///
/// # Errors
/// [`NoValue`]
pub(crate) fn quantity(value: f64) -> Result<Quantity, NoValue> {
    /// The largest power of two whose thousandfold an `i128` surely holds.
    const LIMIT: f64 = 1.0e34;
    if !value.is_finite() {
        return Err(NoValue::NotFinite(match value {
            v if v.is_nan() => String::from("NaN"),
            v if v > 0.0 => String::from("+Inf"),
            _ => String::from("-Inf"),
        }));
    }
    if value.abs() > LIMIT {
        return Err(NoValue::TooLarge(value.to_string()));
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "within the limit only the fraction is lost"
    )]
    let thousandths = (value * 1000.0) as i128;
    Ok(Quantity::new(thousandths, -3, Format::DecimalSi))
}

/// The float of a sample.
///
/// # Errors
/// [`NoValue`]
pub(crate) fn float(sample: &Sample) -> Result<f64, NoValue> {
    match sample.reading {
        Reading::Float(value) => Ok(value),
        Reading::Histogram => Err(NoValue::Histogram),
    }
}

/// The samples of a vector by the object that label `label` names. Where an object has several, the last one counts, as in
/// prometheus-adapter: a query should leave one.
///
/// # Errors
/// Says what the answer is instead of a vector.
pub(crate) fn by_object<'a>(
    answer: &'a Answer<Value>,
    label: &str,
) -> Result<BTreeMap<&'a str, &'a Sample>, String> {
    let Value::Vector(samples) = &answer.value else {
        return Err(format!("the query gives a {} instead of a vector", answer.value.type_name()));
    };
    let named = samples.iter().filter_map(|sample| Some((sample.labels.get(label)?, sample)));
    Ok(named.collect())
}

/// Milliseconds to whole seconds, downwards.
pub(crate) const fn seconds(at: Timestamp) -> i64 {
    at.div_euclid(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_thousandths() {
        for (value, expected) in [
            (0.0, "0"),
            (2.5, "2500m"),
            (0.0009, "0"),
            (-1.5, "-1500m"),
            (1000.0, "1k"),
            (12_345.0, "12345"),
            (1e18, "1E"),
            (1e19, "10E"),
        ] {
            assert_eq!(quantity(value).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn what_is_no_number_is_no_quantity() {
        for (value, expected) in [
            (f64::NAN, "the value is NaN"),
            (model::stale_marker(), "the value is NaN"),
            (f64::INFINITY, "the value is +Inf"),
            (f64::NEG_INFINITY, "the value is -Inf"),
        ] {
            assert_eq!(quantity(value).unwrap_err().to_string(), expected);
        }
        assert!(matches!(quantity(1e40), Err(NoValue::TooLarge(_))));
    }
}
