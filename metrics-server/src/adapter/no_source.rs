//! Nobody to ask: for an adapter whose metrics come without queries.

use api_client::{AskError, Asked, Source, Value};
use futures_util::FutureExt;
use model::{Labels, TimeRange, Timestamp};

/// Answers every question by saying that there is nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSource;

fn nobody<'a, T>() -> Asked<'a, T> {
    let url = String::from("--prometheus-url");
    async { Err(AskError::Unreachable { url, reason: String::from("is not given") }) }.boxed()
}

impl Source for NoSource {
    fn instant<'a>(&'a self, _: &'a str, _: Timestamp) -> Asked<'a, Value> {
        nobody()
    }

    fn series<'a>(&'a self, _: &'a [&'a str], _: TimeRange) -> Asked<'a, Vec<Labels>> {
        nobody()
    }

    fn label_values<'a>(
        &'a self,
        _: &'a str,
        _: &'a [&'a str],
        _: TimeRange,
    ) -> Asked<'a, Vec<String>> {
        nobody()
    }
}
