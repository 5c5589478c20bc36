//! Kubelets: one listener that is another node's at each address of 127.0.0.0/8.

use std::fmt;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, header};
use model::{Clock, SystemClock};
use parking_lot::Mutex;
use rcgen::KeyPair;
use rustls::ServerConfig;
use rustls::server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::access::{Access, Action, User};
use super::listener::{self, Aborted, Body, BoxError, Connection, full, response, streamed};
use super::node::{Behaviour, NodeUse, write_metrics};
use super::pki::{Pki, Subject};
use super::tls::{self, ClientAuthority};

/// The kubelet's content type.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// The second number of the first node's address; 127.0.0.1 is left to others.
const FIRST_BLOCK: usize = 10;

/// Most nodes: one per address from [`FIRST_BLOCK`] on.
const NODES_MAX: usize = (256 - FIRST_BLOCK) << 16;

struct Node {
    usage: Mutex<NodeUse>,
    tls: OnceLock<Arc<ServerConfig>>,
}

struct Shared {
    nodes: Vec<Node>,
    pki: Arc<Pki>,
    access: Arc<Access>,
    clients: ClientAuthority,
    /// All nodes have one key: what tests look at are names and authorities.
    key: KeyPair,
    tickets: Arc<dyn ProducesTickets>,
    sessions: Arc<dyn StoresServerSessions>,
    connections: AtomicU64,
}

/// Running kubelets. They stop when dropped.
pub struct Kubelets {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
    port: u16,
    cut: watch::Sender<u64>,
}

impl fmt::Debug for Kubelets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = self.shared.nodes.len();
        f.debug_struct("Kubelets").field("port", &self.port).field("nodes", &nodes).finish()
    }
}

impl Kubelets {
    /// Starts a kubelet for each of `nodes`, all on `port` (0 is any) and each on an address of its own.
    ///
    /// # Panics
    /// If it cannot listen, or there are more nodes than addresses.
    #[must_use]
    pub fn start(nodes: Vec<NodeUse>, port: u16, pki: Arc<Pki>, access: Arc<Access>) -> Self {
        assert!(nodes.len() < NODES_MAX, "{} nodes, at most {NODES_MAX}", nodes.len());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("kubelets")
            .enable_all()
            .build()
            .expect("the system has threads");
        // The kernel delivers what is for 127.0.0.0/8 from this machine alone; other addresses are turned away below.
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)));
        let listener = listener.expect("the port is free");
        let port = listener.local_addr().expect("it listens").port();
        let nodes = nodes
            .into_iter()
            .map(|usage| Node { usage: Mutex::new(usage), tls: OnceLock::new() })
            .collect();
        let shared = Arc::new(Shared {
            nodes,
            clients: ClientAuthority::new(pki.client.roots()),
            pki,
            access,
            key: KeyPair::generate().expect("the system has random numbers"),
            tickets: rustls::crypto::ring::Ticketer::new().expect("the system has random numbers"),
            sessions: ServerSessionMemoryCache::new(256),
            connections: AtomicU64::new(0),
        });
        let cut = watch::Sender::new(0);
        let (of_tls, of_requests) = (shared.clone(), shared.clone());
        runtime.spawn(listener::serve(
            listener,
            move |local| of_tls.tls(local),
            move |connection, request| of_requests.clone().handle(connection, request),
            cut.subscribe(),
        ));
        Self { shared, runtime: Some(runtime), port, cut }
    }

    /// The port of all.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of the node with this index.
    ///
    /// # Panics
    /// Never: there are no more nodes than addresses.
    #[must_use]
    pub fn address(index: usize) -> IpAddr {
        let number = index + 1;
        let octet = |shift: usize| u8::try_from((number >> shift) & 0xff).expect("masked");
        let block = u8::try_from(FIRST_BLOCK + (number >> 16)).expect("not so many nodes");
        Ipv4Addr::new(127, block, octet(8), octet(0)).into()
    }

    /// How many nodes there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.nodes.len()
    }

    /// Looks at, or changes, the node with this index.
    ///
    /// # Panics
    /// If there is none.
    pub fn edit<T>(&self, index: usize, edit: impl FnOnce(&mut NodeUse) -> T) -> T {
        edit(&mut self.shared.nodes[index].usage.lock())
    }

    /// Changes every node.
    pub fn edit_all(&self, mut edit: impl FnMut(&mut NodeUse)) {
        for node in &self.shared.nodes {
            edit(&mut node.usage.lock());
        }
    }

    /// How many connections were opened to the nodes so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Closes all connections.
    pub fn close_connections(&self) {
        self.cut.send_modify(|cut| *cut += 1);
    }
}

impl Drop for Kubelets {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn node(&self, local: SocketAddr) -> Option<(usize, &Node)> {
        let IpAddr::V4(address) = local.ip() else { return None };
        let [127, block, high, low] = address.octets() else { return None };
        let block = usize::from(block).checked_sub(FIRST_BLOCK)?;
        let number = block << 16 | usize::from(high) << 8 | usize::from(low);
        let index = number.checked_sub(1)?;
        Some((index, self.nodes.get(index)?))
    }

    /// The configuration of the node at an address, made when first asked for; `None` closes the connection.
    fn tls(&self, local: SocketAddr) -> Option<Arc<ServerConfig>> {
        let (index, node) = self.node(local)?;
        let name = {
            let usage = node.usage.lock();
            if matches!(usage.behaviour, Behaviour::Refuse) {
                return None;
            }
            usage.name.clone()
        };
        self.connections.fetch_add(1, Ordering::Relaxed);
        let configuration = node.tls.get_or_init(|| {
            let subject = Subject {
                common_name: &format!("system:node:{name}"),
                organizations: &["system:nodes"],
                dns_names: &[&name],
                addresses: &[Kubelets::address(index)],
                expired: false,
            };
            let mut configuration = tls::server(&self.pki.kubelet.issue_for(&subject, &self.key));
            configuration.ticketer = self.tickets.clone();
            configuration.session_storage = self.sessions.clone();
            Arc::new(configuration)
        });
        Some(configuration.clone())
    }

    async fn handle(
        self: Arc<Self>,
        connection: Arc<Connection>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Aborted> {
        let (_, node) = self.node(connection.local).ok_or(Aborted)?;
        let (name, behaviour) = {
            let usage = node.usage.lock();
            (usage.name.clone(), usage.behaviour.clone())
        };
        match behaviour {
            Behaviour::Refuse => return Err(Aborted),
            Behaviour::Hang => std::future::pending().await,
            _ => {}
        }
        if let Some(refusal) = self.refusal(&name, &connection, &request) {
            return Ok(refusal);
        }
        if request.method() != Method::GET || request.uri().path() != "/metrics/resource" {
            return Ok(plain(404, "404 page not found\n"));
        }
        let mut text = Vec::with_capacity(32 * 1024);
        {
            let mut usage = node.usage.lock();
            usage.scrapes += 1;
            write_metrics(&usage, SystemClock.now(), &mut text);
        }
        Ok(match behaviour {
            Behaviour::Status(status) => plain(status, "failed on demand\n"),
            Behaviour::Garbage(bytes) => response(200, CONTENT_TYPE, full(bytes)),
            Behaviour::Oversize(bytes) => response(200, CONTENT_TYPE, padded(text, bytes)),
            Behaviour::Drip(bytes, pause) => response(200, CONTENT_TYPE, drip(text, bytes, pause)),
            _ => metrics(&request, text),
        })
    }

    /// The answer to somebody who may not read the metrics of a node; who may `get` its `nodes/metrics` may.
    fn refusal(
        &self,
        node: &str,
        connection: &Connection,
        request: &Request<Incoming>,
    ) -> Option<Response<Body>> {
        let authorization = request.headers().get(header::AUTHORIZATION);
        let authorization = authorization.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let user = if self.clients.issued(&connection.certificates) {
            User::of_certificate(&connection.certificates[0])
        } else {
            authorization.strip_prefix("Bearer ").and_then(|t| self.access.user_of_token(t))
        };
        let Some(user) = user else { return Some(plain(401, "Unauthorized")) };
        let action = Action {
            verb: String::from("get"),
            resource: String::from("nodes/metrics"),
            name: String::from(node),
            ..Action::default()
        };
        if self.access.allows(&user, &action) {
            return None;
        }
        let name = &user.name;
        let why = format!(
            "Forbidden (user={name}, verb=get, resource=nodes, subresource(s)=[metrics])\n"
        );
        Some(plain(403, &why))
    }
}

fn plain(status: u16, text: &str) -> Response<Body> {
    response(status, "text/plain; charset=utf-8", full(String::from(text)))
}

fn metrics(request: &Request<Incoming>, text: Vec<u8>) -> Response<Body> {
    let accepted = request.headers().get(header::ACCEPT_ENCODING);
    if !accepted.is_some_and(|accepted| accepted.as_bytes().windows(4).any(|w| w == b"gzip")) {
        return response(200, CONTENT_TYPE, full(text));
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let encoded = encoder.write_all(&text).and_then(|()| encoder.finish());
    let mut response =
        response(200, CONTENT_TYPE, full(encoded.expect("memory takes all that is written")));
    let gzip = header::HeaderValue::from_static("gzip");
    response.headers_mut().insert(header::CONTENT_ENCODING, gzip);
    response
}

/// `text`, then comments, `bytes` in all.
fn padded(text: Vec<u8>, bytes: u64) -> Body {
    let padding = Bytes::from(format!("# {}\n", "x".repeat(4093)));
    let left = bytes.saturating_sub(text.len() as u64);
    let count = usize::try_from(left.div_ceil(4096)).unwrap_or(usize::MAX);
    let chunks = std::iter::once(Bytes::from(text)).chain(std::iter::repeat_n(padding, count));
    streamed(stream::iter(chunks.map(Ok::<_, BoxError>)))
}

fn drip(text: Vec<u8>, bytes: usize, pause: Duration) -> Body {
    let rest = Bytes::from(text);
    streamed(stream::unfold(rest, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(pause).await;
        let drop = rest.split_to(bytes.clamp(1, rest.len()));
        Some((Ok(drop), rest))
    }))
}
