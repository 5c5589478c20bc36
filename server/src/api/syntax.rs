//! `format_query` and `parse_query`: expressions as text and as trees, none evaluated.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use model::{QueryContext, QueryError};
use promql::ast::Expr;

use super::error::{ApiError, Failure};
use super::json;
use super::params::Params;
use super::pretty::pretty;
use crate::state::{Ready, Server};

/// Bytes that the tree of an expression takes for each byte of its text, at most.
const TREE_BYTES_PER_BYTE: usize = 512;

/// What has no more bytes is read in microseconds, sooner than another thread has woken up.
const SHORT_BYTES_MAX: usize = 1 << 10;

/// `format_query`: the expression in canonical form.
pub(super) async fn format(
    State(server): State<Arc<Server>>,
    _: Ready,
    params: Params,
) -> Result<Response, ApiError> {
    respond(&server, &params, |expr, context| json::string_body(&pretty(expr), context)).await
}

/// `parse_query`: the syntax tree of the expression.
pub(super) async fn parse(
    State(server): State<Arc<Server>>,
    _: Ready,
    params: Params,
) -> Result<Response, ApiError> {
    respond(&server, &params, json::tree_body).await
}

/// Reads the expression and answers with what `body` makes of it. That is no work for the threads that all connections share:
/// an expression may have a megabyte.
async fn respond(
    server: &Server,
    params: &Params,
    body: fn(&Expr, &QueryContext) -> Result<Vec<u8>, QueryError>,
) -> Result<Response, ApiError> {
    let query = params.get("query").unwrap_or_default();
    let options = server.parse;
    let answer = move |query: &str, context: &QueryContext| {
        let _held = context.budget.charge(query.len().saturating_mul(TREE_BYTES_PER_BYTE))?;
        let expr =
            promql::parse(query, &options).map_err(|error| ApiError::parameter("query", error))?;
        Ok::<_, Failure>(body(&expr, context)?)
    };
    if query.len() <= SHORT_BYTES_MAX {
        return Ok(json::response(server.queries.run_at_once(|context| answer(query, context))?));
    }
    let query = String::from(query);
    let answer = server.queries.run(None, move |turn| answer(&query, &turn.context));
    Ok(json::response(answer.await?))
}
