//! What a query evaluates to.

use std::sync::Arc;

use model::{Charge, Columns, FloatHistogram, Labels, Sample, Timestamp};

use crate::ast::ValueType;
use crate::explain::Explained;

/// The answer to a query.
#[derive(Clone, Debug, Default)]
pub struct QueryResult {
    /// The value itself.
    pub value: Value,
    /// Texts of warnings, each with the position `(line:col)` it is about; sorted, distinct.
    pub warnings: Vec<String>,
    /// Texts of informational annotations, likewise.
    pub infos: Vec<String>,
    /// What it cost.
    pub stats: QueryStats,
    /// For each step its time and the samples that it looked at, if that was asked for. Each is what the step would look at as an instant
    /// query.
    pub samples_per_step: Vec<(Timestamp, u64)>,
    /// For each step its time and the samples that were read for it, if that was asked for: those that the step before did not see.
    pub samples_read_per_step: Vec<(Timestamp, u64)>,
    /// What each operation did, if that was asked for.
    pub explained: Option<Explained>,
    /// The bytes of the value, charged to the query's budget until the answer is dropped.
    pub held: HeldBytes,
}

/// Bytes that stay charged to a budget as long as a copy of this lives.
#[derive(Clone, Debug, Default)]
pub struct HeldBytes(Option<Arc<Charge>>);

impl HeldBytes {
    pub(crate) fn new(charge: Charge) -> Self {
        Self(Some(Arc::new(charge)))
    }

    /// How many.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |charge| charge.bytes())
    }
}

/// Values of the four types.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// One number at the evaluation time.
    Scalar(Sample),
    /// One string at the evaluation time.
    String(Timestamp, String),
    /// One sample per series.
    Vector(Vec<VectorSample>),
    /// Samples over time per series.
    Matrix(Vec<MatrixSeries>),
}

impl Value {
    /// Its type.
    #[must_use]
    pub const fn value_type(&self) -> ValueType {
        match self {
            Self::Scalar(_) => ValueType::Scalar,
            Self::String(..) => ValueType::String,
            Self::Vector(_) => ValueType::Vector,
            Self::Matrix(_) => ValueType::Matrix,
        }
    }
}

impl Default for Value {
    fn default() -> Self {
        Self::Vector(Vec::new())
    }
}

/// A sample of an instant vector.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSample {
    /// Its series.
    pub labels: Labels,
    /// Time and value; of a histogram, its sum.
    pub sample: Sample,
    /// The sample, if it is a native histogram.
    pub histogram: Option<Arc<FloatHistogram>>,
}

/// A series of a range vector.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSeries {
    /// Its series.
    pub labels: Labels,
    /// Its samples, ascending; never empty.
    pub samples: Columns,
}

/// What a query cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryStats {
    /// Samples that the steps of the query looked at, each counted as often as it was in a window.
    pub samples_queryable: u64,
    /// Samples that the steps of the query looked at, those of windows that overlap but once. What subqueries read between windows is not among
    /// them if [`peak_stats`](crate::QueryOptions::peak_stats) or [`per_step_stats`](crate::QueryOptions::per_step_stats) were asked for.
    pub samples_read: u64,
    /// Samples decoded from the store.
    pub samples_decoded: u64,
    /// Most samples held at once: as Prometheus evaluates, if [`peak_stats`](crate::QueryOptions::peak_stats) were asked for, else as this engine does.
    pub samples_peak: u64,
}
