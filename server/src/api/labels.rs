//! `labels`, `label/<name>/values` and `series`.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use model::{
    Labels, Matcher, Querier, QueryContext, QueryError, Queryable, Selection, SeriesOrder, Strings,
    TimeRange,
};
use promql::quote::quoted;

use super::error::ApiError;
use super::params::Params;
use super::{TRUNCATED, form, json, unknown_endpoint};
use crate::state::{Ready, Server};

/// `labels`: names of labels.
pub(super) async fn names(
    State(server): State<Arc<Server>>,
    ready: Ready,
    params: Params,
) -> Result<Response, ApiError> {
    strings(&server, ready, &params, |querier, matchers, limit, context| {
        querier.label_names(matchers, limit, context)
    })
    .await
}

/// `label/<name>/values`: values of one label.
pub(super) async fn values(
    State(server): State<Arc<Server>>,
    ready: Ready,
    uri: Uri,
    params: Params,
) -> Result<Response, ApiError> {
    let name = name_in_path(uri.path())?;
    strings(&server, ready, &params, move |querier, matchers, limit, context| {
        querier.label_values(&name, matchers, limit, context)
    })
    .await
}

/// The name in `…/<name>/values`.
fn name_in_path(path: &str) -> Result<String, ApiError> {
    let segment = path.rsplit('/').nth(1).unwrap_or_default();
    let bytes = form::decode(segment.as_bytes(), false).unwrap_or_else(|_| segment.into());
    // To Prometheus that is a separator, as any other.
    if bytes.contains(&b'/') {
        return Err(unknown_endpoint());
    }
    let invalid = |name| Err(ApiError::bad_data(format!("invalid label name: {name}")));
    let Ok(name) = std::str::from_utf8(&bytes) else {
        let quoted_chunks = bytes.utf8_chunks().map(|chunk| {
            let valid = quoted(chunk.valid()).to_string();
            let invalid = chunk.invalid().iter().map(|b| format!("\\x{b:02x}"));
            // Without its quotes.
            String::from(&valid[1..valid.len() - 1]) + &invalid.collect::<String>()
        });
        return invalid(format!("\"{}\"", quoted_chunks.collect::<String>()));
    };
    let name = unescape_name(name);
    if name.is_empty() { invalid(quoted(&name).to_string()) } else { Ok(name) }
}

/// Asks once for each `match[]` (once without matchers if there is none) and unites the answers.
async fn strings<F>(
    server: &Server,
    ready: Ready,
    params: &Params,
    ask: F,
) -> Result<Response, ApiError>
where
    F: Fn(&dyn Querier, &[Matcher], usize, &QueryContext) -> Result<Strings, QueryError>
        + Send
        + 'static,
{
    let (limit, range) = (params.limit()?, params.range()?);
    let mut selectors =
        params.selectors().map_err(|error| ApiError::bad_data(error.to_string()))?;
    if selectors.is_empty() {
        selectors.push(Vec::new());
    }
    let answer = server.queries.run(None, move |turn| {
        let context = &turn.context;
        let querier = ready.store.querier(range)?;
        let mut truncated = false;
        let mut values = BTreeSet::new();
        for matchers in &selectors {
            let strings = ask(querier.as_ref(), matchers, limit, context)?;
            truncated |= strings.truncated;
            values.extend(strings.values);
        }
        let mut values: Vec<String> = values.into_iter().collect();
        if limit > 0 && values.len() > limit {
            values.truncate(limit);
            truncated = true;
        }
        let warnings = if truncated { vec![String::from(TRUNCATED)] } else { Vec::new() };
        json::strings_body(&values, &warnings, context)
    });
    Ok(json::response(answer.await?))
}

/// `series`: label sets of the series that any `match[]` selects.
pub(super) async fn series(
    State(server): State<Arc<Server>>,
    ready: Ready,
    params: Params,
) -> Result<Response, ApiError> {
    let params = params.parsed_form()?;
    let selectors = params.selectors();
    if selectors.as_ref().is_ok_and(Vec::is_empty) {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let (limit, range) = (params.limit()?, params.range()?);
    let selectors = selectors.map_err(|error| ApiError::parameter("match[]", error))?;
    let answer = server.queries.run(None, move |turn| {
        let (store, context) = (ready.store.as_ref(), &turn.context);
        let (series, warnings) = select_labels(store, range, &selectors, limit, context)?;
        json::labels_body(&series, &warnings, context)
    });
    Ok(json::response(answer.await?))
}

/// The label sets that any of `selectors` selects, at most `limit` (0: all); and warnings. They are sorted if there are several selectors;
/// of one they are in the order of the store, as in Prometheus.
fn select_labels(
    store: &dyn Queryable,
    range: TimeRange,
    selectors: &[Vec<Matcher>],
    limit: usize,
    context: &QueryContext,
) -> Result<(Vec<Labels>, Vec<String>), QueryError> {
    let querier = store.querier(range)?;
    let mut series = Vec::new();
    let mut warnings = Vec::new();
    let mut held = context.budget.charge(0)?;
    let order = if selectors.len() > 1 { SeriesOrder::Labels } else { SeriesOrder::Storage };
    for matchers in selectors {
        // One more than wanted, to know whether there are more.
        let wanted = if limit == 0 { 0 } else { limit.saturating_add(1) };
        let selection = Selection { order, limit: wanted, ..Selection::new(matchers, range) };
        let set = querier.select(&selection, context)?;
        warnings.extend_from_slice(set.warnings());
        for index in 0..set.len() {
            context.check()?;
            let labels = set.labels(index);
            held.grow(labels.packed_bytes())?;
            series.push(labels);
        }
    }
    if selectors.len() > 1 {
        series.sort_unstable();
        series.dedup();
    }
    if limit > 0 && series.len() > limit {
        series.truncate(limit);
        warnings.push(String::from(TRUNCATED));
    }
    Ok((series, warnings))
}

/// Most digits of a code point in an escaped name.
const CODE_DIGITS_MAX: usize = 6;

/// Undoes the escaping by which clients put any name into a path: `U__`, then `__` for `_` and `_<hex>_` for a code point.
///
/// A name that is not escaped in this way is taken as it stands.
fn unescape_name(name: &str) -> String {
    let Some(escaped) = name.strip_prefix("U__") else { return String::from(name) };
    let mut out = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let Some((c, after)) = split_code_point(rest) else { return String::from(name) };
        out.push(c);
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The code point that `text` starts with, up to and including the underscore that ends it.
fn split_code_point(text: &str) -> Option<(char, &str)> {
    let (hex, after) = text.split_once('_')?;
    let is_hex = hex.len() <= CODE_DIGITS_MAX && hex.bytes().all(|b| b.is_ascii_hexdigit());
    let code = u32::from_str_radix(hex, 16).ok().filter(|_| is_hex)?;
    Some((char::from_u32(code)?, after))
}

#[cfg(test)]
mod tests {
    use super::unescape_name;

    #[test]
    fn names_in_paths() {
        for (escaped, name) in [
            ("job", "job"),
            ("U__my_2e_name", "my.name"),
            ("U__a__b", "a_b"),
            ("U__caf_e9_", "café"),
            ("U__broken_zz_", "U__broken_zz_"),
            ("U__broken_+2e_", "U__broken_+2e_"),
            ("U__cut_2e", "U__cut_2e"),
            ("U___d800_", "U___d800_"),
            ("U__", ""),
        ] {
            assert_eq!(unescape_name(escaped), name);
        }
    }
}
