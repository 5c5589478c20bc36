//! Answers, and how they are read from JSON.

use std::collections::BTreeMap;

use model::{Labels, Timestamp};
use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};

/// What was asked for, and what the server remarks.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer<T> {
    /// The answer.
    pub value: T,
    /// Warnings and infos, in the server's words: the answer may be incomplete.
    pub warnings: Vec<String>,
}

/// What an expression evaluates to.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// One sample for each of a set of series.
    Vector(Vec<Sample>),
    /// Samples over time for each of a set of series.
    Matrix(Vec<Series>),
    /// A number.
    Scalar {
        /// The time of evaluation.
        at: Timestamp,
        /// The number.
        value: f64,
    },
    /// A text.
    String {
        /// The time of evaluation.
        at: Timestamp,
        /// The text.
        value: String,
    },
}

impl Value {
    /// The API's name for the type.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Vector(_) => "vector",
            Self::Matrix(_) => "matrix",
            Self::Scalar { .. } => "scalar",
            Self::String { .. } => "string",
        }
    }
}

/// One element of an instant vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The series; without a name when the expression computes something.
    pub labels: Labels,
    /// The time of evaluation: the API does not tell when the sample was scraped.
    pub at: Timestamp,
    /// The value.
    pub reading: Reading,
}

/// A float or something else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reading {
    /// A float; NaN and infinities are values.
    Float(f64),
    /// A native histogram, whose buckets nobody here reads.
    Histogram,
}

/// One element of a range vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The series.
    pub labels: Labels,
    /// Float samples in order of time; native histograms are not among them.
    pub samples: Vec<(Timestamp, f64)>,
}

/// What every answer is wrapped in.
#[derive(Debug, Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub(crate) struct Envelope<T> {
    pub(crate) status: String,
    pub(crate) data: Option<T>,
    #[serde(rename = "errorType", default)]
    pub(crate) error_type: String,
    #[serde(default)]
    pub(crate) error: String,
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
    #[serde(default)]
    pub(crate) infos: Vec<String>,
}

/// Only what an error needs.
#[derive(Debug, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) status: String,
    #[serde(rename = "errorType")]
    pub(crate) error_type: String,
    pub(crate) error: String,
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match ValueJson::deserialize(deserializer)? {
            ValueJson::Vector(samples) => {
                Self::Vector(samples.into_iter().map(SampleJson::sample).collect::<Result<_, _>>()?)
            }
            ValueJson::Matrix(series) => {
                Self::Matrix(series.into_iter().map(SeriesJson::series).collect::<Result<_, _>>()?)
            }
            ValueJson::Scalar(Point(at, value)) => Self::Scalar { at, value },
            ValueJson::String((at, value)) => Self::String { at: milliseconds(at), value },
        })
    }
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum ValueJson {
    Vector(Vec<SampleJson>),
    Matrix(Vec<SeriesJson>),
    Scalar(Point),
    String((f64, String)),
}

#[derive(Deserialize)]
struct SampleJson {
    metric: LabelsJson,
    value: Option<Point>,
    histogram: Option<(f64, IgnoredAny)>,
}

impl SampleJson {
    fn sample<E: serde::de::Error>(self) -> Result<Sample, E> {
        let labels = self.metric.0;
        match (self.value, self.histogram) {
            (Some(Point(at, value)), _) => {
                Ok(Sample { labels, at, reading: Reading::Float(value) })
            }
            (None, Some((at, _))) => {
                Ok(Sample { labels, at: milliseconds(at), reading: Reading::Histogram })
            }
            (None, None) => Err(E::missing_field("value")),
        }
    }
}

#[derive(Deserialize)]
struct SeriesJson {
    metric: LabelsJson,
    #[serde(default)]
    values: Vec<Point>,
}

impl SeriesJson {
    fn series<E>(self) -> Result<Series, E> {
        let samples = self.values.into_iter().map(|Point(at, value)| (at, value)).collect();
        Ok(Series { labels: self.metric.0, samples })
    }
}

/// A label set.
pub(crate) struct LabelsJson(pub(crate) Labels);

impl<'de> Deserialize<'de> for LabelsJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pairs = BTreeMap::<String, String>::deserialize(deserializer)?;
        Labels::from_pairs(pairs).map(Self).map_err(D::Error::custom)
    }
}

/// `[1435781430.781, "1"]`
struct Point(Timestamp, f64);

impl<'de> Deserialize<'de> for Point {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (at, value) = <(f64, String)>::deserialize(deserializer)?;
        let value =
            value.parse().map_err(|_| D::Error::custom(format!("{value:?} is not a number")))?;
        Ok(Self(milliseconds(at), value))
    }
}

/// Seconds to milliseconds; what is out of range becomes the nearest that is not.
#[expect(clippy::cast_possible_truncation, reason = "a cast from float saturates")]
fn milliseconds(seconds: f64) -> Timestamp {
    (seconds * 1000.0).round() as Timestamp
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> Value {
        serde_json::from_str(json).unwrap()
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn each_type_is_read() {
        let vector = r#"{"resultType":"vector","result":[
            {"metric":{"__name__":"up","job":"a"},"value":[1435781451.781,"1"]},
            {"metric":{},"histogram":[1435781451,{"count":"1","sum":"2","buckets":[]}]}]}"#;
        let at = 1_435_781_451_781;
        assert_eq!(
            value(vector),
            Value::Vector(vec![
                Sample {
                    labels: labels(&[("__name__", "up"), ("job", "a")]),
                    at,
                    reading: Reading::Float(1.0)
                },
                Sample {
                    labels: Labels::empty(),
                    at: 1_435_781_451_000,
                    reading: Reading::Histogram
                },
            ])
        );
        let matrix = r#"{"resultType":"matrix","result":[
            {"metric":{"a":"b"},"values":[[1,"1e3"],[2.5,"-Inf"]]}]}"#;
        assert_eq!(
            value(matrix),
            Value::Matrix(vec![Series {
                labels: labels(&[("a", "b")]),
                samples: vec![(1000, 1000.0), (2500, f64::NEG_INFINITY)]
            }])
        );
        let scalar = r#"{"resultType":"scalar","result":[1,"+Inf"]}"#;
        assert_eq!(value(scalar), Value::Scalar { at: 1000, value: f64::INFINITY });
        let string = r#"{"resultType":"string","result":[1,"x"]}"#;
        assert_eq!(value(string), Value::String { at: 1000, value: String::from("x") });
    }

    #[test]
    fn nan_stays_nan() {
        let json = r#"{"resultType":"scalar","result":[1,"NaN"]}"#;
        assert!(matches!(value(json), Value::Scalar { value, .. } if value.is_nan()));
    }

    #[test]
    fn what_is_not_an_answer_is_refused() {
        for json in [
            r#"{"resultType":"vector","result":[{"metric":{}}]}"#,
            r#"{"resultType":"vector","result":[{"metric":{},"value":[1,"one"]}]}"#,
            r#"{"resultType":"vector","result":[{"metric":{},"value":[1,1]}]}"#,
            r#"{"resultType":"streams","result":[]}"#,
            r#"{"result":[]}"#,
        ] {
            assert!(serde_json::from_str::<Value>(json).is_err(), "{json}");
        }
    }
}
