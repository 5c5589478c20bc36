//! `/top/nodes` and `/top/pods`: usage beside what was asked for, allowed and there is, for user interfaces.
//!
//! Not a Kubernetes API: one answer has what a page of nodes or pods shows, so that a browser need not join four lists of
//! the API server. What is not known is `null`; unlike lists of `metrics.k8s.io` these have nodes and pods without usage too.
//! Who may ask is decided by the path, as with `/metrics`.

mod options;
mod rows;

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use metrics_api::{Encoding, Status};
use serde::Serialize;

use super::{ResourceState, respond};
use options::Options;
use rows::{NodeRow, PodRow, rfc3339};

/// A list is written in pieces of at least this size.
const PIECE_BYTES: usize = 64 << 10;

/// Nodes: what they use, what pods may use of them, and what their pods ask for.
pub(super) async fn nodes(State(state): State<ResourceState>, request: Parts) -> Response {
    let answer = async {
        let options = read(&request)?;
        let now_ms = state.clock.now();
        let look = move |state: &ResourceState| {
            let mut rows = state.top_nodes(&options, now_ms);
            options.order(&mut rows, NodeRow::usage);
            rows
        };
        let rows = state.look_through_pods(false, look).await?;
        Ok(written("nodes", now_ms, rows, move |row, out| write(&row.json(now_ms), out)))
    };
    answer.await.unwrap_or_else(|status: Status| respond(&status, Encoding::Json))
}

/// Running pods: what they use, ask for and may use.
pub(super) async fn pods(State(state): State<ResourceState>, request: Parts) -> Response {
    let answer = async {
        let options = read(&request)?;
        let with_containers = options.containers;
        let now_ms = state.clock.now();
        let look = move |state: &ResourceState| {
            let mut rows = state.top_pods(&options, now_ms);
            options.order(&mut rows, PodRow::usage);
            rows
        };
        let rows = state.look_through_pods(false, look).await?;
        Ok(written("pods", now_ms, rows, move |row, out| {
            write(&row.json(now_ms, with_containers), out);
        }))
    };
    answer.await.unwrap_or_else(|status: Status| respond(&status, Encoding::Json))
}

fn read(request: &Parts) -> Result<Options, Status> {
    if request.method != Method::GET {
        return Err(Status::method_not_served());
    }
    Options::parse(request.uri.query().unwrap_or_default())
}

fn write(row: &impl Serialize, out: &mut Vec<u8>) {
    // Neither maps with other keys than text nor a writer that fails.
    let _ = serde_json::to_writer(out, row);
}

/// `{"time": …, NAME: [ROWS]}`, piece by piece.
fn written<R: Send + 'static>(
    name: &'static str,
    now_ms: i64,
    rows: Vec<R>,
    mut write: impl FnMut(&R, &mut Vec<u8>) + Send + 'static,
) -> Response {
    let mut head = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 8);
    head.extend_from_slice(format!("{{\"time\":\"{}\",\"{name}\":[", rfc3339(now_ms)).as_bytes());
    let (mut rows, mut piece, mut is_first) = (rows.into_iter(), Some(head), true);
    let pieces = std::iter::from_fn(move || {
        let mut out = piece.take()?;
        while out.len() < PIECE_BYTES {
            let Some(row) = rows.next() else {
                out.extend_from_slice(b"]}\n");
                return Some(out);
            };
            if !std::mem::take(&mut is_first) {
                out.push(b',');
            }
            write(&row, &mut out);
        }
        piece = Some(Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 8));
        Some(out)
    });
    let pieces = pieces.map(|piece| Ok::<_, Infallible>(Bytes::from(piece)));
    let body = Body::from_stream(stream::iter(pieces));
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

#[cfg(test)]
mod tests;
