//! The listening side: accept, bound, serve, drain.

use std::convert::Infallible;
use std::future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{Predicate, SizeAbove};
use tower_http::set_header::SetResponseHeaderLayer;

use crate::connection;
use crate::tls::ServerTls;

/// Answers shorter than this many bytes are not worth compressing.
const COMPRESSION_BYTES_MIN: u16 = 1024;
/// Pause after a failed accept: out of descriptors, most likely, so trying at once would only spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How often the files of a certificate are looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// Bounds of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; further ones wait in the kernel's queue.
    pub connections_max: usize,
    /// Time for a client to shake hands over TLS.
    pub handshake_timeout: Duration,
    /// Requests at a time on one HTTP/2 connection.
    pub streams_max: u32,
    /// Time for a client to send the headers of a request, and to stay idle between requests.
    pub header_read_timeout: Duration,
    /// Bytes of headers of a request; at least 8 KiB are allowed.
    pub header_bytes_max: usize,
    /// Bytes of the body of a request.
    pub body_bytes_max: usize,
    /// Time for a client to send the body of a request.
    pub body_read_timeout: Duration,
    /// Time for open requests to finish once the server stops.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 512,
            handshake_timeout: Duration::from_secs(10),
            streams_max: 100,
            header_read_timeout: Duration::from_secs(30),
            header_bytes_max: 64 << 10,
            body_bytes_max: 32 << 20,
            body_read_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(15),
        }
    }
}

/// Why a listener does not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address as given.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Listens on `address` (`host:port`; an empty host stands for all interfaces, as in Go).
///
/// # Errors
/// [`HttpError::Bind`] names the address.
pub async fn bind(address: &str) -> Result<TcpListener, HttpError> {
    let all = address.strip_prefix(':').map(|port| format!("0.0.0.0:{port}"));
    let resolved = all.as_deref().unwrap_or(address);
    TcpListener::bind(resolved)
        .await
        .map_err(|source| HttpError::Bind { address: String::from(address), source })
}

/// Serves `router` on `listener` by HTTP/1.1 until `shutdown` is cancelled, then lets open requests finish.
///
/// Answers are compressed for clients that ask for it; a handler that panics answers 500.
///
/// # Errors
/// None today: failures of single connections are logged. The type leaves room for a listener that breaks.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) -> Result<(), HttpError> {
    accept_all(listener, None, layered(router, limits), limits, shutdown, future::pending()).await;
    Ok(())
}

/// Like [`serve`], over TLS: HTTP/2 where the client offers it, HTTP/1.1 otherwise. Requests of clients that presented
/// certificates carry [`PeerCertificates`](crate::PeerCertificates).
///
/// The certificate's files are looked at every few seconds; a change that is unusable is logged and the old one stays.
///
/// # Errors
/// None today, as with [`serve`].
pub async fn serve_tls(
    listener: TcpListener,
    tls: ServerTls,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) -> Result<(), HttpError> {
    let acceptor = tls.acceptor();
    let app = layered(router, limits);
    accept_all(listener, Some(acceptor), app, limits, shutdown, keep_reloading(tls)).await;
    Ok(())
}

async fn keep_reloading(tls: ServerTls) {
    loop {
        tokio::time::sleep(RELOAD_INTERVAL).await;
        let tls = tls.clone();
        match tokio::task::spawn_blocking(move || tls.reload()).await {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => tracing::info!("serving a changed certificate"),
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot use the changed certificate, the old one stays");
            }
            Err(error) => tracing::warn!(%error, "cannot look for a changed certificate"),
        }
    }
}

/// `meanwhile` runs beside, for as long as connections are accepted.
pub(crate) async fn accept_all(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    app: Router,
    limits: Limits,
    shutdown: CancellationToken,
    meanwhile: impl Future<Output = ()>,
) {
    let slots = Arc::new(Semaphore::new(limits.connections_max.clamp(1, Semaphore::MAX_PERMITS)));
    let cut_off = CancellationToken::new();
    // Each connection holds a sender, so that the receiver ends with the last of them.
    let (open, mut all_closed) = mpsc::channel::<Infallible>(1);
    let mut meanwhile = pin!(meanwhile);
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted,
            () = &mut meanwhile => continue,
        };
        match accepted {
            Ok((stream, slot)) => {
                let conversation = connection::converse(
                    stream,
                    tls.clone(),
                    app.clone(),
                    limits,
                    shutdown.clone(),
                );
                let (cut_off, open) = (cut_off.clone(), open.clone());
                tokio::spawn(async move {
                    if let Some(Err(error)) = cut_off.run_until_cancelled(conversation).await {
                        tracing::debug!(%error, "connection ended early");
                    }
                    drop((slot, open));
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    drop((listener, open));
    if tokio::time::timeout(limits.drain_timeout, all_closed.recv()).await.is_err() {
        tracing::warn!(waited = ?limits.drain_timeout, "requests are still open and are cut off");
    }
    cut_off.cancel();
}

/// Waits for a free slot, then for a connection: what is too many stays in the kernel's queue.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, slot))
}

/// An extension of an answer that is not to be compressed: one that goes on for long, whose parts must not wait in the
/// compressor for more to come.
#[derive(Clone, Copy, Debug)]
pub struct Uncompressed;

fn may_compress(_: StatusCode, _: Version, _: &HeaderMap, extensions: &Extensions) -> bool {
    extensions.get::<Uncompressed>().is_none()
}

fn layered(router: Router, limits: Limits) -> Router {
    let nosniff = (header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    let no_frames = (header::X_FRAME_OPTIONS, "DENY");
    let set = |(name, value): (HeaderName, &'static str)| {
        SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
    };
    router
        .layer(DefaultBodyLimit::max(limits.body_bytes_max))
        .layer(
            // The lowest level is several times as fast and costs little on repetitive JSON.
            CompressionLayer::new()
                .quality(CompressionLevel::Fastest)
                .compress_when(SizeAbove::new(COMPRESSION_BYTES_MIN).and(may_compress)),
        )
        .layer(CatchPanicLayer::new())
        .layer(set(nosniff))
        .layer(set(no_frames))
}

#[cfg(test)]
mod tests {
    use axum::Extension;
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn start(
        router: Router,
        limits: Limits,
    ) -> (std::net::SocketAddr, CancellationToken, tokio::task::JoinHandle<Result<(), HttpError>>)
    {
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(serve(listener, router, limits, shutdown.clone()));
        (address, shutdown, served)
    }

    async fn ask(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let first = bind("127.0.0.1:0").await.unwrap();
        let address = first.local_addr().unwrap().to_string();
        let error = bind(&address).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot listen on {address}: ")), "{error}");
    }

    #[tokio::test]
    async fn answers_carry_headers_and_panics_are_500() {
        let router = Router::new()
            .route("/fine", get(|| async { "fine" }))
            .route("/bug", get(|| async { if true { panic!("a bug") } else { "" } }));
        let (address, shutdown, served) = start(router, Limits::default()).await;
        let fine = ask(address, "GET /fine HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(fine.starts_with("HTTP/1.1 200 OK") && fine.ends_with("fine"), "{fine}");
        assert!(fine.contains("x-content-type-options: nosniff"), "{fine}");
        let bug = ask(address, "GET /bug HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(bug.starts_with("HTTP/1.1 500"), "{bug}");
        shutdown.cancel();
        served.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_client_that_sends_no_headers_is_cut_off() {
        let limits = Limits { header_read_timeout: Duration::from_millis(20), ..Limits::default() };
        let (address, _shutdown, _served) = start(Router::new(), limits).await;
        let answer = ask(address, "GET / HT").await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }

    #[tokio::test]
    async fn open_requests_finish_before_the_server_ends() {
        let (release, released) = tokio::sync::watch::channel(false);
        let (entered, mut inside) = tokio::sync::mpsc::channel(1);
        let slow = move || {
            let (mut released, entered) = (released.clone(), entered.clone());
            async move {
                entered.send(()).await.unwrap();
                released.wait_for(|done| *done).await.unwrap();
                "done"
            }
        };
        let (address, shutdown, served) =
            start(Router::new().route("/", get(slow)), Limits::default()).await;
        let client =
            tokio::spawn(async move { ask(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await });
        inside.recv().await.unwrap();
        shutdown.cancel();
        release.send(true).unwrap();
        let answer = client.await.unwrap();
        assert!(answer.ends_with("done"), "{answer}");
        served.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn requests_that_do_not_finish_are_cut_off() {
        let limits = Limits { drain_timeout: Duration::from_millis(20), ..Limits::default() };
        let (entered, mut inside) = tokio::sync::mpsc::channel(1);
        let hangs = move || {
            let entered = entered.clone();
            async move {
                entered.send(()).await.unwrap();
                std::future::pending::<()>().await;
            }
        };
        let (address, shutdown, served) = start(Router::new().route("/", get(hangs)), limits).await;
        let client =
            tokio::spawn(async move { ask(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await });
        inside.recv().await.unwrap();
        shutdown.cancel();
        served.await.unwrap().unwrap();
        assert_eq!(client.await.unwrap(), "");
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_wait_their_turn() {
        let limits = Limits { connections_max: 1, ..Limits::default() };
        let (address, _shutdown, _served) =
            start(Router::new().route("/", get(|| async { "fine" })), limits).await;
        let first = TcpStream::connect(address).await.unwrap();
        let mut waiting = tokio::spawn(async move {
            ask(address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await
        });
        let early = tokio::time::timeout(Duration::from_millis(200), &mut waiting).await;
        assert!(early.is_err(), "answered while the first is open: {early:?}");
        drop(first);
        assert!(waiting.await.unwrap().ends_with("fine"));
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_fails_the_request() {
        let limits = Limits { body_read_timeout: Duration::from_millis(20), ..Limits::default() };
        let router = Router::new().route("/", post(|body: String| async move { body }));
        let (address, _shutdown, _served) = start(router, limits).await;
        let answer = ask(address, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc");
        let answer = answer.await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }

    #[tokio::test]
    async fn large_answers_are_compressed_for_those_who_ask() {
        let router = Router::new().route("/", get(|| async { "x".repeat(2_000) }));
        let (address, _shutdown, _served) = start(router, Limits::default()).await;
        let request = |headers: &str| {
            format!("GET / HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n")
        };
        let plain = ask(address, &request("")).await;
        assert!(plain.len() > 2_000 && !plain.contains("content-encoding"), "{plain}");
        let packed = ask(address, &request("Accept-Encoding: gzip\r\n")).await;
        assert!(packed.len() < 1_000 && packed.contains("content-encoding: gzip"), "{packed}");
        assert!(packed.contains("vary: accept-encoding"), "{packed}");
        let router = Router::new()
            .route("/", get(|| async { (Extension(Uncompressed), "x".repeat(2_000)) }));
        let (address, _shutdown, _served) = start(router, Limits::default()).await;
        let whole = ask(address, &request("Accept-Encoding: gzip\r\n")).await;
        assert!(whole.len() > 2_000 && !whole.contains("content-encoding"), "{whole}");
    }
}
