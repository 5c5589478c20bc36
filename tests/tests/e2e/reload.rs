//! SIGHUP reads the configuration again, whole or not at all.

use std::time::Duration;

use rustix::process::Signal;
use tests::harness::{Sextant, free_port, get, post_form, wait_for};

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

#[test]
fn requests_reload_and_stop_it_where_that_is_enabled() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("prometheus.yml");
    std::fs::write(&config, "scrape_configs: []\n").unwrap();
    let flag = format!("--config.file={}", config.display());
    let arguments = ["server", &flag, "--web.enable-lifecycle"];
    let server = Sextant::start(folder.path(), free_port(), &arguments);
    std::fs::write(&config, yaml(&["one"], server.port)).unwrap();
    let answer = post_form(server.port, "/-/reload", &[]).unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    wait_for("the job", LIMIT, || match jobs(&server) {
        jobs if jobs == ["one"] => Ok(()),
        jobs => Err(format!("{jobs:?}")),
    });
    let answer = post_form(server.port, "/-/quit", &[]).unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "Requesting termination... Goodbye!"));
    wait_for("the end", LIMIT, || match get(server.port, "/-/healthy") {
        Err(_) => Ok(()),
        Ok(answer) => Err(format!("it answers {}", answer.status)),
    });
    assert!(server.terminate().success());
}
