//! One GET over a connection that is kept between scrapes.
//!
//! A handshake costs about as much as the rest of a scrape, so connections are kept. hyper's buffers are not: between two
//! requests only the socket and the TLS session stay, since buffers of thousands of idle connections would outweigh the data.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, Request, StatusCode, Version, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::decode::{Decoder, Report};
use super::{Endpoint, KubeletError};
use crate::store::NodeBatch;

/// Bytes of the body of an answer: three hundred times what a full node sends.
pub const BODY_BYTES_MAX: usize = 16 << 20;
/// Bytes of the answer to a refused request that are read, to quote them.
const REFUSAL_BYTES_MAX: usize = 256;
/// hyper's read buffer: a few TLS records.
const READ_BUFFER_BYTES: usize = 64 << 10;

/// A connection between two requests.
#[derive(Debug)]
pub enum Idle {
    /// Without encryption.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// How a kubelet is asked.
#[derive(Clone, Debug)]
pub struct Ask {
    /// `None` asks without encryption.
    pub tls: Option<Arc<ClientConfig>>,
    /// The value of the `Authorization` header.
    pub authorization: Option<HeaderValue>,
    /// Time for the whole: connecting, handshake, all of the body.
    pub timeout: Duration,
    /// Whether loopback addresses are asked.
    pub allow_loopback: bool,
}

/// What a kubelet said.
#[derive(Debug)]
pub struct Answer {
    /// The points.
    pub batch: NodeBatch,
    /// What was wrong with the body.
    pub report: Report,
    /// The connection, if it can be used again.
    pub idle: Option<Idle>,
}

impl Ask {
    /// Asks `endpoint`, over `idle` if that still works. `request_ms` is now, in milliseconds since the epoch.
    ///
    /// # Errors
    /// [`KubeletError`]
    pub async fn send(
        &self,
        endpoint: &Endpoint,
        idle: Option<Idle>,
        request_ms: i64,
    ) -> Result<Answer, KubeletError> {
        let whole = async {
            if let Some(idle) = idle {
                match self.over(idle, endpoint, request_ms).await {
                    // The kubelet closed it meanwhile, which says nothing about the kubelet.
                    Err(KubeletError::Connection { .. }) => {}
                    outcome => return outcome,
                }
            }
            self.over(self.connect(endpoint).await?, endpoint, request_ms).await
        };
        let timeout = KubeletError::Timeout { timeout: self.timeout };
        tokio::time::timeout(self.timeout, whole).await.map_err(|_| timeout)?
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<Idle, KubeletError> {
        let addresses = endpoint.resolve(self.allow_loopback).await?;
        let failed = |source| KubeletError::Connect { authority: endpoint.authority(), source };
        let stream = TcpStream::connect(&*addresses).await.map_err(failed)?;
        // A request is one small write; nothing is gained from waiting for more.
        stream.set_nodelay(true).map_err(failed)?;
        let Some(tls) = &self.tls else { return Ok(Idle::Plain(stream)) };
        let name = ServerName::try_from(&*endpoint.host)
            .map_err(|_| KubeletError::ServerName { host: endpoint.host.clone() })?;
        let connector = TlsConnector::from(Arc::clone(tls));
        let stream = connector.connect(name.to_owned(), stream).await.map_err(|source| {
            KubeletError::Handshake { authority: endpoint.authority(), source }
        })?;
        Ok(Idle::Tls(Box::new(stream)))
    }

    async fn over(
        &self,
        idle: Idle,
        endpoint: &Endpoint,
        request_ms: i64,
    ) -> Result<Answer, KubeletError> {
        let request = self.request(endpoint)?;
        match idle {
            Idle::Plain(stream) => {
                let (batch, report, stream) = exchange(stream, request, request_ms).await?;
                Ok(Answer { batch, report, idle: stream.map(Idle::Plain) })
            }
            Idle::Tls(stream) => {
                let (batch, report, stream) = exchange(stream, request, request_ms).await?;
                Ok(Answer { batch, report, idle: stream.map(Idle::Tls) })
            }
        }
    }

    fn request(&self, endpoint: &Endpoint) -> Result<Request<Empty<Bytes>>, KubeletError> {
        let agent = concat!("sextant-metrics-server/", env!("CARGO_PKG_VERSION"));
        let mut builder = Request::get(&*endpoint.path)
            .header(header::HOST, endpoint.authority())
            .header(header::USER_AGENT, agent)
            .header(header::ACCEPT, "text/plain;version=0.0.4,*/*;q=0.1");
        if let Some(authorization) = &self.authorization {
            builder = builder.header(header::AUTHORIZATION, authorization);
        }
        let malformed = |_| KubeletError::Path { path: endpoint.path.clone() };
        builder.body(Empty::new()).map_err(malformed)
    }
}

/// Sends `request` over `stream` and hands the stream back if it can be used again.
async fn exchange<S>(
    stream: S,
    request: Request<Empty<Bytes>>,
    request_ms: i64,
) -> Result<(NodeBatch, Report, Option<S>), KubeletError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let lost = |source| KubeletError::Connection { source };
    let mut builder = http1::Builder::new();
    builder.max_buf_size(READ_BUFFER_BYTES);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(lost)?;
    let mut connection = pin!(connection.without_shutdown());
    let mut conversation = pin!(async move {
        let response = sender.send_request(request).await.map_err(lost)?;
        // Dropping the sender tells hyper that nothing follows this request.
        drop(sender);
        read(response, request_ms).await
    });
    let mut ended = None;
    let (batch, report, reusable) = loop {
        tokio::select! {
            outcome = &mut conversation => break outcome?,
            parts = &mut connection, if ended.is_none() => ended = Some(parts),
        }
    };
    if !reusable {
        return Ok((batch, report, None));
    }
    let parts = match ended {
        Some(parts) => parts,
        None => connection.await,
    };
    let stream = parts.ok().filter(|parts| parts.read_buf.is_empty()).map(|p| p.io.into_inner());
    Ok((batch, report, stream))
}

/// Reads an answer, and says whether another request may follow on the connection.
async fn read(
    response: axum::http::Response<hyper::body::Incoming>,
    request_ms: i64,
) -> Result<(NodeBatch, Report, bool), KubeletError> {
    let (parts, mut body) = response.into_parts();
    let lost = |source| KubeletError::Connection { source };
    if parts.status != StatusCode::OK {
        return Err(refusal(parts.status, body).await);
    }
    if let Some(encoding) = parts.headers.get(header::CONTENT_ENCODING) {
        let encoding = String::from_utf8_lossy(encoding.as_bytes()).into_owned();
        return Err(KubeletError::Encoding { encoding });
    }
    let mut decoder = Decoder::new(request_ms);
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(lost)?.into_data() else { continue };
        bytes += piece.len();
        if bytes > BODY_BYTES_MAX {
            return Err(KubeletError::BodyTooLarge);
        }
        decoder.push(&piece)?;
    }
    let (batch, report) = decoder.finish()?;
    let closes = parts.headers.get(header::CONNECTION).is_some_and(|value| {
        value.to_str().is_ok_and(|value| value.to_ascii_lowercase().contains("close"))
    });
    Ok((batch, report, parts.version == Version::HTTP_11 && !closes))
}

/// An answer that is not 200, with the start of what it says.
async fn refusal(status: StatusCode, mut body: hyper::body::Incoming) -> KubeletError {
    let mut said = Vec::new();
    while said.len() < REFUSAL_BYTES_MAX
        && let Some(Ok(frame)) = body.frame().await
    {
        if let Ok(piece) = frame.into_data() {
            said.extend_from_slice(&piece);
        }
    }
    said.truncate(REFUSAL_BYTES_MAX);
    let said = String::from_utf8_lossy(&said).trim().replace(char::is_control, " ");
    KubeletError::Status { status, said }
}
