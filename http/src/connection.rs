//! One connection: the handshake, then requests until either side ends it.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service as HyperService;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::guarded_body::GuardedBody;
use crate::listener::Limits;
use crate::timed_body::TimedBody;
use crate::tls::PeerCertificates;

/// The smallest buffer that hyper works with.
const HEADER_BYTES_MIN: usize = 8 << 10;
/// How often an HTTP/2 client is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long it may take to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// Answers that wait to be written, per HTTP/2 stream.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// Why a connection ended other than by agreement.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("TLS handshake: {0}")]
    Handshake(io::Error),
    #[error("TLS handshake: the client took too long")]
    HandshakeTimedOut,
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("an idle HTTP/2 client did not close in time")]
    NotClosed,
}

/// Serves one connection until it ends; once `stop` is cancelled, open requests finish and no further ones are taken.
pub(crate) async fn converse(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    app: Router,
    limits: Limits,
    stop: CancellationToken,
) -> Result<(), ConnectionError> {
    // Small answers must not wait for an acknowledgement of the previous one.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot disable Nagle's algorithm");
    }
    let Some(tls) = tls else {
        return serve_http1(stream, service(app, None, limits), limits, stop).await;
    };
    let stream = tokio::time::timeout(limits.handshake_timeout, tls.accept(stream))
        .await
        .map_err(|_| ConnectionError::HandshakeTimedOut)?
        .map_err(ConnectionError::Handshake)?;
    let (_, session) = stream.get_ref();
    let presented = session.peer_certificates().map(|chain| {
        PeerCertificates(chain.iter().map(|one| one.clone().into_owned()).collect::<Arc<[_]>>())
    });
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    let service = service(app, presented, limits);
    if is_http2 {
        serve_http2(stream, service, limits, stop).await
    } else {
        serve_http1(stream, service, limits, stop).await
    }
}

trait Serve:
    HyperService<
        Request<Incoming>,
        Response = Response<Body>,
        Error = Infallible,
        Future: Send + 'static,
    > + Clone
{
}

impl<S> Serve for S where
    S: HyperService<
            Request<Incoming>,
            Response = Response<Body>,
            Error = Infallible,
            Future: Send + 'static,
        > + Clone
{
}

fn service(app: Router, presented: Option<PeerCertificates>, limits: Limits) -> impl Serve {
    let timeout = limits.body_read_timeout;
    TowerToHyperService::new(app.map_request(move |mut request: Request<Incoming>| {
        if let Some(presented) = &presented {
            request.extensions_mut().insert(presented.clone());
        }
        request.map(|body| Body::new(TimedBody::new(body, timeout)))
    }))
}

async fn serve_http1(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    service: impl Serve,
    limits: Limits,
    stop: CancellationToken,
) -> Result<(), ConnectionError> {
    let connection = http1::Builder::new()
        // Without a timer the timeout below would silently not exist.
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read_timeout)
        .max_buf_size(limits.header_bytes_max.max(HEADER_BYTES_MIN))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        ended = &mut connection => return Ok(ended?),
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

async fn serve_http2(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    service: impl Serve,
    limits: Limits,
    stop: CancellationToken,
) -> Result<(), ConnectionError> {
    let (requests, open) = watch::channel(0);
    let service = Counting { service, requests };
    let header_bytes_max = limits.header_bytes_max.max(HEADER_BYTES_MIN);
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(u32::try_from(header_bytes_max).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        ended = &mut connection => Ok(ended?),
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            Ok(connection.await?)
        }
        // A client that answers pings and asks nothing would otherwise hold its slot for ever.
        () = idle_for(open, limits.header_read_timeout) => {
            connection.as_mut().graceful_shutdown();
            let closed = tokio::time::timeout(limits.drain_timeout, connection).await;
            Ok(closed.map_err(|_| ConnectionError::NotClosed)??)
        }
    }
}

/// Ends when no request has been open for `timeout`.
async fn idle_for(mut open: watch::Receiver<usize>, timeout: Duration) {
    loop {
        if open.wait_for(|count| *count == 0).await.is_err() {
            return;
        }
        // Any change counts: a request may begin and be over before this is polled.
        match tokio::time::timeout(timeout, open.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

/// Counts the requests whose answers are not over yet.
#[derive(Clone)]
struct Counting<S> {
    service: S,
    requests: watch::Sender<usize>,
}

impl<S: Serve> HyperService<Request<Incoming>> for Counting<S> {
    type Response = Response<GuardedBody<Counted>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let counted = Counted::new(self.requests.clone());
        let answer = self.service.call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| GuardedBody::new(body, counted))) })
    }
}

/// An answer that is not over.
struct Counted(watch::Sender<usize>);

impl Counted {
    fn new(requests: watch::Sender<usize>) -> Self {
        requests.send_modify(|count| *count += 1);
        Self(requests)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_over_at_once_is_a_sign_of_life() {
        let timeout = Duration::from_secs(10);
        let (requests, open) = watch::channel(0);
        let idle = tokio::spawn(idle_for(open, timeout));
        tokio::time::sleep(Duration::from_secs(9)).await;
        drop(Counted::new(requests.clone()));
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert!(!idle.is_finished());
        let long = Counted::new(requests.clone());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!idle.is_finished());
        drop(long);
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert!(idle.is_finished());
    }
}
