//! A client as small as HTTP/1.0 allows, over TLS, that shows what a test tells it to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::ServerName;

use super::aggregation::AnyServer;
use super::pki::{Authority, Identity};
use super::tls::provider;
use crate::harness::Answer;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A request over TLS.
#[derive(Clone, Debug, Default)]
pub struct HttpsRequest<'a> {
    /// The name that the server's certificate must be for, and who must have signed it; `None` trusts anyone.
    pub verify: Option<(&'a str, &'a Authority)>,
    /// The client's certificate.
    pub identity: Option<&'a Identity>,
    /// Headers.
    pub headers: &'a [(&'a str, &'a str)],
}

impl HttpsRequest<'_> {
    /// Gets `path` from a server.
    ///
    /// # Errors
    /// What the system or the TLS library said, or that the answer is no HTTP.
    pub fn get(&self, address: SocketAddr, path: &str) -> Result<Answer, String> {
        self.send(address, "GET", path, "")
    }

    /// Sends a request of any method, with a body unless it is empty.
    ///
    /// # Errors
    /// As of [`get`](Self::get).
    pub fn send(
        &self,
        address: SocketAddr,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<Answer, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let stream = TcpStream::connect(address).map_err(|error| text(&error))?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(|error| text(&error))?;
        let name = self.verify.map_or("localhost", |(name, _)| name);
        let name = ServerName::try_from(String::from(name)).map_err(|error| text(&error))?;
        let connection = ClientConnection::new(Arc::new(self.configuration()?), name);
        let mut stream = StreamOwned::new(connection.map_err(|error| text(&error))?, stream);
        let mut request = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\n");
        if !body.is_empty() {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        for (name, value) in self.headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        request.push_str(body);
        stream.write_all(request.as_bytes()).map_err(|error| text(&error))?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).map_err(|error| text(&error))?;
        let answer = String::from_utf8_lossy(&bytes);
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer is no HTTP")?;
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or("no status")?;
        Ok(Answer { status, head: String::from(head), body: String::from(body) })
    }

    fn configuration(&self) -> Result<ClientConfig, String> {
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows the default versions");
        let builder = match self.verify {
            Some((_, authority)) => builder
                .with_root_certificates(RootCertStore { roots: authority.roots().roots.clone() }),
            None => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyServer(algorithms))),
        };
        match self.identity {
            Some(identity) => builder
                .with_client_auth_cert(identity.chain(), identity.key())
                .map_err(|error| error.to_string()),
            None => Ok(builder.with_no_client_auth()),
        }
    }
}
