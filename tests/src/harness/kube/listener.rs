//! Serves HTTP over TLS on loopback.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer, maybe without an end.
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The connection is to be closed without (the rest of) an answer.
#[derive(Debug)]
pub(crate) struct Aborted;

impl std::fmt::Display for Aborted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("aborted on demand")
    }
}

impl std::error::Error for Aborted {}

/// What is known of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The address that the client connected to.
    pub(crate) local: SocketAddr,
    /// The client's certificates, not verified; the client's own first.
    pub(crate) certificates: Vec<CertificateDer<'static>>,
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

pub(crate) fn streamed(
    chunks: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
) -> Body {
    StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))).boxed_unsync()
}

/// An answer with a content type.
pub(crate) fn response(status: u16, content_type: &str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() =
        hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(value) = header::HeaderValue::from_str(content_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
}

/// Serves connections until the task is dropped; those that are open when `cut` changes are closed.
///
/// `configuration` chooses the certificate by the address that the client connected to; without one the connection is
/// closed at once.
pub(crate) async fn serve<C, H, F>(
    listener: TcpListener,
    configuration: C,
    handle: H,
    cut: watch::Receiver<u64>,
) where
    C: Fn(SocketAddr) -> Option<Arc<ServerConfig>> + Send + Sync + 'static,
    H: Fn(Arc<Connection>, Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Response<Body>, Aborted>> + Send + 'static,
{
    let handle = Arc::new(handle);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: connections that end give some back.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let Ok(local) = stream.local_addr() else { continue };
        let Some(configuration) = configuration(local) else { continue };
        let handle = handle.clone();
        let mut cut = cut.clone();
        cut.mark_unchanged();
        tokio::spawn(async move {
            tokio::select! {
                () = connection(stream, local, configuration, handle) => {}
                _ = cut.changed() => {}
            }
        });
    }
}

async fn connection<H, F>(
    stream: TcpStream,
    local: SocketAddr,
    configuration: Arc<ServerConfig>,
    handle: Arc<H>,
) where
    H: Fn(Arc<Connection>, Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Response<Body>, Aborted>> + Send + 'static,
{
    // Without this, small answers of a kept connection wait for the client's acknowledgement.
    let _ = stream.set_nodelay(true);
    let handshake = TlsAcceptor::from(configuration).accept(stream);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await else { return };
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificates = certificates.iter().map(|c| c.clone().into_owned()).collect();
    let known = Arc::new(Connection { local, certificates });
    let service = service_fn(move |request| handle(known.clone(), request));
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = TokioIo::new(stream);
    // An error is the client's going away or an abort that a test asked for.
    if is_http2 {
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection(stream, service).await;
    } else {
        let builder = hyper::server::conn::http1::Builder::new();
        let _ = builder.serve_connection(stream, service).await;
    }
}
