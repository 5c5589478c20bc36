//! A server under measurement: started, observed through `/proc`, stopped by its own process id.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// Clock ticks per second in `/proc`.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    port: u16,
}

/// What a process used so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) cpu_seconds: f64,
    pub(crate) resident_bytes: u64,
    pub(crate) resident_bytes_peak: u64,
}

impl Server {
    /// Starts `command` (program and leading arguments) on a free port with configuration and data in `folder`.
    pub(crate) fn start(command: &[String], folder: &Path) -> anyhow::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let (program, arguments) = command.split_first().context("an empty command")?;
        let log = fs::File::create(folder.join("log"))?;
        let child = Command::new(program)
            .args(arguments)
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        Ok(Self { child, port })
    }

    /// Waits until the server answers that it is ready.
    pub(crate) fn wait_ready(&mut self, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status}");
            }
            match self.get("/-/ready") {
                Ok((200, _)) => return Ok(()),
                answer if Instant::now() > deadline => bail!("not ready in time: {answer:?}"),
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// What `/proc` says of the process.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        let folder = format!("/proc/{}", self.child.id());
        let stat = fs::read_to_string(format!("{folder}/stat"))?;
        let fields: Vec<&str> =
            stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        let status = fs::read_to_string(format!("{folder}/status"))?;
        let kilobytes = |key: &str| -> anyhow::Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).context("status")?;
            Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? << 10)
        };
        Ok(Usage {
            cpu_seconds: ticks / TICKS_PER_SECOND,
            resident_bytes: kilobytes("VmRSS:")?,
            resident_bytes_peak: kilobytes("VmHWM:")?,
        })
    }

    /// The sum of all series of one of the server's own metrics.
    pub(crate) fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let (status, text) = self.get("/metrics")?;
        anyhow::ensure!(status == 200, "/metrics answered {status}");
        let mut sum = None;
        for line in text.lines() {
            let Some(rest) = line.strip_prefix(name) else { continue };
            if rest.starts_with('{') || rest.starts_with(' ') {
                let value: f64 = rest.rsplit(' ').next().unwrap_or_default().parse()?;
                sum = Some(sum.unwrap_or(0.0) + value);
            }
        }
        sum.with_context(|| format!("the server has no metric {name}"))
    }

    fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        // HTTP/1.0, so that the body is neither chunked nor compressed and ends with the connection.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("not an HTTP answer")?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        Ok((status, String::from(body)))
    }

    /// Asks the server to stop, and ends it if it does not.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status()?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("the server did not stop on SIGTERM");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
