//! Files by which clients know a cluster and who they are.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::pki::Identity;

/// What a client shows.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// A client certificate.
    Certificate(Box<Identity>),
    /// A bearer token.
    Token(String),
    /// Nothing.
    Anonymous,
}

/// Writes `NAME.kubeconfig` and the files that it names into `folder`.
///
/// # Panics
/// If the folder cannot be written to.
#[must_use]
pub fn write_kubeconfig(
    folder: &Path,
    name: &str,
    url: &str,
    ca_pem: &str,
    credentials: &Credentials,
) -> PathBuf {
    let write = |file: String, text: &str| {
        let path = folder.join(file);
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    };
    let ca = write(format!("{name}.ca.crt"), ca_pem);
    let user = match credentials {
        Credentials::Certificate(identity) => json!({
            "client-certificate": write(format!("{name}.crt"), &identity.certificate_pem),
            "client-key": write(format!("{name}.key"), &identity.key_pem),
        }),
        Credentials::Token(token) => json!({ "token": token }),
        Credentials::Anonymous => json!({}),
    };
    // JSON is YAML.
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "harness",
            "cluster": { "server": url, "certificate-authority": ca },
        }],
        "users": [{ "name": name, "user": user }],
        "contexts": [{
            "name": name,
            "context": { "cluster": "harness", "user": name, "namespace": "default" },
        }],
        "current-context": name,
    });
    write(format!("{name}.kubeconfig"), &format!("{config:#}\n"))
}
