//! Objects and lists of them.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use metrics_api::table::Table;
use metrics_api::{GroupResource, Resource, Status, json, protobuf, yaml};

use super::ResourceState;
use super::output::Output;
use super::snapshot::{Entry, Moment, Selection};

/// A list is written in pieces of at least this size.
const PIECE_BYTES: usize = 64 << 10;

/// Answers with the selected objects.
///
/// # Errors
/// 500: selecting failed.
pub(super) async fn answer(
    state: &ResourceState,
    resource: Resource,
    selection: Selection,
    output: Output,
) -> Result<Response, Status> {
    // Taken first: what changes while objects are collected is told to a watch from here on.
    let revision = state.store.revision().current();
    let now_ms = state.clock.now();
    let entries = state.select(resource, &Arc::new(selection), now_ms).await?;
    state.observe_freshness(&entries, now_ms);
    let list = List::new(resource, entries, output, revision, now_ms);
    let pieces = stream::iter(list.map(Ok::<_, Infallible>));
    let body = Body::from_stream(pieces);
    Ok(([(header::CONTENT_TYPE, output.media_type())], body).into_response())
}

/// Answers with one object.
///
/// # Errors
/// 404: there is no such node or running pod, or it has no usage.
pub(super) fn answer_one(
    state: &ResourceState,
    resource: Resource,
    namespace: &str,
    name: &str,
    output: Output,
) -> Result<Response, Status> {
    let now_ms = state.clock.now();
    let Some(entry) = state.entry(resource, namespace, name, now_ms) else {
        return Err(missing(state, resource, namespace, name));
    };
    state.observe_freshness(std::slice::from_ref(&entry), now_ms);
    let mut body = Vec::with_capacity(1024);
    entry.write(&mut body, output, Moment { now_ms, resource_version: None }, false);
    if matches!(output, Output::Json | Output::Table(_)) {
        body.push(b'\n');
    }
    Ok(([(header::CONTENT_TYPE, output.media_type())], body).into_response())
}

/// An object that the cluster does not have is missing from upstream's informers, whose words
/// differ from those about one without a usage.
fn missing(state: &ResourceState, resource: Resource, namespace: &str, name: &str) -> Status {
    let core = |resource| GroupResource { group: "", resource };
    match resource {
        Resource::Nodes if state.objects.node(name).is_some() => {
            Status::not_found(resource.missing(), name)
        }
        Resource::Nodes => Status::not_found(core("node"), name),
        Resource::Pods if state.objects.with_pod(namespace, name, |_| ()).is_some() => {
            Status::not_found(resource.missing(), &format!("{namespace}/{name}"))
        }
        Resource::Pods => Status::not_found(core("pods"), name),
    }
}

/// A list that is being written: an iterator over its pieces.
#[derive(Debug)]
pub(super) struct List {
    resource: Resource,
    entries: Vec<Entry>,
    /// The next entry; beyond the last there is the end, and then nothing.
    next: usize,
    output: Output,
    revision: u64,
    moment: Moment,
}

impl List {
    pub(super) fn new(
        resource: Resource,
        entries: Vec<Entry>,
        output: Output,
        revision: u64,
        now_ms: i64,
    ) -> Self {
        let output = match output {
            Output::Table(table) => {
                let has_swap = entries.first().is_some_and(Entry::has_swap);
                Output::Table(Table { has_swap, ..table })
            }
            other => other,
        };
        let moment = Moment { now_ms, resource_version: None };
        Self { resource, entries, next: 0, output, revision, moment }
    }

    fn begin(&self, out: &mut Vec<u8>) {
        match self.output {
            Output::Json => json::begin_list(out, self.resource, self.revision),
            Output::Yaml => yaml::begin_list(out, self.entries.is_empty()),
            Output::Protobuf => {
                let bytes = self.items_len();
                protobuf::begin_list(out, self.resource, self.revision, bytes);
            }
            Output::Table(table) => {
                table.begin(out, Some(self.revision), !self.entries.is_empty());
            }
        }
    }

    /// The length of all items, which the envelope of protobuf gives before them: they are
    /// written twice, since keeping them would take as much memory as the list.
    fn items_len(&self) -> u64 {
        let mut scratch = Vec::with_capacity(1024);
        let mut bytes = 0;
        for entry in &self.entries {
            scratch.clear();
            entry.write(&mut scratch, self.output, self.moment, true);
            bytes += scratch.len() as u64;
        }
        bytes
    }

    fn end(&self, out: &mut Vec<u8>) {
        match self.output {
            Output::Json => json::end_list(out),
            Output::Yaml => yaml::end_list(out, self.resource, self.revision),
            Output::Protobuf => protobuf::end_list(out),
            Output::Table(table) => {
                table.end(out);
                out.push(b'\n');
            }
        }
    }
}

impl Iterator for List {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.next > self.entries.len() {
            return None;
        }
        let mut piece = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 8);
        if self.next == 0 {
            self.begin(&mut piece);
        }
        let separated = matches!(self.output, Output::Json | Output::Table(_));
        while piece.len() < PIECE_BYTES {
            let Some(entry) = self.entries.get(self.next) else {
                self.end(&mut piece);
                self.next += 1;
                break;
            };
            if separated && self.next > 0 {
                piece.push(b',');
            }
            entry.write(&mut piece, self.output, self.moment, true);
            self.next += 1;
        }
        Some(piece.into())
    }
}
