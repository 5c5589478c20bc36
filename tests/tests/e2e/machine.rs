//! `sextant` alone on this machine: what it shows is what `/proc` says, and it is still there after a kill.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tests::harness::{Sextant, wait_for};

const DATA_LIMIT: Duration = Duration::from_secs(90);

/// The only value of a query, if there is one.
fn value(server: &Sextant, query: &str) -> Result<f64, String> {
    let result = server.query(query, None);
    let [series] = result.as_slice() else { return Err(format!("{query}: {result:?}")) };
    series["value"][1].as_str().and_then(|v| v.parse().ok()).ok_or_else(|| format!("{series}"))
}

fn proc(file: &str) -> String {
    std::fs::read_to_string(format!("/proc/{file}")).unwrap()
}

/// Seconds that all CPUs spent idle since boot.
fn idle_seconds() -> f64 {
    let stat = proc("stat");
    let line = stat.lines().next().unwrap();
    line.split_ascii_whitespace().nth(4).unwrap().parse::<f64>().unwrap() / 100.0
}

/// Every sample of the last ten minutes before `time`, by series.
fn samples(server: &Sextant, time: &str) -> BTreeMap<String, Vec<Value>> {
    let result = server.query(r#"{__name__=~".+"}[10m]"#, Some(time));
    let series = result.into_iter().map(|series| {
        let values = series["values"].as_array().unwrap().clone();
        (series["metric"].to_string(), values)
    });
    series.collect()
}

#[test]
fn a_real_machine_is_shown_and_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let idle_before = idle_seconds();
    let server = Sextant::all_in_one(folder.path());

    // What does not change must be exactly what /proc says.
    let memory = proc("meminfo");
    let memory_kb: f64 =
        memory.lines().next().unwrap().split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
    let shown = wait_for("memory", DATA_LIMIT, || value(&server, "node_memory_MemTotal_bytes"));
    assert_eq!(shown, memory_kb * 1024.0);
    let stat = proc("stat");
    let boot: f64 = stat.lines().find_map(|l| l.strip_prefix("btime ")).unwrap().parse().unwrap();
    let shown = value(&server, "node_boot_time_seconds").unwrap();
    assert_eq!(shown, boot);
    let cpus = stat.lines().filter(|l| l.starts_with("cpu") && !l.starts_with("cpu ")).count();
    let shown = value(&server, "count(node_cpu_seconds_total)").unwrap();
    assert_eq!(shown, cpus as f64 * 8.0);

    // What does change must lie between two readings of our own.
    let idle = r#"sum(node_cpu_seconds_total{mode="idle"})"#;
    let shown = value(&server, idle).unwrap();
    assert!((idle_before - 1.0..=idle_seconds() + 1.0).contains(&shown), "idle for {shown} s");
    let cgroups = r#"count(container_cpu_usage_seconds_total{job="cadvisor"})"#;
    wait_for("cgroups", DATA_LIMIT, || value(&server, cgroups));

    // The question of the README.
    let rates = wait_for("rates", DATA_LIMIT, || {
        let rates = server.query("sum by (mode) (rate(node_cpu_seconds_total[15s]))", None);
        if rates.len() == 8 { Ok(rates) } else { Err(format!("{rates:?}")) }
    });
    let total: f64 =
        rates.iter().map(|r| r["value"][1].as_str().unwrap().parse::<f64>().unwrap()).sum();
    assert!(total > 0.0 && total < cpus as f64 * 1.5, "{total} CPU seconds a second");
    let up = server.query("up", None);
    assert_eq!(up.len(), 3, "{up:?}");
    for target in &up {
        assert_eq!(target["value"][1], "1", "{target}");
    }

    // Everything that a query has shown is there after a kill, and again after a clean stop.
    let now = value(&server, "time()");
    let now = now.or_else(|_| {
        let scalar = server.get("/api/v1/query?query=time()").json();
        scalar["data"]["result"][1].as_str().and_then(|v| v.parse().ok()).ok_or(String::new())
    });
    let now = format!("{}", now.unwrap());
    let before = samples(&server, &now);
    assert!(before.len() > 300, "only {} series", before.len());
    server.kill();
    let server = Sextant::all_in_one(folder.path());
    compare(&before, &samples(&server, &now), "after a kill");
    let ended = server.terminate();
    assert!(ended.success(), "SIGTERM ended it with {ended}");
    let server = Sextant::all_in_one(folder.path());
    compare(&before, &samples(&server, &now), "after a clean stop");
}

/// Every sample of `before` is in `after`, which may have more.
fn compare(
    before: &BTreeMap<String, Vec<Value>>,
    after: &BTreeMap<String, Vec<Value>>,
    when: &str,
) {
    for (series, samples) in before {
        let kept = after.get(series).unwrap_or_else(|| panic!("{series} is gone {when}"));
        assert_eq!(kept, samples, "{series} {when}");
    }
}
