//! What a query did, operation by operation.

use std::fmt;

use serde::Serialize;

/// An operation of an evaluated query, and those that it took its operands from.
///
/// Time, bytes and samples read include those of the operands, but not those of whoever took the results: results are handed on while they are
/// computed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Explained {
    /// What it does, in words of PromQL.
    pub operation: String,
    /// Series that a selector found.
    pub series_selected: u64,
    /// Samples decoded from the store.
    pub samples_read: u64,
    /// Series handed on.
    pub series: u64,
    /// Samples handed on, over all steps.
    pub samples: u64,
    /// Most bytes held at once.
    pub bytes: u64,
    /// Seconds taken.
    pub seconds: f64,
    /// Where the operands came from.
    pub operands: Vec<Explained>,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

impl Explained {
    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        let Self { operation, series, samples, bytes, .. } = self;
        write!(f, "{:indent$}{operation}: ", "", indent = 2 * depth)?;
        if self.series_selected > 0 {
            write!(f, "{} series selected, ", self.series_selected)?;
        }
        let (read, milliseconds) = (self.samples_read, self.seconds * 1e3);
        writeln!(
            f,
            "{read} samples read, {series} series and {samples} samples handed on, {bytes} bytes, {milliseconds:.3} ms"
        )?;
        self.operands.iter().try_for_each(|operand| operand.write(f, depth + 1))
    }
}
