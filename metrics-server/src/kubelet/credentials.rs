//! What kubelets are shown, and how they are verified: the API server's credentials unless flags say otherwise, as upstream does it.
//!
//! Tokens are read again from where they come from (a ServiceAccount's token changes every hour), client certificates when their
//! files change, and the authority's certificates by the verifier itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, Request, Response, header};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::Empty;
use kube::client::ConfigExt;
use kube::client::middleware::AuthLayer;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tower::{BoxError, Layer, ServiceExt, service_fn};

use super::{Ask, CredentialsError};

/// How long a token or the contents of a file are taken for current.
const CURRENT_FOR: Duration = Duration::from_secs(10);

/// How kubelets are verified and what they are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubeletTls {
    /// Authority of the kubelets' serving certificates; that of the API server if not given.
    pub certificate_authority: Option<PathBuf>,
    /// Our certificate and its key, instead of those for the API server.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// Serving certificates are not verified.
    pub insecure: bool,
    /// Neither encryption nor credentials.
    pub completely_insecure: bool,
}

/// Makes an [`Ask`] that is current.
pub struct Credentials {
    /// The API server's configuration with what flags say instead.
    config: kube::Config,
    authorization: Option<AuthLayer>,
    /// The files of the client certificate, whether a flag or the kubeconfig names them.
    identity_files: Vec<PathBuf>,
    current: Mutex<Current>,
}

struct Current {
    since: Instant,
    ask: Arc<Ask>,
    /// The contents of the files of the client certificate.
    identity: Vec<u8>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Credentials {
    /// Credentials for kubelets, from those for the API server and flags.
    ///
    /// # Errors
    /// [`CredentialsError`], if any of it cannot be read or used.
    pub async fn new(
        api_server: &kube::Config,
        tls: &KubeletTls,
        timeout: Duration,
        allow_loopback: bool,
    ) -> Result<Self, CredentialsError> {
        let mut config = api_server.clone();
        // It names the API server.
        config.tls_server_name = None;
        if let Some(path) = &tls.certificate_authority {
            config.root_cert = Some(certificates(path)?);
            config.root_cert_file = Some(path.clone());
        }
        if tls.insecure {
            config.accept_invalid_certs = true;
        } else if tls.certificate_authority.is_some() {
            config.accept_invalid_certs = false;
        }
        if let Some((certificate, key)) = &tls.client_certificate {
            let auth = &mut config.auth_info;
            auth.client_certificate = Some(certificate.to_string_lossy().into_owned());
            auth.client_key = Some(key.to_string_lossy().into_owned());
            (auth.client_certificate_data, auth.client_key_data) = (None, None);
        }
        let authorization =
            if tls.completely_insecure { None } else { config.auth_layer().map_err(unusable)? };
        let identity_files =
            if tls.completely_insecure { Vec::new() } else { identity_files(&config) };
        let identity = identity(&identity_files)?;
        let client = if tls.completely_insecure { None } else { Some(client_config(&config)?) };
        let authorization_now = authorize(authorization.as_ref()).await?;
        let ask = Arc::new(Ask {
            tls: client,
            authorization: authorization_now,
            timeout,
            allow_loopback,
        });
        Ok(Self {
            config,
            authorization,
            identity_files,
            current: Mutex::new(Current { since: Instant::now(), ask, identity }),
        })
    }

    /// How to ask now. What cannot be read again stays as it was: an old token is worth a try.
    pub async fn ask(&self) -> Arc<Ask> {
        let mut current = self.current.lock().await;
        if current.since.elapsed() >= CURRENT_FOR {
            current.since = Instant::now();
            if let Err(error) = self.renew(&mut current).await {
                tracing::warn!(%error, "credentials for kubelets stay as they were");
            }
        }
        Arc::clone(&current.ask)
    }

    async fn renew(&self, current: &mut Current) -> Result<(), CredentialsError> {
        let authorization = authorize(self.authorization.as_ref()).await?;
        if authorization != current.ask.authorization {
            current.ask = Arc::new(Ask { authorization, ..(*current.ask).clone() });
        }
        let identity = identity(&self.identity_files)?;
        if identity != current.identity && current.ask.tls.is_some() {
            let tls = Some(client_config(&self.config)?);
            current.ask = Arc::new(Ask { tls, ..(*current.ask).clone() });
            current.identity = identity;
            tracing::info!("took up a new client certificate for kubelets");
        }
        Ok(())
    }
}

fn unusable(source: kube::Error) -> CredentialsError {
    CredentialsError::Unusable { source: Box::new(source) }
}

fn client_config(config: &kube::Config) -> Result<Arc<ClientConfig>, CredentialsError> {
    let mut client = config.rustls_client_config().map_err(unusable)?;
    // Connections are kept; when one is lost the kubelet has usually restarted and knows no sessions either. Remembered sessions
    // would hold the certificates of every node.
    client.resumption = Resumption::disabled();
    Ok(Arc::new(client))
}

/// The value that the layer puts into the header of a request.
async fn authorize(layer: Option<&AuthLayer>) -> Result<Option<HeaderValue>, CredentialsError> {
    let Some(layer) = layer else { return Ok(None) };
    let echo = service_fn(|request: Request<Empty<Bytes>>| async move {
        let mut response = Response::new(Empty::<Bytes>::new());
        *response.headers_mut() = request.headers().clone();
        Ok::<_, BoxError>(response)
    });
    // Without a type of its own the compiler does not see that the future of the layers may move between threads.
    let answer: BoxFuture<'static, Result<_, BoxError>> =
        Box::pin(layer.layer(echo).oneshot(Request::new(Empty::new())));
    let mut answer =
        answer.await.map_err(|error| CredentialsError::Token { reason: error.to_string() })?;
    Ok(answer.headers_mut().remove(header::AUTHORIZATION))
}

fn read(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    std::fs::read(path).map_err(|source| CredentialsError::File { path: path.to_owned(), source })
}

/// The files that a certificate and its key come from. What is written in the kubeconfig itself goes before files.
fn identity_files(config: &kube::Config) -> Vec<PathBuf> {
    let auth = &config.auth_info;
    let certificate = auth.client_certificate.as_ref();
    let certificate = certificate.filter(|_| auth.client_certificate_data.is_none());
    let key = auth.client_key.as_ref().filter(|_| auth.client_key_data.is_none());
    certificate.into_iter().chain(key).map(PathBuf::from).collect()
}

fn identity(files: &[PathBuf]) -> Result<Vec<u8>, CredentialsError> {
    let contents = files.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    Ok(contents.concat())
}

/// The certificates in a PEM file.
fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, CredentialsError> {
    let pem = read(path)?;
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(&pem).flatten().map(|c| c.to_vec()).collect();
    if found.is_empty() {
        return Err(CredentialsError::NoCertificate { path: path.to_owned() });
    }
    Ok(found)
}
