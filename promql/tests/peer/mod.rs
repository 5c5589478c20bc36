//! A Prometheus binary that answers queries over data that it is given.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running Prometheus; ended when dropped.
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    port: u16,
    /// Its data.
    _folder: tempfile::TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Past the test harness's capture: a run that skips should show.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// `prometheus` and `promtool`, if both are there. With `SEXTANT_REQUIRE_PEERS=1` absence fails.
pub(crate) fn find() -> Option<(PathBuf, PathBuf)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = |name: &str| {
        std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
    };
    let found = on_path("prometheus").zip(on_path("promtool"));
    let required = std::env::var("SEXTANT_REQUIRE_PEERS").as_deref() == Ok("1");
    assert!(found.is_some() || !required, "no prometheus and promtool on the path");
    found
}

/// Starts a Prometheus on samples in the OpenMetrics format.
pub(crate) fn start((prometheus, promtool): &(PathBuf, PathBuf), samples: &str) -> Peer {
    let folder = tempfile::tempdir().unwrap();
    let (text, data) = (folder.path().join("samples"), folder.path().join("data"));
    std::fs::write(&text, samples).unwrap();
    std::fs::write(folder.path().join("prometheus.yml"), "").unwrap();
    let made = Command::new(promtool)
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .args([&text, &data])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for _ in 0..5 {
        // Another process may take the port before it does.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut child = spawn(prometheus, folder.path(), port);
        if wait_until_ready(&mut child, port) {
            return Peer { child, port, _folder: folder };
        }
    }
    panic!("{} does not start", prometheus.display());
}

fn spawn(prometheus: &Path, folder: &Path, port: u16) -> Child {
    Command::new(prometheus)
        .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
        .arg("--storage.tsdb.retention.time=100y")
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Whether it answers before it exits.
fn wait_until_ready(child: &mut Child, port: u16) -> bool {
    let deadline = Instant::now() + Duration::from_secs(120);
    while child.try_wait().unwrap().is_none() {
        if get(port, "/-/ready").is_ok_and(|answer| answer.starts_with("HTTP/1.0 200")) {
            return true;
        }
        assert!(Instant::now() < deadline, "Prometheus does not get ready");
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

fn get(port: u16, target: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

impl Peer {
    /// The answer to a range query with a step of a second, times in seconds.
    pub(crate) fn range(&self, query: &str, start: i64, end: i64) -> serde_json::Value {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let target = format!("/api/v1/query_range?query={escaped}&start={start}&end={end}&step=1");
        let answer = get(self.port, &target).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let answer: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer
    }
}
