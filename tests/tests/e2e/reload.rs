//! SIGHUP reads the configuration again, whole or not at all.

use std::time::Duration;

use rustix::process::Signal;
use tests::harness::{Sextant, wait_for};

const LIMIT: Duration = Duration::from_secs(60);

fn yaml(jobs: &[&str], port: u16) -> String {
    let mut yaml = String::from("global: {scrape_interval: 1s}\nscrape_configs:\n");
    for job in jobs {
        yaml += &format!(
            "- job_name: {job}\n  static_configs: [{{targets: ['127.0.0.1:{port}'], labels: {{team: {job}}}}}]\n"
        );
    }
    yaml
}

fn jobs(server: &Sextant) -> Vec<String> {
    let targets = server.get("/api/v1/targets?state=active").json();
    let targets = targets["data"]["activeTargets"].as_array().unwrap().clone();
    targets.iter().map(|t| t["labels"]["job"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_hangup_adds_targets_and_a_broken_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = Sextant::server(folder.path(), "scrape_configs: []\n");
    assert!(jobs(&server).is_empty());
    let config = folder.path().join("prometheus.yml");

    std::fs::write(&config, yaml(&["one"], server.port)).unwrap();
    server.signal(Signal::HUP);
    wait_for("the first job", LIMIT, || match jobs(&server) {
        jobs if jobs == ["one"] => Ok(()),
        jobs => Err(format!("{jobs:?}")),
    });
    wait_for("a sample", LIMIT, || match server.query(r#"up{job="one",team="one"} == 1"#, None) {
        result if result.len() == 1 => Ok(()),
        result => Err(format!("{result:?}")),
    });

    std::fs::write(&config, "scrape_configs: [{job_name: ''}]\n").unwrap();
    server.signal(Signal::HUP);
    wait_for("the failure", LIMIT, || {
        let info = server.get("/api/v1/status/runtimeinfo").json();
        if info["data"]["reloadConfigSuccess"] == false { Ok(()) } else { Err(info.to_string()) }
    });
    assert_eq!(jobs(&server), ["one"]);

    std::fs::write(&config, yaml(&["one", "two"], server.port)).unwrap();
    server.signal(Signal::HUP);
    wait_for("the second job", LIMIT, || match jobs(&server) {
        jobs if jobs == ["one", "two"] => Ok(()),
        jobs => Err(format!("{jobs:?}")),
    });
    let config = server.get("/api/v1/status/config").json();
    let yaml = config["data"]["yaml"].as_str().unwrap();
    assert!(yaml.contains("job_name: two"), "{yaml}");
    assert!(server.terminate().success());
}
