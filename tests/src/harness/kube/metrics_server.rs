//! Our metrics server as a process in a cluster of the harness.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::cluster::{Cluster, METRICS_SERVER_TOKEN};
use super::https::HttpsRequest;
use super::kubeconfig::Credentials;
use crate::harness::{binary, free_port, wait_for};

/// How long a start or stop may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A running `sextant metrics-server`. Killed when dropped.
#[derive(Debug)]
pub struct MetricsServer {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl MetricsServer {
    /// Starts it as the manifests do, with a resolution of 10 s and more arguments, and waits until it listens. Its
    /// files are in `folder`.
    ///
    /// # Panics
    /// If it does not listen.
    #[must_use]
    pub fn start(cluster: &Cluster, folder: &Path, arguments: &[&str]) -> Self {
        let token = Credentials::Token(String::from(METRICS_SERVER_TOKEN));
        let kubeconfig = cluster.api.kubeconfig(folder, "metrics-server", &token);
        let kubelet_ca = folder.join("kubelet-ca.crt");
        std::fs::write(&kubelet_ca, cluster.api.pki().kubelet.pem()).expect("the test's own");
        let certificates = folder.join("certificates");
        let port = free_port();
        let log = folder.join("metrics-server.log");
        let file = File::create(&log).expect("the test's own");
        let child = Command::new(binary())
            .arg("metrics-server")
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .arg(format!("--secure-port={port}"))
            .arg("--bind-address=127.0.0.1")
            .arg(format!("--cert-dir={}", certificates.display()))
            .arg("--metric-resolution=10s")
            .arg("--kubelet-request-timeout=5s")
            .arg("--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname")
            .arg("--kubelet-use-node-status-port")
            .arg(format!("--kubelet-certificate-authority={}", kubelet_ca.display()))
            .arg("--kubelet-allow-loopback")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("an open file"))
            .stderr(file)
            .spawn()
            .expect("the binary was just built");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut server = Self { child, address, log };
        wait_for("an answer", LIMIT, || server.check_alive());
        server
    }

    fn check_alive(&mut self) -> Result<(), String> {
        if let Ok(Some(status)) = self.child.try_wait() {
            panic!("the metrics server ended with {status}:\n{}", self.log());
        }
        HttpsRequest::default().get(self.address, "/livez").map(drop)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All that it wrote to stdout and stderr.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Asks it to stop and waits for its end.
    ///
    /// # Panics
    /// If it does not end.
    #[must_use]
    pub fn terminate(mut self) -> ExitStatus {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.expect("process ids are positive"), Signal::TERM).expect("it is our child");
        wait_for("the end", LIMIT, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}\n{}", self.log())),
        })
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
