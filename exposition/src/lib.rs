//! The Prometheus text format 0.0.4, in and out, and the samples of OpenMetrics texts.
//!
//! [`Encoder`] writes metric families into a buffer. [`Parser`] iterates over the [`Entry`]s of a
//! body without allocating: a [`Series`] borrows its text, and decodes its labels only when asked.
//! Nothing here knows targets, series refs or stores.

mod encode;
mod error;
mod kind;
mod number;
mod openmetrics;
mod parse;
mod scan;

pub use encode::{CONTENT_TYPE, Encoder};
pub use error::{ParseError, ParseErrorKind};
pub use kind::MetricKind;
pub use number::FloatError;
pub use openmetrics::OpenMetrics;
pub use parse::{Entry, Parser, Point, Series};
