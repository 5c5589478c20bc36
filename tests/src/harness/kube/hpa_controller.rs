//! Our autoscaler as a process in a cluster of the harness.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitStatus;

use rustix::process::Signal;
use serde_json::Value;

use super::access::User;
use super::cluster::{Cluster, HPA_CONTROLLER_TOKEN};
use super::daemon::{Daemon, LIMIT, unless_given};
use super::kubeconfig::Credentials;
use crate::harness::{Answer, free_port, get, wait_for};

/// A running `sextant hpa-controller`. Killed when dropped.
#[derive(Debug)]
pub struct HpaController {
    daemon: Daemon,
    address: SocketAddr,
}

/// What it is told unless a test says otherwise: it acts, every second, and need not ask others.
const FLAGS: [&str; 6] = [
    "--hpa.mode=active",
    "--leader-elect=false",
    "--leader-elect-resource-namespace=sextant",
    "--horizontal-pod-autoscaler-sync-period=1s",
    "--horizontal-pod-autoscaler-downscale-stabilization=3s",
    "--horizontal-pod-autoscaler-cpu-initialization-period=10s",
];

impl HpaController {
    /// Starts it with more arguments, which may be others for the same flags, and waits until it listens. Its files in
    /// `folder` begin with `name`, which is also the uid of the user that the API server sees.
    ///
    /// # Panics
    /// If it does not listen.
    #[must_use]
    pub fn start(cluster: &Cluster, folder: &Path, name: &str, arguments: &[&str]) -> Self {
        // Requests of each instance can be told apart by the uid of its user.
        let access = cluster.api.access();
        let token = format!("{HPA_CONTROLLER_TOKEN}-{name}");
        let user = access.user_of_token(HPA_CONTROLLER_TOKEN).expect("the cluster has made it");
        access.put_token(&token, User { uid: String::from(name), ..user });
        let token = Credentials::Token(token);
        let kubeconfig = cluster.api.kubeconfig(folder, name, &token);
        let port = free_port();
        let mut all = vec![
            String::from("hpa-controller"),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        all.extend(unless_given(&FLAGS, arguments));
        all.extend(arguments.iter().copied().map(String::from));
        let mut daemon = Daemon::start(folder, name, &all);
        wait_for("an answer", LIMIT, || {
            daemon.check_alive();
            get(port, "/livez").map(drop).map_err(|error| format!("{error}\n{}", daemon.log()))
        });
        Self { daemon, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) }
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

    /// Gets `path` from its HTTP API.
    ///
    /// # Errors
    /// What the system said.
    pub fn get(&self, path: &str) -> Result<Answer, String> {
        get(self.address.port(), path)
    }

    /// The decisions about an autoscaler that it remembers, newest last.
    ///
    /// # Errors
    /// What the system said, or the answer if it is a refusal.
    pub fn decisions(&self, namespace: &str, name: &str) -> Result<Value, String> {
        let answer = self.get(&format!("/api/v1/hpa/{namespace}/{name}"))?;
        if answer.status == 200 { Ok(answer.json()) } else { Err(answer.body) }
    }

    /// Stops it in the middle of whatever it does, to go on at [`resume`](Self::resume).
    pub fn pause(&self) {
        self.daemon.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.daemon.signal(Signal::CONT);
    }

    /// Ends it in the middle of whatever it does.
    pub fn kill(self) {
        self.daemon.signal(Signal::KILL);
    }

    /// Waits for its end, which must come by itself.
    ///
    /// # Panics
    /// If it does not end.
    pub fn wait(&mut self) -> ExitStatus {
        self.daemon.wait()
    }

    /// Asks it to stop and waits for its end.
    ///
    /// # Panics
    /// If it does not end.
    #[must_use]
    pub fn terminate(mut self) -> ExitStatus {
        self.daemon.signal(Signal::TERM);
        self.daemon.wait()
    }
}
