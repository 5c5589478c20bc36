//! The query parameters of `/top`.

use std::cmp::Reverse;

use metrics_api::{LabelSelector, Status, Usage};

/// What is shown, and in which order.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    /// Only pods of this namespace.
    pub(super) namespace: Option<String>,
    /// Only this node, or the pods on it.
    pub(super) node: Option<String>,
    /// Only what has these labels.
    pub(super) labels: LabelSelector,
    /// Whether the containers of pods are shown too.
    pub(super) containers: bool,
    sort: Sort,
    limit: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sort {
    /// By namespace and name.
    #[default]
    Name,
    /// What uses most first.
    Cpu,
    /// What uses most first.
    Memory,
}

impl Options {
    /// Reads a query. Of a parameter that is given twice the first counts.
    ///
    /// # Errors
    /// 400 names what is wrong.
    pub(super) fn parse(query: &str) -> Result<Self, Status> {
        let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
        let first = |key: &str| {
            let found = pairs.iter().find(|(name, _)| name == key);
            found.map(|(_, value)| &**value).filter(|value| !value.is_empty())
        };
        let bad = |key: &str, value: &str, wanted: &str| {
            Status::bad_request(format!("{key}: {value:?} is not {wanted}"))
        };
        let labels = first("labelSelector").unwrap_or_default().parse();
        let sort = match first("sortBy") {
            None | Some("name") => Sort::Name,
            Some("cpu") => Sort::Cpu,
            Some("memory") => Sort::Memory,
            Some(other) => return Err(bad("sortBy", other, "name, cpu or memory")),
        };
        let containers = match first("containers") {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => return Err(bad("containers", other, "true or false")),
        };
        let limit = first("limit")
            .map(|text| text.parse().map_err(|_| bad("limit", text, "a number of lines")));
        Ok(Self {
            namespace: first("namespace").map(String::from),
            node: first("node").map(String::from),
            labels: labels.map_err(|error: metrics_api::SelectorError| {
                Status::bad_request(error.to_string())
            })?,
            containers,
            sort,
            limit: limit.transpose()?,
        })
    }

    /// Sorts `rows`, which are in the order of names, and keeps the first ones. What has no usage comes last.
    pub(super) fn order<R>(&self, rows: &mut Vec<R>, usage: impl Fn(&R) -> Option<Usage>) {
        match self.sort {
            Sort::Name => {}
            Sort::Cpu => {
                rows.sort_by_cached_key(|row| Reverse(usage(row).map(|usage| usage.cpu_nanocores)));
            }
            Sort::Memory => {
                rows.sort_by_cached_key(|row| Reverse(usage(row).map(|usage| usage.memory_bytes)));
            }
        }
        rows.truncate(self.limit.unwrap_or(usize::MAX));
    }
}
