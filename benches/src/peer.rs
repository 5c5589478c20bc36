//! Debian's Prometheus: as a server that is filled by remote write, and `promtool tsdb bench write`.

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;

use crate::fleet::Fleet;
use crate::process::{Server, cpu_seconds_of};
use crate::remote_write::{Client, encode_labels};

/// Which programs the peer is.
#[derive(Clone, Debug, Args)]
pub(crate) struct PeerFlags {
    /// The peer
    #[arg(long, env = "PROMETHEUS", default_value = "prometheus")]
    pub(crate) prometheus: String,
    /// Its tool
    #[arg(long, env = "PROMTOOL", default_value = "promtool")]
    pub(crate) promtool: String,
}

/// How long a server may take to replay its log.
const READY_LIMIT: Duration = Duration::from_secs(600);

impl PeerFlags {
    /// Starts it on `folder/data`, scraping nothing, with a receiver of remote writes.
    pub(crate) fn start(&self, folder: &Path) -> anyhow::Result<Server> {
        let command = [self.prometheus.clone(), String::from("--web.enable-remote-write-receiver")];
        start_server(&command, folder)
    }

    /// Has `promtool tsdb bench write` write `scrapes` samples of each series of the fleet below `folder`; its CPU seconds and the data directory.
    pub(crate) fn bench_write(
        &self,
        folder: &Path,
        fleet: &Fleet,
        scrapes: u64,
    ) -> anyhow::Result<(f64, PathBuf)> {
        // It appends a hundred at a time.
        anyhow::ensure!(scrapes.is_multiple_of(100), "promtool would write more than {scrapes}");
        let list = folder.join(format!("series-{}.json", fleet.series_count()));
        if !list.exists() {
            write_series_list(&list, fleet)?;
        }
        let out = folder.join("benchout");
        let mut command = Command::new(&self.promtool);
        command
            .args(["tsdb", "bench", "write"])
            .arg(format!("--out={}", out.display()))
            .arg(format!("--metrics={}", fleet.series_count()))
            .arg(format!("--scrapes={scrapes}"))
            .arg(&list);
        Ok((cpu_seconds_of(&mut command)?, out.join("storage")))
    }
}

/// Starts a server that scrapes nothing; it may still be replaying.
pub(crate) fn start_server(command: &[String], folder: &Path) -> anyhow::Result<Server> {
    std::fs::write(folder.join("prometheus.yml"), "scrape_configs: []\n")?;
    Server::start(command, folder)
}

/// Waits for a server on data that may take long to replay.
pub(crate) fn wait_ready(server: &mut Server) -> anyhow::Result<()> {
    server.wait_ready(READY_LIMIT)
}

/// One `{"name":"value"}` a line, as `promtool tsdb bench write` reads it.
fn write_series_list(path: &Path, fleet: &Fleet) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
    for target in 0..fleet.targets {
        for series in 0..fleet.series {
            let pairs = fleet.pairs(target, series);
            let pairs: Vec<String> =
                pairs.iter().map(|(n, v)| format!("\"{n}\":\"{v}\"")).collect();
            writeln!(out, "{{{}}}", pairs.join(","))?;
        }
    }
    Ok(out.flush()?)
}

/// Sends the fleet to a receiver over two connections.
#[derive(Debug)]
pub(crate) struct Sender {
    fleet: Fleet,
    clients: Vec<Client>,
    /// The labels of each target's series one after the other, and where each ends.
    labels: Vec<(Vec<u8>, Vec<usize>)>,
}

impl Sender {
    pub(crate) fn connect(port: u16, fleet: Fleet) -> anyhow::Result<Self> {
        let encode = |target| {
            let (mut bytes, mut ends) = (Vec::new(), Vec::new());
            for series in 0..fleet.series {
                let pairs = fleet.pairs(target, series);
                encode_labels(pairs.iter().map(|(n, v)| (*n, v.as_str())), &mut bytes);
                ends.push(bytes.len());
            }
            (bytes, ends)
        };
        let clients = (0..2).map(|_| Client::connect(port)).collect::<anyhow::Result<_>>()?;
        Ok(Self { fleet, clients, labels: (0..fleet.targets).map(encode).collect() })
    }

    /// Sends the samples of these ticks, a request for each target: the peer takes apart 300 bytes of labels for each series of a request,
    /// which costs it far more than a sample.
    pub(crate) fn ticks(&mut self, ticks: Range<u64>) -> anyhow::Result<()> {
        let Self { fleet, clients, labels } = self;
        let per_client = labels.len().div_ceil(clients.len()).max(1);
        let send = |client: &mut Client, first: usize, labels: &[(Vec<u8>, Vec<usize>)]| {
            for (target, (bytes, ends)) in (first..).zip(labels) {
                let mut start = 0;
                for (series, &end) in ends.iter().enumerate() {
                    let value = |tick| (fleet.time(tick), fleet.value(target, series, tick));
                    client.push(&bytes[start..end], ticks.clone().map(value));
                    start = end;
                }
                client.send()?;
            }
            anyhow::Ok(())
        };
        std::thread::scope(|scope| {
            let send = &send;
            let running: Vec<_> = (0..)
                .step_by(per_client)
                .zip(clients.iter_mut().zip(labels.chunks(per_client)))
                .map(|(first, (client, labels))| scope.spawn(move || send(client, first, labels)))
                .collect();
            running.into_iter().try_for_each(|thread| {
                thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a sender panicked")))
            })
        })
    }

    /// Sends one sample of one series.
    pub(crate) fn single(&mut self, t: i64) -> anyhow::Result<()> {
        let (bytes, ends) = &self.labels[0];
        let client = &mut self.clients[0];
        client.push(&bytes[..ends[0]], std::iter::once((t, 1.0)));
        client.send()
    }
}

/// The answer to an instant query that has one number.
pub(crate) fn instant(server: &Server, query: &str, t_ms: i64) -> anyhow::Result<Option<f64>> {
    let path = instant_path(query, t_ms);
    let (status, body) = server.get(&path)?;
    anyhow::ensure!(status == 200, "{query} answered {status}: {body}");
    let answer: serde_json::Value = serde_json::from_str(&body)?;
    let value = answer.pointer("/data/result/0/value/1").and_then(serde_json::Value::as_str);
    value.map(|value| value.parse().context("value")).transpose()
}

/// The path of an instant query.
pub(crate) fn instant_path(query: &str, t_ms: i64) -> String {
    format!("/api/v1/query?query={}&time={}.{:03}", encode(query), t_ms / 1000, t_ms % 1000)
}

/// A value of a parameter as it is in a path.
pub(crate) fn encode(value: &str) -> String {
    let mut encoded = String::new();
    for byte in value.bytes() {
        use std::fmt::Write;
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Asks until the answer is `expected`.
pub(crate) fn wait_for(
    server: &Server,
    query: &str,
    t_ms: i64,
    expected: f64,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_LIMIT;
    loop {
        let answer = instant(server, query, t_ms)?;
        if answer == Some(expected) {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "{query} is {answer:?}, not {expected}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
