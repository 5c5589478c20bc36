//! Our metrics server as a process in a cluster of the harness.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitStatus;

use rustix::process::Signal;

use super::cluster::{Cluster, METRICS_SERVER_TOKEN};
use super::daemon::{Daemon, LIMIT, unless_given};
use super::https::HttpsRequest;
use super::kubeconfig::Credentials;
use crate::harness::{free_port, wait_for};

/// A running `sextant metrics-server`. Killed when dropped.
#[derive(Debug)]
pub struct MetricsServer {
    daemon: Daemon,
    address: SocketAddr,
}

/// What it is told unless a test says otherwise.
const FLAGS: [&str; 6] = [
    "--bind-address=127.0.0.1",
    "--metric-resolution=10s",
    "--kubelet-request-timeout=5s",
    "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
    "--kubelet-use-node-status-port",
    "--kubelet-allow-loopback",
];

impl MetricsServer {
    /// Starts it as the manifests do, with a resolution of 10 s and more arguments, which may be others for the same
    /// flags, and waits until it listens. Its files are in `folder`.
    ///
    /// # Panics
    /// If it does not listen.
    #[must_use]
    pub fn start(cluster: &Cluster, folder: &Path, arguments: &[&str]) -> Self {
        let token = Credentials::Token(String::from(METRICS_SERVER_TOKEN));
        let kubeconfig = cluster.api.kubeconfig(folder, "metrics-server", &token);
        let kubelet_ca = folder.join("kubelet-ca.crt");
        std::fs::write(&kubelet_ca, cluster.api.pki().kubelet.pem()).expect("the test's own");
        let port = free_port();
        let mut all = vec![
            String::from("metrics-server"),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--secure-port={port}"),
            format!("--cert-dir={}", folder.join("certificates").display()),
            format!("--kubelet-certificate-authority={}", kubelet_ca.display()),
        ];
        all.extend(unless_given(&FLAGS, arguments));
        all.extend(arguments.iter().copied().map(String::from));
        let mut daemon = Daemon::start(folder, "metrics-server", &all);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        wait_for("an answer", LIMIT, || {
            daemon.check_alive();
            HttpsRequest::default().get(address, "/livez")
        });
        Self { daemon, address }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All that it wrote to stdout and stderr.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// Asks it to stop and waits for its end.
    ///
    /// # Panics
    /// If it does not end.
    #[must_use]
    pub fn terminate(mut self) -> ExitStatus {
        self.terminate_in_place()
    }

    /// As [`terminate`](Self::terminate); what it wrote stays known.
    ///
    /// # Panics
    /// If it does not end.
    pub fn terminate_in_place(&mut self) -> ExitStatus {
        self.daemon.signal(Signal::TERM);
        self.daemon.wait()
    }
}
