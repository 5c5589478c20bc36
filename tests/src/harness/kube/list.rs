//! Lists: whole, in pages, at the version that a client asks for.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use hyper::Response;
use model::{Clock, SystemClock};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::error::{ApiError, ApiResult};
use super::kinds::Kind;
use super::listener::{Body, full, response, streamed};
use super::negotiate::Shape;
use super::objects::{Objects, Selection};
use super::route::Query;
use super::store::{Snapshot, Stored};
use super::table::{metadata_only, table};
use super::view;

/// Lists in pages that are under way at once; the oldest is given up.
const PAGED_MAX: usize = 64;

/// About so many bytes are sent at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// The rest of a list that is read in pages.
#[derive(Debug)]
struct Rest {
    token: String,
    snapshot: Snapshot,
    from: usize,
}

/// Lists in pages that are under way.
#[derive(Debug, Default)]
pub(crate) struct Pages(Mutex<VecDeque<Rest>>);

impl Pages {
    /// Forgets all: the next page of each is gone.
    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }

    fn take(&self, token: &str) -> ApiResult<Rest> {
        let mut pages = self.0.lock();
        let at = pages.iter().position(|rest| rest.token == token);
        at.and_then(|at| pages.remove(at)).ok_or_else(|| {
            ApiError::expired(
                "The provided continue parameter is too old to display a consistent list result. \
                 You can start a new list without the continue parameter.",
            )
        })
    }

    fn keep(&self, rest: Rest) {
        let mut pages = self.0.lock();
        if pages.len() == PAGED_MAX {
            pages.pop_front();
        }
        pages.push_back(rest);
    }
}

/// Answers a list.
pub(crate) fn list(
    objects: &Objects,
    pages: &Pages,
    kind: &Kind,
    selection: &Selection,
    query: &Query,
    shape: Shape,
) -> ApiResult<Response<Body>> {
    let limit = query.get("limit").and_then(|limit| limit.parse().ok()).filter(|limit| *limit > 0);
    let rest = match query.get("continue") {
        Some(token) => pages.take(token)?,
        None => {
            let snapshot = snapshot(objects, kind, selection, query, limit.is_some())?;
            let token = format!("page-{}", objects.store.next_object());
            Rest { token, snapshot, from: 0 }
        }
    };
    let Rest { token, snapshot, from } = rest;
    let (page, next) = page(&snapshot.objects, from, limit.unwrap_or(usize::MAX), selection);
    let mut metadata = json!({ "resourceVersion": snapshot.version.to_string() });
    if next < snapshot.objects.len() {
        metadata["continue"] = token.as_str().into();
        if !selection.is_by_content() {
            metadata["remainingItemCount"] = (snapshot.objects.len() - next).into();
        }
        pages.keep(Rest { token, snapshot, from: next });
    }
    Ok(match shape {
        Shape::Table => {
            let values: Vec<_> = page.iter().map(|o| view::from_stored(kind, o.value())).collect();
            let include = query.get("includeObject").unwrap_or_default();
            let table = table(kind, &values, &metadata, include, SystemClock.now());
            response(200, "application/json", full(table.to_string()))
        }
        Shape::Metadata => {
            let head = ("PartialObjectMetadataList", "meta.k8s.io/v1");
            send(page, head, &metadata, |object| metadata_only(&object.value()).to_string().into())
        }
        Shape::Whole | Shape::Discovery => {
            let (list_kind, version) = (kind.list_kind(), kind.api_version());
            let head = (list_kind.as_str(), version.as_str());
            if view::is_as_stored(kind) {
                return Ok(send(page, head, &metadata, |object| object.json.clone()));
            }
            let kind = kind.clone();
            send(page, head, &metadata, move |object| {
                view::from_stored(&kind, object.value()).to_string().into()
            })
        }
    })
}

/// The collection at the version that `query` asks for.
fn snapshot(
    objects: &Objects,
    kind: &Kind,
    selection: &Selection,
    query: &Query,
    limited: bool,
) -> ApiResult<Snapshot> {
    let version = query.get("resourceVersion").unwrap_or("0");
    let version: u64 = version.parse().map_err(|_| {
        ApiError::bad_request(format!("Invalid value: \"{version}\": resourceVersion"))
    })?;
    let current = objects.store.version();
    if version > current {
        return Err(ApiError::too_large_version(version, current));
    }
    let exact = match query.get("resourceVersionMatch") {
        Some("Exact") => true,
        // What clients got before they could say: a page at least as new, or one of just that version.
        None => limited && version > 0,
        Some(_) => false,
    };
    if !exact {
        return Ok(objects.store.list(&kind.collection, &selection.namespace));
    }
    objects.store.list_at(&kind.collection, &selection.namespace, version).map_err(|_| {
        ApiError::expired(format!(
            "The resourceVersion for the provided list is too old: {version}"
        ))
    })
}

/// Up to `limit` selected objects from `from` on, and where the next page starts.
fn page(
    objects: &[Arc<Stored>],
    from: usize,
    limit: usize,
    selection: &Selection,
) -> (Vec<Arc<Stored>>, usize) {
    let mut page = Vec::new();
    for (index, object) in objects.iter().enumerate().skip(from) {
        if page.len() == limit {
            return (page, index);
        }
        if selection.selects(object) {
            page.push(object.clone());
        }
    }
    (page, objects.len())
}

fn send(
    objects: Vec<Arc<Stored>>,
    (kind, api_version): (&str, &str),
    metadata: &Value,
    mut item: impl FnMut(&Stored) -> Bytes + Send + 'static,
) -> Response<Body> {
    let head = format!(
        "{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{metadata},\"items\":["
    );
    let mut objects = objects.into_iter().enumerate().peekable();
    let mut buffer = head.into_bytes();
    let mut ended = false;
    let chunks = std::iter::from_fn(move || {
        if ended {
            return None;
        }
        while buffer.len() < CHUNK_BYTES {
            let Some((index, object)) = objects.next() else {
                ended = true;
                buffer.extend_from_slice(b"]}\n");
                break;
            };
            if index > 0 {
                buffer.push(b',');
            }
            buffer.extend_from_slice(&item(&object));
        }
        Some(Ok(Bytes::from(std::mem::take(&mut buffer))))
    });
    response(200, "application/json", streamed(stream::iter(chunks)))
}
