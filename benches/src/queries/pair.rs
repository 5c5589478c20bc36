//! Both servers, asked in turns.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use super::victoria;
use crate::connection::Connection;
use crate::peer::{start_server, wait_ready};
use crate::process::Server;

/// What both are told: nothing is deleted, and no query is refused for its size or time.
const SERVER_FLAGS: [&str; 3] = [
    "--storage.tsdb.retention.time=3650d",
    "--query.max-samples=1000000000",
    "--query.timeout=20m",
];
/// A turn is at least this long, so that ticks of 10 ms of CPU time are small in it.
const TURN: Duration = Duration::from_millis(200);
/// And has no more runs than this.
const TURN_RUNS_MAX: f64 = 50.0;

/// Something of ours and the same of the peer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Both<T> {
    pub(crate) ours: T,
    pub(crate) peer: T,
}

/// The bodies of answers of both.
pub(crate) type Answers = Vec<Both<Vec<u8>>>;

/// What one run costs.
pub(crate) type Cost = Both<RunCost>;

/// Means of all runs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RunCost {
    pub(crate) cpu_ms: f64,
    /// The median.
    pub(crate) wall_ms: f64,
    pub(crate) runs: u32,
}

impl Cost {
    /// What it costs beyond `idle`.
    pub(crate) fn less(&self, idle: &Self) -> Self {
        let less = |a: &RunCost, b: &RunCost| RunCost {
            cpu_ms: a.cpu_ms - b.cpu_ms,
            wall_ms: a.wall_ms - b.wall_ms,
            runs: a.runs,
        };
        Self { ours: less(&self.ours, &idle.ours), peer: less(&self.peer, &idle.peer) }
    }
}

/// Resident memory while the first answers were made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    before_bytes: u64,
    pub(crate) peak_bytes: u64,
}

impl Memory {
    pub(crate) const fn growth_bytes(&self) -> u64 {
        self.peak_bytes.saturating_sub(self.before_bytes)
    }
}

/// The other server.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    /// This program, on the same data as ours.
    Prometheus(String),
    /// This program, on this folder.
    Victoria(String, PathBuf),
}

#[derive(Debug)]
struct Side {
    server: Server,
    /// What it was given for itself.
    folder: Option<TempDir>,
    /// Times that blocks were merged until it was ready; `None` if it does not tell.
    compactions: Option<f64>,
}

/// Two running servers.
#[derive(Debug)]
pub(crate) struct Pair {
    ours: Side,
    peer: Side,
}

impl Pair {
    /// Starts both, each on a folder of its own.
    pub(crate) fn start(
        ours: &str,
        peer: &Peer,
        folder: impl Fn() -> anyhow::Result<TempDir>,
    ) -> anyhow::Result<Self> {
        let start = |command: &[&str]| {
            let command: Vec<String> =
                command.iter().chain(&SERVER_FLAGS).map(|&word| String::from(word)).collect();
            Side::start(&command, folder()?)
        };
        let ours = start(&[ours, "server"]).context("ours")?;
        let peer = match peer {
            Peer::Prometheus(program) => start(&[program]),
            Peer::Victoria(program, folder) => victoria::start(program, folder)
                .map(|server| Side { server, folder: None, compactions: None }),
        };
        Ok(Self { ours, peer: peer.context("peer")? })
    }

    /// The first answers, and the memory that they take.
    pub(crate) fn first(&self, paths: &[String]) -> anyhow::Result<(Answers, Both<Memory>)> {
        let (ours, of_ours) = self.ours.first(paths).context("ours")?;
        let (peer, of_peer) = self.peer.first(paths).context("peer")?;
        let answers = ours.into_iter().zip(peer).map(|(ours, peer)| Both { ours, peer }).collect();
        Ok((answers, Both { ours: of_ours, peer: of_peer }))
    }

    /// What it costs to ask for all paths, one after the other: each side in turns, so that what disturbs the machine disturbs both. CPU time
    /// is that of the server from the first run to the end of the last turn of both, as collecting garbage goes on after an answer.
    pub(crate) fn measure(
        &self,
        paths: &[String],
        turns: u32,
        limit: Duration,
    ) -> anyhow::Result<Cost> {
        let Self { ours, peer } = self;
        let started = Instant::now();
        let before = (ours.cpu_seconds()?, peer.cpu_seconds()?);
        let mut walls = Both::<Vec<f64>>::default();
        for turn in 0..turns.max(1) {
            if turn > 0 && started.elapsed() > limit {
                break;
            }
            ours.turn(paths, &mut walls.ours).context("ours")?;
            peer.turn(paths, &mut walls.peer).context("peer")?;
        }
        let cost = |side: &Side, before: f64, mut walls: Vec<f64>| -> anyhow::Result<RunCost> {
            walls.sort_by(f64::total_cmp);
            let runs = u32::try_from(walls.len())?;
            let cpu_ms = (side.cpu_seconds()? - before) * 1e3 / f64::from(runs);
            Ok(RunCost { cpu_ms, wall_ms: walls[walls.len() / 2], runs })
        };
        let (ours, peer) = (cost(ours, before.0, walls.ours)?, cost(peer, before.1, walls.peer)?);
        Ok(Both { ours, peer })
    }

    /// Ends both.
    ///
    /// # Errors
    /// When either has merged blocks meanwhile, which was measured with the queries then.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        for (name, side) in [("ours", self.ours), ("the peer", self.peer)] {
            if let Some(before) = side.compactions {
                ensure!(side.compactions()? == before, "{name} has merged blocks meanwhile");
                side.server.kill()?;
            } else {
                // What it keeps for the next query is not to need repair.
                side.server.stop()?;
            }
            side.folder.map_or(Ok(()), TempDir::close)?;
        }
        Ok(())
    }
}

impl Side {
    fn start(command: &[String], folder: TempDir) -> anyhow::Result<Self> {
        let mut server = start_server(command, folder.path())?;
        wait_ready(&mut server)?;
        let mut side = Self { server, folder: Some(folder), compactions: None };
        side.compactions = Some(side.compactions()?);
        Ok(side)
    }

    fn compactions(&self) -> anyhow::Result<f64> {
        self.server.metric("prometheus_tsdb_compactions_total")
    }

    fn cpu_seconds(&self) -> anyhow::Result<f64> {
        Ok(self.server.usage()?.cpu_seconds)
    }

    fn first(&self, paths: &[String]) -> anyhow::Result<(Vec<Vec<u8>>, Memory)> {
        let mut connection = Connection::open(self.server.port())?;
        self.server.reset_peak().context("cannot reset the peak")?;
        let before_bytes = self.server.usage()?.resident_bytes;
        let answers: Vec<Vec<u8>> =
            paths.iter().map(|path| ask(&mut connection, path)).collect::<anyhow::Result<_>>()?;
        let peak_bytes = self.server.usage()?.resident_bytes_peak;
        Ok((answers, Memory { before_bytes, peak_bytes }))
    }

    fn turn(&self, paths: &[String], walls: &mut Vec<f64>) -> anyhow::Result<()> {
        // The one of the turn before may have been idle for longer than a server bears.
        let mut connection = Connection::open(self.server.port())?;
        let started = Instant::now();
        let mut runs = 0.0;
        while runs == 0.0 || started.elapsed() < TURN && runs < TURN_RUNS_MAX {
            let run = Instant::now();
            for path in paths {
                ask(&mut connection, path)?;
            }
            walls.push(run.elapsed().as_secs_f64() * 1e3);
            runs += 1.0;
        }
        Ok(())
    }
}

fn ask(connection: &mut Connection, path: &str) -> anyhow::Result<Vec<u8>> {
    let (status, body) = connection.get(path)?;
    let text = || String::from_utf8_lossy(&body[..body.len().min(500)]).into_owned();
    ensure!(status == 200, "{path} answered {status}: {}", text());
    Ok(body)
}
