//! Watches: what is selected now, and then each fresh measurement as it comes.
//!
//! A watch keeps what it last told of each object and compares; it queues nothing. A client that
//! reads slowly gets the latest state when it comes back, not every one in between, and costs no
//! more than a fast one.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use metrics_api::{Item, Resource, Status, json, protobuf};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::ResourceState;
use super::options::Options;
use super::output::Output;
use super::snapshot::{Entry, Moment, Selection};
use crate::cluster::Labels;

/// Events are sent in pieces of about this size.
const PIECE_BYTES: usize = 64 << 10;
/// The least time between two looks at what is selected.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// A look at what is selected is followed by a pause of this many times its duration.
const PAUSE_FACTOR: u32 = 20;
/// The time after which one looks although nothing was told: usages end by age too.
const LOOK_MAX: Duration = Duration::from_secs(15);
/// The time between bookmarks, as upstream's.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// A watch without a given end has one after this to twice this.
const TIMEOUT_DEFAULT_S: u64 = 1800;
const TIMEOUT_MAX_S: u64 = 2 * TIMEOUT_DEFAULT_S;

/// Answers with a stream of events.
///
/// # Errors
/// 429: too many watches run already.
pub(super) fn answer(
    state: &ResourceState,
    resource: Resource,
    selection: Selection,
    options: &Options,
    output: Output,
) -> Result<Response, Status> {
    let Ok(permit) = Arc::clone(&state.watches).try_acquire_owned() else {
        let message = format!("too many watches: {} are running", super::WATCHES_MAX);
        return Err(Status::too_many_requests(message, 5));
    };
    let revision = state.store.revision().current();
    let timeout_s = options
        .timeout_s
        .filter(|seconds| *seconds > 0)
        .unwrap_or_else(|| TIMEOUT_DEFAULT_S + revision % TIMEOUT_DEFAULT_S)
        .min(TIMEOUT_MAX_S);
    let watch = Watch {
        state: state.clone(),
        resource,
        selection: Arc::new(selection),
        output,
        store_changes: state.store.changes(),
        object_changes: state.objects.changes(),
        known: Vec::new(),
        scan: None,
        bookmarks: options.bookmarks,
        initial_bookmark: options.bookmarks && options.initial_events == Some(true),
        next_bookmark: Instant::now() + BOOKMARK_EVERY,
        next_look: Instant::now(),
        is_new: true,
        resource_version: options.resource_version,
        initial_events: options.initial_events.unwrap_or(options.resource_version.is_none()),
        deadline: Instant::now() + Duration::from_secs(timeout_s),
        over: false,
        _permit: permit,
    };
    let pieces = stream::unfold(watch, |mut watch| async move {
        let piece = watch.next_piece().await?;
        Some((Ok::<_, Infallible>(piece), watch))
    });
    let body = Body::from_stream(pieces);
    Ok(([(header::CONTENT_TYPE, output.stream_media_type())], body).into_response())
}

/// What was last told of an object.
#[derive(Clone, Debug)]
struct Known {
    namespace: Box<str>,
    name: Box<str>,
    labels: Labels,
    at_ms: i64,
    window_ms: i64,
}

impl Known {
    fn of(entry: &Entry) -> Self {
        let (at_ms, window_ms) = entry.measured().unwrap_or((0, 0));
        Self {
            namespace: entry.namespace().into(),
            name: entry.name().into(),
            labels: entry.labels().clone(),
            at_ms,
            window_ms,
        }
    }

    fn is_still(&self, entry: &Entry) -> bool {
        entry.measured() == Some((self.at_ms, self.window_ms)) && self.labels == *entry.labels()
    }

    fn cmp_name(&self, entry: &Entry) -> Ordering {
        (&*self.namespace, &*self.name).cmp(&(entry.namespace(), entry.name()))
    }
}

/// A comparison of what is selected with what was told, that is under way.
#[derive(Debug)]
struct Scan {
    entries: VecDeque<Entry>,
    told: VecDeque<Known>,
    now: Vec<Known>,
    moment: Moment,
}

struct Watch {
    state: ResourceState,
    resource: Resource,
    selection: Arc<Selection>,
    output: Output,
    store_changes: watch::Receiver<u64>,
    object_changes: watch::Receiver<u64>,
    /// Ordered by namespace and name.
    known: Vec<Known>,
    scan: Option<Scan>,
    bookmarks: bool,
    initial_bookmark: bool,
    next_bookmark: Instant,
    next_look: Instant,
    /// Whether nothing was looked at yet.
    is_new: bool,
    /// Where the client wants to go on from.
    resource_version: Option<u64>,
    /// Whether it wants to be told what there is.
    initial_events: bool,
    deadline: Instant,
    over: bool,
    _permit: OwnedSemaphorePermit,
}

impl Watch {
    /// Settles what the client knows already; gives the event that ends the watch if that cannot
    /// be told.
    async fn begin(&mut self) -> Result<Option<Bytes>, Status> {
        if self.initial_events {
            return Ok(None);
        }
        let revision = self.state.store.revision().current();
        let now_ms = self.state.clock.now();
        let since = self.resource_version.unwrap_or(revision);
        let complete_since = self
            .state
            .store
            .complete_since(self.resource, now_ms)
            .max(self.state.objects.complete_since(self.resource));
        // A replica whose clock is ahead gives versions that ours only come to later: what ends until then would never be told.
        let is_known = complete_since <= since && since <= revision;
        if self.resource_version.is_some() && !is_known {
            self.over = true;
            let status = Status::expired(format!(
                "too old resource version: {since} ({})",
                complete_since.max(revision)
            ));
            return Ok(Some(self.error(&status)));
        }
        let entries = self.state.select(self.resource, &self.selection, now_ms).await?;
        let known = entries.iter().map(|entry| {
            let mut known = Known::of(entry);
            if entry.revision() > since {
                // Differs from any measurement, so that it is told as modified.
                known.window_ms = 0;
            }
            known
        });
        self.known = known.collect();
        Ok(None)
    }

    /// The next events; nothing at the end of the watch.
    async fn next_piece(&mut self) -> Option<Bytes> {
        loop {
            if self.over {
                return None;
            }
            let mut piece = Vec::new();
            if let Some(mut scan) = self.scan.take() {
                if self.advance(&mut scan, &mut piece) {
                    self.end_scan(scan, &mut piece);
                } else {
                    self.scan = Some(scan);
                }
            } else if self.is_new {
                self.is_new = false;
                match self.begin().await {
                    Ok(None) => {}
                    Ok(piece) => return piece,
                    Err(status) => return Some(self.fail(&status)),
                }
                if let Err(status) = self.look().await {
                    return Some(self.fail(&status));
                }
            } else {
                if !self.wait().await {
                    return None;
                }
                if let Err(status) = self.look().await {
                    return Some(self.fail(&status));
                }
            }
            if !piece.is_empty() {
                return Some(piece.into());
            }
        }
    }

    fn end_scan(&mut self, scan: Scan, piece: &mut Vec<u8>) {
        self.known = scan.now;
        if std::mem::take(&mut self.initial_bookmark) {
            self.bookmark(piece, scan.moment, true);
        } else if self.bookmarks && self.next_bookmark <= Instant::now() {
            self.bookmark(piece, scan.moment, false);
        }
    }

    /// The last event of a watch that cannot go on.
    fn fail(&mut self, status: &Status) -> Bytes {
        self.over = true;
        self.error(status)
    }

    /// Waits until it is worth looking again; whether the watch goes on.
    async fn wait(&mut self) -> bool {
        let rested = tokio::time::sleep_until(self.next_look);
        let ends = tokio::time::sleep_until(self.deadline);
        tokio::pin!(rested, ends);
        tokio::select! {
            () = self.state.closing.cancelled() => return false,
            () = &mut ends => return false,
            () = &mut rested => {}
        }
        let mut look_by = self.next_look + LOOK_MAX;
        if self.bookmarks {
            look_by = look_by.min(self.next_bookmark.max(self.next_look));
        }
        tokio::select! {
            () = self.state.closing.cancelled() => false,
            () = &mut ends => false,
            _ = self.store_changes.changed() => true,
            _ = self.object_changes.changed() => true,
            () = tokio::time::sleep_until(look_by) => true,
        }
    }

    /// Takes a snapshot to compare with what was told.
    async fn look(&mut self) -> Result<(), Status> {
        let began = Instant::now();
        self.store_changes.mark_unchanged();
        self.object_changes.mark_unchanged();
        let revision = self.state.store.revision().current();
        let now_ms = self.state.clock.now();
        let entries = self.state.select(self.resource, &self.selection, now_ms).await?;
        let took = began.elapsed();
        self.next_look = began + PAUSE_MIN.max(took * PAUSE_FACTOR);
        self.scan = Some(Scan {
            now: Vec::with_capacity(entries.len()),
            entries: entries.into(),
            told: std::mem::take(&mut self.known).into(),
            moment: Moment { now_ms, resource_version: Some(revision) },
        });
        Ok(())
    }

    /// Writes events until a piece is full; whether the comparison is done.
    fn advance(&self, scan: &mut Scan, piece: &mut Vec<u8>) -> bool {
        let mut object = Vec::new();
        while piece.len() < PIECE_BYTES {
            let order = match (scan.told.front(), scan.entries.front()) {
                (None, None) => return true,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(told), Some(entry)) => told.cmp_name(entry),
            };
            object.clear();
            if order == Ordering::Less {
                if let Some(gone) = scan.told.pop_front() {
                    self.write_gone(&mut object, &gone, scan.moment);
                    self.frame(piece, "DELETED", &object);
                }
                continue;
            }
            let told = if order == Ordering::Equal { scan.told.pop_front() } else { None };
            let Some(entry) = scan.entries.pop_front() else { return true };
            match told {
                Some(told) if told.is_still(&entry) => scan.now.push(told),
                told => {
                    let event = if told.is_some() { "MODIFIED" } else { "ADDED" };
                    entry.write(&mut object, self.output, scan.moment, false);
                    self.frame(piece, event, &object);
                    scan.now.push(Known::of(&entry));
                }
            }
        }
        false
    }

    /// What is left to say of an object that has no usage any more: which it is, and when it was
    /// last measured.
    fn write_gone(&self, out: &mut Vec<u8>, gone: &Known, moment: Moment) {
        let item = Item {
            namespace: &gone.namespace,
            name: &gone.name,
            resource_version: moment.resource_version,
            created_s: moment.now_ms.div_euclid(1000),
            labels: gone.labels.iter(),
            at_s: gone.at_ms.div_euclid(1000),
            window_ms: gone.window_ms,
            usages: std::iter::empty(),
        };
        self.output.write_object(out, self.resource, &item);
    }

    fn bookmark(&mut self, piece: &mut Vec<u8>, moment: Moment, initial: bool) {
        self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
        let version = moment.resource_version.unwrap_or(0);
        let mut object = Vec::new();
        match self.output {
            Output::Protobuf => {
                protobuf::write_bookmark(&mut object, self.resource, version, initial);
            }
            Output::Json | Output::Yaml | Output::Table(_) => {
                json::write_bookmark(&mut object, self.resource, version, initial);
            }
        }
        self.frame(piece, "BOOKMARK", &object);
    }

    fn error(&self, status: &Status) -> Bytes {
        let mut object = Vec::new();
        match self.output {
            Output::Protobuf => protobuf::write_status(&mut object, status),
            Output::Json | Output::Yaml | Output::Table(_) => object = status.to_json(),
        }
        let mut piece = Vec::new();
        self.frame(&mut piece, "ERROR", object.trim_ascii_end());
        piece.into()
    }

    fn frame(&self, piece: &mut Vec<u8>, event: &str, object: &[u8]) {
        match self.output {
            Output::Protobuf => protobuf::write_frame(piece, event, object),
            Output::Json | Output::Yaml | Output::Table(_) => {
                json::write_frame(piece, event, object);
            }
        }
    }
}
