//! What a benchmark says on stdin while the cluster runs, a line each; every line is answered by one.
//!
//! | line | answer |
//! |---|---|
//! | `requests` | how many requests there were since the last `forget`, by verb and resource, as a JSON object |
//! | `scales` | the writes of replica counts since then: a JSON array of `at_ms`, `path`, `replicas`, `status` |
//! | `forget` | `ok` |
//! | `load NAMESPACE NAME MILLICORES` | the time at which the workload's demand changed, in milliseconds since the epoch |
//! | `replicas NAMESPACE NAME` | ready pods of a workload |

use std::collections::BTreeMap;
use std::io::{BufRead, Write};

use anyhow::{Context, Result, bail};
use model::{Clock, SystemClock};
use serde_json::{Value, json};
use tests::harness::kube::{Cluster, Load, RequestRecord, Workloads};

/// Answers until the input ends.
pub(crate) fn answer_lines(cluster: &Cluster, workloads: Option<&Workloads>) -> Result<()> {
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<_> = line.split_whitespace().collect();
        let answer = answer(cluster, workloads, &words).with_context(|| line.clone())?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

fn answer(cluster: &Cluster, workloads: Option<&Workloads>, words: &[&str]) -> Result<String> {
    let running = || workloads.context("no node, no workload");
    Ok(match words {
        ["requests"] => counts(&cluster.api.requests()).to_string(),
        ["scales"] => scales(&cluster.api.requests()).to_string(),
        ["forget"] => {
            cluster.api.clear_requests();
            String::from("ok")
        }
        ["load", namespace, name, millicores] => {
            let load = Load::constant(millicores.parse()?);
            running()?.set_load(namespace, name, load);
            SystemClock.now().to_string()
        }
        ["replicas", namespace, name] => running()?.replicas(namespace, name).ready.to_string(),
        _ => bail!("not a command"),
    })
}

fn counts(requests: &[RequestRecord]) -> Value {
    let mut counts = BTreeMap::<String, u64>::new();
    for request in requests {
        let what = format!("{} {}", request.verb, request.resource());
        *counts.entry(what).or_default() += 1;
    }
    json!(counts)
}

fn scales(requests: &[RequestRecord]) -> Value {
    let writes = requests.iter().filter_map(|request| {
        Some(json!({
            "at_ms": request.at_ms,
            "path": request.path,
            "replicas": request.written_replicas()?,
            "status": request.status,
        }))
    });
    writes.collect()
}
