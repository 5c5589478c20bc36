//! A request body that must arrive in time.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

/// Why a body did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The client took too long.
    #[error("the request body did not arrive in time")]
    TimedOut,
    /// The connection broke.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
}

/// Fails when the last of a body has not come some time after the first was asked for.
#[derive(Debug)]
pub(crate) struct TimedBody {
    body: Incoming,
    timeout: Duration,
    /// Set up when the body is first waited for, so that requests without a body need no timer.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl TimedBody {
    pub(crate) const fn new(body: Incoming, timeout: Duration) -> Self {
        Self { body, timeout, deadline: None }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)));
        }
        let timeout = self.timeout;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        match deadline.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(Err(BodyError::TimedOut))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
