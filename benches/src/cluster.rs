//! The cluster that servers are measured in: the tests' `fake_cluster`, a process of its own, so that its CPU is not theirs.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, ensure};
use http::{Client, ClientOptions, TlsOptions};

/// The cluster's process; it ends with this.
#[derive(Debug)]
pub(crate) struct Cluster {
    child: Child,
    stdin: ChildStdin,
    /// Kept open: the program ends when it cannot write.
    stdout: BufReader<ChildStdout>,
    folder: PathBuf,
}

impl Cluster {
    /// Starts `program` with `arguments`, on any ports, with its files in `folder/cluster`.
    pub(crate) fn start(
        program: &str,
        folder: &Path,
        arguments: &[String],
    ) -> anyhow::Result<Self> {
        let folder = folder.join("cluster");
        let mut child = Command::new(program)
            .args(["--port=0", "--kubelet-port=0"])
            .arg(format!("--folder={}", folder.display()))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let stdin = child.stdin.take().context("a pipe")?;
        let stdout = BufReader::new(child.stdout.take().context("a pipe")?);
        let mut cluster = Self { child, stdin, stdout, folder };
        while !cluster.line()?.contains("kubeconfig of the service") {}
        Ok(cluster)
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        ensure!(self.stdout.read_line(&mut line)? > 0, "the cluster has ended");
        Ok(line)
    }

    /// Tells it something and returns what it answers.
    pub(crate) fn ask(&mut self, command: &str) -> anyhow::Result<String> {
        writeln!(self.stdin, "{command}")?;
        let answer = self.line().with_context(|| format!("{command:?}"))?;
        Ok(String::from(answer.trim_end()))
    }

    /// The path of one of its files.
    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// What upstream's manifests give a metrics server, and how to trust this cluster.
    pub(crate) fn metrics_server_flags(&self, resolution: u64) -> Vec<String> {
        let kubeconfig = self.file("metrics-server.kubeconfig");
        vec![
            format!("--kubeconfig={kubeconfig}"),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            format!("--kubelet-certificate-authority={}", self.file("kubelet-ca.crt")),
            String::from("--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname"),
            String::from("--kubelet-use-node-status-port"),
            format!("--metric-resolution={resolution}s"),
        ]
    }

    /// A client that is the cluster's admin.
    pub(crate) fn admin(&self) -> anyhow::Result<Client> {
        let read = |name: &str| {
            let path = self.folder.join(name);
            std::fs::read(&path).with_context(|| path.display().to_string())
        };
        let tls = TlsOptions {
            identity_pem: Some((read("admin.crt")?, read("admin.key")?)),
            insecure_skip_verify: true,
            ..TlsOptions::default()
        };
        Ok(Client::new(ClientOptions { tls: Some(tls), ..ClientOptions::default() })?)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
