//! What a query evaluates to.

use model::{Columns, Labels, Sample, Timestamp};

use crate::ast::ValueType;

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
    /// Time and value.
    pub sample: Sample,
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
    /// Samples decoded from the store.
    pub samples_read: u64,
    /// Most samples held at once.
    pub samples_peak: u64,
}
