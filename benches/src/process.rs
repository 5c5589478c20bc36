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
    /// Starts `command` (program and leading arguments) on a free port, with configuration, `data` and log in `folder`.
    pub(crate) fn start(command: &[String], folder: &Path) -> anyhow::Result<Self> {
        Self::start_with(folder, |port| {
            let flags = [
                format!("--config.file={}", folder.join("prometheus.yml").display()),
                format!("--storage.tsdb.path={}", folder.join("data").display()),
                format!("--web.listen-address=127.0.0.1:{port}"),
            ];
            command.iter().cloned().chain(flags).collect()
        })
    }

    /// Starts the command for a free port, with its log in `folder`.
    pub(crate) fn start_with(
        folder: &Path,
        command: impl Fn(u16) -> Vec<String>,
    ) -> anyhow::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let command = command(port);
        let (program, arguments) = command.split_first().context("an empty command")?;
        let log = fs::File::create(folder.join("log"))?;
        let child = Command::new(program)
            .args(arguments)
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
        usage_of(&self.child.id().to_string())
    }

    /// The largest resident memory counts from now on.
    pub(crate) fn reset_peak(&self) -> anyhow::Result<()> {
        Ok(fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")?)
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Ends the server as a crash would.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until the server does nothing: three seconds in a row with less than 3 % of a CPU. Garbage collection of an idle heap comes later.
    pub(crate) fn wait_quiet(&self, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        let mut before = self.usage()?.cpu_seconds;
        let mut quiet = 0;
        while quiet < 3 {
            anyhow::ensure!(Instant::now() < deadline, "the server is busy all the time");
            std::thread::sleep(Duration::from_secs(1));
            let now = self.usage()?.cpu_seconds;
            quiet = if now - before < 0.03 { quiet + 1 } else { 0 };
            before = now;
        }
        Ok(())
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

    /// Asks for `path`, which is encoded already.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(300)))?;
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

/// What `/proc` says of a process: its number, or `self`.
pub(crate) fn usage_of(process: &str) -> anyhow::Result<Usage> {
    let folder = format!("/proc/{process}");
    let fields = stat_fields(&folder)?;
    let status = fs::read_to_string(format!("{folder}/status"))?;
    let kilobytes = |key: &str| -> anyhow::Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).context("status")?;
        Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? << 10)
    };
    Ok(Usage {
        cpu_seconds: (fields[11] + fields[12]) / TICKS_PER_SECOND,
        resident_bytes: kilobytes("VmRSS:")?,
        resident_bytes_peak: kilobytes("VmHWM:")?,
    })
}

/// Runs a program to its end; the CPU seconds that it took, in all its threads.
pub(crate) fn cpu_seconds_of(command: &mut Command) -> anyhow::Result<f64> {
    let of_children = || -> anyhow::Result<f64> {
        let fields = stat_fields("/proc/self")?;
        Ok((fields[13] + fields[14]) / TICKS_PER_SECOND)
    };
    let before = of_children()?;
    let output = command.stdin(Stdio::null()).output().context("cannot start")?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(of_children()? - before)
}

/// The numbers of a `stat` file, from the state on, which is none.
fn stat_fields(folder: &str) -> anyhow::Result<Vec<f64>> {
    let stat = fs::read_to_string(format!("{folder}/stat"))?;
    let fields = stat.rsplit_once(')').context("stat")?.1;
    Ok(fields.split_whitespace().map(|field| field.parse().unwrap_or(f64::NAN)).collect())
}

/// The bytes of all files below a folder; 0 if there is none.
pub(crate) fn folder_bytes(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    let Ok(entries) = fs::read_dir(folder) else { return Ok(0) };
    for entry in entries {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { folder_bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

/// Copies a data directory, without its lock.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else if entry.file_name() != "lock" {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
