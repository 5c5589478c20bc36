//! A server behind the aggregation layer that answers what a test wants and remembers what it was asked.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Request, Response};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::access::User;
use super::listener::{self, Body, BoxError, Connection, full, response, streamed};
use super::pki::Identity;
use super::tls;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The path and the query.
    pub uri: String,
    /// The headers, names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// Whom the client certificate names; it is not verified here.
    pub client: Option<String>,
}

impl Seen {
    /// The values of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Vec<&str> {
        let values = self.headers.iter().filter(|(header, _)| header == name);
        values.map(|(_, value)| value.as_str()).collect()
    }
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
    /// Whether the body goes on for ever, without another byte.
    pub endless: bool,
}

type Respond = dyn Fn(&Seen) -> Reply + Send + Sync;

/// A running server. It stops when dropped.
pub struct ExtensionServer {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    runtime: Option<Runtime>,
    _cut: watch::Sender<u64>,
}

impl fmt::Debug for ExtensionServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExtensionServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl ExtensionServer {
    /// Starts a server that shows `identity` and answers with `respond`.
    ///
    /// # Panics
    /// If it cannot listen.
    #[must_use]
    pub fn start(
        identity: &Identity,
        respond: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("the system has threads");
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listener = listener.expect("loopback has a port");
        let address = listener.local_addr().expect("it listens");
        let tls = Arc::new(tls::server(identity));
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let respond: Arc<Respond> = Arc::new(respond);
        let log = seen.clone();
        let cut = watch::Sender::new(0);
        runtime.spawn(listener::serve(
            listener,
            move |_| Some(tls.clone()),
            move |connection, request| {
                let (respond, log) = (respond.clone(), log.clone());
                async move {
                    let seen = seen_of(&connection, &request);
                    let reply = respond(&seen);
                    log.lock().push(seen);
                    Ok(send(reply))
                }
            },
            cut.subscribe(),
        ));
        Self { address, seen, runtime: Some(runtime), _cut: cut }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }
}

impl Drop for ExtensionServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn seen_of(connection: &Connection, request: &Request<Incoming>) -> Seen {
    let headers = request.headers().iter();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Seen {
        uri: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: headers.map(|(name, value)| (String::from(name.as_str()), text(value))).collect(),
        client: connection.certificates.first().and_then(User::of_certificate).map(|u| u.name),
    }
}

fn send(reply: Reply) -> Response<Body> {
    let body = if reply.endless {
        let first = stream::iter([Ok::<_, BoxError>(Bytes::from(reply.body))]);
        streamed(first.chain(stream::pending()))
    } else {
        full(reply.body)
    };
    let mut response = response(reply.status, "application/json", body);
    for (name, value) in reply.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}
