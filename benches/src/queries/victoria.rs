//! VictoriaMetrics as a second peer. It has a storage of its own, which is filled once by remote write.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use crate::population::{Plan, Unit};
use crate::process::Server;
use crate::remote_write::{Client, encode_labels};

/// Series of a request: those of some units, a day of each.
const SAMPLES_PER_REQUEST: usize = 200_000;
/// How long it may take to start, and to merge its parts once it is filled.
const LIMIT: Duration = Duration::from_secs(600);
/// Lies beside a storage that has all samples.
const COMPLETE: &str = "complete";

/// Starts it on the storage in `folder`. It answers from storage alone, as the others do, up to the newest sample and however old samples are.
pub(crate) fn start(program: &str, folder: &Path) -> anyhow::Result<Server> {
    let mut server = Server::start_with(folder, |port| {
        let flags = [
            format!("-storageDataPath={}", folder.join("storage").display()),
            format!("-httpListenAddr=127.0.0.1:{port}"),
            String::from("-retentionPeriod=100y"),
            String::from("-search.disableCache"),
            String::from("-search.latencyOffset=0s"),
            String::from("-search.maxQueryDuration=20m"),
        ];
        std::iter::once(String::from(program)).chain(flags).collect()
    })?;
    server.wait_ready(LIMIT)?;
    Ok(server)
}

/// The folder with a storage that has the samples of `units`, below `folder`; it is filled if it is not there.
///
/// # Errors
/// When the storage is there but not complete, and when the server does not take a request.
pub(crate) fn filled(
    program: &str,
    folder: &Path,
    plan: &Plan,
    units: &[Unit],
) -> anyhow::Result<PathBuf> {
    let folder = folder.join("victoria");
    let complete = folder.join(COMPLETE);
    if complete.exists() {
        return Ok(folder);
    }
    std::fs::create_dir(&folder).with_context(|| format!("{}, incomplete", folder.display()))?;
    let server = start(program, &folder)?;
    send(server.port(), plan, units)?;
    server.wait_quiet(LIMIT)?;
    server.stop()?;
    std::fs::write(complete, "")?;
    Ok(folder)
}

fn send(port: u16, plan: &Plan, units: &[Unit]) -> anyhow::Result<()> {
    let mut client = Client::connect(port)?;
    let (mut values, mut unsent) = (Vec::new(), 0);
    for unit in units {
        let mut columns = vec![Vec::new(); unit.series.len()];
        for tick in 0..plan.ticks() {
            let Some(t) = unit.scrape(plan, tick, &mut values) else { continue };
            for (column, &v) in columns.iter_mut().zip(&values) {
                column.push((t, v));
            }
        }
        for (series, samples) in unit.series.iter().zip(columns) {
            let mut labels = Vec::new();
            let pairs = series.labels.iter().map(|label| (label.name, label.value));
            encode_labels(pairs, &mut labels);
            unsent += samples.len();
            client.push(&labels, samples.into_iter());
            if unsent >= SAMPLES_PER_REQUEST {
                client.send()?;
                unsent = 0;
            }
        }
    }
    client.send()
}
