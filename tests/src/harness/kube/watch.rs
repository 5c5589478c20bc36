//! Watches: what changes, as it changes, until the client or a deadline ends it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use model::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::{ApiError, ApiResult};
use super::kinds::Kind;
use super::listener::{Aborted, BoxError};
use super::negotiate::Shape;
use super::objects::{Objects, Selection};
use super::route::Query;
use super::store::{Change, Stored};
use super::table::{metadata_only, table};
use super::view;

/// How long a watch lasts whose client does not say.
const WATCH_DEFAULT: Duration = Duration::from_secs(30 * 60);

/// A watch that is under way.
struct Watch {
    objects: Arc<Objects>,
    kind: Arc<Kind>,
    selection: Selection,
    shape: Shape,
    include: String,
    bookmarks: bool,
    bookmark_interval: Duration,
    next_bookmark: Instant,
    deadline: Instant,
    /// Events up to this version are sent or waiting.
    version: u64,
    waiting: VecDeque<Bytes>,
    ended: bool,
    changed: watch::Receiver<u64>,
    cut: watch::Receiver<u64>,
}

/// Starts a watch; the stream ends with an error if it is cut.
pub(crate) fn watch(
    objects: Arc<Objects>,
    kind: Arc<Kind>,
    selection: Selection,
    query: &Query,
    shape: Shape,
    bookmark_interval: Duration,
    mut cut: watch::Receiver<u64>,
) -> ApiResult<impl Stream<Item = Result<Bytes, BoxError>> + Send + use<>> {
    cut.mark_unchanged();
    let changed = objects.store.subscribe(&kind.collection);
    let asked = query.get("resourceVersion");
    let from: u64 = asked.unwrap_or("0").parse().map_err(|_| {
        let asked = asked.unwrap_or_default();
        ApiError::bad_request(format!("Invalid value: \"{asked}\": resourceVersion"))
    })?;
    let initial = query.get("sendInitialEvents").map(|_| query.is_true("sendInitialEvents"));
    if initial.is_some() && query.get("resourceVersionMatch") != Some("NotOlderThan") {
        let why = "resourceVersionMatch: Forbidden: sendInitialEvents requires setting \
                   resourceVersionMatch to NotOlderThan";
        return Err(ApiError::invalid("meta.k8s.io", "ListOptions", "", why));
    }
    let bookmarks = query.is_true("allowWatchBookmarks");
    let seconds = query.get("timeoutSeconds").and_then(|seconds| seconds.parse().ok());
    let timeout = seconds.map_or(WATCH_DEFAULT, Duration::from_secs);
    let now = Instant::now();
    let mut watch = Watch {
        objects,
        kind,
        selection,
        shape,
        include: String::from(query.get("includeObject").unwrap_or_default()),
        bookmarks,
        bookmark_interval,
        next_bookmark: now + bookmark_interval,
        deadline: now + timeout,
        version: from,
        waiting: VecDeque::new(),
        ended: false,
        changed,
        cut,
    };
    if initial.unwrap_or(from == 0) {
        watch.send_all(initial.is_some() && bookmarks);
    } else if from == 0 {
        watch.version = watch.objects.store.version();
    }
    Ok(stream::unfold(watch, |mut watch| async move {
        let item = watch.next().await?;
        Some((item, watch))
    }))
}

impl Watch {
    /// Everything there is as added, then maybe the bookmark that says so.
    fn send_all(&mut self, with_end: bool) {
        let snapshot = self.objects.store.list(&self.kind.collection, &self.selection.namespace);
        self.version = snapshot.version;
        for object in snapshot.objects.iter().filter(|object| self.selection.selects(object)) {
            let event = self.event("ADDED", object, None);
            self.waiting.push_back(event);
        }
        if with_end {
            let event = self.bookmark(Some(json!({ "k8s.io/initial-events-end": "true" })));
            self.waiting.push_back(event);
        }
    }

    async fn next(&mut self) -> Option<Result<Bytes, BoxError>> {
        loop {
            if self.cut.has_changed().unwrap_or(true) {
                return Some(Err(Box::new(Aborted)));
            }
            if let Some(event) = self.waiting.pop_front() {
                return Some(Ok(event));
            }
            if self.ended {
                return None;
            }
            self.changed.mark_unchanged();
            self.take_changes();
            if !self.waiting.is_empty() {
                continue;
            }
            tokio::select! {
                changed = self.changed.changed() => changed.ok()?,
                _ = self.cut.changed() => return Some(Err(Box::new(Aborted))),
                () = tokio::time::sleep_until(self.deadline) => return None,
                () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => {
                    self.next_bookmark = Instant::now() + self.bookmark_interval;
                    self.take_changes();
                    let bookmark = self.bookmark(None);
                    self.waiting.push_back(bookmark);
                }
            }
        }
    }

    fn take_changes(&mut self) {
        match self.objects.store.changes_since(&self.kind.collection, self.version) {
            Ok((changes, version)) => {
                for change in &changes {
                    let event = self.event_of(change);
                    self.waiting.extend(event);
                }
                self.version = self.version.max(version);
            }
            Err(_) => {
                let current = self.objects.store.version();
                let message = format!("too old resource version: {} ({current})", self.version);
                let status = ApiError::expired(message).status();
                let event = json!({ "type": "ERROR", "object": status });
                self.waiting.push_back(format!("{event}\n").into());
                self.ended = true;
            }
        }
    }

    /// What a client that sees the selected objects alone sees of a change.
    fn event_of(&self, change: &Change) -> Option<Bytes> {
        let selected =
            |object: &Option<Arc<Stored>>| object.clone().filter(|o| self.selection.selects(o));
        match (selected(&change.before), selected(&change.after)) {
            (None, None) => None,
            (None, Some(after)) => Some(self.event("ADDED", &after, None)),
            (Some(_), Some(after)) => Some(self.event("MODIFIED", &after, None)),
            (Some(before), None) => Some(self.event("DELETED", &before, Some(change.version))),
        }
    }

    /// `version`, if given, takes the place of the object's own.
    fn event(&self, event: &str, object: &Stored, version: Option<u64>) -> Bytes {
        let raw = self.shape == Shape::Whole && view::is_as_stored(&self.kind);
        if let (true, None) = (raw, version) {
            let mut bytes = format!("{{\"type\":\"{event}\",\"object\":").into_bytes();
            bytes.extend_from_slice(&object.json);
            bytes.extend_from_slice(b"}\n");
            return bytes.into();
        }
        let mut value = view::from_stored(&self.kind, object.value());
        if let Some(version) = version {
            value["metadata"]["resourceVersion"] = version.to_string().into();
        }
        let object = match self.shape {
            Shape::Whole | Shape::Discovery => value,
            Shape::Metadata => metadata_only(&value),
            Shape::Table => {
                let metadata = json!({ "resourceVersion": value["metadata"]["resourceVersion"] });
                let rows = std::slice::from_ref(&value);
                table(&self.kind, rows, &metadata, &self.include, SystemClock.now())
            }
        };
        format!("{}\n", json!({ "type": event, "object": object })).into()
    }

    fn bookmark(&self, annotations: Option<Value>) -> Bytes {
        let mut metadata = json!({
            "resourceVersion": self.version.to_string(),
            "creationTimestamp": null,
        });
        if let Some(annotations) = annotations {
            metadata["annotations"] = annotations;
        }
        let object = match self.shape {
            Shape::Whole | Shape::Discovery => json!({
                "kind": self.kind.kind,
                "apiVersion": self.kind.api_version(),
                "metadata": metadata,
            }),
            Shape::Metadata => metadata_only(&json!({ "metadata": metadata })),
            Shape::Table => table(&self.kind, &[], &metadata, &self.include, SystemClock.now()),
        };
        format!("{}\n", json!({ "type": "BOOKMARK", "object": object })).into()
    }
}
