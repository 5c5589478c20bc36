//! The query parameters of a request.

use axum::extract::Query;
use axum::http::Uri;
use metrics_api::table::IncludeObject;
use metrics_api::{FieldSelector, LabelSelector, Status};

/// The parameters that matter here; others are ignored, as upstream does.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    pub(super) labels: LabelSelector,
    pub(super) fields: FieldSelector,
    pub(super) watch: bool,
    /// `None` for an absent version and for 0, which ask for any.
    pub(super) resource_version: Option<u64>,
    pub(super) bookmarks: bool,
    pub(super) initial_events: Option<bool>,
    pub(super) timeout_s: Option<u64>,
    pub(super) include: IncludeObject,
}

impl Options {
    /// Reads a query.
    ///
    /// # Errors
    /// 400 names what is wrong.
    pub(super) fn parse(query: &str) -> Result<Self, Status> {
        let uri: Uri = format!("/?{query}")
            .parse()
            .map_err(|_| Status::bad_request("the query of the request is not a valid one"))?;
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&uri)
            .map_err(|error| Status::bad_request(error.body_text()))?;
        let first =
            |key: &str| pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        let labels = first("labelSelector").unwrap_or("").parse();
        let fields = first("fieldSelector").unwrap_or("").parse();
        let include = first("includeObject").unwrap_or("");
        Ok(Self {
            labels: labels.map_err(|e: metrics_api::SelectorError| bad(&e))?,
            fields: fields.map_err(|e: metrics_api::FieldSelectorError| bad(&e))?,
            watch: first("watch").is_some_and(is_true),
            resource_version: version(first("resourceVersion").unwrap_or(""))?,
            bookmarks: first("allowWatchBookmarks").is_some_and(is_true),
            initial_events: first("sendInitialEvents").map(is_true),
            timeout_s: number("timeoutSeconds", first("timeoutSeconds"))?,
            include: IncludeObject::parse(include).ok_or_else(|| {
                Status::bad_request(format!("unrecognized includeObject value: {include:?}"))
            })?,
        })
    }
}

fn bad(error: &dyn std::error::Error) -> Status {
    Status::bad_request(error.to_string())
}

/// Whatever does not say no says yes.
fn is_true(text: &str) -> bool {
    text != "0" && !text.eq_ignore_ascii_case("false")
}

fn number(key: &str, text: Option<&str>) -> Result<Option<u64>, Status> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let number = text.parse();
    let number = number.map_err(|e| Status::bad_request(format!("{key}: {text:?}: {e}")))?;
    Ok(Some(number))
}

fn version(text: &str) -> Result<Option<u64>, Status> {
    match number("resourceVersion", Some(text))? {
        Some(0) | None => Ok(None),
        version => Ok(version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_and_others_ignored() {
        let options = Options::parse(
            "labelSelector=app%3Dweb%2C%21old&fieldSelector=metadata.name%3Da&watch=1&limit=500\
             &resourceVersion=17&allowWatchBookmarks=true&timeoutSeconds=30&includeObject=None\
             &sendInitialEvents=false&pretty=true",
        )
        .unwrap();
        assert_eq!(options.labels.to_string(), "app=web,!old");
        assert_eq!(options.fields.name(), Some("a"));
        assert!(options.watch && options.bookmarks);
        assert_eq!(options.initial_events, Some(false));
        assert_eq!((options.resource_version, options.timeout_s), (Some(17), Some(30)));
        assert_eq!(options.include, IncludeObject::None);
        let none = Options::parse("watch=false&resourceVersion=0&timeoutSeconds=").unwrap();
        assert!(!none.watch && none.labels.is_empty() && none.fields.is_empty());
        assert_eq!((none.resource_version, none.timeout_s), (None, None));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (query, message) in [
            (
                "labelSelector=a%20b",
                "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
            ),
            (
                "fieldSelector=spec.nodeName%3Dx",
                "\"spec.nodeName\" is not a known field selector: only \"metadata.name\", \
                 \"metadata.namespace\"",
            ),
            ("includeObject=All", "unrecognized includeObject value: \"All\""),
            ("resourceVersion=x", "resourceVersion: \"x\": invalid digit found in string"),
        ] {
            let status = Options::parse(query).unwrap_err();
            assert_eq!((status.code, status.message.as_str()), (400, message));
        }
    }
}
