//! Whoever answers queries.

use futures_util::future::BoxFuture;
use model::{Labels, TimeRange, Timestamp};

use crate::answer::{Answer, Value};
use crate::error::AskError;

/// An answer to come.
pub type Asked<'a, T> = BoxFuture<'a, Result<Answer<T>, AskError>>;

/// Answers PromQL, over the network or in the same process.
pub trait Source: Send + Sync {
    /// Evaluates `query` at one point in time.
    fn instant<'a>(&'a self, query: &'a str, at: Timestamp) -> Asked<'a, Value>;

    /// The label sets of the series that match any of the selectors `matchers` (`up{job="x"}`) and have samples in
    /// `range`.
    fn series<'a>(&'a self, matchers: &'a [&'a str], range: TimeRange) -> Asked<'a, Vec<Labels>>;

    /// The values of label `name` among the series that match any of the selectors and have samples in `range`, sorted.
    fn label_values<'a>(
        &'a self,
        name: &'a str,
        matchers: &'a [&'a str],
        range: TimeRange,
    ) -> Asked<'a, Vec<String>>;
}
